"""The files of a data set that an import does not take, counted by reason and suffix."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from trueface.data.folders import suffix
from trueface.data.imports.registry import LAYOUTS, ImportedImage, image_folders
from trueface.runtime.image_files import missing_reader


class Reason(StrEnum):
    """Why an import does not take a file; part of its JSON output."""

    NOT_AN_IMAGE = "not_an_image"  # by its name
    NO_READER = "no_reader"  # an image or a video whose reader is not installed
    BROKEN_VIDEO = "broken_video"  # a video file that gives no frames
    DOUBLE_VIDEO = "double_video"  # a folder of frames would get the same place
    OUTSIDE_LAYOUT = "outside_layout"  # an image in a place that the layout does not read
    MISSING = "missing"  # listed, but it does not exist
    NO_FACE = "no_face"  # alignment found no face in it
    UNREADABLE = "unreadable"  # alignment could not decode it
    NO_REAL_IMAGE = "no_real_image"  # a fake whose real image is missing, or no pair
    HIDDEN = "hidden"  # its name begins with a dot


_WORDS: Mapping[Reason, str] = {
    Reason.NOT_AN_IMAGE: "",
    Reason.NO_READER: " without a reader",
    Reason.BROKEN_VIDEO: " that cannot be read",
    Reason.DOUBLE_VIDEO: " with a folder of their frames",
    Reason.OUTSIDE_LAYOUT: " outside the layout",
    Reason.MISSING: " that do not exist",
    Reason.NO_FACE: " without a face",
    Reason.UNREADABLE: " that cannot be read",
    Reason.NO_REAL_IMAGE: " without the real image",
    Reason.HIDDEN: " hidden",
}


class PassedOver(NamedTuple):
    """Files of one reason and one suffix."""

    reason: Reason
    suffix: str  # in lower case with its dot; "" of hidden files and of names without one
    files: int
    example: str  # the first of them

    def __str__(self) -> str:
        name = self.suffix or ("" if self.reason is Reason.HIDDEN else "without a suffix")
        return f"{self.files} {name}{_WORDS[self.reason]}".replace("  ", " ")


def without_reader(
    images: Iterable[ImportedImage],
) -> tuple[list[ImportedImage], dict[str, str]]:
    """Divide images into those that can be read here, and the format of each file that cannot."""
    readable, formats = list[ImportedImage](), dict[str, str]()
    for image in images:
        if form := missing_reader(image.file):
            formats[image.file] = form
        else:
            readable.append(image)
    return readable, formats


def find_passed_over(
    folder: Path,
    layout: str,
    *,
    taken_files: Iterable[str],
    unread_files: Iterable[str],
    missing: Iterable[str],
    dropped_files: Mapping[str, Reason] | None = None,
    videos: Collection[str] = (),
    broken_files: Collection[str] = (),
    doubles: Collection[str] = (),
) -> list[PassedOver]:
    """Return the files of a data set that an import does not take.

    Args:
        folder: of the data set; tables of the layout in it count as read. Hidden folders are not
            searched. If it is a file, only the files that it lists count.
        layout: its name.
        taken_files: the imported files.
        unread_files: images and videos of the layout whose reader is not installed.
        missing: listed files that do not exist.
        dropped_files: files of the layout that are left out, with the reason.
        videos: video files whose frames were imported.
        broken_files: video files that give no frames.
        doubles: video files that were left out for a folder of frames.
    """
    found: dict[tuple[Reason, str], list[str]] = {}
    unread_files, dropped_files = set(unread_files), dropped_files or {}
    known = {*taken_files, *unread_files, *dropped_files, *videos, *broken_files, *doubles}
    for reason, file in (
        *((Reason.NO_READER, file) for file in unread_files),
        *((Reason.BROKEN_VIDEO, file) for file in broken_files),
        *((Reason.DOUBLE_VIDEO, file) for file in doubles),
        *((Reason.MISSING, file) for file in missing),
        *((reason, file) for file, reason in dropped_files.items()),
        *(_list_other_files(folder, layout, known) if folder.is_dir() else ()),
    ):
        ending = "" if reason is Reason.HIDDEN else suffix(file)
        found.setdefault((reason, ending), []).append(file)
    order = list(Reason)
    return [
        PassedOver(reason, ending, len(files), min(files))
        for (reason, ending), files in sorted(
            found.items(), key=lambda item: (order.index(item[0][0]), -len(item[1]), item[0][1])
        )
    ]


def _list_other_files(
    folder: Path, layout: str, known_files: set[str]
) -> Iterator[tuple[Reason, str]]:
    others: list[str] = []
    for path, _, names in image_folders(folder, others):
        files = (f"{path}/{name}" for name in names)
        yield from ((Reason.OUTSIDE_LAYOUT, file) for file in files if file not in known_files)
    tables = {str(path) for pattern in LAYOUTS[layout].tables for path in folder.glob(pattern)}
    for file in others:
        if file.rpartition("/")[2].startswith("."):
            yield Reason.HIDDEN, file
        elif file not in tables and file not in known_files:
            yield Reason.NOT_AN_IMAGE, file
