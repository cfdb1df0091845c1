"""The command line in a process of its own, in a pipe or in a terminal."""

import fcntl
import os
import pty
import select
import signal
import struct
import sys
import termios
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, NamedTuple

import pyte

from tests.build import DEADLINE_S
from tests.forked import LAUNCHER, Process, start

REST_S = 1.0  # seconds for the last output of a program, if others keep its terminal open
# seconds: after the end of the last program, Linux can say "closed" before it hands out the last output
LATE_S = 0.05
COMMAND = (sys.executable, "-c", "from launcher.frontends.cli.main import main; main()")


def in_a_terminal(
    *words: str, columns: int = 80, typed: str = "", code: int = 0, colour: bool = False
) -> str:
    """Run the command line in a terminal of its own and return what it drew.

    Args:
        words: the verb and its arguments.
        columns: the terminal's width.
        typed: what a person types into it.
        code: the exit code that is expected.
        colour: in the terminal's colours; otherwise as somebody sees it who wants none.
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    os.write(ours, typed.encode())
    wanted = {"TERM": "xterm-256color", **({} if colour else {"NO_COLOR": "1"})}
    child = _started(words, theirs, wanted)
    os.close(theirs)
    drawn = b"".join(iter(lambda: read_terminal(ours), b""))
    os.close(ours)
    assert child.wait() == code
    return drawn.decode().replace("\r\n", "\n")


def read_terminal(ours: int) -> bytes:
    """Return the next output of the programs in a terminal, nothing once they have all ended."""
    for pause_s in (0, LATE_S):
        time.sleep(pause_s)
        with suppress(OSError):  # the terminal's other end was closed
            return os.read(ours, 65_536)
    return b""


class Piped(NamedTuple):
    """A command whose outputs are read while it runs."""

    process: Process
    out: IO[str]
    err: IO[str]


@contextmanager
def piped(*words: str, code: int = 0) -> Iterator[Piped]:
    """Run the command line beside the test, with its outputs in pipes; in the end it must exit with a code."""
    (out, out_end), (err, err_end) = os.pipe(), os.pipe()
    streams = (os.open(os.devnull, os.O_RDONLY), out_end, err_end)
    folder = Path.cwd()
    process = start(LAUNCHER, words, folder=folder, environment=os.environ, streams=streams)
    for descriptor in streams:
        os.close(descriptor)
    with os.fdopen(out) as out_file, os.fdopen(err) as err_file:
        try:
            yield Piped(process, out_file, err_file)
            assert process.wait(DEADLINE_S) == code
        finally:
            process.kill()
            process.wait()


class TerminalWindow:
    """A program in a terminal that stays open: its current screen, and the input of a user."""

    def __init__(self, child: Process, ours: int, columns: int, rows: int) -> None:
        self.child, self.raw = child, b""
        self._ours = ours
        self._screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self._screen)

    @property
    def is_open(self) -> bool:
        """Whether the window is still there."""
        return self._ours >= 0

    @property
    def lines(self) -> list[str]:
        """The screen's lines as far as the program has drawn them."""
        return [line.rstrip() for line in self._screen.display]

    @property
    def text(self) -> str:
        """The whole screen."""
        return "\n".join(self.lines)

    def look(self, span_s: float = 0.05) -> None:
        """Read the output of the program within some time."""
        until_s = time.monotonic() + span_s
        while (left := until_s - time.monotonic()) > 0:
            if not self._take_in(left):
                return

    def look_for(self, span_s: float) -> None:
        """Read all output of the program for some time."""
        end = time.monotonic() + span_s
        while (left := end - time.monotonic()) > 0:
            self.look(min(left, 0.5))

    def until(self, holds: Callable[[str], object], what: str) -> str:
        """Look until the screen's text is as a test wants it, and return it."""
        deadline = time.monotonic() + DEADLINE_S
        while not holds(self.text):
            assert time.monotonic() < deadline, f"waited in vain until {what}:\n{self.text}"
            self.look()
        return self.text

    def shows(self, text: str) -> str:
        """Look until a text is on the screen."""
        return self.until(lambda screen: text in screen, f"{text!r} is seen")

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self._ours, text.encode())

    def resize(self, columns: int, rows: int) -> None:
        """Draw the window larger or smaller."""
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self._screen.resize(rows, columns)

    def close(self) -> None:
        """Close the window, as a person does or a lost connection."""
        os.close(self._ours)
        self._ours = -1

    def ends(self) -> int:
        """Wait for the program's end, take in the last that it drew, and return its exit code."""
        deadline = time.monotonic() + DEADLINE_S
        while (code := self.child.poll()) is None:
            assert time.monotonic() < deadline, "the program does not end"
            if self.is_open:
                self.look()
            else:
                time.sleep(0.01)
        while self.is_open and self._take_in(REST_S):
            pass
        return code

    def leaves(self, key: str = "q") -> None:
        """End the program by a key, well."""
        self.type(key)
        assert self.ends() == 0

    def _take_in(self, span_s: float) -> bool:
        """Read the next output, and return whether there was any in time."""
        if not select.select([self._ours], [], [], span_s)[0]:
            return False
        drawn = read_terminal(self._ours)
        self.raw += drawn
        self._stream.feed(drawn)
        return bool(drawn)


@contextmanager
def seen(
    *words: str,
    columns: int = 80,
    rows: int = 24,
    colour: bool = False,
    command: str = LAUNCHER,
    **environ: str,
) -> Iterator[TerminalWindow]:
    """Run the command line in its own terminal that can be read while it runs.

    Args:
        words: the verb and its arguments.
        columns: the terminal's width.
        rows: its height.
        colour: in the terminal's colours.
        command: the module of the command line.
        environ: additional variables of the environment.
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    wanted = {"TERM": "xterm-256color", **({} if colour else {"NO_COLOR": "1"}), **environ}
    child = _started(words, theirs, wanted, command)
    os.close(theirs)
    window = TerminalWindow(child, ours, columns, rows)
    try:
        yield window
    finally:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        if window.is_open:
            window.close()


def _started(
    words: Sequence[str], terminal: int, environ: Mapping[str, str], command: str = LAUNCHER
) -> Process:
    environment = os.environ | environ
    streams = (terminal, terminal, terminal)
    return start(command, words, folder=Path.cwd(), environment=environment, streams=streams)
