"""The kind `translator`: one job trains a StarGAN, or takes its authors' weights. No torch here."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from launcher.api import Draft, Input, Role
from trueface.data.picture_sets import picture_folder
from trueface.jobs.generation.generation_kind import GenerationKind
from trueface.runtime import paths
from trueface.translation.settings import TranslatorSettings


def _inputs(draft: Draft) -> Iterator[Input]:
    settings = draft.settings
    if settings["weights"]:
        yield Input(path=draft.path(settings["weights"]), what="the authors' weights")
    if not settings["weights"] or not settings["labels"]:
        folder = picture_folder(draft.path(settings["data_root"]), draft.data or "")
        yield Input(path=folder, what="the folder of labelled images")


def _outputs(draft: Draft) -> Iterator[Path]:
    """Yield the checkpoint, and what it was made of."""
    folder = draft.model_folder(draft.model or "")
    yield paths.checkpoint(folder)
    yield paths.provenance(folder)


def _unfit(draft: Draft, _: Sequence[Draft]) -> Iterator[str]:
    if draft.base is not None:
        yield f"{draft.model}: a translator begins anew and starts from no model; write model: null"


TRANSLATOR = GenerationKind(
    name="translator",
    role=Role.TRAIN,
    summary="train a generator that changes attributes of images, or take its weights from a file",
    entry="trueface.jobs.generation.translator:train_translator",
    settings=TranslatorSettings,
    sets=("labelled",),
    reads=_inputs,
    makes=_outputs,
    refuses=_unfit,
)
