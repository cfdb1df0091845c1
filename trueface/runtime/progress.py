"""Progress of a long computation: where it is reported, and how it is stopped."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from trueface.runtime.errors import JobError

REPORT_EVERY_S = 0.5  # how often a person can see a number change


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """The device of a computation, its progress callback, and its stop signal."""

    device: str = "cpu"
    precision: str = "fp32"  # of the network's arithmetic; answers are float32 whatever it is
    progress: Callable[..., None] = lambda *_args, **_metrics: None
    stop: threading.Event = field(default_factory=threading.Event)

    def refuse_stop(self, done: int, total: int) -> None:
        """Leave a computation that shall stop; it has written nothing that counts.

        Raises:
            JobError: stopped.
        """
        if self.stop.is_set():
            raise JobError(f"stopped after {done} of {total} images; nothing was written")
