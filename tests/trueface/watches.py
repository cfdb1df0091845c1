"""Watches that end a training at a step, as a person does and as a kill does."""

import threading

from trueface.runtime.progress import RunContext


def stopping_at(last: int) -> RunContext:
    """Return a watch that asks to stop once a step is done."""
    stop = threading.Event()

    def progress(*, step: int, **_: object) -> None:
        if step == last:
            stop.set()

    return RunContext(progress=progress, stop=stop)


def killed_at(last: int) -> RunContext:
    """Return a watch that ends a training without a word at a step."""

    def progress(*, step: int, **_: object) -> None:
        if step == last:
            raise KeyboardInterrupt

    return RunContext(progress=progress)
