"""Usage of attempts in the database: the newest few of each signature, and the estimates that follow from them."""

import json
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import islice
from math import fsum
from typing import Any, NamedTuple

from launcher.queue.jobs.signatures import ignored_numbers, is_exact_signature
from launcher.queue.jobs.states import Done, Failed, Lost, Outcome, OutOfMemory, Stopped
from launcher.queue.store.connection import Connection
from launcher.queue.store.rows import PILOT_TOKEN_SQL, Claim
from launcher.queue.store.usage import (
    LONGEST_S,
    MOST_PEAK,
    NEWEST_PEAKS,
    NO_USAGE,
    NOT_MEASURED,
    AttemptPeak,
    MeasuredUsage,
    Numbers,
    SimilarUsage,
    Usage,
    slowdown_per_job,
)
from launcher.system.executables import program_of

MOST_SHARED_FRACTION = 0.05  # largest fraction of shared time with which an attempt counts as alone
MOST_SLOWDOWN = 1000.0
MOST_OTHERS = 10_000  # jobs on one GPU
SIMILAR_SAMPLES = 32  # newest similar attempts that count: a program changes in time
SAMPLES_KEPT = 64  # attempts of a signature that are remembered, and of a kind
RECENT_SAMPLES = 1024  # attempts among which those of a type are searched
EARLY_END_S = 600.0  # attempts that failed or stopped sooner may not have taken all their memory
MOST_SIGNATURES = 10_000  # signatures whose usage is kept in memory
_COLUMNS = "signature, seconds, peak, shared, slowdown, sm, machine, numbers"

# attempts that are alike and ended in the same hour are one row; one of more than an hour is a row of its own
_PAST_USAGE = (
    "SELECT attempts.device, attempts.cpus, attempts.vram, attempts.exclusive,"
    " iif(json_valid(lanes.key), json_extract(lanes.key, '$.resources.ram'), NULL),"
    " min(claimed), max(attempts.ended), sum(attempts.ended - claimed), max(attempts.peak)"
    " FROM attempts JOIN jobs ON jobs.id = attempts.job LEFT JOIN lanes ON lanes.id = jobs.lane"
    " WHERE attempts.ended > ?1 AND attempts.ended <= ?2 AND attempts.ended > claimed"
    f" AND {PILOT_TOKEN_SQL} IS NULL"  # attempts on pilots used no GPU of this machine
    " GROUP BY device, cpus, vram, exclusive, jobs.lane, CAST(attempts.ended / 3600 AS INTEGER),"
    " CASE WHEN attempts.ended - claimed > 3600 THEN attempts.job || ' ' || attempts.number END"
)


class UsageSample(NamedTuple):
    """The possible values of a table row; a database may have been edited, or be damaged."""

    seconds: float | None = None
    peak: int | None = None
    # whether no other job, or hardly any, certainly shared the GPUs of the attempt
    was_alone: bool = False
    slowdown: float | None = None  # slowdown with one other job
    sm: float | None = None
    machine: str = ""
    numbers: Numbers | None = None
    program: str = ""  # program that ran; '': a job of a laboratory, or a function
    # the attempt was stopped early: its peak is less than it needs, and counts for similar jobs alone
    cut_short: bool = False

    def matches_machine(self, local_machines: Collection[str], part: Callable[[str], str]) -> bool:
        """Whether it was measured on a machine whose fingerprint agrees with this one in a part."""
        return (
            not self.machine
            or not local_machines
            or part(self.machine) in {part(card) for card in local_machines}
        )


def summarize_usage(
    samples: Sequence[UsageSample], local_machines: Collection[str], *, exact: bool
) -> Usage:
    """Return the usage from records, the newest first, for jobs on this machine.

    Records with the same driver and the same GPU type take precedence. Then records with another
    driver of the same GPU type count, then other GPU types.
    """
    samples = [lesson for lesson in samples if not lesson.cut_short]
    same_card = [
        lesson for lesson in samples if lesson.matches_machine(local_machines, gpu_of_machine)
    ]
    same = [lesson for lesson in same_card if lesson.matches_machine(local_machines, str)]
    measured = next((those for those in (same, same_card) if _known_values(those, "peak")), samples)
    other = next((lesson.machine for lesson in measured if lesson.peak is not None), "")
    elsewhere = ""
    if other and measured is not same:
        elsewhere = (
            f"under another driver ({driver_of_machine(other)})"
            if measured is same_card
            else f"on another GPU ({gpu_model_of_machine(other)})"
        )
    timed = same_card if _known_values(same_card, "seconds") else samples
    runs = [
        AttemptPeak(lesson.peak, lesson.numbers) for lesson in measured if lesson.peak is not None
    ]
    slowdowns = _known_values(same_card, "slowdown") or _known_values(samples, "slowdown")
    return Usage(
        seconds=tuple(_known_values(timed, "seconds")),
        seconds_alone=tuple(
            _known_values([lesson for lesson in timed if lesson.was_alone], "seconds")
        ),
        peaks=tuple(run.peak for run in runs[:NEWEST_PEAKS]),
        sm=_mean(_known_values(same_card, "sm")[:NEWEST_PEAKS]),
        slowdown=_mean(slowdowns[:NEWEST_PEAKS]),
        other_gpu_note=elsewhere,
        attempt_peaks=() if exact else tuple(reversed(runs)),
    )


