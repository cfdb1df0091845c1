"""One kind of job as the launcher plans it: facts, a function for each question, and files that many kinds read.

No torch here.
"""

import os
import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from launcher.api import (
    DataId,
    Draft,
    Input,
    Kind,
    Role,
    Settings,
    UsageError,
    Words,
    parse_data,
)
from trueface.data.attributes import attribute_files
from trueface.data.index import parts_without_folder
from trueface.data.splits import split_files
from trueface.data.vocabulary import BUILT_IN, Vocabulary
from trueface.runtime import paths

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


def model_of(draft: Draft) -> str:
    """Return the ID of the model that a job makes or tests."""
    if draft.model is None:
        raise ValueError(f"a job of kind {draft.kind!r} has no model")
    return draft.model


def folder_of(draft: Draft) -> Path:
    """Return the folder of that model."""
    return draft.model_folder(model_of(draft))


def checkpoint_input(draft: Draft, model: str, what: str) -> Input:
    """Return the checkpoint of a model that a job reads; `what` it is to the job."""
    return Input(path=paths.checkpoint(draft.model_folder(model)), what=what)


def base_inputs(draft: Draft) -> Iterator[Input]:
    """Yield the model from which a job starts, and the pretrained weights that it reads, if any."""
    if draft.base is not None:
        yield checkpoint_input(draft, draft.base, f"the model {draft.base}")
    if (weights := draft.settings.get("weights", "none")) not in {"default", "none"}:
        yield Input(path=draft.path(weights), what="the pretrained weights")


def data_inputs(draft: Draft, lists: tuple[str, ...], vocabulary: Vocabulary) -> tuple[Input, ...]:
    """Return the data folder, those folders in it that are missing, files of a split, attributes."""
    data_root, split_path = draft.settings["data_root"], draft.settings["split_path"]
    images = draft.images or draft.data
    vocabulary = vocabulary.with_layout(draft.settings["layout"])
    attributes = draft.settings.get("attributes", "")
    key = ("inputs", data_root, split_path, images, lists, vocabulary, attributes)
    return draft.once(key, lambda: tuple(_data_inputs(draft, images, lists, vocabulary)))


def _data_inputs(
    draft: Draft, images: str | None, lists: tuple[str, ...], vocabulary: Vocabulary
) -> Iterator[Input]:
    data_root = draft.path(draft.settings["data_root"])
    yield Input(path=data_root, what="the data folder")
    if images and os.path.exists(data_root):  # noqa: PTH110  # Path.exists refuses some; else it is said already, or an earlier job makes it
        for part, folder in parts_without_folder(data_root, parse_data(images), vocabulary):
            yield Input(path=folder, what=f"the folder of {part}")
    remedy = _splitting(draft, data_root)
    for path in split_files(draft.path(draft.settings["split_path"]), lists):
        yield Input(path=path, what=f"the {path.stem} split", remedy=remedy)
    for path in attribute_files(draft.settings.get("attributes", ""), draft.path):
        yield Input(path=path, what="the table of the images' attributes")


def _splitting(draft: Draft, data_root: Path) -> str:
    """Return how the lists of images are made; '' where there are no images to be listed."""
    if not os.path.exists(data_root):  # noqa: PTH110  # as above
        return ""
    settings = draft.settings
    words = ["trueface", "splits", settings["data_root"], "--out", settings["split_path"]]
    if settings["layout"] != "auto":
        words += ["--layout", settings["layout"]]
    return f"to make the lists: {shlex.join(words)}"
