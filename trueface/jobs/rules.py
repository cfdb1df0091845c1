"""The rules and checks of the job types about detectors, found while they are planned; no torch here.

See `rule` for the difference.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from launcher.api import (
    Draft,
    Poison,
    UnknownName,
    UsageError,
    install_command,
    parse_model,
    read_json,
)
from trueface.corruptions.registry import RAW, missing_programs
from trueface.data import qualities
from trueface.data.attribute_table import FORGERY, FORGERY_GROUP, GROUPS_BY
from trueface.data.attributes import attribute_files, columns_in
from trueface.data.qualities import (
    SOURCE_ADVICE,
    QualityList,
    files_of,
    missing_file_words,
    split_quality_words,
)
from trueface.data.settings import other_decoding, resized_base
from trueface.data.vocabulary import DataIdResolver
from trueface.jobs.clip_parts import (
    check_base_and_teacher,
    check_base_of_clips,
    check_model_of_clips,
    check_videos,
    find_other_network,
    network_behind,
    refuse_clips,
    refuse_network,
)
from trueface.jobs.landmark_parts import (
    check_landmark_model,
    check_landmarks,
    check_stored_images,
    refuse_pixel_training,
)
from trueface.jobs.rule import PlanCheck, Rule, published_root
from trueface.models.published_settings import NO_FILE
from trueface.models.registry import (
    FAMILIES,
    LIBRARIES,
    OWN_DRAWS,
    spec_of,
    unfit_side,
    without_last_layer,
    without_linear_layer,
)
from trueface.poisoning.poison_record import KINDS, is_random
from trueface.runtime import paths
from trueface.runtime.errors import DataError
from trueface.training.config import needs_groups
from trueface.training.objectives.registry import (
    DEFAULT,
    NOT_FAIR,
    choice,
    objectives,
    other_objective,
    used_objective,
)
from trueface.training.parts.registry import conflicts
from trueface.training.quality_settings import LEAST_ITEMS
from trueface.training.settings import solver_of

PACKAGE = "tensorboard"
LOSSES = frozenset({DEFAULT, "ce"})  # equal for one logit; `fair` replaces either


def _parse_poison(model: str | None) -> Poison | None:
    """Return the poison that a model's ID names. None if it names none, or if the name is not an ID."""
    with suppress(UsageError):
        return parse_model(model).last.poison if model else None
    return None


# --- models


def refuse_flipped_labels(draft: Draft) -> Iterator[str]:
    """Refuse a poison in the ID of a model whose job type does not flip labels."""
    if parse_model(draft.model or "").last.poison:
        yield f"{draft.model}: {draft.kind} does not support flipped labels. Leave out '%' in the ID."


def refuse_base(draft: Draft) -> Iterator[str]:
    """Refuse a base model for a job type that starts from none."""
    if draft.base is not None:
        yield f"{draft.model}: {draft.kind} does not start from another model. Write model: null"


@PlanCheck
def check_saved_weights(_: Draft, makers: Sequence[Draft], __: DataIdResolver) -> Iterable[str]:
    """Reject a model whose weights are not saved, because an older file would be used instead."""
    # an unlearning keeps its weights whatever the setting says
    if makers and makers[-1].kind == "train" and not makers[-1].settings["save_weights"]:
        yield (
            f"the training of {makers[-1].model} does not save the weights that this job needs. Set "
            "save_weights: true in the training."
        )


@PlanCheck
def check_decoding(draft: Draft, makers: Sequence[Draft], _: DataIdResolver) -> Iterable[str]:
    """Refuse images that are read in another way than those of the model's training were."""
    if makers and makers[-1].settings.get("resize") and draft.kind == "train":
        return  # see `check_published_base`
    differs = other_decoding(makers[-1].settings, draft.settings) if makers else ""
    if differs:
        yield f"{makers[-1].model} is trained with {differs}. Use the same value in training and test."


_MODELS = (check_saved_weights, check_decoding)


