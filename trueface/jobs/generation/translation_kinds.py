"""The kinds `draw`, `translator` and `translate`: images, a generator that changes them, fakes. No torch here."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from launcher.api import Draft, Input, Role
from trueface.data.settings import DRAWN_MARK, DrawSettings
from trueface.data.vocabulary import picture_folder
from trueface.jobs.generation.generation_kind import generation_kind, inputs, made, model_files
from trueface.runtime import paths
from trueface.translation.settings import TranslateSettings, TranslatorSettings


def _drawing_outputs(draft: Draft) -> Iterator[Path]:
    """Yield the data root, and the mark in it: both appear at once."""
    data_root = draft.path(draft.settings["data_root"])
    yield data_root
    yield data_root / DRAWN_MARK


def _translator_inputs(draft: Draft) -> Iterator[Input]:
    settings = draft.settings
    if settings["weights"]:
        yield Input(path=draft.path(settings["weights"]), what="the authors' weights")
    if not settings["weights"] or not settings["labels"]:
        folder = picture_folder(draft.path(settings["data_root"]), draft.data or "")
        yield Input(path=folder, what="the folder of labelled images")


def _unfit_translator(draft: Draft, _: Sequence[Draft]) -> Iterator[str]:
    if draft.base is not None:
        yield f"{draft.model}: a translator begins anew and starts from no model; write model: null"


def _unfit_translation(draft: Draft, _: Sequence[Draft]) -> Iterator[str]:
    if not draft.settings["translator"]:
        yield (
            f"{draft.name}: translate needs a translator; write translator: and the ID of one, such as "
            "labelled:A"
        )


DRAW = generation_kind(
    name="draw",
    role=Role.DATA,
    summary="draw portraits or shapes, or make photographs smaller, for generators",
    entry="draw:draw",
    settings=DrawSettings,
    reads=inputs(
        {"source": "the folder of photographs", "attributes": "the table of their attributes"}
    ),
    makes=_drawing_outputs,
)
TRANSLATOR = generation_kind(
    name="translator",
    role=Role.TRAIN,
    summary="train a generator that changes attributes of images, or take its weights from a file",
    entry="translator:train_translator",
    settings=TranslatorSettings,
    sets=("labelled",),
    reads=_translator_inputs,
    makes=model_files(paths.provenance),
    refuses=_unfit_translator,
)
TRANSLATE = generation_kind(
    name="translate",
    role=Role.FOLDER,
    summary="make fakes of a folder's images, and a data root of real and fake for detectors",
    entry="translator:translate",
    settings=TranslateSettings,
    reads=inputs(
        {"source": "the folder of images to translate", "real": "the folder of real images"},
        {"translator": "the translator"},
    ),
    makes=made(),
    refuses=_unfit_translation,
)
