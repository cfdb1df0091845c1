"""The laboratory's kinds of jobs, as the launcher plans them: no torch here, not even indirectly.

Each kind lists its inputs and outputs, as far as they are known at planning, and `line`, an equivalent
command line without the queue.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from launcher.api import Draft, Input, Json, ModelId, Role, Settings, parse_model, tested
from trueface.corruptions.registry import NONE
from trueface.data.settings import SampleSettings, TestSettings
from trueface.data.vocabulary import DataIdResolver
from trueface.jobs import feature_kind
from trueface.jobs.clip_parts import inherited_clips
from trueface.jobs.flags import classic_words, word_flags
from trueface.jobs.job_kind import (
    EPOCHS,
    PROGRAM,
    LaboratoryKind,
    base_inputs,
    checkpoint_input,
    command_line,
    data_inputs,
    data_root_outputs,
    device_flag,
    folder_of,
    inputs_from_settings,
    model_files,
    model_of,
)
from trueface.jobs.rules import RULES
from trueface.poisoning.poison_record import PoisonSettings
from trueface.runtime import paths
from trueface.runtime.files import read_json
from trueface.training.config import is_checkpoint_file
from trueface.training.objectives.registry import objectives, used_objective
from trueface.training.settings import TrainSettings
from trueface.unlearning.settings import UnlearnSettings

# the columns of the table of tests that are better low: `measurement.METRICS` says so of its metrics
LOW = frozenset({"eer", "ece", "ece_unscaled", "ece_scaled", "loss", "fpr_gap", "f_fpr", "seconds"})


def _training_inputs(draft: Draft, _: DataIdResolver) -> Iterator[Input]:
    """Yield the poison record, and the state of the base's optimizer."""
    if parse_model(model_of(draft)).last.poison is not None:
        yield _poison_record(draft, model_of(draft))
    if draft.base is not None and draft.settings["optimizer_state"] == "kept":
        yield Input(
            path=paths.optimizer(draft.model_folder(draft.base)),
            what=f"the optimizer state of {draft.base} (set save_optimizer: true in its training)",
        )
    if teacher := draft.settings["teacher"]:
        if is_checkpoint_file(teacher):
            yield Input(path=draft.path(teacher), what="the checkpoint of the teacher")
        else:
            yield checkpoint_input(draft, teacher, "the teacher")


def _unlearning_inputs(draft: Draft, _: DataIdResolver) -> Iterator[Input]:
    """Yield the poison record of the poisoned model."""
    if draft.base is not None:
        yield _poison_record(draft, draft.base)


def _objective_of_base(draft: Draft, makers: Sequence[Draft]) -> Mapping[str, Json]:
    """Return the objective with which the job's base was trained, unless an unlearning cannot use it."""
    trained = next((maker for maker in reversed(makers) if maker.kind == "train"), None)
    settings: Json = None if trained is None else dict(trained.settings)
    if settings is None and draft.base is not None:
        record = read_json(paths.provenance(draft.model_folder(draft.base)))
        settings = record.get("settings") if record else None
    if not isinstance(settings, dict):
        return {}
    spec = objectives().get(used_objective(settings))
    return {} if spec is None or spec.columns else {"objective": spec.name}


def _poison_record(draft: Draft, model: str) -> Input:
    path = paths.poison_record(draft.model_folder(model))
    return Input(path=path, what=f"the poison record of {model}")


def tested_models(draft: Draft, _: DataIdResolver) -> Iterator[Input]:
    """Yield the model to be tested, and the one with which attacks are computed."""
    path = paths.checkpoint(folder_of(draft))
    yield Input(path=path, what="the model to test")
    if surrogate := draft.settings["surrogate"]:
        yield checkpoint_input(draft, surrogate, "the surrogate")


TEST_INPUTS = (tested_models, partial(data_inputs, ("test",)))
LEARNING_INPUTS = (partial(data_inputs, ("train", "val")), base_inputs)


def _training_outputs(draft: Draft) -> Iterator[Path]:
    """Yield the history, and the checkpoint and optimizer state if they are saved."""
    folder = folder_of(draft)
    if draft.settings["save_weights"]:
        yield paths.checkpoint(folder)
    if draft.settings["save_optimizer"]:
        yield paths.optimizer(folder)
    yield paths.history(folder)


def _test_outputs(draft: Draft) -> list[Path]:
    """Return the metrics, and the scores unless they are not to be kept."""
    folder, outputs = folder_of(draft), []
    # the tests of a file have their settings in common, and the plan holds them: their id() lasts
    key = ("condition", id(draft.settings))
    condition = draft.once(key, lambda: TestSettings.condition(draft.settings))
    data = tested(draft.data or "", condition)
    # under an attack that cannot be done there is a reason, and no score
    if draft.settings["save_scores"] and draft.settings["attack"] == NONE:
        outputs.append(paths.scores(folder, model_of(draft), data))
    if draft.settings["save_images"]:
        outputs.append(paths.saved_images(folder, data))
    if draft.settings["trigger"]:
        outputs.append(paths.triggered_scores(folder, model_of(draft), data))
    return [*outputs, paths.metrics(folder, data)]


def _poison_outputs(draft: Draft) -> Iterator[Path]:
    """Yield the poison record, in the folder of each model to be trained with it."""
    for model in (model_of(draft), *draft.further_models):
        yield paths.poison_record(draft.model_folder(model))


