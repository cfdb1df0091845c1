"""What a layout tells of each image of a data set, and how the files below a folder are listed."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from trueface.data.folder_cache import is_image

REAL, FAKE = 0, 1
SHOWN = 5  # entries of a folder in a message
# folders that say which list their images are of, in small letters
LISTS: Mapping[str, str] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
# names of folders or classes that say whether images are real, in small letters
CLASSES: Mapping[str, int] = {
    "real": REAL,
    "0_real": REAL,
    "reals": REAL,
    "nature": REAL,
    "natural": REAL,
    "original": REAL,
    "authentic": REAL,
    "pristine": REAL,
    "human": REAL,
    "fake": FAKE,
    "1_fake": FAKE,
    "fakes": FAKE,
    "ai": FAKE,
    "generated": FAKE,
    "synthetic": FAKE,
    "deepfake": FAKE,
    "manipulated": FAKE,
}


class ImportedImage(NamedTuple):
    """One image of a data set; a NamedTuple, as there may be 200,000."""

    file: str  # absolute
    label: int  # 1 fake, 0 real
    source: str  # generator, manipulation or collection: a folder below Real/ or Fake/
    below: str  # its path in that folder with the suffix: "000_003/012.png"
    modifier: str = "pre"  # of the vocabulary, or a word for a version of the set: "c23"
    ties: tuple[str, ...] = ()  # prompts, identities: images with one in common share a list
    is_frame: bool = False  # the folder in `below` is the video that it is a frame of
    lists: tuple[str, ...] = ()  # published lists that name it


class Folder(NamedTuple):
    """A folder with images: its parts below the top, and their names, sorted."""

    path: str
    parts: tuple[str, ...]
    names: tuple[str, ...]


def image_folders(top: Path) -> Iterator[Folder]:
    """Yield each folder below `top` that holds images, sorted; links are followed, each folder once."""
    seen: set[tuple[int, int]] = set()
    waiting: list[tuple[str, tuple[str, ...]]] = [(str(top), ())]
    while waiting:
        path, parts = waiting.pop()
        status = os.stat(path)  # noqa: PTH116  # a set may have 100,000 folders
        if (status.st_dev, status.st_ino) in seen:
            continue
        seen.add((status.st_dev, status.st_ino))
        folders, names = [], []
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if is_image(entry.name):
                    names.append(entry.name)
                elif entry.is_dir():
                    folders.append(entry.name)
        if names:
            yield Folder(path, parts, tuple(sorted(names)))
        waiting += [(f"{path}/{name}", (*parts, name)) for name in sorted(folders, reverse=True)]


def listed_name(name: str, lists: tuple[str, ...]) -> str:
    """Return the name of an image from the folder of a list: train/1.png and test/1.png are two.

    A folder of its own would make each list a source, which intervals are over.
    """
    return "-".join((*lists, name))


def subfolders(folder: Path) -> list[str]:
    """Return the names of the folders in a folder, sorted, without hidden ones; [] if it is none."""
    try:
        with os.scandir(folder) as entries:
            return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))
    except OSError:
        return []


def contents(folder: Path) -> str:
    """Return the first entries of a folder in words, for messages."""
    try:
        names = sorted(
            f"{entry.name}/" if entry.is_dir() else entry.name for entry in os.scandir(folder)
        )
    except NotADirectoryError:
        return "a file"
    except OSError as error:
        return f"nothing that can be read ({error.strerror})"
    more = f", … ({len(names)} in all)" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more if names else "nothing"
