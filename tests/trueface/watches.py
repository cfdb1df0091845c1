"""Run contexts that end a training at a step, like a stop request and like a kill."""

import threading

from trueface.runtime.progress import RunContext


def stopping_at(last: int) -> RunContext:
    """Return a run context that requests a stop after a step."""
    stop = threading.Event()

    def progress(*, step: int, **_: object) -> None:
        if step == last:
            stop.set()

    return RunContext(progress=progress, stop=stop)


def killed_at(last: int) -> RunContext:
    """Return a run context that interrupts a training at a step, without a stop request."""

    def progress(*, step: int, **_: object) -> None:
        if step == last:
            raise KeyboardInterrupt

    return RunContext(progress=progress)
