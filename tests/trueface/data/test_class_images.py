"""Class images: their folders, their labels, and refused data."""

import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
import torch

from launcher.api import JobError, UnknownName, UsageError, parse_data
from tests.trueface.class_toys import NAMES, SMALL, colours, settings, write_class, write_data
from trueface.data import class_images
from trueface.data.class_images import ClassLists, ClassPixels, random_flip_and_shift
from trueface.data.vocabulary import (
    CLASS_DATASET_TYPES,
    class_data,
    class_dataset_type,
    class_index,
    find_classes,
)
from trueface.runtime.errors import DataError
from trueface.training.class_settings import ClassifySettings


def load_lists(root: Path, sort: str = "folders", **settings: Any) -> ClassLists:
    chosen = ClassifySettings.model_validate({**SMALL, **settings})
    return class_images.load_class_images(find_classes(sort, root), chosen, cpus=2, stop=Event())


def sizes(lists: ClassLists) -> list[int]:
    return [len(lists.train), len(lists.validation), len(lists.test)]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_data(tmp_path) / "data"


def test_validation_is_a_tenth_of_each_class_and_excluded_from_training(root: Path) -> None:
    lists = load_lists(root)
    assert lists.names == NAMES
    assert sizes(lists) == [54, 6, 18]
    assert not set(lists.train.names) & set(lists.validation.names)
    assert sorted(lists.validation.labels) == [0, 0, 1, 1, 2, 2]
    assert lists.train.pixels.shape == (54, 3, 16, 16)


def test_limited_images_per_class_are_same_for_every_seed(root: Path) -> None:
    found = [load_lists(root, seed=seed, images_per_class=5) for seed in (1, 2)]
    for lists in found:
        assert sizes(lists) == [12, 3, 15]
    first, second = ({*one.train.names, *one.validation.names} for one in found)
    assert first == second


def test_too_small_limit_of_images_per_class_is_named(root: Path) -> None:
    with pytest.raises(DataError, match=r"images_per_class 1 is too small\. Use at least 2, or 0"):
        load_lists(root, images_per_class=1)
    assert sizes(load_lists(root, images_per_class=2)) == [3, 3, 6]


