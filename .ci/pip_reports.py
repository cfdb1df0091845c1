"""Calls of one new pip for environments of several Pythons, and what pip resolves for an extra."""

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
CONSTRAINTS = ("-c", str(ROOT / "constraints.txt"))
# of these, the index has only sources; everything else is installed from wheels
WITHOUT_WHEEL = ("antlr4-python3-runtime", "connection-pool", "face-recognition-models")
WHEELS = ("--only-binary", ":all:", "--no-binary", ",".join(WITHOUT_WHEEL))


class PipError(Exception):
    """Pip fails; the message is its last error."""


def make_environment(python: Path | str, folder: Path) -> Path:
    """Make an empty environment without pip, and return its Python."""
    command = [python, "-m", "venv", "--clear", "--without-pip", folder]
    subprocess.run(command, check=True, capture_output=True)
    return folder / "bin" / "python"


def make_tools(folder: Path, packages: Sequence[str]) -> Path:
    """Make an environment with a new pip and other tools, and return its Python.

    Only a new pip reports the licences that packages state as SPDX expressions.
    """
    subprocess.run([sys.executable, "-m", "venv", folder], check=True, capture_output=True)
    python = folder / "bin" / "python"
    run_pip(python, python, "install", "pip>=25", *packages)
    return python


def run_pip(tools: Path, python: Path, *words: str | Path) -> float:
    """Run pip for an environment, and return the seconds that it took.

    Args:
        tools: the Python whose pip runs.
        python: the Python of the environment.
        words: the command and its arguments.

    Raises:
        PipError: It fails.
    """
    started = time.monotonic()
    target = () if python == tools else ("--python", python)
    command = [tools, "-m", "pip", "--disable-pip-version-check", "--quiet", *target, *words]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise PipError((lines or done.stderr.splitlines() or ["no output"])[0])
    return time.monotonic() - started


def resolve(tools: Path, python: Path, wheel: Path, extra: str, report: Path) -> dict[str, Any]:
    """Return what pip would install for an extra into an empty environment; "" is the base.

    Raises:
        PipError: It cannot be resolved.
    """
    dry = ("--dry-run", "--ignore-installed", "--report", report)
    run_pip(tools, python, "install", *dry, *WHEELS, *CONSTRAINTS, requirement(wheel, extra))
    found: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
    return found


def requirement(wheel: Path, extra: str) -> str:
    """Return the requirement of a wheel with an extra; "" is the base."""
    return f"{wheel}[{extra}]" if extra else str(wheel)
