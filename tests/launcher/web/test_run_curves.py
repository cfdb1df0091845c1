"""The curves of a run: which jobs are in them, how they are grouped, and what their bands are."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from launcher.frontends.web import run_curves
from launcher.frontends.web.page import Address
from launcher.frontends.web.plots import Line, Plot
from launcher.frontends.web.run_curves import (
    ALL,
    EACH,
    INTERVAL,
    MOST_LINES,
    MOST_PLOTS,
    MOST_POINTS,
    CurveChoice,
    RunCurves,
    RunCurvesReader,
)
from launcher.frontends.web.runs import curve_choice
from launcher.queue.home.paths import Attempt, Home
from launcher.queue.jobs.params import PARAMS
from launcher.queue.store.queue import Store
from launcher.queue.workers.progress.attempt_progress import read_reported_steps
from launcher.queue.workers.progress.steps import ProgressReport
from launcher.system.files import Json
from tests.build import a_spec, claimed, enqueue, finished, job_row
from tests.launcher.queued_again import FAILED, a_seed, add, done

Values = Mapping[str, float] | float


def report(home: Home, job: int, values: Sequence[Values], *, first: int = 1, gap: int = 1) -> None:
    """Let the first attempt of a job report numbers, all of them at one time, so that there is no rate."""
    attempt = home.attempt(job, 1)
    attempt.folder.mkdir(parents=True, exist_ok=True)
    records = (
        {
            "at": 5.0,
            "step": first + gap * place,
            "total": None,
            "metrics": value if isinstance(value, Mapping) else {"loss": value},
        }
        for place, value in enumerate(values)
    )
    attempt.progress.write_text("".join(f"{json.dumps(record)}\n" for record in records))


def queue_job(store: Store, **settings: Json) -> int:
    """Queue a job of a sweep that has not begun."""
    name = f"command/{'-'.join(str(value)[:40] for value in settings.values())}"
    spec = a_spec("train.py", name=name, run="sweep", settings={PARAMS: settings})
    return enqueue(store, spec, run="sweep")[0]


def a_job(home: Home, store: Store, values: Sequence[Values], **settings: Json) -> int:
    """Queue a job of a sweep, and let it be done after it reported numbers."""
    job = queue_job(store, **settings)
    finished(store, job)
    report(home, job, values)
    return job


def read(home: Home, run: int = 1, **choice: object) -> RunCurves:
    return RunCurvesReader(home).read((run, CurveChoice(**choice)))  # type: ignore[arg-type]  # as the test says


def one_plot(made: RunCurves) -> Plot:
    (plot,) = made.plots
    return plot


def names(plot: Plot) -> list[str]:
    return [line.name for line in plot.lines]


def bands(line: Line) -> list[tuple[float, float, float, float, int]]:
    """Return step, mean, low, high and number of jobs of each point."""
    return [
        (x, each.value, each.low, each.high, each.jobs)
        for (x, _), each in zip(line.points, line.statistics, strict=True)
    ]


def test_page_says_that_a_long_file_is_not_read_from_its_beginning(
    home: Home, store: Store
) -> None:
    a_job(home, store, [1.0, 0.5], lr=1)
    long = a_job(home, store, [float(value) for value in range(30_000)], lr=2)
    made = read(home, group=EACH)
    assert home.attempt(long, 1).progress.stat().st_size > 1 << 20
    cut = "1 job reported more than 1 MiB, of which only the end is read"
    assert made.notes == [f"{cut}: curves may begin at a later step"]
    assert one_plot(made).lines[1].points[0][0] > 10_000
    assert read(home, filter="lr=1").notes == []


@pytest.fixture
def sweep(home: Home, store: Store) -> None:
    """Two rates with two seeds each."""
    for place, rate in enumerate((0.1, 0.02)):
        for seed in (1, 2):
            a_job(home, store, [seed + place, seed / 2 + place], lr=rate, seed=seed)


def test_jobs_are_grouped_by_a_setting_with_mean_and_range_or_interval(
    home: Home, store: Store, sweep: None
) -> None:
    made = read(home)
    plot = one_plot(made)
    assert (made.group, made.summary, plot.note) == ("lr", "4 of 4 jobs", "4 of 4 jobs")
    assert names(plot) == ["lr=0.02", "lr=0.1"]
    assert plot.band == "minimum to maximum"
    assert bands(plot.lines[1]) == [(1, 1.5, 1, 2, 2), (2, 0.75, 0.5, 1, 2)]
    assert plot.lines[1].group == "2 jobs"
    plot = one_plot(read(home, band=INTERVAL))
    assert "95 %" in plot.band
    (_, mean, low, high, jobs), _ = bands(plot.lines[1])
    half = 12.706 * math.sqrt(0.5) / math.sqrt(2)  # t(0.975; 1) · s / √n
    assert (mean, jobs) == (1.5, 2)
    assert (low, high) == pytest.approx((1.5 - half, 1.5 + half), abs=1e-3)


@pytest.mark.parametrize(
    ("group", "expected"),
    [
        ("seed", ["seed=1", "seed=2"]),
        (ALL, ["all jobs"]),
        (EACH, ["1 lr=0.1 seed=1", "2 lr=0.1 seed=2", "3 lr=0.02 seed=1", "4 lr=0.02 seed=2"]),
    ],
)
def test_grouping_is_chosen(
    home: Home, store: Store, sweep: None, group: str, expected: list[str]
) -> None:
    made = read(home, group=group)
    assert (made.group, names(one_plot(made))) == (group, expected)
    assert dict(made.groups) == {
        ALL: "all jobs together",
        "lr": "lr",
        "seed": "seed",
        EACH: "each job",
    }


def test_each_job_has_no_band_and_an_unknown_setting_shows_the_default(
    home: Home, store: Store, sweep: None
) -> None:
    plot = one_plot(read(home, group=EACH))
    assert plot.band == ""
    assert not any(line.has_band for line in plot.lines)
    made = read(home, group="sede")
    assert made.group == "lr"
    (note,) = made.notes
    assert note.startswith("no job has a setting 'sede'. Did you mean 'seed'?")
    assert note.endswith("The default is shown")


def test_band_counts_only_jobs_that_have_the_step(home: Home, store: Store) -> None:
    a_job(home, store, [1.0, 1.0, 1.0, 1.0], lr=0.1, seed=1)
    a_job(home, store, [3.0, 3.0], lr=0.1, seed=2)
    a_job(home, store, [9.0], lr=0.5, seed=1)
    first, second = one_plot(read(home, group="lr")).lines
    assert [(x, mean, jobs) for x, mean, _, _, jobs in bands(first)] == [
        (1, 2, 2),
        (2, 2, 2),
        (3, 1, 1),
        (4, 1, 1),
    ]
    assert not second.has_band


def test_jobs_without_numbers_are_counted(home: Home, store: Store) -> None:
    for seed in range(3):
        a_job(home, store, [{"loss": 1.0, "auc": 0.5} if seed else 1.0], lr=0.1, seed=seed)
    a_job(home, store, [math.nan], lr=0.1, seed=3)
    for seed in (4, 5):
        queue_job(store, lr=0.1, seed=seed)
    finished(store, queue_job(store, lr=0.1, seed=6))
    made = read(home, group="lr")
    assert made.summary == (
        "3 of 7 jobs have curves; 2 do not have any yet, 1 ended without any, 1 only NaN or infinity"
    )
    loss, auc = made.plots
    assert loss.note.startswith("3 of 7 jobs have curves of loss; 2 do not have any yet")
    assert auc.note == (
        "2 of 7 jobs have curves of auc; 2 do not have any yet, 3 ended without any"
    )


def test_run_without_steps_says_that_none_were_reported(home: Home, store: Store) -> None:
    finished(store, queue_job(store, lr=0.1, seed=1))
    assert read(home).summary == "No job reported steps: no curves"
    queue_job(store, lr=0.1, seed=2)
    assert read(home).summary == "No job has reported steps yet"


def test_axes_are_named_by_what_is_counted(home: Home, store: Store) -> None:
    job = a_job(home, store, [1.0], lr=0.1, seed=1)
    data = json.loads(one_plot(read(home)).data)
    assert (data["x"], data["y"]) == ("step", "loss")
    attempt = home.attempt(job, 1)
    attempt.progress.unlink()
    attempt.log.write_text("launcher: epoch=1/5 loss=0.5\n")
    assert json.loads(one_plot(read(home)).data)["x"] == "epoch"
    a_job(home, store, [1.0], lr=0.1, seed=2)
    assert one_plot(read(home)).unit == "epoch or step"


def test_values_that_are_no_numbers_leave_the_others(home: Home, store: Store) -> None:
    a_job(home, store, [1.0, math.inf, 3.0], lr=0.1, seed=1)
    a_job(home, store, [2.0, 2.0, math.nan], lr=0.1, seed=2)
    (line,) = one_plot(read(home, group="lr")).lines
    assert line.name == "lr=0.1"
    assert [(x, mean, jobs) for x, mean, _, _, jobs in bands(line)] == [
        (1, 1.5, 2),
        (2, 2, 1),
        (3, 3, 1),
    ]


def test_logarithmic_axis_leaves_out_what_it_cannot_show(home: Home, store: Store) -> None:
    a_job(home, store, [1.0, 10.0], lr=0.1, seed=1)
    a_job(home, store, [0.0, 20.0], lr=0.1, seed=2)
    a_job(home, store, [-1.0, 0.0], lr=0.1, seed=3)
    plot = one_plot(read(home, group="lr", log=True, band=INTERVAL))
    (line,) = plot.lines
    assert [(x, jobs) for x, _, _, _, jobs in bands(line)] == [(1, 1), (2, 2)]
    assert all(low > 0 for _, _, low, _, _ in bands(line))
    assert plot.note == "3 of 3 jobs; 1 only 0 or less"


def test_more_groups_than_colours_are_counted(home: Home, store: Store) -> None:
    for rate in range(50):
        a_job(home, store, [1.0], lr=rate, seed=1)
        a_job(home, store, [2.0], lr=rate, seed=2)
    plot = one_plot(read(home, group="lr"))
    assert names(plot) == [f"lr={rate}" for rate in range(MOST_LINES)]
    assert "12 of 50 groups are drawn, with 24 of these 100 jobs" in plot.note
    assert len({(line.colour % 8, line.dashed) for line in plot.lines}) == MOST_LINES
    # neither a rate per line nor a line per job compares anything
    assert read(home).group == "seed"


def test_filter_selects_jobs(home: Home, store: Store, sweep: None) -> None:
    made = read(home, filter="lr=1e-1")
    assert made.summary == "2 of 4 jobs match the filter. 2 of 2 jobs"
    assert names(one_plot(made)) == ["lr=0.1"]
    made = read(home, filter="lr=7")
    assert (made.summary, made.plots) == ("0 of 4 jobs match the filter", [])
    (note,) = read(home, filter="rl=0.1").notes
    assert "no job has a setting 'rl'" in note


def test_values_are_ordered_as_numbers_then_texts_then_none(home: Home, store: Store) -> None:
    for seed in (1, 2):
        for value in ("sgd", 10, 9.5, True):
            a_job(home, store, [1.0], what=value, seed=seed)
        a_job(home, store, [1.0], seed=seed)
    assert names(one_plot(read(home, group="what"))) == [
        "what=9.5",
        "what=10",
        "what=sgd",
        "what",
        "no what",
    ]


def test_hostile_values_are_short_texts(home: Home, store: Store) -> None:
    evil = "</script><b>\x1b[31m\n" + "x" * 5000
    for seed in (1, 2):
        settings: dict[str, Any] = {"how": evil, "seed": seed, "n" * 5000: seed, "a\nb": seed}
        a_job(home, store, [1.0], **settings)
    made = read(home, group="how")
    (name,) = names(one_plot(made))
    assert len(name) < 100
    assert name.isprintable()
    assert [value for value, _ in made.groups] == [ALL, "seed", "how", EACH]
    assert json.loads(one_plot(made).data)["lines"][0]["name"] == name


def test_only_the_first_metrics_have_charts_unless_all_are_wanted(home: Home, store: Store) -> None:
    metrics = {f"m{place}": 1.0 for place in range(MOST_PLOTS + 3)}
    a_job(home, store, [metrics], lr=0.1)
    made = read(home)
    assert (len(made.plots), made.plots_left) == (MOST_PLOTS, 3)
    made = read(home, everything=True)
    assert (len(made.plots), made.plots_left) == (MOST_PLOTS + 3, 0)


def test_long_curves_are_pooled_to_as_many_points_as_are_seen(home: Home, store: Store) -> None:
    for seed in (1, 2):
        a_job(home, store, [float(step) for step in range(2000)], lr=0.1, seed=seed)
    plot = one_plot(read(home, group="lr"))
    (line,) = plot.lines
    assert MOST_POINTS / 2 <= len(line.points) <= MOST_POINTS
    assert f"A point is the mean of {plot.pooled_steps} steps" in plot.note
    assert line.points[-1][0] == 2000
    assert {jobs for _, _, _, _, jobs in bands(line)} == {2}


@pytest.mark.parametrize(("metrics", "most"), [(1, 100), (4, 100), (8, 50), (100, 20)])
def test_curves_of_many_metrics_have_fewer_points(
    home: Home, store: Store, monkeypatch: pytest.MonkeyPatch, metrics: int, most: int
) -> None:
    """A run needs a limited amount of memory, however many metrics its jobs report."""
    monkeypatch.setattr(run_curves, "_MOST_STORED", 200)
    for seed in (1, 2):
        steps = range(4 * most)
        values = [{f"m{place}": float(step) for place in range(metrics)} for step in steps]
        a_job(home, store, values, lr=0.1, seed=seed)
    plots = read(home, group="lr", everything=True).plots
    assert len(plots) == metrics
    counts = {len(line.points) for plot in plots for line in plot.lines}
    assert max(counts) <= most
    assert min(counts) > most / 2 - 1


def test_jobs_that_report_other_steps_share_points(home: Home, store: Store) -> None:
    """Reports follow time, so jobs of one group rarely report the same steps."""
    for seed in range(4):
        job = queue_job(store, lr=0.1, seed=seed)
        finished(store, job)
        report(home, job, [1.0] * 50, first=seed, gap=7)
    for rate in range(1, 9):  # lines of one job, which need no pooling
        a_job(home, store, [1.0] * 390, lr=rate, seed=1)
    plot = one_plot(read(home, group="lr"))
    assert plot.pooled_steps == 8
    counts = [jobs for _, _, _, _, jobs in bands(plot.lines[0])]
    assert sum(counts) / len(counts) > 3


def test_equal_steps_are_not_pooled(home: Home, store: Store) -> None:
    for seed in range(3):
        job = queue_job(store, lr=0.1, seed=seed)
        finished(store, job)
        report(home, job, [1.0] * 20, first=1000, gap=1000)
    plot = one_plot(read(home, group="lr"))
    assert plot.pooled_steps == 1
    assert [x for x, _ in plot.lines[0].points] == [1000.0 * n for n in range(1, 21)]


def test_smoothing_keeps_the_line_in_its_band(home: Home, store: Store) -> None:
    a_job(home, store, [4.0, 0.0, 4.0], lr=0.1, seed=1)
    a_job(home, store, [8.0, 4.0, 8.0], lr=0.1, seed=2)
    (line,) = one_plot(read(home, group="lr", smoothing=0.5)).lines
    assert all(low <= mean <= high for _, mean, low, high, _ in bands(line))
    assert bands(line)[1][1] > 2


def test_jobs_of_a_plugin_package_are_named(home: Home, store: Store) -> None:
    for kind, settings in (("train", {"depth": 3, "a": 1}), ("other", {"width": 4, "b": 2})):
        spec = a_spec(name=f"{kind}/net", kind=kind, run="sweep", settings=settings)
        (job,) = enqueue(store, spec, run="sweep")
        finished(store, job)
        report(home, job, [1.0])
    assert names(one_plot(read(home))) == ["1 train/net", "2 other/net"]


def test_run_without_jobs_has_no_curves_and_few_jobs_are_drawn_one_by_one(
    home: Home, store: Store
) -> None:
    assert read(home, 77) == RunCurves()
    a_job(home, store, [1.0, 0.5], lr=0.1)
    made = read(home)
    assert (made.summary, made.group) == ("1 of 1 job", EACH)
    assert one_plot(made).band == ""
    assert names(one_plot(made)) == ["1 command/0.1"]
    for rate in (0.2, 0.3):
        a_job(home, store, [1.0], lr=rate)
    assert read(home).group == EACH


def test_curve_belongs_to_the_job_with_the_result_until_a_newer_job_runs(
    home: Home, store: Store
) -> None:
    first = done(store, home, a_seed(1), 0.5)
    failed = add(store, a_seed(1), FAILED)
    run = job_row(store, first).run_id
    report(home, first, [1.0])
    report(home, failed, [2.0])

    def value() -> float:
        made = read(home, run)
        assert made.summary == "1 of 1 job"
        return one_plot(made).lines[0].points[-1][1]

    assert value() == 1.0
    again = add(store, a_seed(1))
    assert value() == 1.0
    claimed(store, again)
    report(home, again, [3.0])
    assert value() == 3.0


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders of attempts whose reports were read."""
    read_ones: list[Path] = []

    def reading(attempt: Attempt) -> list[ProgressReport]:
        read_ones.append(attempt.folder)
        return read_reported_steps(attempt)

    monkeypatch.setattr(run_curves, "read_reported_steps", reading)
    return read_ones