def _known_values(samples: Iterable[UsageSample], name: str) -> list[Any]:
    """Return the values of one field in the records that have it."""
    return [told for lesson in samples if (told := getattr(lesson, name)) is not None]


def read_usage_sample(
    seconds: Any, peak: Any, shared_time: Any, slowdown: Any, sm: Any, machine: Any, numbers: Any
) -> UsageSample:
    """Return the sample of a table row. Impossible values are unknown."""
    record = _read_command_line(numbers)
    took, factor = (
        number_in_range(seconds, 0, LONGEST_S),
        number_in_range(slowdown, 1, MOST_SLOWDOWN),
    )
    beside = number_in_range(shared_time, 0, LONGEST_S)
    alone = took is not None and beside is not None and beside <= MOST_SHARED_FRACTION * took
    if took is not None and factor is not None:
        took -= min(took, took if beside is None else beside) * (1 - 1 / factor)
    return UsageSample(
        seconds=took,
        was_alone=alone,
        peak=peak if isinstance(peak, int) and 0 < peak <= MOST_PEAK else None,
        slowdown=slowdown_per_job(
            factor, number_in_range(record.get("others"), 1, MOST_OTHERS) or 1.0
        ),
        sm=number_in_range(sm, 0, 1),
        machine=machine if isinstance(machine, str) else "",
        numbers=_read_numbers(record.get("numbers")),
        program=program if isinstance(program := record.get("program"), str) else "",
        cut_short=record.get("cut_short") is True,
    )


def number_in_range(value: Any, least: float, most: float) -> float | None:
    """Return a number that can be true; NaN is within nothing."""
    if isinstance(value, int | float) and least <= value <= most:
        return float(value)
    return None


def _read_command_line(text: Any) -> dict[str, Any]:
    """Return what is on record of a program's command line."""
    try:
        record = json.loads(text)
    except (TypeError, ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}


def _read_numbers(value: object) -> Numbers | None:
    if isinstance(value, list) and all(isinstance(number, str) for number in value):
        return tuple(value)
    return None


# --- parts of a fingerprint, which reads "NVIDIA A10, 24576 MiB, driver 550.54.15"


def gpu_of_machine(machine: str) -> str:
    """Return the GPU type of a fingerprint, with its memory."""
    return machine.rpartition(", driver ")[0] or machine


def driver_of_machine(machine: str) -> str:
    """Return the version of the driver, '' where it is not known."""
    return machine.rpartition(", driver ")[2] if ", driver " in machine else ""


def gpu_model_of_machine(machine: str) -> str:
    """Return the display name of the GPU type."""
    return machine.partition(",")[0].removeprefix("NVIDIA ")


def _mean(values: Sequence[float]) -> float | None:
    return fsum(values) / len(values) if values else None


def similar_key(signature: str, program: str) -> str:
    """Return the key by which jobs are similar: their type, or their program.

    Args:
        signature: Signature of a job.
        program: Its program, '' for none, or for a function, which is similar only to its own runs.
    """
    if is_exact_signature(signature):
        return _kind_of(signature)
    return f"{_kind_of(signature)} {program}" if program else signature


def program_of_signature(signature: str, argv: Sequence[str]) -> str:
    """Return the program by which a job is similar to others, '' if its signature is sufficient.

    Args:
        signature: Signature of the job.
        argv: Its command line.
    """
    return "" if is_exact_signature(signature) else program_of(argv)


class PastUsage(NamedTuple):
    """Attempts that asked for the same, and ended at about the same time."""

    gpus: tuple[str, ...]
    cpus: int
    vram: int | None  # bytes on each GPU; None: unknown, or the attempt had its GPUs for itself
    exclusive: bool
    ram: int
    started_at: float  # start of the first attempt, seconds since 1970
    ended_at: float  # end of the last attempt, seconds since 1970
    seconds: float  # run time of all attempts together


