"""A project of its own in which the commands of a page are typed, by nobody and without a shell."""

import contextlib
import fcntl
import os
import pty
import select
import shutil
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from launcher.system.paths import Home
from tests.build import end_everything
from tests.documents import TREE, Command
from tests.forked import BIN, LAUNCHER, Process, call_launcher, start

DEADLINE_S = 240.0
INTERRUPT = "\x03"
LOOK_S, PATIENCE_S = 0.3, 3.0  # until a screen counts as drawn; from a key to the next

SMALLER = {  # the tour of the sandbox makes fewer images and looks at them once
    "{train: 240, val: 60, test: 120}": "{train: 24, val: 8, test: 12, size: 48}",
    "num_epochs: 6": "num_epochs: 1",
}
PROGRAMS = {
    "rsync": "#!/bin/sh\nexit 0\n",
    # seconds of a page are tenths here; minutes stay
    "sleep": '#!/bin/sh\ncase "$1" in [1-9]) set -- "0.$1" ;; esac\nexec /bin/sleep "$1"\n',
    # the other machine is this one
    "ssh": '#!/bin/sh\n[ "$1" = -t ] && shift\nshift\nexec "$@"\n',
}


@dataclass(frozen=True, kw_only=True)
class Sandbox:
    """A person's project folder and queue."""

    folder: Path
    environment: dict[str, str]

    def call(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run `launcher` to its end."""
        return call_launcher(
            *words, folder=self.folder, environment=self.environment, timeout_s=DEADLINE_S
        )

    def run(self, command: Command, *more: str, codes: Collection[int] = (0,)) -> None:
        """Run a command to its end, and fail where it ends with another code."""
        argv = self._argv(command, *more)
        environment = self.environment | dict(command.environment)
        if argv[0] == str(BIN / "launcher"):
            ended = call_launcher(
                *argv[1:], folder=self.folder, environment=environment, timeout_s=DEADLINE_S
            )
        else:
            ended = subprocess.run(
                argv,
                cwd=self.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=DEADLINE_S,
                check=False,
            )
        said = f"{command.text}\n{ended.stdout}{ended.stderr}"
        assert ended.returncode in codes, said
        assert "Traceback" not in ended.stderr, said

    def show(self, command: Command, key: str) -> None:
        """Run a command in a terminal, and press a key until it has ended."""
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
        argv, environment = self._argv(command), self.environment | {"TERM": "xterm-256color"}
        child: Process
        if argv[0] == str(BIN / "launcher"):
            streams = (theirs, theirs, theirs)
            child = start(
                LAUNCHER, argv[1:], folder=self.folder, environment=environment, streams=streams
            )
        else:
            child = subprocess.Popen(
                argv,
                cwd=self.folder,
                env=environment,
                stdin=theirs,
                stdout=theirs,
                stderr=theirs,
                start_new_session=True,
            )
        os.close(theirs)
        drawn = _press(key, ours, child)
        child.kill()
        os.close(ours)
        assert child.wait() in {0, 130}, f"{command.text}\n{drawn}"

    def _argv(self, command: Command, *more: str) -> list[str]:
        return [self._found(command.words[0]), *command.words[1:], *more]

    def _found(self, word: str) -> str:
        """Return where a program lies: one of the sandbox, or an installed one."""
        found = shutil.which(word, path=self.environment["PATH"])
        assert found, f"{word} is not a program that the sandbox has"
        return found


def _press(key: str, terminal: int, child: Process) -> str:
    """Press a key whenever nothing is drawn any more, until the child has ended; return what was."""
    drawn, pressed = b"", 0.0
    deadline = time.monotonic() + DEADLINE_S
    with contextlib.suppress(OSError):  # the terminal's other end was closed
        while child.poll() is None and time.monotonic() < deadline:
            if select.select([terminal], [], [], LOOK_S)[0]:
                drawn += os.read(terminal, 65536)
            elif drawn and time.monotonic() > pressed + PATIENCE_S:
                pressed = time.monotonic()
                if key == INTERRUPT:  # the terminal is not the child's own: it makes no signal
                    child.send_signal(signal.SIGINT)
                else:
                    os.write(terminal, key.encode())
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(PATIENCE_S)
    return drawn.decode(errors="replace")


def _copy_tasks(folder: Path) -> None:
    """Copy the task files of this project; the tour becomes smaller."""
    folder.mkdir()
    for path in (TREE / "tasks").glob("*.yaml"):
        text = path.read_text(encoding="utf-8")
        if path.name == "tour.yaml":
            for old, new in SMALLER.items():
                assert old in text
                text = text.replace(old, new)
        (folder / path.name).write_text(text, encoding="utf-8")


@contextmanager
def a_sandbox(place: Path, *, clone: bool = False) -> Iterator[Sandbox]:
    """Make an empty project below a folder.

    Args:
        place: Folder for everything.
        clone: The project has the task files of this one, of which the tour is smaller.
    """
    folder, programs = place / "project", place / "bin"
    folder.mkdir()
    if clone:
        _copy_tasks(folder / "tasks")
    programs.mkdir()
    for name, text in PROGRAMS.items():
        (programs / name).write_text(text, encoding="utf-8")
        (programs / name).chmod(0o755)
    home = Home(place / "home")
    # reservations of other tests' schedulers do not concern it
    claims = Path(os.environ["LAUNCHER_CLAIMS"], place.name)
    claims.mkdir()
    environment = {
        **os.environ,
        "LAUNCHER_HOME": str(home.folder),
        "LAUNCHER_CLAIMS": str(claims),
        "TRUEFACE_WEIGHTS": "none",
        "TRUEFACE_CACHE": str(place / "cache"),
        "PATH": os.pathsep.join([str(programs), str(BIN), os.environ["PATH"]]),
    }
    try:
        yield Sandbox(folder=folder, environment=environment)
    finally:
        end_everything(home)
