"""A double of a network file system: two folders that show each other's files late, as two clients of NFS may.

A new name is visible on the other side only after a delay, because names and their absence are cached. Any part of
appended bytes may be visible first. A file that was written before its renaming is visible completely. Each file has
one writer, and the other side never writes it.
"""

import contextlib
import os
import random
import threading
import time
from pathlib import Path
from typing import Self

PAUSE_S = 0.005
GROWING = {"to", "from", "log", "progress.jsonl"}
# of nodes
THEIRS = {"from", "taken", "started", "log", "result.json", "progress.jsonl", "memory.json"}


class LateFiles:
    """Keeps two folders alike, late, until it is left."""

    def __init__(self, here: Path, there: Path, names_s: float, at_once: int = 0) -> None:
        """Make both folders.

        Args:
            here: as the scheduler sees it.
            there: as the node sees it.
            names_s: seconds that a new name is hidden from the other side.
            at_once: depth up to which names are visible at once. A client requests an unknown name from its server.
        """
        self._here, self._there, self._names_s = here, there, names_s
        self._at_once = at_once
        self._since: dict[Path, float] = {}
        self._random = random.Random(23)
        self._leave = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        here.mkdir(parents=True)
        there.mkdir(parents=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._leave.set()
        self._thread.join()

    def _serve(self) -> None:
        while not self._leave.wait(PAUSE_S):
            self._show(self._here, self._there, theirs=False)
            self._show(self._there, self._here, theirs=True)

    def _show(self, source: Path, target: Path, *, theirs: bool) -> None:
        for path in sorted(source.rglob("[!.]*")):
            copy = target / path.relative_to(source)
            if os.path.lexists(copy):
                if path.is_file() and (path.name in THEIRS) is theirs:
                    with contextlib.suppress(OSError):
                        self._grow(path, copy)
            elif time.monotonic() >= self._since.setdefault(path, time.monotonic()) + self._late_s(
                path
            ):
                with contextlib.suppress(OSError):
                    _appear(path, copy)

    def _late_s(self, path: Path) -> float:
        root = self._here if path.is_relative_to(self._here) else self._there
        return 0.0 if len(path.relative_to(root).parts) <= self._at_once else self._names_s

    def _grow(self, path: Path, copy: Path) -> None:
        """Show a further part of the appended bytes."""
        there = copy.stat().st_size
        missing = path.stat().st_size - there
        if missing <= 0:
            return
        with path.open("rb") as source, copy.open("ab") as target:
            source.seek(there)
            target.write(source.read(self._random.randint(1, missing)))


def _appear(path: Path, copy: Path) -> None:
    if path.is_symlink():
        copy.symlink_to(path.readlink())
        return
    if path.is_dir():
        copy.mkdir()
        return
    hidden = copy.with_name(f".{copy.name}.late")
    hidden.write_bytes(b"" if path.name in GROWING else path.read_bytes())
    hidden.rename(copy)
