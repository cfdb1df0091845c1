"""Image files that a person names: single ones and whole folders, in no layout of a data set."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from trueface.listing import SUFFIXES


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """A place that gave no image, and why."""

    path: Path
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Pictures:
    """What a person's words stand for on this disk."""

    files: tuple[Path, ...]  # as named, folders sorted; each file once
    missing: tuple[Missing, ...]


def find(places: Iterable[Path]) -> Pictures:
    """Return the files that are named, and the images of the folders that are.

    A file that is named is taken whatever its suffix. Folders are searched through links as well,
    but never in a circle; hidden files and folders in them are left out.
    """
    files: dict[Path, None] = {}
    missing: list[Missing] = []
    for place in places:
        # os.path, as a Path raises for what may not be looked at
        if os.path.isdir(place):  # noqa: PTH112
            found = list(_below(place, (), missing))
            files.update(dict.fromkeys(found))
            if not found:
                missing.append(Missing(path=place, reason="no image in this folder"))
        elif os.path.isfile(place):  # noqa: PTH113
            files[place] = None
        else:
            there = os.path.lexists(place)
            reason = "no file that can be read" if there else "no such file or folder"
            missing.append(Missing(path=place, reason=reason))
    return Pictures(files=tuple(files), missing=tuple(missing))


def _below(
    folder: Path, above: tuple[tuple[int, int], ...], missing: list[Missing]
) -> Iterator[Path]:
    """Yield the images of a folder, then those of the folders in it, by name."""
    try:
        status = folder.stat()
        with os.scandir(folder) as entries:
            seen = [entry for entry in entries if not entry.name.startswith(".")]
            files = sorted(entry.name for entry in seen if _is_image(entry))
            folders = sorted(entry.name for entry in seen if entry.is_dir())
    except OSError as error:
        missing.append(Missing(path=folder, reason=error.strerror or str(error)))
        return
    here = (status.st_dev, status.st_ino)
    if here in above:  # a link back to a folder above it: its images are there already
        return
    for name in files:
        yield folder / name
    for name in folders:
        yield from _below(folder / name, (*above, here), missing)


def _is_image(entry: os.DirEntry[str]) -> bool:
    return entry.name.rpartition(".")[2].lower() in SUFFIXES and entry.is_file()
