"""What both lists of generators have in common: the rows of a kind in a run, and their tables for a screen."""

import importlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import entry_points
from pathlib import Path

from trueface.cli.text_tables import aligned, shown
from trueface.evaluation.over_seeds import NO_VALUE
from trueface.jobs.job_kind import JobKind
from trueface.report.generation.rows import Made, Row, tests_of
from trueface.report.json_fields import number_of, text_of
from trueface.runtime.errors import DataError
from trueface.runtime.files import Json

GROUP = "launcher.kinds"
Rows = list[dict[str, Json]]


def rows_of_kind(kind_name: str, run_folder: Path, folders: Sequence[Made]) -> Rows:
    """Return one row a method.

    Args:
        kind_name: of the kind that measured: "restored" or "erased".
        run_folder: runs/<run>.
        folders: what jobs of the kind made.

    Raises:
        DataError: there are none.
    """
    if not folders:
        raise DataError(
            f"{run_folder} holds no folder of a job of {kind_name!r}: run its task file first"
        )
    (point,) = entry_points(group=GROUP, name=kind_name)
    kind: JobKind = point.load()
    module, _, function = kind.results.partition(":")
    table: Callable[[Path, Sequence[tuple[str, str]]], Rows] = getattr(
        importlib.import_module(module), function
    )
    return table(run_folder, tests_of(folders))


PURIFIERS = ("mse_adaptive", "mse", "price_clean", "psnr", "ssim", "share", "net_calls", "seconds")
METHODS = ("erased", "anchor", "others", "ssim", "null_drift", "recovery", "seconds")
ATTACKS = ("eps", "linf", "rms", "mse", "share", "ratio")


def method_lines(rows: Sequence[Row], columns: Sequence[str]) -> list[str]:
    """Return a table with one line a method, ± over seeds."""
    listed: list[tuple[str, ...]] = [("method", *columns, "seeds")]
    for row in rows:
        cells = (_number(row.mean(name), row.mean(f"{name}_sd")) for name in columns)
        listed.append((shown(row.name), *cells, _number(row.mean("seeds"))))
    return aligned(listed)


def attack_lines(records: Sequence[Mapping[str, Json]]) -> list[str]:
    """Return a table with one line an attack; nothing where there is none."""
    listed: list[tuple[str, ...]] = [("attack", "target", *ATTACKS)]
    for record in records:
        names = (text_of(record, "attack"), text_of(record, "target") or NO_VALUE)
        cells = (_number(number_of(record, name)) for name in ATTACKS)
        listed.append((*map(shown, names), *cells))
    return aligned(listed, left=2) if records else []


def verdict_lines(sentences: Iterable[str]) -> list[str]:
    """Return sentences as lines of their own."""
    return [shown(sentence) for sentence in sentences]


def _number(value: float | None, sd: float | None = None) -> str:
    if value is None:
        return NO_VALUE
    return f"{value:.3g}" + ("" if sd is None else f" ± {sd:.2g}")
