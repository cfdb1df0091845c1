"""A hint for a running Python program whose log is empty: Python buffers output that goes to a file."""

import re
from pathlib import Path

from launcher.queue.home.paths import Attempt
from launcher.queue.workers.attempt_spec import AttemptSpec, read_attempt_spec
from launcher.queue.workers.progress.attempt_progress import start_time
from launcher.system.executables import without_wrappers
from launcher.system.files import read_bytes
from launcher.system.units import format_seconds

HINT_AFTER_S = 120.0  # shorter silence is usual: imports, and loading of data
UNBUFFERED = "PYTHONUNBUFFERED"
_PYTHON = r"(?:python|pypy)[\d.]*"
_UNBUFFERED_OPTION = r"-[A-Za-z]*u[A-Za-z]*"  # -u, -Bu


def buffering_hint(attempt: Attempt, now: float) -> str:
    """Return a hint for a running Python program that has printed nothing for a while; empty if there is none.

    Args:
        attempt: its newest attempt, whose program runs.
        now: seconds since 1970.
    """
    silent_s = now - start_time(attempt)
    try:
        if silent_s < HINT_AFTER_S or attempt.log.stat().st_size:
            return ""
        order = read_attempt_spec(read_bytes(attempt.spec))
    except (OSError, ValueError):
        return ""
    if not _buffers_output(order):
        return ""
    return (
        f"no output for {format_seconds(silent_s)}. Python may buffer it: "
        f"use python -u, or set {UNBUFFERED}=1"
    )


def _buffers_output(order: AttemptSpec) -> bool:
    """Whether a program is Python with buffered output, also below torchrun and other starters of scripts."""
    argv = order.spec.argv
    if order.context.environment.get(UNBUFFERED) or f"{UNBUFFERED}=1" in argv:
        return False
    words = without_wrappers(argv)
    if words and re.fullmatch(_PYTHON, Path(words[0]).name):
        for word in words[1:]:
            if not word.startswith("-") or word in {"-c", "-m"}:
                return True
            if re.fullmatch(_UNBUFFERED_OPTION, word):
                return False
    return any(word.endswith(".py") for word in words)
