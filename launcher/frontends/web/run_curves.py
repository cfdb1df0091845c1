"""The curves of all jobs of a run, grouped by a setting: a line per group, with a band over its jobs.

Values of one step are combined over the jobs of a group that have this step. If jobs report different steps, or many,
neighbouring steps are pooled: a point then stands for `pooled` steps, and each job counts once in it with its mean.
"""

import contextlib
from array import array
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby, pairwise
from typing import Any, NamedTuple

from launcher.experiments.results.averages import mean_with_interval
from launcher.experiments.results.model_columns import settings_of, swept_settings
from launcher.experiments.results.result_jobs import ResultJob, result_jobs
from launcher.experiments.results.rows import kinds_of
from launcher.frontends.screens.chart import drawable_points
from launcher.frontends.web.plots import (
    COLOURS,
    Line,
    Plot,
    Statistic,
    common_unit,
    smooth,
    sort_metrics,
    title_of,
)
from launcher.frontends.web.run_data import MOST_JOBS
from launcher.frontends.web.run_filter import (
    LONGEST,
    RunFilter,
    canonical,
    matches,
    read_filter,
    unknown_settings,
)
from launcher.queue.home.paths import Home
from launcher.queue.jobs.params import (
    LONGEST_VALUE,
    format_params,
    read_number,
    to_param_value,
    varying_names,
)
from launcher.queue.jobs.states import OPEN_STATES, State
from launcher.queue.store.listings import ListingQueries
from launcher.queue.store.queue import Store
from launcher.queue.store.rows import JobRow
from launcher.queue.workers.progress.attempt_progress import MOST_BYTES, read_reported_steps
from launcher.queue.workers.progress.steps import STEP, Point, curves, unit_of
from launcher.system.errors import pluralize
from launcher.system.files import file_stamp
from launcher.system.text import sanitize_terminal
from launcher.system.units import format_bytes

MOST_LINES = 12  # lines of a chart: more cannot be distinguished
MOST_PLOTS = 4  # charts that are shown if there are more metrics
MOST_POINTS = 400  # points of a line with a band
_MOST_STORED = (
    2_000_000  # points of the jobs of a run, 16 bytes each, for each of its first metrics
)
_FULL_METRICS = 4  # metrics of a job; if it has more, their curves share the points of these
_LEAST_POINTS, _MOST_OF_A_JOB = 20, 400  # points of a stored curve
_COVERAGE = 0.8  # part of a group's points that each job has on average; a mean of other jobs at each point jumps
_MOST_RUNS = 4  # runs whose curves are kept
ALL, EACH = "*", "@job"  # groupings that are not by a setting
_LONGEST_LABEL = 60  # characters
KIND = "kind"  # a setting of every job, if a run has several kinds
RANGE, INTERVAL = "range", "interval"  # bands
BANDS: Mapping[str, str] = {
    RANGE: "minimum to maximum",
    INTERVAL: "95 % interval of the mean (Student's t)",
}
# settings that repeat a job: a line for each value of these compares nothing
_REPETITIONS = frozenset({"seed", "random_seed", "random_state", "repeat", "replicate", "fold"})


class CurveChoice(NamedTuple):
    """The query of an address: grouping, filter, band and axis of the curves of a run."""

    group: str = ""  # a setting, ALL or EACH; "" for the default
    filter: str = ""  # names and settings of jobs
    band: str = RANGE
    log: bool = False
    smoothing: float = 0.0
    everything: bool = False  # all metrics


class RunCurves(NamedTuple):
    """The charts of a run, and the settings by which they can be grouped."""

    plots: Sequence[Plot] = ()
    summary: str = ""  # number of jobs in the charts; "" if the run has no jobs
    notes: Sequence[str] = ()  # on unknown settings in an address, and on long files
    group: str = ALL
    groups: Sequence[tuple[str, str]] = ()  # value in an address, and text
    plots_left: int = 0  # metrics without a chart


class _Curve(NamedTuple):
    """The values of a metric of one job; of `pooled` steps each their mean."""

    pooled: int  # a power of two
    steps: "array[float]"  # the last one of those that are pooled
    values: "array[float]"


class _Read(NamedTuple):
    """The curves in the files of a job."""

    stamp: object = None  # stamp of the files; None: nothing was read
    curves: Mapping[str, _Curve] = {}  # by metric
    is_cut: bool = False  # whether a file is longer than the part that is read
    unit: str = STEP  # unit of the metric's steps: "step" or "epoch"


class _Job(NamedTuple):
    """A job with its curves by metric."""

    row: JobRow
    settings: Mapping[str, Any]
    curves: Mapping[str, _Curve]
    is_cut: bool = False
    unit: str = STEP


