"""The text of a message: title and lines about the events of a run."""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from launcher.queue.job_options.notifications import NotifyEvent
from launcher.queue.jobs.states import ENDED_STATES, ReasonCode, State, strip_state_prefix
from launcher.queue.store.run_news import JobEnd, RunEvents, RunFailure
from launcher.system.errors import pluralize
from launcher.system.text import sanitize_terminal
from launcher.system.units import format_seconds

# runs of programs and functions, without a task file
WITHOUT_FOLDER = frozenset({"add", "functions"})
MOST_TITLE = 160  # characters; the limit of some services
MOST_TEXT = 4000
# events of jobs with `notify_on`
JOB_ENDED, JOB_FAILED = "job-ended", "job-failed"
_ENDS = (State.DONE, State.FAILED, State.CANCELLED, State.SKIPPED)
_DAY_S = 86_400.0


class Message(NamedTuple):
    """A message for one target."""

    id: str  # unchanged if the message is sent again
    title: str
    text: str
    variables: Mapping[str, str]  # environment variables of a command


def make_run_message(
    run: RunEvents,
    events: Sequence[NotifyEvent],
    failures: Sequence[RunFailure],
    counts: Mapping[State, int],
    *,
    host: str,
    now: float,
) -> Message:
    """Return the message about events of a run.

    Args:
        run: Run; it has ended if it has no open jobs.
        events: Events to report.
        failures: First failures, in order.
        counts: Number of jobs per state that ended since the start of the run.
        host: Name of this machine.
        now: Seconds since 1970.
    """
    first = failures[:1] if NotifyEvent.FIRST_FAILURE in events else ()
    short = [each for each in failures if each.reason.code is ReasonCode.OUT_OF_MEMORY]
    short = short if NotifyEvent.OUT_OF_MEMORY in events else []
    noted = [each for each in failures if each in first or each in short]
    left = short[0].similar_failures - len(short) if short else 0
    took_s = max(0.0, (now if run.open else run.last_at) - run.since)
    if run.open:
        title = f"{run.name}: {_headline(first, short)}"
        lines = [
            f"{run.name} continues: {format_counts(run.totals)}, {pluralize(run.open, 'job')} left."
        ]
    else:
        title = f"{run.name} ended: {format_counts(counts)} in {format_seconds(took_s)}"
        lines = _end_lines(run, counts, took_s)
    told = (("first failure", first), ("out of memory", short))
    for job in noted:
        what = " and ".join(words for words, those in told if job in those)
        lines += ["", f"{what}: {job.name} (job {job.job})"]
        lines += [f"  {_reason(job)}", f"  launcher logs {job.job}"]
    if left:
        lines += ["", f"and {pluralize(left, 'more job')} out of memory"]
    folder = "" if run.name in WITHOUT_FOLDER else f"{run.root}/runs/{run.name}"
    shown = run.totals if run.open else counts
    facts = {
        "RUN": run.name,
        "FOLDER": folder,
        "SECONDS": f"{took_s:.0f}",
        **{state.upper(): str(shown.get(state, 0)) for state in _ENDS},
    }
    if noted:
        job = noted[0]
        facts |= {"JOB": str(job.job), "JOB_NAME": job.name, "REASON": _reason(job)}
    place = ["", *([f"folder: {folder}"] if folder else []), f"machine: {host}"]
    which = f"{run.root} {run.id} {run.after if run.open else run.last_at}"
    return _message(which, events, title, [*lines, *place], facts, host)


def make_job_message(end: JobEnd, took_s: float | None, *, host: str) -> Message:
    """Return the message about the end of a job.

    Args:
        end: End of the job.
        took_s: Seconds of its last attempt, None if it has not run.
        host: Name of this machine.
    """
    missed = end.state in {State.FAILED, State.SKIPPED}
    took = "" if took_s is None else f" in {format_seconds(took_s)}"
    folder = "" if end.run in WITHOUT_FOLDER else f"{end.root}/runs/{end.run}"
    reason = _reason(end)
    lines = [f"{end.name} (job {end.job}) of run {end.run}: {end.state}{took}"]
    lines += ["", f"  {reason}", f"  launcher logs {end.job}"] if missed else []
    facts = {
        "RUN": end.run,
        "FOLDER": folder,
        "SECONDS": "" if took_s is None else f"{took_s:.0f}",
        "STATE": str(end.state),
        "JOB": str(end.job),
        "JOB_NAME": end.name,
        "REASON": reason,
    }
    place = ["", *([f"folder: {folder}"] if folder else []), f"machine: {host}"]
    event = JOB_FAILED if missed else JOB_ENDED
    what = f"{end.root} job {end.event}"
    return _message(what, (event,), f"{end.name} {end.state}{took}", [*lines, *place], facts, host)


