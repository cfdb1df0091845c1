"""Tables of a detector's predictions as CSV, one row per image.

Columns: `path` below the data root, `key` (the name that all copies of an image share), `label` (1 fake, 0 real)
and `logit` (positive = fake). Logits have enough digits for the same float32. If images are frames there is also
`video`, the path of the video below the data root.
"""

import csv
import io
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from trueface.predictions.predictions import Predictions
from trueface.runtime.errors import DataError
from trueface.runtime.files import write_atomic

MOST_BYTES = 1 << 29  # bytes of a score table: several million rows
COLUMNS = ("path", "key", "label", "logit")
_LABELS = {"0": 0, "0.0": 0, "1": 1, "1.0": 1}  # pandas and Excel may write numbers with a point
VIDEO = "video"  # a fifth column, where any row is a frame


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
            line = _find_line(text, at)
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


def _find_line(text: str, row: int) -> int:
    """Return the line on which a row of a table ends, from 1 on; a quoted cell may have several lines."""
    lines = csv.reader(io.StringIO(text))
    next(islice(lines, row + 1, None))  # after the header
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
                f"{path}:{_find_line(text, at)}: {row[0]} has label {row[2]} and logit {row[3]} here, but "
                f"label {earlier[2]} and logit {earlier[3]} in line {_find_line(text, first[row[0]])}. "
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
            f"{path}:{_find_line(text, at)}: the logit {rows[at][3]} is not a finite number ({len(broken)} of "
            f"{len(rows)} rows). The model is broken: train it with a lower lr, and test it again."
        )
