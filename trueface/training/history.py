"""The epochs of a training, one line each."""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

from trueface.runtime import paths
from trueface.runtime.files import Json, write_atomic
from trueface.runtime.ids import model_folder_name


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """One line of a training's history; accuracies in 0 … 1."""

    epoch: int  # from 1
    lr: float  # in its last step
    loss: float
    accuracy: float  # against the labels as trained, while they were trained
    val_loss: float
    val_accuracy: float
    val_balanced_accuracy: float | None  # None: validation has one class only
    seconds: float
    images_per_s: float  # speed of the training part
    # values from validation, see `Calibration`; None: nothing was fitted
    temperature: float | None = None
    threshold: float | None = None
    # accuracy of the worst group × class of validation, where it decides between epochs; None: it does not
    val_worst_cell_accuracy: float | None = None

    @classmethod
    def read(cls, row: Mapping[str, str]) -> "Epoch":
        """Return an epoch of a row of `write_history`.

        Raises:
            ValueError, TypeError: a cell holds no number.
            KeyError: it lacks one that every version has written.
        """
        values: dict[str, Any] = {"epoch": int(row["epoch"])}
        for name in (field.name for field in fields(cls)[1:]):
            # columns that came later and measures without a value may be empty
            is_absent = name in _OPTIONAL and not row.get(name)
            values[name] = None if is_absent else float(row[name])
        return cls(**values)

    @property
    def selection_score(self) -> tuple[float, ...]:
        """Return the score that selects epochs: validation accuracy (balanced if possible), loss.

        If the worst cell is the criterion, its accuracy comes first.
        """
        balanced = self.val_balanced_accuracy
        overall = (self.val_accuracy if balanced is None else balanced, -self.val_loss)
        worst = self.val_worst_cell_accuracy
        return overall if worst is None else (worst, *overall)

    @property
    def selection_measure(self) -> str:
        """The measure that comes first in `selection_score`."""
        if self.val_worst_cell_accuracy is not None:
            return "accuracy of the worst cell"
        return "accuracy" if self.val_balanced_accuracy is None else "balanced accuracy"


_OPTIONAL = ("val_balanced_accuracy", "temperature", "threshold", "val_worst_cell_accuracy")


def epochs_without_progress(epochs: Sequence[Epoch]) -> int:
    """Return how many epochs have passed since the one that was better than all before it."""
    merits = [epoch.selection_score for epoch in epochs]
    return len(merits) - 1 - merits.index(max(merits)) if merits else 0


def write_history(path: Path, epochs: Sequence[Epoch]) -> None:
    """Write one CSV line per epoch, atomically. Missing folders are created."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(field.name for field in fields(Epoch))
    for epoch in epochs:
        values = astuple(epoch)
        writer.writerow(f"{value:.6g}" if isinstance(value, float) else value for value in values)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, text.getvalue())


def epochs(run_folder: Path, models: Iterable[str]) -> Iterator[dict[str, Json]]:
    """Yield the epochs of some models of a run: `model`, `epoch`, and the numbers of their histories.

    A history that is not there yet, or cannot be read, has none.

    Args:
        run_folder: runs/<run>.
        models: their IDs.
    """
    for model in models:
        path = paths.history(run_folder / model_folder_name(model))
        try:
            text = path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError):
            continue
        for row in csv.DictReader(io.StringIO(text)):
            cells = {name: _number(value) for name, value in row.items() if name is not None}
            if isinstance(epoch := cells.get("epoch"), float) and epoch.is_integer():
                yield {"model": model, **cells, "epoch": int(epoch)}


def _number(text: str | None) -> float | None:
    """Return the number in a cell, or None, such as for a measure without a value."""
    try:
        return float(text or "")
    except ValueError:
        return None