def make_hold_message(hold: JobEnd, *, host: str) -> Message:
    """Return the message about jobs that are held because others failed.

    Args:
        hold: Hold of jobs.
        host: Name of this machine.
    """
    folder = "" if hold.run in WITHOUT_FOLDER else f"{hold.root}/runs/{hold.run}"
    reason = _reason(hold)
    jobs = f"{pluralize(hold.held, 'job')} {'is' if hold.held == 1 else 'are'} {reason}"
    lines = [f"{jobs}.", "", f"most recent failure: {hold.name} (job {hold.job})"]
    lines += [f"  launcher logs {hold.job}", "", f"To continue: launcher release {hold.selection}"]
    facts = {
        "RUN": hold.run,
        "FOLDER": folder,
        "HELD": str(hold.held),
        "STATE": str(hold.state),
        "JOB": str(hold.job),
        "JOB_NAME": hold.name,
        "REASON": reason,
    }
    place = ["", *([f"folder: {folder}"] if folder else []), f"machine: {host}"]
    what, events = f"{hold.root} job {hold.event}", (NotifyEvent.JOBS_HELD,)
    return _message(what, events, f"{hold.run}: {jobs}", [*lines, *place], facts, host)


def make_trial_message(target: str, host: str) -> Message:
    """Return a test message."""
    lines = [
        f"`launcher notify --test` sent this message to {target}.",
        "",
        f"machine: {host}",
    ]
    return _message("test", ("test",), f"launcher on {host}: test message", lines, {}, host)


def format_counts(counts: Mapping[State, int]) -> str:
    """Return the number of jobs per state as text: `108 done, 2 failed`."""
    parts = [f"{counts[state]:,} {state}" for state in _ENDS if counts.get(state)]
    return ", ".join(parts) or "none ended"


def _message(
    subject: str,
    events: Sequence[str],
    title: str,
    lines: Sequence[str],
    facts: Mapping[str, str],
    host: str,
) -> Message:
    named = {"EVENT": next(iter(events), ""), "EVENTS": ",".join(events), "HOST": host, **facts}
    text = "\n".join(sanitize_terminal(each) for line in lines for each in line.split("\n"))
    return Message(
        id=hashlib.sha256(f"{host} {subject} {named['EVENTS']}".encode()).hexdigest()[:16],
        title=_truncate(sanitize_terminal(title), MOST_TITLE),
        text=_truncate(text, MOST_TEXT),
        variables={f"LAUNCHER_{name}": sanitize_terminal(value) for name, value in named.items()},
    )


def _headline(first: Sequence[RunFailure], short: Sequence[RunFailure]) -> str:
    """Return a short text about the events of a run that has not ended."""
    if short:
        more = short[0].similar_failures - 1
        return f"{short[0].name} ran out of memory" + (f", and {more} more" if more else "")
    # the job was removed meanwhile
    return f"{first[0].name if first else 'a job'} failed, the first failure of this run"


def _end_lines(run: RunEvents, counts: Mapping[State, int], took_s: float) -> list[str]:
    began, ended = _format_time(run.since, run.last_at), _format_time(run.last_at, run.last_at)
    lines = [f"{format_counts(counts)}; started {began}, ended {ended} ({format_seconds(took_s)})."]
    every = {state: run.totals.get(state, 0) for state in ENDED_STATES}
    if sum(every.values()) > sum(counts.values()):
        lines.append(f"The whole run: {format_counts(every)}.")
    return lines


def _reason(failure: RunFailure | JobEnd) -> str:
    short = failure.reason.data.get("short")
    return short if isinstance(short, str) else strip_state_prefix(failure.reason.text)


def _format_time(timestamp: float, now: float) -> str:
    local = datetime.fromtimestamp(timestamp).astimezone()
    return local.strftime("%H:%M" if abs(now - timestamp) < _DAY_S else "%d %b %H:%M")


def _truncate(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
