"""The changes of jobs that users ask for: for which jobs, in which words, with which consequences, and who is woken.

The command line, `top` and the page print from these rules.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from launcher.queue.home.daemon_control import wake
from launcher.queue.home.paths import Home
from launcher.queue.home.scheduler_start import ensure_scheduler
from launcher.queue.jobs.states import ENDED_STATES, OPEN_STATES, Reason, State
from launcher.queue.store.client import wake_or_start_scheduler
from launcher.queue.store.queue import Store
from launcher.queue.store.rows import AttemptRow, JobRow
from launcher.queue.store.steering import JobControl
from launcher.queue.texts import pause_reason, reserved_text
from launcher.system.errors import pluralize

HELD_AGAIN = "held again"  # a retried job that its owner had held


class Obstacle(NamedTuple):
    """Why a job cannot be changed although its state would allow it."""

    one: str  # text about one job, with its number
    # texts about all selected jobs and about some of them, with their names; '': the change itself finds out
    nothing: str = ""  # after "nothing to pause"
    others: str = ""


ALREADY_PAUSED = Obstacle("job {0} is already paused; u resumes it")
ABOUT_TO_END = Obstacle("job {0} is about to end")
_PILOTS = "jobs on cluster nodes cannot be paused, as their allocation would expire"
ON_PILOT = Obstacle(
    "a job on a cluster node cannot be paused: its allocation would expire",
    f": {_PILOTS}. The jobs are {{0}}",
    f"unchanged: {{0}} ({_PILOTS})",
)
NOT_PAUSED = Obstacle("job {0} is not paused", ". These jobs are not paused: {0}")


class WordsOfEnd(NamedTuple):
    """The words for the cancellation of a running job."""

    verb: str
    would: str  # after "would be"
    did: str


ENDED = WordsOfEnd("end", "ended", "ending")
KILLED = WordsOfEnd("kill", "killed", "killed")


def _refuse_missing_value(_: JobControl, __: Sequence[int], ___: float) -> list[int]:
    raise TypeError("this change needs a value, which only its caller has")


class ChangeRule(NamedTuple):
    """The rule of a change."""

    verb: str  # as in "nothing to hold"
    did: str  # the change that was made: "held"
    states: frozenset[State]  # states of the jobs that can be changed
    only: str = ""  # reason for other jobs, after their state
    apply: Callable[[JobControl, Sequence[int], float], list[int]] = _refuse_missing_value
    obstacles: Callable[[Store, Sequence[JobRow]], Mapping[int, Obstacle]] = lambda _, __: {}
    # job → what stays as it is, after `did`
    stays: Callable[[Store, Sequence[JobRow]], Mapping[int, str]] = lambda _, __: {}
    missed: str = "unchanged, the state changed meanwhile"  # text about jobs that were not changed
    # a running job needs a living scheduler, and a waiting one only news for it
    wakes: Callable[[Home], object] | None = None

    def notify_scheduler(self, home: Home, jobs: Iterable[JobRow]) -> None:
        """Let the scheduler act on changed jobs; may take seconds, and touches no database."""
        if self.wakes is not None:
            self.wakes(home)
            return
        wake(home)
        if any(job.state is State.RUNNING for job in jobs):
            ensure_scheduler(home)


def _pause(control: JobControl, jobs: Sequence[int], now: float) -> list[int]:
    def reason_of(attempt: AttemptRow) -> Reason:
        return pause_reason(attempt.device, attempt.vram, now)

    return control.pause(jobs, reason_of, now)


def _pause_obstacles(store: Store, jobs: Sequence[JobRow]) -> dict[int, Obstacle]:
    attempts = store.read.newest_attempts(job.id for job in jobs)
    obstacles = {job.id: ALREADY_PAUSED for job in jobs if job.paused is not None}
    obstacles |= {job.id: ABOUT_TO_END for job in jobs if job.wish and job.paused is None}
    on_pilots = {number: ON_PILOT for number, attempt in attempts.items() if attempt.pilot}
    return obstacles | on_pilots  # no later command removes this obstacle


def _find_reserved(store: Store, jobs: Sequence[JobRow]) -> dict[int, str]:
    attempts = store.read.newest_attempts(job.id for job in jobs)
    return {
        number: reserved_text(attempt.device, attempt.vram) for number, attempt in attempts.items()
    }


def _resume_obstacles(_: Store, jobs: Sequence[JobRow]) -> dict[int, Obstacle]:
    return {job.id: NOT_PAUSED for job in jobs if job.paused is None}


def _restart_queue(home: Home) -> None:
    """Let a queue that was stopped start jobs again, as it does when jobs are queued."""
    home.stop_record.unlink(missing_ok=True)
    wake_or_start_scheduler(home)


def skipped_text(
    dependents: int, plural_verb: str, cancelled_jobs: str, auxiliary: str = "will"
) -> str:
    """Return the text on jobs that are skipped if others are cancelled: `3 jobs that need it will be skipped`.

    Args:
        dependents: Number of these jobs.
        plural_verb: Verb of their dependence.
        cancelled_jobs: The cancelled jobs.
        auxiliary: "would" before the decision.
    """
    verb = f"{plural_verb}s" if dependents == 1 else plural_verb
    return f"{pluralize(dependents, 'job')} that {verb} {cancelled_jobs} {auxiliary} be skipped"


_RUNS, _WAITS = frozenset({State.RUNNING}), OPEN_STATES - {State.RUNNING}
HOLD = ChangeRule(
    "hold",
    "held",
    frozenset({State.QUEUED}),
    ": only a queued job can be held",
    JobControl.hold,
)
RELEASE = ChangeRule(
    "release",
    "released",
    frozenset({State.HELD}),
    ": only a held job can be released",
    JobControl.release,
    wakes=wake_or_start_scheduler,
)
PRIORITY = ChangeRule("change", "priority", _WAITS, ": only waiting jobs have a priority")
PAUSE = ChangeRule(
    "pause",
    "paused",
    _RUNS,
    ": only a running job can be paused",
    _pause,
    _pause_obstacles,
    _find_reserved,
    "unchanged, already paused or about to end",
)
RESUME = ChangeRule(
    "resume",
    "resumed",
    _RUNS,
    ": only a paused job can be resumed",
    JobControl.resume,
    _resume_obstacles,
)
CANCEL = ChangeRule(
    "cancel",
    "cancelled",
    OPEN_STATES,
    ", so there is nothing to cancel",
    JobControl.cancel,
)
RETRY = ChangeRule(
    "retry",
    "queued again",
    ENDED_STATES - {State.DONE},  # a done job only if its owner insists
    ": only ended jobs can be retried",
    JobControl.retry,
    wakes=_restart_queue,
)
TOUCH = ChangeRule("accept", "accepted", ENDED_STATES)