def test_only_files_that_changed_are_read_again(
    home: Home, store: Store, reads: list[Path]
) -> None:
    a_job(home, store, [1.0], lr=0.1)
    runs = queue_job(store, lr=0.2)
    claimed(store, runs)
    report(home, runs, [1.0])
    reader = RunCurvesReader(home)
    reader.read((1, CurveChoice()))
    assert len(reads) == 2
    reader.read((1, CurveChoice(group=ALL)))
    assert len(reads) == 2
    report(home, runs, [1.0, 0.5])
    made = reader.read((1, CurveChoice(group=EACH)))
    assert reads[2:] == [home.attempt(runs, 1).folder]
    assert one_plot(made).lines[1].points[-1] == (2, 0.5)


def test_numbers_about_the_course_of_a_program_have_the_last_charts(
    home: Home, store: Store
) -> None:
    job = queue_job(store, lr=0.1)
    finished(store, job)
    attempt = home.attempt(job, 1)
    attempt.folder.mkdir(parents=True, exist_ok=True)
    metrics = {"lr": 0.1, "images_per_s": 9.0, "zeal": 1.0}
    lines = ({"at": float(step), "step": step, "total": 3, "metrics": metrics} for step in (1, 2))
    attempt.progress.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    titles = [plot.title for plot in read(home).plots]
    assert titles == ["zeal", "lr", "images_per_s", "steps per second"]


def test_too_many_jobs_are_not_read(
    home: Home, store: Store, monkeypatch: pytest.MonkeyPatch, sweep: None
) -> None:
    monkeypatch.setattr(run_curves, "MOST_JOBS", 3)
    made = read(home)
    assert made.summary == "0 of 4 jobs: this page shows curves of at most 3 jobs"
    assert not made.plots


@pytest.mark.parametrize(
    ("query", "choice"),
    [
        ((), CurveChoice()),
        ((("band", "huge"), ("smooth", "nan"), ("scale", "x")), CurveChoice()),
        (
            (("group", "lr"), ("band", "interval"), ("scale", "log"), ("metrics", "all")),
            CurveChoice(group="lr", band=INTERVAL, log=True, everything=True),
        ),
        ((("filter", " lr=1 " + "x" * 900),), CurveChoice(filter="lr=1 " + "x" * 195)),
    ],
)
def test_address_chooses(query: tuple[tuple[str, str], ...], choice: CurveChoice) -> None:
    assert curve_choice(Address(path="runs/1", number=1, query=query)) == choice
