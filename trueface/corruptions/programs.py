"""Programs that corruptions start: they get bytes, give bytes, and never hang.

No shell is involved. A program belongs to the process group of its job, so that a stop of the job ends
it too, and one that takes longer than a minute for a picture is killed.
"""

import subprocess
from collections.abc import Sequence
from functools import cache

from trueface.runtime.errors import JobError

MOST_S = 60.0  # for one picture


def passed_through(command: Sequence[str], content: bytes) -> bytes:
    """Return what a program writes when it gets `content`.

    Raises:
        JobError: it is not installed, fails, or does not end within a minute; gives its last line of output.
    """
    try:
        done = subprocess.run(
            command, input=content, capture_output=True, check=False, timeout=MOST_S
        )
    except FileNotFoundError as error:
        raise JobError(
            f"the program {command[0]} is not on the PATH; install it, or leave out the corruption "
            "that needs it"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise JobError(f"{command[0]} took more than {MOST_S:g} s for a picture: killed") from error
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        last = lines[-1] if lines else f"exit code {done.returncode}"
        raise JobError(f"{command[0]} failed: {last}; see whether {command[0]} knows libx264")
    return done.stdout


@cache
def version_of(program: str) -> str | None:
    """Return the first line of what a program says of its version; None where it says nothing."""
    try:
        done = subprocess.run([program, "-version"], capture_output=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    lines = done.stdout.decode(errors="replace").splitlines()
    return lines[0].strip() if lines else None