def test_non_image_files_of_classes_are_named(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole = load_lists(root)
    assert caplog.messages == []
    folder = root / "train" / NAMES[0]
    (folder / "a.mov").write_bytes(b"0")
    (folder / ".hidden.png").write_bytes(b"0")
    assert load_lists(root).train.sha256 == whole.train.sha256
    assert "passed_over=1 .mov; images end in .avif, .bmp" in caplog.text
    for file in folder.glob("*.png"):
        file.rename(file.with_suffix(".mov"))
    with pytest.raises(DataError, match=rf"no valid file.* {NAMES[0]}\. Ignored .* .mov"):
        load_lists(root)


def test_hidden_folders_and_hidden_images_are_ignored(root: Path) -> None:
    whole = load_lists(root)
    file = min((root / "train" / NAMES[0]).glob("*.png"))
    for folder in ("train", "test", f"train/{NAMES[0]}", f"train/{NAMES[0]}/inner"):
        hidden = root / folder / ".ipynb_checkpoints"
        hidden.mkdir(parents=True)
        shutil.copy(file, hidden / "copy.png")
    lists = load_lists(root)
    assert lists.names == whole.names
    assert lists.train.sha256 == whole.train.sha256
    assert sizes(lists) == sizes(whole)


def test_single_identity_folder_is_split_by_separate_seed(tmp_path: Path) -> None:
    for colour, name in enumerate(("ada", "bob")):
        write_class(tmp_path, name, 10, colour=colour)
    lists = load_lists(tmp_path)
    assert sizes(lists) == [14, 2, 4]
    assert not set(lists.train.names) & set(lists.test.names)
    other = load_lists(tmp_path, seed=2)
    assert lists.test.names == other.test.names  # else seeds were tested on images of each other
    assert lists.validation.names != other.validation.names
    assert lists.test.names != load_lists(tmp_path, split_seed=2).test.names


def test_copies_of_an_image_are_in_one_list(tmp_path: Path) -> None:
    for colour, name in enumerate(("ada", "bob")):
        write_class(tmp_path, name, 10, colour=colour)
    once = load_lists(tmp_path)
    assert once.copies == {}
    for file in sorted(tmp_path.rglob("*.png")):
        for number in (1, 2):
            shutil.copy(file, file.with_stem(f"{file.stem}-{number}"))
    lists = load_lists(tmp_path)
    for part in ("train", "validation", "test"):  # the same images, three times each
        firsts = [name for name in getattr(lists, part).names if "-" not in name]
        assert firsts == list(getattr(once, part).names)
        assert len(getattr(lists, part)) == 3 * len(firsts)
    write_class(tmp_path, "eve", 1, colour=2)
    for number in (1, 2):
        shutil.copy(tmp_path / "eve" / "000.png", tmp_path / "eve" / f"00{number}.png")
    with pytest.raises(
        DataError, match=r"1, and at least 3 .* Copies of an image count once\. Add"
    ):
        load_lists(tmp_path)
    held_out = [name for name in once.test.names if name.startswith("ada/")]
    kept = next(name for name in once.train.names if name.startswith("ada/"))
    for number, name in enumerate((*held_out, kept)):
        shutil.copy(tmp_path / name, tmp_path / "eve" / f"00{number}.png")
    with pytest.raises(
        DataError, match="'eve' for the training list: they are copies of images of"
    ):
        load_lists(tmp_path)


def test_torchvision_files_are_read(tmp_path: Path) -> None:
    folder = tmp_path / "FashionMNIST" / "raw"
    folder.mkdir(parents=True)
    labels = np.repeat(np.arange(10), 3).astype(np.uint8)
    for part in ("train", "t10k"):
        pixels = np.full((30, 28, 28), 9, np.uint8) + labels[:, None, None]
        pixels[:, 14, 14] = np.arange(30)
        head = bytes([0, 0, 8, 3]) + b"".join(n.to_bytes(4, "big") for n in (30, 28, 28))
        (folder / f"{part}-images-idx3-ubyte").write_bytes(head + pixels.tobytes())
        head = bytes([0, 0, 8, 1]) + (30).to_bytes(4, "big")
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(head + labels.tobytes())
    lists = load_lists(tmp_path, "fashion")
    assert sizes(lists) == [20, 10, 30]
    assert lists.test.pixels[:, :, 0, 0].tolist() == [[9 + label] * 3 for label in labels]
    assert lists.copies_in_test == (30, "train/00000 = test/00000")


class Harmful:
    """Makes a folder when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, ...]:
        return (os.mkdir, (str(self.trace),))


def test_only_published_files_are_unpickled(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch", "batches.meta"):
        (folder / name).write_bytes(pickle.dumps(Harmful(tmp_path / "trace")))
    with pytest.raises(DataError, match="cannot read torchvision's files"):
        load_lists(tmp_path, "cifar10")
    assert not (tmp_path / "trace").exists()


def truncated(root: Path) -> None:
    path = root / "train" / "green" / "003.png"
    path.write_bytes(path.read_bytes()[:200])


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (truncated, r"cannot decode .*green/003\.png"),
        (
            lambda root: write_class(root / "test", "violet", 1),
            "and train/ have different classes: violet",
        ),
        (lambda root: (root / "train" / "violet").mkdir(), "violet"),
        (
            lambda root: [write_class(root / part, "violet", 1) for part in ("train", "test")],  # type: ignore[func-returns-value]  # both
            "too few images of class 'violet' for the training list: 1, and at least 2 are needed. "
            "Add images, or remove the folder of the class",
        ),
    ],
    ids=["truncated", "another class in the test", "without images", "used up by validation"],
)
def test_broken_class_images_are_reported(
    root: Path, spoil: Callable[[Path], object], said: str
) -> None:
    spoil(root)
    with pytest.raises(DataError, match=said):
        load_lists(root)


def test_images_beyond_memory_limit_are_refused_before_reading(tmp_path: Path) -> None:
    place = find_classes("folders", write_data(tmp_path) / "data")
    settings = ClassifySettings.model_validate(SMALL)
    count, side = 3 * (20 + 6), settings.size
    most = count * 3 * side * side
    class_images.load_class_images(place, settings, cpus=1, stop=Event(), most_bytes=most)
    with pytest.raises(DataError, match=f"{count} images of {side} pixels .* Use a smaller size"):
        class_images.load_class_images(place, settings, cpus=1, stop=Event(), most_bytes=most - 1)


def test_reading_stops_on_request(root: Path) -> None:
    stop = Event()
    stop.set()
    settings = ClassifySettings.model_validate(SMALL)
    with pytest.raises(JobError, match="stopped"):
        class_images.load_class_images(find_classes("folders", root), settings, cpus=1, stop=stop)


def test_training_batches_depend_on_epoch_and_test_batches_keep_file_order() -> None:
    pixels = colours(4, crop=True)
    first, again, other = (
        torch.cat([batch.inputs for batch in pixels.examples().batches(epoch=epoch, batch_size=5)])
        for epoch in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    (still,) = pixels.examples([3, 1]).batches()
    assert still.indices.tolist() == [3, 1]
    assert torch.equal(still.inputs, pixels.images.pixels[[3, 1]])


def test_images_are_mirrored_and_shifted_independently() -> None:
    batch = torch.randint(1, 256, (64, 3, 16, 16), dtype=torch.uint8)
    rng = torch.Generator().manual_seed(1)
    flipped = random_flip_and_shift(batch, rng, flip=True, crop=False)
    same = (flipped == batch).flatten(1).all(1)
    assert 10 < int(same.sum()) < 54
    assert torch.equal(flipped[~same], batch[~same].flip(-1))
    moved = random_flip_and_shift(batch, rng, flip=False, crop=True)
    assert moved.shape == batch.shape
    for image, shifted in zip(batch, moved, strict=True):
        assert any(
            torch.equal(torch.roll(image, (y, x), (1, 2))[:, 2:-2, 2:-2], shifted[:, 2:-2, 2:-2])
            for y in range(-2, 3)
            for x in range(-2, 3)
        )


def test_identity_covers_images_and_their_transforms() -> None:
    torch.manual_seed(0)
    first = colours(2)
    assert ClassPixels(first.images, first.settings).identity == first.identity
    assert ClassPixels(first.images, settings(flip=False)).identity != first.identity
    assert colours(3).identity != first.identity


def test_folders_with_train_and_test_are_datasets_of_that_name(tmp_path: Path) -> None:
    root = write_data(tmp_path, train=1, test=1) / "data"
    found = find_classes("folders", root)
    assert (found.names, found.divided, found.packed) == (NAMES, True, False)
    assert find_classes("cifar10", root).names == NAMES


@pytest.mark.parametrize("sort", ["cifar10", "fashion"])
def test_torchvision_files_take_precedence_over_folders(sort: str, tmp_path: Path) -> None:
    (tmp_path / CLASS_DATASET_TYPES[sort].packed).mkdir(parents=True)
    found = find_classes(sort, tmp_path)
    assert found.packed
    assert len(found.names) == 10


def test_folder_without_data_is_reported_with_expected_layout(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data folder .* does not exist"):
        find_classes("folders", tmp_path / "absent")
    with pytest.raises(
        DataError, match="does not contain CIFAR-10: it needs torchvision's cifar-10"
    ):
        find_classes("cifar10", tmp_path)
    with pytest.raises(DataError, match="0 class folders"):
        find_classes("folders", tmp_path)
    (tmp_path / "train").mkdir()
    with pytest.raises(DataError, match="no folder test"):
        find_classes("folders", tmp_path)


def test_unknown_words_are_reported_with_nearest_ones() -> None:
    with pytest.raises(UnknownName, match="Did you mean 'cifar10'"):
        class_data(parse_data("cifar:all"))
    with pytest.raises(UnknownName, match="modifier 'al'"):
        class_data(parse_data("cifar10:al"))
    with pytest.raises(UsageError, match="several data sets"):
        class_dataset_type("cifar10:all&fashion:all")


def test_class_is_found_by_name_or_index_and_names_take_precedence() -> None:
    assert [class_index(NAMES, one) for one in ("red", 2, "2", 0)] == [2, 2, 2, 0]
    assert class_index(("1", "10", "2"), 2) == 2
    assert class_index(("1", "10", "2"), "10") == 1
    with pytest.raises(UsageError, match="Classes: 0 blue, 1 green, 2 red"):
        class_index(NAMES, "rde")
    with pytest.raises(UsageError, match="class 3 to forget does not exist"):
        class_index(NAMES, 3)
