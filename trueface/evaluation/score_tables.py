"""Score files: the output of a model for each image, one row per image, as CSV.

Columns: `path` below the data root, `key` (the name that all copies of an image share), `label`
(1 fake, 0 real) and `logit` (positive = fake). Logits have enough digits for the same float32. If images
are frames there is also `video`, the path of the video below the data root. Files of the original system are
read as well. They do not name images, so their rows are called "#0", "#1", …
"""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trueface.data.vocabulary import BUILT_IN, MODIFIERS
from trueface.evaluation.operating_threshold import Calibration
from trueface.runtime import original_runs, paths
from trueface.runtime.errors import DataError, UnknownName
from trueface.runtime.files import Json, read_json, write_atomic
from trueface.runtime.ids import (
    condition_of_test,
    data_of_test,
    model_folder_name,
    parse_data,
    tested,
)
from trueface.runtime.original_runs import OldScores

OLD_SUFFIXES = frozenset({".pkl", ".pickle"})
SUFFIXES = frozenset({".csv", *OLD_SUFFIXES})
_NUMBERED = re.compile(r"(.*/)?#\d+")  # a row without an image
_CLASSES = frozenset({"real", "fake"})
_BY_FOLDER = {folder: key for key, folders in MODIFIERS.items() for folder in folders}

MOST_BYTES = 1 << 29  # of a score table: several million rows
COLUMNS = ("path", "key", "label", "logit")
_LABELS = {"0": 0, "0.0": 0, "1": 1, "1.0": 1}  # pandas and Excel may write numbers with a point
VIDEO = "video"  # a fifth column, where any row is a frame


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """The logits of one model on one dataset, in the order of the dataset."""

    paths: tuple[str, ...]
    keys: tuple[str, ...]
    labels: NDArray[np.int8]  # (N,) 1 fake, 0 real
    logits: NDArray[np.float64]  # (N,) positive = fake
    videos: tuple[str, ...] = ()  # (N,) path of the video of a frame, "" of no frame; or ()

    def __post_init__(self) -> None:
        sizes = {len(self.paths), len(self.keys), len(self.labels), len(self.logits)}
        sizes |= {len(self.videos)} if self.videos else set()
        if len(sizes) != 1:
            raise DataError(f"the columns of a score table have different lengths: {sorted(sizes)}")

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def names_images(self) -> bool:
        """Whether the rows name their images; those of old files do not."""
        return not any(map(_NUMBERED.fullmatch, self.paths))

    def rows(self, chosen: NDArray[np.bool_ | np.intp]) -> "Scores":
        """Return the rows where `chosen` (N,) holds, or those of such numbers, in that order."""
        at = np.arange(len(self))[chosen].tolist()
        return Scores(
            paths=tuple(self.paths[row] for row in at),
            keys=tuple(self.keys[row] for row in at),
            labels=self.labels[at],
            logits=self.logits[at],
            videos=tuple(self.videos[row] for row in at) if self.videos else (),
        )

    @property
    def subsets(self) -> tuple[str, ...]:
        """The folder of each key: "StyleGAN2/conf-f-psi-1", or its class if there is no folder.

        For a frame, the folder with its video, since a dataset may have thousands of videos.
        """
        flat = ("realFlat", "fakeFlat")
        folders = [key.rpartition("/")[0] for key in self.keys]
        if self.videos:
            folders = [
                folder.rpartition("/")[0] if video else folder
                for folder, video in zip(folders, self.videos, strict=True)
            ]
        return tuple(
            folder or flat[label]
            for folder, label in zip(folders, self.labels.tolist(), strict=True)
        )

    @property
    def modifiers(self) -> tuple[str, ...]:
        """The modifier of each path, by `modifier_of`."""
        return tuple(map(modifier_of_path, self.paths))


def modifier_of_path(path: str) -> str:
    """Return the modifier of a path below a data root; "" where it has none.

    What lies above Real/ or Fake/ is the folder of a modifier; one that is none of the
    laboratory's is a person's own, and is its own name.
    """
    parts = path.split("/")
    for at, part in enumerate(parts[:-1]):
        if part.casefold() in _CLASSES:
            folder = "/".join(parts[:at]) or "."
            return _BY_FOLDER.get(folder, folder)
    return ""


