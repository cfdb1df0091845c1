"""Files of predictions: CSV for one table of a detector, npz for several parts of any model.

A CSV file has one row per image. Columns: `path` below the data root, `key` (the name that all copies of
an image share), `label` (1 fake, 0 real) and `logit` (positive = fake). Logits have enough digits for the
same float32. If images are frames there is also `video`, the path of the video below the data root. Files
of the original system are read as well. They do not name images, so their rows are called "#0", "#1", …

An npz file has four arrays for each part, such as "forget" and "test". `<part>_logits` is (N, K) float32 with
K >= 2. `<part>_trained` are the labels and `<part>_true` the true ones, -1 if unknown, both (N,) int64.
`<part>_ids` are the names of the samples.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trueface.predictions.predictions import UNKNOWN, Predictions
from trueface.runtime import npz_files, original_runs
from trueface.runtime.errors import DataError
from trueface.runtime.files import write_atomic
from trueface.runtime.original_runs import OldScores

OLD_SUFFIXES = frozenset({".pkl", ".pickle"})
SUFFIXES = frozenset({".csv", *OLD_SUFFIXES})

MOST_BYTES = 1 << 29  # of a score table: several million rows
COLUMNS = ("path", "key", "label", "logit")
_LABELS = {"0": 0, "0.0": 0, "1": 1, "1.0": 1}  # pandas and Excel may write numbers with a point
VIDEO = "video"  # a fifth column, where any row is a frame


def load(path: Path, *, finite: bool = True) -> Predictions:
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
    return read_csv(path, finite=finite)


def _of_original(old: OldScores) -> Predictions:
    """Return an old table in the current form. Its rows have numbers as names: "#0", "#1", …."""
    names = tuple(f"#{row}" for row in range(len(old.logits)))
    return Predictions.from_margin(old.logits, old.labels, ids=names, keys=names)


def write_csv(path: Path, table: Predictions) -> None:
    """Write a score table atomically; folders are made as needed."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow((*COLUMNS, VIDEO) if table.videos else COLUMNS)
    logits = [f"{logit:.9g}" for logit in table.margin.tolist()]
    videos = (table.videos,) if table.videos else ()
    columns = (table.ids, table.keys, table.labels.tolist(), logits, *videos)
    writer.writerows(zip(*columns, strict=True))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, text.getvalue())


def read_csv(path: Path, *, finite: bool = True) -> Predictions:
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
    return Predictions.from_margin(
        np.array(logits, np.float64),
        np.array(labels, np.int8),
        ids=tuple(row[0] for row in rows),
        keys=tuple(row[1] for row in rows),
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


def write_npz(path: Path, parts: Mapping[str, Predictions]) -> None:
    """Write predictions as one .npz, atomically: `<part>_logits`, `_trained`, `_true`, `_ids`."""
    arrays: dict[str, Any] = {}
    for name, part in parts.items():
        arrays[f"{name}_logits"] = part.class_logits.astype(np.float32)
        arrays[f"{name}_trained"] = part.labels.astype(np.int64)
        arrays[f"{name}_true"] = part.true_labels.astype(np.int64)
        arrays[f"{name}_ids"] = np.array(part.ids, dtype=np.str_)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, buffer.getvalue())


def read_npz(path: Path) -> dict[str, Predictions]:
    """Return the predictions in a file of `write_npz`, by part; nothing in the file is executed.

    Raises:
        DataError: it cannot be read, or is no such file.
        MachineError: there is not enough memory.
    """
    arrays = npz_files.read(path, "the predictions")
    names = [key.removesuffix("_logits") for key in arrays if key.endswith("_logits")]
    try:
        return {name: _part(arrays, name) for name in names}
    except (ValueError, LookupError, TypeError) as error:
        raise DataError(
            f"cannot read the predictions in {path}. Run the job that writes this file again ({error})."
        ) from error


def _part(arrays: Mapping[str, NDArray[Any]], name: str) -> Predictions:
    """Return the predictions of one part; reject labels without a column of the logits."""
    logits = _check_array(arrays[f"{name}_logits"], 2, "f")
    columns = logits.shape[1]
    if columns < 2:
        raise ValueError(f"logits of shape {logits.shape} have fewer than two classes")
    labels = {}
    for sort, least in (("trained", 0), ("true", UNKNOWN)):
        labels[sort] = _check_array(arrays[f"{name}_{sort}"], 1, "iu")
        if ((labels[sort] < least) | (labels[sort] >= columns)).any():
            raise ValueError(f"{name}_{sort} contains a label that is not one of {columns} classes")
    ids = _check_array(arrays[f"{name}_ids"], 1, "U")
    return Predictions(
        logits=logits,
        labels=labels["trained"].astype(np.int64),
        true_labels=labels["true"].astype(np.int64),
        ids=tuple(map(str, ids)),
    )


def _check_array(array: NDArray[Any], dimensions: int, kinds: str) -> NDArray[Any]:
    """Return an array of so many dimensions and of these kinds of numbers; refuse any other."""
    if array.ndim != dimensions or array.dtype.kind not in kinds:
        raise ValueError(f"unexpected array of shape {array.shape} and type {array.dtype}")
    return array
