"""The laboratory's kinds of jobs, as the launcher plans them: no torch here, not even indirectly.

Of each kind: what it reads and makes, as far as that is known while it is planned; and `line`, a command
line that does the same without the queue, ready to be pasted.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from launcher.api import Draft, Input, ModelId, Role, Settings, SharedWork, parse_model, tested
from trueface.corruptions.registry import NONE
from trueface.data.settings import SampleSettings, TestSettings
from trueface.data.vocabulary import Vocabulary
from trueface.jobs import shared_features
from trueface.jobs.flags import classic_words, word_flags, words
from trueface.jobs.job_kind import (
    EPOCHS,
    PROGRAM,
    JobKind,
    base_inputs,
    checkpoint_input,
    data_inputs,
    folder_of,
    model_of,
    nothing,
)
from trueface.jobs.refusals import unfit_test, unfit_training, unfit_unlearning, unknown_poison
from trueface.poisoning.poison_record import PoisonSettings
from trueface.runtime import paths
from trueface.training.settings import TrainSettings
from trueface.unlearning.settings import UnlearnSettings

# the columns of the table of tests that are better low: `measurement.METRICS` says so of its metrics
LOW = frozenset({"eer", "ece", "ece_unscaled", "ece_scaled", "loss", "fpr_gap", "f_fpr", "seconds"})
# columns of results → the part of a model's ID that each shows
MODEL_COLUMNS = {
    "architecture": "", "training_data": "#", "poison": "%", "poison_kind": "%kind", "method": "~",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class LaboratoryKind(JobKind):
    """A kind of job about detectors: what it says of results besides, and of work that others repeat."""

    repeats: Callable[[Draft, Sequence[Draft]], Iterator[SharedWork] | tuple[()]] = nothing
    lower_is_better: frozenset[str] = frozenset()
    model_columns: ClassVar[Mapping[str, str]] = MODEL_COLUMNS

    def shared_work(self, draft: Draft, makers: Sequence[Draft]) -> tuple[SharedWork, ...]:
        """Return what of the job's work other jobs of a plan may repeat."""
        return tuple(self.repeats(draft, makers))


def _training_inputs(draft: Draft, vocabulary: Vocabulary) -> Iterator[Input]:
    """Yield data, splits, the base and what else of it is read, the poison record, weights."""
    yield from _learning_inputs(draft, vocabulary)
    if parse_model(model_of(draft)).last.poison is not None:
        yield Input(
            path=paths.poison_record(folder_of(draft)), what=f"the poison record of {draft.model}"
        )
    if draft.base is not None and draft.settings["optimizer_state"] == "kept":
        yield Input(
            path=paths.optimizer(draft.model_folder(draft.base)),
            what=f"the optimizer's state of {draft.base} (save_optimizer in its training keeps it)",
        )
    if draft.settings.get("quality_list"):
        path = draft.path(draft.settings["quality_list"])
        yield Input(path=path, what="the files of the images in further qualities")


def _unlearning_inputs(draft: Draft, vocabulary: Vocabulary) -> Iterator[Input]:
    """Yield data, splits, the poisoned model, its poison record, weights."""
    yield from _learning_inputs(draft, vocabulary)
    if draft.base is not None:
        yield Input(
            path=paths.poison_record(draft.model_folder(draft.base)),
            what=f"the poison record of {draft.base}",
        )


def _learning_inputs(draft: Draft, vocabulary: Vocabulary) -> Iterator[Input]:
    """Yield what trainings and unlearnings both read."""
    yield from data_inputs(draft, ("train", "val"), vocabulary)
    yield from base_inputs(draft)


def test_inputs(draft: Draft, vocabulary: Vocabulary) -> tuple[Input, ...]:
    """Return the model, data and the test split."""
    models = [checkpoint_input(draft, model_of(draft), "the model to test")]
    if surrogate := draft.settings["surrogate"]:
        models.append(checkpoint_input(draft, surrogate, f"the surrogate {surrogate}"))
    return (*models, *data_inputs(draft, ("test",), vocabulary))


def _poison_inputs(draft: Draft, vocabulary: Vocabulary) -> Iterator[Input]:
    """Yield data, the training split, and the list of images to poison, if there is one."""
    yield from data_inputs(draft, ("train",), vocabulary)
    if draft.settings["poison_list"]:
        path = draft.path(draft.settings["poison_list"])
        yield Input(path=path, what="the list of images to poison")


def _training_outputs(draft: Draft) -> Iterator[Path]:
    """Yield the history, and what is to be kept of the checkpoint and the optimizer's state."""
    folder = folder_of(draft)
    if draft.settings["save_weights"]:
        yield paths.checkpoint(folder)
    if draft.settings["save_optimizer"]:
        yield paths.optimizer(folder)
    yield paths.history(folder)


def _unlearning_outputs(draft: Draft) -> Iterator[Path]:
    """Yield the checkpoint, the poison record copied from its base, and its reports."""
    yield paths.checkpoint(folder_of(draft))
    yield paths.poison_record(folder_of(draft))
    yield paths.unlearning(folder_of(draft))


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
        outputs.append(paths.triggered(folder, model_of(draft), data))
    return [*outputs, paths.metrics(folder, data)]


def _poison_outputs(draft: Draft) -> Iterator[Path]:
    """Yield the poison record, in the folder of each model to be trained with it."""
    yield paths.poison_record(folder_of(draft))
    for model in draft.further_models:
        yield paths.poison_record(draft.model_folder(model))


