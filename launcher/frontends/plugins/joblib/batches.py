"""Batches of calls, as a job of the queue runs them."""

import time
from typing import Any, NamedTuple

NAME = "launcher"  # name of the backend
_running = False  # whether this process is a job that runs a batch


class BatchResult(NamedTuple):
    """The return values of a batch, and how long its calls took."""

    values: list[Any]
    seconds: float


def run_batch(batch: Any) -> BatchResult:
    """Call the functions of a batch of joblib.

    Inside, the backend `launcher` is the one that the batch has for nested calls. Jobs that wait for jobs could take all
    cores.
    """
    global _running
    from joblib.parallel import register_parallel_backend  # imported with the batch

    nested = type(batch._backend)  # noqa: SLF001  # it has no public name
    register_parallel_backend(
        NAME, lambda nesting_level=None, **_options: nested(nesting_level=nesting_level)
    )
    _running = True
    start = time.monotonic()
    values = batch()
    return BatchResult(values, time.monotonic() - start)


def is_running() -> bool:
    """Return whether this process is a job that runs a batch."""
    return _running
