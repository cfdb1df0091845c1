"""Statistics over repetitions: rows that differ only in a column, such as the seed, become one row.

The mean is x̄ = Σx/n. The standard deviation is that of a sample, s = √(Σ(x - x̄)²/(n - 1)). The interval is
Student's t interval of the mean, x̄ ± t(0.975; n - 1) · s/√n. It is valid for independent values of a normal
distribution. SciPy also has t, but the queue does not require SciPy.
"""

import math
import statistics
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from launcher.experiments.draft import condition_of_test, data_of_test, tested
from launcher.experiments.results.metric import Metric, read_metric
from launcher.experiments.results.metric_range import range_of
from launcher.experiments.results.model_columns import (
    LABELS_KIND,
    OF_DATA,
    OF_LABELS,
    OF_METHODS,
    read_model,
)
from launcher.experiments.results.result_jobs import WAITING, states_text
from launcher.experiments.results.returned_rows import JOB, TRIAL
from launcher.experiments.results.t_distribution import t_quantile
from launcher.experiments.results.table import (
    CONDITION,
    COUNT,
    COUNTS,
    DATA,
    EXPECTED,
    MODEL,
    MODIFIER,
    NOTE,
    POOLED,
    ROW_KEY_COLUMNS,
    VERDICT,
    AbsentRow,
    Row,
    RunResults,
)
from launcher.ids import Stage
from launcher.queue.jobs.states import State
from launcher.system.errors import UsageError, pluralize

CONFIDENCE = 0.95
LEAST_FOR_INTERVAL = 3  # values; the interval of two values is 18 times as wide as their deviation
ANY = "*"  # replaces the data in a model's ID
_SEED = "seed"
_NO_VALUE = "without a value"
_NOT_FINITE = "not finite"
_STILL_COMING = frozenset(
    {WAITING, str(State.RUNNING)}
)  # states of jobs that may have a value later


class MissingValues(NamedTuple):
    """The values that are missing from a mean, and the word for its values."""

    noun: str  # "seeds", "values"
    why: Mapping[str, int]  # "failed" → number

    def note(self, known_count: int) -> str:
        """Return "5 of 6 seeds, 1 failed".

        Args:
            known_count: number of values.
        """
        expected = known_count + sum(self.why.values())
        return f"{known_count} of {expected} {self.noun}, {states_text(self.why)}"


def lacks_ended_jobs(mean: Metric) -> bool:
    """Return whether a mean lacks the value of a job that has ended, such as a failed one."""
    if mean.note is None:
        return False
    counts = mean.note.partition(", ")[2].split(", ")  # the counts that `MissingValues.note` wrote
    return any(count.partition(" ")[2] not in _STILL_COMING for count in counts)


