"""The views of a database of results: all results, the best model of each run, failures."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from launcher.experiments.kinds import find_kinds
from launcher.experiments.results.database_tables import PARTS, TABLES, quote_name
from launcher.experiments.results.metric_direction import Direction, direction_of
from launcher.experiments.results.returned_rows import FAILED, INCOMPLETE, PRUNED, TRIAL
from launcher.experiments.results.table import (
    CONDITION,
    DATA,
    MODEL,
    MODIFIER,
    POOLED,
)
from launcher.queue.jobs.job import FUNCTION, PROGRAM

if TYPE_CHECKING:
    from sqlite_utils import Database

_LOW_END = "_low"  # suffix of the lower bound of an interval
_ORDERS = {Direction.MIN: "", Direction.MAX: " DESC"}
_FEW = 40  # metrics whose best models are listed
_LARGEST = sys.float_info.max  # larger numbers are infinite; texts are larger than numbers
_COUNTS = "scores.superseded IS NOT 1"  # one job per name of a run
_FAILURES = (
    "SELECT runs.name AS run, jobs.name AS job, errors.attempt, attempts.ending,"
    " attempts.exit_code, attempts.device, attempts.ended, errors.error, jobs.state, errors.id,"
    " errors.job AS job_id"
    " FROM errors JOIN jobs ON jobs.id = errors.job JOIN runs ON runs.id = jobs.run"
    " JOIN attempts ON attempts.job = errors.job AND attempts.number = errors.attempt"
)


def create_views(database: "Database") -> None:
    """Create the views again if columns were added or removed.

    The kinds of all jobs of the database define the direction of metrics.

    Args:
        database: Database with all tables and columns.
    """
    kinds = find_kinds(
        [str(name) for (name,) in database.execute("SELECT DISTINCT kind FROM jobs ORDER BY kind")]
    ).kinds.values()
    columns = database.table("scores").columns_dict
    ours = TABLES["scores"].columns
    measured = [name for name in columns if name not in ours]
    swept = _distinct_names(
        database, "settings WHERE swept = 1 AND job IN (SELECT maker FROM scores)"
    )
    programs = f"SELECT id FROM jobs WHERE kind IN ('{PROGRAM}', '{FUNCTION}')"
    of_programs = _distinct_names(database, f"metrics WHERE job IN ({programs})")
    numbers = [
        name
        for name in measured
        if (columns[name] in {int, float} or name in of_programs) and name not in swept
    ]
    # numbers with an interval and numbers of programs were measured; others may be a threshold or a time
    metrics = [n for n in numbers if f"{n}{_LOW_END}" in columns or n in of_programs] or numbers
    database.create_view("results", _results(swept, measured), replace=True)
    known = [
        (name, found)
        for name in metrics
        if (found := direction_of(name, kinds, is_table_column=name not in of_programs))
    ]
    database.create_view("best", _best(known[:_FEW], has_marks=TRIAL in columns), replace=True)
    database.create_view("failures", _FAILURES, replace=True)


def _distinct_names(database: "Database", source: str) -> list[str]:
    """Return the distinct names of a part of a query."""
    rows = database.execute(f"SELECT DISTINCT name FROM {source} ORDER BY name")
    return [str(name) for (name,) in rows]


def _results(swept_names: Sequence[str], measured_names: Sequence[str]) -> str:
    """Return the query of all results, one row each, with the swept settings of the models.

    If a run does not sweep a setting that another run sweeps, all of its models have the same value. SQL does not
    distinguish LR and lr, so they are one column. A setting LOSS is the column setting_LOSS if a result is called loss.
    """
    swept_names = [name for name in swept_names if name not in TABLES["scores"].columns]
    spellings: dict[str, list[str]] = {}
    for name in swept_names:
        spellings.setdefault(name.lower(), []).append(name)
    measured = {name.lower(): name for name in measured_names}
    settings = {}
    for key, names in spellings.items():
        name = names[0]
        if key in measured and measured[key] not in names:
            name = f"setting_{name}"
        elif key in map(str.lower, TABLES["scores"].columns):
            name = f"{name}_2"  # as `write` names it
        name = measured.get(name.lower(), name)
        settings[name] = (
            f"coalesce({f'scores.{quote_name(name)}' if name in measured_names else 'NULL'},"
            " (SELECT value FROM settings WHERE settings.job = scores.maker"
            f" AND settings.name IN ({', '.join(map(_quote_text, names))}))) AS {quote_name(name)}"
        )
    columns = [
        "runs.name AS run",
        *(f"scores.{quote_name(name)}" for name in (MODEL, *PARTS)),
        *settings.values(),
        *(f"scores.{quote_name(name)}" for name in (DATA, MODIFIER, CONDITION, POOLED)),
        *(f"scores.{quote_name(name)}" for name in measured_names if name not in settings),
        "scores.test",
        "scores.maker",
        "scores.row AS name",
    ]
    return (
        f"SELECT {', '.join(columns)} FROM scores JOIN runs ON runs.id = scores.run WHERE {_COUNTS}"
    )


def _best(metrics: Sequence[tuple[str, Direction]], *, has_marks: bool) -> str:
    """Return the query of the best model of each run per data set and metric, and of those that equal it.

    NaN is stored as NULL.

    Args:
        metrics: Metrics with a known direction.
        has_marks: Whether a column marks trials that are not complete.
    """
    if not metrics:
        return (
            "SELECT NULL AS run, NULL AS data, NULL AS metric, NULL AS model, NULL AS value WHERE 0"
        )
    marks = ", ".join(map(_quote_text, (PRUNED, INCOMPLETE, FAILED)))
    complete = f" AND coalesce({quote_name(TRIAL)}, '') NOT IN ({marks})" if has_marks else ""
    return " UNION ALL ".join(
        f"SELECT run, data, {_quote_text(name)} AS metric, model, value FROM ("
        f"SELECT runs.name AS run, data, coalesce(model, row) AS model, {quote_name(name)} AS value,"
        f" rank() OVER (PARTITION BY scores.run, data ORDER BY {quote_name(name)}{_ORDERS[direction]}) AS place"
        " FROM scores JOIN runs ON runs.id = scores.run"
        f" WHERE pooled = 0 AND {_COUNTS} AND {quote_name(name)} BETWEEN -{_LARGEST} AND {_LARGEST}{complete}"
        ") WHERE place = 1"
        for name, direction in metrics
    )


def _quote_text(value: str) -> str:
    """Return a text as an SQL literal."""
    return "'" + value.replace("'", "''") + "'"
