"""Which files the jobs of each kind read and make, as far as that is known while they are planned."""

import os
import shlex
from collections.abc import Iterator
from pathlib import Path

from launcher.api import Draft, Input, parse_data, parse_model, tested
from trueface.corruptions.registry import NONE
from trueface.data.attributes import attribute_files
from trueface.data.index import parts_without_folder
from trueface.data.settings import TestSettings
from trueface.data.splits import split_files
from trueface.data.vocabulary import Vocabulary
from trueface.runtime import paths


def training_inputs(draft: Draft, vocabulary: Vocabulary) -> Iterator[Input]:
    """Yield data, splits, the base and what else of it is read, the poison record, weights."""
    yield from learning_inputs(draft, vocabulary)
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


def unlearning_inputs(draft: Draft, vocabulary: Vocabulary) -> Iterator[Input]:
    """Yield data, splits, the poisoned model, its poison record, weights."""
    yield from learning_inputs(draft, vocabulary)
    if draft.base is not None:
        yield Input(
            path=paths.poison_record(draft.model_folder(draft.base)),
            what=f"the poison record of {draft.base}",
        )


def learning_inputs(draft: Draft, vocabulary: Vocabulary) -> Iterator[Input]:
    """Yield what trainings and unlearnings both read."""
    yield from data_inputs(draft, ("train", "val"), vocabulary)
    if draft.base is not None:
        path = paths.checkpoint(draft.model_folder(draft.base))
        yield Input(path=path, what=f"the model {draft.base}")
    weights = draft.settings["weights"]
    if weights not in {"default", "none"}:
        yield Input(path=draft.path(weights), what="the pretrained weights")


def test_inputs(draft: Draft, vocabulary: Vocabulary) -> tuple[Input, ...]:
    """Return the model, data and the test split."""
    model = Input(path=paths.checkpoint(folder_of(draft)), what="the model to test")
    surrogate = draft.settings["surrogate"]
    others: tuple[Input, ...] = ()
    if surrogate:
        path = paths.checkpoint(draft.model_folder(surrogate))
        others = (Input(path=path, what=f"the surrogate {surrogate}"),)
    return (model, *others, *data_inputs(draft, ("test",), vocabulary))


def poison_inputs(draft: Draft, vocabulary: Vocabulary) -> Iterator[Input]:
    """Yield data, the training split, and the list of images to poison, if there is one."""
    yield from data_inputs(draft, ("train",), vocabulary)
    if draft.settings["poison_list"]:
        path = draft.path(draft.settings["poison_list"])
        yield Input(path=path, what="the list of images to poison")


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


def training_outputs(draft: Draft) -> Iterator[Path]:
    """Yield the history, and what is to be kept of the checkpoint and the optimizer's state."""
    folder = folder_of(draft)
    if draft.settings["save_weights"]:
        yield paths.checkpoint(folder)
    if draft.settings["save_optimizer"]:
        yield paths.optimizer(folder)
    yield paths.history(folder)


def unlearning_outputs(draft: Draft) -> Iterator[Path]:
    """Yield the checkpoint, the poison record copied from its base, and its reports."""
    yield paths.checkpoint(folder_of(draft))
    yield paths.poison_record(folder_of(draft))
    yield paths.unlearning(folder_of(draft))


def test_outputs(draft: Draft) -> list[Path]:
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


def poison_outputs(draft: Draft) -> Iterator[Path]:
    """Yield the poison record, in the folder of each model to be trained with it."""
    yield paths.poison_record(folder_of(draft))
    for model in draft.further_models:
        yield paths.poison_record(draft.model_folder(model))


def sample_outputs(draft: Draft) -> Iterator[Path]:
    """Yield the data root, and the file in it that is written last."""
    data_root = draft.path(draft.settings["data_root"])
    yield data_root
    yield data_root / paths.SAMPLE_MARK


def model_of(draft: Draft) -> str:
    """Return the ID of the model that a job makes or tests."""
    if draft.model is None:
        raise ValueError(f"a job of kind {draft.kind!r} has no model")
    return draft.model


def folder_of(draft: Draft) -> Path:
    """Return the folder of that model."""
    return draft.model_folder(model_of(draft))
