"""The kind `forge`: one job makes fakes of real faces, and a data root of both. No torch here."""

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from launcher.api import Draft, Input, Role, UsageError
from trueface.data.forging.plan import MARK, ForgeSettings, plan_of, read_faces
from trueface.data.vocabulary import Vocabulary
from trueface.jobs.flags import words
from trueface.jobs.job_kind import PROGRAM
from trueface.jobs.kinds import LaboratoryKind


def _inputs(draft: Draft, _: Vocabulary) -> Iterator[Input]:
    yield Input(
        path=draft.path(draft.settings["faces"]),
        what="the table of real faces, or the folder of aligned faces",
    )


def _outputs(draft: Draft) -> Iterator[Path]:
    """Yield the data root, and the mark in it: both appear at once."""
    data_root = draft.path(draft.settings["data_root"])
    yield data_root
    yield data_root / MARK


def _line(draft: Draft) -> Iterator[str]:
    """Yield the command line of `trueface forge`."""
    places = ("data_root", "faces")
    others = {key: value for key, value in draft.settings.items() if key not in places}
    yield from (*PROGRAM, "forge", str(draft.path(draft.settings["faces"])))
    yield from ("--out", str(draft.path(draft.settings["data_root"])))
    yield from words(others, ForgeSettings)


def _unfit(draft: Draft, _: Sequence[Draft], __: Vocabulary) -> Iterable[str]:
    """Yield what is wrong with the table of faces, or with cells that name its groups."""
    faces = draft.path(draft.settings["faces"])
    if os.path.exists(faces):  # noqa: PTH110  # a Path raises for what may not be looked at; else it is said already
        try:
            table = draft.once(("faces", faces), lambda: read_faces(faces))  # of several strengths
            plan_of(table, ForgeSettings.model_validate(draft.settings))
        except UsageError as error:
            yield str(error)


FORGE = LaboratoryKind(
    name="forge",
    role=Role.DATA,
    summary="make fakes of real faces, an image set of both and its splits",
    entry="trueface.jobs.forging.forge:forge",
    settings=ForgeSettings,
    means=Vocabulary.as_named,
    reads=_inputs,
    makes=_outputs,
    line=_line,
    refuses=_unfit,
)
