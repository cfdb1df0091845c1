"""The kind `erased`: what a diffuser that forgot a concept still draws, and what comes back. No torch here."""

from collections.abc import Iterator
from pathlib import Path

from launcher.api import Draft, Input, Role
from trueface.erasing.measures.record import METRICS
from trueface.erasing.measures.settings import ErasedSettings
from trueface.jobs.generation.generation_kind import GenerationKind
from trueface.runtime import paths


def _inputs(draft: Draft) -> Iterator[Input]:
    settings = draft.settings
    yield Input(path=draft.path(settings["data_root"]), what="the folder of class folders")
    for what, key in (
        ("the diffuser", "diffuser"),
        ("the teacher", "teacher"),
        ("the classifier", "classifier"),
        ("the diffuser that never saw the concept,", "never"),
    ):
        if settings[key]:
            path = paths.checkpoint(draft.model_folder(settings[key]))
            yield Input(path=path, what=f"{what} {settings[key]}")


def _outputs(draft: Draft) -> Iterator[Path]:
    folder = draft.made_folder()
    yield folder
    yield folder / "made.json"
    yield folder / METRICS


ERASED = GenerationKind(
    name="erased",
    role=Role.FOLDER,
    summary="measure what a diffuser still draws of an erased concept, and what an attack recovers",
    entry="trueface.jobs.generation.forgetting.erased:erased",
    settings=ErasedSettings,
    reads=_inputs,
    makes=_outputs,
    results="trueface.erasing.measures.table:table",
)
