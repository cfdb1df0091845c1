"""The kinds `draw`, `translator` and `translate`: images, a generator that changes them, fakes. Imports no torch."""

from collections.abc import Iterator

from launcher.api import Draft, Input, Role
from trueface.data.settings import DRAWN_MARK, DrawSettings
from trueface.data.vocabulary import DataIdResolver
from trueface.generators.image_sets import picture_folder
from trueface.generators.jobs.generation_kind import GenerationKind
from trueface.generators.jobs.rules import RULES
from trueface.generators.translation.settings import TranslateSettings, TranslatorSettings
from trueface.jobs.job_kind import (
    data_root_outputs,
    inputs_from_settings,
    model_files,
    output_folder_files,
)
from trueface.runtime import paths


def _translator_inputs(draft: Draft, _: DataIdResolver) -> Iterator[Input]:
    settings = draft.settings
    if settings["weights"]:
        yield Input(path=draft.path(settings["weights"]), what="the authors' weights")
    if not settings["weights"] or not settings["labels"]:
        folder = picture_folder(draft.path(settings["data_root"]), draft.data or "")
        yield Input(path=folder, what="the folder of labelled images")


DRAW = GenerationKind(
    name="draw",
    role=Role.DATA,
    summary="draw portraits or shapes, or resize photographs",
    entry="trueface.generators.jobs.draw:draw",
    settings=DrawSettings,
    input_readers=(
        inputs_from_settings(
            {"source": "the folder of photographs", "attributes": "the table of their attributes"}
        ),
    ),
    list_outputs=data_root_outputs(DRAWN_MARK),
)
TRANSLATOR = GenerationKind(
    name="translator",
    role=Role.TRAIN,
    summary="train or import a generator that changes attributes of images",
    entry="trueface.generators.jobs.translator:train_translator",
    settings=TranslatorSettings,
    sets=("labelled",),
    input_readers=(_translator_inputs,),
    list_outputs=model_files(paths.provenance),
    rules=RULES["translator"],
)
TRANSLATE = GenerationKind(
    name="translate",
    role=Role.FOLDER,
    summary="make fakes of images, and a data set with both",
    entry="trueface.generators.jobs.translator:translate",
    settings=TranslateSettings,
    input_readers=(
        inputs_from_settings(
            {"source": "the folder of images to translate", "real": "the folder of real images"},
            {"translator": "the translator"},
        ),
    ),
    list_outputs=output_folder_files(),
    rules=RULES["translate"],
)
