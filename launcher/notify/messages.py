"""Messages: what they say. Pure functions from a run to a title, a text, and the facts for commands."""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from launcher.errors import counted
from launcher.job_options.notifications import Event
from launcher.notify.notices import RunWatch
from launcher.states import ENDED, ReasonCode, State
from launcher.store.feed import Failure
from launcher.system.text import harmless
from launcher.units import format_seconds

WITHOUT_FOLDER = frozenset({"add", "functions"})  # runs of programs and functions, of no task file
MOST_TITLE = 160  # characters; some services take no more
MOST_TEXT = 4000
_ENDS = (State.DONE, State.FAILED, State.CANCELLED, State.SKIPPED)
_DAY_S = 86_400.0


class Message(NamedTuple):
    """What is to be said to one target."""

    id: str  # the same when it is sent again
    title: str
    text: str
    facts: Mapping[str, str]  # variables of a command


class _Note(NamedTuple):
    """A job of which a message tells."""

    job: Failure
    is_first: bool
    is_short: bool  # of memory

    def lines(self) -> list[str]:
        """Return what is told of it."""
        words = (("first failure", self.is_first), ("out of memory for good", self.is_short))
        what = " and ".join(word for word, holds in words if holds)
        return [
            "",
            f"{what}: {self.job.name} (job {self.job.job})",
            f"  {_reason(self.job)}",
            f"  launcher logs {self.job.job}",
        ]


def of_run(
    run: RunWatch,
    events: Sequence[Event],
    failures: Sequence[Failure],
    counts: Mapping[State, int],
    *,
    host: str,
    now: float,
) -> Message:
    """Return the message of what happened to a run.

    Args:
        run: it has ended where none of its jobs is open.
        events: of which is told.
        failures: its first ones, in order.
        counts: of the jobs that ended since it began.
        host: this machine's name.
        now: seconds since 1970.
    """
    notes = _notes(events, failures)
    short = [note.job for note in notes if note.is_short]
    left = short[0].alike - len(short) if short else 0
    took_s = max(0.0, (now if run.open else run.last_at) - run.since)
    if run.open:
        title = f"{run.name}: {_headline(notes, short)}"
        lines = [f"{run.name} goes on: {in_counts(run.totals)}, {counted(run.open, 'job')} left."]
    else:
        title = f"{run.name} ended: {in_counts(counts)} in {format_seconds(took_s)}"
        lines = _end_lines(run, counts, took_s)
    lines += [line for note in notes for line in note.lines()]
    if left:
        lines += ["", f"and {counted(left, 'more job')} out of memory"]
    folder = "" if run.name in WITHOUT_FOLDER else f"{run.root}/runs/{run.name}"
    shown = run.totals if run.open else counts
    facts = {
        "RUN": run.name,
        "FOLDER": folder,
        "SECONDS": f"{took_s:.0f}",
        **{state.upper(): str(shown.get(state, 0)) for state in _ENDS},
        **(_job_facts(notes[0].job) if notes else {}),
    }
    place = ["", *([f"folder: {folder}"] if folder else []), f"machine: {host}"]
    which = f"{run.root} {run.id} {run.after if run.open else run.last_at}"
    return _message(which, events, title, [*lines, *place], facts, host)


def of_test(target: str, host: str) -> Message:
    """Return a message that tells of nothing."""
    lines = [
        f"`launcher notify --test` sent this to {target}. Messages reach you here.",
        "",
        f"machine: {host}",
    ]
    return _message("test", ("test",), f"launcher on {host}: a test", lines, {}, host)


def in_counts(counts: Mapping[State, int]) -> str:
    """Return how many jobs came to which end: `108 done, 2 failed`."""
    parts = [f"{counts[state]:,} {state}" for state in _ENDS if counts.get(state)]
    return ", ".join(parts) or "none ended"


def _notes(events: Sequence[Event], failures: Sequence[Failure]) -> list[_Note]:
    """Return the jobs of which is told: the first that failed, and those that had too little memory."""
    notes = [
        _Note(
            job=failure,
            is_first=Event.FIRST_FAILURE in events and number == 0,
            is_short=Event.OUT_OF_MEMORY in events
            and failure.reason.code is ReasonCode.OUT_OF_MEMORY,
        )
        for number, failure in enumerate(failures)
    ]
    return [note for note in notes if note.is_first or note.is_short]


def _message(
    what: str,
    events: Sequence[str],
    title: str,
    lines: Sequence[str],
    facts: Mapping[str, str],
    host: str,
) -> Message:
    named = {"EVENT": next(iter(events), ""), "EVENTS": ",".join(events), "HOST": host, **facts}
    text = "\n".join(harmless(each) for line in lines for each in line.split("\n"))
    return Message(
        id=hashlib.sha256(f"{host} {what} {named['EVENTS']}".encode()).hexdigest()[:16],
        title=_cut(harmless(title), MOST_TITLE),
        text=_cut(text, MOST_TEXT),
        facts={f"LAUNCHER_{name}": harmless(value) for name, value in named.items()},
    )


def _headline(notes: Sequence[_Note], short: Sequence[Failure]) -> str:
    """Return what happened to a run that goes on, in a few words."""
    if short:
        more = short[0].alike - 1
        return f"{short[0].name} ran out of memory" + (f", and {more} more" if more else "")
    # whoever removed the job meanwhile knows more of it
    return f"{notes[0].job.name if notes else 'a job'} failed, the first of this run"


def _end_lines(run: RunWatch, counts: Mapping[State, int], took_s: float) -> list[str]:
    began, ended = _clock(run.since, run.last_at), _clock(run.last_at, run.last_at)
    lines = [f"{in_counts(counts)}; began {began}, ended {ended} ({format_seconds(took_s)})."]
    every = {state: run.totals.get(state, 0) for state in ENDED}
    if sum(every.values()) > sum(counts.values()):
        lines.append(f"The run in all: {in_counts(every)}.")
    return lines


def _reason(failure: Failure) -> str:
    short = failure.reason.data.get("short")
    return short if isinstance(short, str) else failure.reason.text


def _job_facts(failure: Failure) -> dict[str, str]:
    return {"JOB": str(failure.job), "JOB_NAME": failure.name, "REASON": _reason(failure)}


def _clock(at: float, now: float) -> str:
    local = datetime.fromtimestamp(at).astimezone()
    return local.strftime("%H:%M" if abs(now - at) < _DAY_S else "%d %b %H:%M")


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
