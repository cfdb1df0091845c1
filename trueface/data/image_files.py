"""Image files that a person names: single ones and whole folders, in no layout of a data set."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from trueface.data.folder_cache import is_folder, is_image, listed, suffix


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """A place that gave no image, and why."""

    path: Path
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Pictures:
    """The image files that paths stand for on this disk."""

    files: tuple[Path, ...]  # as named, folders sorted; each file once
    missing: tuple[Missing, ...]
    passed_over: Mapping[str, int]  # other files in the folders: suffix → how many


def paths_in(content: bytes) -> tuple[Path, ...]:
    """Return the paths that a file lists: one a line, or each ended by NUL, as `find -print0` writes."""
    names = content.split(b"\0") if b"\0" in content else content.splitlines()
    return tuple(Path(os.fsdecode(name)) for name in names if name)


def find(places: Iterable[Path]) -> Pictures:
    """Return the files that are named, and the images of the folders that are.

    A file that is named is taken whatever its suffix. Folders are searched through links as well,
    but never in a circle; hidden files and folders in them are left out, and so are files whose
    suffix is no image's: these are counted. A link that leads nowhere is missing.
    """
    files: dict[Path, None] = {}
    missing: list[Missing] = []
    passed_over: Counter[str] = Counter()
    for place in places:
        # os.path, as a Path raises for what may not be looked at
        if os.path.isdir(place):  # noqa: PTH112
            others: Counter[str] = Counter()
            below = list(_below(place, (), missing, others))
            files.update(dict.fromkeys(below))
            passed_over.update(others)
            if not below and all(each.path != place for each in missing):
                instead = f", but {listed(others)}" if others else ""
                missing.append(Missing(path=place, reason=f"no image in this folder{instead}"))
        elif os.path.isfile(place):  # noqa: PTH113
            files[place] = None
        else:
            there = os.path.lexists(place)
            reason = "no file that can be read" if there else "no such file or folder"
            missing.append(Missing(path=place, reason=reason))
    return Pictures(files=tuple(files), missing=tuple(missing), passed_over=dict(passed_over))


def _below(
    folder: Path,
    above: tuple[tuple[int, int], ...],
    missing: list[Missing],
    others: Counter[str],
) -> Iterator[Path]:
    """Yield the images of a folder, then those of the folders in it, by name."""
    try:
        status = folder.stat()
        with os.scandir(folder) as entries:
            seen = [entry for entry in entries if not entry.name.startswith(".")]
            holding = {entry.name: is_folder(entry) for entry in seen}
    except OSError as error:
        missing.append(Missing(path=folder, reason=error.strerror or str(error)))
        return
    here = (status.st_dev, status.st_ino)
    if here in above:  # a link back to a folder above it: its images are there already
        return
    for name in sorted(name for name, holds in holding.items() if not holds):
        path = folder / name
        # os.path, as a Path raises for what may not be looked at
        if not os.path.exists(path):  # noqa: PTH110
            missing.append(Missing(path=path, reason="a link that leads nowhere"))
        elif is_image(name) and os.path.isfile(path):  # noqa: PTH113
            yield path
        else:
            others[suffix(name)] += 1
    for name in sorted(name for name, holds in holding.items() if holds):
        yield from _below(folder / name, (*above, here), missing, others)
