"""The groups of images, read from tables of attributes.

Tables are often written on other machines than the one that reads the images. The row of an image
is therefore found by its path below the data root, or by a part of it. The following are tried in
this order:

1. The path as written, below the data root.
2. That path without folders that the data root ends in, or from the folder of its table.
3. The path from Real/ or Fake/ on, which copies on social networks share.
4. The file name, if no other row of the class has it.
"""

import logging
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from trueface.data.attribute_table import (
    FORGERIES,
    FORGERY,
    FORGERY_GROUP,
    LABEL,
    PEOPLE,
    SIGNS,
    AttributesFile,
    read_header,
    read_table,
)
from trueface.data.group_names import describe_group_names, doubts, equal_numbers
from trueface.data.index import Image
from trueface.runtime.errors import DataError, UnknownName, refuse_rows

_CLASSES = {"real": 0, "fake": 1}
_SEVERAL = -1  # rows: none of them is the one that is meant


class RowLocation(NamedTuple):
    """The image of a row."""

    path: str  # relative to the data root if it is below it, otherwise absolute; normalised, with slashes
    others: tuple[str, ...]  # below the data root, by further readings
    label: int | None  # 1 fake, 0 real; None: not written


class RowPathResolver:
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

    def __call__(self, row_path: str, label: int | None) -> RowLocation:
        """Return the place of a row's image.

        Args:
            row_path: path in the table.
            label: in the table; None: it says none.
        """
        path = os.path.normpath(row_path.replace("\\", "/"))
        if path.startswith("/"):
            return RowLocation(self._relative_to_root(path) or path, (), label)
        others = [*self._without_root(path)]
        if self._inside or path.startswith(".."):
            others.append(self._relative_to_root(os.path.normpath(self._folder + path)))
        return RowLocation(path, tuple(other for other in others if other and other != path), label)

    def _relative_to_root(self, path: str) -> str:
        """Return an absolute path relative to the data root, or '' if it is not below it."""
        return path[len(self._root) :] if path.startswith(self._root) else ""

    def _without_root(self, path: str) -> Iterator[str]:
        """Yield a path without the folders at its beginning that end the data root, most first."""
        parts, above = path.split("/"), self._above
        if parts[0] in above:
            for count in range(min(len(parts) - 1, len(above)), 0, -1):
                if parts[:count] == above[-count:]:
                    yield "/".join(parts[count:])


def class_of(path: str) -> int | None:
    """Return the label that the folders of a path give: 1 fake, 0 real, None if neither."""
    return _CLASSES.get(_path_below_class(path).partition("/")[0])


def paths_below(images: Sequence[Image], data_root: Path) -> list[str]:
    """Return the paths of images below their data root, with slashes."""
    root = str(data_root / "_")[:-1]  # also where it is /
    return [image.file.removeprefix(root) for image in images]


class PathRows:
    """The rows of all tables by the paths of their images."""

    def __init__(self) -> None:
        self.paths: dict[str, int] = {}
        self._others: dict[str, int] = {}
        self._from_class: dict[str, int] = {}
        self._names: tuple[dict[str, int], dict[str, int]] = ({}, {})  # reals, fakes

    def add(self, location: RowLocation) -> int:
        """Return the number of a row: a new one, or that of an earlier row of the same path."""
        path, label = location.path, location.label
        if path in self.paths:
            return self.paths[path]
        row = self.paths[path] = len(self.paths)
        if label is None and not path.startswith("/"):  # folders above a data root say nothing
            label = class_of(path)
        name = path.rpartition("/")[2]
        for rows, key in (
            *((self._others, other) for other in location.others),
            (self._from_class, _path_below_class(path)),
            *((rows, name) for rows in self._names_of_class(label)),
        ):
            if key and rows.setdefault(key, row) != row:
                rows[key] = _SEVERAL
        return row

    def find(self, path: str) -> int | None:
        """Return the row of an image by its path below the data root, or None."""
        tail = _path_below_class(path)
        for rows, key in ((self.paths, path), (self._others, path), (self._from_class, tail)):
            if (row := rows.get(key, _SEVERAL)) != _SEVERAL:
                return row
        name = path.rpartition("/")[2]
        named = {rows[name] for rows in self._names_of_class(class_of(path)) if name in rows}
        return named.pop() if len(named) == 1 and _SEVERAL not in named else None

    def _names_of_class(self, label: int | None) -> tuple[dict[str, int], ...]:
        return self._names if label is None else (self._names[label],)


def _path_below_class(path: str) -> str:
    """Return what of a path is left from Real/ or Fake/ on, these in small letters; '' without one."""
    parts = path.split("/")
    for at, part in enumerate(parts[:-1]):
        if part.casefold() in _CLASSES:
            return "/".join((part.casefold(), *parts[at + 1 :]))
    return ""


OnMissing = Literal["stop", "skip"]
FORGED = "Forged-"  # beginning of the names of folders of the kind `forge`

log = logging.getLogger(__name__)


