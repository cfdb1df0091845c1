"""How far a training is: its step, its losses, and the rows of its history."""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from trueface.diffusion.settings import DiffuserSettings
from trueface.runtime.files import write_atomic

ROWS = 100  # of the history of a whole training
COLUMNS = ("step", "loss", "lr", "seconds")
WARM_UP = 100  # steps of a rising learning rate, at most a twentieth of all
LAST_LR = 0.05  # of the highest; short trainings end better on a falling rate than on their average


@dataclass(slots=True)
class Course:
    """Where a training is."""

    step: int = 0  # done
    rows: list[list[float]] = field(default_factory=list)  # of `COLUMNS`
    pending: list[float] = field(default_factory=list)  # losses since the last row
    seconds: float = 0.0  # interruptions not counted

    def note(self, loss: float, lr: float, total: int) -> None:
        """Take the loss of the step that is done; close a row for each hundredth of all steps."""
        self.pending.append(loss)
        if self.step * ROWS // total > (self.step - 1) * ROWS // total:
            mean = math.fsum(self.pending) / len(self.pending)
            self.rows.append([self.step, mean, lr, self.seconds])
            self.pending.clear()

    @property
    def loss(self) -> float:
        """Mean of the last row, or what came before the first one."""
        if self.rows:
            return self.rows[-1][1]
        return math.fsum(self.pending) / max(len(self.pending), 1)


def learning_rate(settings: DiffuserSettings, step: int) -> float:
    """Return the learning rate of a step, counted from 0: it rises evenly, then falls along a cosine."""
    total = settings.num_steps
    warm = max(1, min(WARM_UP, total // 20))
    if step < warm:
        return settings.learning_rate * (step + 1) / warm
    share = (step - warm) / max(1, total - warm)
    falling = LAST_LR + (1 - LAST_LR) * (1 + math.cos(math.pi * share)) / 2
    return settings.learning_rate * falling


def write_history(path: Path, rows: Sequence[Sequence[float]]) -> None:
    """Write one CSV line a row, atomically; folders are made as needed."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([int(row[0]), *(f"{value:.6g}" for value in row[1:])] for row in rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, text.getvalue())
