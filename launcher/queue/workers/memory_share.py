"""GPU memory limit of an attempt, and the memory usage that its worker reports.

Both are small files in the folder of the attempt. Each has one writer and is replaced as a whole. Neither is synced to
disk: after a crash they are not needed, and a worker must not wait for a disk.

    share.json (scheduler): `{"schema": 1, "cap": bytes or null, "context": bytes}`
    memory.json (worker): `{"schema": 1, "at", "reserved", "peak", "context": bytes or null, "uuid",
        "cards": {uuid: bytes} of a job on several}`
"""

import contextlib
import math
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from launcher.queue.home.paths import Attempt
from launcher.system.files import Json, read_json, write_json

REFRESH_EVERY_S = 0.5  # seconds; another job may start on the GPU this soon
REPORT_EVERY_S = 1.0  # seconds; the scheduler does not poll the driver more often
LONGEST_NAME = 100  # characters of a GPU name
DEFAULT_CONTEXT_BYTES = 512 << 20  # GPU memory of a CUDA context, if it is not measured yet


class VramLimit(NamedTuple):
    """The limit of GPU memory in bytes that a job may allocate."""

    cap: int | None = (
        None  # bytes, context included; None if the job is alone on the GPU and not limited
    )
    context: int = 0  # bytes of the share that the CUDA context uses, outside the allocator

    @property
    def allocator(self) -> int | None:
        """Bytes that the allocator of the job may reserve; None if not limited."""
        return None if self.cap is None else max(0, self.cap - self.context)


class MemoryReport(NamedTuple):
    """Memory usage of a worker on its GPU, in bytes, as it reports it."""

    at: float  # seconds since 1970
    reserved: int  # bytes reserved by the allocator of the process
    peak: int  # peak of `reserved`
    context: int | None = None  # used by the CUDA context; None if unknown
    uuid: str | None = None  # UUID that CUDA reports for the GPU
    # bytes that each allocator reserved, by UUID, if the job has a process on each of several GPUs;
    # `reserved` and `peak` are then the maximum over the GPUs
    cards: Mapping[str, int] = {}

    @property
    def used_bytes(self) -> int:
        """Bytes used on the GPU, CUDA context included."""
        return self.reserved + (DEFAULT_CONTEXT_BYTES if self.context is None else self.context)

    @property
    def peak_bytes(self) -> int:
        """Peak of the bytes used on the GPU, CUDA context included."""
        return self.peak + (DEFAULT_CONTEXT_BYTES if self.context is None else self.context)


class Share:
    """The limit of a worker's GPU memory, and the place where it reports its usage.

    Without a folder, for example in a test or a notebook, nothing is limited and nothing is written.
    """

    def __init__(
        self, folder: Path | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Read and write in the folder of an attempt, at most a few times per second."""
        self._attempt = None if folder is None else Attempt(folder)
        self._clock = clock
        self._vram_limit = VramLimit()
        self._file_version: tuple[int, int, int] | None = None
        self._refresh_at = self._report_at = -math.inf

    def vram_limit(self) -> VramLimit:
        """Return the current limit of the job. An unreadable file does not change it."""
        now = self._clock()
        if self._attempt is not None and now >= self._refresh_at:
            self._refresh_at = now + REFRESH_EVERY_S
            self._refresh(self._attempt)
        return self._vram_limit

    def cap(self) -> int | None:
        """Return the GPU memory limit of the job in bytes, context included; None if not limited."""
        return self.vram_limit().cap

    def report(
        self,
        *,
        reserved_bytes: int,
        peak: int,
        context: int | None = None,
        uuid: str | None = None,
        cards: Mapping[str, int] | None = None,
        last: bool = False,
    ) -> None:
        """Report the memory usage of the job. A report too soon after the previous one is skipped.

        Args:
            reserved_bytes: Bytes reserved by its allocator.
            peak: Peak of `reserved_bytes`.
            context: Bytes used by the CUDA context, if known.
            uuid: UUID of the GPU.
            cards: Bytes reserved on each GPU by UUID, for a job on several GPUs. `reserved_bytes` and `peak` are then
                the maximum over the GPUs.
            last: Report in any case, because this is the final report.
        """
        now = self._clock()
        if self._attempt is None or (now < self._report_at and not last):
            return
        self._report_at = now + REPORT_EVERY_S
        report = MemoryReport(
            at=time.time(),
            reserved=reserved_bytes,
            peak=peak,
            context=context,
            uuid=uuid,
            cards=dict(cards or {}),
        )
        with contextlib.suppress(OSError):  # a full disk must not end a training
            _replace(self._attempt.memory, report._asdict())

    def _refresh(self, attempt: Attempt) -> None:
        try:
            status = os.stat(attempt.share)  # noqa: PTH116  # twice per second; a Path doubles the cost
        except OSError:
            return
        seen = (status.st_mtime_ns, status.st_ino, status.st_size)
        if seen != self._file_version:
            self._file_version = seen
            self._vram_limit = read_share(attempt) or self._vram_limit


def write_share(attempt: Attempt, *, cap: int | None, context: int) -> None:
    """Write the GPU memory limit of an attempt. Its worker applies it within seconds.

    Args:
        attempt: The attempt.
        cap: Bytes, context included; None for no limit.
        context: Bytes of it that the CUDA context uses.

    Raises:
        OSError: The folder is gone, or the disk is full. The worker keeps its previous limit.
    """
    _replace(attempt.share, {"cap": cap, "context": context})


def read_share(attempt: Attempt) -> VramLimit | None:
    """Return the GPU memory limit of an attempt, or None if its file is missing or unreadable."""
    record = _record(attempt.share)
    cap, context = _bytes(record.get("cap")), _bytes(record.get("context"))
    if context is None or (cap is None and record.get("cap", "") is not None):
        return None
    return VramLimit(cap=cap, context=context)


def read_report(attempt: Attempt) -> MemoryReport | None:
    """Return the last memory report of a worker, or None if its file is missing or unreadable."""
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
