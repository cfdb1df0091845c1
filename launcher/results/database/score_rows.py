"""The rows of a run's scores and epochs, as its laboratories tell them."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from launcher.kind_interface import HasEpochs, Kind
from launcher.results.columns import DATA, MODEL, POOLED, Row, RunResults
from launcher.results.database.upsert import PLAIN, plain
from launcher.results.models import Models
from launcher.results.rows import laboratory_function, test_name
from launcher.screens.result_table import read_metric
from launcher.store.rows import JobRow

_INTERVAL = frozenset({"value", "low", "high"})  # of a number, as laboratories write it
OURS = frozenset({"id", "run", "row", "test", "maker", "job"})  # columns that no laboratory gives


def score_rows(
    results: RunResults,
    jobs: Sequence[JobRow],
    rows: Mapping[int, int],
    kinds: Mapping[str, Kind],
    makers: Mapping[str, int],
) -> Iterator[dict[str, Any]]:
    """Yield the rows of results, flat: a number with an interval makes three columns.

    Args:
        results: of a run.
        jobs: of the run.
        rows: number of a job → its row.
        kinds: of the jobs.
        makers: model → the row of the job that made it.
    """
    tests = {
        (str(job.plain_spec.model), test_name(kinds.get(job.kind), job.plain_spec)): rows[job.id]
        for job in jobs
        if job.plain_spec.model and job.plain_spec.data
    }
    names: dict[str, int] = {}
    for row in results.rows:
        model, data = row.get(MODEL), row.get(DATA)
        label = _label(row)
        names[label] = times = names.get(label, 0) + 1
        yield {
            "row": label if times == 1 else f"{label} ({times})",
            "test": None if row.get(POOLED) else tests.get((str(model), str(data))),
            "maker": makers.get(model) if isinstance(model, str) else None,
            **flat(row),
        }


def maker_rows(models: Models, jobs: Sequence[JobRow], rows: Mapping[int, int]) -> dict[str, int]:
    """Return model → the row of the job that made it."""
    by_name = {job.name: rows[job.id] for job in jobs}
    return {
        model: by_name[spec.name] for model, spec in models.makers.items() if spec.name in by_name
    }


def _label(row: Row) -> str:
    """Return what a row is of, in words; two rows of a run have hardly the same."""
    if POOLED not in row:
        return " · ".join(str(value) for value in row.values() if isinstance(value, str) and value)
    parts = (row.get(MODEL), row.get(DATA), row.get("data_root"))
    return " · ".join(str(part) for part in parts if part)


def flat(row: Row) -> dict[str, Any]:
    """Return a row with a column for each number: value, low end and high end of an interval."""
    cells: dict[str, Any] = {}
    for key, value in row.items():
        name = f"{key}_" if key in OURS else key
        if value is None or value.__class__ in PLAIN:  # these two are most by far
            cells[name] = value
        elif value.__class__ is dict and value.keys() == _INTERVAL:
            cells[name] = value["value"]
            cells[f"{name}_low"], cells[f"{name}_high"] = value["low"], value["high"]
        elif isinstance(value, Mapping) and (metric := read_metric(value)) is not None:
            cells[name] = metric.value
            cells[f"{name}_low"], cells[f"{name}_high"] = metric.low, metric.high
        else:
            cells[name] = plain(value)
    return cells


def epoch_rows(
    jobs: Sequence[JobRow], kinds: Mapping[str, Kind], makers: Mapping[str, int]
) -> Iterator[dict[str, Any]]:
    """Yield the epochs of the models of a run, each with the row of the job that made them."""
    for name, kind in kinds.items():
        if not isinstance(kind, HasEpochs) or not kind.epochs:
            continue
        specs = [job.plain_spec for job in jobs if job.kind == name and job.plain_spec.model]
        models = list(dict.fromkeys(str(spec.model) for spec in specs))
        if models:
            folder: Path = specs[0].run_folder
            for record in laboratory_function(kind.epochs)(folder, models):
                cells = {f"{key}_" if key in OURS else key: value for key, value in record.items()}
                yield {"job": makers.get(str(record[MODEL])), **cells}
