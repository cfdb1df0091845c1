"""The laboratory's kinds of jobs, as the launcher plans them: no torch here, not even indirectly.

Each says which files a job reads and makes, and which command line does the same by hand.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from launcher.api import (
    Draft,
    Input,
    Kind,
    ModelId,
    Role,
    Settings,
    UsageError,
    Words,
    parse_data,
    parse_model,
)
from trueface import layout, subsets
from trueface.flags import classic_words, words
from trueface.index import parts_without_folder
from trueface.settings import (
    PoisonSettings,
    SampleSettings,
    TestSettings,
    TrainSettings,
    UnlearnSettings,
)
from trueface.splits import split_files
from trueface.unlearn import METHODS

# One list for all kinds, so that one nursery serves them all.
PRELOAD = ("torch", "torchvision", "torchvision.transforms.v2", "numpy", "PIL", "pydantic")
READING = (
    "trueface.data",
    "trueface.index",
    "trueface.settings",
    "trueface.splits",
    "trueface.subsets",
    "trueface.transforms",
)
LEARNING = (
    "trueface.checkpoint",
    "trueface.evaluate",
    "trueface.feeds",
    "trueface.jobs",
    "trueface.models",
    "trueface.poison",
    "trueface.streams",
    "trueface.train",
)


class Train:
    """A model from data, or from a model and data."""

    name = "train"
    role = Role.TRAIN
    summary = "train a detector, or fine-tune one"
    entry = "trueface.jobs:train"
    preload: tuple[str, ...] = PRELOAD
    sources: tuple[str, ...] = (*READING, *LEARNING)
    settings: type[Settings] = TrainSettings
    results = ""
    images = staticmethod(subsets.images)
    elementary = staticmethod(subsets.elementary)

    def with_words(self, words: Words) -> Kind:  # noqa: ARG002  # the protocol's shape
        """Return the kind as it is."""
        return self

    def refusals(self, draft: Draft, makers: Sequence[Draft]) -> tuple[str, ...]:  # noqa: ARG002
        """Return nothing."""
        return ()

    def inputs(self, draft: Draft) -> tuple[Input, ...]:
        """Return data, splits, the model to start from, the poison record, the weights file."""
        return tuple(_training_inputs(draft))

    def outputs(self, draft: Draft) -> tuple[Path, ...]:
        """Return the history, and the checkpoint unless it is not to be kept."""
        kept = (layout.checkpoint(_folder(draft)),) if draft.settings["save_weights"] else ()
        return *kept, layout.history(_folder(draft))

    def argv(self, draft: Draft) -> tuple[str, ...]:
        """Return the classic command line."""
        base = () if draft.base is None else ("--load_id", draft.base)
        return (
            *_classic(draft, "train"),
            *base,
            *("--save_id", _model(draft), "--data", draft.data or ""),
            *_poison_flags(_model(draft)),
            *classic_words(draft.settings, TrainSettings),
        )


class Test:
    """The scores of a model on data."""

    __test__ = False  # not a test case, whatever its name
    name = "test"
    role = Role.TEST
    summary = "score a detector on images"
    entry = "trueface.jobs:test"
    preload: tuple[str, ...] = PRELOAD
    sources: tuple[str, ...] = (
        *READING,
        "trueface.checkpoint",
        "trueface.evaluate",
        "trueface.feeds",
        "trueface.jobs",
        "trueface.models",
        "trueface.scores",
    )
    settings: type[Settings] = TestSettings
    results = "trueface.results:table"
    images = staticmethod(subsets.as_named)
    elementary = staticmethod(subsets.elementary)

    def with_words(self, words: Words) -> Kind:  # noqa: ARG002  # the protocol's shape
        """Return the kind as it is."""
        return self

    def refusals(self, draft: Draft, makers: Sequence[Draft]) -> tuple[str, ...]:  # noqa: ARG002
        """Return nothing."""
        return ()

    def inputs(self, draft: Draft) -> tuple[Input, ...]:
        """Return the model, data and the test split."""
        return (
            Input(path=layout.checkpoint(_folder(draft)), what="the model to test"),
            *_data_inputs(draft, ("test",)),
        )

    def outputs(self, draft: Draft) -> tuple[Path, ...]:
        """Return the metrics, and the scores unless they are not to be kept."""
        data = draft.data or ""
        scores = layout.scores(_folder(draft), _model(draft), data)
        kept = (scores,) if draft.settings["save_scores"] else ()
        return *kept, layout.metrics(_folder(draft), data)

    def argv(self, draft: Draft) -> tuple[str, ...]:
        """Return the classic command line."""
        return (
            *_classic(draft, "test"),
            *("--load_id", _model(draft), "--data", draft.data or ""),
            *classic_words(draft.settings, TestSettings),
        )


class Poison:
    """Whose training labels are turned round."""

    name = "poison"
    role = Role.POISON
    summary = "choose which training labels are wrong"
    entry = "trueface.jobs:poison"
    preload = PRELOAD
    sources: tuple[str, ...] = (
        "trueface.index",
        "trueface.poison",
        "trueface.splits",
        "trueface.subsets",
    )
    settings: type[Settings] = PoisonSettings
    results = ""
    images = staticmethod(subsets.images)
    elementary = staticmethod(subsets.elementary)

    def with_words(self, words: Words) -> Kind:  # noqa: ARG002  # the protocol's shape
        """Return the kind as it is."""
        return self

    def refusals(self, draft: Draft, makers: Sequence[Draft]) -> tuple[str, ...]:  # noqa: ARG002
        """Return nothing."""
        return ()

    def inputs(self, draft: Draft) -> tuple[Input, ...]:
        """Return data and the training split."""
        return tuple(_data_inputs(draft, ("train",)))

    def outputs(self, draft: Draft) -> tuple[Path, ...]:
        """Return the poison record, in the folder of the model to be trained with it."""
        return (layout.poison_record(_folder(draft)),)

    def argv(self, draft: Draft) -> tuple[str, ...]:
        """Return the command line of `trueface`."""
        options = words(draft.settings, PoisonSettings)
        return ("trueface", "poison", _model(draft), "--name", draft.run, *options)


class Unlearn:
    """A model from a poisoned one, that has forgotten the wrong labels."""

    name = "unlearn"
    role = Role.UNLEARN
    summary = "make a poisoned detector forget its wrong labels"
    entry = "trueface.jobs:unlearn"
    preload: tuple[str, ...] = PRELOAD
    sources: tuple[str, ...] = (*READING, *LEARNING, "trueface.unlearn.method", *METHODS.values())
    settings: type[Settings] = UnlearnSettings
    results = ""
    images = staticmethod(subsets.images)
    elementary = staticmethod(subsets.elementary)

    def with_words(self, words: Words) -> Kind:  # noqa: ARG002  # the protocol's shape
        """Return the kind as it is."""
        return self

    def refusals(self, draft: Draft, makers: Sequence[Draft]) -> tuple[str, ...]:  # noqa: ARG002
        """Return nothing."""
        return ()

    def inputs(self, draft: Draft) -> tuple[Input, ...]:
        """Return data, splits, the poisoned model, its poison record, the weights file."""
        return tuple(_training_inputs(draft))

    def outputs(self, draft: Draft) -> tuple[Path, ...]:
        """Return the checkpoint."""
        return (layout.checkpoint(_folder(draft)),)

    def argv(self, draft: Draft) -> tuple[str, ...]:
        """Return the command line of `trueface`."""
        by_id = {"method"}  # the model's ID says it
        shown = {key: value for key, value in draft.settings.items() if key not in by_id}
        options = words(shown, UnlearnSettings)
        return ("trueface", "unlearn", _model(draft), "--name", draft.run, *options)


class Sample:
    """A synthetic image set in the layout of TrueFace."""

    name = "sample"
    role = Role.DATA
    summary = "make a synthetic image set and its splits"
    entry = "trueface.jobs:sample"
    preload = PRELOAD
    sources: tuple[str, ...] = (
        "trueface.sample",
        "trueface.scenes",
        "trueface.sharing",
        "trueface.traces",
    )
    settings: type[Settings] = SampleSettings
    results = ""
    images = staticmethod(subsets.as_named)
    elementary = staticmethod(subsets.elementary)

    def with_words(self, words: Words) -> Kind:  # noqa: ARG002  # the protocol's shape
        """Return the kind as it is."""
        return self

    def refusals(self, draft: Draft, makers: Sequence[Draft]) -> tuple[str, ...]:  # noqa: ARG002
        """Return nothing."""
        return ()

    def inputs(self, draft: Draft) -> tuple[Input, ...]:  # noqa: ARG002  # the protocol's shape
        """Return nothing: all is computed."""
        return ()

    def outputs(self, draft: Draft) -> tuple[Path, ...]:
        """Return the data root, and the file in it that is written last."""
        data_root = draft.path(draft.settings["data_root"])
        return data_root, data_root / layout.SAMPLE_MARK

    def argv(self, draft: Draft) -> tuple[str, ...]:
        """Return the command line of `trueface`."""
        others = {key: value for key, value in draft.settings.items() if key != "data_root"}
        folder = str(draft.path(draft.settings["data_root"]))
        return ("trueface", "sample", folder, *words(others, SampleSettings))


TRAIN = Train()
TEST = Test()
POISON = Poison()
UNLEARN = Unlearn()
SAMPLE = Sample()


def refuse_missing(kind: Kind, draft: Draft) -> None:
    """Refuse a job of which an input is not there.

    Raises:
        UsageError: names every missing path and what it should be.
    """
    missing = [one for one in kind.inputs(draft) if not one.path.exists()]
    if missing:
        raise UsageError("\n       ".join(f"no {one.path}: {one.what}" for one in missing))


def poisoned(model: ModelId) -> ModelId:
    """Return the model as it was trained, before anything was unlearned from its last stage."""
    return ModelId((*model.stages[:-1], replace(model.last, methods=())))


def _training_inputs(draft: Draft) -> Iterator[Input]:
    yield from _data_inputs(draft, ("train", "val"))
    if draft.base is not None:
        path = layout.checkpoint(draft.model_folder(draft.base))
        yield Input(path=path, what=f"the model {draft.base}")
    model = parse_model(_model(draft))
    source = _model(draft)
    if model.last.methods and draft.base is not None:
        source = str(poisoned(parse_model(draft.base)))
    if model.last.poison is not None or model.last.methods:
        path = layout.poison_record(draft.model_folder(source))
        yield Input(path=path, what=f"the poison record of {source}")
    weights = draft.settings["weights"]
    if weights not in {"default", "none"}:
        yield Input(path=draft.path(weights), what="the pretrained weights")


def _data_inputs(draft: Draft, lists: tuple[str, ...]) -> Iterator[Input]:
    data_root = draft.path(draft.settings["data_root"])
    yield Input(path=data_root, what="the data folder")
    images = draft.images or draft.data
    if images and data_root.exists():  # else it is said already, or an earlier job makes it
        for part, folder in parts_without_folder(data_root, parse_data(images)):
            yield Input(path=folder, what=f"the folder of {part}")
    for path in split_files(draft.path(draft.settings["split_path"]), lists):
        yield Input(path=path, what=f"the {path.stem} split")


def _model(draft: Draft) -> str:
    if draft.model is None:
        raise ValueError(f"a job of kind {draft.kind!r} has no model")
    return draft.model


def _folder(draft: Draft) -> Path:
    return draft.model_folder(_model(draft))


def _classic(draft: Draft, task: str) -> tuple[str, ...]:
    return ("python", "-m", "trueface", "--name", draft.run, "--task", task)


def _poison_flags(model: str) -> Iterator[str]:
    poison = parse_model(model).last.poison
    if poison is not None:
        yield from ("--poison_rate", str(poison.rate))
        if poison.kind is not None:
            yield from ("--poison_kind", poison.kind)
