"""Score tables of a detector in all formats that are read: CSV, and files of the original system.

Files of the original system do not name images, so their rows are called "#0", "#1", …
"""

from pathlib import Path

from trueface.predictions.csv_tables import read_csv
from trueface.predictions.predictions import Predictions
from trueface.runtime.errors import DataError
from trueface.runtime.original import runs as original_runs
from trueface.runtime.original.runs import OldScores

OLD_SUFFIXES = frozenset({".pkl", ".pickle"})
SUFFIXES = frozenset({".csv", *OLD_SUFFIXES})


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
        return _convert_original(original_runs.read_scores(path))
    return read_csv(path, finite=finite)


def _convert_original(old: OldScores) -> Predictions:
    """Return an old table in the current form. Its rows have numbers as names: "#0", "#1", …."""
    names = tuple(f"#{row}" for row in range(len(old.logits)))
    return Predictions.from_margin(old.logits, old.labels, ids=names, keys=names)
