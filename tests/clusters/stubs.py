"""Programs that precede Slurm's own in PATH.

They record every call (`squeue-on-node` if it is in a job), and fail or hang on request.
"""

import shutil
import time
from pathlib import Path

PROGRAMS = ("sbatch", "squeue", "scancel", "sinfo")
# the call is on record when the program has ended, as a proof may act upon it then
SCRIPT = """#!/bin/sh
case "$(cat '{mode}' 2>/dev/null)" in
fail) echo '{name}: error: slurm_load_jobs error: Unable to contact slurm controller' >&2; code=1 ;;
hang) echo "{name} hangs" >> '{calls}'; exec sleep 3600 ;;
*) '{program}' "$@"; code=$? ;;
esac
echo "{name}${{SLURM_JOB_ID:+-on-node}} $code $(date +%s.%N)" >> '{calls}'
exit $code
"""


class Stubs:
    """A folder of them."""

    def __init__(self, folder: Path) -> None:
        """Make them; they do what Slurm's programs do."""
        self.folder = folder
        self._calls = folder / "calls"
        folder.mkdir()
        for name in PROGRAMS:
            program = shutil.which(name)
            assert program is not None, f"{name} is not installed"
            text = SCRIPT.format(
                name=name, program=program, mode=self._mode(name), calls=self._calls
            )
            (folder / name).write_text(text, encoding="ascii")
            (folder / name).chmod(0o755)

    def set(self, name: str, mode: str) -> None:
        """Have a program `fail`, `hang`, or work again: ''."""
        self._mode(name).write_text(mode, encoding="ascii")

    def calls(self, name: str) -> int:
        """Return how often a program was called, and has ended or hangs."""
        return sum(words[0] == name for words in self._lines())

    def ends(self, name: str) -> list[float]:
        """Return when calls of a program have ended, in seconds since 1970."""
        return [float(words[2]) for words in self._lines() if words[0] == name]

    def _lines(self) -> list[list[str]]:
        try:
            return [line.split() for line in self._calls.read_text(encoding="ascii").splitlines()]
        except FileNotFoundError:
            return []

    def await_call(self, name: str, timeout_s: float) -> None:
        """Return just after a program was called for the first time."""
        deadline = time.monotonic() + timeout_s
        while not self.calls(name):
            assert time.monotonic() < deadline, f"{name} was not called within {timeout_s:g} s"
            time.sleep(0.005)

    def _mode(self, name: str) -> Path:
        return self.folder / f"{name}.mode"
