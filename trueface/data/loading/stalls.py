"""Warnings about long waits for data."""

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator

log = logging.getLogger(__name__)
STALL_S = 60.0  # without an item until that is logged; large batches from slow disks take less
LOOK_S = 5.0  # seconds between two looks


class StallWatch:
    """Logs a warning if one wait lasts STALL_S seconds, and again whenever it has doubled.

    A thread looks every LOOK_S seconds. It counts looks and reads no clock, so that the time in
    which a job is paused does not count.

    Args:
        describe: returns a description of the item with this number.
    """

    def __init__(self, describe: Callable[[int], str]) -> None:
        self._describe = describe
        self._awaited: int | None = None  # number of the item that is waited for
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="stalls", daemon=True)
        self._thread.start()

    @contextlib.contextmanager
    def wait(self, number: int) -> Iterator[None]:
        """Watch a block that waits for one item; numbers differ from wait to wait."""
        self._awaited = number
        try:
            yield
        finally:
            self._awaited = None

    def end(self) -> None:
        """End the thread."""
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        last, waited, due = None, 0.0, STALL_S
        while not self._ended.wait(LOOK_S):
            number = self._awaited
            if number is None or number != last:
                last, waited, due = number, 0.0, STALL_S
                continue
            waited += LOOK_S
            if waited >= due:
                due *= 2
                log.warning("no images for %.0f s; waiting for %s", waited, self._describe(number))


@contextlib.contextmanager
def stalls_reported(
    describe: Callable[[int], str] | None,
) -> Iterator[Callable[[int], contextlib.AbstractContextManager[None]]]:
    """Give what watches the wait for an item, by its number; nothing is watched without `describe`."""
    if describe is None:
        yield lambda _: contextlib.nullcontext()
        return
    watch = StallWatch(describe)
    try:
        yield watch.wait
    finally:
        watch.end()
