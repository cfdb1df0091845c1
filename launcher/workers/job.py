"""A job as its worker gets it: what to do, with what, and where to leave it.

With it the VRAM limit of its attempt, and what its worker reports of its memory: two small files in the
attempt's folder, each with one writer, each replaced as a whole. Neither is synced to disk: after a crash they
are not needed, and a worker must not wait for a disk.

share.json    scheduler  {"schema": 1, "cap": bytes or null, "context": bytes}
memory.json   worker     {"schema": 1, "at", "reserved", "peak", "context": bytes or null, "uuid",
                          "cards": {uuid: bytes} of a job on several}
"""

import contextlib
import errno
import math
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from launcher.draft import absolute_path, model_folder
from launcher.errors import JobError
from launcher.ids import Words, model_folder_name
from launcher.system.files import ABSENT, Json, read_json, when_there_is_room, write_json
from launcher.system.paths import Attempt

LOOK_EVERY_S = 0.5  # a neighbour may be there so soon
REPORT_EVERY_S = 1.0  # the scheduler asks the driver no oftener
LONGEST_NAME = 100  # of a device
CONTEXT = 512 << 20  # bytes that CUDA takes of a GPU for a process, where that is not measured yet


class VramLimit(NamedTuple):
    """How much of its card a job may take."""

    cap: int | None = None  # bytes, all that is its own; None: it is alone there, without a cap
    context: int = 0  # bytes of it that CUDA takes for itself, beside every allocator

    @property
    def allocator(self) -> int | None:
        """What the job's allocator may take; None: as much as it gets."""
        return None if self.cap is None else max(0, self.cap - self.context)


class Report(NamedTuple):
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
    def used(self) -> int:
        """What it takes of its card, CUDA's part included."""
        return self.reserved + (CONTEXT if self.context is None else self.context)

    @property
    def most(self) -> int:
        """What it took of its card at most, likewise."""
        return self.peak + (CONTEXT if self.context is None else self.context)


class Share:
    """A worker's side: what it may take, and where it tells what it takes.

    Without a folder, as in a test or a notebook, nothing is limited and nothing is written.
    """

    def __init__(
        self, folder: Path | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Look and write into an attempt's folder, at most a few times a second."""
        self._attempt = None if folder is None else Attempt(folder)
        self._clock = clock
        self._vram_limit = VramLimit()
        self._seen: tuple[int, int, int] | None = None
        self._look_at = self._report_at = -math.inf

    def vram_limit(self) -> VramLimit:
        """Return what the job may take now; what cannot be read changes nothing."""
        now = self._clock()
        if self._attempt is not None and now >= self._look_at:
            self._look_at = now + LOOK_EVERY_S
            self._look(self._attempt)
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
        report = Report(
            at=time.time(),
            reserved=reserved,
            peak=peak,
            context=context,
            uuid=uuid,
            cards=dict(cards or {}),
        )
        with contextlib.suppress(OSError):  # a full disk is no reason to end a training
            _replace(self._attempt.memory, report._asdict())

    def _look(self, attempt: Attempt) -> None:
        try:
            status = os.stat(attempt.share)  # noqa: PTH116  # twice a second; a Path costs as much again
        except OSError:
            return
        seen = (status.st_mtime_ns, status.st_ino, status.st_size)
        if seen != self._seen:
            self._seen = seen
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


def read_report(attempt: Attempt) -> Report | None:
    """Return a worker's last report of its memory, or None where there is none that can be read."""
    record = _record(attempt.memory)
    at, uuid = record.get("at"), record.get("uuid")
    reserved, peak = _bytes(record.get("reserved")), _bytes(record.get("peak"))
    if not isinstance(at, float) or not math.isfinite(at) or reserved is None or peak is None:
        return None
    cards = record.get("cards")
    of_cards = cards if isinstance(cards, dict) else {}
    return Report(
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job as its entry function gets it, inside the worker."""

    name: str
    kind: str
    run: str
    run_folder: Path  # of what was accepted: to be read; see `model_folder`
    folder: Path
    attempt_folder: Path  # scratch space and records of this attempt
    attempt: int  # 1, 2, …
    device: str  # "cpu" or "cuda:0"; the card was chosen by CUDA_VISIBLE_DEVICES
    cpus: int  # how many cores are ours
    gpus: int = 1  # how many cards are ours, cuda:0 and on; only meant where `device` is one
    model: str | None = None
    base: str | None = None
    data: str | None = None
    images: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    words: Words = field(default_factory=Words)
    outputs: tuple[Path, ...] = ()  # what it must leave, absolute; empty where it was not planned
    progress: Callable[..., None] = lambda *_args, **_metrics: None
    stop: threading.Event = field(default_factory=threading.Event)
    share: Share = field(default_factory=Share)  # of its card; by default all of it, unreported
    own_folder: Path | None = None  # where this attempt writes instead of the run's folder
    own: tuple[str, ...] = ()  # names in the run's folder into which this job writes
    root: Path | None = None  # the run's folder as people call it; None: `run_folder` is that

    def path(self, text: str) -> Path:
        """Return a path of the settings as an absolute one, without following links."""
        return absolute_path(self.folder, text)

    def model_folder(self, model: str) -> Path:
        """Return where a model of this run lives.

        In the queue, the folder of the job's own model and `outputs` are those of its attempt. What it
        writes there is moved into the run's folder when the job is done, and only then: an attempt
        that was given up changes nothing there, also where a process of it wakes later. Files are to
        be written under a temporary name and renamed (`write_atomic` does so), never in place.

        What is written below `run_folder` is there at once: for what many jobs share, under names made
        of its content. An attempt that was given up can write nothing there any more.
        """
        if self.own_folder is not None and model_folder_name(model) in self.own:
            return model_folder(self.own_folder, model)
        return model_folder(self.root or self.run_folder, model)

    def check(self) -> None:
        """Refuse to go on where this attempt was given up: before a job changes what lies elsewhere.

        What lies in its run needs no such check. `progress` makes it, too.

        Raises:
            JobError: it was.
        """
        if self.own_folder is not None:
            refuse_given_up(self.run_folder, Attempt(self.attempt_folder), self.stop)


def refuse_given_up(view: Path, attempt: Attempt, stop: threading.Event) -> None:
    """Refuse to go on where an attempt's way into its run's folder is gone; see `Job.check`.

    While the file system of the attempt is away nothing is known, and the job waits.

    Args:
        view: that way.
        attempt: whose it is.
        stop: ends the wait.

    Raises:
        JobError: it is. Where a disk does not answer nothing is known, and the job goes on.
    """

    def look() -> None:
        if attempt.is_away():  # what is seen at its place is not the view
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), os.fspath(view))
        view.stat()

    try:
        when_there_is_room(look, is_away=attempt.is_away, over=stop.is_set, passing=())
    except OSError as error:
        if error.errno not in ABSENT:
            return
        raise JobError(
            f"{view} leads nowhere any more: this attempt was given up, or its run's folder was deleted; "
            "it writes nothing more, and another attempt may run in its place"
        ) from error


Entry = Callable[[Job], Mapping[str, Json]]