@PlanCheck
def check_published_base(draft: Draft, makers: Sequence[Draft], _: DataIdResolver) -> Iterator[str]:
    """Refuse to train from a published model whose resizing the training does not repeat."""
    root = published_root(draft.base)
    if root is None:
        return
    maker = next((each for each in makers if each.model == root), None)
    kept: object = maker.settings if maker else None
    if maker is None:  # made by an earlier job
        kept = (read_json(paths.provenance(draft.model_folder(root))) or {}).get("preprocessing")
    if isinstance(kept, Mapping) and (reason := resized_base(root, kept, draft.settings)):
        yield reason


@PlanCheck
def check_model_inputs(draft: Draft, *_: object) -> Iterable[str]:
    """Yield why the images of a training do not fit its teacher or its base. See `model_inputs`."""
    from trueface.jobs.model_inputs import find_unfit_models  # the start of a job does not need it

    return find_unfit_models(draft)


# --- tests


@PlanCheck
def check_leaks(draft: Draft, makers: Sequence[Draft], vocabulary: DataIdResolver) -> Iterable[str]:
    """Yield the images of a test on which its model was trained. See `lineage`."""
    from trueface.jobs.lineage import find_leaks  # the start of a job does not need it

    return find_leaks(draft, makers, vocabulary)


def _missing_corruption_programs(draft: Draft) -> Iterator[str]:
    """Yield the reasons why images cannot be corrupted as a test or benchmark requests."""
    corrupt = draft.settings.get("corrupt", ())
    for each in (corrupt,) if isinstance(corrupt, str) else corrupt:
        yield from missing_programs(each)


@PlanCheck
def check_attribute_headers(draft: Draft, *_: object) -> Iterator[str]:
    """Yield the faults in the headers of a job's attribute tables."""
    if isinstance(columns := _columns(draft), str):
        yield columns


@PlanCheck
def check_side(draft: Draft, makers: Sequence[Draft], _: DataIdResolver) -> Iterator[str]:
    """Refuse images of a side that the network of a trained model does not take."""
    name = next(filter(None, (each.settings.get("model") for each in makers)), None)
    settings = draft.settings
    side = settings.get("resize_size")
    if settings.get("test_crops") and settings.get("patch_size", -1) > 0:
        side = settings["patch_size"]
    if name is not None and side and (reason := unfit_side(spec_of(name), side)):
        yield f"{draft.model}: {reason}"


@PlanCheck
def check_saved_features(draft: Draft, makers: Sequence[Draft], _: DataIdResolver) -> Iterator[str]:
    """Refuse to save the features of a network that does not end in one linear layer."""
    known = (each.settings.get("model") or each.settings.get("architecture") for each in makers)
    name = next(filter(None, known), None)
    if draft.settings["features"] and name is not None and spec_of(name).head is None:
        yield f"{draft.model}: {without_last_layer('features: true', name)}"


@PlanCheck
def check_rounding(draft: Draft, makers: Sequence[Draft], _: DataIdResolver) -> Iterator[str]:
    """Refuse exact gradients of a network that does not classify gradients."""
    known = (each.settings.get("model") or each.settings.get("architecture") for each in makers)
    name = next(filter(None, known), None)
    if not draft.settings["round_gradients"] and name and not spec_of(name).rounds_gradients:
        yield f"round_gradients: false has no effect on model {name}. Leave it out, or test model lgrad."


def _refuse_own_surrogate(draft: Draft) -> Iterator[str]:
    """Refuse the model under attack as the model that makes the attack."""
    if draft.settings["surrogate"] == draft.model:
        yield (
            f"surrogate: {draft.model} is the model under attack. Give another model, or use the attack pgd, which "
            "knows the model."
        )


SCORING: tuple[Rule | PlanCheck, ...] = (
    *_MODELS,
    check_model_of_clips,
    check_landmark_model,
    refuse_clips,
    check_videos,
    check_landmarks,
    check_stored_images,
    check_side,
    check_leaks,
    _missing_corruption_programs,
    check_attribute_headers,
)
TESTS = (*SCORING, check_saved_features, check_rounding, _refuse_own_surrogate)

# --- trainings


def _unusable_without_last_layer(draft: Draft) -> Iterator[str]:
    """Yield what a training would do to a last layer that its network does not have."""
    return _find_users_of_last_layer(draft, draft.settings["model"])


