"""The rows of a run that a generators' kind makes, as `launcher results` prints them."""

import importlib
from collections.abc import Callable, Sequence
from importlib.metadata import entry_points
from pathlib import Path

from trueface.jobs.job_kind import JobKind
from trueface.report.generation.made_folders import Made, tests_of
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
