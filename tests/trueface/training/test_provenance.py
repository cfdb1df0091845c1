"""What a checkpoint records of the image files of its training."""

import os
from pathlib import Path

import pytest

from tests.trueface.conftest import Tree
from trueface.data.index import Image
from trueface.data.settings import PlaceSettings
from trueface.runtime.ids import Words
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
