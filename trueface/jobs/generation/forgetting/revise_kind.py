"""The kind `revise`: real images inverted and drawn anew by an edited diffuser. No torch here."""

from collections.abc import Iterator
from pathlib import Path

from launcher.api import Draft, Input, Role
from trueface.erasing.measures.settings import ReviseSettings
from trueface.jobs.generation.generation_kind import GenerationKind
from trueface.runtime import paths


def _inputs(draft: Draft) -> Iterator[Input]:
    settings = draft.settings
    yield Input(path=draft.path(settings["source"]), what="the folder of real images")
    for what, key in (
        ("the edited diffuser", "diffuser"),
        ("the teacher", "teacher"),
        ("the classifier", "classifier"),
    ):
        if settings[key]:
            path = paths.checkpoint(draft.model_folder(settings[key]))
            yield Input(path=path, what=f"{what} {settings[key]}")


def _outputs(draft: Draft) -> Iterator[Path]:
    yield draft.made_folder()
    yield draft.made_folder() / "made.json"


REVISE = GenerationKind(
    name="revise",
    role=Role.FOLDER,
    summary="draw real images anew by an edited diffuser: DDIM inversion, then sampling",
    entry="trueface.jobs.generation.forgetting.revise:revise",
    settings=ReviseSettings,
    reads=_inputs,
    makes=_outputs,
)
