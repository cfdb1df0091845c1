"""The laboratory's kinds of jobs, as the launcher plans them: no torch here, not even indirectly.

`line` of a kind is a command line that does the same without the queue, ready to be pasted.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from launcher.api import Draft, ModelId, Role, Settings, SharedWork, parse_model
from trueface.data.settings import SampleSettings, TestSettings
from trueface.data.vocabulary import Vocabulary
from trueface.jobs import inputs_outputs, shared_features
from trueface.jobs.flags import classic_words, word_flags, words
from trueface.jobs.inputs_outputs import model_of
from trueface.jobs.job_kind import EPOCHS, PROGRAM, JobKind, nothing
from trueface.jobs.refusals import unfit_test, unfit_training, unfit_unlearning, unknown_poison
from trueface.poisoning.poison_record import PoisonSettings
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
    reads=inputs_outputs.training_inputs,
    makes=inputs_outputs.training_outputs,
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
    reads=inputs_outputs.test_inputs,
    makes=inputs_outputs.test_outputs,
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
    reads=inputs_outputs.poison_inputs,
    makes=inputs_outputs.poison_outputs,
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
    reads=inputs_outputs.unlearning_inputs,
    makes=inputs_outputs.unlearning_outputs,
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
    makes=inputs_outputs.sample_outputs,
    line=_sample_line,
)
