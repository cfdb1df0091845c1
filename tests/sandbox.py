"""A project of its own in which the commands of a page are typed, by nobody and without a shell."""

import contextlib
import fcntl
import os
import pty
import random
import select
import shutil
import signal
import string
import struct
import subprocess
import termios
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from launcher.queue.home.paths import Home
from tests.build import end_everything
from tests.documents import TREE, Command
from tests.forked import BIN, LAUNCHER, Process, call_launcher, start
from tests.printed_output import with_folders

DEADLINE_S = 1800.0  # the demo trains for minutes, on a busy machine longer
COLUMNS = 100  # width of the terminal
PERSON = "/home/ada"  # home directory in pages
INTERRUPT = "\x03"
LOOK_S, PATIENCE_S = 0.3, 3.0  # until a screen counts as drawn; from a key to the next

PROGRAMS = {
    "rsync": "#!/bin/sh\nexit 0\n",
    # the other machine is this one
    "ssh": '#!/bin/sh\n[ "$1" = -t ] && shift\nshift\nexec "$@"\n',
}


@dataclass(frozen=True, kw_only=True)
class Sandbox:
    """A person's project folder and queue."""

    folder: Path
    environment: dict[str, str]

    def write(self, name: str, text: str) -> None:
        """Write a file into the home directory of the person, whose paths are those of pages."""
        file = self.folder.parent / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text.replace(PERSON, str(self.folder.parent)), encoding="utf-8")

    def call(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run `launcher` to its end, in pipes."""
        return call_launcher(
            *words, folder=self.folder, environment=self.environment, timeout_s=DEADLINE_S
        )

    def run(self, command: Command, *more: str, codes: Collection[int] = (0,)) -> str:
        """Run a command in a terminal to its end, and return what it drew.

        Raises:
            AssertionError: it ends with another exit code or with a traceback, or not at all.
        """
        ours, child = self._start(command, *more)
        drawn = _read(ours, child)
        said = f"{command.text}\n{drawn}"
        assert child.poll() is not None, f"expected: an end, got: none: {said}"
        code, expected = child.wait(), " or ".join(map(str, codes))
        assert code in codes, f"expected: exit code {expected}, got: {code}: {said}"
        assert "Traceback" not in drawn, said
        return with_folders(drawn, self.folders)

    def show(self, command: Command, key: str) -> None:
        """Run a command in a terminal, and press a key until it has ended."""
        ours, child = self._start(command)
        drawn = _press(key, ours, child)
        child.kill()
        os.close(ours)
        assert child.wait() in {0, 130}, f"{command.text}\n{drawn}"

    @property
    def folders(self) -> dict[str, str]:
        """Folders of the sandbox, and the names that pages use for them."""
        return {str(BIN): "/home/ada/project/.venv/bin", str(self.folder.parent): "/home/ada"}

    def _start(self, command: Command, *more: str) -> tuple[int, Process]:
        """Start a command in a terminal; return our end of it, and the process."""
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, COLUMNS, 0, 0))
        argv = [self._found(command.words[0]), *command.words[1:], *more]
        environment = self.environment | dict(command.environment)
        streams = (theirs, theirs, theirs)
        child: Process
        if argv[0] == str(BIN / "launcher"):
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
        return ours, child

    def _found(self, word: str) -> str:
        """Return where a program lies: one of the sandbox, or an installed one."""
        found = shutil.which(word, path=self.environment["PATH"])
        assert found, f"{word} is not a program that the sandbox has"
        return found


def _read(terminal: int, child: Process) -> str:
    """Return what a command draws until it has ended; programs that it leaves behind may keep its terminal open."""
    drawn = b""
    deadline = time.monotonic() + DEADLINE_S
    with contextlib.suppress(OSError):  # the terminal's other end was closed
        while time.monotonic() < deadline:
            has_ended = child.poll() is not None
            if select.select([terminal], [], [], 0.0 if has_ended else LOOK_S)[0]:
                drawn += os.read(terminal, 65536)
            elif has_ended:
                break
    os.close(terminal)
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(PATIENCE_S)
    if child.poll() is None:
        child.kill()
    return drawn.decode(errors="replace")


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


def _new_folder() -> Path:
    """Make a folder whose path is as long as that of pages: lines are shortened and wrapped alike."""
    while True:
        name = "".join(random.choices(string.ascii_lowercase, k=len(PERSON) - len("/tmp/")))
        with contextlib.suppress(FileExistsError):
            folder = Path("/tmp", name)
            folder.mkdir(mode=0o700)
            return folder


@contextmanager
def a_sandbox(place: Path, *, clone: bool = False) -> Iterator[Sandbox]:
    """Make the home directory of a person with an empty project and no queue.

    Args:
        place: Folder for what does not belong to the person.
        clone: The project has the task files of this one.
    """
    person, programs = _new_folder(), place / "bin"
    folder = person / "project"
    folder.mkdir()
    if clone:
        shutil.copytree(TREE / "tasks", folder / "tasks")
    programs.mkdir()
    for name, text in PROGRAMS.items():
        (programs / name).write_text(text, encoding="utf-8")
        (programs / name).chmod(0o755)
    # reservations of other tests' schedulers do not concern it
    claims = Path(os.environ["LAUNCHER_CLAIMS"], place.name)
    claims.mkdir()
    own = {"LAUNCHER_HOME", "LAUNCHER_CONFIG", "OMP_NUM_THREADS", "OMP_WAIT_POLICY"}
    environment = {
        **{
            name: text
            for name, text in os.environ.items()
            if name not in own and not name.startswith("XDG_")
        },
        "HOME": str(person),
        "USER": "ada",
        "LOGNAME": "ada",
        "LAUNCHER_CLAIMS": str(claims),
        "TRUEFACE_WEIGHTS": "none",
        "TRUEFACE_CACHE": str(place / "cache"),
        "PATH": os.pathsep.join([str(programs), str(BIN), os.environ["PATH"]]),
        "TERM": "xterm-256color",
        "NO_COLOR": "1",
        "TZ": "UTC",
    }
    try:
        yield Sandbox(folder=folder, environment=environment)
    finally:
        for record in person.rglob("home.json"):
            end_everything(Home(record.parent))
        shutil.rmtree(person, ignore_errors=True)
