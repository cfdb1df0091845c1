"""The kinds `denoiser`, `purify`, `disrupt` and `restored`: perturbations of images, and what takes them out. No torch here."""

from collections.abc import Iterator, Mapping, Sequence

from launcher.api import Draft, Input, Role
from trueface.data.vocabulary import DataIdResolver, picture_folder
from trueface.jobs.job_kind import (
    GenerationKind,
    inputs_from_settings,
    model_files,
    output_folder_files,
)
from trueface.purification.disruption_settings import (
    RANDOM,
    DisruptSettings,
    RestoredSettings,
    required_model_settings,
)
from trueface.purification.registry import (
    DenoiserSettings,
    PurifierName,
    PurifySettings,
    parse_purifier,
    refuse_untrained,
)
from trueface.runtime import paths

EXAMPLES = {"translator": "labelled:A", "diffuser": "images:A", "denoiser": "noisy:A"}


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


def _unfit_purification(draft: Draft, makers: Sequence[Draft], _: DataIdResolver) -> Iterator[str]:
    """Yield why the purifier cannot work: it lacks a model, or the model did not learn its steps."""
    name = parse_purifier(draft.settings["purifier"])
    yield from _find_missing_models(draft, name.needs, f"purifier {name.text}")
    yield from _unlearned_steps(draft, name, makers)


def _disruption_inputs(draft: Draft, vocabulary: DataIdResolver) -> Iterator[Input]:
    """Yield the folder, the generator, and the models of the purifier that the attack goes through."""
    models = _describe_inputs(("translator", *required_model_settings(draft.settings["purifier"])))
    yield from inputs_from_settings({"source": "the folder of images to disrupt"}, models)(
        draft, vocabulary
    )


def _unfit_disruption(draft: Draft, makers: Sequence[Draft], _: DataIdResolver) -> Iterator[str]:
    """Yield why the attack cannot work: it lacks a model, or a diffuser did not learn its steps."""
    purifier = draft.settings["purifier"]
    yield from _find_missing_models(
        draft, ("translator", *required_model_settings(purifier)), "disrupt"
    )
    if purifier:
        yield from _unlearned_steps(draft, parse_purifier(purifier), makers)


def _feature_weights(draft: Draft, _: DataIdResolver) -> Iterator[Input]:
    settings = draft.settings
    if weights := settings["feature_weights"]:
        yield Input(path=draft.path(weights), what=f"the weights of {settings['features']}")


def _unfit_restored(draft: Draft, *_: object) -> Iterator[str]:
    settings = draft.settings
    yield from _find_missing_models(draft, ("translator",), "restored")
    if settings["features"] != RANDOM and not settings["feature_weights"]:
        yield (
            f"{draft.name}: features of {settings['features']} need a file with its weights. Write "
            f"feature_weights: FILE, or features: {RANDOM}"
        )


def _describe_inputs(settings: Sequence[str]) -> Mapping[str, str]:
    return {setting: f"the {setting}" for setting in settings}


def _find_missing_models(draft: Draft, needs: Sequence[str], who: str) -> Iterator[str]:
    """Yield which models are needed and not named."""
    for setting in needs:
        if not draft.settings[setting]:
            yield (
                f"{draft.name}: {who} needs a {setting}. Give the ID of one, such as "
                f"{setting}: {EXAMPLES[setting]}"
            )


def _unlearned_steps(draft: Draft, name: PurifierName, makers: Sequence[Draft]) -> Iterator[str]:
    """Yield the reasons why a diffuser of this plan does not fit a purifier.

    Args:
        draft: with the setting `diffuser`.
        name: the purifier.
        makers: what makes the models of the draft.
    """
    diffuser = draft.settings["diffuser"]
    for maker in makers:
        learned = maker.settings.get("t_max") or maker.settings.get("noise_steps")
        if "diffuser" not in name.needs or maker.model != diffuser or learned is None:
            continue
        if not maker.settings.get("weights") and (
            reason := refuse_untrained(name, learned, diffuser)
        ):
            yield f"{draft.name}: {reason}"


DENOISER = GenerationKind(
    name="denoiser",
    role=Role.TRAIN,
    summary="train a denoising auto-encoder",
    entry="trueface.jobs.generation.purify:denoiser",
    settings=DenoiserSettings,
    sets=("noisy",),
    input_readers=(_denoiser_inputs,),
    list_outputs=model_files(paths.provenance),
)
PURIFY = GenerationKind(
    name="purify",
    role=Role.FOLDER,
    summary="remove perturbations from the images of a folder",
    entry="trueface.jobs.generation.purify:purify",
    settings=PurifySettings,
    input_readers=(_purification_inputs,),
    list_outputs=output_folder_files(),
    refusal_checks=(_unfit_purification,),
)
DISRUPT = GenerationKind(
    name="disrupt",
    role=Role.FOLDER,
    summary="perturb images so that a generator fails on them",
    entry="trueface.jobs.generation.disrupt:disrupt",
    settings=DisruptSettings,
    input_readers=(_disruption_inputs,),
    list_outputs=output_folder_files(),
    refusal_checks=(_unfit_disruption,),
)
RESTORED = GenerationKind(
    name="restored",
    role=Role.FOLDER,
    summary="compare the output of a generator for purified and original images",
    entry="trueface.jobs.generation.restored:restored",
    settings=RestoredSettings,
    input_readers=(
        inputs_from_settings(
            {"source": "the folder of purified images"}, _describe_inputs(("translator",))
        ),
        _feature_weights,
    ),
    list_outputs=output_folder_files(paths.METRICS),
    refusal_checks=(_unfit_restored,),
    results="trueface.evaluation.restored:table",
)
