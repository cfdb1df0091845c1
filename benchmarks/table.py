"""Measurements as one aligned table."""

import os
import platform
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.measured import record
from launcher.system.text_table import columns


@dataclass(frozen=True, kw_only=True)
class Row:
    """One measurement: ours, those of others in the same run, and the target."""

    what: str
    ours: float
    peers: Mapping[str, float] = field(default_factory=dict)
    beside: str = ""  # the peer whose figure ours is divided by
    goal: float | None = None  # ours is divided by it if there is no such peer
    target: str = ""
    as_ratio: bool = False  # benchmarks/RESULTS.md has the multiple instead of ours

    def recorded(self) -> tuple[str, str]:
        """Return value and reference for benchmarks/RESULTS.md."""
        if self.as_ratio:
            return number(self.ours / self.peers[self.beside]), ""
        peers = (f"{peer} {number(value)}" for peer, value in self.peers.items())
        return number(self.ours), "; ".join(peers)

    def ratio(self) -> str:
        """Return ours as a multiple of the peer's figure, or of the target."""
        if self.goal is not None:
            return f"{number(self.ours / self.goal)} × target"
        there = self.peers.get(self.beside)
        return "–" if there is None else f"{number(self.ours / there)} × {self.beside}"


def number(value: float) -> str:
    """Return a number with three digits that matter."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def draw(rows: Sequence[Row]) -> str:
    """Return the table, with a column for each peer that took part in any row."""
    names = list(dict.fromkeys(name for row in rows for name in row.peers))
    cells = [["", "ours", *names, "ratio", "target"]]
    for row in rows:
        others = [number(row.peers[name]) if name in row.peers else "" for name in names]
        cells.append([row.what, number(row.ours), *others, row.ratio(), row.target])
    return "\n".join(columns(cells, right=frozenset(range(1, 2 + len(names)))))


def publish(rows: Sequence[Row], name: str) -> None:
    """Print the table; with RECORD=1 in the environment, also write it for benchmarks/RESULTS.md.

    Args:
        rows: all measurements.
        name: of the file in benchmarks/results.
    """
    print(draw(rows))
    record(name, {row.what: row.recorded() for row in rows})


def machine() -> str:
    """Return what the figures depend on."""
    return (
        f"{len(os.sched_getaffinity(0))} cores, {platform.machine()}, Linux {platform.release()}, "
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}"
    )
