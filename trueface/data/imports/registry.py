"""Layouts of data sets by name, one module of this package each, and listing of folders.

A layout is a class with two functions below `@register_layout`: `fits` checks a folder without
listing all of it, `images` lists it.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple, Protocol, cast, runtime_checkable

from trueface.data.folders import is_folder, is_image, suffix
from trueface.runtime.declarations import Declared, Registry
from trueface.runtime.errors import DataError, UnknownName

AUTO = "auto"
REAL, FAKE = 0, 1
SHOWN = 5  # entries of a folder in a message
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


# the path of each video file → the names of its frames, as if it were a folder: "v/000_003.mp4/012.png"
Frames = Mapping[str, tuple[str, ...]]
NO_FRAMES: Frames = MappingProxyType({})
# suffixes of files that can be videos; their content decides
VIDEO_SUFFIXES = frozenset({"avi", "m4v", "mkv", "mov", "mp4", "mpeg", "mpg", "ts", "webm", "wmv"})


class ImportedImage(NamedTuple):
    """One image of a data set; a NamedTuple, as there may be 200,000."""

    file: str  # absolute; of a frame, the path of its video and its name
    label: int  # 1 fake, 0 real
    source: str  # generator, manipulation or collection: a folder below Real/ or Fake/
    below: str  # its path in that folder with the suffix: "000_003/012.png"
    modifier: str = "pre"  # modifier of the vocabulary, or a word for a version of the set: "c23"
    ties: tuple[str, ...] = ()  # prompts, identities: images with one in common share a list
    is_frame: bool = False  # the folder in `below` is the video that it is a frame of
    lists: tuple[str, ...] = ()  # published lists that name it
    # path of the real video that a fake was made of, without suffix; "" if at most the fake's name shows it
    original: str = ""


class FolderImages(NamedTuple):
    """A folder with images: its parts below the top, and their names, sorted.

    A video file counts as a folder of its frames. Its last part is its name without the suffix.
    """

    path: str
    parts: tuple[str, ...]
    names: tuple[str, ...]


def image_folders(
    top: Path, others: list[str] | None = None, *, frames: Frames = NO_FRAMES
) -> Iterator[FolderImages]:
    """Yield each folder below `top` that holds images, sorted; links are followed, each folder once.

    Args:
        top: the folder to search. Hidden folders in it are left out.
        others: gets the paths of all other files, hidden ones too.
        frames: the names of the frames of each video file that is to be read.
    """
    seen: set[tuple[int, int]] = set()
    waiting: list[tuple[str, tuple[str, ...]]] = [(str(top), ())]
    while waiting:
        path, parts = waiting.pop()
        status = os.stat(path)  # noqa: PTH116  # a set may have 100,000 folders
        if (status.st_dev, status.st_ino) in seen:
            continue
        seen.add((status.st_dev, status.st_ino))
        folders, names, videos = [], [], []
        with os.scandir(path) as entries:
            for entry in entries:
                if is_folder(entry):  # first: a folder may be named photos.jpg
                    if not entry.name.startswith("."):
                        folders.append(entry.name)
                elif is_image(entry.name):
                    names.append(entry.name)
                elif f"{path}/{entry.name}" in frames:
                    videos.append(entry.name)
                elif others is not None:
                    others.append(f"{path}/{entry.name}")
        if names:
            yield FolderImages(path, parts, tuple(sorted(names)))
        for name in sorted(videos):
            video = f"{path}/{name}"
            yield FolderImages(video, (*parts, name.rpartition(".")[0]), frames[video])
        waiting += [(f"{path}/{name}", (*parts, name)) for name in sorted(folders, reverse=True)]


def is_video(name: str) -> bool:
    """Return whether a file of this name can be a video: not hidden, and with a known suffix."""
    return suffix(name)[1:] in VIDEO_SUFFIXES and not name.startswith(".")


def video_files(folder: Path) -> list[str]:
    """Return the video files in a folder and below it, by their names, sorted."""
    others: list[str] = []
    for _ in image_folders(folder, others):
        pass
    return sorted(path for path in others if is_video(path.rpartition("/")[2]))


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
        return f"nothing readable ({error.strerror})"
    more = f", … ({len(names)} in all)" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more if names else "nothing"


@dataclass(frozen=True, slots=True, kw_only=True)
class LayoutOptions:
    """Options of the user that the folders of a set do not determine."""

    real: frozenset[str] = frozenset()  # classes or sources that are real
    videos: bool = False  # folders with images are videos (of plain folders and ImageFolder)
    frames: Frames = field(default_factory=dict)  # frames of video files


class Layout(Protocol):
    """The folder layout of a data set, or of a family of them."""

    def fits(self, folder: Path) -> bool:
        """Return whether a folder has this layout, judged by a few of its entries."""

    def images(self, folder: Path, options: LayoutOptions) -> Iterator[ImportedImage]:
        """Yield every image.

        Raises:
            DataError: the folder, or a table in it, cannot be read as this layout.
        """


@runtime_checkable
class PictureLayout(Layout, Protocol):
    """A layout whose images are made from the listed files."""

    def write_pictures(
        self, files: Sequence[str], folder: Path
    ) -> tuple[dict[str, str], dict[str, str]]:
        """Write pictures into a folder. Return that of each file, and why each damaged folder of files has none."""


@dataclass(frozen=True, slots=True)
class LayoutSpec(Declared):
    """Declares a layout; the class below it is a `Layout`."""

    name: str  # as people write it
    _: KW_ONLY
    summary: str  # data sets with this layout, in words
    expects: str  # required content of a folder, for messages
    tables: tuple[str, ...] = ()  # patterns of files of the folder that are read in addition
    reads_videos: bool = False  # `images` yields the frames of video files
    makes_pictures: bool = False  # its class is a `PictureLayout`


register_layout = LayoutSpec
_READ = Registry(
    "trueface.data.imports", LayoutSpec, decorator="register_layout", modules=(__name__,)
)
# the strictest first: plain folders fit much
ORDER = (
    "deepfakebench",
    "faceforensics",
    "dfdc",
    "genimage",
    "truefake",
    "folders",
    "imagefolder",
    "csv",
)
LAYOUTS: Mapping[str, LayoutSpec] = MappingProxyType(
    {name: _READ[name] for name in (*ORDER, *sorted(_READ.keys() - set(ORDER)))}
)


def load(name: str) -> Layout:
    """Import the file of a layout; return the layout."""
    return cast(Layout, _READ.load(name)())


def find_fitting_layout(folder: Path) -> str:
    """Return the first layout that a folder fits; "" if there is none."""
    return next((name for name in LAYOUTS if load(name).fits(folder)), "")


def resolve_layout(name: str, folder: Path) -> str:
    """Return the layout that is meant by its name, or by `auto`, for a folder that fits it.

    Raises:
        UnknownName: there is no such layout.
        DataError: the folder does not exist, or does not look so.
    """
    if name != AUTO and name not in LAYOUTS:
        raise UnknownName("layout", name, (*LAYOUTS, AUTO))
    if not folder.exists():
        raise DataError(f"{folder} does not exist. Name the folder of the data set.")
    if name != AUTO and load(name).fits(folder):
        return name
    fits = find_fitting_layout(folder)
    if name == AUTO:
        if fits:
            return fits
        known = "".join(f"\n       {spec.name}: {spec.expects}" for spec in LAYOUTS.values())
        raise DataError(f"{folder} contains {contents(folder)}, which fits no known layout:{known}")
    hint = f". It fits {fits}: trueface import {fits} {folder}" if fits else ""
    if LAYOUTS[name].makes_pictures:  # from a data root, whose own images fit another layout
        hint = ". Import the videos in this way, and give that folder."
    raise DataError(
        f"{folder} does not have the layout {name}. Expected {LAYOUTS[name].expects}, found "
        f"{contents(folder)}{hint}"
    )
