"""The states of a job, the legal transitions, the codes of reasons, and how an attempt can end."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from math import isfinite
from typing import Literal, NamedTuple, assert_never

from launcher.system.files import FileVersion, Json, read_version
from launcher.system.units import format_seconds

MemoryKind = Literal["gpu", "ram"]

IMPLAUSIBLE_BYTES = 1 << 50  # bytes; torch prints 17179869184.00 GiB if a driver has no value


class OomReport(NamedTuple):
    """The report of a program that ran out of memory. Amounts are in bytes, None if not reported."""

    where: MemoryKind  # GPU memory or main memory
    wanted: int | None = None  # size of the failed allocation
    held: int | None = None  # bytes allocated by the process at that moment
    cap: int | None = None  # limit of the process's allocator; None: no limit
    free: int | None = None  # free memory of the GPU
    total: int | None = None  # whole memory of the GPU
    message: str = ""  # message of the program, without the advice

    def to_json(self) -> dict[str, Json]:
        """Return the report as JSON, without the message."""
        facts: dict[str, Json] = self._asdict()
        del facts["message"]
        return facts


def read_oom_report(record: Mapping[str, Json]) -> OomReport:
    """Return the report that `OomReport.to_json` wrote; invalid values become None."""

    def bytes_of(name: str) -> int | None:
        value = record.get(name)
        if not isinstance(value, int) or isinstance(value, bool):
            return None
        return value if 0 <= value < IMPLAUSIBLE_BYTES else None

    return OomReport(
        where="ram" if record.get("where") == "ram" else "gpu",
        wanted=bytes_of("wanted"),
        held=bytes_of("held"),
        cap=bytes_of("cap"),
        free=bytes_of("free"),
        total=bytes_of("total"),
    )


class State(StrEnum):
    """The state of a job."""

    QUEUED = "queued"
    HELD = "held"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"  # a dependency failed or was cancelled


OPEN_STATES = frozenset({State.QUEUED, State.HELD, State.RUNNING})
ENDED_STATES = frozenset(State) - OPEN_STATES

LEGAL_TRANSITIONS: Mapping[State, frozenset[State]] = {
    State.QUEUED: frozenset(
        {State.RUNNING, State.HELD, State.CANCELLED, State.SKIPPED, State.FAILED}  # without a start
    ),
    State.HELD: frozenset({State.QUEUED, State.CANCELLED, State.SKIPPED}),
    State.RUNNING: frozenset(
        {State.DONE, State.FAILED, State.CANCELLED, State.QUEUED, State.HELD}  # held in a copy
    ),
    State.DONE: frozenset({State.QUEUED}),
    # done: its owner accepts its files as they are
    State.FAILED: frozenset({State.QUEUED, State.DONE}),
    # held again, where it was held
    State.CANCELLED: frozenset({State.QUEUED, State.HELD, State.DONE}),
    State.SKIPPED: frozenset({State.QUEUED, State.HELD, State.DONE}),
}


class ReasonCode(StrEnum):
    """Why a job is in its state, or how an attempt ended, for programs instead of the text.

    A code names the event; the result is the job's state. A comment at each code lists the keys of
    the reason's data.
    """

    # queued, or changed by its owner
    NEW = "new"
    CHANGED = "changed"  # queued again by a task file: the file, the code or an input has changed
    ACCEPTED = "accepted"  # done with code that has changed since; the job's owner keeps the result
    # done: its owner accepted its files as they are; was: its state before, if its program was not done
    TOUCHED = "touched"
    ADOPTED = "adopted"  # done in the former folder of the job's project; root: that folder
    RETRIED = "retried"  # queued again by the job's owner
    EDITED = "edited"  # changes: the changes by the job's owner, as text
    HELD = "held"
    # held: too many of the jobs that were queued with it failed; failures: their number; job: the last
    # of them; cause: the code of its failure
    FAILURE_LIMIT = "failure-limit"
    COPIED = "copied"  # held: the queue folder is a copy; copy_of: the original
    RELEASED = "released"
    PAUSED = (
        # since: seconds since 1970; vram: bytes that remain reserved on each of the job's GPUs
        "paused"
    )
    RESUMED = "resumed"
    # running, end requested. since, kill_at: seconds since 1970; cause: see `EndCause`; why: as text;
    # now: it is killed immediately
    ENDING = "ending"
    # running, but the job's supervisor is stopped by a signal, a debugger or a cgroup
    FROZEN = "frozen"
    SETTLING = "settling"  # the job's program has ended, and its files are not moved yet
    CANCELLED = "cancelled"
    SEARCH_ENDED = "search-ended"  # cancelled: the job's search ended because something is wrong
    # the outcome of an attempt; `requeued`: queued again without counting as a failure; `short`: the exception only
    STARTED = "started"
    DONE = "done"
    PRUNED = "pruned"  # done: the job's search ended it early; step: the last step then
    FAILED = "failed"  # retry, retries, pause_s: the job is retried; also used by the next two
    TIME_LIMIT = "time-limit"
    OUT_OF_MEMORY = (
        "out-of-memory"  # values of `where`: "gpu" or "ram"; of `whose`: the cause, if known
    )
    GPU_FAULT = "gpu-fault"  # fault: the GPU and its fault
    STOPPED = "stopped"  # by: the signal, or the end of the pilot
    LOST = "lost"
    NOT_STARTED = "not-started"
    CANNOT_START = "cannot-start"  # the machine cannot start any program
    # skipped without an attempt
    NEED_FAILED = "need-failed"  # need: number of the failed job; state: how that job ended
    UNREADABLE = "unreadable"  # a newer launcher wrote the job's record, or the record is damaged
    # waits
    NEEDS = "needs"  # other jobs must be done first
    NOT_BEFORE = "not-before"  # the job's start time has not come
    NO_ROOM = "no-room"  # need: the request; situation: the current users of the resource
    GROUP_FULL = "group-full"
    WOULD_DELAY = "would-delay"  # the resources are reserved for the first job
    NEVER_FITS = "never-fits"
    NO_GPU = "no-gpu"  # no GPU is visible
    WORKER_STARTING = "worker-starting"
    OUTPUT_IN_USE = "output-in-use"  # need: the number of a running job that writes the same; path
    ATTEMPT_RUNS = "attempt-runs"  # an attempt without a record in the queue
    ATTEMPT_UNCLEAR = "attempt-unclear"  # the content of the folder of the job's attempt is invalid
    UNEXPLAINED = "unexplained"  # neither own jobs nor other users explain the wait
    YIELDS = "yields"  # user: the waiting user with less usage; lacks: the resource
    OUTPACED = "outpaced"  # the scheduler of another queue took the resources
    NO_PILOT = "no-pilot"  # no pilot of the job's backend accepts work yet
    UNKNOWN = "unknown"  # written by a newer launcher, or before codes existed


class Reason(NamedTuple):
    """Why a job is in its state, for programs and for users."""

    code: ReasonCode
    text: str
    data: Mapping[str, Json] = {}  # by code; see `ReasonCode`


FAILED_PREFIX = "failed: "  # prefix of the reasons of failed jobs
SKIPPED_PREFIX = "skipped: "  # and of skipped jobs


def strip_state_prefix(text: str) -> str:
    """Return the reason of an ended job without the leading state, for texts that contain the state already."""
    return text.removeprefix(FAILED_PREFIX).removeprefix(SKIPPED_PREFIX)


class EndCause(StrEnum):
    """Why a running job is being ended."""

    CANCELLED = "cancelled"
    TIME_LIMIT = "time-limit"
    QUEUE_STOPPED = "queue-stopped"
    GPU_FAULT = "gpu-fault"
    GPU_MEMORY = "gpu-memory"
    SIGNAL = "signal"  # the supervisor received a signal
    PILOT = "pilot"  # the job's pilot was abandoned
    PRUNED = "pruned"  # the job's search ends it early
    SEARCH_ENDED = "search-ended"  # the job's search has ended


END_CAUSE_TEXTS: Mapping[EndCause, str] = {
    EndCause.CANCELLED: "cancelled by its owner",
    EndCause.TIME_LIMIT: "its time limit was reached",
    EndCause.QUEUE_STOPPED: "the queue was stopped",
    EndCause.GPU_FAULT: "its GPU failed",
    EndCause.GPU_MEMORY: "its GPU ran short of memory",
    EndCause.SIGNAL: "its supervisor got a signal",
    EndCause.PILOT: "its pilot was abandoned",
    EndCause.PRUNED: "pruned by its search",
    EndCause.SEARCH_ENDED: "ended by its search",
}


def termination_reason(cause: EndCause, start_time: float, grace_s: float, why: str = "") -> Reason:
    """Return the reason of a running job that is being ended.

    Args:
        cause: Why it is ended.
        start_time: Start of the end, in seconds since 1970.
        grace_s: Seconds until SIGKILL; 0 for no SIGTERM.
        why: The cause as text; '' for the text of `END_CAUSE_TEXTS`.
    """
    words = why or END_CAUSE_TEXTS[cause]
    kill = f"SIGKILL after {format_seconds(grace_s)}" if grace_s else "SIGKILL at once"
    data: dict[str, Json] = {
        "since": start_time,
        "kill_at": start_time + grace_s,
        "cause": cause,
        "why": words,
    }
    return Reason(code=ReasonCode.ENDING, text=f"ending: {words}, {kill}", data=data)


class Done(NamedTuple):
    """The program was successful."""

    at: float
    result: Mapping[str, Json] = {}
    has_results: bool | None = None  # the job left files to be moved into its run; None: unknown
    # digests of the files listed by `context.named_files`, for a program
    files: Sequence[str] = ()
    # versions of its outputs, in their order; None: missing
    outputs: Sequence[FileVersion | None] = ()
    cpu_s: float | None = None  # CPU time of all the job's processes, in seconds; None: unknown
    # seconds by which the clock was set forward while the job ran
    clock_shift_s: float | None = None


class Failed(NamedTuple):
    """The program failed with a known error."""

    at: float
    error: str
    exit_code: int | None = None
    signal: int | None = None
    # the program's exception within the error, starting with the class of the exception
    exception: str = ""
    over_limit: bool = False  # the time limit ended the job
    cpu_s: float | None = None  # as in `Done`
    clock_shift_s: float | None = None  # as in `Done`
    # the disk of the log was full, so that the job's own output may have failed
    disk_full: bool = False


class OutOfMemory(NamedTuple):
    """The program ran out of memory; `launcher.queue.scheduler.policy.oom_policy` finds the cause."""

    at: float
    error: str
    report: OomReport
    exit_code: int | None = None
    signal: int | None = None
    exception: str = ""  # as in `Failed`
    cpu_s: float | None = None  # as in `Done`
    clock_shift_s: float | None = None  # as in `Done`


class Stopped(NamedTuple):
    """The attempt was stopped: cancelled by its owner, or the queue or the machine stopped."""

    at: float
    by: str = (
        ""  # the signal that the supervisor received, or the end of its pilot; empty: the scheduler
    )
    cpu_s: float | None = None  # as in `Done`
    clock_shift_s: float | None = None  # as in `Done`


class Lost(NamedTuple):
    """The outcome of the attempt is unknown."""

    at: float
    why: str


class NeverStarted(NamedTuple):
    """The attempt never started: the start failed, or a scheduler died between the claim and the start."""

    at: float
    why: str = ""  # why the start failed
    blamed_on: str = ""  # the cause: "machine", which cannot start programs now, or "job"


def is_signal(ender: str) -> bool:
    """Return whether the cause that stopped an attempt is the name of a signal."""
    return ender.startswith("SIG") and ender.isalnum()


Outcome = Done | Failed | OutOfMemory | Stopped | Lost | NeverStarted

# stored in attempts and read by other versions
_OUTCOME_KINDS: Mapping[type[Outcome], str] = {
    Done: "done",
    Failed: "failed",
    OutOfMemory: "out-of-memory",
    Stopped: "stopped",
    Lost: "lost",
    NeverStarted: "void",
}


def outcome_record(outcome: Outcome) -> dict[str, Json]:
    """Return the outcome as its stored record (schema 1)."""
    record: dict[str, Json] = {"schema": 1, "ending": outcome_kind(outcome), "at": outcome.at}
    match outcome:
        case Done(result=result, has_results=made, files=files, outputs=outputs):
            record["result"] = dict(result)
            record |= {} if made is None else {"made": made}
            record |= {"files": [*files]} if any(files) else {}
            record |= (
                {"outputs": [each and [*each.to_json()] for each in outputs]} if outputs else {}
            )
        case Failed():
            record |= _failure_record(outcome)
            record |= {"over_limit": True} if outcome.over_limit else {}
            record |= {"disk_full": True} if outcome.disk_full else {}
        case OutOfMemory():
            record |= _failure_record(outcome) | outcome.report.to_json()
        case Lost(why=why):
            record["why"] = why
        case Stopped(by=by):
            record |= {"by": by} if by else {}
        case NeverStarted(why=why, blamed_on=whose):
            record |= {"why": why, "whose": whose} if why else {}
        case _:
            assert_never(outcome)
    if not isinstance(outcome, Lost | NeverStarted) and outcome.cpu_s is not None:
        record["cpu_s"] = outcome.cpu_s
    if shift_s := clock_shift_s(outcome):
        record["clock_shift_s"] = shift_s
    return record


def clock_shift_s(outcome: Outcome) -> float:
    """Return the seconds by which the clock was set forward while an attempt ran, as far as that is known."""
    return 0.0 if isinstance(outcome, Lost | NeverStarted) else outcome.clock_shift_s or 0.0


def read_outcome(record: Mapping[str, Json]) -> Outcome:
    """Return the outcome that `outcome_record` wrote; an invalid record becomes `Lost`."""
    outcome, shift_s = _read_outcome(record), record.get("clock_shift_s")
    if isinstance(outcome, Lost | NeverStarted) or not isinstance(shift_s, int | float):
        return outcome
    return outcome._replace(clock_shift_s=float(shift_s) if isfinite(shift_s) else None)


def _read_outcome(record: Mapping[str, Json]) -> Outcome:
    at = record.get("at")
    when = float(at) if isinstance(at, int | float) else 0.0
    cpu_s = read_cpu_time(record)
    match record:
        case {"schema": 1, "ending": "done", "result": dict(result)}:
            made, files, outputs = map(record.get, ("made", "files", "outputs"))
            return Done(
                at=when,
                result=result,
                has_results=made if isinstance(made, bool) else None,
                files=tuple(map(str, files)) if isinstance(files, list) else (),
                outputs=_read_versions(outputs),
                cpu_s=cpu_s,
            )
        case {"schema": 1, "ending": "failed", "error": str(error)}:
            over_limit = record.get("over_limit") is True
            exception = _text_field(record, "exception")
            return Failed(
                at=when,
                error=error,
                exception=exception,
                over_limit=over_limit,
                cpu_s=cpu_s,
                disk_full=record.get("disk_full") is True,
                **_read_exit_status(record),
            )
        case {"schema": 1, "ending": "out-of-memory", "error": str(error)}:
            facts, exception = read_oom_report(record), _text_field(record, "exception")
            status = _read_exit_status(record)
            return OutOfMemory(when, error, facts, exception=exception, cpu_s=cpu_s, **status)
        case {"schema": 1, "ending": "stopped"}:
            return Stopped(at=when, by=_text_field(record, "by"), cpu_s=cpu_s)
        case {"schema": 1, "ending": "void"}:
            why, whose = record.get("why"), record.get("whose")
            return NeverStarted(at=when, why=str(why or ""), blamed_on=str(whose or ""))
        case {"schema": 1, "ending": "lost", "why": str(why)}:
            return Lost(at=when, why=why)
    return Lost(at=when, why="its outcome record is not readable")


def read_cpu_time(record: Mapping[str, Json]) -> float | None:
    """Return the CPU time in the record of an outcome, in seconds, None if it has none."""
    cpu_s = record.get("cpu_s")
    return float(cpu_s) if isinstance(cpu_s, int | float) else None


def outcome_kind(outcome: Outcome) -> str:
    """Return the word that stores how an attempt ended."""
    return _OUTCOME_KINDS[type(outcome)]


def _failure_record(outcome: Failed | OutOfMemory) -> dict[str, Json]:
    record: dict[str, Json] = {"error": outcome.error, "exit_code": outcome.exit_code}
    record["signal"] = outcome.signal
    return record | ({"exception": outcome.exception} if outcome.exception else {})


def _text_field(record: Mapping[str, Json], name: str) -> str:
    text = record.get(name)
    return text if isinstance(text, str) else ""


def _read_versions(record: Json) -> tuple[FileVersion | None, ...]:
    """Return the file versions of a job; empty if a version is invalid."""
    listed = record if isinstance(record, list) else []
    versions = tuple(map(read_version, listed))
    understood = (each is None or version for each, version in zip(listed, versions, strict=True))
    return versions if all(understood) else ()


def _read_exit_status(record: Mapping[str, Json]) -> dict[str, int | None]:
    code, signal = record.get("exit_code"), record.get("signal")
    return {
        "exit_code": code if isinstance(code, int) else None,
        "signal": signal if isinstance(signal, int) else None,
    }
