"""The rules and checks of the job types about detectors, found while they are planned; no torch here.

A check takes the draft, those of the jobs that make its model, and the vocabulary. See `rule`.
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
from trueface.data.qualities import QualityList, files_of, missing_file_words, split_quality_words
from trueface.data.settings import other_decoding, resized_base
from trueface.data.vocabulary import DataIdResolver
from trueface.jobs.rule import Check, Rule, published_root
from trueface.models.registry import (
    LIBRARIES,
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


def _poison_in(model: str | None) -> Poison | None:
    """Return the poison that a model's ID names. None if it names none, or if the name is not an ID."""
    with suppress(UsageError):
        return parse_model(model).last.poison if model else None
    return None


# --- models


def check_saved_weights(_: Draft, makers: Sequence[Draft], __: DataIdResolver) -> Iterable[str]:
    """Reject a model whose weights are not saved, because an older file would be used instead."""
    # an unlearning keeps its weights whatever the setting says
    if makers and makers[-1].kind == "train" and not makers[-1].settings["save_weights"]:
        yield (
            f"the training of {makers[-1].model} does not save the weights that this job needs. Set "
            "save_weights: true in the training."
        )


def check_decoding(draft: Draft, makers: Sequence[Draft], _: DataIdResolver) -> Iterable[str]:
    """Refuse images that are read in another way than those of the model's training were."""
    if makers and makers[-1].settings.get("resize") and draft.kind == "train":
        return  # see `check_published_base`
    differs = other_decoding(makers[-1].settings, draft.settings) if makers else ""
    if differs:
        yield f"{makers[-1].model} is trained with {differs}. Use the same value in training and test."


_MODELS = (check_saved_weights, check_decoding)


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


def check_model_inputs(draft: Draft, *_: object) -> Iterable[str]:
    """Yield why the images of a training do not fit its teacher or its base. See `model_inputs`."""
    from trueface.jobs.model_inputs import find_unfit_models  # the start of a job does not need it

    return find_unfit_models(draft)


# --- tests


def check_leaks(draft: Draft, makers: Sequence[Draft], vocabulary: DataIdResolver) -> Iterable[str]:
    """Yield the images of a test on which its model was trained. See `lineage`."""
    from trueface.jobs.lineage import find_leaks  # the start of a job does not need it

    return find_leaks(draft, makers, vocabulary)


@Rule
def _missing_corruption_programs(draft: Draft) -> Iterator[str]:
    """Yield the reasons why images cannot be corrupted as a test or benchmark requests."""
    corrupt = draft.settings.get("corrupt", ())
    for each in (corrupt,) if isinstance(corrupt, str) else corrupt:
        yield from missing_programs(each)


def check_attribute_headers(draft: Draft, *_: object) -> Iterator[str]:
    """Yield the faults in the headers of a job's attribute tables."""
    if isinstance(columns := _columns(draft), str):
        yield columns


def check_side(draft: Draft, makers: Sequence[Draft], _: DataIdResolver) -> Iterator[str]:
    """Refuse images of a side that the network of a trained model does not take."""
    name = next(filter(None, (each.settings.get("model") for each in makers)), None)
    settings = draft.settings
    side = settings.get("resize_size")
    if settings.get("test_crops") and settings.get("patch_size", -1) > 0:
        side = settings["patch_size"]
    if name is not None and side and (reason := unfit_side(spec_of(name), side)):
        yield f"{draft.model}: {reason}"


def check_saved_features(draft: Draft, makers: Sequence[Draft], _: DataIdResolver) -> Iterator[str]:
    """Refuse to save the features of a network that does not end in one linear layer."""
    known = (each.settings.get("model") or each.settings.get("architecture") for each in makers)
    name = next(filter(None, known), None)
    if draft.settings["features"] and name is not None and spec_of(name).head is None:
        yield f"{draft.model}: {without_last_layer('features: true', name)}"


SCORING = (
    *_MODELS,
    check_side,
    check_leaks,
    _missing_corruption_programs,
    check_attribute_headers,
)
TESTS = (
    *SCORING,
    check_saved_features,
    Rule(
        lambda draft: draft.settings["surrogate"] == draft.model,
        "surrogate: {model} is the model under attack. Give another model, or use the attack pgd, which "
        "knows the model.",
    ),
)

# --- trainings


@Rule
def _unusable_without_last_layer(draft: Draft) -> Iterator[str]:
    """Yield what a training or unlearning would do to a last layer that its network does not have."""
    name = draft.settings["model"]
    if spec_of(name).head is None:
        for user in _users_of_last_layer(draft.settings):
            yield f"{draft.model}: {without_last_layer(user, name)}"


