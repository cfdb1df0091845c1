"""Installation of missing packages into the environment in which launcher runs."""

import shlex
import sys

DISTRIBUTION = "launcher-trueface"


def install_command(extra: str, distribution: str = DISTRIBUTION, *, python: str = "") -> str:
    """Return the command that installs an extra, to paste into any shell.

    Args:
        extra: the name of the extra.
        distribution: a name in the package index, or a folder with a pyproject.toml.
        python: the interpreter of the environment; "" for this process's interpreter.
    """
    program = shlex.quote(python or sys.executable or "python")
    quoted = shlex.quote(f"{distribution}[{extra}]")
    return f"{program} -m pip install {quoted}"
