"""A measurement of a workload as a row of the table and as JSON."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.table import number
from launcher.system.text_table import columns

SCHEMA = 1
HEADER = (
    "workload", "seconds", "compared with", "", "ratio", "target", "holds", "busy s", "held s",
    "OOM", "most", "remarks",
)  # fmt: skip
CORE = "one core"  # CPU time is compared with it
RIGHT = frozenset({1, 2, 4, 7, 8, 9, 10})


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The largest value that is wanted."""

    most: float
    in_seconds: bool = False  # limit of the seconds; otherwise of the ratio

    def __str__(self) -> str:
        return f"≤ {self.most:g} s" if self.in_seconds else f"≤ {self.most:g} ×"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One row of the table."""

    workload: str
    seconds: float | None  # None: the timed event never happened
    base_s: float | None = None  # the seconds are compared with it
    base: str = ""  # the name of that, such as "14 at a time"
    target: Target | None = None
    busy_s: float | None = None  # card seconds of load
    held_s: float | None = None  # card seconds in which memory was held
    out_of_memory: int = 0  # programs that ended so
    most: int = 0  # programs of one card at the same time
    faults: Sequence[str] = ()  # other requirements that are not met
    remarks: Sequence[str] = ()

    @property
    def ratio(self) -> float | None:
        """The seconds as a multiple of `base_s`."""
        return self.seconds / self.base_s if self.seconds is not None and self.base_s else None

    @property
    def holds(self) -> bool:
        """Whether the target is met and nothing else is wrong."""
        if self.faults or self.seconds is None:
            return False
        if self.target is None:
            return True
        value = self.seconds if self.target.in_seconds else self.ratio
        return value is not None and value <= self.target.most

    def cells(self) -> list[str]:
        """Return the row of the table."""
        return [
            self.workload,
            _text(self.seconds),
            _text(self.base_s),
            self.base,
            "–" if self.ratio is None else f"{self.ratio:.2f}",
            str(self.target or "–"),
            "yes" if self.holds else "no",
            _text(self.busy_s),
            _text(self.held_s),
            str(self.out_of_memory),
            str(self.most),
            "; ".join([*self.faults, *self.remarks]),
        ]

    def recorded(self) -> tuple[str, str]:
        """Return value and reference for benchmarks/RESULTS.md; of CPU time the percentage of a core."""
        if self.base == CORE and self.ratio is not None:
            return number(100 * self.ratio), ""
        reference = f"{self.base} {_text(self.base_s)}" if self.base else ""
        return _text(self.seconds), reference

    def record(self) -> dict[str, Any]:
        """Return the row for JSON."""
        return asdict(self) | {"ratio": self.ratio, "holds": self.holds}


def draw(results: Sequence[Result]) -> str:
    """Return the table."""
    return "\n".join(columns([HEADER, *(result.cells() for result in results)], right=RIGHT))


def _text(seconds: float | None) -> str:
    return "–" if seconds is None else number(seconds)
