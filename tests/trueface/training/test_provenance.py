"""What is recorded of a training: its image files, and its epochs."""

import os
from pathlib import Path

import pytest

from tests.trueface.conftest import Tree
from trueface.data.index import Image
from trueface.data.settings import PlaceSettings
from trueface.runtime.ids import Words
from trueface.training.history import Epoch
from trueface.training.image_lists import DataLocation, TrainingLists
from trueface.training.provenance import images_provenance

KEYS = ("train_images_sha256", "image_bytes_sha256", "image_files")


@pytest.mark.parametrize(
    ("content", "time_ns", "same"),
    [
        (b"", 0, (True, True, True)),
        (b"", 1, (True, True, False)),  # the same image copied again, or another one of its size
        (b"more", 0, (True, False, True)),
    ],
)
def test_files_of_the_same_names_are_told_apart(
    tree: Tree, content: bytes, time_ns: int, same: tuple[bool, ...]
) -> None:
    root = tree(["PreSocial/Real/FFHQ/1.png", "PreSocial/Fake/StyleGAN2/1.png"])
    images = [
        Image(str(path), f"{path.parent.name}/1", int("Fake" in str(path)), path.parent.name, "pre")
        for path in sorted(root.rglob("*.png"))
    ]
    lists = TrainingLists(train=tuple(images[:1]), val=tuple(images[1:]), splits=())
    location = DataLocation.from_place_settings(
        PlaceSettings(data_root=str(root), split_path=str(root)), Words(), Path
    )
    before = images_provenance(location, lists)
    path, status = Path(images[0].file), Path(images[0].file).stat()
    path.write_bytes(path.read_bytes() + content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + time_ns))
    after = images_provenance(location, lists)
    assert tuple(before[key] == after[key] for key in KEYS) == same


@pytest.mark.parametrize(
    ("balanced", "worst", "measure", "score"),
    [
        (None, None, "accuracy", 0.75),
        (0.5, None, "balanced accuracy", 0.5),
        (0.5, 0.25, "accuracy of the worst cell", 0.25),
    ],
)
def test_measure_that_selects_an_epoch_is_named(
    balanced: float | None, worst: float | None, measure: str, score: float
) -> None:
    epoch = Epoch(
        epoch=1, lr=1, loss=1, accuracy=1, val_loss=1, val_accuracy=0.75, seconds=1, images_per_s=1,
        val_balanced_accuracy=balanced, val_worst_cell_accuracy=worst,
    )  # fmt: skip
    assert (epoch.selection_measure, epoch.selection_score[0]) == (measure, score)