@Rule
def _unfit_network(draft: Draft) -> Iterator[str]:
    """Yield why a detector of images of this side cannot be made of the network, as far as it is known."""
    settings = draft.settings
    side = settings["patch_size"] if settings["patch_size"] > 0 else settings["resize_size"]
    name = settings["model"]
    spec = spec_of(name)
    if spec.head is None and name.partition("/")[0] in LIBRARIES:
        yield f"{draft.model}: {without_linear_layer(name)}"
    elif reason := unfit_side(spec, side):
        yield f"{draft.model}: {reason}"


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


def _fewer(draft: Draft) -> str:
    return "set gpus: 1" if draft.gpus > 1 else "leave out processes"


def _fewer_sentence(draft: Draft) -> str:
    remedy = _fewer(draft)
    return f"{remedy[:1].upper()}{remedy[1:]}."


# about the number of processes
PROCESSES = (
    Rule(
        lambda draft: (
            (draft.gpus > 1 or draft.device.startswith("cuda"))
            and draft.settings["processes"] not in {0, draft.gpus}
        ),
        "{model}: processes: {processes} with gpus: {gpus}. A training has one process per GPU. Leave out "
        "processes, or set gpus: {processes}",
    ),
    Rule(
        lambda draft: _processes(draft) > 1,
        (
            Rule(
                lambda draft: draft.settings["freeze"] and draft.settings["freeze_bn"],
                lambda draft: (
                    f"{draft.model}: it trains only the last layer, on features that are computed once. "
                    f"{_processes(draft)} processes would not be faster. {_fewer_sentence(draft)}"
                ),
            ),
            Rule(
                lambda draft: draft.settings["compile"],
                lambda draft: (
                    f"{draft.model}: compile: true works only in one process. Leave it out, or {_fewer(draft)}."
                ),
            ),
            Rule(
                lambda draft: draft.settings["batch_size"] < _processes(draft),
                lambda draft: (
                    f"{draft.model}: batch_size: {draft.settings['batch_size']} is too small for "
                    f"{_processes(draft)} processes. Set batch_size to {_processes(draft)} or more."
                ),
            ),
            Rule(
                lambda draft: not objectives()[used_objective(draft.settings)].mean,
                lambda draft: (
                    f"{draft.model}: {choice(draft.settings)} is not declared as a mean over images (mean=True), so "
                    f"its gradient cannot be divided among processes. {_fewer_sentence(draft)}"
                ),
            ),
        ),
    ),
)


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


@Rule
def _part_conflicts(draft: Draft) -> Iterable[str]:
    """Return which parts of a training do not go together, as the parts declare it."""
    # parts that depend on the solver, the model and the processes, not on one setting
    others = {
        "ridge": _is_closed_form(draft),
        "poison": _poison_in(draft.model),
        "shards": draft.gpus > 1 or draft.settings["processes"] > 1,
    }
    further = [name for name, there in others.items() if there]
    return conflicts(draft.settings, further, draft.model or "")


def _quality_files(draft: Draft) -> list[str]:
    """Return those of the qualities that are read from further files."""
    names = split_quality_words(draft.settings["qualities"])
    return [name for name in names if files_of(name) is not None]


@Rule
def _missing_quality_programs(draft: Draft) -> Iterable[str]:
    return qualities.missing_programs(draft.settings["qualities"])


def check_quality_list(draft: Draft, *_: object) -> Iterable[str]:
    """Yield the faults of the list of files of further qualities."""
    if not draft.settings["quality_list"]:
        return ()
    path = draft.path(draft.settings["quality_list"])
    key = ("quality_list", path, draft.settings["qualities"])
    return draft.once(key, lambda: tuple(_unfit_list(path, draft.settings["qualities"])))


def _unfit_list(path: Path, qualities: str) -> Iterator[str]:
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