class UsageRecords:
    """Usage of attempts by the signature of their jobs. The newest few are kept for each."""

    def __init__(self, connection: Connection) -> None:
        """Work over a store's connection."""
        self._db = connection
        self._local_machines: frozenset[str] = frozenset()
        self._cached: dict[tuple[str, str], Usage] = connection.new_cache()
        # the newest samples by similar key; empty until they are read
        self._samples_by_key: dict[str, deque[UsageSample]] = connection.new_cache()
        self._seconds: dict[str, tuple[float, ...]] = connection.new_cache()  # by similar key
        # by similar key and machine
        self._similar: dict[tuple[str, str], SimilarUsage] = connection.new_cache()

    def set_local_machines(self, machines: Iterable[str]) -> None:
        """Set the GPU types and drivers of this machine. Records of others count only without records of these.

        Args:
            machines: Their fingerprints. Empty to treat all records as measured here.
        """
        here = frozenset(filter(None, machines))
        if here != self._local_machines:
            self._local_machines = here
            self._db.invalidate_caches()

    def usage(self, signature: str, program: str = "", machine: str = "") -> Usage:
        """Return the usage of the newest attempts of a signature, and of similar jobs.

        Args:
            signature: Signature of a job. If no such job was done, the durations are those of
                similar ones.
            program: Program of the job.
            machine: Fingerprint of a GPU type, '' for any of this machine's.
        """
        if not signature:
            return NO_USAGE
        key = (signature, machine)
        if key not in self._cached:
            if len(self._cached) >= MOST_SIGNATURES:
                self._cached.clear()
            rows = self._db.execute(
                f"SELECT {_COLUMNS} FROM lessons WHERE signature = ? ORDER BY id DESC LIMIT ?",
                (signature, SAMPLES_KEPT),
            ).fetchall()
            here = frozenset({machine}) if machine else self._local_machines
            lessons = [read_usage_sample(*row[1:]) for row in rows]
            self._cached[key] = summarize_usage(lessons, here, exact=is_exact_signature(signature))
        similar = similar_key(signature, program)
        usage = self._cached[key]._replace(similar=self._similar_usage(similar, machine))
        if usage.seconds or not (seconds := self._similar_durations(similar)):
            return usage
        return usage._replace(seconds=seconds, is_own=False)

    def _samples_of(self, key: str) -> deque[UsageSample]:
        """Return the newest samples of similar jobs, of a type, or of all (''), the newest first."""
        if not self._samples_by_key:
            rows = self._db.execute(
                f"SELECT {_COLUMNS} FROM lessons ORDER BY id DESC LIMIT ?", (RECENT_SAMPLES,)
            ).fetchall()
            for row in reversed(rows):
                self._add_sample(row[0], read_usage_sample(*row[1:]))
        return self._samples_by_key.get(key, deque())

    def _add_sample(self, signature: str, sample: UsageSample) -> None:
        groups = self._samples_by_key
        if len(groups) > MOST_SIGNATURES:
            groups.clear()
        for key in {similar_key(signature, sample.program), _kind_of(signature), ""}:
            groups.setdefault(key, deque(maxlen=SAMPLES_KEPT)).appendleft(sample)

    def _similar_usage(self, key: str, machine: str) -> SimilarUsage:
        """Return the usage of similar jobs on GPU types of this machine, if any ran there."""
        if (key, machine) not in self._similar:
            here = frozenset({machine}) if machine else self._local_machines
            lessons = [*islice(self._samples_of(key), SIMILAR_SAMPLES)]
            near = [lesson for lesson in lessons if lesson.matches_machine(here, gpu_of_machine)]
            self._similar[key, machine] = SimilarUsage(
                peaks=tuple(_known_values(near, "peak") or _known_values(lessons, "peak")),
                sm=_mean(_known_values(near, "sm") or _known_values(lessons, "sm")),
            )
        return self._similar[key, machine]

    def _similar_durations(self, key: str) -> tuple[float, ...]:
        """Return the durations of the newest similar jobs, or of their type, or of the newest jobs of all."""
        if key not in self._seconds:
            seconds: list[float] = []
            for group in (key, _kind_of(key), ""):
                lessons = self._samples_of(group)
                near = [
                    lesson
                    for lesson in lessons
                    if lesson.matches_machine(self._local_machines, gpu_of_machine)
                ]
                seconds = (
                    seconds or _known_values(near, "seconds") or _known_values(lessons, "seconds")
                )
            self._seconds[key] = tuple(seconds)
        return self._seconds[key]

    def record(
        self,
        claim: Claim,
        outcome: Outcome,
        measured_usage: MeasuredUsage = NOT_MEASURED,
        *,
        certain: bool = False,
    ) -> None:
        """Record the GPU usage of an attempt. Inside `writing`.

        Args:
            claim: The attempt.
            outcome: Its end. Only a done attempt gives a duration.
            measured_usage: Its measurements.
            certain: Its peak counts even after an early end, because it was stopped for its usage.
        """
        signature = claim.spec.signature
        took = _duration(outcome.at - claim.claimed, measured_usage)
        seconds = took if isinstance(outcome, Done) and claim.gpus else None
        peak = _peak_with_refused(outcome, measured_usage.peak)
        early = isinstance(outcome, Failed | Lost | Stopped) and (
            took is None or took < EARLY_END_S
        )
        if early and not certain:
            peak = self._peak_if_higher(claim, peak)
        if not signature or (seconds is None and peak is None):
            return
        numbers = _attempt_record(
            signature, claim.spec.argv, measured_usage, cut_short=early and certain
        )
        row = (
            seconds,
            peak,
            measured_usage.shared_s,
            measured_usage.slowdown,
            measured_usage.sm,
            measured_usage.machine,
            numbers,
        )
        self._db.execute(
            f"INSERT INTO lessons (at, {_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (outcome.at, signature, *row),
        )
        self._db.execute(
            "DELETE FROM lessons WHERE signature = ?1 AND id NOT IN"
            " (SELECT id FROM lessons WHERE signature = ?1 ORDER BY id DESC LIMIT ?2)",
            (signature, SAMPLES_KEPT),
        )
        for key in [key for key in self._cached if key[0] == signature]:
            del self._cached[key]
        if self._samples_by_key:
            self._add_sample(signature, read_usage_sample(*row))
        self._seconds.clear()
        self._similar.clear()

    def _peak_if_higher(self, claim: Claim, peak: int | None) -> int | None:
        """Return what an attempt took that ended early, where it is more than is expected of its like.

        It may not have come to what takes most of the memory: less than is known says nothing.
        """
        known = (
            self.usage(claim.spec.signature).peak
            if is_exact_signature(claim.spec.signature)
            else None
        )
        expected = [amount for amount in (known, claim.spec.resources.vram) if amount]
        return peak if peak is not None and expected and peak > max(expected) else None

    def past_usage(self, start_time: float, now: float) -> list[PastUsage]:
        """Return what the attempts used that ended between two times; what cannot be is left out."""
        return [
            PastUsage(
                gpus=() if device == "cpu" else tuple(str(device).split(",")),
                cpus=cpus,
                # a reservation for an estimate followed its use
                vram=peak if vram is None and not exclusive else vram,
                exclusive=bool(exclusive),
                ram=ram if isinstance(ram, int) and ram > 0 else 0,
                started_at=began,
                ended_at=ended,
                seconds=seconds,
            )
            for device, cpus, vram, exclusive, ram, began, ended, seconds, peak in (
                self._db.execute(_PAST_USAGE, (start_time, now))
            )
        ]


