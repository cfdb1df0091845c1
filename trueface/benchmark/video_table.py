"""The long table of a benchmark that counts videos: that of images, and a column with the frames of each model."""

import csv
import io
from collections.abc import Sequence

from trueface.benchmark import table
from trueface.benchmark.table import Row
from trueface.benchmark.videos import VideoUnit

FRAMES = "frames"  # the column; only tables of videos have it


def as_csv(rows: Sequence[Row], unit: VideoUnit) -> str:
    """Return rows as CSV: the same rows give the same bytes."""
    head, *lines = csv.reader(io.StringIO(table.as_csv(rows)))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*head, FRAMES])
    writer.writerows([*line, unit.frames[row.model]] for line, row in zip(lines, rows, strict=True))
    return text.getvalue()


def as_parquet(rows: Sequence[Row], unit: VideoUnit) -> bytes:
    """Return rows as a Parquet file."""
    import pyarrow  # an extra, only where it is installed
    from pyarrow import parquet

    whole = parquet.read_table(pyarrow.BufferReader(table.as_parquet(rows)))
    frames = pyarrow.array([unit.frames[row.model] for row in rows], pyarrow.string())
    buffer = pyarrow.BufferOutputStream()
    parquet.write_table(whole.append_column(FRAMES, frames), buffer)
    return bytes(buffer.getvalue().to_pybytes())