def _find_users_of_last_layer(draft: Draft, name: str) -> Iterator[str]:
    if spec_of(name).head is None:
        for user in _users_of_last_layer(draft.settings):
            yield f"{draft.model}: {without_last_layer(user, name)}"


def _unfit_network(draft: Draft) -> Iterator[str]:
    """Yield why a detector of images of this side cannot be made of the network, as far as it is known."""
    return _find_unfit_side(draft, draft.settings["model"])


def _find_unfit_side(draft: Draft, name: str) -> Iterator[str]:
    settings, spec = draft.settings, spec_of(name)
    side = settings["patch_size"] if settings["patch_size"] > 0 else settings["resize_size"]
    if spec.head is None and name.partition("/")[0] in LIBRARIES:
        yield f"{draft.model}: {without_linear_layer(name)}"
    elif reason := unfit_side(spec, side):
        yield f"{draft.model}: {reason}"


def _refuse_tested_model(draft: Draft) -> Iterator[str]:
    """Refuse to train a network that is only tested here."""
    return _find_tested_network(draft, draft.settings["model"])


def _find_tested_network(draft: Draft, name: str) -> Iterator[str]:
    if (spec := spec_of(name)).not_trained:
        yield (
            f"{draft.model}: model {spec.name} is only tested here: {spec.not_trained}. Import its file with job type "
            "checkpoint, or choose another model."
        )


@PlanCheck
def check_base_network(draft: Draft, makers: Sequence[Draft], _: DataIdResolver) -> Iterator[str]:
    """Yield that `model` is not the network of the base, and what this network does not take."""
    name = network_behind(draft, makers)
    yield from find_other_network(draft, name)
    yield from _find_users_of_last_layer(draft, name)
    yield from _find_unfit_side(draft, name)
    yield from _find_tested_network(draft, name)


def _refuse_missing_start(draft: Draft) -> Iterator[str]:
    """Refuse to train a network from random weights that needs a file of the user."""
    spec = spec_of(draft.settings["model"])
    needs_file = spec.start_file and not spec.not_trained and draft.base is None
    if needs_file and draft.settings["weights"] in NO_FILE:
        yield (
            f"{draft.model}: model {spec.name} needs a file of {spec.start_file}. Set weights to its path."
        )


def _users_of_last_layer(settings: Mapping[str, Any]) -> Iterator[str]:
    if settings["solver"] == "ridge":  # it sets freeze, too
        yield "solver: ridge"
    elif settings["freeze"]:
        yield "freeze: true"
    if settings["dropout"]:
        yield f"dropout: {settings['dropout']:g}"
    if objectives()[used_objective(settings)].features:
        yield choice(settings)
    for flag in ("features", "find"):
        if settings.get(flag):
            yield f"{flag}: true"
    if method := settings.get("method"):
        from trueface.unlearning.registry import METHODS  # the start of a training does not need it

        if "last layer" in METHODS[method].needs:
            yield f"method: {method}"


def _processes(draft: Draft) -> int:
    return int(draft.settings["processes"] or draft.gpus)


def _process_advice(draft: Draft) -> str:
    return "set gpus: 1" if draft.gpus > 1 else "leave out processes"


def _fewer_sentence(draft: Draft) -> str:
    remedy = _process_advice(draft)
    return f"{remedy[:1].upper()}{remedy[1:]}."


def _refuse_processes(draft: Draft) -> Iterator[str]:
    """Refuse a number of processes that does not fit the GPUs or the training."""
    settings, processes = draft.settings, _processes(draft)
    on_gpus = draft.gpus > 1 or draft.device.startswith("cuda")
    if on_gpus and settings["processes"] not in {0, draft.gpus}:
        yield (
            f"{draft.model}: processes: {settings['processes']} with gpus: {draft.gpus}. A training has one process "
            f"per GPU. Leave out processes, or set gpus: {settings['processes']}"
        )
    if processes <= 1:
        return
    if settings["freeze"] and settings["freeze_bn"]:
        yield (
            f"{draft.model}: it trains only the last layer, on features that are computed once. "
            f"{processes} processes would not be faster. {_fewer_sentence(draft)}"
        )
    if settings["compile"]:
        yield (
            f"{draft.model}: compile: true works only in one process. Leave it out, or {_process_advice(draft)}."
        )
    if settings["batch_size"] < processes:
        yield (
            f"{draft.model}: batch_size: {settings['batch_size']} is too small for {processes} processes. "
            f"Set batch_size to {processes} or more."
        )
    spec = spec_of(settings["model"])
    if spec.own_draws:
        yield f"{draft.model}: model {spec.name} {OWN_DRAWS} {_fewer_sentence(draft)}"
    if not objectives()[used_objective(settings)].mean:
        yield (
            f"{draft.model}: {choice(settings)} is not declared as a mean over images (mean=True), so its gradient "
            f"cannot be divided among processes. {_fewer_sentence(draft)}"
        )


