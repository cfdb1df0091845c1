"""Batches of calls, as a job of the queue runs them."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple


class BatchResult(NamedTuple):
    """The return values of a batch, and how long its calls took."""

    values: list[Any]
    seconds: float


def run_batch(batch: Callable[[], list[Any]]) -> BatchResult:
    """Call the functions of a batch."""
    start = time.monotonic()
    values = batch()
    return BatchResult(values, time.monotonic() - start)
