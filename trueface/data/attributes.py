"""The groups of images, as tables of attributes say them.

Tables are made on other machines than images are read on. So which row an image is follows from its path
below the data root, or as little of it as is enough. In this order a row is found by its path
as written, below the data root; by that path without folders that the data root ends in, or from the
folder of its table; by what lies from Real/ or Fake/ on, which copies on social networks share; by
the file's name, where no other row of the class has it.
"""

import logging
import os
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar

from trueface.data.attribute_table import (
    FORGERY,
    FORGERY_GROUP,
    INTERSEC,
    LABEL,
    PEOPLE,
    SIGNS,
    AttributesFile,
    Contradictions,
    forgery_name,
    read_header,
    read_table,
    refuse,
)
from trueface.data.index import Image
from trueface.runtime.errors import DataError, UnknownName

_CLASSES = {"real": 0, "fake": 1}
_SEVERAL = -1  # rows: none of them is the one that is meant

_Key = TypeVar("_Key", bound=Hashable)


@dataclass(frozen=True, slots=True)
class RowPlace:
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

    def __call__(self, written: str, label: int | None) -> RowPlace:
        """Return the place of a row's image.

        Args:
            written: path in the table.
            label: in the table; None: it says none.
        """
        path = os.path.normpath(written.replace("\\", "/"))
        if path.startswith("/"):
            return RowPlace(self._below(path) or path, (), label)
        others = [*self._without_root(path)]
        if self._inside or path.startswith(".."):
            others.append(self._below(os.path.normpath(self._folder + path)))
        return RowPlace(path, tuple(other for other in others if other and other != path), label)

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


class PathRows:
    """The rows of all tables by the paths of their images."""

    def __init__(self, places: Iterable[RowPlace]) -> None:
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


