"""Copies of the queue's database that lie beside it: backups, and those that were found damaged."""

import contextlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from launcher.paths import Home
from launcher.store.backups import backups


@dataclass(frozen=True, slots=True, kw_only=True)
class Copies:
    """Copies that are old enough to go, and what stays all the same."""

    old: tuple[Path, ...]
    newest: Path | None = None  # the backup to which a damaged queue would go back; it stays
    undecided: Path | None = None  # the damaged database of which its owner has still to decide

    @property
    def size(self) -> int:
        """How many bytes go with them."""
        return sum(map(_size, self.old))


def copies_before(home: Home, at: float) -> Copies:
    """Return which copies were made before a time, in seconds since 1970."""
    saved = backups(home.backups)
    damaged = sorted(home.damaged.iterdir()) if home.damaged.is_dir() else []
    undecided = damaged[-1] if damaged and home.damage_record.exists() else None
    newest = saved[-1] if saved else None
    candidates = [path for path in (*saved, *damaged) if path not in {newest, undecided}]
    return Copies(
        old=tuple(path for path in candidates if path.lstat().st_mtime < at),
        newest=newest if newest is not None and newest.stat().st_mtime < at else None,
        undecided=undecided if undecided is not None and undecided.stat().st_mtime < at else None,
    )


def delete_copies(copies: Sequence[Path]) -> list[tuple[Path, str]]:
    """Delete copies; return those that are left, and why."""
    left = []
    for copy in copies:
        try:
            if copy.is_dir() and not copy.is_symlink():
                shutil.rmtree(copy)
            else:
                copy.unlink()
        except FileNotFoundError:
            continue  # somebody else was quicker
        except OSError as error:
            left.append((copy, error.strerror or str(error)))
    return left


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    total = 0
    for file in files:
        with contextlib.suppress(OSError):
            total += file.lstat().st_size
    return total