def load(path: Path, *, finite: bool = True) -> Scores:
    """Read a score table of ours (.csv) or of the original system (.pkl).

    Args:
        path: of the file.
        finite: refuse logits that are not finite; False: return them. Old tables never have any.

    Raises:
        DataError: the file is absent, cut off, refused, or no score table.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise DataError(f"score file {path} is neither .csv nor .pkl. Name a score file.")
    if suffix in OLD_SUFFIXES:
        return _of_original(original_runs.read_scores(path))
    return read_scores(path, finite=finite)


def _of_original(old: OldScores) -> Scores:
    """Return an old table in the current form. Its rows have numbers as names: "#0", "#1", …."""
    names = tuple(f"#{row}" for row in range(len(old.logits)))
    return Scores(paths=names, keys=names, labels=old.labels, logits=old.logits)


def merge(tables: Iterable[Scores]) -> Scores:
    """Return all rows of `tables` as one table; an image of two tables counts once.

    Raises:
        DataError: an image is real in one table and fake in another.
    """
    listed = list(tables)
    first: dict[str, int] = {}
    for at, path in enumerate(path for table in listed for path in table.paths):
        first.setdefault(path, at)
    videos = tuple(video for table in listed for video in _videos(table))
    every = Scores(
        paths=tuple(path for table in listed for path in table.paths),
        keys=tuple(key for table in listed for key in table.keys),
        labels=np.concatenate([np.zeros(0, np.int8), *(table.labels for table in listed)]),
        logits=np.concatenate([np.zeros(0), *(table.logits for table in listed)]),
        videos=videos if any(videos) else (),
    )
    if len(first) == len(every):
        return every
    other = every.labels != every.labels[[first[path] for path in every.paths]]
    if other.any():
        path = every.paths[int(other.argmax())]
        raise DataError(
            f"{path} is real in one score table and fake in another. Name tables of the same labels."
        )
    return every.rows(np.array([*first.values()], np.intp))


def _videos(table: Scores) -> tuple[str, ...]:
    return table.videos or ("",) * len(table)


def write_scores(path: Path, scores: Scores) -> None:
    """Write a score table atomically; folders are made as needed."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow((*COLUMNS, VIDEO) if scores.videos else COLUMNS)
    for name, key, label, logit, video in zip(
        scores.paths, scores.keys, scores.labels, scores.logits, _videos(scores), strict=True
    ):
        cells = (name, key, int(label), f"{logit:.9g}")
        writer.writerow((*cells, video) if scores.videos else cells)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, text.getvalue())


def read_scores(path: Path, *, finite: bool = True) -> Scores:
    """Read a score table.

    Args:
        path: of the file.
        finite: refuse logits that are not finite; False: return them.

    Raises:
        DataError: the file is absent, cut off, or no score table; it is named with the line.
    """
    try:
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise DataError(
                f"score file {path} has {size:,} bytes, more than the limit of {MOST_BYTES:,} bytes. Test the model on "
                "parts of the data."
            )
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"cannot read score file {path}. Test the model again ({error})."
        ) from error
    lines = csv.reader(io.StringIO(text))
    try:
        header, *rows = list(lines) or [[]]
    except csv.Error as error:
        raise DataError(f"{path}:{lines.line_num}: {error}. Test the model again.") from error
    if tuple(header) not in {COLUMNS, (*COLUMNS, VIDEO)}:
        raise DataError(f"{path}:1: expected the columns {','.join(COLUMNS)}")
    labels, logits = [], []
    for at, row in enumerate(rows):
        try:
            _, _, label, logit, *video = row
            if len(video) != len(header) - len(COLUMNS):
                raise ValueError(f"{len(row)} cells")  # noqa: TRY301  # one message for all faults of a row
            labels.append(_LABELS[label])
            logits.append(float(logit))
        except (ValueError, KeyError) as error:
            line = _line_of(text, at)
            raise DataError(f"{path}:{line}: expected path,key,label,logit, got {row}") from error
    _refuse_contradictions(path, text, rows)
    if finite:
        _refuse_broken_logits(path, text, rows, logits)
    return Scores(
        paths=tuple(row[0] for row in rows),
        keys=tuple(row[1] for row in rows),
        labels=np.array(labels, np.int8),
        logits=np.array(logits, np.float64),
        videos=tuple(row[4] for row in rows) if len(header) > len(COLUMNS) else (),
    )


def _line_of(text: str, at: int) -> int:
    """Return the line on which a row of a table ends, from 1 on; a quoted cell may have several lines."""
    lines = csv.reader(io.StringIO(text))
    next(islice(lines, at + 1, None))  # after the header
    return lines.line_num


def _refuse_contradictions(path: Path, text: str, rows: Sequence[Sequence[str]]) -> None:
    """Refuse a second row of an image that has another label or logit."""
    if len({row[0] for row in rows}) == len(rows):
        return
    first: dict[str, int] = {}
    for at, row in enumerate(rows):
        earlier = rows[first.setdefault(row[0], at)]
        if earlier[2:4] != row[2:4] and _answer(earlier) != _answer(row):
            raise DataError(
                f"{path}:{_line_of(text, at)}: {row[0]} has label {row[2]} and logit {row[3]} here, but "
                f"label {earlier[2]} and logit {earlier[3]} in line {_line_of(text, first[row[0]])}. "
                "Keep one of the rows."
            )


def _answer(row: Sequence[str]) -> tuple[int, float]:
    """Return the label and the logit of a row."""
    return _LABELS[row[2]], float(row[3])