def _attempt_record(
    signature: str, argv: Sequence[str], measured_usage: MeasuredUsage, *, cut_short: bool
) -> str | None:
    record: dict[str, Any] = {"cut_short": True} if cut_short else {}
    if measured_usage.slowdown is not None and measured_usage.others > 1:
        record["others"] = round(measured_usage.others, 2)
    if not is_exact_signature(signature):
        record |= {"program": program_of(argv), "numbers": ignored_numbers(argv)}
    return json.dumps(record) if record else None


def _duration(by_wall: float, measured_usage: MeasuredUsage) -> float | None:
    """Return the duration of an attempt without its pauses, None if the clock was set and it is unknown."""
    seconds = (
        by_wall if measured_usage.elapsed_s is None else min(by_wall, measured_usage.elapsed_s)
    )
    return number_in_range(seconds - measured_usage.paused_s, 0, LONGEST_S)


def _peak_with_refused(outcome: Outcome, peak: int | None) -> int | None:
    """Return the peak usage of one GPU, including a refused allocation there."""
    if not isinstance(outcome, OutOfMemory) or outcome.report.where != "gpu":
        return peak
    held = max(peak or 0, outcome.report.held or 0)
    return held + (outcome.report.wanted or 0) if held else peak


def _kind_of(signature: str) -> str:
    return signature.partition(" ")[0]
