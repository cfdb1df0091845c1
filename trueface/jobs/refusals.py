"""Why a job about detectors must not run, found while it is planned; no torch here.

Each function takes the draft, those of the jobs that make its model, and the vocabulary.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from launcher.api import Draft, UnknownName, UsageError, install_command, parse_model
from trueface.corruptions.registry import missing_programs
from trueface.data.attribute_table import FORGERY, FORGERY_GROUP, GROUPS_BY
from trueface.data.attributes import attribute_files, columns_in
from trueface.data.qualities import QualityList, missing_file_words
from trueface.data.settings import other_decoding
from trueface.data.vocabulary import DataIdResolver
from trueface.jobs.job_kind import model_of
from trueface.jobs.lineage import find_leaks
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
from trueface.training.settings import solver_of, unfit_qualities
from trueface.unlearning.registry import TaskProperties, refusal

PACKAGE = "tensorboard"
LOSSES = frozenset({DEFAULT, "ce"})  # of one logit the same: what `fair` takes the place of


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
    differs = other_decoding(makers[-1].settings, draft.settings) if makers else ""
    if differs:
        yield f"{makers[-1].model} is trained with {differs}. Use the same value in training and test."


def check_tensorboard(draft: Draft, *_: object) -> Iterable[str]:
    """Refuse to write event files without the package that writes them."""
    if draft.settings.get("tensorboard") and find_spec(PACKAGE) is None:
        yield (
            f"tensorboard: true needs the package {PACKAGE}, which is not installed. Leave out the "
            f"setting, or install the package: {install_command('tensorboard')}"
        )


def check_attribute_headers(draft: Draft, *_: object) -> Iterator[str]:
    """Yield the faults in the headers of a job's attribute tables."""
    if isinstance(columns := _columns(draft), str):
        yield columns


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


def check_training_qualities(draft: Draft, *_: object) -> Iterator[str]:
    """Yield why a training must not run with its qualities and their collaboration."""
    settings = draft.settings
    if not any(settings.get(name) for name in ("qualities", "quality_list", "collab")):
        return
    yield from unfit_qualities(settings)
    is_shared = (settings["processes"] or draft.gpus) > 1
    if is_shared and settings["dropout"] and not settings["collab"]:
        yield (
            "qualities: in several processes, dropout draws other masks than in one process. Set "
            "dropout: 0, or gpus: 1"
        )
    if settings["quality_list"]:
        path = draft.path(settings["quality_list"])
        key = ("quality_list", path, settings["qualities"])
        yield from draft.once(key, lambda: tuple(_unfit_list(path, settings["qualities"])))


def check_corruptions(draft: Draft, *_: object) -> Iterator[str]:
    """Yield the reasons why images cannot be corrupted as a test or benchmark requests."""
    corrupt = draft.settings.get("corrupt", ())
    for chain in (corrupt,) if isinstance(corrupt, str) else corrupt:
        yield from missing_programs(chain)


def check_fairness(draft: Draft, *_: object) -> Iterable[str]:
    """Yield why what a training does for its groups cannot be done."""
    settings = draft.settings
    fair = settings.get("fair", NOT_FAIR)
    if solver_of(settings) == "ridge" and fair != NOT_FAIR:
        yield (
            f"fair: {fair} weights the images of gradient steps, but {draft.model} is fitted in closed "
            "form. Leave out fair, or use another solver."
        )
        return
    yield from _unfit_network(draft)
    objective = settings.get("objective", DEFAULT)
    if used_objective(settings) != objective and objective not in LOSSES:
        yield (
            f"objective: {objective} and fair: {fair} are both losses, and a training has one. Leave "
            "out one of them, or use fair: oversample, which works with every objective."
        )
    needing = needs_groups(settings)
    if needing and not settings.get("attributes"):
        yield (
            f"{needing} needs the groups of the images. Give a CSV file with them, such as "
            "attributes: faces.csv"
        )