def _refuse_broken_logits(
    path: Path, text: str, rows: Sequence[Sequence[str]], logits: Sequence[float]
) -> None:
    """Refuse logits that are not finite."""
    broken = np.flatnonzero(~np.isfinite(logits))
    if len(broken):
        at = int(broken[0])
        raise DataError(
            f"{path}:{_line_of(text, at)}: the logit {rows[at][3]} is not a finite number ({len(broken)} of "
            f"{len(rows)} rows). The model is broken: train it with a lower lr, and test it again."
        )


class FinishedTest(NamedTuple):
    """One test of one model."""

    data: str
    elementary: frozenset[str]  # the meaning of its modifiers
    scores: Scores
    root: str = ""  # folder of its images; "" if unknown
    calibration: Calibration | None = None  # of the model, by validation; None: it has none
    settings: Mapping[str, Json] = MappingProxyType({})  # of the test; empty: not known

    @property
    def condition(self) -> str:
        """Under which it was done; "" of a plain test."""
        return condition_of_test(self.data)

    @property
    def classes(self) -> frozenset[int]:
        """Which labels it has."""
        return frozenset(map(int, np.unique(self.scores.labels)))


class GroupedTests(NamedTuple):
    """Tests of one model that are measured as one table."""

    data: str
    tests: tuple[FinishedTest, ...]
    pooled: bool  # several sets of fakes
    place: str  # folder of its images if the model was tested on several data roots; otherwise ""

    def with_root(self, text: str) -> str:
        """Return a name of it with its place."""
        return f"{text} in {self.place}" if self.place else text

    @property
    def scores(self) -> Scores:
        """All rows, each image once."""
        return merge(test.scores for test in self.tests)


def read_test(run_folder: Path, model: str, data: str) -> FinishedTest:
    """Return a test whose score file is there.

    Raises:
        DataError: the score file cannot be read, or a logit is not a finite number.
    """
    folder = run_folder / model_folder_name(model)
    record = read_json(paths.metrics(folder, data)) or {}
    settings = record.get("settings")
    settings = settings if isinstance(settings, dict) else {}
    root = settings.get("data_root")
    return FinishedTest(
        data=data,
        elementary=frozenset(key for modifier in _modifiers(data) for key in _elementary(modifier)),
        root=root if isinstance(root, str) else "",
        scores=read_scores(paths.scores(folder, model, data)),
        calibration=Calibration.read(record.get("calibration")),
        settings=settings,
    )


def finite_tests(
    run_folder: Path, model: str, tests: Iterable[tuple[str, str]]
) -> list[FinishedTest]:
    """Return the tests of a model that have a score file, in their order.

    Raises:
        DataError: a score file cannot be read, or a logit is not a finite number.
    """
    folder = run_folder / model_folder_name(model)
    return [
        read_test(run_folder, model, data)
        for other, data in tests
        if other == model and paths.scores(folder, model, data).exists()
    ]


def group_tests(tests: Sequence[FinishedTest]) -> Iterator[GroupedTests]:
    """Yield the score tables of a model: each set of fakes with its reals, then all of them pooled.

    Only tests of one data root, condition and modifiers are joined: a path below another root is another
    image, or the same one again. Sets that one of them holds already are not pooled.
    """
    several = len({test.root for test in tests}) > 1
    groups: dict[tuple[str, str, frozenset[str]], list[FinishedTest]] = {}
    for test in tests:
        groups.setdefault((test.root, test.condition, test.elementary), []).append(test)
    for (root, condition, _), group in groups.items():
        place = (root or "an unknown data root") if several else ""
        reals = [test for test in group if test.classes == {0}]
        others = [test for test in group if test.classes != {0}]
        sets = []
        for test in others or reals:
            beside = reals if test.classes == {1} else []
            sets.append(
                GroupedTests(data=test.data, tests=(test, *beside), pooled=False, place=place)
            )
        yield from sets
        if len(others) > 1:
            data = tested(_every_part(others, reals), condition)
            every = GroupedTests(data=data, tests=tuple(group), pooled=True, place=place)
            if len(every.scores) > max(len(each.scores) for each in sets):
                yield every


def _every_part(others: Iterable[FinishedTest], reals: Iterable[FinishedTest]) -> str:
    """Return the data of all tests, each part once, those of real images last, in whatever order tests are."""
    last, first = (
        {part for test in tests for part in data_of_test(test.data).split("&")}
        for tests in (reals, others)
    )
    return "&".join((*sorted(first - last), *sorted(last)))


def modifier_of(data: str) -> str:
    """Return the modifiers of a test as a table names them, with its condition."""
    return tested("+".join(_modifiers(data)), condition_of_test(data))


def _modifiers(data: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part.modifier for part in parse_data(data_of_test(data)).parts))


def _elementary(modifier: str) -> tuple[str, ...]:
    try:
        return BUILT_IN.modifier_keys(modifier)
    except UnknownName:  # a word of the user's: taken as written
        return (modifier,)