class Attributes:
    """The group of each image of a data root in every column of groups.

    Columns are gender (male, nonmale), race (asian, white, black, others) and intersec (male-asian,
    …) if the tables have the columns of seed 002. Column forgery exists if they have spe_label.
    Every other column is named in lower case.

    An image may have rows in several tables, which must not contradict each other. The numbers
    of forgeries mean something else in each set. Images below a folder of the job type `forge` get
    its words, and those of other sets keep the numbers.

    Args:
        files: tables of attributes.
        data_root: of the images.

    Raises:
        DataError: what is wrong, with file and line; see `attribute_table`.
    """

    columns: tuple[str, ...]
    forgeries: tuple[str, ...]  # the values of the column `forgery` by their numbers in spe_label
    remarks: tuple[str, ...]  # oddities in the files, which were logged

    def __init__(self, files: Sequence[Path], data_root: Path) -> None:
        if not files:
            raise DataError(
                "no file of attributes is named. Give one CSV file, or several separated by commas."
            )
        self.files = tuple(files)
        self._rows = PathRows()
        self._lines: list[str] = []  # file and line of each row, for messages
        self._words: set[int] = set()  # rows whose forgery is written as a word
        # by column, of each row; labels and numbers of forgeries, too
        self._values: dict[str, dict[int, str]] = {LABEL: {}, FORGERY_GROUP: {}}
        tables, later = [read_table(file) for file in files], dict[tuple[int, str], str]()
        self._names = _names_by_column(tables)
        self._cells = _missing_cells(tables)
        self._remarked: set[str] = set()  # columns
        for table in tables:
            self._add(table, _left_out(table, tables), data_root, later)
        self.columns = _columns(tables)
        self.remarks = tuple(_remarks(tables))
        for remark in self.remarks:
            log.warning("%s", remark)
        self.forgeries = self._name_forgeries()

    def _name_forgeries(self) -> tuple[str, ...]:
        """Give each row's forgery the name in its own set, and return all names by number."""
        numbers = {row: int(number) for row, number in self._values[FORGERY_GROUP].items()}
        below = {row for path, row in self._rows.paths.items() if f"/{FORGED}" in f"/{path}"}
        worded = {row for row in below | self._words if numbers.get(row)}
        real = FORGERIES[0] if worded else "0"

        def name(number: int, *, has_word: bool) -> str:
            if number == 0:
                return real
            return FORGERIES[number] if has_word and number < len(FORGERIES) else str(number)

        names = {row: name(number, has_word=row in worded) for row, number in numbers.items()}
        self._values[FORGERY_GROUP] = names
        # a number without a row has a place, too, because an objective counts the places
        every = range(max(numbers.values(), default=0) + 1)
        by_name = {name(number, has_word=bool(worded)): number for number in every}
        by_name |= {names[row]: number for row, number in numbers.items()}
        return tuple(sorted(by_name, key=lambda each: (by_name[each], each)))

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
            DataError: images without a group, or of which a table and their folder say different
            classes.
        """
        groups = self.lookup_groups(column, paths)
        lacking = [path for path, group in zip(paths, groups, strict=True) if group is None]
        self._judge_missing(column, lacking, len(paths), missing)
        return groups

    def lookup_groups(self, column: str, paths: Sequence[str]) -> tuple[str | None, ...]:
        """Return the group of each image by one column, None if the group is unknown.

        Unlike `values`, it does not report missing rows.

        Raises:
            UnknownName: there is no such column.
            DataError: a table and the folder of an image say different classes.
        """
        if column not in self.columns:
            raise UnknownName("column of groups", column, self.columns)
        self._remark(column)
        values, groups = self._values.get(column, {}), list[str | None]()
        for path in paths:
            row = self._row(path)
            group = None if row is None else values.get(row)
            if group is None and column == FORGERY_GROUP and class_of(path) == 0:
                group = self.forgeries[0]  # a table need not contain real images
            groups.append(group)
        return tuple(groups)

    def _remark(self, column: str) -> None:
        """Log once what is odd in the names of a column's groups."""
        if column in self._remarked:
            return
        self._remarked.add(column)
        if missing := self._cells.get(column):
            cells = describe_group_names(sorted(missing))
            log.warning("column %s: %d rows have %s. These rows belong to no group.",
                        column, missing.total(), cells)  # fmt: skip
        if names := self._names.get(column):
            log.warning(
                "column %s: equal numbers are treated as one group: %s",
                column,
                describe_group_names(sorted(names)),
            )
        for doubt in doubts(self._values.get(column, {}).values()):
            log.warning("column %s: %s", column, doubt)

    def check(self, paths: Sequence[str], *, missing: OnMissing) -> None:
        """Refuse images without a row, unless they shall be passed over.

        Raises:
            DataError: as `values`.
        """
        lacking = [path for path in paths if self._row(path) is None]
        self._judge_missing("", lacking, len(paths), missing)

    def _row(self, path: str) -> int | None:
        row = self._rows.find(path)
        if row is None:
            return None
        written, there = self._values[LABEL].get(row), class_of(path)
        if written is not None and there is not None and int(written) != there:
            raise DataError(
                f"{self._lines[row]}: {LABEL} is {written}, but {path} is in a folder of "
                f"{('real', 'fake')[there]} images. Correct the label or the path."
            )
        return row

    def _judge_missing(
        self, column: str, lacking: Sequence[str], count: int, missing: OnMissing
    ) -> None:
        """Say of how many images a table says nothing; stop there if that is wanted."""
        if not lacking:
            return
        rows = {path: self._row(path) for path in lacking}
        path = next((path for path, row in rows.items() if row is None), lacking[0])
        if (row := rows[path]) is None:
            files = ", ".join(map(str, self.files))
            lacking_values, remedy = f"no row in {files}", "Add their rows"
        else:
            lacking_values, remedy = f"no {column} ({self._lines[row]})", "Add the values"
        message = f"{len(lacking)} of {count} images have {lacking_values}, such as {path}"
        if missing == "stop":
            raise DataError(f"{message}. {remedy}, or set missing_attributes: skip.")
        log.warning("%s", message)

    def _add(
        self,
        table: AttributesFile,
        excluded_columns: Collection[str],
        data_root: Path,
        later_columns: dict[tuple[int, str], str],
    ) -> None:
        """Take in a table; `later_columns` gets where a column of a row was added to an earlier row."""
        file, root = (Path(os.path.abspath(path)) for path in (table.file, data_root))  # noqa: PTH100  # keeps links
        placed, faults = RowPathResolver(file, root), list[tuple[int, str]]()
        for row in table.rows:
            location, line = placed(row.path, row.label), f"{table.file}:{row.line}"
            at = self._rows.add(location)
            if at == len(self._lines):
                self._lines.append(line)
            numbers = {LABEL: row.label, FORGERY_GROUP: row.forgery}
            said = {name: str(number) for name, number in numbers.items() if number is not None}
            if row.cells.get(FORGERY, "").casefold() in FORGERIES:
                self._words.add(at)
            groups = self._unify_equal_numbers(row.values)
            for column, value in {**groups, **said}.items():
                if column in excluded_columns:
                    continue
                values = self._values.setdefault(column, {})
                if at not in values and self._lines[at] != line:
                    later_columns[at, column] = line
                if (known := values.setdefault(at, value)) != value:
                    earlier = f"{known} in {later_columns.get((at, column), self._lines[at])}"
                    fault = (
                        f"{location.path} has {column} {value}, but {earlier}: keep one of the rows"
                    )
                    faults.append((row.line, fault))
                    break
        refuse_rows(table.file, faults)

    def _unify_equal_numbers(self, groups: Mapping[str, str]) -> Mapping[str, str]:
        """Return the groups of a row by column, numbers that are equal with one name."""
        if not self._names:
            return groups
        return {
            column: self._names.get(column, {}).get(name, name) for column, name in groups.items()
        }


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
    return _columns([AttributesFile(file=file, header=read_header(file)) for file in files])


