"""The steps from line to line that processes run, each with the test that started the process.

In a copy of the checkout that measures lines, every process of its Python calls `trace` first. Each process, each
fork and each test in pytest's own process gets a file that is mapped into memory. A thread adds new steps to it
every 0.2 s. They outlast SIGKILL and a closed descriptor, and a process needs no environment for it.
"""

import atexit
import contextlib
import json
import mmap
import os
import sys
import time
from _thread import start_new_thread  # such a thread is not counted by `threading`
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

FOLDER = Path(sys.prefix, "measured")  # folder of a copy
TEST, LINES, SOURCES = FOLDER / "test", FOLDER / "lines", FOLDER / "sources.json"
MOST_BYTES = 1 << 20  # size of one file; only written pages take room
SAVE_S = 0.2  # a killed process loses the steps of this time
BITS, FROM_IS_NEGATIVE, TO_IS_NEGATIVE = 28, 1 << 56, 1 << 57  # as coverage packs a step
_sleep = time.sleep  # a test may replace it


class Journal:
    """The steps of this process since it was forked, or since its current test began."""

    def __init__(self, data: Mapping[str, set[int]]) -> None:
        self._data = data  # file → packed steps; more are added while the program runs
        self._part = 0  # number of the present file
        self._saved: dict[str, set[int]] = {}
        self._file: mmap.mmap | None = None
        # their end would close descriptors, which may be others by now
        self._inherited: list[mmap.mmap] = []

    def begin(self, test: str) -> None:
        """Forget the steps so far, and record the next ones for a test."""
        for steps in [*self._data.values()]:
            steps.clear()
        self._saved, self._file = {}, None
        self._part += 1
        with contextlib.suppress(OSError):  # a test of full disks or of few descriptors
            path = LINES / f"{os.getpid()}-{time.monotonic_ns()}-{self._part}"
            with path.open("w+b") as file:
                file.truncate(MOST_BYTES)
                self._file = mmap.mmap(file.fileno(), MOST_BYTES)
            self._write(test)

    def save(self) -> None:
        """Add new steps to the file."""
        for name, steps in [*self._data.items()]:
            new = {*steps} - self._saved.setdefault(name, set())
            if new:
                self._write([name, sorted(new)])
                self._saved[name] |= new

    def begin_process(self) -> None:
        """Record this process for the test that runs now."""
        if self._file is not None:
            self._inherited.append(self._file)
        self.begin(TEST.read_text(encoding="utf-8") if TEST.exists() else "")
        start_new_thread(self._save_often, (self._part,))

    def _save_often(self, part: int) -> None:
        while part == self._part:  # pytest's own process saves after each test
            self.save()
            _sleep(SAVE_S)

    def _write(self, value: object) -> None:
        if self._file is not None:
            with contextlib.suppress(ValueError):  # it is full
                self._file.write(json.dumps(value).encode() + b"\n")


JOURNALS: list[Journal] = []  # one, if this process is traced


def trace() -> None:
    """Record the steps of this process and of its forks until it ends, becomes another one, or is killed."""
    import coverage  # only in a copy that measures lines

    tracer = coverage.Coverage(
        data_file=None,
        source_dirs=json.loads(SOURCES.read_text()),
        config_file=False,
        branch=True,
    )
    tracer.set_option("run:core", "ctrace")  # its sets of steps may be cleared at any time
    tracer.start()
    collector = tracer._collector  # the official way to read deletes steps that are added meanwhile
    assert collector is not None
    journal = Journal(cast("Mapping[str, set[int]]", collector.data))
    journal.begin_process()
    JOURNALS.append(journal)
    os.register_at_fork(after_in_child=journal.begin_process)
    atexit.register(journal.save)
    for name in ("_exit", "execv", "execve"):
        setattr(os, name, _call_after(journal.save, getattr(os, name)))


def _call_after(save: Callable[[], None], function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*words: Any, **options: Any) -> Any:
        save()
        return function(*words, **options)

    return call


def read_steps(folder: Path) -> dict[str, dict[str, set[tuple[int, int]]]]:
    """Return test → file → steps from line to line, from the files of all processes.

    The first step of a function comes from, and the last one goes to, a negative number, as in coverage's arcs.
    """
    found: dict[str, dict[str, set[tuple[int, int]]]] = {}
    for path in folder.iterdir():
        with path.open("rb") as file:
            whole = file.read().partition(b"\0")[0].split(b"\n")[:-1]  # the last is torn, or empty
        if whole:
            files = found.setdefault(json.loads(whole[0]), {})
            for name, packed in map(json.loads, whole[1:]):
                files.setdefault(name, set()).update(map(_unpack, packed))
    return found


def _unpack(packed: int) -> tuple[int, int]:
    ends = (1 << BITS) - 1
    before, after = packed & ends, packed >> BITS & ends
    return (
        -before if packed & FROM_IS_NEGATIVE else before,
        -after if packed & TO_IS_NEGATIVE else after,
    )
