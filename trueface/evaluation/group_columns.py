"""Which group each image of a test is of: by tables of attributes, or by the names of the original's files.

Fairness-Generalization writes <group>labels.npy and <group>predictions.npy. Its test stores only the logit
of class 1, and its metrics take the sigmoid of that. With two classes the probability is sigmoid(z1 - z0),
and a file of two logits per row is read in this way. One logit per row is used directly, with a note,
because the other one is lost.

Source: Purdue-M2/Fairness-Generalization @e552a54. Nothing in the files is executed.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from trueface.data.attributes import Attributes
from trueface.evaluation.arrays import Floats
from trueface.evaluation.finished_tests import GroupedTests
from trueface.predictions.predictions import Predictions
from trueface.runtime.errors import DataError, UnknownName
from trueface.runtime.files import Json, read_json

# columns that are shown where none are named
DEFAULT_GROUP_COLUMNS = "gender", "race", "intersec"
*ONE_OF_BOTH, INTERSEC = DEFAULT_GROUP_COLUMNS
Missing = Literal["stop", "skip"]

Number = TypeVar("Number", bound=np.generic)
LABELS, PREDICTIONS = "labels.npy", "predictions.npy"
RECORD = "predictions.json"  # in a folder that `npy_folder` wrote: its model, test and files
ONE_LOGIT = (
    "the files contain only the logit of class 1, as the original writes them. Without the logit of class 0, the rates "
    "at probability 0.5 and the AUC may differ from those of the detector"
)
MARGINS = "class 1 - class 0"
# in the record, if it is not known which of both it is
ONE_LOGIT_PER_ROW = "one logit per row, of class 1 or the difference"
SEXES = frozenset({"male", "nonmale"})
_BETWEEN = re.compile(r"[,\-_ ]+")  # the original writes "male,asian"


class GroupColumn(NamedTuple):
    """The groups of a table's images by one column."""

    by: str
    names: tuple[str, ...]  # sorted
    groups: NDArray[np.int32]  # (M,) an index of `names`
    rows: NDArray[np.intp]  # (M,) of the table; less than all of it where images have no group
    empty: tuple[str, ...] = ()  # further groups, which have no image


@dataclass(kw_only=True)
class AttributeFiles:
    """The tables of attributes of a run, each read once.

    Args:
        project: the folder that paths in settings are relative to.
        files: used instead of those that the tests' settings name. (): these.
        missing: used instead of the tests' setting.
    """

    project: Path
    files: tuple[Path, ...] = ()
    missing: Missing | None = None
    used: set[Path] = field(default_factory=set)  # files that results rest on, there or not
    _read: dict[tuple[tuple[Path, ...], str], Attributes] = field(default_factory=dict)
    _made: dict[tuple[object, ...], GroupColumn] = field(default_factory=dict)

    def files_of_tests(self, tests: GroupedTests) -> tuple[Path, ...]:
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

    def columns(self, tests: GroupedTests, column_names: Sequence[str]) -> list[GroupColumn]:
        """Return the groups of a test's images by some columns, or by the usual ones.

        Args:
            tests: with attributes, see `files_of_tests`.
            column_names: (): those of gender, race and intersec that exist, otherwise every column.

        Raises:
            DataError: an unknown column, an image without a row, or a table that cannot be read.
        """
        files, root = self.files_of_tests(tests), tests.tests[0].root
        table = self._table(files, root)
        usual = (
            tuple(name for name in DEFAULT_GROUP_COLUMNS if name in table.columns) or table.columns
        )
        paths, missing = tests.scores.ids, self.missing or _missing(tests)
        if not table.columns:
            raise DataError(
                f"{', '.join(map(str, files))}: no group column. Add one, such as gender, next to the paths."
            )
        columns = []
        for name in column_names or usual:
            if name not in table.columns:
                raise DataError(str(UnknownName("group column", name, table.columns)))
            key = (files, root, name, missing, paths)  # models are tested on the same images
            if key not in self._made:
                self._made[key] = group_column(name, table.values(name, paths, missing=missing))
            columns.append(self._made[key])
        return columns

    def column(self, tests: GroupedTests, column_name: str) -> GroupColumn:
        """Return the groups by one column, by the last usual one where there is no such column.

        Raises:
            DataError: see `columns`.
        """
        known = self._table(self.files_of_tests(tests), tests.tests[0].root).columns
        return self.columns(tests, (column_name,) if column_name in known else ())[-1]

    def intersections(self, tests: GroupedTests, column_name: str) -> GroupColumn | None:
        """Return the groups of gender and race together, for a column of one of them; None for others.

        Images without such a group are left out, whatever `missing` is: only part of one measure needs it.

        Raises:
            DataError: see `columns`.
        """
        known = self._table(self.files_of_tests(tests), tests.tests[0].root).columns
        if column_name not in ONE_OF_BOTH or INTERSEC not in known:
            return None
        return replace(self, missing="skip").column(tests, INTERSEC)

    def _table(self, files: tuple[Path, ...], root: str) -> Attributes:
        if (files, root) not in self._read:
            root_path = self.project / Path(root).expanduser()
            self._read[files, root] = Attributes(files, root_path)
        return self._read[files, root]

    def _place(self, text: str) -> Path:
        path = Path(text).expanduser()
        places = [self.project / path, path.absolute()]
        for place in places:
            self.used.add(place)
            if place.is_file():
                return place
        raise DataError(
            f"{places[0]} is missing, the table of attributes of the tests. Restore it, or name another with --attributes."
        )