def _columns(tables: Sequence[AttributesFile]) -> tuple[str, ...]:
    return tuple(
        dict.fromkeys(
            name
            for table in tables
            for name in table.columns
            if name not in _left_out(table, tables)
        )
    )


def _names_by_column(tables: Sequence[AttributesFile]) -> dict[str, dict[str, str]]:
    """Return the name to use for each number that is written in several ways, by column that has some."""
    names: dict[str, set[str]] = defaultdict(set)
    for table in tables:
        for row in table.rows:
            for column, name in row.values.items():
                names[column].add(name)
    equal = {column: equal_numbers(of_column) for column, of_column in names.items()}
    return {column: of_column for column, of_column in equal.items() if of_column}


def _missing_cells(tables: Sequence[AttributesFile]) -> dict[str, Counter[str]]:
    """Return by column the cells that say that a group is not known, and how many there are."""
    cells: dict[str, Counter[str]] = defaultdict(Counter)
    for table in tables:
        further = frozenset(table.extra_columns)  # the property computes them again for each row
        for row in table.rows:
            for column in further & (row.cells.keys() - row.values.keys()):
                cells[column][row.cells[column]] += 1
    return cells


def _left_out(table: AttributesFile, tables: Sequence[AttributesFile]) -> tuple[str, ...]:
    """Return the columns that count for nothing, as the signs of another table say the same."""
    return PEOPLE if not table.has_signs and any(each.has_signs for each in tables) else ()


def _remarks(tables: Sequence[AttributesFile]) -> Iterator[str]:
    """Yield what is odd in the files, in words."""
    for table in tables:
        taken = PEOPLE if table.has_signs else _left_out(table, tables)
        clashing = sorted({*table.header} & {*taken})
        clashing += [FORGERY_GROUP] if FORGERY_GROUP in table.header else []
        if clashing:
            yield (
                f"{table.file}: column {', '.join(clashing)} is ignored, because "
                f"{', '.join(SIGNS)} or {FORGERY} define it. Rename it to use it as well."
            )
