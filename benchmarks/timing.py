"""Timing of queues: the operations of every queue, and programs that record when they ran.

A queue runs programs. Our program `stamp` records its own start and end on the monotonic clock. So
neither the queue's own times nor our polling affect a value.
"""

import os
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

DEADLINE_S = 300.0  # for whatever must happen; a queue that hangs must not hang the table
POLL_S = 0.01

Program = tuple[str, ...]

STAMP = r"""
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
static long long now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}
int main(int argc, char **argv) {
    long long start = now();
    char line[64];
    int file = open(argv[1], O_WRONLY | O_APPEND | O_CREAT, 0600);
    if (argc > 2) usleep(1000 * atoi(argv[2]));
    int length = snprintf(line, sizeof line, "%lld %lld\n", start, now());
    return write(file, line, length) != length;
}
"""


class Queue(Protocol):
    """A queue that is open, with nothing in it."""

    # it starts the first of many programs while the others are still being queued
    eager: bool

    def submit(self, programs: Sequence[Program]) -> int:
        """Queue programs, and return the monotonic nanosecond from which their start is timed."""


@dataclass(frozen=True, kw_only=True)
class System:
    """A kind of queue beside which ours is measured."""

    name: str
    open: Callable[[Path, int], AbstractContextManager[Queue]]  # in a folder, with so many slots
    lacking: Callable[[], str] = lambda: ""  # the way to install it; empty: it is there


def until(condition: Callable[[], object], what: str, poll_s: float = POLL_S) -> None:
    """Wait until `condition` holds.

    Raises:
        TimeoutError: it does not in time.
    """
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {DEADLINE_S:.0f} s in vain until {what}")
        time.sleep(poll_s)


class Stamps:
    """The program that records when it ran, and its records."""

    def __init__(self, folder: Path) -> None:
        """Compile the program into `folder`."""
        self._program, self._file = folder / "stamp", folder / "stamps"
        source = folder / "stamp.c"
        source.write_text(STAMP, encoding="utf-8")
        subprocess.run(["cc", "-O2", "-o", self._program, source], check=True)

    def program(self, sleep_ms: int = 0) -> Program:
        """Return the program, which sleeps between its two instants."""
        return (str(self._program), str(self._file), str(sleep_ms))

    def wait(self, count: int) -> list[tuple[int, int]]:
        """Wait until the program ran `count` times; return (start, end) in order of the starts."""
        until(lambda: self._text().count("\n") >= count, f"{count} programs have run")
        spans = [line.split() for line in self._text().splitlines()]
        self._file.unlink()
        return sorted((int(start), int(end)) for start, end in spans)

    def _text(self) -> str:
        return self._file.read_text() if self._file.exists() else ""


class Gate:
    """A program that occupies a slot until it is let go, so that what is behind it piles up."""

    def __init__(self, folder: Path) -> None:
        """Make the pipe on which the program waits."""
        path = folder / "gate"
        os.mkfifo(path)
        self.program: Program = ("head", "-c1", str(path))
        self._pipe = os.open(path, os.O_RDWR)  # with a reader of our own, nobody's open blocks

    def let_go(self, count: int) -> None:
        """Let as many programs end."""
        os.write(self._pipe, b"." * count)

    def close(self) -> None:
        """Let all that wait end."""
        os.close(self._pipe)