@PlanCheck
def check_group_columns(draft: Draft, *_: object) -> Iterator[str]:
    """Yield why the tables of attributes do not give what a training needs."""
    columns = _columns(draft)
    if isinstance(columns, str):
        yield columns
        return
    if columns is None:
        return
    settings = draft.settings
    by, needed = settings["groups_by"], objectives()[used_objective(settings)].columns
    if by not in columns and (needs_groups(settings) or by != GROUPS_BY):
        yield f"groups_by: {UnknownName('column of attributes', by, columns)}"
    if FORGERY_GROUP in needed and FORGERY_GROUP not in columns:
        yield f"{draft.model} learns forgery types, but the attributes have no column {FORGERY}"


def _is_closed_form(draft: Draft) -> bool:
    return solver_of(draft.settings) == "ridge"


@PlanCheck
def check_solver(draft: Draft, makers: Sequence[Draft], _: DataIdResolver) -> Iterable[str]:
    """Refuse to start a training in closed form from one by steps, or the reverse."""
    base = next(iter(makers[::-1]), None)
    if base is None or base.kind != "train":
        return
    is_ridge = _is_closed_form(draft)
    if is_ridge != (solver_of(base.settings) == "ridge"):
        fitted_how = "by steps" if is_ridge else "in closed form"
        remedy = "solver: ridge" if is_ridge else "another solver"
        yield (
            f"{base.model} is trained {fitted_how}. A training with {remedy} cannot start from it. Train it "
            "again, or use the same solver."
        )


def _part_conflicts(draft: Draft) -> Iterable[str]:
    """Return which parts of a training do not go together, as the parts declare it."""
    # parts that depend on the solver, the model and the processes, not on one setting
    others = {
        "ridge": _is_closed_form(draft),
        "poison": _parse_poison(draft.model),
        "shards": draft.gpus > 1 or draft.settings["processes"] > 1,
    }
    further = [name for name, there in others.items() if there]
    return conflicts(draft.settings, further, draft.model or "")


def _quality_files(draft: Draft) -> list[str]:
    """Return those of the qualities that are read from further files."""
    names = split_quality_words(draft.settings["qualities"])
    return [name for name in names if files_of(name) is not None]


@PlanCheck
def check_quality_list(draft: Draft, *_: object) -> Iterable[str]:
    """Yield the faults of the list of files of further qualities."""
    if not draft.settings["quality_list"]:
        return ()
    path, names = draft.path(draft.settings["quality_list"]), draft.settings["qualities"]
    objective = used_objective(draft.settings)
    compares = objective if objectives()[objective].pairs else ""
    key = ("quality_list", path, names, compares)
    return draft.once(key, lambda: tuple(_unfit_list(path, names, compares)))


def _unfit_list(path: Path, qualities: str, compares: str) -> Iterator[str]:
    if (
        not path.exists()
    ):  # an earlier job may create it; otherwise it is reported with the missing inputs
        return
    try:
        content = QualityList.read(path)
    except DataError as error:
        yield str(error)
        return
    for name in missing_file_words(qualities, content.files):
        yield (
            f"qualities: {name} is neither a corruption nor a list in {path}. Its lists: "
            f"{', '.join(content.files)}"
        )
    words = filter(None, map(files_of, split_quality_words(qualities)))
    for word in words if compares else ():
        if word in content.files and not content.has_sources(word):
            yield (
                f"objective: {compares}: each fake is its own real image in {word} of {path}. {SOURCE_ADVICE}"
            )