def check_selection(draft: Draft, *_: object) -> Iterable[str]:
    """Refuse an unlearning that would choose by groups: it reads none of validation."""
    if draft.settings.get("select") == "worst-cell":
        yield "select: worst-cell works only for trainings. Use best or last for an unlearning."


def _surrogate_itself(draft: Draft, *_: object) -> Iterator[str]:
    if draft.settings.get("surrogate") == draft.model:
        yield (
            f"surrogate: {draft.model} is the model under attack. Give another model, or use the attack "
            "pgd, which knows the model."
        )


def _self_blended(draft: Draft, *_: object) -> Iterator[str]:
    if draft.settings.get("sbi"):
        yield "sbi works only for trainings: an unlearning does not make fakes of its images"


def _unfit_method(draft: Draft, *_: object) -> Iterator[str]:
    """Yield why the labels of a model cannot be unlearned, or not by this method."""
    try:
        base = parse_model(draft.base or model_of(draft))
    except UsageError:  # of an earlier run, under a name that says nothing
        return
    poison, settings = base.last.poison, draft.settings
    if poison is None:  # a model without poison has no record to read
        clean = not any(stage.poison for stage in base.stages)
        if clean and not paths.poison_record(draft.model_folder(str(base))).exists():
            yield f"{base} has no flipped labels, so there is nothing to unlearn"
        return
    where = TaskProperties(
        goal="flips",
        rate=float(poison.rate),
        random=is_random(poison.kind),
        known=settings["known"],
        finding=settings["find"],
        retain=settings["keep_retain"],
    )
    if reason := refusal(settings["method"], where, force=settings["force"]):
        yield reason


def _unfit_parts(draft: Draft, *_: object) -> Iterable[str]:
    """Return which parts of a training do not go together."""
    return conflicts(draft.settings, _further_parts(draft), model_of(draft))


def _no_optimizer(draft: Draft, *_: object) -> Iterator[str]:
    if draft.settings["optimizer_state"] == "kept" and draft.base is None:
        yield (
            f"optimizer_state: kept needs a model to start from, and {draft.model} has none. Give a "
            "model, or leave out the setting."
        )


def _unfit_processes(draft: Draft, *_: object) -> Iterator[str]:
    """Yield the reasons why a training cannot run in the requested number of processes."""
    settings, name = draft.settings, draft.model or draft.kind
    processes = settings.get("processes", 0)
    on_gpus = draft.gpus > 1 or draft.device.startswith("cuda")
    if on_gpus and processes not in {0, draft.gpus}:
        yield (
            f"{name}: processes: {processes} with gpus: {draft.gpus}. A training has one process per "
            f"GPU. Leave out processes, or set gpus: {processes}"
        )
    size = processes or draft.gpus
    if size > 1:
        remedy = "set gpus: 1" if draft.gpus > 1 else "leave out processes"
        yield from (f"{name}: {reason}" for reason in _undivided(settings, size, remedy))


def _undivided(settings: Mapping[str, Any], size: int, remedy: str) -> Iterator[str]:
    if settings["freeze"] and settings["freeze_bn"]:
        yield (
            f"it trains only the last layer, on features that are computed once. {size} processes would "
            f"not be faster. {remedy[:1].upper()}{remedy[1:]}."
        )
    if settings["compile"]:
        yield f"compile: true works only in one process. Leave it out, or {remedy}."
    if settings["batch_size"] < size:
        yield (
            f"batch_size: {settings['batch_size']} is too small for {size} processes. Set batch_size to "
            f"{size} or more."
        )
    if not objectives()[used_objective(settings)].mean:
        yield (
            f"{choice(settings)} is not declared as a mean over images (mean=True), so its gradient "
            f"cannot be divided among processes. {remedy[:1].upper()}{remedy[1:]}."
        )


def check_poison_kind(draft: Draft, *_: object) -> Iterable[str]:
    """Refuse a kind of poison that there is not."""
    poison = parse_model(model_of(draft)).last.poison
    if poison is not None and poison.kind is not None and poison.kind not in KINDS:
        yield str(UnknownName("poison type", poison.kind, KINDS))


