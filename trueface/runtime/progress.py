"""Progress of a long computation: where it is reported, and how it is stopped."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from trueface.runtime.errors import JobError

REPORT_EVERY_S = 0.5  # seconds between changes of a number that a person can see


@dataclass(frozen=True, slots=True, kw_only=True)
class RunContext:
    """The device of a computation, its progress callback, and its stop signal.

    `begin_phase` gets the name of each phase after the last step, before it begins.
    """

    device: str = "cpu"
    precision: str = "fp32"  # precision of the network's arithmetic; answers are always float32
    progress: Callable[..., None] = lambda *_args, **_metrics: None
    stop: threading.Event = field(default_factory=threading.Event)
    begin_phase: Callable[[str], None] = lambda _: None

    def raise_if_stopped(self) -> None:
        """Leave a computation that is to stop and has written no state.

        Raises:
            JobError: stopped.
        """
        if self.stop.is_set():
            raise JobError(
                "stopped. Nothing was written. The next attempt starts from the beginning."
            )

    def raise_if_stopped_midway(self, count: int, total: int) -> None:
        """Leave a computation that is to stop; its output so far is discarded.

        Raises:
            JobError: stopped.
        """
        if self.stop.is_set():
            raise JobError(f"stopped after {count} of {total} images. Nothing was written.")

    def batches(self, total: int, size: int) -> Iterator[slice]:
        """Yield the rows of each batch of images; report each that is done.

        Args:
            total: images.
            size: of a batch, the last one may be smaller.

        Raises:
            JobError: stopped before a batch.
        """
        for start in range(0, total, size):
            self.raise_if_stopped_midway(start, total)
            yield slice(start, start + size)
            self.progress(step=min(start + size, total), total=total)