def _refuse_qualities(draft: Draft) -> Iterator[str]:
    """Yield why the qualities of the training images do not go with the other settings."""
    settings = draft.settings
    if not any(settings[name] for name in ("qualities", "quality_list", "collab")):
        return
    yield from qualities.missing_programs(settings["qualities"])
    files = _quality_files(draft)
    if files and not settings["quality_list"]:
        yield (
            f"qualities: {files[0]} needs quality_list. Set quality_list to the data.json that names its files."
        )
    if settings["quality_list"] and not files:
        yield (
            f"quality_list: {settings['quality_list']} is not used. Name its qualities in qualities, such as "
            f"{RAW}, c23."
        )
    if settings["qualities"] and settings["decode"] != "exact":
        yield (
            f"qualities cannot be used with decode: {settings['decode']}, which resizes images before they are "
            "corrupted. Leave decode out."
        )
    if settings["collab"]:
        yield from _refuse_collaboration(draft)
    elif settings["dropout"] and _processes(draft) > 1:
        yield (
            "qualities: in several processes, dropout draws other masks than in one process. Set dropout: 0, or "
            "gpus: 1"
        )


def _refuse_collaboration(draft: Draft) -> Iterator[str]:
    """Yield why a training cannot compare the qualities of each image."""
    settings = draft.settings
    if len(split_quality_words(settings["qualities"])) < 2:
        yield (
            f"collab: {settings['collab']:g} needs two qualities at least. Write qualities: [raw, jpeg75], or leave "
            "collab out."
        )
    if settings["quality_batch"] != "paired":
        yield "collab needs quality_batch: paired, which puts each image into a batch in all qualities"
    if settings["batch_size"] < LEAST_ITEMS:
        yield (
            f"collab needs batches of {LEAST_ITEMS} images at least, got batch_size: {settings['batch_size']}. Set "
            f"batch_size: {LEAST_ITEMS} or more."
        )
    if settings["fair"] == "mix":
        yield (
            "collab cannot be used with fair: mix, which mixes each quality of an image with a different image. "
            "Leave one of them out."
        )
    # a frozen network may have a hidden layer in its head, which is trained
    if settings["freeze"] and not spec_of(settings["model"]).frozen:
        yield (
            "collab cannot be used with freeze: true, which keeps all layers unchanged. Leave one of them out, or "
            "choose a model with a hidden layer in its head, such as moments/mobilenet."
        )


def _network_of_objective(draft: Draft) -> str:
    """Return the network whose inner layers the objective uses; '' if it works with every network."""
    spec = objectives().get(used_objective(draft.settings))
    return "" if spec is None else spec.network


def _has_network(draft: Draft) -> bool:
    first = str(draft.settings["model"]).partition("/")[0]
    return _network_of_objective(draft) in {first, first.partition("_")[0]}  # as mcx_hsv


def _refuse_frozen_features(draft: Draft) -> Iterator[str]:
    """Refuse to freeze the features that the objective trains."""
    settings = draft.settings
    if settings["freeze"] and objectives()[used_objective(settings)].features:
        yield (
            f"{choice(settings)} trains the features, which freeze: true keeps unchanged. Leave out freeze."
        )


def _refuse_distillation(draft: Draft) -> Iterator[str]:
    """Yield what an objective with a teacher lacks, and what does not go with it."""
    settings = draft.settings
    if "teacher" not in objectives()[used_objective(settings)].options:
        return
    if not settings["teacher"]:
        yield (
            f"{choice(settings)} needs a teacher. Set teacher to the ID of an earlier model of this run, or to the "
            "path of a checkpoint"
        )
    if settings["teacher"] == draft.model:
        yield f"teacher: {draft.model} is the model that is trained. Give another model."
    if len(split_quality_words(settings["qualities"])) < 2 or settings["quality_batch"] != "paired":
        yield (
            f"{choice(settings)} needs each image in two qualities, the first for the teacher. Write "
            "qualities: [raw, jpeg30] and quality_batch: paired"
        )
    if settings["freeze"]:
        yield f"{choice(settings)} trains the whole network. Leave out freeze."
    if settings["collab"]:
        yield (
            f"{choice(settings)} cannot be used with collab, which reads the same pairs. Leave one of them out."
        )


