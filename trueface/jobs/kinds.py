"""The laboratory's kinds of jobs, as the launcher plans them: no torch here, not even indirectly."""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from launcher.api import (
    DataId,
    Draft,
    Input,
    Kind,
    Role,
    Settings,
    SharedWork,
    UnknownName,
    UsageError,
    Words,
    parse_model,
)
from trueface.data.settings import SampleSettings, TestSettings, other_decoding
from trueface.data.vocabulary import BUILT_IN, Vocabulary
from trueface.jobs import command_lines, inputs_outputs, shared_features
from trueface.jobs.leakage import leaks
from trueface.jobs.ranks import world
from trueface.poisoning.poison_record import KINDS, is_random
from trueface.poisoning.settings import PoisonSettings
from trueface.training.objectives.registry import DEFAULT, objectives, other_objective
from trueface.training.settings import TrainSettings, solver_of
from trueface.unlearning.applicability import Situation, refusal
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
    sources: tuple[str, ...] = ()  # what the entry imports is all
    preload: tuple[str, ...] = PRELOAD
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


def _unfit_training(draft: Draft, makers: Sequence[Draft], _: Vocabulary) -> Iterable[str]:
    yield from without_weights(makers)
    yield from unlike_decoding(draft, makers)
    yield from world.refusals(draft)
    yield from _unfit_solver(draft, makers)
    if draft.settings["optimizer_state"] == "kept" and draft.base is None:
        yield (
            f"optimizer_state: kept needs a model to start from, and {draft.model} starts from "
            "none; name one, or leave the setting out"
        )


def _unfit_solver(draft: Draft, makers: Sequence[Draft]) -> Iterable[str]:
    """Refuse what does not go with a training in closed form, or only with one."""
    settings, base = draft.settings, next(iter(makers[::-1]), None)
    is_ridge = solver_of(settings) == "ridge"
    if is_ridge and (draft.gpus > 1 or settings["processes"] > 1):
        yield f"{draft.model} is fitted in closed form, by one process on one GPU at most"
    if settings.get("shots") and not (is_ridge and draft.base):
        yield (
            f"shots: {settings['shots']} takes examples for a detector that was fitted in closed "
            "form; name it as `model`, and train with solver: ridge"
        )
    if settings.get("shots") and parse_model(inputs_outputs.model_of(draft)).last.poison:
        yield "shots does not go with poison: which examples are taken is not known to it"
    if base is None or base.kind != "train":
        return
    if is_ridge != (solver_of(base.settings) == "ridge"):
        made = "by steps" if is_ridge else "in closed form"
        wanted = "solver: ridge" if is_ridge else "another solver"
        yield (
            f"{base.model} is trained {made}, and {wanted} does not go on from it: train it anew, "
            "or name the same solver"
        )


def _unfit_test(draft: Draft, makers: Sequence[Draft], vocabulary: Vocabulary) -> Iterable[str]:
    yield from without_weights(makers)
    yield from unlike_decoding(draft, makers)
    yield from leaks(draft, makers, vocabulary)
    if draft.settings.get("surrogate") == draft.model:
        yield (
            f"surrogate: {draft.model} is the model under attack; name one that was trained apart, "
            "or take pgd, which knows the model"
        )


def _unfit_unlearning(draft: Draft, makers: Sequence[Draft], _: Vocabulary) -> Iterable[str]:
    yield from without_weights(makers)
    yield from unlike_decoding(draft, makers)
    yield from _unfit_objective(draft, makers)
    try:
        poison = parse_model(draft.base or inputs_outputs.model_of(draft)).last.poison
    except UsageError:  # of an earlier run, under a name that says nothing
        return
    if poison is None:  # a model without poison has no record to read
        return
    reason = refusal(
        draft.settings["method"],
        Situation(
            goal="flips",
            rate=float(poison.rate),
            random=is_random(poison.kind),
            known=draft.settings["known"],
            finding=draft.settings["find"],
            retain=draft.settings["keep_retain"],
        ),
        force=draft.settings["force"],
    )
    if reason is not None:
        yield reason


def unlike_decoding(draft: Draft, makers: Sequence[Draft]) -> Iterable[str]:
    """Refuse images that are read in another way than those of the model's training were."""
    differs = other_decoding(makers[-1].settings, draft.settings) if makers else ""
    if differs:
        yield f"{makers[-1].model} is trained with {differs}; train and test alike"


def _unfit_objective(draft: Draft, makers: Sequence[Draft]) -> Iterable[str]:
    """Refuse an unlearning that would train with another loss than the model was trained with."""
    name = draft.settings.get("objective", DEFAULT)
    if columns := objectives()[name].columns:
        needs = ", ".join(columns)
        yield f"objective: {name} needs {needs} of each image, which an unlearning does not read"
    trained = next((maker for maker in reversed(makers) if maker.kind == "train"), None)
    differs = other_objective(trained.settings, draft.settings) if trained else ""
    if trained and differs:
        yield f"{trained.model} is trained with {differs}; train and unlearn alike"


def without_weights(makers: Sequence[Draft]) -> Iterable[str]:
    """Refuse a model that is made without being kept: an older one in its place would be taken."""
    # an unlearning keeps its weights whatever the setting says
    if makers and makers[-1].kind == "train" and not makers[-1].settings["save_weights"]:
        yield (
            f"the weights of {makers[-1].model} are needed, and its training does not keep them; "
            "set save_weights: true in its training"
        )


def _unknown_poison(draft: Draft, _: Sequence[Draft], __: Vocabulary) -> Iterable[str]:
    poison = parse_model(inputs_outputs.model_of(draft)).last.poison
    if poison is not None and poison.kind is not None and poison.kind not in KINDS:
        yield str(UnknownName("kind of poison", poison.kind, KINDS))


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
    refuses=_unfit_training,
    repeats=shared_features.of_training,
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
    refuses=_unfit_test,
    repeats=shared_features.of_test,
    results="trueface.evaluation.results:table",
)
POISON = LaboratoryKind(
    name="poison",
    role=Role.POISON,
    summary="choose which training labels are wrong",
    entry="trueface.jobs.poisoning:poison",
    settings=PoisonSettings,
    means=Vocabulary.images,
    reads=inputs_outputs.poison_inputs,
    makes=inputs_outputs.poison_outputs,
    line=command_lines.poison,
    refuses=_unknown_poison,
)
UNLEARN = LaboratoryKind(
    name="unlearn",
    role=Role.UNLEARN,
    summary="make a poisoned detector forget its flipped labels",
    entry="trueface.jobs.unlearning:unlearn",
    settings=UnlearnSettings,
    means=Vocabulary.images,
    reads=inputs_outputs.unlearning_inputs,
    makes=inputs_outputs.unlearning_outputs,
    line=command_lines.unlearning,
    refuses=_unfit_unlearning,
    repeats=shared_features.of_unlearning,
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
