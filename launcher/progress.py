"""How far a job is: written by its worker, read by every screen."""

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from launcher.records import Json

EVERY_S = 0.5  # screens may show it 2 s late; writing it must cost next to nothing
TAIL_BYTES = 4096  # more than one line


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """The newest report of a job."""

    at: float
    step: int
    total: int | None
    metrics: Mapping[str, Json]

    def __str__(self) -> str:
        done = f"{self.step}/{self.total}" if self.total else str(self.step)
        return " ".join([done, *(f"{key}={_short(value)}" for key, value in self.metrics.items())])


class Progress:
    """Appends how far a job is to its attempt's progress file, a few times a second at most."""

    def __init__(self, path: Path) -> None:
        """Write to `path`, which appears with the first report."""
        self._path = path
        self._next = 0.0

    def __call__(self, *, step: int, total: int | None = None, **metrics: float | str) -> None:
        """Report that `step` of `total` is done, with metrics by name."""
        now = time.monotonic()
        if now < self._next and step != total:
            return
        self._next = now + EVERY_S
        record = {"at": time.time(), "step": step, "total": total, "metrics": metrics}
        with self._path.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(record) + "\n")


def latest(path: Path) -> Step | None:
    """Return the newest whole report in a progress file, or None when there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
            lines = file.read().decode(errors="replace").split("\n")
    except FileNotFoundError:
        return None
    for line in reversed(lines):
        try:
            record = json.loads(line)
        except ValueError:
            continue
        match record:
            case {"at": float(at), "step": int(step), "metrics": dict(metrics)}:
                total = record.get("total")
                return Step(
                    at=at,
                    step=step,
                    total=total if isinstance(total, int) else None,
                    metrics=metrics,
                )
    return None


def _short(value: Json) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
