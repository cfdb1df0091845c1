"""How far a job is, as it was reported: the steps in a progress file."""

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from launcher.system.files import Json

TAIL_BYTES = 4096  # more than one line
MOST_STEPS = 1 << 53  # no job counts further, and no clock measures that


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """The newest report of a job."""

    at: float
    step: int
    total: int | None
    metrics: Mapping[str, Json]
    rate: float | None = None  # steps a second, of late

    @property
    def left_s(self) -> float | None:
        """Seconds until all steps are done at that rate; None: unknown."""
        if not self.total or not self.rate:
            return None
        return max(0, self.total - self.step) / self.rate

    def left_at(self, now: float) -> float | None:
        """Return the seconds that are left later on; None, too, where all should be done by then."""
        left_s = None if self.left_s is None else self.left_s - (now - self.at)
        return None if left_s is None or left_s < 0 else left_s

    def __str__(self) -> str:
        done = f"{self.step}/{self.total}" if self.total else str(self.step)
        return " ".join([done, *(f"{key}={_short(value)}" for key, value in self.metrics.items())])


def latest(path: Path) -> Step | None:
    """Return the newest whole report in a progress file, or None when there is none.

    Its rate is that of the last reports, since the steps last began anew.
    """
    steps = history(path, TAIL_BYTES)
    if not steps:
        return None
    newest, first = steps[-1], steps[-1]
    for step in reversed(steps):
        if step.step > first.step:
            break
        first = step
    spent_s = newest.at - first.at
    if spent_s <= 0 or newest.step <= first.step:
        return newest
    return replace(newest, rate=(newest.step - first.step) / spent_s)


def history(path: Path, most_bytes: int) -> list[Step]:
    """Return the whole reports in the last so many bytes of a progress file, the oldest first."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - most_bytes))
            lines = file.read().decode(errors="replace").split("\n")
    except OSError:  # there is none, or the job was cleaned meanwhile
        return []
    return [step for line in lines if (step := _step(line)) is not None]


def _step(line: str) -> Step | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    match record:
        case {"at": float(at), "step": int(step), "metrics": dict(metrics)} if (
            math.isfinite(at) and abs(step) < MOST_STEPS
        ):
            total = record.get("total")
            count = total if isinstance(total, int) and abs(total) < MOST_STEPS else None
            return Step(at=at, step=step, total=count, metrics=metrics)
    return None


def _short(value: Json) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