class RunCurvesReader:
    """Reads the curves of runs; the files of a job that has ended are read once."""

    def __init__(self, home: Home) -> None:
        """Read nothing yet.

        Args:
            home: whose runs.
        """
        self._home = home
        self._runs: OrderedDict[int, dict[int, _Read]] = OrderedDict()  # run → job

    def read(self, curve_choice: tuple[int, CurveChoice]) -> RunCurves:
        """Return the charts of a run.

        Args:
            curve_choice: its number, and the choice of an address.
        """
        run, choice = curve_choice
        with contextlib.closing(Store(self._home, reading=True)) as store:
            numbers = ListingQueries(store.database).job_numbers(run)
            if len(numbers) > MOST_JOBS:
                return RunCurves(
                    summary=f"0 of {pluralize(len(numbers), 'job')}: this page shows curves of "
                    f"at most {MOST_JOBS:,} jobs"
                )
            chosen = result_jobs(self._home, store, store.read.jobs_by_id(numbers))
        rows = [_with_steps(each) for each in chosen]
        known = self._runs.pop(run, {})
        most = _MOST_STORED * _FULL_METRICS // max(1, len(rows))
        read = {row.id: _read_curves(self._home, row, known.get(row.id), most) for row in rows}
        self._runs[run] = read
        while len(self._runs) > _MOST_RUNS:
            self._runs.popitem(last=False)
        jobs = [
            _Job(row, settings_of(row.spec_without_sources), own.curves, own.is_cut, own.unit)
            for row, own in zip(rows, read.values(), strict=True)
        ]
        return run_curves(jobs, choice)


def _with_steps(each: ResultJob) -> JobRow:
    """Return the job whose curves represent a name: the one with a result, unless a newer one runs."""
    return each.newest if each.newest.state is State.RUNNING else each.job


def _read_curves(home: Home, row: JobRow, last_read: _Read | None, most: int) -> _Read:
    """Return the curves of a job, together of at most so many points; the known ones if its files are the same."""
    if not row.attempts:
        return _Read()
    attempt = row.attempt_in(home)
    files = (attempt.progress, attempt.log, attempt.stderr)
    stamps = [file_stamp(str(file)) for file in files]
    stamp = (row.attempts, row.state, stamps)
    # files whose place only the attempt knows are read again while the job runs
    named = any(f'"{term}"' in row.spec_text for term in ("tensorboard", "metrics"))
    grows = row.state is State.RUNNING and named
    if last_read is not None and last_read.stamp == stamp and not grows:
        return last_read
    reports = read_reported_steps(attempt)
    reported = curves(reports)
    of_each = most // max(_FULL_METRICS, len(reported))
    of_each = min(_MOST_OF_A_JOB, max(_LEAST_POINTS, of_each))
    found = {
        name: _pool(shown, of_each) if (shown := drawable_points(points)) else _NOTHING
        for name, points in reported.items()
    }
    progress, *logs = (size for size, _ in (each or (0, 0) for each in stamps))
    is_cut = max([progress] if progress else logs) > MOST_BYTES
    return _Read(stamp, found, is_cut=is_cut, unit=unit_of(reports))


_NOTHING = _Curve(1, array("d"), array("d"))  # only NaN or infinity