def _further_parts(draft: Draft) -> Iterator[str]:
    """Yield the parts that a training has by its solver, its model and its processes."""
    if solver_of(draft.settings) == "ridge":
        yield "ridge"
    with suppress(UsageError):  # a name that says nothing
        if parse_model(model_of(draft)).last.poison:
            yield "poison"
    if draft.gpus > 1 or draft.settings.get("processes", 0) > 1:
        yield "shards"


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


def _unfit_network(draft: Draft) -> Iterable[str]:
    """Yield the reasons why a network does not support an objective that uses its inner layers."""
    spec = objectives().get(used_objective(draft.settings))
    if spec is None or not spec.network:
        return
    model = str(draft.settings["model"])
    if model.partition("/")[0] != spec.network:
        yield (
            f"{choice(draft.settings)} needs the parts of model {spec.network}, but model is {model}. "
            f"Use another objective, or model: {spec.network} or {spec.network}/NETWORK"
        )
    elif draft.settings.get("freeze"):
        yield f"{choice(draft.settings)} trains the whole network. Leave out freeze."


def _unfit_objective(draft: Draft, makers: Sequence[Draft], _: DataIdResolver) -> Iterable[str]:
    """Refuse an unlearning that would train with another loss than the model was trained with."""
    name = draft.settings.get("objective", DEFAULT)
    if columns := objectives()[name].columns:
        needs = ", ".join(columns)
        yield f"objective: {name} needs {needs} of each image. An unlearning does not read them."
    trained = next((maker for maker in reversed(makers) if maker.kind == "train"), None)
    differs = other_objective(trained.settings, draft.settings) if trained else ""
    if trained and differs:
        columns = objectives()[used_objective(trained.settings)].columns
        remedy = f"An unlearning does not read {' and '.join(columns)}. Use another model."
        remedy = remedy if columns else "Use the same value in training and unlearning."
        yield f"{trained.model} is trained with {differs}. {remedy}"


def _all_flipped(draft: Draft, *_: object) -> Iterable[str]:
    """Refuse to unlearn a poison of which no correctly labelled image is left."""
    poison = None
    with suppress(UsageError):  # a name that says nothing
        poison = parse_model(draft.base).last.poison if draft.base else None
    if poison is not None and poison.rate >= 1 and draft.settings.get("known", 1) == 1:
        yield (
            f"{draft.base}: all training labels are flipped, so no image is left to retain. Use a "
            "poison below 100."
        )


def _unfit_solver(draft: Draft, makers: Sequence[Draft], _: DataIdResolver) -> Iterable[str]:
    """Refuse what does not go with a training in closed form, or only with one."""
    settings, base = draft.settings, next(iter(makers[::-1]), None)
    is_ridge = solver_of(settings) == "ridge"
    if settings.get("shots") and not (is_ridge and draft.base):
        yield (
            f"shots: {settings['shots']} needs a detector that was fitted in closed form. Name one "
            "as `model`, and train with solver: ridge"
        )
    if base is None or base.kind != "train":
        return
    if is_ridge != (solver_of(base.settings) == "ridge"):
        made = "by steps" if is_ridge else "in closed form"
        wanted = "solver: ridge" if is_ridge else "another solver"
        yield (
            f"{base.model} is trained {made}. A training with {wanted} cannot start from it. Train it "
            "again, or use the same solver."
        )


_OF_MODELS = (check_saved_weights, check_decoding)
OF_SCORING = (*_OF_MODELS, find_leaks, check_corruptions, check_attribute_headers)
OF_TESTS = (*OF_SCORING, _surrogate_itself)
OF_TRAININGS = (
    *_OF_MODELS,
    _unfit_processes,
    check_group_columns,
    _unfit_solver,
    _unfit_parts,
    check_training_qualities,
    check_fairness,
    check_tensorboard,
    _no_optimizer,
)
OF_UNLEARNINGS = (
    *_OF_MODELS,
    _unfit_objective,
    check_selection,
    check_attribute_headers,
    _self_blended,
    _unfit_method,
    _all_flipped,
)
