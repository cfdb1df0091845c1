"""What a layout tells of each image of a data set, how the files below a folder are listed, what a data root says.

<root>/dataset.yaml   a task file to include, whose `subsets` and `modifiers` are words for its sources
<root>/videos.json    {"schema": 1, "sources": ["FF-DF", "FF-real"]}: folders below Real/ or Fake/,
                      in which each folder of images is a video
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import yaml

from trueface.data.folder_cache import is_folder, is_image
from trueface.runtime.errors import DataError
from trueface.runtime.files import write_json
from trueface.runtime.ids import Words

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


DATASET = "dataset.yaml"
VIDEOS = "videos.json"
SCHEMA = 1


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
                elif is_folder(entry):
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
            return sorted(e.name for e in entries if is_folder(e) and not e.name.startswith("."))
    except OSError:
        return []


def contents(folder: Path) -> str:
    """Return the first entries of a folder in words, for messages."""
    try:
        names = sorted(
            f"{entry.name}/" if is_folder(entry) else entry.name for entry in os.scandir(folder)
        )
    except NotADirectoryError:
        return "a file"
    except OSError as error:
        return f"nothing that can be read ({error.strerror})"
    more = f", … ({len(names)} in all)" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more if names else "nothing"


def write_video_sources(folder: Path, sources: Iterable[str]) -> None:
    """Write videos.json; without any source nothing is written."""
    if names := sorted(sources):
        write_json(folder / VIDEOS, {"schema": SCHEMA, "sources": list(names)})


def video_sources(root: Path) -> frozenset[str]:
    """Return the sources whose folders are videos; none where the data root names none.

    Raises:
        DataError: its videos.json cannot be read.
    """
    try:
        content: Mapping[str, object] = json.loads((root / VIDEOS).read_bytes())
        sources = content["sources"]
    except (FileNotFoundError, NotADirectoryError):
        return frozenset()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"cannot read {root / VIDEOS}: {error}") from error
    if not isinstance(sources, list):
        raise DataError(f"{root / VIDEOS}: sources is no list of folders")
    return frozenset(map(str, sources))


def read_words(root: Path) -> Words:
    """Return the words of a data root; none where nothing was imported.

    Raises:
        DataError: its dataset.yaml cannot be read.
    """
    try:
        content = yaml.safe_load((root / DATASET).read_text(encoding="utf-8"))
        sections = [content.get(name) or {} for name in ("subsets", "modifiers")]
        subsets, modifiers = (
            {str(word): tuple(map(str, folders)) for word, folders in section.items()}
            for section in sections
        )
    except (FileNotFoundError, NotADirectoryError):
        return Words()
    except (OSError, ValueError, yaml.YAMLError, AttributeError, TypeError) as error:
        raise DataError(f"cannot read {root / DATASET}: {error}") from error
    return Words(subsets=subsets, modifiers=modifiers)