QUALITIES = (
    Rule(
        lambda draft: any(draft.settings[name] for name in ("qualities", "quality_list", "collab")),
        (
            _missing_quality_programs,
            Rule(
                lambda draft: _quality_files(draft) and not draft.settings["quality_list"],
                lambda draft: (
                    f"qualities: {_quality_files(draft)[0]} needs quality_list. Set quality_list to the data.json "
                    "that names its files."
                ),
            ),
            Rule(
                lambda draft: draft.settings["quality_list"] and not _quality_files(draft),
                "quality_list: {quality_list} is not used. Name its qualities in qualities, such as "
                f"{RAW}, c23.",
            ),
            Rule(
                lambda draft: draft.settings["qualities"] and draft.settings["decode"] != "exact",
                "qualities cannot be used with decode: {decode}, which resizes images before they are corrupted. "
                "Leave decode out.",
            ),
            Rule(
                lambda draft: draft.settings["collab"],
                (
                    Rule(
                        lambda draft: len(split_quality_words(draft.settings["qualities"])) < 2,
                        "collab: {collab:g} needs two qualities at least. Write qualities: [raw, jpeg75], or leave collab "
                        "out.",
                    ),
                    Rule(
                        lambda draft: draft.settings["quality_batch"] != "paired",
                        "collab needs quality_batch: paired, which puts each image into a batch in all qualities",
                    ),
                    Rule(
                        lambda draft: draft.settings["batch_size"] < LEAST_ITEMS,
                        f"collab needs batches of {LEAST_ITEMS} images at least, got batch_size: {{batch_size}}. Set "
                        f"batch_size: {LEAST_ITEMS} or more.",
                    ),
                    Rule(
                        lambda draft: draft.settings["fair"] == "mix",
                        "collab cannot be used with fair: mix, which mixes each quality of an image with a different "
                        "image. Leave one of them out.",
                    ),
                    Rule(
                        # a frozen network may have a hidden layer in its head, which is trained
                        lambda draft: (
                            draft.settings["freeze"] and not spec_of(draft.settings["model"]).frozen
                        ),
                        "collab cannot be used with freeze: true, which keeps all layers unchanged. Leave one of them "
                        "out, or choose a model with a hidden layer in its head, such as moments/mobilenet.",
                    ),
                ),
            ),
            Rule(
                lambda draft: (
                    _processes(draft) > 1
                    and draft.settings["dropout"]
                    and not draft.settings["collab"]
                ),
                "qualities: in several processes, dropout draws other masks than in one process. Set dropout: 0, or "
                "gpus: 1",
            ),
        ),
    ),
    check_quality_list,
)


def _has_weighted_images(draft: Draft) -> bool:
    """Return whether a training in closed form has a setting that weights images in gradient steps."""
    return draft.settings["fair"] != NOT_FAIR and _is_closed_form(draft)


def _network_of_objective(draft: Draft) -> str:
    """Return the network whose inner layers the objective uses; '' if it works with every network."""
    spec = objectives().get(used_objective(draft.settings))
    return "" if spec is None else spec.network


def _has_network(draft: Draft) -> bool:
    first = str(draft.settings["model"]).partition("/")[0]
    return _network_of_objective(draft) in {first, first.partition("_")[0]}  # as mcx_hsv


_FEATURES_THAT_LEARN = Rule(
    lambda draft: (
        draft.settings["freeze"] and objectives()[used_objective(draft.settings)].features
    ),
    lambda draft: (
        f"{choice(draft.settings)} trains the features, which freeze: true keeps unchanged. Leave out freeze."
    ),
)

# about objectives with a teacher
DISTILLATION = Rule(
    lambda draft: "teacher" in objectives()[used_objective(draft.settings)].options,
    (
        Rule(
            lambda draft: not draft.settings["teacher"],
            lambda draft: (
                f"{choice(draft.settings)} needs a teacher. Set teacher to the ID of an earlier model of this run, "
                "or to the path of a checkpoint"
            ),
        ),
        Rule(
            lambda draft: draft.settings["teacher"] == draft.model,
            "teacher: {model} is the model that is trained. Give another model.",
        ),
        Rule(
            lambda draft: (
                len(split_quality_words(draft.settings["qualities"])) < 2
                or draft.settings["quality_batch"] != "paired"
            ),
            lambda draft: (
                f"{choice(draft.settings)} needs each image in two qualities, the first for the teacher. Write "
                "qualities: [raw, jpeg30] and quality_batch: paired"
            ),
        ),
        Rule(
            lambda draft: draft.settings["freeze"],
            lambda draft: f"{choice(draft.settings)} trains the whole network. Leave out freeze.",
        ),
        Rule(
            lambda draft: draft.settings["collab"],
            lambda draft: (
                f"{choice(draft.settings)} cannot be used with collab, which reads the same pairs. Leave one of them "
                "out."
            ),
        ),
    ),
)

