"""Score files: what a model said of each image, one row an image, as CSV.

Columns: `path` below the data root, `key` (the name that all copies of an image share), `label`
(1 fake, 0 real) and `logit` (positive = fake), with enough digits to give back the same float32;
where images are frames also `video`, the path of the video below the data root.
The original system's files are read as well; they name no images, so that their rows are called
"#0", "#1", …
"""

import csv
import io
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trueface.data.folder_names import MODIFIERS
from trueface.legacy import original_runs
from trueface.legacy.original_runs import OldScores
from trueface.runtime.errors import DataError
from trueface.runtime.files import write_atomic

OLD_SUFFIXES = frozenset({".pkl", ".pickle"})
SUFFIXES = frozenset({".csv", *OLD_SUFFIXES})
_NUMBERED = re.compile(r"(.*/)?#\d+")  # a row without an image
_CLASSES = frozenset({"real", "fake"})
_BY_FOLDER = {folder: key for key, folders in MODIFIERS.items() for folder in folders}

MOST_BYTES = 1 << 29  # of a score table: several million rows
COLUMNS = ("path", "key", "label", "logit")
VIDEO = "video"  # a fifth column, where any row is a frame


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """The answers of one model on one set of images, in the order of the set."""

    paths: tuple[str, ...]
    keys: tuple[str, ...]
    labels: NDArray[np.int8]  # (N,) 1 fake, 0 real
    logits: NDArray[np.float64]  # (N,) positive = fake
    videos: tuple[str, ...] = ()  # (N,) path of the video of a frame, "" of no frame; or ()

    def __post_init__(self) -> None:
        sizes = {len(self.paths), len(self.keys), len(self.labels), len(self.logits)}
        sizes |= {len(self.videos)} if self.videos else set()
        if len(sizes) != 1:
            raise DataError(f"columns of a score table differ in length: {sorted(sizes)}")

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def names_images(self) -> bool:
        """Whether the rows say which images they are of: those of old files do not."""
        return not any(map(_NUMBERED.fullmatch, self.paths))

    def rows(self, chosen: NDArray[np.bool_]) -> "Scores":
        """Return the rows where `chosen` (N,) holds, in their order."""
        at = np.flatnonzero(chosen).tolist()
        return Scores(
            paths=tuple(self.paths[row] for row in at),
            keys=tuple(self.keys[row] for row in at),
            labels=self.labels[at],
            logits=self.logits[at],
            videos=tuple(self.videos[row] for row in at) if self.videos else (),
        )

    @property
    def subsets(self) -> tuple[str, ...]:
        """The folder of each key: "StyleGAN2/conf-f-psi-1"; by its class where there is none.

        Of a frame, the folder with its video: a set may have thousands of videos.
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
        return tuple(map(modifier_of, self.paths))


def modifier_of(path: str) -> str:
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


def load(path: Path) -> Scores:
    """Read a score table of ours (.csv) or of the original system (.pkl).

    Raises:
        DataError: the file is absent, cut off, refused, or no score table.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise DataError(f"scores {path} are neither .csv nor .pkl; name a score file")
    if suffix in OLD_SUFFIXES:
        return _of_original(original_runs.read_scores(path))
    return read_scores(path)


def _of_original(old: OldScores) -> Scores:
    """Return an old table as one of ours; its rows have numbers for names: "#0", "#1", …."""
    names = tuple(f"#{row}" for row in range(len(old.logits)))
    return Scores(paths=names, keys=names, labels=old.labels, logits=old.logits)


def merge(tables: Iterable[Scores]) -> Scores:
    """Return all rows of `tables` as one table; an image that stands in two counts once."""
    rows: dict[str, tuple[str, int, float, str]] = {}
    for table in tables:
        for path, key, label, logit, video in zip(
            table.paths, table.keys, table.labels, table.logits, _videos(table), strict=True
        ):
            rows.setdefault(path, (key, int(label), float(logit), video))
    videos = tuple(video for *_, video in rows.values())
    return Scores(
        paths=tuple(rows),
        keys=tuple(key for key, *_ in rows.values()),
        labels=np.array([label for _, label, *_ in rows.values()], np.int8),
        logits=np.array([logit for _, _, logit, _ in rows.values()], np.float64),
        videos=videos if any(videos) else (),
    )


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


def read_scores(path: Path) -> Scores:
    """Read a score table.

    Raises:
        DataError: the file is absent, cut off, or no score table; it is named with the line.
    """
    try:
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise DataError(
                f"scores {path} are {size:,} bytes, and {MOST_BYTES:,} at most are read; test again "
                "on parts of the data"
            )
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"scores {path} cannot be read: {error}; test again") from error
    lines = csv.reader(io.StringIO(text))
    try:
        header, *rows = list(lines) or [[]]
    except csv.Error as error:
        raise DataError(f"{path}:{lines.line_num}: {error}; test again") from error
    if tuple(header) not in {COLUMNS, (*COLUMNS, VIDEO)}:
        raise DataError(f"{path}:1: expected the columns {','.join(COLUMNS)}")
    labels, logits = [], []
    for number, row in enumerate(rows, start=2):
        try:
            _, _, label, logit, *video = row
            if len(video) != len(header) - len(COLUMNS):
                raise ValueError(f"{len(row)} cells")  # noqa: TRY301  # one message for all faults of a row
            labels.append({"0": 0, "1": 1}[label])
            logits.append(float(logit))
        except (ValueError, KeyError) as error:
            raise DataError(f"{path}:{number}: not a row path,key,label,logit: {row}") from error
    return Scores(
        paths=tuple(row[0] for row in rows),
        keys=tuple(row[1] for row in rows),
        labels=np.array(labels, np.int8),
        logits=np.array(logits, np.float64),
        videos=tuple(row[4] for row in rows) if len(header) > len(COLUMNS) else (),
    )
