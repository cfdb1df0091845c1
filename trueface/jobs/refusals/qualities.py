"""Why a training must not run in its qualities, and a model not be scored in one."""

from collections.abc import Iterator
from pathlib import Path

from launcher.api import Draft
from trueface.corruptions.grammar import missing_programs
from trueface.data.qualities.names import lacking
from trueface.data.qualities.quality_list import QualityList
from trueface.runtime.errors import DataError
from trueface.training.qualities.settings import unfit_qualities
from trueface.training.settings import solver_of


def unfit_in_qualities(draft: Draft) -> Iterator[str]:
    """Yield why a training must not run with its qualities and their collaboration."""
    settings = draft.settings
    if not any(settings.get(name) for name in ("qualities", "quality_list", "collab")):
        return
    yield from unfit_qualities(settings)
    if solver_of(settings) == "ridge":
        yield (
            f"qualities: {draft.model} is fitted in closed form, which learns corrupted copies of its "
            "own (copies); leave qualities and collab out, or set solver: gradient"
        )
    if (settings["processes"] or draft.gpus) > 1:
        if settings["collab"]:
            yield (
                "collab measures the dependence within a whole batch, which several processes would "
                "divide; set gpus: 1, or leave processes out"
            )
        elif settings["dropout"]:
            yield (
                "qualities with dropout in several processes would draw other masks than in one; set "
                "dropout: 0, or gpus: 1"
            )
    if settings["quality_list"]:
        path = draft.path(settings["quality_list"])
        key = ("quality_list", path, settings["qualities"])
        yield from draft.once(key, lambda: tuple(_unfit_list(path, settings["qualities"])))


def uncorruptible(draft: Draft) -> Iterator[str]:
    """Yield why images cannot be corrupted here as a test or a benchmark asks for."""
    corrupt = draft.settings.get("corrupt", ())
    for chain in (corrupt,) if isinstance(corrupt, str) else corrupt:
        yield from missing_programs(chain)


def _unfit_list(path: Path, qualities: str) -> Iterator[str]:
    if not path.exists():  # an earlier job may make it; else it is said with the other inputs
        return
    try:
        content = QualityList.read(path)
    except DataError as error:
        yield str(error)
        return
    for name in lacking(qualities, content.files):
        yield (
            f"qualities: {name} is neither a corruption nor a list of {path}, which has "
            f"{', '.join(content.files)}"
        )
