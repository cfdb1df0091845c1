"""What earlier attempts of jobs that are alike used: how much memory and time such a job takes."""

from dataclasses import dataclass

from launcher.errors import counted
from launcher.states import Done, Outcome
from launcher.store.connection import Connection
from launcher.store.rows import Claim
from launcher.units import format_bytes

NEWEST = 8  # attempts of a signature that are remembered: a newer version of the code may need less
MARGIN = 0.05  # on top of what was measured: NVML is asked once a second, a peak may lie between
LEAST_MARGIN = 256 << 20
LONGER = 1.1  # a job is expected to take so many times as long as the longest of those alike


@dataclass(frozen=True, slots=True)
class Usage:
    """What the newest attempts of a signature took."""

    seconds: tuple[float, ...] = ()  # of those that were done
    peaks: tuple[int, ...] = ()  # bytes on one GPU, CUDA's context included, where it was measured
    sm: float | None = None  # mean share of the time in which one of them used its card alone
    slowdown: float | None = None  # mean measured factor beside others; None: never measured

    @property
    def peak(self) -> int | None:
        """The most that one of them took of a GPU's memory, in bytes; None: not measured."""
        return max(self.peaks, default=None)

    @property
    def expected_seconds(self) -> float | None:
        """How long the next one takes at most, as far as one can tell; None: nobody knows.

        The longest counts, not the middle: who is told that a place becomes free at a time must not wait
        longer because of jobs that were let through before.
        """
        return LONGER * max(self.seconds) if self.seconds else None


NO_USAGE = Usage()


def vram_request_of(
    asked: int | None, least: int, usage: Usage, *, exact: bool = True
) -> tuple[int | None, str]:
    """Return what a job is promised on each of its GPUs, in bytes, and on what that rests.

    Args:
        asked: `min_vram`; None: not said, or `auto`.
        least: what it needs at least, as it turned out when it had less; 0: that never happened.
        usage: what jobs like it took.
        exact: those agree with it in all that costs; else what was asked for counts more than the usage.

    Returns:
        None where nobody knows: then it shares its GPUs with none of ours, until that is learned.
    """
    peak = usage.peak
    learned = None if peak is None else peak + max(round(peak * MARGIN), LEAST_MARGIN)
    if asked is not None and (peak is None or asked >= peak or not exact):
        claim, source = asked, "declared"
    elif asked is not None and learned is not None and peak is not None:
        claim, source = learned, f"declared {format_bytes(asked)}, measured {format_bytes(peak)}"
    elif learned is not None:
        claim, source = learned, f"learned from {counted(len(usage.peaks), 'run')}"
    elif least:
        return least, "after it had too little"
    else:
        return None, ""
    return (claim, source) if claim >= least else (least, "after it had too little")


MOST_SIGNATURES = 10_000  # whose usage is kept in memory


class UsageRecords:
    """What attempts used, by the signature of their jobs; of each the newest few."""

    def __init__(self, connection: Connection) -> None:
        """Work over a store's connection."""
        self._db = connection
        self._cached: dict[str, Usage] = {}

    def usage(self, signature: str) -> Usage:
        """Return what the newest attempts of jobs with a signature used."""
        if not signature:
            return NO_USAGE
        if signature not in self._cached:
            if len(self._cached) >= MOST_SIGNATURES:
                self._cached.clear()
            rows = self._db.execute(
                "SELECT seconds, peak FROM lessons WHERE signature = ? ORDER BY id DESC LIMIT ?",
                (signature, NEWEST),
            ).fetchall()
            self._cached[signature] = Usage(
                seconds=tuple(seconds for seconds, _ in rows if seconds is not None),
                peaks=tuple(peak for _, peak in rows if peak is not None),
            )
        return self._cached[signature]

    def record(self, claim: Claim, outcome: Outcome, peak: int | None) -> None:
        """Record what an attempt used on GPUs. Inside `writing`.

        Args:
            claim: the attempt.
            outcome: its end; only one that was done tells how long such a job takes.
            peak: bytes that it took, or wanted, on one GPU at most; None: not measured.
        """
        signature = claim.spec.signature
        done = isinstance(outcome, Done) and bool(claim.gpus)
        if not signature or not (done or peak is not None):
            return
        seconds = max(0.0, outcome.at - claim.claimed) if done else None
        self._db.execute(
            "INSERT INTO lessons (signature, at, seconds, peak) VALUES (?, ?, ?, ?)",
            (signature, outcome.at, seconds, peak),
        )
        self._db.execute(
            "DELETE FROM lessons WHERE signature = ?1 AND id NOT IN"
            " (SELECT id FROM lessons WHERE signature = ?1 ORDER BY id DESC LIMIT ?2)",
            (signature, NEWEST),
        )
        self._cached.pop(signature, None)

    def forget(self) -> None:
        """Read everything anew: a transaction was rolled back."""
        self._cached.clear()