def _refuse_single_images(draft: Draft) -> Iterator[str]:
    """Refuse a training without the second image of each pair that the objective compares."""
    settings = draft.settings
    pairs = objectives()[used_objective(settings)].pairs
    names = split_quality_words(settings["qualities"])
    if not pairs:
        return
    if len(names) != 2 or not _quality_files(draft) or settings["quality_batch"] != "paired":
        yield (
            f"{choice(settings)} needs {pairs}. Name it in a data.json as source, and set quality_list to that file. "
            "Write qualities: [raw, source], and leave out quality_batch."
        )
    if settings["collab"]:
        yield (
            f"{choice(settings)} cannot be used with collab, which reads the same pairs. Leave one of them out."
        )


def _refuse_small_batches(draft: Draft) -> Iterator[str]:
    """Refuse batches with fewer images than the objective compares."""
    settings = draft.settings
    least = objectives()[used_objective(settings)].least_images
    if settings["batch_size"] < least and not _is_closed_form(draft):
        yield (
            f"{choice(settings)} compares images of a batch and needs at least {least} of them, got "
            f"batch_size: {settings['batch_size']}. Set batch_size: {least} or more."
        )


def _refuse_views(draft: Draft) -> Iterator[str]:
    """Yield what does not go with an objective that compares augmentations of each image."""
    settings = draft.settings
    if objectives()[used_objective(settings)].views <= 1:
        return
    compares = f"{choice(settings)} compares augmentations of each image and cannot be used with"
    if settings["qualities"]:
        yield f"{compares} qualities. Leave one of them out."
    if settings["sbi"]:
        yield f"{compares} sbi, which makes a fake of some of them. Leave one of them out."


def refuse_fairness(draft: Draft) -> Iterator[str]:
    """Yield why a training cannot use the groups of the images, or the objective about them."""
    settings, closed_form = draft.settings, _is_closed_form(draft)
    if settings["fair"] != NOT_FAIR and closed_form:
        yield (
            f"fair: {settings['fair']} weights the images of gradient steps, but {draft.model} is fitted in closed "
            "form. Leave out fair, or use another solver."
        )
        return
    if network := _network_of_objective(draft):
        if not _has_network(draft):
            others = f" or {network}/NETWORK" * (network in FAMILIES)
            yield (
                f"{choice(settings)} needs the parts of model {network}, but model is {settings['model']}. Use "
                f"another objective, or model: {network}{others}"
            )
        elif settings["freeze"]:
            yield f"{choice(settings)} trains the whole network. Leave out freeze."
    yield from _refuse_frozen_features(draft)
    if settings["objective"] not in {*LOSSES, used_objective(settings)}:
        yield (
            f"objective: {settings['objective']} and fair: {settings['fair']} are both losses, and a training has "
            "one. Leave out one of them, or use fair: oversample, which works with every objective."
        )
    if not settings["attributes"] and (user := needs_groups(settings)):
        yield (
            f"{user} needs the groups of the images. Give a CSV file with them, such as attributes: faces.csv"
        )


def refuse_tensorboard(draft: Draft) -> Iterator[str]:
    """Refuse records for TensorBoard if the package is not installed."""
    if draft.settings["tensorboard"] and find_spec(PACKAGE) is None:
        yield (
            f"tensorboard: true needs the package {PACKAGE}, which is not installed. Leave out the setting, or "
            f"install the package: {install_command('tensorboard')}"
        )


def describe_no_mean(draft: Draft) -> str:
    """Return why a loss that is not a mean over images cannot be divided among the batches of a step."""
    return (
        f"accumulate: {draft.settings['accumulate']} cannot be used with {choice(draft.settings)}, which is not "
        "declared as a mean over images (mean=True). Leave out accumulate."
    )


def _refuse_second_pass(draft: Draft) -> Iterator[str]:
    """Refuse steps of several batches with a method that passes over the batch of a step twice."""
    settings = draft.settings
    if settings["accumulate"] > 1 and (settings["sam"] or settings["awp"]):
        yield (
            f"accumulate: {settings['accumulate']} cannot be used with {'sam' if settings['sam'] else 'awp'}, which "
            "makes a second pass over the batch of each step. Leave one of them out."
        )