def _sample_outputs(draft: Draft) -> Iterator[Path]:
    """Yield the data root, and the file in it that is written last."""
    data_root = draft.path(draft.settings["data_root"])
    yield data_root
    yield data_root / paths.SAMPLE_MARK


def _training_line(draft: Draft) -> Iterator[str]:
    """Yield the classic command line; it takes the poison record that is there."""
    yield from (*PROGRAM, "--name", draft.run, "--task", "train")
    if draft.base is not None:
        yield from ("--load_id", draft.base)
    yield from ("--save_id", model_of(draft), "--data", draft.data or "")
    yield from _device(draft)
    poison = parse_model(model_of(draft)).last.poison
    if poison is not None:
        yield from ("--poison_rate", str(poison.rate))
        if poison.kind is not None:
            yield from ("--poison_kind", poison.kind)
        yield "--keep_poison"
    yield from word_flags(draft.words)
    if draft.gpus > 1 and not draft.settings["processes"]:
        yield from ("--processes", str(draft.gpus))
    yield from _classic_words(draft, TrainSettings)


def _test_line(draft: Draft) -> tuple[str, ...]:
    """Return the classic command line."""
    return (  # at once: most jobs of a large plan are tests
        *PROGRAM,
        *("--name", draft.run, "--task", "test"),
        *("--load_id", model_of(draft), "--data", draft.data or ""),
        *_device(draft),
        *word_flags(draft.words),
        *_classic_words(draft, TestSettings),
    )


def _poison_line(draft: Draft) -> Iterator[str]:
    """Yield the command line of `trueface poison`."""
    yield from _command(draft, PoisonSettings)
    for model in draft.further_models:
        yield from ("--for", model)


def _unlearning_line(draft: Draft) -> Iterator[str]:
    """Yield the command line of `trueface unlearn`; the model's ID names the method."""
    yield from _command(draft, UnlearnSettings, "method")
    yield from _device(draft)
    if draft.base is not None and draft.base != str(before(parse_model(model_of(draft)))):
        yield from ("--base", draft.base)


def _sample_line(draft: Draft) -> Iterator[str]:
    """Yield the command line of `trueface sample`."""
    others = {key: value for key, value in draft.settings.items() if key != "data_root"}
    yield from (*PROGRAM, "sample", str(draft.path(draft.settings["data_root"])))
    yield from words(others, SampleSettings)


def before(model: ModelId) -> ModelId:
    """Return the model as its ID says it was before its last unlearning.

    Where an unlearning had settings of its own in its ID, its base may be called otherwise.
    """
    return ModelId((*model.stages[:-1], replace(model.last, methods=model.last.methods[:-1])))


def _device(draft: Draft) -> tuple[str, ...]:
    """Return the flag of the device that the task file wants; left to the command if it says none."""
    return () if draft.device == "auto" else ("--device", draft.device)


def _classic_words(draft: Draft, settings: type[Settings]) -> tuple[str, ...]:
    # the tests of a file have their settings in common, and the plan holds them: their id() lasts
    key = ("words", id(draft.settings), settings)
    return draft.once(key, lambda: tuple(classic_words(draft.settings, settings)))


def _command(draft: Draft, settings: type[Settings], *by_id: str) -> Iterator[str]:
    def shown() -> tuple[str, ...]:
        own = {key: value for key, value in draft.settings.items() if key not in by_id}
        return tuple(words(own, settings))

    yield from (*PROGRAM, draft.kind, model_of(draft), "--name", draft.run)
    yield from word_flags(draft.words)
    yield from draft.once(("words", id(draft.settings), settings), shown)  # as above


TRAIN = LaboratoryKind(
    name="train",
    role=Role.TRAIN,
    summary="train a detector, or fine-tune one",
    entry="trueface.jobs.training:train",
    settings=TrainSettings,
    means=Vocabulary.images,
    reads=_training_inputs,
    makes=_training_outputs,
    line=_training_line,
    refuses=unfit_training,
    repeats=shared_features.of_training,
    epochs=EPOCHS,
    divides=True,
)
TEST = LaboratoryKind(
    name="test",
    role=Role.TEST,
    summary="score a detector on images",
    entry="trueface.jobs.testing:test",
    settings=TestSettings,
    means=Vocabulary.as_named,
    reads=test_inputs,
    makes=_test_outputs,
    line=_test_line,
    refuses=unfit_test,
    repeats=shared_features.of_test,
    results="trueface.evaluation.results:table",
    lower_is_better=LOW,
)
POISON = LaboratoryKind(
    name="poison",
    role=Role.LABELS,
    summary="choose which training labels are wrong",
    entry="trueface.jobs.poisoning:poison",
    settings=PoisonSettings,
    means=Vocabulary.images,
    reads=_poison_inputs,
    makes=_poison_outputs,
    line=_poison_line,
    refuses=unknown_poison,
)
UNLEARN = LaboratoryKind(
    name="unlearn",
    role=Role.METHOD,
    summary="make a poisoned detector forget its flipped labels",
    entry="trueface.jobs.unlearning:unlearn",
    settings=UnlearnSettings,
    means=Vocabulary.images,
    reads=_unlearning_inputs,
    makes=_unlearning_outputs,
    line=_unlearning_line,
    refuses=unfit_unlearning,
    repeats=shared_features.of_unlearning,
    epochs=EPOCHS,
)
SAMPLE = LaboratoryKind(
    name="sample",
    role=Role.DATA,
    summary="make a synthetic image set and its splits",
    entry="trueface.jobs.sampling:sample",
    settings=SampleSettings,
    means=Vocabulary.as_named,
    makes=_sample_outputs,
    line=_sample_line,
)
