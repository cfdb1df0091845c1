"""Input of a part: the device, the sizes, a folder, the time left, and the file for its rows."""

import json
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.gpu.report import Row, Value

ROOT = Path(__file__).parents[2]
GIB = 1 << 30
ROWS, VERDICT = "rows.jsonl", "verdict.json"


class NotMeasured(Exception):
    """A part cannot be measured here; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """The surroundings of a part; passed to its process as JSON."""

    folder: str  # scratch, for this part alone
    until: float  # when the part has to end, by the monotonic clock, which all processes share
    device: str = "cuda:0"
    rehearsal: bool = False  # on the CPU with tiny sizes and a simulated driver
    shared: str = ""  # the folder with photographs and CIFAR images; empty: there is none
    standin: str = ""  # a simulated driver's library, for the rehearsal
    provoke_xid: bool = False

    @property
    def path(self) -> Path:
        """The folder for this part's files."""
        return Path(self.folder)

    @property
    def cores(self) -> int:
        """Cores that this process may use."""
        return len(os.sched_getaffinity(0))

    @property
    def left_s(self) -> float:
        """Seconds until the part has to end."""
        return self.until - time.monotonic()

    def size(self, real: int, rehearsed: int) -> int:
        """Return a size: the real one, or a tiny one in a rehearsal."""
        return rehearsed if self.rehearsal else real

    def row(
        self,
        what: str,
        measured: Value,
        unit: str = "",
        *,
        holds: bool | None = None,
        note: str = "",
        **beside: Value,
    ) -> None:
        """Write a row down at once, so that it is kept whatever becomes of this process."""
        row = Row(what=what, measured=measured, unit=unit, beside=beside, holds=holds, note=note)
        with (self.path / ROWS).open("a", encoding="utf-8") as file:
            file.write(f"{json.dumps(asdict(row))}\n")

    def data(self, name: str) -> Path | None:
        """Return a folder of the shared data; None where it is absent."""
        if not self.shared:
            return None
        folder = Path(self.shared) / "data" / name
        return folder if folder.is_dir() else None

    def record(self) -> str:
        """Return the bench for a child's command line."""
        return json.dumps(asdict(self))

    @classmethod
    def of(cls, record: str) -> "Bench":
        """Return the bench that `record` wrote."""
        values: Mapping[str, Any] = json.loads(record)
        return cls(**values)

    def for_part(self, name: str, limit_s: float) -> "Bench":
        """Return the bench of one part, with a new folder."""
        folder = self.path / name
        folder.mkdir()
        return replace(self, folder=str(folder), until=min(self.until, time.monotonic() + limit_s))


def rows_in(folder: Path) -> list[Row]:
    """Return what a part has written down so far; a line that was cut off is left out."""
    rows = []
    file = folder / ROWS
    for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else ():
        try:
            rows.append(Row.of(json.loads(line)))
        except ValueError:
            continue
    return rows
