"""The states of a job, the legal transitions, the codes of reasons, and how an attempt can end."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Literal, NamedTuple, assert_never

from launcher.system.files import FileVersion, Json, read_version
from launcher.units import format_seconds

MemoryKind = Literal["gpu", "ram"]

IMPLAUSIBLE_BYTES = 1 << 50  # bytes; where a driver does not know, torch prints 17179869184.00 GiB


class OomReport(NamedTuple):
    """What a program reported when it had too little memory; bytes, None: not reported."""

    where: MemoryKind  # a GPU's memory, or the machine's
    wanted: int | None = None  # the allocation that failed
    held: int | None = None  # by its process at that moment
    cap: int | None = None  # on what its allocator may take; None: there was none
    free: int | None = None  # of the card
    total: int | None = None  # of the card
    message: str = ""  # of the program, without the advice

    def record(self) -> dict[str, Json]:
        """Return the facts as JSON, without the words."""
        facts: dict[str, Json] = self._asdict()
        del facts["message"]
        return facts


def read_oom_report(record: Mapping[str, Json]) -> OomReport:
    """Return the facts that `OomReport.record` wrote; what cannot be understood is not known."""

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
    """Where a job is in its life."""

    QUEUED = "queued"
    HELD = "held"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"  # something it needs failed or was cancelled


OPEN_STATES = frozenset({State.QUEUED, State.HELD, State.RUNNING})
ENDED_STATES = frozenset(State) - OPEN_STATES

LEGAL_TRANSITIONS: Mapping[State, frozenset[State]] = {
    State.QUEUED: frozenset(
        {State.RUNNING, State.HELD, State.CANCELLED, State.SKIPPED, State.FAILED}  # set aside
    ),
    State.HELD: frozenset({State.QUEUED, State.CANCELLED, State.SKIPPED}),
    State.RUNNING: frozenset(
        {State.DONE, State.FAILED, State.CANCELLED, State.QUEUED, State.HELD}  # held in a copy
    ),
    State.DONE: frozenset({State.QUEUED}),
    State.FAILED: frozenset({State.QUEUED}),
    State.CANCELLED: frozenset({State.QUEUED, State.HELD}),  # held again, where it was held
    State.SKIPPED: frozenset({State.QUEUED, State.HELD}),
}


class ReasonCode(StrEnum):
    """Why a job is in its state, or how an attempt ended: what programs read in place of the text.

    A code says what happened; what followed from it is the job's state. The keys of a reason's data
    are listed beside the code.
    """

    # put into the queue, and moved by its owner
    NEW = "new"
    CHANGED = "changed"  # queued again by a task file: the file, the code or an input is another
    ACCEPTED = "accepted"  # done with other code than it is now; its owner keeps the result
    ADOPTED = (
        "adopted"  # done in another folder, from which its project was moved; root: that folder
    )
    RETRIED = "retried"  # queued again by its owner
    EDITED = "edited"  # changes: what its owner changed of it, in words
    HELD = "held"
    COPIED = "copied"  # held: its queue folder is a copy; copy_of: the original
    RELEASED = "released"
    PAUSED = "paused"  # since: seconds since 1970; vram: bytes that stay reserved on each GPU, where it has some
    RESUMED = "resumed"
    # runs, and was asked to end. since, kill_at: seconds since 1970; cause: see `EndCause`; why: in words;
    # now: it is killed at once
    ENDING = "ending"
    SETTLING = "settling"  # its program has ended, and its files are not in their places yet
    CANCELLED = "cancelled"
    # what became of an attempt; `requeued`: queued again at no cost; `short`: the text, cut to an exception
    STARTED = "started"
    DONE = "done"
    FAILED = "failed"  # retry, retries, pause_s: it is tried again; likewise for the next two
    TIME_LIMIT = "time-limit"
    OUT_OF_MEMORY = "out-of-memory"  # where: "gpu" or "ram"; whose, where that was judged
    GPU_FAULT = "gpu-fault"  # fault: which GPU, and what is wrong with it
    STOPPED = "stopped"  # by: the signal, or what became of its pilot, where it was one of these
    LOST = "lost"
    NOT_STARTED = "not-started"
    CANNOT_START = "cannot-start"  # the machine can start no program at all
    # never started at all
    NEED_FAILED = "need-failed"  # need: the job's number; state: how it ended
    UNREADABLE = "unreadable"  # a newer launcher wrote it, or the record is damaged
    # waits
    NEEDS = "needs"  # other jobs are to be done first
    NOT_BEFORE = "not-before"  # its time has not come
    NO_ROOM = "no-room"  # need: what it asks for; situation: who has that now
    GROUP_FULL = "group-full"
    WOULD_DELAY = "would-delay"  # the room is kept for the first job
    NEVER_FITS = "never-fits"
    NO_GPU = "no-gpu"  # none can be seen
    WORKER_STARTING = "worker-starting"
    OUTPUT_IN_USE = "output-in-use"  # need: the number of a running job that writes the same; path
    ATTEMPT_RUNS = "attempt-runs"  # one that the queue has no record of
    ATTEMPT_UNCLEAR = "attempt-unclear"  # the content of its attempt's folder cannot be understood
    UNEXPLAINED = (
        "unexplained"  # nothing of ours runs, nobody else is seen, and it waits all the same
    )
    YIELDS = "yields"  # user: who has used less, and waits for the place; lacks: which resource
    OUTPACED = "outpaced"  # another home's scheduler took the place
    NO_PILOT = "no-pilot"  # none of its backend takes work so far
    UNKNOWN = "unknown"  # a newer launcher's, or one of before there were codes


class Reason(NamedTuple):
    """Why a job is in its state: for programs and for people."""

    code: ReasonCode
    text: str
    data: Mapping[str, Json] = {}  # by code; see `ReasonCode`


FAILED_PREFIX = "failed: "  # with it begin the reasons of failed jobs
SKIPPED_PREFIX = "skipped: "  # and of skipped ones


def strip_state_prefix(text: str) -> str:
    """Return the reason of an ended job without the state that it begins with, to stand behind that state."""
    return text.removeprefix(FAILED_PREFIX).removeprefix(SKIPPED_PREFIX)


class EndCause(StrEnum):
    """Why a running job is being ended."""

    CANCELLED = "cancelled"
    TIME_LIMIT = "time-limit"
    QUEUE_STOPPED = "queue-stopped"
    GPU_FAULT = "gpu-fault"
    GPU_MEMORY = "gpu-memory"
    SIGNAL = "signal"  # its supervisor got one
    PILOT = "pilot"  # its pilot was given up


END_CAUSE_TEXTS: Mapping[EndCause, str] = {
    EndCause.CANCELLED: "cancelled by its owner",
    EndCause.TIME_LIMIT: "its time limit was reached",
    EndCause.QUEUE_STOPPED: "the queue was stopped",
    EndCause.GPU_FAULT: "its GPU failed",
    EndCause.GPU_MEMORY: "its GPU ran short of memory",
    EndCause.SIGNAL: "its supervisor got a signal",
    EndCause.PILOT: "its pilot was abandoned",
}


def termination_reason(cause: EndCause, since: float, grace_s: float, why: str = "") -> Reason:
    """Return the reason of a running job that is being ended.

    Args:
        cause: why it is ended.
        since: seconds since 1970.
        grace_s: seconds until SIGKILL; 0: it gets no SIGTERM.
        why: the cause in words; empty: those of `END_CAUSE_TEXTS`.
    """
    words = why or END_CAUSE_TEXTS[cause]
    kill = f"SIGKILL after {format_seconds(grace_s)}" if grace_s else "SIGKILL at once"
    data: dict[str, Json] = {
        "since": since,
        "kill_at": since + grace_s,
        "cause": cause,
        "why": words,
    }
    return Reason(code=ReasonCode.ENDING, text=f"ending: {words}, {kill}", data=data)


class Done(NamedTuple):
    """The program ended well."""

    at: float
    result: Mapping[str, Json] = {}
    has_results: bool | None = None  # it left something to be moved into its run; None: nobody said
    # of a program: digests of the files that `context.named_files` names
    files: Sequence[str] = ()
    # what it left of its outputs, in their order; None: there is none
    outputs: Sequence[FileVersion | None] = ()


class Failed(NamedTuple):
    """The program failed, and the error is known."""

    at: float
    error: str
    exit_code: int | None = None
    signal: int | None = None
    exception: str = ""  # the part of the error that is the program's exception, from its class on
    over_limit: bool = False  # it was ended at its time limit


class OutOfMemory(NamedTuple):
    """The program ran out of memory; `launcher.scheduler.policy.oom_policy` judges whose fault that was."""

    at: float
    error: str
    report: OomReport
    exit_code: int | None = None
    signal: int | None = None
    exception: str = ""  # as in `Failed`


class Stopped(NamedTuple):
    """It was asked to end: cancelled by its owner, the queue was stopped, the machine goes down."""

    at: float
    by: str = ""  # the signal that its supervisor got, or what became of its pilot; empty: its scheduler asked


class Lost(NamedTuple):
    """Nobody can know how it ended."""

    at: float
    why: str


class NeverStarted(NamedTuple):
    """It never started: it could not be, or a scheduler died between the claim and the start."""

    at: float
    why: str = ""  # it could not be
    blamed_on: str = (
        ""  # fault that was: "machine", which can start nothing now, or the "job"'s own
    )


def is_signal(by: str) -> bool:
    """Tell whether what stopped an attempt is the name of a signal."""
    return by.startswith("SIG") and by.isalnum()


Outcome = Done | Failed | OutOfMemory | Stopped | Lost | NeverStarted

# stored in attempts, and read by other versions
_OUTCOME_KINDS: Mapping[type[Outcome], str] = {
    Done: "done",
    Failed: "failed",
    OutOfMemory: "out-of-memory",
    Stopped: "stopped",
    Lost: "lost",
    NeverStarted: "void",
}


def outcome_record(outcome: Outcome) -> dict[str, Json]:
    """Return the outcome as it is put on record (schema 1)."""
    record: dict[str, Json] = {"schema": 1, "ending": outcome_kind(outcome), "at": outcome.at}
    match outcome:
        case Done(result=result, has_results=made, files=files, outputs=outputs):
            record["result"] = dict(result)
            record |= {} if made is None else {"made": made}
            record |= {"files": [*files]} if any(files) else {}
            record |= (
                {"outputs": [each and [*each.record()] for each in outputs]} if outputs else {}
            )
        case Failed():
            record |= _failure_record(outcome) | (
                {"over_limit": True} if outcome.over_limit else {}
            )
        case OutOfMemory():
            record |= _failure_record(outcome) | outcome.report.record()
        case Lost(why=why):
            record["why"] = why
        case Stopped(by=by):
            record |= {"by": by} if by else {}
        case NeverStarted(why=why, blamed_on=whose):
            record |= {"why": why, "whose": whose} if why else {}
        case _:
            assert_never(outcome)
    return record


def read_outcome(record: Mapping[str, Json]) -> Outcome:
    """Return the outcome that `outcome_record` wrote; what cannot be understood is lost."""
    at = record.get("at")
    when = float(at) if isinstance(at, int | float) else 0.0
    match record:
        case {"schema": 1, "ending": "done", "result": dict(result)}:
            made, files, outputs = map(record.get, ("made", "files", "outputs"))
            return Done(
                at=when,
                result=result,
                has_results=made if isinstance(made, bool) else None,
                files=tuple(map(str, files)) if isinstance(files, list) else (),
                outputs=_read_versions(outputs),
            )
        case {"schema": 1, "ending": "failed", "error": str(error)}:
            over_limit = record.get("over_limit") is True
            exception = _text_field(record, "exception")
            return Failed(
                at=when,
                error=error,
                exception=exception,
                over_limit=over_limit,
                **_read_exit_status(record),
            )
        case {"schema": 1, "ending": "out-of-memory", "error": str(error)}:
            facts, exception = read_oom_report(record), _text_field(record, "exception")
            return OutOfMemory(when, error, facts, exception=exception, **_read_exit_status(record))
        case {"schema": 1, "ending": "stopped"}:
            return Stopped(at=when, by=_text_field(record, "by"))
        case {"schema": 1, "ending": "void"}:
            why, whose = record.get("why"), record.get("whose")
            return NeverStarted(at=when, why=str(why or ""), blamed_on=str(whose or ""))
        case {"schema": 1, "ending": "lost", "why": str(why)}:
            return Lost(at=when, why=why)
    return Lost(at=when, why="its outcome record is not readable")


def outcome_kind(outcome: Outcome) -> str:
    """Return the one word for how an attempt ended."""
    return _OUTCOME_KINDS[type(outcome)]


def _failure_record(outcome: Failed | OutOfMemory) -> dict[str, Json]:
    record: dict[str, Json] = {"error": outcome.error, "exit_code": outcome.exit_code}
    record["signal"] = outcome.signal
    return record | ({"exception": outcome.exception} if outcome.exception else {})


def _text_field(record: Mapping[str, Json], name: str) -> str:
    text = record.get(name)
    return text if isinstance(text, str) else ""


def _read_versions(record: Json) -> tuple[FileVersion | None, ...]:
    """Return files as a job left them; none of them where one cannot be understood."""
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