def _refuse_accumulation(draft: Draft) -> Iterator[str]:
    """Yield why the steps of a training cannot have several batches."""
    settings = draft.settings
    if settings["accumulate"] <= 1 or _is_closed_form(draft):
        return
    yield from _refuse_second_pass(draft)
    if settings["collab"]:
        yield (
            f"accumulate: {settings['accumulate']} cannot be used with collab, whose loss compares the images of a "
            "whole batch. Leave one of them out."
        )
    if not objectives()[used_objective(settings)].mean:
        yield describe_no_mean(draft)


def _refuse_shots(draft: Draft) -> Iterator[str]:
    """Refuse few-shot learning without a base that was fitted in closed form."""
    if draft.settings["shots"] and not (_is_closed_form(draft) and draft.base):
        yield (
            f"shots: {draft.settings['shots']} needs a detector that was fitted in closed form. Name one as `model`, "
            "and train with solver: ridge"
        )


def _refuse_optimizer_state(draft: Draft) -> Iterator[str]:
    """Refuse to keep the state of the optimizer in a training that starts from no model."""
    if draft.settings["optimizer_state"] == "kept" and draft.base is None:
        yield (
            f"optimizer_state: kept needs a model to start from, and {draft.model} has none. Give a model, or leave "
            "out the setting."
        )


TRAININGS: tuple[Rule | PlanCheck, ...] = (
    *_MODELS,
    check_published_base,
    _unfit_network,
    _refuse_tested_model,
    _refuse_missing_start,
    refuse_network,
    refuse_pixel_training,
    refuse_clips,
    check_base_and_teacher,
    check_videos,
    check_landmarks,
    check_stored_images,
    check_model_inputs,
    _unusable_without_last_layer,
    _refuse_processes,
    _refuse_accumulation,
    check_group_columns,
    _refuse_shots,
    check_solver,
    _part_conflicts,
    _refuse_qualities,
    check_quality_list,
    _refuse_distillation,
    _refuse_single_images,
    _refuse_small_batches,
    _refuse_views,
    refuse_fairness,
    refuse_tensorboard,
    _refuse_optimizer_state,
)

# --- unlearnings


@PlanCheck
def check_objective(draft: Draft, makers: Sequence[Draft], _: DataIdResolver) -> Iterable[str]:
    """Refuse an unlearning that would train with another loss than the model was trained with."""
    trained = next((maker for maker in reversed(makers) if maker.kind == "train"), None)
    differs = other_objective(trained.settings, draft.settings) if trained else ""
    if trained and differs:
        columns = objectives()[used_objective(trained.settings)].columns
        remedy = f"An unlearning does not read {' and '.join(columns)}. Use another model."
        remedy = remedy if columns else "Use the same value in training and unlearning."
        yield f"{trained.model} is trained with {differs}. {remedy}"


@PlanCheck
def check_clean_base(draft: Draft, *_: object) -> Iterator[str]:
    """Refuse to unlearn flipped labels from a model that has none."""
    with suppress(UsageError):  # a model of an earlier run may have a name that is not an ID
        base = parse_model(draft.base or draft.model or "")
        # a model without poison in its ID may have a record to read
        record = paths.poison_record(draft.model_folder(str(base)))
        if not any(stage.poison for stage in base.stages) and not record.exists():
            yield f"{base} has no flipped labels, so there is nothing to unlearn"


def _unfit_method(draft: Draft) -> Iterator[str]:
    """Yield why the labels of a model cannot be unlearned by this method."""
    from trueface.unlearning.registry import (  # the start of a training does not need it
        TaskProperties,
        refusal,
    )

    poison, settings = _parse_poison(draft.base or draft.model), draft.settings
    if poison is None:
        return
    task = TaskProperties(
        goal="flips",
        rate=float(poison.rate),
        random=is_random(poison.kind),
        known=settings["known"],
        finding=settings["find"],
        retain=settings["keep_retain"],
    )
    if reason := refusal(settings["method"], task, force=settings["force"]):
        yield reason