OnMissing = Literal["stop", "skip"]
FORGED = "Forged-"  # what folders of the kind `forge` begin with

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Attributes:
    """Which group each image of a data root is in, by every column of groups.

    Columns: gender (male, nonmale), race (asian, white, black, others) and intersec (male-asian, …) where
    the tables have the seed's columns; forgery where they have spe_label; and every other column by its
    name in small letters.
    """

    columns: tuple[str, ...]
    files: tuple[Path, ...]
    forgeries: tuple[str, ...]  # the values of the column `forgery` by their numbers in spe_label
    remarks: tuple[str, ...]  # what is odd in the files, and was logged
    _rows: PathRows = field(repr=False)
    _places: tuple[tuple[int, int], ...] = field(repr=False)  # of each row: which file, which line
    _labels: tuple[int | None, ...] = field(repr=False)
    _values: dict[str, tuple[str | None, ...]] = field(repr=False)  # by column, of each row

    @classmethod
    def read(cls, files: Sequence[Path], data_root: Path) -> "Attributes":
        """Read tables of attributes of the images below a data root.

        An image may have rows in several tables, which must not contradict each other. What
        contradicts itself in the numbers of the intersections is logged once for all tables.

        Raises:
            DataError: what is wrong, with file and line; see `attribute_table`.
        """
        if not files:
            raise DataError(
                "no file of attributes is named: give one CSV file, or several with commas"
            )
        return _Reading(tuple(files), Path(os.path.abspath(data_root))).done()  # noqa: PTH100  # keeps links

    def values(
        self, column: str, paths: Sequence[str], *, missing: OnMissing
    ) -> tuple[str | None, ...]:
        """Return the group of each image by one column.

        Args:
            column: one of `columns`.
            paths: of the images below the data root, with slashes.
            missing: stop where an image has no row, or its row says nothing of the column; or
                give None for it, and log how many there are.

        Raises:
            UnknownName: there is no such column.
            DataError: images without a group, or of which a table and their folder say different classes.
        """
        groups = self.known(column, paths)
        lacking = [path for path, group in zip(paths, groups, strict=True) if group is None]
        self._judge(column, lacking, len(paths), missing)
        return groups

    def known(self, column: str, paths: Sequence[str]) -> tuple[str | None, ...]:
        """Return the same as `values`, None where nothing is known, without a word on it.

        Raises:
            UnknownName: there is no such column.
            DataError: a table and the folder of an image say different classes.
        """
        if column not in self._values:
            raise UnknownName("column of groups", column, self.columns)
        values, groups = self._values[column], list[str | None]()
        for path in paths:
            row = self._row(path)
            group = None if row is None else values[row]
            if group is None and column == FORGERY_GROUP and class_of(path) == 0:
                group = self.forgeries[0]  # of real images nothing need be written
            groups.append(group)
        return tuple(groups)

    def check(self, paths: Sequence[str], *, missing: OnMissing) -> None:
        """Refuse images without a row, unless they shall be passed over.

        Raises:
            DataError: as `values`.
        """
        lacking = [path for path in paths if self._row(path) is None]
        self._judge("", lacking, len(paths), missing)

    def _row(self, path: str) -> int | None:
        row = self._rows.find(path)
        if row is None:
            return None
        written, there = self._labels[row], class_of(path)
        if written is not None and there is not None and written != there:
            raise DataError(
                f"{self._place(row)}: {LABEL} is {written}, and {path} lies in a folder of "
                f"{('real', 'fake')[there]} images; correct the label, or the path"
            )
        return row

    def _place(self, row: int) -> str:
        file, line = self._places[row]
        return f"{self.files[file]}:{line}"

    def _judge(self, column: str, lacking: Sequence[str], count: int, missing: OnMissing) -> None:
        """Say of how many images a table says nothing; stop there if that is wanted."""
        if not lacking:
            return
        rows = {path: self._row(path) for path in lacking}
        path = next((path for path, row in rows.items() if row is None), lacking[0])
        if (row := rows[path]) is None:
            files = ", ".join(map(str, self.files))
            what, remedy = f"no row in {files}", "add their rows"
        else:
            what, remedy = f"no {column} ({self._place(row)})", "add the values"
        message = f"{len(lacking)} of {count} images have {what}, such as {path}"
        if missing == "stop":
            raise DataError(f"{message}; {remedy}, or go on without: missing_attributes: skip")
        log.warning("%s", message)


