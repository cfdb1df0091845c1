"""What earlier attempts of jobs that are alike used: how much memory and time such a job takes.

Of what was used, the newest few attempts of each signature are kept; jobs that are alike are judged by it.
"""

import json
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import islice
from math import fsum
from typing import Any, NamedTuple, Protocol

from launcher.job import is_exact, numbers_of
from launcher.states import Done, Failed, Lost, Outcome, OutOfMemory, Stopped
from launcher.store.connection import Connection
from launcher.store.rows import Claim
from launcher.system.executables import program_of

NEWEST = 8  # peaks of a signature that count: a newer version of the code may need less
MARGIN = 0.05  # on top of what was measured: NVML is asked once a second, a peak may lie between
LEAST_MARGIN = 256 << 20
LONGEST_S = 366 * 86_400.0  # what is said to have taken longer was begun before a clock was set
HARDLY = 0.05  # who shared his cards for so much of his time at most counts as alone
MOST_PEAK = 1 << 42  # bytes; no card has more
MOST_SLOWDOWN = 1000.0
MOST_OTHERS = 10_000  # jobs on one card

Numbers = tuple[str, ...]


class Measured(NamedTuple):
    """What was measured of an attempt on GPUs; None: it was not."""

    peak: int | None = None  # bytes that it took, or wanted, on one GPU
    shared_s: float | None = None  # seconds during which it shared a card
    slowdown: float | None = None  # so many times as long it took meanwhile
    others: float = 1.0  # mean number of jobs that it shared the card with meanwhile, at least 1
    sm: float | None = None  # mean use of the multiprocessors while it was alone, 0 to 1
    machine: str = ""  # the card and its driver, see `GpuSnapshot.fingerprint`; '': unknown
    elapsed_s: float | None = None  # how long it ran by a clock that nobody sets, pauses included
    paused_s: float = 0.0  # how long its owner had paused it

    def without(self, paused_s: float) -> "Measured":
        """Return the same of an attempt that was paused: how it shared a card meanwhile says nothing."""
        if not paused_s:
            return self
        return self._replace(paused_s=paused_s, shared_s=None, slowdown=None)


NOT_MEASURED = Measured()


class Run(NamedTuple):
    """What one attempt took of a GPU's memory, with the numbers that its signature leaves out."""

    peak: int
    numbers: Numbers | None = None  # None: not known


class Similar(NamedTuple):
    """What jobs of the same type, or of the same program, took with other settings."""

    peaks: tuple[int, ...] = ()  # bytes on one GPU
    live: tuple[int, ...] = ()  # bytes that those use now that run
    sm: float | None = None  # mean use of the multiprocessors by one of them alone, 0 to 1


NO_SIMILAR = Similar()


class Usage(NamedTuple):
    """What the newest attempts of a signature took, on cards like those of this machine where any did."""

    seconds: tuple[float, ...] = ()  # of those that were done, as if alone; the newest first
    peaks: tuple[int, ...] = ()  # bytes on one GPU, CUDA's context included, where it was measured
    sm: float | None = None  # mean use of the multiprocessors by one of them alone, 0 to 1
    slowdown: float | None = None  # mean factor beside one other job; None: never measured
    alone: tuple[
        float, ...
    ] = ()  # of `seconds`, those of attempts that shared their cards with none
    own: bool = True  # False: the durations are those of its kind, or of all; it never ran itself
    elsewhere: str = ""  # on what else the peaks were measured: "on another GPU (A10)"
    runs: tuple[Run, ...] = ()  # all that are remembered, the oldest first; where numbers matter
    similar: Similar = NO_SIMILAR  # what counts until there are any

    @property
    def expected_sm(self) -> float | None:
        """The use of the multiprocessors to count with until it has been measured; None: unknown."""
        return self.similar.sm if self.sm is None else self.sm

    @property
    def peak(self) -> int | None:
        """The most that one of them took of a GPU's memory, in bytes; None: not measured."""
        return max(self.peaks, default=None)


NO_USAGE = Usage()


class UsageOf(Protocol):
    """Returns what is known of jobs, by their signature, the program that they run, and the card."""

    def __call__(self, signature: str, program: str = "", machine: str = "") -> Usage:
        """Return it; see `UsageRecords.usage`."""


def no_usage(signature: str, program: str = "", machine: str = "") -> Usage:  # noqa: ARG001
    """Return that nothing is known."""
    return NO_USAGE


def margin_of(peak: int) -> int:
    """Return by how much a job may exceed in bytes what its like took."""
    return max(round(peak * MARGIN), LEAST_MARGIN)