def _unfit_options(draft: Draft) -> Iterator[str]:
    """Yield which hyperparameters make no sense for the flipped labels of a detector."""
    from trueface.unlearning.settings import conflicts  # as above

    yield from conflicts(draft.settings, "flips", 2)


def unfit_precision(draft: Draft) -> Iterator[str]:
    """Yield why the method cannot compute in the precision of the job."""
    from trueface.unlearning.registry import refuse_precision  # as above

    if reason := refuse_precision(draft.settings["method"], draft.settings["precision"]):
        yield reason


def unfit_accumulation(draft: Draft) -> Iterator[str]:
    """Yield why the steps of an unlearning cannot have several batches."""
    from trueface.unlearning.hyperparameters import TrainingOptions  # as above
    from trueface.unlearning.registry import METHODS

    batches, method = draft.settings["accumulate"], draft.settings["method"]
    if batches == 1:
        return
    if not issubclass(METHODS[method].hyperparameters, TrainingOptions):
        yield (
            f"accumulate: {batches} cannot be used with method {method}, which takes steps of its own. Leave out "
            "accumulate."
        )
    if not objectives()[draft.settings["objective"]].mean:
        yield describe_no_mean(draft)


def _refuse_objective_of_columns(draft: Draft) -> Iterator[str]:
    """Refuse an objective that reads columns of attributes, which an unlearning does not have."""
    name = draft.settings["objective"]
    if columns := objectives()[name].columns:
        yield (
            f"objective: {name} needs {', '.join(columns)} of each image. An unlearning does not read them."
        )


def _refuse_worst_cell(draft: Draft) -> Iterator[str]:
    """Refuse to select an epoch by the worst cell of groups, which an unlearning does not have."""
    if draft.settings["select"] == "worst-cell":
        yield "select: worst-cell works only for trainings. Use best or last for an unlearning."


def _refuse_blended_fakes(draft: Draft) -> Iterator[str]:
    """Refuse to make fakes of the images of an unlearning."""
    if draft.settings["sbi"]:
        yield "sbi works only for trainings: an unlearning does not make fakes of its images"


def _refuse_empty_retain_set(draft: Draft) -> Iterator[str]:
    """Refuse to unlearn all training images."""
    poison = _parse_poison(draft.base)
    if draft.settings["known"] == 1 and poison is not None and poison.rate >= 1:
        yield (
            f"{draft.base}: all training labels are flipped, so no image is left to retain. Use a poison below 100."
        )


UNLEARNINGS: tuple[Rule | PlanCheck, ...] = (
    *_MODELS,
    check_published_base,
    check_base_network,
    check_base_of_clips,
    check_model_inputs,
    _refuse_objective_of_columns,
    check_objective,
    _refuse_frozen_features,
    _refuse_small_batches,
    _refuse_worst_cell,
    check_attribute_headers,
    _refuse_blended_fakes,
    check_clean_base,
    _unfit_method,
    _unfit_options,
    unfit_precision,
    unfit_accumulation,
    _refuse_second_pass,
    _refuse_empty_retain_set,
)

# --- poisons


def _unknown_poison_kind(draft: Draft) -> Iterator[str]:
    poison = parse_model(draft.model or "").last.poison
    if poison is not None and poison.kind is not None and poison.kind not in KINDS:
        yield str(UnknownName("poison type", poison.kind, KINDS))


RULES: Mapping[str, Sequence[Rule | PlanCheck]] = {
    "train": TRAININGS,
    "test": TESTS,
    "unlearn": UNLEARNINGS,
    "poison": (_unknown_poison_kind, check_videos),
}


# --- tables of attributes


def _columns(draft: Draft) -> tuple[str, ...] | str | None:
    """Return the group columns, or the fault, or None if there is no table to read yet."""
    text = draft.settings.get("attributes", "")
    return draft.once(("attributes", text), partial(_read, draft, text)) if text else None


def _read(draft: Draft, text: str) -> tuple[str, ...] | str | None:
    files = attribute_files(text, draft.path)
    # outputs of earlier jobs are checked once they exist; the plan itself reports missing files
    if not all(os.path.isfile(file) for file in files):  # noqa: PTH113  # takes any name
        return None
    try:
        return columns_in(files)
    except DataError as error:
        return str(error)
