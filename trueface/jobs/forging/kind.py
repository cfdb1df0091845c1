"""The kind `forge`: one job makes fakes of real faces, and a data root of both. No torch here."""

import os
from collections.abc import Iterator

from launcher.api import Draft, Role, UsageError
from trueface.data.forging.plan import MARK, make_plan, read_faces
from trueface.data.forging.settings import ForgeSettings
from trueface.jobs.job_kind import (
    LaboratoryKind,
    command_line,
    data_root_outputs,
    inputs_from_settings,
)
from trueface.jobs.rule import PlanCheck


def _line(draft: Draft) -> Iterator[str]:
    """Return the command line of `trueface forge`."""
    faces, root = (str(draft.path(draft.settings[name])) for name in ("faces", "data_root"))
    head = ("forge", faces, "--out", root)
    return command_line(draft, ForgeSettings, *head, excluded_settings=("data_root", "faces"))


@PlanCheck
def _find_faults(draft: Draft, *_: object) -> Iterator[str]:
    """Yield the faults of the face table, and of cells that name its groups."""
    faces = draft.path(draft.settings["faces"])
    if os.path.exists(faces):  # noqa: PTH110  # a Path raises for what may not be looked at; else it is said already
        try:
            table = draft.once(("faces", faces), lambda: read_faces(faces))  # strengths share it
            make_plan(table, ForgeSettings.model_validate(draft.settings))
        except UsageError as error:
            yield str(error)


FORGE = LaboratoryKind(
    name="forge",
    role=Role.DATA,
    summary="make a data set with fakes of aligned faces",
    entry="trueface.jobs.forging.forge:forge",
    settings=ForgeSettings,
    input_readers=(
        inputs_from_settings({"faces": "the table of real faces, or the folder of aligned faces"}),
    ),
    list_outputs=data_root_outputs(MARK),
    build_command=_line,
    rules=(_find_faults,),
)