class _Reading:
    """Tables on their way into one value."""

    def __init__(self, files: tuple[Path, ...], data_root: Path) -> None:
        self.files, self.data_root = files, data_root
        self.columns: dict[str, None] = {}
        self.rows: dict[str, int] = {}  # by path
        self.places: list[RowPlace] = []
        self.lines: list[tuple[int, int]] = []
        self.facts: list[dict[str, str | int]] = []  # by column; label and forgery as numbers
        self.sources: dict[tuple[int, str], tuple[int, int]] = {}  # of what a later table added
        self.odd: list[tuple[Path, int, Contradictions]] = []
        self.remarks: list[str] = []

    def done(self) -> Attributes:
        tables = [read_table(file) for file in self.files]
        with_signs = any(each.has_signs for each in tables)
        for number, each in enumerate(tables):
            self._add(number, each, without=PEOPLE if with_signs and not each.has_signs else ())
        if self.odd:
            self.remarks.append(_contradicted(self.odd))
        for remark in self.remarks:
            log.warning("%s", remark)
        forged = any(
            f"/{FORGED}" in f"/{place.path}" and facts.get(FORGERY_GROUP)
            for place, facts in zip(self.places, self.facts, strict=True)
        )
        most = max((_number(facts.get(FORGERY_GROUP)) or 0 for facts in self.facts), default=0)
        return Attributes(
            columns=tuple(self.columns),
            files=self.files,
            remarks=tuple(self.remarks),
            forgeries=tuple(forgery_name(number, forged=forged) for number in range(most + 1)),
            _rows=PathRows(self.places),
            _places=tuple(self.lines),
            _labels=tuple(_number(facts.get(LABEL)) for facts in self.facts),
            _values={
                column: tuple(_shown(facts.get(column), forged=forged) for facts in self.facts)
                for column in self.columns
            },
        )

    def _add(self, number: int, added: AttributesFile, without: Iterable[str]) -> None:
        if added.contradictions is not None:
            self.odd.append((added.file, len(added.rows), added.contradictions))
        self.columns |= dict.fromkeys(_columns(added, without))
        clashing = sorted({*added.header} & ({*PEOPLE} if added.has_signs else {*without}))
        if FORGERY_GROUP in added.header:
            clashing.append(FORGERY_GROUP)
        if clashing:
            self.remarks.append(
                f"{added.file}: column {', '.join(clashing)} is left out, as {', '.join(SIGNS)} "
                f"or {FORGERY} say it; call it otherwise to have it, too"
            )
        absolute = Path(os.path.abspath(added.file))  # noqa: PTH100  # keeps links
        placed = Placing(absolute, self.data_root)
        faults: list[tuple[int, str]] = []
        for row in added.rows:
            place = placed(row.path, row.label)
            cells: dict[str, str | int] = {**row.values}
            if row.label is not None:
                cells[LABEL] = row.label
            if row.forgery is not None:
                cells[FORGERY_GROUP] = row.forgery
            for column in without:
                cells.pop(column, None)
            if fault := self._merge(number, row.line, place, cells):
                faults.append((row.line, fault))
        refuse(added.file, faults)

    def _merge(self, number: int, line: int, place: RowPlace, cells: dict[str, str | int]) -> str:
        """Add what a row says; return how it contradicts an earlier one of the same image, or ''."""
        at = self.rows.setdefault(place.path, len(self.places))
        if at == len(self.places):
            self.places.append(place)
            self.lines.append((number, line))
            self.facts.append(cells)
            return ""
        known = self.facts[at]
        for column, value in cells.items():
            if column not in known:
                known[column] = value
                self.sources[at, column] = (number, line)
            elif known[column] != value:
                file, first = self.sources.get((at, column), self.lines[at])
                before = f"{known[column]} in {self.files[file]}:{first}"
                return f"{place.path} is {column} {value}, and {before}: keep one of the rows"
        return ""


def attribute_files(text: str, path: Callable[[str], Path]) -> tuple[Path, ...]:
    """Return the files that the setting `attributes` names, one or several with commas between.

    Args:
        text: value of the setting; '' names none.
        path: makes a path of a setting absolute.
    """
    return tuple(path(part.strip()) for part in text.split(",") if part.strip())


def columns_in(files: Iterable[Path]) -> tuple[str, ...]:
    """Return the columns of groups that files have by their headers; no row is read.

    Raises:
        DataError: a file that cannot be read, or has no header or not every column that it needs.
    """
    tables = [AttributesFile(file=file, header=read_header(file)) for file in files]
    signs = any(each.has_signs for each in tables)
    every = (_columns(each, PEOPLE if signs and not each.has_signs else ()) for each in tables)
    return tuple(dict.fromkeys(name for names in every for name in names))


def _columns(added: AttributesFile, without: Iterable[str]) -> tuple[str, ...]:
    people = PEOPLE if added.has_signs else ()
    forgery = (FORGERY_GROUP,) if FORGERY in added.header else ()
    left_out = {*without, *people}
    return (*people, *forgery, *(name for name in added.further if name not in left_out))


def _contradicted(odd: Sequence[tuple[Path, int, Contradictions]]) -> str:
    file, _, first = odd[0]
    count, rows = sum(each.count for _, _, each in odd), sum(rows for _, rows, _ in odd)
    return (
        f"{file}:{first.line}: {first.what}; {count} of {rows} rows are like that: the columns count, "
        f"and {INTERSEC} is passed over"
    )


def _number(value: str | int | None) -> int | None:
    return value if isinstance(value, int) else None


def _shown(value: str | int | None, *, forged: bool) -> str | None:
    return forgery_name(value, forged=forged) if isinstance(value, int) else value
