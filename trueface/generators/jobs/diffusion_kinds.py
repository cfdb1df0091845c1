"""The kinds `diffuser`, `erase`, `erased` and `revise`: diffusion models and concept erasing. Imports no torch."""

from collections.abc import Iterator

from launcher.api import Draft, Input, Role
from trueface.data.vocabulary import DataIdResolver
from trueface.generators.diffusion.settings import DiffuserSettings, training_folder
from trueface.generators.erasing.registry import (
    METHODS,
    ErasedSettings,
    EraseSettings,
    ReviseSettings,
)
from trueface.generators.jobs.generation_kind import GenerationKind
from trueface.generators.jobs.rules import CLASSES, RULES
from trueface.jobs.job_kind import (
    checkpoint_input,
    inputs_from_settings,
    model_files,
    output_folder_files,
)
from trueface.runtime import paths

# numbers of `erased` that are better low: rates of the erased concept, and distances from the teacher
LOW = frozenset(
    {"erased", "recovery", "recovery_floor", "recovery_ceiling", "seconds"}
    | {"feature_distance", "frechet", "frechet_floor", "null_drift", "fid", "kid"}
    | {"nudenet"}
)
_ASKED = {"diffuser": "the diffuser", "teacher": "the teacher", "classifier": "the classifier"}


def _diffuser_inputs(draft: Draft, _: DataIdResolver) -> Iterator[Input]:
    """Yield the folder of images, or the weights that take their place."""
    weights = draft.settings["weights"]
    if weights:
        noun = "the folder of a Stable Diffusion model, with model_index.json in it"
        yield Input(path=draft.path(weights), what=noun)
        if draft.settings["prompts"]:
            yield Input(path=draft.path(draft.settings["prompts"]), what="the file of prompts")
        return
    root = draft.path(draft.settings["data_root"])
    yield Input(path=training_folder(root, draft.data or ""), what="the folder of images")


def _erasing_inputs(draft: Draft, _: DataIdResolver) -> Iterator[Input]:
    if draft.base is not None:
        yield checkpoint_input(draft, draft.base, "the diffuser")
    method = METHODS[draft.settings["method"]]
    if draft.settings["images"] and "images" in method.defaults:
        yield Input(
            path=draft.path(draft.settings["images"]), what="the folder of the concept's images"
        )
    if draft.settings["data_root"] and "images" in method.needs:
        root = draft.path(draft.settings["data_root"])
        yield Input(path=root, what="the folder of the diffuser's training images")


DIFFUSER = GenerationKind(
    name="diffuser",
    role=Role.TRAIN,
    summary="train a diffusion model",
    entry="trueface.generators.jobs.diffuser:train_diffuser",
    settings=DiffuserSettings,
    sets=("images", CLASSES),
    input_readers=(_diffuser_inputs,),
    list_outputs=model_files(paths.summary),
    rules=RULES["diffuser"],
)
ERASE = GenerationKind(
    name="erase",
    role=Role.METHOD,
    summary="erase a concept (a class) from a diffuser",
    entry="trueface.generators.jobs.erase:erase",
    settings=EraseSettings,
    sets=("classes",),
    input_readers=(_erasing_inputs,),
    list_outputs=model_files(paths.erasing),
    rules=RULES["erase"],
)
ERASED = GenerationKind(
    name="erased",
    role=Role.FOLDER,
    summary="measure how well a concept is erased and can be recovered",
    entry="trueface.generators.jobs.erasure_measurement:measure_erased_diffuser",
    settings=ErasedSettings,
    input_readers=(
        inputs_from_settings(
            {
                "data_root": "the folder of class folders",
                "inception": "InceptionV3's weights",
                "clip": "the folder of a CLIP model",
            },
            {**_ASKED, "never": "the diffuser that never saw the concept,"},
        ),
    ),
    list_outputs=output_folder_files(paths.METRICS),
    rules=RULES["erased"],
    results="trueface.generators.erasing.study:table",
    lower_is_better=LOW,
)
REVISE = GenerationKind(
    name="revise",
    role=Role.FOLDER,
    summary="redraw real images with an edited diffuser (DDIM inversion)",
    entry="trueface.generators.jobs.erasure_measurement:revise",
    settings=ReviseSettings,
    input_readers=(
        inputs_from_settings(
            {"source": "the folder of real images"}, {**_ASKED, "diffuser": "the edited diffuser"}
        ),
    ),
    list_outputs=output_folder_files(),
)
