"""The kinds `denoiser`, `purify`, `disrupt` and `restored`: perturbations of images, and what takes them out. No torch here."""

from collections.abc import Iterator, Mapping, Sequence

from launcher.api import Draft, Input, Role
from trueface.data.vocabulary import DataIdResolver
from trueface.generators.image_sets import picture_folder
from trueface.generators.jobs.generation_kind import GenerationKind
from trueface.generators.jobs.rules import RULES
from trueface.generators.purification.disruption_settings import (
    DisruptSettings,
    RestoredSettings,
    required_model_settings,
)
from trueface.generators.purification.registry import (
    DenoiserSettings,
    PurifySettings,
    parse_purifier,
)
from trueface.jobs.job_kind import inputs_from_settings, model_files, output_folder_files
from trueface.runtime import paths

# numbers of `restored` that are better low: errors, and the share of images that are still disrupted
LOW = frozenset(
    {"mse", "mse_adaptive", "reference_mse", "reference_mse_adaptive", "price_clean", "share"}
    | {"frechet", "l1", "linf", "net_calls", "seconds"}
)


def _denoiser_inputs(draft: Draft, _: DataIdResolver) -> Iterator[Input]:
    if draft.data is None:
        raise ValueError(f"a job of kind {draft.kind!r} has a model and a data ID")
    folder = picture_folder(draft.path(draft.settings["data_root"]), draft.data)
    yield Input(path=folder, what="the folder of images to learn from")


def _purification_inputs(draft: Draft, vocabulary: DataIdResolver) -> Iterator[Input]:
    """Yield the folder, and the models that the purifier works with."""
    models = _describe_inputs(parse_purifier(draft.settings["purifier"]).needs)
    yield from inputs_from_settings({"source": "the folder of images to purify"}, models)(
        draft, vocabulary
    )


def _disruption_inputs(draft: Draft, vocabulary: DataIdResolver) -> Iterator[Input]:
    """Yield the folder, the generator, and the models of the purifier that the attack goes through."""
    models = _describe_inputs(("translator", *required_model_settings(draft.settings["purifier"])))
    yield from inputs_from_settings({"source": "the folder of images to disrupt"}, models)(
        draft, vocabulary
    )


def _feature_weights(draft: Draft, _: DataIdResolver) -> Iterator[Input]:
    settings = draft.settings
    if weights := settings["feature_weights"]:
        yield Input(path=draft.path(weights), what=f"the weights of {settings['features']}")


def _describe_inputs(settings: Sequence[str]) -> Mapping[str, str]:
    return {setting: f"the {setting}" for setting in settings}


DENOISER = GenerationKind(
    name="denoiser",
    role=Role.TRAIN,
    summary="train a denoising auto-encoder",
    entry="trueface.generators.jobs.purify:denoiser",
    settings=DenoiserSettings,
    sets=("noisy",),
    input_readers=(_denoiser_inputs,),
    list_outputs=model_files(paths.provenance),
)
PURIFY = GenerationKind(
    name="purify",
    role=Role.FOLDER,
    summary="remove perturbations from the images of a folder",
    entry="trueface.generators.jobs.purify:purify",
    settings=PurifySettings,
    input_readers=(_purification_inputs,),
    list_outputs=output_folder_files(),
    rules=RULES["purify"],
)
DISRUPT = GenerationKind(
    name="disrupt",
    role=Role.FOLDER,
    summary="perturb images so that a generator fails on them",
    entry="trueface.generators.jobs.disrupt:disrupt",
    settings=DisruptSettings,
    input_readers=(_disruption_inputs,),
    list_outputs=output_folder_files(),
    rules=RULES["disrupt"],
)
RESTORED = GenerationKind(
    name="restored",
    role=Role.FOLDER,
    summary="compare the output of a generator for purified and original images",
    entry="trueface.generators.jobs.restoration:measure_restored_outputs",
    settings=RestoredSettings,
    input_readers=(
        inputs_from_settings(
            {"source": "the folder of purified images"},
            {"translator": "the translator", "reference": "the undefended translator"},
        ),
        _feature_weights,
    ),
    list_outputs=output_folder_files(paths.METRICS),
    rules=RULES["restored"],
    results="trueface.generators.purification.study:table",
    lower_is_better=LOW,
)
