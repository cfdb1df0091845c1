"""The GPUs of a machine that exists on the command line only: `8x24GiB`, `2x80GiB+6x24GiB`."""

import re
from dataclasses import dataclass

from launcher.errors import UsageError
from launcher.gpu.snapshot import GpuSnapshot
from launcher.units import format_bytes, parse_bytes

MOST_GPUS = 10_000  # more is a slip
LARGEST_BYTES = 16 * 1024**4  # a larger card is a slip, too
_PART = re.compile(r"\s*([0-9]{1,6})\s*[x×*]\s*(\S.*?)\s*")
_LIKE = "expected GPUs such as 8x24GiB or 2x80GiB+6x24GiB"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """The GPUs of a machine, each by its place."""

    totals: tuple[int, ...]  # bytes of memory
    baseline: int = 0  # bytes that are in use on each of them when no job runs
    reserve: int = 0  # bytes of each that are left to others

    def __str__(self) -> str:
        runs: list[tuple[int, int]] = []
        for total in self.totals:
            if runs and runs[-1][1] == total:
                runs[-1] = (runs[-1][0] + 1, total)
            else:
                runs.append((1, total))
        return "+".join(
            f"{number}x{format_bytes(total).replace(' ', '')}" for number, total in runs
        )

    def holding(self, vram: int) -> int:
        """Return how many of the GPUs have so much memory for jobs."""
        return sum(total >= vram for total in self.room)

    @property
    def room(self) -> tuple[int, ...]:
        """How many bytes of each GPU jobs can have."""
        return tuple(max(0, total - self.baseline - self.reserve) for total in self.totals)

    def snapshots(self) -> tuple[GpuSnapshot, ...]:
        """Return the GPUs as a driver would report them: no job runs on them."""
        return tuple(
            GpuSnapshot(
                uuid=f"GPU-{at}", index=at, name="simulated", total=total, used=self.baseline
            )
            for at, total in enumerate(self.totals)
        )


def read_fleet(text: str) -> Fleet:
    """Read what a person writes for the GPUs of a machine.

    Raises:
        UsageError: it is something else, names no GPU, or more than there can be.
    """
    totals: list[int] = []
    for part in text.split("+"):
        match = _PART.fullmatch(part)
        if match is None:
            raise UsageError(f"{_LIKE}, got {text!r}")
        number, size = int(match[1]), parse_bytes(match[2])
        if not number or not size:
            raise UsageError(f"{part.strip()!r} is no GPU at all: {_LIKE}")
        if size > LARGEST_BYTES:
            raise UsageError(f"no GPU has {format_bytes(size)}: {_LIKE}")
        if len(totals) + number > MOST_GPUS:
            raise UsageError(f"at most {MOST_GPUS:,} GPUs can be simulated, got {text!r}")
        totals += [size] * number
    return Fleet(totals=tuple(totals))