# about objectives that compare images of a batch
COMPARISONS = Rule(
    lambda draft: (
        not _is_closed_form(draft)
        and draft.settings["batch_size"] < objectives()[used_objective(draft.settings)].least_images
    ),
    lambda draft: (
        f"{choice(draft.settings)} compares images of a batch and needs at least {_least_images(draft)} of them, got "
        f"batch_size: {draft.settings['batch_size']}. Set batch_size: {_least_images(draft)} or more."
    ),
)


def _least_images(draft: Draft) -> int:
    return objectives()[used_objective(draft.settings)].least_images


# about objectives that compare augmentations of each image
VIEWS = Rule(
    lambda draft: objectives()[used_objective(draft.settings)].views > 1,
    (
        Rule(
            lambda draft: draft.settings["qualities"],
            lambda draft: (
                f"{choice(draft.settings)} compares augmentations of each image and cannot be used with qualities. "
                "Leave one of them out."
            ),
        ),
        Rule(
            lambda draft: draft.settings["sbi"],
            lambda draft: (
                f"{choice(draft.settings)} compares augmentations of each image and cannot be used with sbi, which "
                "makes a fake of some of them. Leave one of them out."
            ),
        ),
    ),
)

# about the groups of the images
FAIRNESS = (
    Rule(
        _has_weighted_images,
        "fair: {fair} weights the images of gradient steps, but {model} is fitted in closed form. Leave out fair, "
        "or use another solver.",
    ),
    Rule(
        lambda draft: not _has_weighted_images(draft),
        (
            Rule(
                _network_of_objective,
                (
                    Rule(
                        lambda draft: not _has_network(draft),
                        lambda draft: (
                            f"{choice(draft.settings)} needs the parts of model {_network_of_objective(draft)}, but model "
                            f"is {draft.settings['model']}. Use another objective, or model: "
                            f"{_network_of_objective(draft)} or {_network_of_objective(draft)}/NETWORK"
                        ),
                    ),
                    Rule(
                        lambda draft: _has_network(draft) and draft.settings["freeze"],
                        lambda draft: (
                            f"{choice(draft.settings)} trains the whole network. Leave out freeze."
                        ),
                    ),
                ),
            ),
            _FEATURES_THAT_LEARN,
            Rule(
                lambda draft: (
                    draft.settings["objective"] not in {*LOSSES, used_objective(draft.settings)}
                ),
                "objective: {objective} and fair: {fair} are both losses, and a training has one. Leave out one of "
                "them, or use fair: oversample, which works with every objective.",
            ),
            Rule(
                lambda draft: not draft.settings["attributes"] and needs_groups(draft.settings),
                lambda draft: (
                    f"{needs_groups(draft.settings)} needs the groups of the images. Give a CSV file with them, such "
                    "as attributes: faces.csv"
                ),
            ),
        ),
    ),
)

TENSORBOARD = Rule(
    lambda draft: draft.settings["tensorboard"] and find_spec(PACKAGE) is None,
    lambda _: (
        f"tensorboard: true needs the package {PACKAGE}, which is not installed. Leave out the setting, or install "
        f"the package: {install_command('tensorboard')}"
    ),
)


def describe_no_mean(draft: Draft) -> str:
    """Return why a loss that is not a mean over images cannot be divided among the batches of a step."""
    return (
        f"accumulate: {draft.settings['accumulate']} cannot be used with {choice(draft.settings)}, which is not "
        "declared as a mean over images (mean=True). Leave out accumulate."
    )


# about steps of several batches
_ONE_PASS = Rule(
    lambda draft: (
        draft.settings["accumulate"] > 1 and (draft.settings["sam"] or draft.settings["awp"])
    ),
    lambda draft: (
        f"accumulate: {draft.settings['accumulate']} cannot be used with "
        f"{'sam' if draft.settings['sam'] else 'awp'}, which makes a second pass over the batch of each step. "
        "Leave one of them out."
    ),
)
ACCUMULATION = Rule(
    lambda draft: draft.settings["accumulate"] > 1 and not _is_closed_form(draft),
    (
        _ONE_PASS,
        Rule(
            lambda draft: draft.settings["collab"],
            "accumulate: {accumulate} cannot be used with collab, whose loss compares the images of a whole batch. "
            "Leave one of them out.",
        ),
        Rule(
            lambda draft: not objectives()[used_objective(draft.settings)].mean,
            describe_no_mean,
        ),
    ),
)
TRAININGS = (
    *_MODELS,
    check_published_base,
    _unfit_network,
    check_model_inputs,
    _unusable_without_last_layer,
    *PROCESSES,
    ACCUMULATION,
    check_group_columns,
    Rule(
        lambda draft: draft.settings["shots"] and not (_is_closed_form(draft) and draft.base),
        "shots: {shots} needs a detector that was fitted in closed form. Name one as `model`, and train with "
        "solver: ridge",
    ),
    check_solver,
    _part_conflicts,
    *QUALITIES,
    DISTILLATION,
    COMPARISONS,
    VIEWS,
    *FAIRNESS,
    TENSORBOARD,
    Rule(
        lambda draft: draft.settings["optimizer_state"] == "kept" and draft.base is None,
        "optimizer_state: kept needs a model to start from, and {model} has none. Give a model, or leave out the "
        "setting.",
    ),
)

