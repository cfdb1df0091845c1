"""Which row of the tables an image is: by its path below the data root, or as little of it as is enough.

Tables are made on other machines than images are read on. In this order a row is found by its path
as written, below the data root; by that path without folders that the data root ends in, or from the
folder of its table; by what lies from Real/ or Fake/ on, which copies on social networks share; by
the file's name, where no other row of the class has it.
"""

import os
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from trueface.data.index import Image

_CLASSES = {"real": 0, "fake": 1}
_SEVERAL = -1  # rows: none of them is the one that is meant

_Key = TypeVar("_Key", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Place:
    """The image of a row."""

    path: str  # below the data root as far as it lies there, else absolute; normal, with slashes
    others: tuple[str, ...]  # below the data root, by further readings
    label: int | None  # 1 fake, 0 real; None: not written


class Placing:
    """Where the images of one table lie; no disk is asked.

    Args:
        file: the table, absolute.
        data_root: absolute.
    """

    def __init__(self, file: Path, data_root: Path) -> None:
        self._root = os.path.normpath(data_root).rstrip("/") + "/"
        self._folder = os.path.normpath(file.parent).rstrip("/") + "/"
        self._above = self._root.strip("/").split("/")
        self._inside = self._folder != self._root and self._folder.startswith(self._root)

    def __call__(self, written: str, label: int | None) -> Place:
        """Return the place of a row's image.

        Args:
            written: path in the table.
            label: in the table; None: it says none.
        """
        path = os.path.normpath(written.replace("\\", "/"))
        if path.startswith("/"):
            return Place(self._below(path) or path, (), label)
        others = [*self._without_root(path)]
        if self._inside or path.startswith(".."):
            others.append(self._below(os.path.normpath(self._folder + path)))
        return Place(path, tuple(other for other in others if other and other != path), label)

    def _below(self, path: str) -> str:
        """Return an absolute path below the data root; '' where it does not lie there."""
        return path[len(self._root) :] if path.startswith(self._root) else ""

    def _without_root(self, path: str) -> Iterator[str]:
        """Yield a path without the folders at its beginning that end the data root, most first."""
        parts, above = path.split("/"), self._above
        if parts[0] in above:
            for count in range(min(len(parts) - 1, len(above)), 0, -1):
                if parts[:count] == above[-count:]:
                    yield "/".join(parts[count:])


def class_of(path: str) -> int | None:
    """Return the label that the folders of a path below a data root say: 1 fake, 0 real; None: nothing."""
    for part in path.split("/")[:-1]:
        label = _CLASSES.get(part.casefold())
        if label is not None:
            return label
    return None


def paths_below(images: Sequence[Image], data_root: Path) -> list[str]:
    """Return the paths of images below their data root, with slashes."""
    root = str(data_root / "_")[:-1]  # also where it is /
    return [image.file.removeprefix(root) for image in images]


class Rows:
    """The rows of all tables by the paths of their images."""

    def __init__(self, places: Iterable[Place]) -> None:
        self._exact: dict[str, int] = {}
        self._others: dict[str, int] = {}
        self._from_class: dict[str, int] = {}
        self._names: dict[tuple[int, str], int] = {}
        for row, place in enumerate(places):
            self._exact[place.path] = row
            for other in place.others:
                _add(self._others, other, row)
            if tail := _from_class(place.path):
                _add(self._from_class, tail, row)
            name = place.path.rpartition("/")[2]
            label = place.label
            if label is None and not place.path.startswith("/"):
                label = class_of(place.path)
            for of in (0, 1) if label is None else (label,):
                _add(self._names, (of, name), row)

    def find(self, path: str) -> int | None:
        """Return the row of an image by its path below the data root; None: there is none."""
        for rows, key in ((self._exact, path), (self._others, path)):
            if (row := rows.get(key, _SEVERAL)) != _SEVERAL:
                return row
        tail, label = _from_class(path), class_of(path)
        if tail and (row := self._from_class.get(tail, _SEVERAL)) != _SEVERAL:
            return row
        name = path.rpartition("/")[2]
        labels = (0, 1) if label is None else (label,)
        rows_of_name = {
            self._names[key] for key in ((of, name) for of in labels) if key in self._names
        }
        if len(rows_of_name) == 1 and _SEVERAL not in rows_of_name:
            return rows_of_name.pop()
        return None


def _add(rows: dict[_Key, int], key: _Key, row: int) -> None:
    if rows.setdefault(key, row) != row:
        rows[key] = _SEVERAL


def _from_class(path: str) -> str:
    """Return what of a path is left from Real/ or Fake/ on, these in small letters; '' without one."""
    parts = path.split("/")
    for at, part in enumerate(parts[:-1]):
        if part.casefold() in _CLASSES:
            return "/".join((part.casefold(), *parts[at + 1 :]))
    return ""