class Lesson(NamedTuple):
    """A row of the table with what of it can be true."""

    seconds: float | None = None
    peak: int | None = None
    alone: bool = False  # it is known that it shared its cards with none, or hardly
    slowdown: float | None = None  # factor beside one other job
    sm: float | None = None
    machine: str = ""
    numbers: Numbers | None = None
    program: str = ""  # which one ran; '': a job of a laboratory, or a function
    cut_short: bool = False  # it was stopped early: its peak is less than it needs, and counts for similar jobs alone

    def alike(self, here: Collection[str], part: Callable[[str], str]) -> bool:
        """Tell whether it is of a machine that agrees in a part of its fingerprint with this one."""
        return not self.machine or not here or part(self.machine) in {part(card) for card in here}


def usage_of(lessons: Sequence[Lesson], here: Collection[str], *, exact: bool) -> Usage:
    """Return what lessons, the newest first, say of jobs on this machine.

    What was measured under the same driver on the same card counts alone where there is any; then what
    another driver of the same card says, then other cards.
    """
    lessons = [lesson for lesson in lessons if not lesson.cut_short]
    same_card = [lesson for lesson in lessons if lesson.alike(here, card_of)]
    same = [lesson for lesson in same_card if lesson.alike(here, str)]
    measured = next((those for those in (same, same_card) if _told(those, "peak")), lessons)
    other = next((lesson.machine for lesson in measured if lesson.peak is not None), "")
    elsewhere = ""
    if other and measured is not same:
        elsewhere = (
            f"under another driver ({driver_of(other)})"
            if measured is same_card
            else f"on another GPU ({model_of(other)})"
        )
    timed = same_card if _told(same_card, "seconds") else lessons
    runs = [Run(lesson.peak, lesson.numbers) for lesson in measured if lesson.peak is not None]
    slowdowns = _told(same_card, "slowdown") or _told(lessons, "slowdown")
    return Usage(
        seconds=tuple(_told(timed, "seconds")),
        alone=tuple(_told([lesson for lesson in timed if lesson.alone], "seconds")),
        peaks=tuple(run.peak for run in runs[:NEWEST]),
        sm=_mean(_told(same_card, "sm")[:NEWEST]),
        slowdown=_mean(slowdowns[:NEWEST]),
        elsewhere=elsewhere,
        runs=() if exact else tuple(reversed(runs)),
    )


def _told(lessons: Iterable[Lesson], name: str) -> list[Any]:
    """Return what lessons say of one thing, where they do."""
    return [told for lesson in lessons if (told := getattr(lesson, name)) is not None]


# --- what a row can hold: a database may have been edited, or be damaged


def lesson_of(
    seconds: Any, peak: Any, shared: Any, slowdown: Any, sm: Any, machine: Any, numbers: Any
) -> Lesson:
    """Return what a row of the table tells; what of it cannot be true is not known."""
    record = _command_line(numbers)
    took, factor = within(seconds, 0, LONGEST_S), within(slowdown, 1, MOST_SLOWDOWN)
    beside = within(shared, 0, LONGEST_S)
    alone = took is not None and beside is not None and beside <= HARDLY * took
    if took is not None and factor is not None:
        took -= min(took, took if beside is None else beside) * (1 - 1 / factor)
    return Lesson(
        seconds=took,
        alone=alone,
        peak=peak if isinstance(peak, int) and 0 < peak <= MOST_PEAK else None,
        slowdown=slowdown_per_job(factor, within(record.get("others"), 1, MOST_OTHERS) or 1.0),
        sm=within(sm, 0, 1),
        machine=machine if isinstance(machine, str) else "",
        numbers=_numbers(record.get("numbers")),
        program=program if isinstance(program := record.get("program"), str) else "",
        cut_short=record.get("cut_short") is True,
    )


def slowdown_per_job(slowdown: float | None, others: float) -> float | None:
    """Return the factor by which one other job slows a job down, from the factor of `others` together.

    Each further job multiplies the time, as `launcher.scheduler.policy.co_location.rates` expects.
    """
    return None if slowdown is None else float(slowdown ** (1 / max(1.0, others)))


def within(value: Any, least: float, most: float) -> float | None:
    """Return a number that can be true; NaN is within nothing."""
    if isinstance(value, int | float) and least <= value <= most:
        return float(value)
    return None


