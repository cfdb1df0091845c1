"""Which group each image of a test is of, by the tables of attributes that its settings name."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from trueface.data.attributes import Attributes
from trueface.evaluation.score_tables import TestedSet
from trueface.runtime.errors import DataError, UnknownName

USUAL = ("gender", "race", "intersec")  # columns that are shown where none are named
Missing = Literal["stop", "skip"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GroupColumn:
    """The groups of a table's images by one column."""

    by: str
    names: tuple[str, ...]  # sorted
    groups: NDArray[np.int32]  # (M,) an index of `names`
    rows: NDArray[np.intp]  # (M,) of the table; less than all of it where images have no group


@dataclass(kw_only=True)
class AttributeFiles:
    """The tables of attributes of a run, each read once.

    Args:
        project: the folder that paths in settings are relative to.
        files: in the place of those that the tests' settings name; (): these.
        missing: likewise.
    """

    project: Path
    files: tuple[Path, ...] = ()
    missing: Missing | None = None
    used: set[Path] = field(default_factory=set)  # that results rest on, there or not
    _read: dict[tuple[tuple[Path, ...], str], Attributes] = field(default_factory=dict)
    _made: dict[tuple[object, ...], GroupColumn] = field(default_factory=dict)

    def of(self, tests: TestedSet) -> tuple[Path, ...]:
        """Return the files of a test; () where it has none.

        Raises:
            DataError: a file is not there.
        """
        if self.files:
            return self.files
        texts = (test.settings.get("attributes") for test in tests.tests)
        named = ",".join(text for text in texts if isinstance(text, str) and text)
        words = dict.fromkeys(word.strip() for word in named.split(",") if word.strip())
        return tuple(dict.fromkeys(self._place(word) for word in words))

    def columns(self, tests: TestedSet, by: Sequence[str]) -> list[GroupColumn]:
        """Return the groups of a test's images by some columns, or by the usual ones.

        Args:
            tests: with attributes, see `of`.
            by: (): gender, race and intersec, as far as there are such columns, else every column.

        Raises:
            DataError: an unknown column, an image without a row, or a table that cannot be read.
        """
        files, root = self.of(tests), tests.tests[0].root
        table = self._table(files, root)
        usual = tuple(name for name in USUAL if name in table.columns) or table.columns
        paths, missing = tests.scores.paths, self.missing or _missing(tests)
        if not table.columns:
            raise DataError(f"{', '.join(map(str, files))}: no column of groups beside the paths")
        columns = []
        for name in by or usual:
            if name not in table.columns:
                raise DataError(str(UnknownName("column of groups", name, table.columns)))
            key = (files, root, name, missing, paths)  # models are tested on the same images
            if key not in self._made:
                self._made[key] = group_column(name, table.values(name, paths, missing=missing))
            columns.append(self._made[key])
        return columns

    def column(self, tests: TestedSet, by: str) -> GroupColumn:
        """Return the groups by one column, by the last usual one where there is no such column.

        Raises:
            DataError: see `columns`.
        """
        known = self._table(self.of(tests), tests.tests[0].root).columns
        return self.columns(tests, (by,) if by in known else ())[-1]

    def _table(self, files: tuple[Path, ...], root: str) -> Attributes:
        if (files, root) not in self._read:
            place = self.project / Path(root).expanduser()
            self._read[files, root] = Attributes.read(files, place)
        return self._read[files, root]

    def _place(self, text: str) -> Path:
        path = Path(text).expanduser()
        places = [self.project / path, path.absolute()]
        for place in places:
            self.used.add(place)
            if place.is_file():
                return place
        raise DataError(
            f"no {places[0]}: the table of attributes that the tests were done with; bring it back, "
            "or name another by --attributes"
        )


def group_column(by: str, values: Sequence[str | None]) -> GroupColumn:
    """Return groups (N,) as numbers; images without one are left out."""
    names = tuple(sorted({value for value in values if value is not None}))
    numbers = {name: number for number, name in enumerate(names)}
    rows = [row for row, value in enumerate(values) if value is not None]
    groups = [numbers[value] for value in values if value is not None]
    return GroupColumn(
        by=by, names=names, groups=np.array(groups, np.int32), rows=np.array(rows, np.intp)
    )


def _missing(tests: TestedSet) -> Missing:
    skip = all(test.settings.get("missing_attributes") == "skip" for test in tests.tests)
    return "skip" if skip else "stop"
