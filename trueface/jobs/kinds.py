"""The laboratory's kinds of jobs, as the launcher plans them: no torch here, not even indirectly."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from launcher.api import (
    DataId,
    Draft,
    Input,
    Kind,
    Role,
    Settings,
    SharedWork,
    UsageError,
    Words,
)
from trueface.data.settings import SampleSettings, TestSettings
from trueface.data.vocabulary import BUILT_IN, Vocabulary
from trueface.jobs import command_lines, inputs_outputs, shared_features
from trueface.jobs.refusals.testing import unfit_test
from trueface.jobs.refusals.training import unfit_training, unknown_poison
from trueface.jobs.refusals.unlearning import unfit_unlearning
from trueface.poisoning.settings import PoisonSettings
from trueface.training.settings import TrainSettings
from trueface.unlearning.settings import UnlearnSettings

# One list for all kinds, so that one fork server serves them all.
PRELOAD = (
    *(
        "torch",
        "torchvision",
        "torchvision.transforms.v2",
        "numpy",
        "PIL",
        "pydantic",
        "simplejpeg",
    ),
    # each job would import them anew, and need half a second for that
    *(f"sklearn.{part}" for part in ("linear_model", "metrics", "model_selection", "svm")),
)
EPOCHS = "trueface.training.history:epochs"
# the columns of the table of tests that are better low: `metric_registry` says so of its metrics
LOW = frozenset({"eer", "ece", "ece_unscaled", "ece_scaled", "loss", "fpr_gap", "f_fpr", "seconds"})
# columns of results → the part of a model's ID that each shows
MODEL_COLUMNS = {
    "architecture": "", "training_data": "#", "poison": "%", "poison_kind": "%kind", "method": "~",
}  # fmt: skip


def _none(*_: object) -> tuple[()]:
    return ()


@dataclass(frozen=True, kw_only=True)
class LaboratoryKind:
    """One kind of job: facts, and a function for each question about its files and its line."""

    name: str
    role: Role
    summary: str
    entry: str  # the function that does the work
    settings: type[Settings]
    means: Callable[[Vocabulary, DataId], DataId]  # which images a data ID means to it
    reads: Callable[[Draft, Vocabulary], Iterable[Input]] = _none
    makes: Callable[[Draft], Iterable[Path]]
    line: Callable[[Draft], Iterable[str]]
    refuses: Callable[[Draft, Sequence[Draft], Vocabulary], Iterable[str]] = _none
    repeats: Callable[[Draft, Sequence[Draft]], Iterable[SharedWork]] = _none
    results: str = ""
    epochs: str = ""
    lower_is_better: frozenset[str] = frozenset()
    sources: tuple[str, ...] = ()  # what the entry imports is all
    preload: tuple[str, ...] = PRELOAD
    model_columns: ClassVar[Mapping[str, str]] = MODEL_COLUMNS
    divides: bool = False  # its work among several GPUs; else it takes one
    vocabulary: Vocabulary = BUILT_IN

    def images(self, data: DataId) -> DataId:
        """Return which images `data` means, real data added where it is implied."""
        return self.means(self.vocabulary, data)

    def elementary(self, data: DataId) -> DataId:
        """Return `data` with every union written out."""
        return self.vocabulary.elementary(data)

    def with_words(self, words: Words) -> "LaboratoryKind":
        """Return this kind with user-defined words added.

        Raises:
            UsageError: a word that is known already, or a folder that cannot be one.
        """
        return replace(self, vocabulary=self.vocabulary.with_words(words)) if words else self

    def refusals(self, draft: Draft, makers: Sequence[Draft]) -> tuple[str, ...]:
        """Return why the job must not run, given the jobs that make its model."""
        reasons = tuple(self.refuses(draft, makers, self.vocabulary))
        return reasons if draft.gpus <= 1 or self.divides else (_idle_gpus(draft), *reasons)

    def shared_work(self, draft: Draft, makers: Sequence[Draft]) -> tuple[SharedWork, ...]:
        """Return what of the job's work other jobs of a plan may repeat."""
        return tuple(self.repeats(draft, makers))

    def inputs(self, draft: Draft) -> tuple[Input, ...]:
        """Return every path that the job reads."""
        return tuple(self.reads(draft, self.vocabulary))

    def outputs(self, draft: Draft) -> tuple[Path, ...]:
        """Return every path that proves the job done."""
        return tuple(self.makes(draft))

    def argv(self, draft: Draft) -> tuple[str, ...]:
        """Return a command line that does the same."""
        return tuple(self.line(draft))


def _idle_gpus(draft: Draft) -> str:
    named = draft.model or draft.kind
    return f"{named}: this kind works on one GPU, {draft.gpus} would leave {draft.gpus - 1} idle"


TRAIN = LaboratoryKind(
    name="train",
    role=Role.TRAIN,
    summary="train a detector, or fine-tune one",
    entry="trueface.jobs.training:train",
    settings=TrainSettings,
    means=Vocabulary.images,
    reads=inputs_outputs.training_inputs,
    makes=inputs_outputs.training_outputs,
    line=command_lines.training,
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
    line=command_lines.test,
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
    line=command_lines.poison,
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
    line=command_lines.unlearning,
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
    line=command_lines.sample,
)


def refuse_unfit(kind: Kind, draft: Draft) -> None:
    """Refuse a job of which an input is not there, or that must not run.

    Raises:
        UsageError: names every missing path and what it should be, or why it must not run.
    """
    missing = [item for item in kind.inputs(draft) if not os.path.exists(item.path)]  # noqa: PTH110  # takes any name
    reasons = [f"no {item.path}: {item.what}" for item in missing]
    reasons += dict.fromkeys(item.remedy for item in missing if item.remedy)
    if reasons := [*kind.refusals(draft, ()), *reasons]:
        raise UsageError("\n       ".join(reasons))