def average_over(
    results: RunResults, names: Sequence[str], settings: Mapping[str, str]
) -> RunResults:
    """Merge the rows that differ only in some columns into one row with mean, deviation and interval.

    If jobs are missing from a mean, the row contains the expected number and the reasons. A group without any result has a
    row with the count 0.

    Args:
        results: Results of a run.
        names: Names of the columns.
        settings: Column → the setting, or the part of an ID, that it shows, if the names differ.

    Raises:
        UsageError: a column does not exist, or does not identify a row.
    """
    for name in names:
        if results.column(name) not in results.columns:
            described = ", ".join(results.varying_columns) or "none"
            raise UsageError(
                f"{name!r} is a result, and means are not taken over results. Columns to average over: "
                f"{described}"
            )
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in results.rows:
        if DATA in names and row.get(POOLED):
            continue  # a pooled row already contains the images of the other rows
        named = {**row, **_remove_settings(row, names, settings)}
        groups.setdefault(_key(named, results.columns, names), []).append(named)
    columns = tuple(name for name in results.columns if name not in {*names, JOB})
    absent = [
        each._replace(row={**each.row, **_remove_settings(each.row, names, settings)})
        for each in results.absent
    ]
    absent = absent if groups else []
    of_tests = any(POOLED in group[0] for group in groups.values())
    by_model = _group_by_key(absent, lambda row: row.get(MODEL))
    by_key = _group_by_key(absent, lambda row: _key(row, results.columns, names))
    noun = "seeds" if [*names] == [_SEED] else "values"
    rows, repeated, mixed = [], 0, 0
    for key, every in groups.items():
        group = _newest_rows(every, names, results.programs)
        repeated += len(every) - len(group)
        makers = {results.programs.get(row[JOB]) for row in group if JOB in row}
        mixed += JOB not in names and len(makers) > 1
        if POOLED in group[0]:
            fitting = _select_absent_tests(by_model.get(group[0].get(MODEL), ()), group[0], names)
        else:
            fitting = by_key.get(key, ())
        missing = MissingValues(noun, _reasons(group, fitting, names))
        rows.append(_merge_rows(group, columns, {*names, JOB}, missing))
    if of_tests:
        models = {group[0].get(MODEL) for group in groups.values()}
        empty = [each for each in absent if each.row.get(MODEL) not in models]
        without = _group_by_key(empty, lambda row: (row.get(MODEL), DATA in names or row.get(DATA)))
    else:
        without = {key: group for key, group in by_key.items() if key not in groups}
    rows += [_row_without_values(group, columns, names, noun) for group in without.values()]
    if not any(row[NOTE] for row in rows):
        rows = [{name: row[name] for name in row if name not in {EXPECTED, NOTE}} for row in rows]
        return RunResults(rows=rows, columns=(*columns, COUNT), repeated=repeated, mixed=mixed)
    return RunResults(rows=rows, columns=(*columns, *COUNTS), repeated=repeated, mixed=mixed)


def _newest_rows(
    group: Sequence[Row], names: Sequence[str], programs: Mapping[str, Hashable]
) -> Sequence[Row]:
    """Return one row per value of some columns: that of the newest job, with older numbers where it has none.

    Rows without a value in one of the columns are not compared, because their jobs may differ in it.

    Args:
        group: Rows of a mean, the oldest first.
        names: Names of the columns.
        programs: Job → its program.
    """
    newest: dict[Hashable, dict[str, Any]] = {}
    for index, row in enumerate(group):
        values = [row.get(name) for name in names]
        is_known = JOB in row and JOB not in names and None not in values
        types = [value.__class__ for value in values]
        key = (programs.get(row[JOB]), *values, *types) if is_known else index
        newest[key] = {
            **newest.get(key, {}),
            **{
                name: value for name, value in row.items() if value is not None or key not in newest
            },
        }
    return [*newest.values()]


def notes_of_means(results: RunResults) -> list[str]:
    """Return notes about means of several programs, and about results of jobs that were queued several times."""
    notes = []
    if number := results.repeated:
        verb = "is" if number == 1 else "are"
        notes.append(
            f"{pluralize(number, 'older result')} {verb} left out of the means: equal jobs were queued "
            "several times, and the newest one counts"
        )
    if number := results.mixed:
        verb = "has" if number == 1 else "have"
        notes.append(
            f"{pluralize(number, 'mean')} {verb} results of several programs: their scripts, options, folders or "
            "variables differ. To choose jobs, add a PATTERN of their names"
        )
    return notes


def _reasons(
    group: Sequence[Row], absent: Sequence[AbsentRow], names: Sequence[str]
) -> Mapping[str, int]:
    """Return reason → number of the values that are missing from a mean.

    Args:
        group: Rows of the mean.
        absent: Jobs without a result that belong to the mean.
        names: Names of the columns in which they differ.
    """
    known = {tuple(row.get(name) for name in names) for row in group}
    values = {tuple(each.row.get(name) for name in names): each.why for each in absent}
    return dict(Counter(why for value, why in values.items() if value not in known))


def _group_by_key(
    absent: Iterable[AbsentRow], key: Callable[[Row], Any]
) -> dict[Any, list[AbsentRow]]:
    """Return the jobs without a result by a key of their rows, in their order."""
    grouped: dict[Any, list[AbsentRow]] = {}
    for each in absent:
        grouped.setdefault(key(each.row), []).append(each)
    return grouped


