"""A running job that is being ended, as people and programs are shown it."""

from typing import NamedTuple

from launcher.queue.home.paths import Home
from launcher.queue.jobs.states import END_CAUSE_TEXTS, EndCause, Reason, ReasonCode, State
from launcher.queue.store.rows import JobRow
from launcher.queue.texts import iso_time
from launcher.queue.workers.termination import ResistingProcess, Termination, read_termination
from launcher.system.files import Json
from launcher.system.text import sanitize_terminal
from launcher.system.units import format_seconds


class TerminationStatus(NamedTuple):
    """Since when and why a running job is being ended; times are seconds since 1970."""

    since: float
    kill_at: float
    cause: str
    why: str
    resists: tuple[ResistingProcess, ...] = ()

    def reason(self, now: float) -> Reason:
        """Return it as the reason of the job at a time."""
        span = format_seconds(max(0.0, now - self.since))
        return Reason(
            code=ReasonCode.ENDING,
            text=f"ending for {span}: {self.why}; {self._describe_next_step(now)}",
        )

    def _describe_next_step(self, now: float) -> str:
        """Return what follows, or what prevents the end."""
        if self.resists:
            pid, user, state = self.resists[0]
            more = len(self.resists) - 1
            others = f" and {more} more" if more else ""
            ends = "do not end" if more else "does not end"
            waits = ", because it waits in the kernel (state D)" if state == "D" else ""
            return f"process {pid} of {user}{others} {ends} after SIGKILL{waits}"
        if now < self.kill_at:
            return f"SIGKILL in {format_seconds(self.kill_at - now)}"
        return "SIGKILL was sent"

    def to_json(self) -> dict[str, Json]:
        """Return it for JSON."""
        return {
            "since": iso_time(self.since),
            "kill_at": iso_time(self.kill_at),
            "cause": self.cause,
            "why": sanitize_terminal(self.why),
            "resists": [{**process._asdict()} for process in self.resists],
        }


def termination_of(home: Home, job: JobRow) -> TerminationStatus | None:
    """Return how far the end of a running job has come, None if it is not being ended.

    The queue holds why the scheduler or an owner ends it. The supervisor's record holds the exact times.
    """
    if job.state is not State.RUNNING or job.state_reason.code is ReasonCode.SETTLING:
        return None
    found = read_termination(job.attempt_in(home)) if job.attempts else None
    if job.state_reason.code is not ReasonCode.ENDING:
        return None if found is None else _from_supervisor(found)
    data = job.state_reason.data
    since, kill_at = (data.get(name) for name in ("since", "kill_at"))
    if not isinstance(since, int | float) or not isinstance(kill_at, int | float):
        return None
    return TerminationStatus(
        since=float(since) if found is None else min(float(since), found.since),
        kill_at=float(kill_at) if found is None else found.kill_at,
        cause=str(data.get("cause", "")),
        why=str(data.get("why", "")),
        resists=() if found is None else found.resists,
    )


def _from_supervisor(termination: Termination) -> TerminationStatus:
    """Return an end that the queue has not recorded yet."""
    known = {str(cause) for cause in EndCause}
    is_signal = termination.cause not in known
    cause = EndCause.SIGNAL if is_signal else EndCause(termination.cause)
    why = (
        f"its supervisor received {termination.cause}"
        if is_signal and termination.cause
        else END_CAUSE_TEXTS[cause]
    )
    return TerminationStatus(
        termination.since, termination.kill_at, cause, why, termination.resists
    )
