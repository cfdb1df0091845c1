"""What an attempt may take of its card, and what its worker reports of its memory.

Two small files in the attempt's folder, each with one writer, each replaced as a whole. Neither is synced to
disk: after a crash they are not needed, and a worker must not wait for a disk.

share.json    scheduler  {"schema": 1, "cap": bytes or null, "context": bytes}
memory.json   worker     {"schema": 1, "at", "reserved", "peak", "context": bytes or null, "uuid",
                          "cards": {uuid: bytes} of a job on several}
"""

import contextlib
import math
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from launcher.system.files import Json, read_json, write_json
from launcher.system.paths import Attempt

REFRESH_EVERY_S = 0.5  # a neighbour may be there so soon
REPORT_EVERY_S = 1.0  # the scheduler asks the driver no oftener
LONGEST_NAME = 100  # of a device
DEFAULT_CONTEXT_BYTES = (
    512 << 20
)  # bytes that CUDA takes of a GPU for a process, where that is not measured yet


class VramLimit(NamedTuple):
    """The fraction of GPU memory that a job may allocate."""

    cap: int | None = None  # bytes, all that is its own; None: it is alone there, without a cap
    context: int = 0  # bytes of it that CUDA takes for itself, beside every allocator

    @property
    def allocator(self) -> int | None:
        """What the job's allocator may take; None: as much as it gets."""
        return None if self.cap is None else max(0, self.cap - self.context)


class MemoryReport(NamedTuple):
    """What a worker says of its own memory on its card, in bytes."""

    at: float  # seconds since 1970
    reserved: int  # by its allocator
    peak: int  # the most that it ever reserved
    context: int | None = None  # what CUDA takes beside it; None: it cannot tell
    uuid: str | None = None  # of the card, as CUDA says it
    # of a job with a process on each of several cards: what each allocator reserved, by UUID;
    # `reserved` and `peak` are then the most on one card
    cards: Mapping[str, int] = {}

    @property
    def used_bytes(self) -> int:
        """What it takes of its card, CUDA's part included."""
        return self.reserved + (DEFAULT_CONTEXT_BYTES if self.context is None else self.context)

    @property
    def peak_bytes(self) -> int:
        """What it took of its card at most, likewise."""
        return self.peak + (DEFAULT_CONTEXT_BYTES if self.context is None else self.context)


class Share:
    """The limit of a worker's GPU memory, and the place where it reports its usage.

    Without a folder, as in a test or a notebook, nothing is limited and nothing is written.
    """

    def __init__(
        self, folder: Path | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Look and write into an attempt's folder, at most a few times a second."""
        self._attempt = None if folder is None else Attempt(folder)
        self._clock = clock
        self._vram_limit = VramLimit()
        self._file_version: tuple[int, int, int] | None = None
        self._refresh_at = self._report_at = -math.inf

    def vram_limit(self) -> VramLimit:
        """Return what the job may take now; what cannot be read changes nothing."""
        now = self._clock()
        if self._attempt is not None and now >= self._refresh_at:
            self._refresh_at = now + REFRESH_EVERY_S
            self._refresh(self._attempt)
        return self._vram_limit

    def portion(self) -> VramLimit:
        """Return `vram_limit()`, by its name in 0.2."""
        return self.vram_limit()

    def cap(self) -> int | None:
        """Return how many bytes of its card are the job's, context included; None: no cap."""
        return self.vram_limit().cap

    def report(
        self,
        *,
        reserved: int,
        peak: int,
        context: int | None = None,
        uuid: str | None = None,
        cards: Mapping[str, int] | None = None,
        last: bool = False,
    ) -> None:
        """Report what the job takes; a report too soon after the last one is left out.

        Args:
            reserved: bytes that its allocator has.
            peak: the most that it ever had.
            context: bytes that CUDA takes beside it, where that is known.
            uuid: of the card.
            cards: of a job on several, what it has of each, by UUID; `reserved` and `peak` are then
                the most on one card.
            last: tell it in any case: nothing comes after it.
        """
        now = self._clock()
        if self._attempt is None or (now < self._report_at and not last):
            return
        self._report_at = now + REPORT_EVERY_S
        report = MemoryReport(
            at=time.time(),
            reserved=reserved,
            peak=peak,
            context=context,
            uuid=uuid,
            cards=dict(cards or {}),
        )
        with contextlib.suppress(OSError):  # a full disk is no reason to end a training
            _replace(self._attempt.memory, report._asdict())

    def _refresh(self, attempt: Attempt) -> None:
        try:
            status = os.stat(attempt.share)  # noqa: PTH116  # twice a second; a Path costs as much again
        except OSError:
            return
        seen = (status.st_mtime_ns, status.st_ino, status.st_size)
        if seen != self._file_version:
            self._file_version = seen
            self._vram_limit = read_share(attempt) or self._vram_limit


def write_share(attempt: Attempt, *, cap: int | None, context: int) -> None:
    """Tell an attempt's worker how much of its card it may take; it obeys within seconds.

    Args:
        attempt: whose.
        cap: bytes, context included; None: as much as it gets.
        context: bytes of it that CUDA takes for itself.

    Raises:
        OSError: the folder is gone, or the disk is full; the worker goes on with what it knows.
    """
    _replace(attempt.share, {"cap": cap, "context": context})


def read_share(attempt: Attempt) -> VramLimit | None:
    """Return what an attempt may take, or None where that was never written or cannot be read."""
    record = _record(attempt.share)
    cap, context = _bytes(record.get("cap")), _bytes(record.get("context"))
    if context is None or (cap is None and record.get("cap", "") is not None):
        return None
    return VramLimit(cap=cap, context=context)


def read_report(attempt: Attempt) -> MemoryReport | None:
    """Return a worker's last report of its memory, or None where there is none that can be read."""
    record = _record(attempt.memory)
    at, uuid = record.get("at"), record.get("uuid")
    reserved, peak = _bytes(record.get("reserved")), _bytes(record.get("peak"))
    if not isinstance(at, float) or not math.isfinite(at) or reserved is None or peak is None:
        return None
    cards = record.get("cards")
    of_cards = cards if isinstance(cards, dict) else {}
    return MemoryReport(
        at=at,
        reserved=reserved,
        peak=max(peak, reserved),
        context=_bytes(record.get("context")),
        uuid=str(uuid) if _is_name(uuid) else None,
        cards={
            name: amount
            for name, value in of_cards.items()
            if _is_name(name) and (amount := _bytes(value)) is not None
        },
    )


def _is_name(value: Json) -> bool:
    return isinstance(value, str) and 0 < len(value) <= LONGEST_NAME and value.isprintable()


def _record(path: Path) -> Mapping[str, Json]:
    try:
        record = read_json(path) or {}
    except OSError:  # a job may leave anything under that name
        return {}
    return record if record.get("schema") == 1 else {}


def _bytes(value: Json) -> int | None:
    whole = isinstance(value, int) and not isinstance(value, bool)
    return value if whole and 0 <= value < 1 << 60 else None  # type: ignore[operator,return-value]  # whole


def _replace(path: Path, record: Mapping[str, Json]) -> None:
    write_json(path, {"schema": 1, **record}, mode=0o600, durable=False)