def _select_absent_tests(
    absent: Sequence[AbsentRow], first: Row, names: Sequence[str]
) -> Sequence[AbsentRow]:
    """Return the tests without a result that would belong to a mean of tests.

    Args:
        absent: Tests of the same model; only their model and data are known.
        first: A row of the mean.
        names: Names of the columns in which its rows differ.
    """
    if first[POOLED] or DATA in names:
        return absent
    return [each for each in absent if each.row.get(DATA) == first.get(DATA)]


def covarying_columns(results: RunResults, names: Sequence[str]) -> list[str]:
    """Return the columns that change whenever the value of a named column changes."""
    rows = results.rows
    distinct = {tuple(row.get(name) for name in names) for row in rows}
    # a model's ID is shown by its parts; for a program, the column is an ordinary option
    is_id = any(isinstance(model := row.get(MODEL), str) and read_model(model) for row in rows)
    without = {*names, JOB, *([MODEL] if is_id else [])}
    return [
        name
        for name in results.varying_columns
        if name not in without
        and len({row.get(name) for row in rows}) == len(distinct)
        and len({(row.get(name), *map(row.get, names)) for row in rows}) == len(distinct)
    ]


def mean_of(values: Sequence[float]) -> float:
    """Return the mean of at least one value, also if the sum of the values exceeds the largest float."""
    try:
        return statistics.fmean(values)
    except (OverflowError, ValueError):  # ValueError: inf and -inf
        return float(statistics.mean(values))


def mean_with_interval(values: Sequence[float]) -> Metric:
    """Return mean, deviation and interval of at least one value.

    One value has neither a deviation nor an interval. Values that are infinite, NaN or too large have none either.
    """
    count = len(values)
    if not all(map(math.isfinite, values)):
        return Metric(value=mean_of(values), n=count)
    try:
        mean = statistics.fmean(values)
        deviation = statistics.stdev(values) if count > 1 else 0.0
    except OverflowError:  # the sum or the deviation exceeds the largest float
        return Metric(value=mean_of(values), n=count)
    if count < 2:
        return Metric(value=mean, n=count)
    half = t_quantile(count - 1, CONFIDENCE) * deviation / count**0.5
    return Metric(value=mean, low=mean - half, high=mean + half, sd=deviation, n=count)


def _remove_settings(row: Row, names: Sequence[str], settings: Mapping[str, str]) -> dict[str, Any]:
    """Return the names of a row's model and test without the parts that some columns show."""
    keys = {settings.get(name, name).removeprefix("setting_") for name in names}
    named: dict[str, Any] = {}
    model = row.get(MODEL)
    parsed = read_model(model) if isinstance(model, str) else None
    if parsed is not None:
        named[MODEL] = "#".join(_drop_from_stage(stage, keys) for stage in parsed.stages)
    for name in (DATA, MODIFIER):
        if isinstance(text := row.get(name), str):
            condition = _drop_settings(condition_of_test(text), keys)
            named[name] = tested(data_of_test(text), condition)
    if isinstance(text := row.get(CONDITION), str):
        named[CONDITION] = _drop_settings(text, keys)
    return named


def _drop_from_stage(stage: Stage, keys: set[str]) -> str:
    variant = tuple(pair for pair in stage.variant if pair[0] not in keys)
    text = str(
        replace(
            stage,
            variant=variant,
            methods=() if OF_METHODS in keys else stage.methods,
            poison=None if keys & {OF_LABELS, LABELS_KIND} else stage.poison,
        )
    )
    return ANY + text.removeprefix(str(stage.data)) if OF_DATA in keys else text


def _drop_settings(condition: str, keys: set[str]) -> str:
    """Return a condition without some of its settings."""
    pairs = condition.split(",") if condition else []
    return ",".join(pair for pair in pairs if pair.partition("=")[0] not in keys)


def _key(row: Row, columns: Sequence[str], names: Sequence[str]) -> tuple[Any, ...]:
    """Return the key of the rows that differ only in some columns.

    For a model it is the ID: settings that change together with these columns would separate all rows.
    """
    parsed = isinstance(row.get(MODEL), str) and POOLED in row
    place = ROW_KEY_COLUMNS if parsed else [name for name in columns if name != JOB]
    values = [row.get(name) for name in place if name not in names]
    return (*values, *(value.__class__ for value in values))  # 1 and 1.0 are different texts


