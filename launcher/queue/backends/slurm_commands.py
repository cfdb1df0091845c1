"""Calls of Slurm's own programs, each with a time limit."""

import atexit
import subprocess
from collections.abc import Mapping
from typing import NamedTuple

from launcher.queue.backends.protocol import EngineError
from launcher.system.child_process import kill_child, spawn_child
from launcher.system.text import sanitize_terminal
from launcher.system.units import format_seconds

# variables that reach sbatch reach the job, too: no secrets, and no SBATCH_… or SLURM_… of an enclosing job
_PASSED_VARIABLES = (
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LC_ALL",
    "TZ",
    "SLURM_CONF",
)
_PREFIX_WORDS = ("error", "fatal", "warning")
_MOST_TEXT = 600  # characters of a program's output that a message shows
_CHANGING_PROGRAMS = {
    "sbatch",
    "scancel",
}  # these commands continue when this process ends; the others only query
COMMAND_TIMEOUT_S = (
    60.0  # while its controller restarts, Slurm's own programs try for half a minute
)


class SlurmCommandResult(NamedTuple):
    """How one of Slurm's programs ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def complaint(self) -> str:
        """Its error message on one line, without the program's name: "Invalid partition name specified"."""
        lines = [_without_prefix(line) for line in (self.stderr or self.stdout).splitlines()]
        text = "; ".join(dict.fromkeys(line for line in lines if line))
        text = sanitize_terminal(text) or f"exit code {self.code}"
        return text if len(text) <= _MOST_TEXT else text[:_MOST_TEXT] + "…"


class SlurmCommands:
    """Runs Slurm's programs, one at a time."""

    def __init__(self, environ: Mapping[str, str], patience_s: float = COMMAND_TIMEOUT_S) -> None:
        """Begin.

        Args:
            environ: environment variables with PATH and SLURM_CONF.
            patience_s: seconds for each program.
        """
        self._environment = {name: environ[name] for name in _PASSED_VARIABLES if name in environ}
        self._patience_s = patience_s

    def run(self, *argv: str, stdin: str = "", epoch: bool = False) -> SlurmCommandResult:
        """Run a program to its end.

        Args:
            argv: its name, looked up in PATH, and its arguments.
            stdin: its standard input.
            epoch: it prints times as seconds since 1970; never for what submits, as jobs inherit it.

        Raises:
            EngineError: it is not installed, or did not end in time.
        """
        environment = self._environment | ({"SLURM_TIME_FORMAT": "%s"} if epoch else {})
        try:
            child = spawn_child(argv, environment, stdin=subprocess.PIPE)
        except OSError as error:
            why = error.strerror or str(error)
            raise EngineError(
                f"cannot run {argv[0]}: {why} (install Slurm's client programs on this host, in PATH)"
            ) from error
        if argv[0] not in _CHANGING_PROGRAMS:
            _running_queries.add(child)
        with child:
            try:
                out, err = child.communicate(stdin.encode(), timeout=self._patience_s)
            except subprocess.TimeoutExpired:
                wait = format_seconds(self._patience_s)
                raise EngineError(f"{argv[0]} did not respond within {wait}") from None
            finally:
                kill_child(child)
                _running_queries.discard(child)
        return SlurmCommandResult(
            code=child.returncode,
            stdout=out.decode(errors="replace"),
            stderr=err.decode(errors="replace"),
        )

    def require(self, *argv: str, stdin: str = "", epoch: bool = False) -> str:
        """Run a program to its end, and return its output.

        Raises:
            EngineError: it failed, is not installed, or did not end in time.
        """
        answer = self.run(*argv, stdin=stdin, epoch=epoch)
        if answer.code:
            raise EngineError(f"{argv[0]} failed: {answer.complaint}")
        return answer.stdout


_running_queries: set[subprocess.Popen[bytes]] = set()


@atexit.register
def _kill_queries() -> None:
    """End running queries when this process ends, as their responses are not needed and may never arrive."""
    for child in [*_running_queries]:
        kill_child(child)


def _without_prefix(line: str) -> str:
    """Return a line of `sbatch: error: what is wrong` without the program and the prefix."""
    program, colon, rest = line.strip().partition(": ")
    if not colon or " " in program:
        return line.strip()
    word, colon, text = rest.partition(": ")
    return text if colon and word in _PREFIX_WORDS else rest
