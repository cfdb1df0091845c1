"""Views that people want: results wide, the best model for each set of data, failures."""

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from launcher.kind_interface import Kind
from launcher.results.columns import CONDITION, DATA, MODEL, MODIFIER, POOLED, lower_is_better
from launcher.results.database.schema import TABLES, quoted
from launcher.results.models import PARTS

if TYPE_CHECKING:
    from sqlite_utils import Database

_LOW_END = "_low"  # of an interval, behind the name of the number
_FEW = 40  # metrics of which the best are listed


def make_views(database: "Database", kinds: Collection[Kind]) -> None:
    """Make the views anew where a column came or went.

    Args:
        database: with all tables and columns.
        kinds: those whose results it holds; they say which metrics are better low.
    """
    columns = database.table("scores").columns_dict
    ours = TABLES["scores"].columns
    measured = [name for name in columns if name not in ours]
    swept = [
        str(name)
        for (name,) in database.execute(
            "SELECT DISTINCT settings.name FROM settings JOIN jobs ON jobs.id = settings.job"
            " WHERE swept = 1 AND role IN ('train', 'unlearn') ORDER BY settings.name"
        )
    ]
    numbers = [name for name in measured if columns[name] in {int, float} and name not in swept]
    # what has an interval was measured; other numbers may be a threshold, or a time
    metrics = [name for name in numbers if f"{name}{_LOW_END}" in columns] or numbers
    database.create_view("results", _results(swept, measured), replace=True)
    low = {name for name in metrics if lower_is_better(name, kinds)}
    database.create_view("best", _best(metrics[:_FEW], low), replace=True)
    database.create_view("failures", _FAILURES, replace=True)


def _results(swept: Sequence[str], measured: Sequence[str]) -> str:
    """Return the query of all results, a row each, with the swept settings of the models.

    Where a run does not sweep a setting that another one sweeps, all of its models have one value.
    """
    swept = [name for name in swept if name not in TABLES["scores"].columns]
    settings = [
        f"coalesce({f'scores.{quoted(name)}' if name in measured else 'NULL'},"
        " (SELECT value FROM settings WHERE settings.job = scores.maker"
        f" AND settings.name = {_text(name)})) AS {quoted(name)}"
        for name in swept
    ]
    columns = [
        "runs.name AS run",
        *(f"scores.{quoted(name)}" for name in (MODEL, *PARTS)),
        *settings,
        *(f"scores.{quoted(name)}" for name in (DATA, MODIFIER, CONDITION, POOLED)),
        *(f"scores.{quoted(name)}" for name in measured if name not in swept),
        "scores.test",
        "scores.maker",
    ]
    return f"SELECT {', '.join(columns)} FROM scores JOIN runs ON runs.id = scores.run"


def _best(metrics: Sequence[str], low: Collection[str]) -> str:
    """Return the query of the best model of each run for each set of data, by each metric.

    A column without an aggregate is that of the row with the extreme value (SQLite, "bare columns").
    """
    if not metrics:
        return (
            "SELECT NULL AS run, NULL AS data, NULL AS metric, NULL AS model, NULL AS value WHERE 0"
        )
    return " UNION ALL ".join(
        f"SELECT runs.name AS run, data, {_text(name)} AS metric, model,"
        f" {'min' if name in low else 'max'}({quoted(name)}) AS value"
        " FROM scores JOIN runs ON runs.id = scores.run"
        f" WHERE pooled = 0 AND {quoted(name)} IS NOT NULL GROUP BY scores.run, data"
        for name in metrics
    )


_FAILURES = (
    "SELECT runs.name AS run, jobs.name AS job, errors.attempt, attempts.ending,"
    " attempts.exit_code, attempts.device, attempts.ended, errors.error, jobs.state, errors.id,"
    " errors.job AS job_id"
    " FROM errors JOIN jobs ON jobs.id = errors.job JOIN runs ON runs.id = jobs.run"
    " JOIN attempts ON attempts.job = errors.job AND attempts.number = errors.attempt"
)


def _text(value: str) -> str:
    """Return a text as SQL has it."""
    return "'" + value.replace("'", "''") + "'"