def _merge_rows(
    group: Sequence[Row],
    columns: Sequence[str],
    left_out_names: set[str],
    missing_values: MissingValues,
) -> Row:
    """Merge rows into one: their common values, and statistics of their numbers."""
    first, count = group[0], len(group)
    joined: dict[str, Any] = {name: _common_value(group, name) for name in columns if name in first}
    joined[COUNT] = count
    joined[EXPECTED] = count + sum(missing_values.why.values())
    joined[NOTE] = missing_values.note(count) if missing_values.why else None
    if VERDICT not in joined and any(isinstance(row.get(VERDICT), str) for row in group):
        joined[VERDICT] = _merge_verdicts([row.get(VERDICT) for row in group], missing_values.noun)
    for name in dict.fromkeys(name for row in group for name in row):
        if name in joined or name in left_out_names:
            continue
        numbers = [metric.value for row in group if (metric := read_metric(row.get(name)))]
        whole = all(isinstance(row.get(name), int) for row in group)
        same = _common_value(group, name)
        if whole and same is not None:  # such as a number of images
            joined[name] = same
        elif numbers:
            joined[name] = _mean(name, numbers, count, missing_values).to_json()
        else:
            joined[name] = same
    return joined


def _merge_verdicts(verdicts: Sequence[object], noun: str) -> str:
    """Return "chance" if all rows have this verdict, otherwise "chance (2 of 3 seeds); constant (1 of 3 seeds)"."""
    counts = Counter(str(verdict) for verdict in verdicts if verdict)
    if [*counts.values()] == [len(verdicts)]:
        return next(iter(counts))
    return "; ".join(f"{text} ({n} of {len(verdicts)} {noun})" for text, n in counts.most_common())


def _row_without_values(
    absent: Sequence[AbsentRow], columns: Sequence[str], names: Sequence[str], noun: str
) -> Row:
    """Return the row of a group in which no job has a result."""
    missing = MissingValues(noun, _reasons((), absent, names))
    return {
        **{name: _common_value([each.row for each in absent], name) for name in columns},
        COUNT: 0,
        EXPECTED: sum(missing.why.values()),
        NOTE: missing.note(0),
    }


def notes_of_groups(results: RunResults) -> list[str]:
    """Return a note for each mean from which values are missing, with the values that identify the mean."""
    varying = [name for name in results.varying_columns if name not in {*COUNTS, TRIAL}]
    return [
        f"{', '.join(f'{name}={row[name]}' for name in varying if row.get(name) is not None)} has {note}"
        for row in results.rows
        if varying and (note := row.get(NOTE))
    ]


def _mean(name: str, numbers: Sequence[float], count: int, missing_values: MissingValues) -> Metric:
    """Return the mean of the rows that have a finite value, with a note about missing values.

    If no value is finite, the mean is not either.

    Args:
        name: Name of the metric.
        numbers: Values.
        count: Number of rows.
        missing_values: Values without a row.
    """
    known = [number for number in numbers if math.isfinite(number)] or numbers
    further = {_NO_VALUE: count - len(numbers), _NOT_FINITE: len(numbers) - len(known)}
    why = {**missing_values.why, **{reason: number for reason, number in further.items() if number}}
    mean = _with_possible_interval(mean_with_interval(known), range_of(name, known))
    if not why:
        return mean
    note = missing_values._replace(why=why).note(len(known))
    return mean._replace(expected=len(known) + sum(why.values()), note=note)


def _with_possible_interval(mean: Metric, limits: tuple[float, float] | None) -> Metric:
    """Return a mean whose interval is within the range of its metric; of fewer than three values without one."""
    if mean.low is None or mean.high is None:
        return mean
    if mean.n is not None and mean.n < LEAST_FOR_INTERVAL:
        return mean._replace(low=None, high=None)
    if limits is None:
        return mean
    return mean._replace(low=max(mean.low, limits[0]), high=min(mean.high, limits[1]))


def _common_value(group: Sequence[Row], name: str) -> Any:
    """Return the common value of all rows, None if they differ."""
    value = group[0].get(name)
    return value if all(row.get(name) == value for row in group) else None