def _pool(points: Sequence[Point], most: int) -> _Curve:
    """Return a curve of at most this many points."""
    pooled = 1
    while len(points) > most and len({step // pooled for step, _ in points}) > most:
        pooled *= 2
    return _pool_points(points, pooled)


def _pool_points(points: Sequence[Point], steps_per_point: int) -> _Curve:
    """Return the mean of each so many steps; of the values of one step, the last counts."""
    if steps_per_point == 1 and all(before < after for (before, _), (after, _) in pairwise(points)):
        return _Curve(1, *(array("d", part) for part in zip(*points, strict=True)))
    steps, values = array("d"), array("d")
    for _, group in groupby(points, key=lambda point: point[0] // steps_per_point):
        own = dict(group)  # the last value of each step
        steps.append(max(own))
        values.append(sum(value / len(own) for value in own.values()))
    return _Curve(steps_per_point, steps, values)


def run_curves(jobs: Sequence[_Job], choice: CurveChoice) -> RunCurves:
    """Return the charts of jobs.

    Args:
        jobs: jobs of a run, each name once.
        choice: choice of an address.
    """
    if not jobs:
        return RunCurves()
    shown, notes = _select_matching(jobs, choice.filter)
    cut = sum(bool(job.curves) and job.is_cut for job in shown)
    if cut:
        long = f"{pluralize(cut, 'job')} reported more than {format_bytes(MOST_BYTES)}"
        note = f"{long}, of which only the end is read: curves may begin at a later step"
        notes = [*notes, note]
    names = _groupings(jobs)
    group = choice.group or _default_group(jobs, names)
    known = {name for job in jobs for name in _settings(job)}
    if group not in {ALL, EACH, *known}:
        wanted, group = group[:_LONGEST_LABEL], _default_group(jobs, names)
        unknown = unknown_settings(RunFilter(settings=((wanted, ""),)), known)
        notes = [*notes, *(f"{line}. The default is shown" for line in unknown)]
    groups = _group_jobs(shown, group)
    metrics = list(sort_metrics(dict.fromkeys(name for job in shown for name in job.curves)))
    plotted = metrics if choice.everything else metrics[:MOST_PLOTS]
    settings = dict.fromkeys((*names, *({group} - {ALL, EACH})))
    return RunCurves(
        plots=[_plot(metric, shown, groups, choice) for metric in plotted],
        summary=_summary(jobs, shown, choice),
        notes=notes,
        group=group,
        groups=[
            (ALL, "all jobs together"),
            *((name, _label(name)) for name in settings),
            (EACH, "each job"),
        ],
        plots_left=len(metrics) - len(plotted),
    )


# --- which jobs, and in which groups


def _settings(job: _Job) -> Mapping[str, Any]:
    """Return the settings of a job, its kind among them."""
    return {KIND: job.row.kind, **job.settings}


def _select_matching(jobs: Sequence[_Job], text: str) -> tuple[Sequence[_Job], Sequence[str]]:
    """Return the jobs that match a filter, and notes on settings that no job has."""
    chosen = read_filter(text)
    if not chosen.text:
        return jobs, []
    settings = [
        {name: {canonical(value)} for name, value in _describe_job(job).items()} for job in jobs
    ]
    known = {name for each in settings for name in each}
    matching = [
        job for job, each in zip(jobs, settings, strict=True) if matches(chosen, job.row.name, each)
    ]
    return matching, unknown_settings(chosen, known)


def _describe_job(job: _Job) -> Mapping[str, Any]:
    """Return what a filter compares: the settings of a job, its kind, model and data."""
    spec = job.row.spec_without_sources
    fields = {"model": spec.model, "data": spec.data}
    return {**{name: value for name, value in fields.items() if value}, **_settings(job)}


def _groupings(jobs: Sequence[_Job]) -> list[str]:
    """Return the settings by which jobs can be grouped: those that differ between jobs that report numbers."""
    reporting = _select_reporting(jobs)
    specs = [job.row.spec_without_sources for job in reporting]
    swept = swept_settings(specs, kinds_of(job.row for job in reporting))
    names = dict.fromkeys(name for own in swept.values() for name in own)
    return [*([KIND] if len(swept) > 1 else []), *(name for name in names if _is_plain(name))]


def _is_plain(name: str) -> bool:
    """Return whether an address can contain the name of a setting."""
    return len(name) <= LONGEST and sanitize_terminal(name) == name


def _select_reporting(jobs: Sequence[_Job]) -> Sequence[_Job]:
    """Return the jobs of kinds that report numbers; a job that has not begun is among them."""
    kinds = {job.row.kind for job in jobs if job.curves}
    return [job for job in jobs if job.row.kind in kinds] or jobs


def _default_group(jobs: Sequence[_Job], names: Sequence[str]) -> str:
    """Return a setting with few values, each of several jobs; otherwise each job, or all jobs together."""
    reporting = _select_reporting(jobs)
    for repeated in (False, True):
        for name in (name for name in names if name != KIND):
            values = len({_key(_settings(job), name) for job in reporting})
            few = 1 < values <= MOST_LINES and values < len(reporting)
            if few and (name in _REPETITIONS) is repeated:
                return name
        if len(reporting) <= MOST_LINES:
            return EACH
    return ALL


def _group_jobs(jobs: Sequence[_Job], group: str) -> list[tuple[str, list[_Job]]]:
    """Return the groups of jobs that have numbers, in the order of their values: name and jobs."""
    having = [job for job in jobs if any(curve.steps for curve in job.curves.values())]
    if group == ALL:
        return [("all jobs", having)]
    if group == EACH:
        # a job of a plugin package stores all settings of its kind, and its name identifies it
        names = varying_names([job.row.params for job in jobs]) if jobs else []
        texts = (format_params(job.row.params, names) for job in having)
        return [
            (f"{job.row.id} {text or _label(job.row.name)}", [job])
            for job, text in zip(having, texts, strict=True)
        ]
    groups: dict[tuple[object, ...], list[_Job]] = {}
    for job in having:
        groups.setdefault(_key(_settings(job), group), []).append(job)
    return [(_group_name(group, _settings(own[0])), own) for _, own in sorted(groups.items())]


def _key(settings: Mapping[str, Any], name: str) -> tuple[int, float, str]:
    """Return a value of a setting as a key that equal values share: numbers come first, then texts, then none."""
    if name not in settings:
        return 2, 0.0, ""
    value = to_param_value(settings[name])
    text = value if isinstance(value, str) else canonical(value)
    # an integer may have hundreds of digits, and NaN has no place in an order
    number = None if isinstance(value, bool) or len(text) > LONGEST_VALUE else read_number(text)
    return (1, 0.0, text) if number is None else (0, float(number), text)


def _group_name(name: str, settings: Mapping[str, Any]) -> str:
    """Return the name of a group in the legend."""
    if name not in settings:
        return f"no {_label(name)}"
    value = to_param_value(settings[name])
    if value is True:
        return _label(name)
    text = f"{value:.12g}" if isinstance(value, float) else str(value)
    return f"{_label(name)}={_label(text)}"


def _label(text: str) -> str:
    cut = text if len(text) <= _LONGEST_LABEL else f"{text[: _LONGEST_LABEL - 1]}…"
    return sanitize_terminal(cut)


# --- their charts


def _plot(
    metric: str,
    jobs: Sequence[_Job],
    groups: Sequence[tuple[str, Sequence[_Job]]],
    choice: CurveChoice,
) -> Plot:
    having = [
        (place, name, own)
        for place, (name, jobs_of) in enumerate(groups)
        if (
            own := [
                curve for job in jobs_of if (curve := _drawable_part(job, metric, choice)).steps
            ]
        )
    ]
    drawn = having[:MOST_LINES]
    pooled = _common_steps_per_point([own for _, _, own in drawn])
    lines = [_line(name, own, pooled, place, choice) for place, name, own in drawn]
    return Plot(
        title=title_of(metric),
        lines=lines,
        log=choice.log,
        note=". ".join(
            filter(
                None,
                (
                    _count_text(jobs, metric, sum(len(own) for _, _, own in having), choice),
                    _left_out_text(drawn, having),
                    f"A point is the mean of {pooled} steps" if pooled > 1 else "",
                ),
            )
        ),
        band=BANDS[choice.band] if any(line.has_band for line in lines) else "",
        pooled_steps=pooled,
        unit=common_unit([job.unit for job in jobs if metric in job.curves]),
    )


def _drawable_part(job: _Job, metric: str, choice: CurveChoice) -> _Curve:
    """Return the part of a curve that the axis can show."""
    curve = job.curves.get(metric, _NOTHING)
    if not choice.log or all(value > 0 for value in curve.values):
        return curve
    points = drawable_points([*zip(curve.steps, curve.values, strict=True)], above_zero=True)
    steps, values = array("d", (x for x, _ in points)), array("d", (y for _, y in points))
    return _Curve(curve.pooled, steps, values)


def _common_steps_per_point(groups: Sequence[Sequence[_Curve]]) -> int:
    """Return how many steps a point stands for: as few as give each job most points of its group."""
    pooled = max((curve.pooled for own in groups for curve in own), default=1)
    while not _is_covered(groups, pooled):
        pooled *= 2
    return pooled


def _is_covered(groups: Sequence[Sequence[_Curve]], steps_per_point: int) -> bool:
    """Return whether each line has few points, and most jobs have a value at most points of their group."""
    own_points = points_between = 0
    for curves_of in groups:
        each = [[step // steps_per_point for step in curve.steps] for curve in curves_of]
        every = sorted({place for places in each for place in places})
        if len(every) > MOST_POINTS:
            return False
        if len(each) == 1:
            continue
        own_points += sum(len(set(places)) for places in each)
        points_between += sum(
            bisect_right(every, places[-1]) - bisect_left(every, places[0]) for places in each
        )
    return own_points >= _COVERAGE * points_between


def _line(
    name: str, curves: Sequence[_Curve], steps_per_point: int, place: int, choice: CurveChoice
) -> Line:
    """Return the mean of curves with their band."""
    values: dict[float, list[float]] = {}
    steps: dict[float, float] = {}  # the last one of those that a point stands for
    for curve in curves:
        same = (
            curve
            if curve.pooled == steps_per_point
            else _pool_points([*_points(curve)], steps_per_point)
        )
        for step, value in _points(same):
            values.setdefault(step // steps_per_point, []).append(value)
            steps[step // steps_per_point] = max(step, steps.get(step // steps_per_point, step))
    order = sorted(values)
    statistics = [_statistic(values[at], choice) for at in order]
    points = [(steps[at], each.value) for at, each in zip(order, statistics, strict=True)]
    behind: Sequence[Point] = ()
    if choice.smoothing:
        smoothed = [
            [y for _, y in smooth([(0.0, each[part]) for each in statistics], choice.smoothing)]
            for part in range(3)
        ]
        behind = points if len(curves) == 1 else ()
        statistics = [
            Statistic(value, low, high, each.jobs)
            for each, value, low, high in zip(statistics, *smoothed, strict=True)
        ]
        points = [(x, each.value) for (x, _), each in zip(points, statistics, strict=True)]
    dashed = place // COLOURS % 2 == 1
    return Line(name, points, place, dashed, behind, statistics, pluralize(len(curves), "job"))


def _points(curve: _Curve) -> Iterator[Point]:
    return zip(curve.steps, curve.values, strict=True)


def _statistic(values: Sequence[float], choice: CurveChoice) -> Statistic:
    if choice.band == INTERVAL:
        metric = mean_with_interval(values)
        low = metric.value if metric.low is None else metric.low
        high = metric.value if metric.high is None else metric.high
        # an interval may go below zero, which a logarithmic axis does not show
        return Statistic(
            metric.value,
            max(low, min(values)) if choice.log and low <= 0 else low,
            high,
            len(values),
        )
    count = len(values)
    return Statistic(sum(value / count for value in values), min(values), max(values), count)


# --- how many jobs they show


def _summary(jobs: Sequence[_Job], shown_jobs: Sequence[_Job], choice: CurveChoice) -> str:
    """Return how many of the jobs are in the charts."""
    text = ""
    if choice.filter.strip():
        text = f"{len(shown_jobs):,} of {pluralize(len(jobs), 'job')} match the filter. "
        if not shown_jobs:
            return text.rstrip(". ")
    if not any(job.curves for job in shown_jobs):
        is_open = any(job.row.state in OPEN_STATES for job in shown_jobs)
        return text + (
            "No job has reported steps yet" if is_open else "No job reported steps: no curves"
        )
    having = sum(any(curve.steps for curve in job.curves.values()) for job in shown_jobs)
    return text + _having_text(
        shown_jobs, having, [job for job in shown_jobs if not job.curves], ""
    )


def _count_text(jobs: Sequence[_Job], metric: str, count: int, choice: CurveChoice) -> str:
    """Return how many jobs have curves of a metric, and why the others have none."""
    without = [job for job in jobs if metric not in job.curves]
    of = f" of {title_of(metric)}"
    positive = count + sum(
        bool(job.curves[metric].steps) and not _drawable_part(job, metric, choice).steps
        for job in jobs
        if metric in job.curves
    )
    text = _having_text(jobs, positive, without, of)
    return f"{text}; {positive - count:,} only 0 or less" if positive > count else text


def _having_text(
    jobs: Sequence[_Job], count: int, jobs_without: Sequence[_Job], total_text: str
) -> str:
    total = pluralize(len(jobs), "job")
    if count == len(jobs):
        return f"{count:,} of {total}"
    still_open = sum(job.row.state in OPEN_STATES for job in jobs_without)
    ended = len(jobs_without) - still_open
    strange = len(jobs) - count - len(jobs_without)
    reasons = [
        f"{still_open:,} {'does' if still_open == 1 else 'do'} not have any yet"
        if still_open
        else "",
        f"{ended:,} ended without any" if ended else "",
        f"{strange:,} only NaN or infinity" if strange else "",
    ]
    have = "has" if count == 1 else "have"
    return f"{count:,} of {total} {have} curves{total_text}; {', '.join(filter(None, reasons))}"


def _left_out_text(
    drawn_groups: Sequence[tuple[int, str, Sequence[_Curve]]],
    curves_with_metric: Sequence[tuple[int, str, Sequence[_Curve]]],
) -> str:
    """Return how many groups have no line; "" if all have one."""
    if len(drawn_groups) == len(curves_with_metric):
        return ""
    shown, total = (
        sum(len(own) for _, _, own in groups) for groups in (drawn_groups, curves_with_metric)
    )
    return (
        f"{len(drawn_groups)} of {len(curves_with_metric):,} groups are drawn, with {shown:,} of these "
        f"{total:,} jobs: filter the jobs, or group them by another setting"
    )
