"""Programs run without a queue, a fixed number of them at a time, as `xargs -P` would."""

import subprocess
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

POLL_S = 0.02

Item = TypeVar("Item")


class Fixed(NamedTuple):
    """How a list of programs went with so many at a time."""

    number: int
    seconds: float
    first_s: float  # after which the first one had ended

    def __str__(self) -> str:
        return "one after another" if self.number == 1 else f"{self.number} at a time"


class Started(NamedTuple):
    """A program that runs."""

    process: subprocess.Popen[bytes]
    cards: tuple[str, ...] = ()
    declared: int = 0  # bytes on each of its cards


def run_at_once(
    items: Sequence[Item],
    number: int,
    start: Callable[[Item, Sequence[Started]], Started | None],
    is_late: Callable[[float], bool] = lambda _: False,
) -> Fixed | None:
    """Run programs in their order, so many at a time; kill those that still run if this ends early.

    Args:
        items: what each program is started from.
        number: how many run at the same time.
        start: starts a program beside those that run; returns None if it has to wait for one of them.
        is_late: of the seconds so far; whether to give up.

    Returns:
        None if a program failed or it took too long.
    """
    began, first_s = time.monotonic(), 0.0
    left, running = list(items), list[Started]()
    try:
        while left or running:
            codes = [each.process.poll() for each in running]
            if any(codes) or is_late(time.monotonic() - began):
                return None
            if 0 in codes and not first_s:
                first_s = time.monotonic() - began
            running = [each for each, code in zip(running, codes, strict=True) if code is None]
            while left and len(running) < number:
                started = start(left[0], running)
                if started is None:
                    break
                running.append(started)
                del left[0]
            time.sleep(POLL_S)
        return Fixed(number, time.monotonic() - began, first_s)
    finally:
        for each in running:
            each.process.kill()
            each.process.wait()
