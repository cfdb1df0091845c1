"""A job's own reports: how far it is, written by its worker."""

import json
import time
from collections.abc import Callable
from pathlib import Path

EVERY_S = 0.5  # screens may show it 2 s late; writing it must cost next to nothing


class Progress:
    """Appends how far a job is to its attempt's progress file, a few times a second at most.

    Reports of other metrics are counted by themselves: the one at an epoch's end comes right behind one of a step.
    """

    def __init__(self, path: Path, check: Callable[[], None] = lambda: None) -> None:
        """Write to `path`, which appears with the first report; `check` raises where none is wanted."""
        self._path, self._check = path, check
        self._next: dict[tuple[str, ...], float] = {}  # names of metrics → when they are due again
        self._torn = False  # the last report may be there in part

    def __call__(self, *, step: int, total: int | None = None, **metrics: float | str) -> None:
        """Report that `step` of `total` is done, with metrics by name.

        A report that cannot be written, as on a full disk, is left out: it ends no training.
        """
        now, names = time.monotonic(), tuple(metrics)
        if now < self._next.get(names, 0.0) and step != total:
            return
        self._check()
        self._next[names] = now + EVERY_S
        record = {"at": time.time(), "step": step, "total": total, "metrics": metrics}
        text = "\n" * self._torn + json.dumps(record) + "\n"
        try:
            with self._path.open("a", encoding="utf-8") as lines:
                lines.write(text)
            self._torn = False
        except OSError:
            self._torn = True
