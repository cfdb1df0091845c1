"""Asks programs of the system, without a shell and not for long."""

import subprocess
from collections.abc import Sequence

from launcher.units import format_seconds


def answer(argv: Sequence[str], patience_s: float) -> str:
    """Return what a program says within a time; what it complains of where it says nothing."""
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=patience_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"no answer in {format_seconds(patience_s)}"
    except OSError as error:
        return error.strerror or str(error)
    return done.stdout or done.stderr
