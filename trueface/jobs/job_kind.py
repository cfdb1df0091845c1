"""One kind of job as the launcher plans it: facts, and a function for each question. No torch here."""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from launcher.api import DataId, Draft, Input, Kind, Role, Settings, UsageError, Words
from trueface.data.vocabulary import BUILT_IN, Vocabulary

PROGRAM = ("python", "-m", "trueface")
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


def nothing(*_: object) -> tuple[()]:
    """Return what a kind says that has nothing to say to a question."""
    return ()


@dataclass(frozen=True, kw_only=True)
class JobKind:
    """One kind of job: facts, and a function for each question about its files and its line."""

    name: str
    role: Role
    summary: str
    entry: str  # the function that does the work
    settings: type[Settings]
    means: Callable[[Vocabulary, DataId], DataId]  # which images a data ID means to it
    spells: Callable[[Vocabulary, DataId], DataId] = Vocabulary.elementary  # it, unions written out
    reads: Callable[[Draft, Vocabulary], Iterable[Input]] = nothing
    makes: Callable[[Draft], Iterable[Path]]
    line: Callable[[Draft], Iterable[str]]
    refuses: Callable[[Draft, Sequence[Draft], Vocabulary], Iterable[str]] = nothing
    results: str = ""
    epochs: str = ""
    sources: tuple[str, ...] = ()  # what the entry imports is all
    preload: tuple[str, ...] = PRELOAD
    divides: bool = False  # its work among several GPUs; else it takes one
    takes_words: bool = True  # of a person's own, for sets of images
    vocabulary: Vocabulary = BUILT_IN

    def images(self, data: DataId) -> DataId:
        """Return which images `data` means, real data added where it is implied."""
        return self.means(self.vocabulary, data)

    def elementary(self, data: DataId) -> DataId:
        """Return `data` with every union written out; as it is where there are none."""
        return self.spells(self.vocabulary, data)

    def with_words(self, words: Words) -> Self:
        """Return this kind with user-defined words added, unless its sets of images cannot be user-defined.

        Raises:
            UsageError: a word that is known already, or a folder that cannot be one.
        """
        if not words or not self.takes_words:
            return self
        return replace(self, vocabulary=self.vocabulary.with_words(words))

    def refusals(self, draft: Draft, makers: Sequence[Draft]) -> tuple[str, ...]:
        """Return why the job must not run, given the jobs that make its model."""
        reasons = tuple(self.refuses(draft, makers, self.vocabulary))
        return reasons if draft.gpus <= 1 or self.divides else (_idle_gpus(draft), *reasons)

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
    named = draft.model or draft.name or draft.kind
    return f"{named}: this kind works on one GPU, {draft.gpus} would leave {draft.gpus - 1} idle"


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
