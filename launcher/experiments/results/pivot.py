"""One metric by model and data."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from launcher.experiments.results.metric import Metric, read_metric
from launcher.experiments.results.table import EXPECTED, LIST_COMMAND, NOTE, ROW_KEY_COLUMNS
from launcher.system.errors import UsageError, list_known_names, meant
from launcher.system.files import Json
from launcher.system.text import sanitize_terminal


class ResultMetrics(NamedTuple):
    """The numbers of one model on one data set, or of one job without both."""

    name: str  # name of the model, otherwise of the job
    data: str
    metrics: Mapping[str, Metric]
    job: str = ""  # the job that returned them, if one did
    pooled: bool = False


class Pivot(NamedTuple):
    """One metric by name and data, both in the order of the run."""

    metric: str
    names: tuple[str, ...]
    data: tuple[str, ...]  # the name of the metric for values without data
    cells: Mapping[tuple[str, str], Metric]

    def rows(self) -> Iterator[tuple[str, tuple[Metric | None, ...]]]:
        """Yield each name with its numbers, one per element of `data`."""
        for name in self.names:
            yield name, tuple(self.cells.get((name, data)) for data in self.data)

    def to_json(self) -> dict[str, Json]:
        """Return the pivot as JSON, one record per number."""
        values: list[Json] = [
            {
                "model": name,
                "data": None if data == self.metric else data,
                "value": metric.value,
                "low": metric.low,
                "high": metric.high,
                **({} if metric.n is None else _counts(metric)),
                **({} if metric.note is None else {"note": metric.note}),
                **({} if metric.why is None else {"why": metric.why}),
                **({} if metric.images is None else _image_interval(metric.images)),
            }
            for (name, data), metric in self.cells.items()
        ]
        return {"metric": self.metric, "values": values}


def _image_interval(metric: Metric) -> dict[str, Json]:
    """Return the interval over images of a result whose other interval is over two sources."""
    return {"images": {"low": metric.low, "high": metric.high}}


def _counts(metric: Metric) -> dict[str, Json]:
    """Return the number of values of a mean."""
    expected = metric.n if metric.expected is None else metric.expected
    return {"sd": metric.sd, "n": metric.n, "expected": expected, "note": metric.note}


def metrics_of_rows(
    rows: Iterable[Mapping[str, Any]], columns: Collection[str] = ROW_KEY_COLUMNS
) -> list[ResultMetrics]:
    """Return the numbers of the rows of a plugin package.

    Args:
        rows: Rows of the plugin package.
        columns: Columns that identify a row and contain no results.
    """
    return [
        ResultMetrics(
            name=_name(row, columns),
            data=row["data"] if "pooled" in row else "",
            pooled=bool(row.get("pooled")),
            metrics=_numbers({k: v for k, v in row.items() if k not in columns}),
        )
        for row in rows
    ]


def _name(row: Mapping[str, Any], columns: Collection[str]) -> str:
    """Return the model of a test's row; for other rows, the job, the first other text or the identifying values."""
    if "pooled" in row:
        return str(row["model"])
    settings = {*columns} - {"job", *ROW_KEY_COLUMNS}
    for name, value in row.items():
        if isinstance(value, str) and value and name != NOTE and name not in settings:
            return value
    shown = (name for name in columns if name not in {EXPECTED, NOTE})
    return " ".join(f"{name}={row[name]}" for name in shown if row.get(name) is not None)


def metrics_of_result(job: str, model: str, data: str, result: Mapping[str, Json]) -> ResultMetrics:
    """Return the numbers of a job's result; nested ones are named `outer.inner`."""
    return ResultMetrics(name=model or job, data=data, job=job, metrics=_numbers(result))


def _numbers(record: Mapping[str, Any]) -> dict[str, Metric]:
    metrics = ((name, read_metric(value)) for name, value in flatten_record(record))
    return {name: metric for name, metric in metrics if metric is not None}


def flatten_record(record: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield all values of a record, nested ones as `outer.inner`; a number with its interval is one value."""
    for key, value in record.items():
        if isinstance(value, Mapping) and read_metric(value) is None:
            yield from flatten_record(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def metric_names(results: Iterable[ResultMetrics]) -> list[str]:
    """Return the names of all metrics, in order of their first appearance."""
    return list(dict.fromkeys(name for row in results for name in row.metrics))


def pivot(
    metric: str,
    rows: Sequence[ResultMetrics],
    results: Sequence[ResultMetrics],
    *,
    everything: bool = False,
) -> Pivot:
    """Return one metric by model and data.

    Args:
        metric: Name of the metric.
        rows: Rows of plugin packages; `results` are used only if no row has the metric.
        results: Results of jobs.
        everything: Include rows that pool others. Without it, they are used only if there
            are no others.

    Raises:
        UsageError: the metric does not exist; the message lists the existing ones.
    """
    having = [row for row in rows if metric in row.metrics]
    if not everything:
        having = [row for row in having if not row.pooled] or having
    having = having or [row for row in results if metric in row.metrics]
    if not having:
        raise UsageError(_unknown_metric_text(metric, metric_names([*rows, *results])))
    places = [(row.name, row.data) for row in having]
    if len(set(places)) < len(places):  # several jobs of a model: each has its own row
        places = [(row.job or row.name, row.data) for row in having]
    cells = {
        (name, data or metric): row.metrics[metric]
        for (name, data), row in zip(places, having, strict=True)
    }
    return Pivot(
        metric=metric,
        names=tuple(dict.fromkeys(name for name, _ in cells)),
        data=tuple(dict.fromkeys(data for _, data in cells)),
        cells=cells,
    )


def _unknown_metric_text(metric: str, names: Sequence[str]) -> str:
    if not names:
        return (
            f"there is no metric {metric!r} yet, because no job of the run has reported a number. "
            "To see their progress: launcher status"
        )
    shown = [*map(sanitize_terminal, names)]
    known = f"{meant(metric, names)} ({list_known_names(metric, shown, LIST_COMMAND)})"
    return f"no job of the run reported the metric {metric!r}{known}"