def _command_line(text: Any) -> dict[str, Any]:
    """Return what is on record of a program's command line; older versions stored its numbers alone."""
    try:
        record = json.loads(text)
    except (TypeError, ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {"numbers": record}


def _numbers(listed: object) -> Numbers | None:
    if isinstance(listed, list) and all(isinstance(number, str) for number in listed):
        return tuple(listed)
    return None


# --- parts of a fingerprint, which reads "NVIDIA A10, 24576 MiB, driver 550.54.15"


def card_of(machine: str) -> str:
    """Return the card that a fingerprint names, with its memory."""
    return machine.rpartition(", driver ")[0] or machine


def driver_of(machine: str) -> str:
    """Return the version of the driver, '' where it is not known."""
    return machine.rpartition(", driver ")[2] if ", driver " in machine else ""


def model_of(machine: str) -> str:
    """Return the name of the card, as people call it."""
    return machine.partition(",")[0].removeprefix("NVIDIA ")


def _mean(values: Sequence[float]) -> float | None:
    return fsum(values) / len(values) if values else None


# --- what is on record of them

SIMILAR = 32  # newest similar attempts that count: a program changes in time
KEPT = 64  # attempts of a signature that are remembered, and of a kind
RECENT = 1024  # attempts among which those of a kind are looked for
EARLY_S = 600.0  # what failed or was stopped sooner may not have taken all its memory yet
MOST_SIGNATURES = 10_000  # whose usage is kept in memory
_COLUMNS = "signature, seconds, peak, shared, slowdown, sm, machine, numbers"


def similar_key(signature: str, program: str) -> str:
    """Return by what jobs are similar: their type, or their program.

    Args:
        signature: of a job.
        program: which one it runs; '': none, or a function, of which nothing but its own runs is similar.
    """
    if is_exact(signature):
        return _kind_of(signature)
    return f"{_kind_of(signature)} {program}" if program else signature


def program_by(signature: str, argv: Sequence[str]) -> str:
    """Return the program by which a job is similar to others; '' if its signature tells all that matters.

    Args:
        signature: of the job.
        argv: its command line.
    """
    return "" if is_exact(signature) else program_of(argv)


class UsageRecords:
    """What attempts used, by the signature of their jobs; of each the newest few."""

    def __init__(self, connection: Connection) -> None:
        """Work over a store's connection."""
        self._db = connection
        self._here: frozenset[str] = frozenset()
        self._cached: dict[tuple[str, str], Usage] = {}
        self._groups: dict[str, deque[Lesson]] | None = None  # the newest lessons by similar key
        self._seconds: dict[str, tuple[float, ...]] = {}  # by similar key
        self._similar: dict[tuple[str, str], Similar] = {}  # by similar key and machine

    def know(self, machines: Iterable[str]) -> None:
        """Know which cards and drivers are this machine's; what others taught counts less.

        Args:
            machines: their fingerprints; none: all that was learned counts as learned here.
        """
        here = frozenset(filter(None, machines))
        if here != self._here:
            self._here = here
            self.forget()

    def usage(self, signature: str, program: str = "", machine: str = "") -> Usage:
        """Return what the newest attempts of jobs with a signature used, and what similar ones did.

        Args:
            signature: of a job; if none of its like was done, the durations are those of similar ones.
            program: that the job runs.
            machine: the fingerprint of a card; '': any of this machine's.
        """
        if not signature:
            return NO_USAGE
        key = (signature, machine)
        if key not in self._cached:
            if len(self._cached) >= MOST_SIGNATURES:
                self._cached.clear()
            rows = self._db.execute(
                f"SELECT {_COLUMNS} FROM lessons WHERE signature = ? ORDER BY id DESC LIMIT ?",
                (signature, KEPT),
            ).fetchall()
            here = frozenset({machine}) if machine else self._here
            lessons = [lesson_of(*row[1:]) for row in rows]
            self._cached[key] = usage_of(lessons, here, exact=is_exact(signature))
        similar = similar_key(signature, program)
        usage = self._cached[key]._replace(similar=self._similar_to(similar, machine))
        if usage.seconds or not (seconds := self._seconds_of(similar)):
            return usage
        return usage._replace(seconds=seconds, own=False)

    def _group(self, key: str) -> deque[Lesson]:
        """Return the newest lessons of similar jobs, of a kind, or of all (''), the newest first."""
        if self._groups is None:
            self._groups = {}
            rows = self._db.execute(
                f"SELECT {_COLUMNS} FROM lessons ORDER BY id DESC LIMIT ?", (RECENT,)
            ).fetchall()
            for row in reversed(rows):
                self._remember(row[0], lesson_of(*row[1:]))
        return self._groups.get(key, deque())

    def _remember(self, signature: str, lesson: Lesson) -> None:
        groups = {} if self._groups is None else self._groups
        if len(groups) > MOST_SIGNATURES:
            groups.clear()
        for key in {similar_key(signature, lesson.program), _kind_of(signature), ""}:
            groups.setdefault(key, deque(maxlen=KEPT)).appendleft(lesson)

    def _similar_to(self, key: str, machine: str) -> Similar:
        """Return what similar jobs took on cards like those of this machine, if any ran there."""
        if (key, machine) not in self._similar:
            here = frozenset({machine}) if machine else self._here
            lessons = [*islice(self._group(key), SIMILAR)]
            near = [lesson for lesson in lessons if lesson.alike(here, card_of)]
            self._similar[key, machine] = Similar(
                peaks=tuple(_told(near, "peak") or _told(lessons, "peak")),
                sm=_mean(_told(near, "sm") or _told(lessons, "sm")),
            )
        return self._similar[key, machine]

    def _seconds_of(self, key: str) -> tuple[float, ...]:
        """Return how long the newest similar jobs took, else those of their kind, else the newest of all."""
        if key not in self._seconds:
            seconds: list[float] = []
            for group in (key, _kind_of(key), ""):
                lessons = self._group(group)
                near = [lesson for lesson in lessons if lesson.alike(self._here, card_of)]
                seconds = seconds or _told(near, "seconds") or _told(lessons, "seconds")
            self._seconds[key] = tuple(seconds)
        return self._seconds[key]

    def record(
        self,
        claim: Claim,
        outcome: Outcome,
        measured: Measured = NOT_MEASURED,
        *,
        certain: bool = False,
    ) -> None:
        """Record what an attempt used on GPUs. Inside `writing`.

        Args:
            claim: the attempt.
            outcome: its end; only one that was done tells how long such a job takes.
            measured: what was seen of it.
            certain: its peak counts even if it ended early: it was stopped because of what it used.
        """
        signature = claim.spec.signature
        took = _duration(outcome.at - claim.claimed, measured)
        seconds = took if isinstance(outcome, Done) and claim.gpus else None
        peak = _needed(outcome, measured.peak)
        early = isinstance(outcome, Failed | Lost | Stopped) and (took is None or took < EARLY_S)
        if early and not certain:
            peak = self._if_more(claim, peak)
        if not signature or (seconds is None and peak is None):
            return
        numbers = _record_text(signature, claim.spec.argv, measured, cut_short=early and certain)
        row = (
            seconds,
            peak,
            measured.shared_s,
            measured.slowdown,
            measured.sm,
            measured.machine,
            numbers,
        )
        self._db.execute(
            f"INSERT INTO lessons (at, {_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (outcome.at, signature, *row),
        )
        self._db.execute(
            "DELETE FROM lessons WHERE signature = ?1 AND id NOT IN"
            " (SELECT id FROM lessons WHERE signature = ?1 ORDER BY id DESC LIMIT ?2)",
            (signature, KEPT),
        )
        for key in [key for key in self._cached if key[0] == signature]:
            del self._cached[key]
        if self._groups is not None:
            self._remember(signature, lesson_of(*row))
        self._seconds.clear()
        self._similar.clear()

    def _if_more(self, claim: Claim, peak: int | None) -> int | None:
        """Return what an attempt took that ended early, where it is more than is expected of its like.

        It may not have come to what takes most of the memory: less than is known says nothing.
        """
        known = self.usage(claim.spec.signature).peak if is_exact(claim.spec.signature) else None
        expected = [amount for amount in (known, claim.spec.resources.min_vram) if amount]
        return peak if peak is not None and expected and peak > max(expected) else None

    def forget(self) -> None:
        """Read everything anew: a transaction was rolled back."""
        self._cached.clear()
        self._groups = None
        self._seconds.clear()
        self._similar.clear()


def _record_text(
    signature: str, argv: Sequence[str], measured: Measured, *, cut_short: bool
) -> str | None:
    record: dict[str, Any] = {"cut_short": True} if cut_short else {}
    if measured.slowdown is not None and measured.others > 1:
        record["others"] = round(measured.others, 2)
    if not is_exact(signature):
        record |= {"program": program_of(argv), "numbers": numbers_of(argv)}
    return json.dumps(record) if record else None


def _duration(by_wall: float, measured: Measured) -> float | None:
    """Return how long an attempt took without its pauses; None where the clock was set, and nobody can tell."""
    seconds = by_wall if measured.elapsed_s is None else min(by_wall, measured.elapsed_s)
    return within(seconds - measured.paused_s, 0, LONGEST_S)


def _needed(outcome: Outcome, peak: int | None) -> int | None:
    """Return what an attempt took on one GPU, with what it was refused there."""
    if not isinstance(outcome, OutOfMemory) or outcome.shortage.where != "gpu":
        return peak
    held = max(peak or 0, outcome.shortage.held or 0)
    return held + (outcome.shortage.wanted or 0) if held else peak


def _kind_of(signature: str) -> str:
    return signature.partition(" ")[0]
