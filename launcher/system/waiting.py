"""Wait for something that sends no event."""

import time
from collections.abc import Callable
from typing import TypeVar

Answer = TypeVar("Answer")


def wait_until(
    look: Callable[[], Answer],
    timeout_s: float,
    every_s: float,
    *,
    sleep: Callable[[float], object] = time.sleep,
) -> Answer:
    """Call `look` until it returns something other than None and False, or until the time is up.

    It is called at least once, and once more when the time is up. The last result is returned.

    Args:
        look: returns the awaited value, or whether the wait is over.
        timeout_s: time limit.
        every_s: pause between two calls.
        sleep: waits for a number of seconds; it may return early.
    """
    deadline = time.monotonic() + timeout_s
    # identity, because 0 is a descriptor
    while ((answer := look()) is None or answer is False) and (
        left_s := deadline - time.monotonic()
    ) > 0:
        sleep(min(every_s, left_s))
    return answer
