"""Progress after a method's last step: phases, counted in samples that a model reads."""

import logging
from collections.abc import Mapping
from dataclasses import replace

from trueface.runtime.progress import RunContext

log = logging.getLogger(__name__)


class Phases:
    """The phases that follow the steps of a computation.

    A phase that ends early lowers the total. A phase advances when it reads examples that are counted with `add`, or when it reports progress of its own.
    """

    def __init__(self, watch: RunContext, sizes: Mapping[str, int]) -> None:
        """Begin before the first step.

        Args:
            watch: receives the reports.
            sizes: phase → samples that it reads, at most.
        """
        self._report, self._sizes = watch.progress, dict(sizes)
        self._done = 0  # steps of the computation, and samples of earlier phases
        self._phase: str | None = None  # None: the steps are not over
        self._read = 0  # samples of this phase
        self.watch = replace(watch, progress=self._progress, begin_phase=self._begin)

    def add(self, samples: int) -> None:
        """Count samples that were read; outside of a phase they do not count."""
        if self._phase is not None:
            self._advance(self._read + samples)

    def _begin(self, phase: str) -> None:
        log.info("doing=%s", phase)
        self._done += self._read
        self._sizes.pop(self._phase or "", None)
        self._sizes.setdefault(phase, 0)  # the progress of one that was not declared is not counted
        self._phase = phase
        self._advance(0)

    def _progress(self, *, step: int, total: int | None = None, **metrics: float | str) -> None:
        if self._phase is None:
            self._done = max(step, total or 0)
            self._report(step=step, total=total, **metrics)
        elif total:
            self._advance(self._sizes[self._phase] * step // total)

    def _advance(self, read: int) -> None:
        """Report how many samples of this phase were read."""
        if self._phase is None:
            return
        self._read = min(read, self._sizes[self._phase])
        total = self._done + sum(self._sizes.values())
        self._report(step=self._done + self._read, total=total, doing=self._phase)