def _classic_line(draft: Draft, settings: type[Settings], *words: str) -> tuple[str, ...]:
    """Return the command line of the original program."""

    def list_flags() -> tuple[str, ...]:
        return tuple(classic_words(draft.settings, settings))

    return (  # at once: most jobs of a large plan are tests
        *PROGRAM,
        *("--name", draft.run, "--task", draft.kind),
        *words,
        *word_flags(draft.words),
        *(("--processes", str(draft.gpus)) if _shared_by_gpus(draft) else ()),
        # the tests of a file have their settings in common, and the plan holds them: their id() lasts
        *draft.once(("words", id(draft.settings), settings), list_flags),
    )


def _shared_by_gpus(draft: Draft) -> bool:
    return draft.gpus > 1 and draft.settings.get("processes") == 0


def _training_line(draft: Draft) -> tuple[str, ...]:
    """Return the classic command line; it takes the poison record that is there."""
    base = () if draft.base is None else ("--load_id", draft.base)
    poison = parse_model(model_of(draft)).last.poison
    words = (*base, "--save_id", model_of(draft), "--data", draft.data or "", *device_flag(draft))
    if poison is not None:
        kind = () if poison.kind is None else ("--poison_kind", poison.kind)
        words = (*words, "--poison_rate", str(poison.rate), *kind, "--keep_poison")
    return _classic_line(draft, TrainSettings, *words)


def _test_line(draft: Draft) -> tuple[str, ...]:
    """Return the classic command line."""
    words = ("--load_id", model_of(draft), "--data", draft.data or "", *device_flag(draft))
    return _classic_line(draft, TestSettings, *words)


def _poison_line(draft: Draft) -> Iterator[str]:
    """Yield the command line of `trueface poison`."""
    yield from command_line(draft, PoisonSettings, *_head(draft))
    for model in draft.further_models:
        yield from ("--for", model)


def _unlearning_line(draft: Draft) -> Iterator[str]:
    """Yield the command line of `trueface unlearn`; the model's ID names the method."""
    yield from command_line(draft, UnlearnSettings, *_head(draft), excluded_settings=("method",))
    yield from device_flag(draft)
    if draft.base is not None and draft.base != str(parent_model(parse_model(model_of(draft)))):
        yield from ("--base", draft.base)


def _head(draft: Draft) -> tuple[str, ...]:
    return (draft.kind, model_of(draft), "--name", draft.run, *word_flags(draft.words))


def _sample_line(draft: Draft) -> Iterator[str]:
    """Return the command line of `trueface sample`."""
    root = str(draft.path(draft.settings["data_root"]))
    return command_line(draft, SampleSettings, "sample", root, excluded_settings=("data_root",))


def parent_model(model: ModelId) -> ModelId:
    """Return the model as its ID says it was before its last unlearning.

    Where an unlearning had settings of its own in its ID, its base may be called otherwise.
    """
    return ModelId((*model.stages[:-1], replace(model.last, methods=model.last.methods[:-1])))


TRAIN = LaboratoryKind(
    name="train",
    role=Role.TRAIN,
    summary="train or fine-tune a detector",
    entry="trueface.jobs.training:train",
    settings=TrainSettings,
    resolve_data=DataIdResolver.training_data_id,
    input_readers=(
        *LEARNING_INPUTS,
        _training_inputs,
        inputs_from_settings({"quality_list": "the files of the images in further qualities"}),
    ),
    list_outputs=_training_outputs,
    build_command=_training_line,
    rules=RULES["train"],
    reported_validation=frozenset({"val_loss", "val_accuracy", "val_balanced_accuracy"}),
    list_shared_work=feature_kind.training_features,
    epochs=EPOCHS,
    uses_several_gpus=True,
)
TEST = LaboratoryKind(
    name="test",
    role=Role.TEST,
    summary="score a detector on images",
    entry="trueface.jobs.testing:test",
    settings=TestSettings,
    input_readers=TEST_INPUTS,
    list_outputs=_test_outputs,
    build_command=_test_line,
    rules=RULES["test"],
    list_inherited=inherited_clips,
    list_shared_work=feature_kind.scoring_features,
    results="trueface.evaluation.results:table",
    lower_is_better=LOW,
)
POISON = LaboratoryKind(
    name="poison",
    role=Role.LABELS,
    summary="choose the training labels to flip",
    entry="trueface.jobs.poisoning:poison",
    settings=PoisonSettings,
    resolve_data=DataIdResolver.training_data_id,
    input_readers=(
        partial(data_inputs, ("train",)),
        inputs_from_settings({"poison_list": "the list of images to poison"}),
    ),
    list_outputs=_poison_outputs,
    build_command=_poison_line,
    rules=RULES["poison"],
)
UNLEARN = LaboratoryKind(
    name="unlearn",
    role=Role.METHOD,
    summary="unlearn the flipped labels of a poisoned detector",
    entry="trueface.jobs.unlearning:unlearn",
    settings=UnlearnSettings,
    resolve_data=DataIdResolver.training_data_id,
    input_readers=(*LEARNING_INPUTS, _unlearning_inputs),
    # its poison record is a copy of its base's
    list_outputs=model_files(paths.poison_record, paths.unlearning),
    build_command=_unlearning_line,
    list_inherited=_objective_of_base,
    rules=RULES["unlearn"],
    reported_validation=frozenset({"val_accuracy", "val_accuracy_before"}),
    list_shared_work=feature_kind.unlearning_features,
    epochs=EPOCHS,
)
SAMPLE = LaboratoryKind(
    name="sample",
    role=Role.DATA,
    summary="make a synthetic data set with splits",
    entry="trueface.jobs.sampling:sample",
    settings=SampleSettings,
    list_outputs=data_root_outputs(paths.SAMPLE_MARK),
    build_command=_sample_line,
)