def group_column(column_name: str, values: Sequence[str | None]) -> GroupColumn:
    """Return groups (N,) as numbers; images without one are left out."""
    names = tuple(sorted({value for value in values if value is not None}))
    numbers = {name: number for number, name in enumerate(names)}
    rows = [row for row, value in enumerate(values) if value is not None]
    groups = [numbers[value] for value in values if value is not None]
    return GroupColumn(
        by=column_name, names=names, groups=np.array(groups, np.int32), rows=np.array(rows, np.intp)
    )


def _missing(tests: GroupedTests) -> Missing:
    skip = all(test.settings.get("missing_attributes") == "skip" for test in tests.tests)
    return "skip" if skip else "stop"


class OriginalScores(NamedTuple):
    """The predictions of a folder of the original's files, all groups together."""

    scores: Predictions
    groups: tuple[str, ...]  # (N,) of each row: "male-asian"
    note: str  # remark on the logits
    files: tuple[str, ...] = ()  # the groups that have files, also empty ones
    logits: str = MARGINS  # or ONE_LOGIT_PER_ROW

    def column(self, column_name: str) -> GroupColumn:
        """Return the groups of the rows.

        Args:
            column_name: intersec for the groups as they are, gender or race for a part of their names.

        Raises:
            DataError: another column, or groups whose names have no such part.
        """
        if column_name == INTERSEC:
            return self._with_empty(group_column(column_name, self.groups), self.files)
        if column_name not in {"gender", "race"}:
            raise DataError(
                f"--by {column_name}: these files have no such group column. Choose gender, race or intersec."
            )
        parts = [_parts(group) for group in self.groups]
        if None in parts:
            raise DataError(
                f"--by {column_name}: the group {self.groups[parts.index(None)]!r} is not of the form male-asian. "
                "Use --by intersec."
            )
        listed = [part[column_name == "race"] for part in map(_parts, self.files) if part]
        return self._with_empty(
            group_column(column_name, [part[column_name == "race"] for part in parts if part]),
            listed,
        )

    def intersections(self, column_name: str) -> GroupColumn | None:
        """Return the groups of gender and race together, for a column of one of them; None for others."""
        return self.column(INTERSEC) if column_name in ONE_OF_BOTH else None

    @staticmethod
    def _with_empty(column: GroupColumn, listed_names: Sequence[str]) -> GroupColumn:
        empty = sorted(set(listed_names) - set(column.names))
        return column._replace(empty=tuple(empty))

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that the names of the groups give."""
        return ("gender", "race", "intersec") if all(map(_parts, self.groups)) else ("intersec",)


def is_original(folder: Path) -> bool:
    """Return whether a folder holds such files."""
    return folder.is_dir() and bool(_files(folder, PREDICTIONS))


def _files(folder: Path, ending: str) -> list[Path]:
    """Return the files with this ending, sorted; hidden ones are not data, such as ._labels.npy."""
    return sorted(path for path in folder.glob(f"*{ending}") if not path.name.startswith("."))


def read_original(folder: Path) -> OriginalScores:
    """Return the predictions of all groups in a folder.

    Raises:
        DataError: a file is missing, contains objects, no plain numbers, another length than its partner,
            labels other than 0 and 1, or a non-finite logit. The message names the row.
    """
    tables = dict(_tables(folder))
    if not tables:
        raise DataError(f"no files GROUP{PREDICTIONS} in {folder}")
    groups = [name for name, (labels, _, _) in tables.items() for _ in labels]
    if not groups:
        raise DataError(
            f"{folder}: no group has an image, in files of {', '.join(tables)}. Test the detector on images of "
            "these groups, and write their files again."
        )
    is_single = any(single for _, _, single in tables.values()) and (
        # one logit per row is the difference of both only by the folder's record
        read_folder_record(folder).get("logits") != MARGINS
    )
    rows = [
        f"{name}/{row}" for name, (labels, _, _) in tables.items() for row in range(len(labels))
    ]
    return OriginalScores(
        scores=Predictions.from_margin(
            np.concatenate([logits for _, logits, _ in tables.values()]),
            np.concatenate([labels for labels, _, _ in tables.values()]),
            ids=tuple(rows),
            keys=tuple(rows),
        ),
        groups=tuple(groups),
        note="; ".join(_notes(folder, tables, is_single=is_single)),
        files=tuple(tables),
        logits=ONE_LOGIT_PER_ROW if is_single else MARGINS,
    )


def _notes(
    folder: Path, tables: Mapping[str, tuple[NDArray[np.int8], Floats, bool]], *, is_single: bool
) -> Iterator[str]:
    if is_single:
        yield ONE_LOGIT
    empty = [name for name, (labels, _, _) in tables.items() if not len(labels)]
    if empty:
        yield (
            f"no images in the group files of {', '.join(empty)} in {folder}. The gaps leave these groups out. "
            "To include them, test the detector on their images"
        )


def read_folder_record(folder: Path) -> Mapping[str, Json]:
    """Return what `npy_folder` wrote about the files of a folder; {} if it did not write them.

    Raises:
        DataError: the record cannot be read.
    """
    try:
        return read_json(folder / RECORD) or {}
    except OSError as error:
        raise DataError(f"cannot read {folder / RECORD}: {error.strerror or error}") from error


def group_name_of_file(start: str) -> str:
    """Return the group of files whose names start so: "male-asian" of "male,asian", "all" of ""."""
    return "-".join(filter(None, _BETWEEN.split(start))) or "all"


def _tables(folder: Path) -> Iterator[tuple[str, tuple[NDArray[np.int8], Floats, bool]]]:
    seen: dict[str, Path] = {}
    for path in _files(folder, PREDICTIONS):
        start = path.name.removesuffix(PREDICTIONS)
        beside = folder / f"{start}{LABELS}"
        if not beside.is_file():
            raise DataError(f"{path} has no {beside.name} in the same folder")
        labels, (logits, single) = _labels(beside), _logits(path)
        if len(labels) != len(logits):
            raise DataError(f"{path} has {len(logits)} rows, but {beside.name} has {len(labels)}")
        group = group_name_of_file(start)
        if (other := seen.setdefault(group, path)) is not path:
            raise DataError(
                f"{other} and {path.name} are both of the group {group}. Remove one of them, or rename it."
            )
        yield group, (labels, logits, single)
    for path in _files(folder, LABELS):
        beside = folder / f"{path.name.removesuffix(LABELS)}{PREDICTIONS}"
        if not beside.is_file():
            raise DataError(f"{path} has no {beside.name} in the same folder")


def _labels(path: Path) -> NDArray[np.int8]:
    values = _rows_of_file(_array(path))
    if values.shape[1] != 1:
        raise DataError(f"{path} has {values.shape[1]} labels per row, but one is expected")
    wrong = np.flatnonzero((values[:, 0] != 0) & (values[:, 0] != 1))
    if len(wrong):
        raise DataError(f"{path}, row {wrong[0]}: label {values[wrong[0], 0]} is not 0 or 1")
    return values[:, 0].astype(np.int8)


def _logits(path: Path) -> tuple[Floats, bool]:
    """Return logits, positive = fake, and whether there was one per row."""
    values = _rows_of_file(_array(path).astype(np.float64))
    if values.shape[1] not in {1, 2}:
        raise DataError(
            f"{path} has {values.shape[1]} numbers per row, but one or two logits are expected"
        )
    broken = np.flatnonzero(~np.isfinite(values).all(1))
    if len(broken):
        raise DataError(
            f"{path}, row {broken[0]}: {values[broken[0]].tolist()} is not finite "
            f"({len(broken)} such rows). Test the detector again."
        )
    single = values.shape[1] == 1
    return (values[:, 0] if single else values[:, 1] - values[:, 0]), single


def _rows_of_file(values: NDArray[Number]) -> NDArray[Number]:
    """Return an array as (N, …), N being 0 where a group has no image."""
    return values.reshape(len(values), math.prod(values.shape[1:]))


def _array(path: Path) -> NDArray[np.generic]:
    try:
        # mapped: a header that promises more than the file holds is refused before memory is taken
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError, SyntaxError) as error:
        raise DataError(
            f"cannot read {path}. Only plain numeric arrays are supported ({error})."
        ) from error
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "biuf" or not values.ndim:
        raise DataError(f"{path} is not an array of numbers with one row per image")
    return np.array(values)


def _parts(group: str) -> tuple[str, str] | None:
    """Return gender and race of "male-asian"; None of another name."""
    gender, _, race = group.partition("-")
    return (gender, race) if gender in SEXES and race else None