# --- unlearnings


def check_objective(draft: Draft, makers: Sequence[Draft], _: DataIdResolver) -> Iterable[str]:
    """Refuse an unlearning that would train with another loss than the model was trained with."""
    trained = next((maker for maker in reversed(makers) if maker.kind == "train"), None)
    differs = other_objective(trained.settings, draft.settings) if trained else ""
    if trained and differs:
        columns = objectives()[used_objective(trained.settings)].columns
        remedy = f"An unlearning does not read {' and '.join(columns)}. Use another model."
        remedy = remedy if columns else "Use the same value in training and unlearning."
        yield f"{trained.model} is trained with {differs}. {remedy}"


def check_clean_base(draft: Draft, *_: object) -> Iterator[str]:
    """Refuse to unlearn flipped labels from a model that has none."""
    with suppress(UsageError):  # a model of an earlier run may have a name that is not an ID
        base = parse_model(draft.base or draft.model or "")
        # a model without poison in its ID may have a record to read
        record = paths.poison_record(draft.model_folder(str(base)))
        if not any(stage.poison for stage in base.stages) and not record.exists():
            yield f"{base} has no flipped labels, so there is nothing to unlearn"


@Rule
def _unfit_method(draft: Draft) -> Iterator[str]:
    """Yield why the labels of a model cannot be unlearned by this method."""
    from trueface.unlearning.registry import (  # the start of a training does not need it
        TaskProperties,
        refusal,
    )

    poison, settings = _poison_in(draft.base or draft.model), draft.settings
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


@Rule
def _unfit_options(draft: Draft) -> Iterator[str]:
    """Yield which hyperparameters make no sense for the flipped labels of a detector."""
    from trueface.unlearning.settings import conflicts  # as above

    yield from conflicts(draft.settings, "flips", 2)


@Rule
def unfit_precision(draft: Draft) -> Iterator[str]:
    """Yield why the method cannot compute in the precision of the job."""
    from trueface.unlearning.registry import refuse_precision  # as above

    if reason := refuse_precision(draft.settings["method"], draft.settings["precision"]):
        yield reason


@Rule
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


UNLEARNINGS = (
    *_MODELS,
    check_published_base,
    _unfit_network,
    check_model_inputs,
    _unusable_without_last_layer,
    Rule(
        lambda draft: objectives()[draft.settings["objective"]].columns,
        lambda draft: (
            f"objective: {draft.settings['objective']} needs "
            f"{', '.join(objectives()[draft.settings['objective']].columns)} of each image. An unlearning does not "
            "read them."
        ),
    ),
    check_objective,
    _FEATURES_THAT_LEARN,
    COMPARISONS,
    Rule(
        lambda draft: draft.settings["select"] == "worst-cell",
        "select: worst-cell works only for trainings. Use best or last for an unlearning.",
    ),
    check_attribute_headers,
    Rule(
        lambda draft: draft.settings["sbi"],
        "sbi works only for trainings: an unlearning does not make fakes of its images",
    ),
    check_clean_base,
    _unfit_method,
    _unfit_options,
    unfit_precision,
    unfit_accumulation,
    _ONE_PASS,
    Rule(
        lambda draft: (
            draft.settings["known"] == 1
            and (poison := _poison_in(draft.base)) is not None
            and poison.rate >= 1
        ),
        "{base}: all training labels are flipped, so no image is left to retain. Use a poison below 100.",
    ),
)

# --- poisons


@Rule
def _unknown_poison_kind(draft: Draft) -> Iterator[str]:
    poison = parse_model(draft.model or "").last.poison
    if poison is not None and poison.kind is not None and poison.kind not in KINDS:
        yield str(UnknownName("poison type", poison.kind, KINDS))


RULES: Mapping[str, Sequence[Check]] = {
    "train": TRAININGS,
    "test": TESTS,
    "unlearn": UNLEARNINGS,
    "poison": (_unknown_poison_kind,),
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
