"""What the process that sends messages knows, which message is due and what it says: pure functions, and the file that keeps it.

Of each run that goes on, or whose end is still to be told, it knows what happened and which targets were told of it. A
target is put down as told once its message was sent: none is lost, however often the process dies, and one that
was sent just before a death is sent again.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from launcher.errors import counted
from launcher.job_options.notifications import Event, recorded_run_notify
from launcher.notify.settings import NotifySettings, Target
from launcher.states import ENDED, ReasonCode, State, without_state
from launcher.store.run_news import Failure, RunNews
from launcher.system.files import Json, read_json, write_json
from launcher.system.paths import Home
from launcher.system.text import harmless
from launcher.units import format_seconds

SCHEMA = 2
SETTLE_S = 5.0  # a run without open jobs has ended: who adds jobs one by one is not told of each
STALE_S = 86_400.0  # what happened longer ago is no news
PAUSE_S = 10.0  # after a failed try; doubles each time
LONGEST_PAUSE_S = 1800.0
LEAST_TRIES = 5  # before a message is given up, whatever the clock says
MOST_GIVEN_UP = 20
_ORDER = (Event.OUT_OF_MEMORY, Event.FIRST_FAILURE)  # the most important first


class Failing(NamedTuple):
    """A target that could not be told."""

    title: str  # of the message
    at: float  # when what it tells happened
    tries: int
    next: float  # not before
    answer: str  # of the last try


class GivenUp(NamedTuple):
    """A message that was not sent."""

    at: float
    target: str
    title: str
    why: str


class Notices(NamedTuple):
    """All of it."""

    cursor: int | None = None  # the last event that was read; None: never any
    runs: Mapping[int, RunNews] = {}
    failing: Mapping[str, Failing] = {}  # by target
    given_up: tuple[GivenUp, ...] = ()
    # target → since when it is defined, in seconds since 1970; None: an older launcher wrote the file
    targets: Mapping[str, float] | None = None

    @property
    def pending(self) -> bool:
        """Whether something is still to be sent."""
        return bool(self.failing or any(not run.open for run in self.runs.values()))


def heard(notices: Notices, upto: int, runs: Iterable[RunNews], now: float) -> Notices:
    """Return the notices with what happened to runs up to an event."""
    known = dict(notices.runs)
    for run in runs:
        if run.id in known or run.open or run.since >= now - STALE_S:
            known[run.id] = _after(known.get(run.id), run)
    return notices._replace(cursor=upto, runs=known)


def with_targets(notices: Notices, names: Iterable[str], changed: float) -> Notices:
    """Return the notices with the targets that are defined now; a new one is defined since `changed`.

    Earlier events of a run count as sent to a new target.
    """
    names = [*names]
    known = notices.targets
    if known is None:
        known = {} if notices.cursor is None else dict.fromkeys(names, 0.0)
    new = [name for name in names if name not in known]
    runs = {}
    for run in notices.runs.values():
        happened = run.happened if run.open else (*run.happened, Event.RUN_ENDED)
        is_past = run.last_at < changed
        told = {**run.told, **{name: happened for name in new if is_past}}
        runs[run.id] = run._replace(told=told)
    targets = {name: known.get(name, changed) for name in names}
    return notices._replace(targets=targets, runs=runs)


def _after(before: RunNews | None, run: RunNews) -> RunNews:
    if before is None:
        return run
    happened = {*before.happened, *run.happened}
    return run._replace(
        since=before.since,
        after=before.after,
        happened=tuple(event for event in _ORDER if event in happened),
        # whose end was told has begun again
        told={name: those for name, those in before.told.items() if Event.RUN_ENDED not in those},
    )


def due(
    run: RunNews, target: Target, settings: NotifySettings, now: float, *, since: float = 0.0
) -> tuple[Event, ...]:
    """Return of which events a target is to be told now, the most important first.

    With the end of a run all of its events are told again.

    Args:
        run: what happened.
        target: receives the message.
        settings: of all targets.
        now: seconds since 1970.
        since: when the target was defined; earlier events are not sent.
    """
    if run.last_at < since:
        return ()
    if not run.open and not is_past(run.last_at, SETTLE_S, now):
        return ()
    happened = run.happened if run.open else (Event.RUN_ENDED, *run.happened)
    wanted = settings.wanted(target, run.notify)
    events = [event for event in happened if event in wanted]
    told = run.told.get(target.name, ())
    untold = [event for event in events if event not in told]
    return tuple(untold if run.open else events if untold else ())


def left(notices: Notices, settings: NotifySettings, now: float) -> Notices:
    """Return the notices without runs of which nothing is left to tell, and targets that are gone."""
    names = {target.name for target in settings.targets}
    since = notices.targets or {}
    runs = {
        run.id: run
        for run in notices.runs.values()
        if run.open
        or not is_past(run.last_at, SETTLE_S, now)
        or any(
            due(run, target, settings, now, since=since.get(target.name, 0.0))
            for target in settings.targets
        )
    }
    failing = {name: each for name, each in notices.failing.items() if name in names}
    return notices._replace(runs=runs, failing=failing)


def told(notices: Notices, target: str, run: RunNews, events: Sequence[Event]) -> Notices:
    """Return the notices with a target that was told of events of a run, as that stood then."""
    failing = {name: each for name, each in notices.failing.items() if name != target}
    now = notices.runs.get(run.id)
    if now is None:
        return notices._replace(failing=failing)
    if now.last_at != run.last_at:  # it has begun again meanwhile
        events = [event for event in events if event is not Event.RUN_ENDED]
    marked = now._replace(told={**now.told, target: (*now.told.get(target, ()), *events)})
    return notices._replace(runs={**notices.runs, run.id: marked}, failing=failing)


def failed(
    notices: Notices, told_now: Notices, lost: GivenUp, *, happened: float, retry_s: float
) -> Notices:
    """Return the notices after a try that came to nothing; the next one is later, if there is one.

    Args:
        notices: as they were.
        told_now: as they would be if the target had been told.
        lost: the message as one that is not sent any more, which it is once it was tried for long enough.
        happened: when the last of what it tells of did.
        retry_s: how long it is tried.
    """
    before = notices.failing.get(lost.target)
    tries = 1 if before is None else before.tries + 1
    if tries >= LEAST_TRIES and is_past(happened, retry_s, lost.at):
        return told_now._replace(given_up=(*notices.given_up, lost)[-MOST_GIVEN_UP:])
    next_at = lost.at + min(PAUSE_S * 2 ** min(tries - 1, 20), LONGEST_PAUSE_S)
    failing = Failing(lost.title, happened, tries, next_at, lost.why)
    return notices._replace(failing={**notices.failing, lost.target: failing})


def may_be_tried(failing: Failing | None, now: float) -> bool:
    """Tell whether a target may be told now; a longer wait than the longest pause tells that the clock was set back."""
    return failing is None or not now < failing.next <= now + LONGEST_PAUSE_S


def is_past(since: float, span_s: float, now: float) -> bool:
    """Tell whether so long has passed; also where the clock was set back behind its beginning."""
    return not since <= now < since + span_s


def write_notices(home: Home, notices: Notices) -> None:
    """Replace the file.

    Raises:
        OSError: the disk is full; the old one is still there.
    """
    runs: list[Json] = [
        {**run._asdict(), "notify": run.notify.record()} for run in notices.runs.values()
    ]
    record: dict[str, Json] = {
        "schema": SCHEMA,
        "cursor": notices.cursor,
        "runs": runs,
        "failing": {name: each._asdict() for name, each in notices.failing.items()},
        "given_up": [each._asdict() for each in notices.given_up],
        "targets": None if notices.targets is None else dict(notices.targets),
    }
    write_json(home.notify, record, mode=0o600)


def read_notices(home: Home) -> Notices:
    """Return what the file says; nothing where there is none, or it cannot be understood."""
    record: Any = read_json(home.notify)
    try:
        if record is not None and record["schema"] == SCHEMA:
            return _notices(record)
    except (KeyError, TypeError, ValueError, AttributeError):
        pass
    return Notices()


def _notices(record: Any) -> Notices:
    cursor, targets = record["cursor"], record.get("targets")
    return Notices(
        cursor=None if cursor is None else int(cursor),
        runs={run.id: run for run in map(_run, record["runs"])},
        failing={name: Failing(**each) for name, each in record["failing"].items()},
        given_up=tuple(GivenUp(**each) for each in record["given_up"]),
        targets=None if targets is None else {str(name): float(targets[name]) for name in targets},
    )


def _run(record: Any) -> RunNews:
    return RunNews(
        **{
            **record,
            "notify": recorded_run_notify(record["notify"]),
            "totals": {State(state): int(n) for state, n in record["totals"].items()},
            "happened": _events(record["happened"]),
            "told": {name: _events(words) for name, words in record["told"].items()},
        }
    )


def _events(words: Any) -> tuple[Event, ...]:
    return tuple(Event(word) for word in words)


# --- what a message says

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


def of_run(
    run: RunNews,
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
    first = failures[:1] if Event.FIRST_FAILURE in events else ()
    short = [each for each in failures if each.reason.code is ReasonCode.OUT_OF_MEMORY]
    short = short if Event.OUT_OF_MEMORY in events else []
    noted = [each for each in failures if each in first or each in short]
    left = short[0].alike - len(short) if short else 0
    took_s = max(0.0, (now if run.open else run.last_at) - run.since)
    if run.open:
        title = f"{run.name}: {_headline(first, short)}"
        lines = [f"{run.name} continues: {in_counts(run.totals)}, {counted(run.open, 'job')} left."]
    else:
        title = f"{run.name} ended: {in_counts(counts)} in {format_seconds(took_s)}"
        lines = _end_lines(run, counts, took_s)
    told = (("first failure", first), ("out of memory", short))
    for job in noted:
        what = " and ".join(words for words, those in told if job in those)
        lines += ["", f"{what}: {job.name} (job {job.job})"]
        lines += [f"  {_reason(job)}", f"  launcher logs {job.job}"]
    if left:
        lines += ["", f"and {counted(left, 'more job')} out of memory"]
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


def of_test(target: str, host: str) -> Message:
    """Return a message that tells of nothing."""
    lines = [
        f"`launcher notify --test` sent this message to {target}.",
        "",
        f"machine: {host}",
    ]
    return _message("test", ("test",), f"launcher on {host}: test message", lines, {}, host)


def in_counts(counts: Mapping[State, int]) -> str:
    """Return how many jobs came to which end: `108 done, 2 failed`."""
    parts = [f"{counts[state]:,} {state}" for state in _ENDS if counts.get(state)]
    return ", ".join(parts) or "none ended"


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


def _headline(first: Sequence[Failure], short: Sequence[Failure]) -> str:
    """Return what happened to a run that goes on, in a few words."""
    if short:
        more = short[0].alike - 1
        return f"{short[0].name} ran out of memory" + (f", and {more} more" if more else "")
    # whoever removed the job meanwhile knows more of it
    return f"{first[0].name if first else 'a job'} failed, the first failure of this run"


def _end_lines(run: RunNews, counts: Mapping[State, int], took_s: float) -> list[str]:
    began, ended = _clock(run.since, run.last_at), _clock(run.last_at, run.last_at)
    lines = [f"{in_counts(counts)}; started {began}, ended {ended} ({format_seconds(took_s)})."]
    every = {state: run.totals.get(state, 0) for state in ENDED}
    if sum(every.values()) > sum(counts.values()):
        lines.append(f"The whole run: {in_counts(every)}.")
    return lines


def _reason(failure: Failure) -> str:
    short = failure.reason.data.get("short")
    return short if isinstance(short, str) else without_state(failure.reason.text)


def _clock(at: float, now: float) -> str:
    local = datetime.fromtimestamp(at).astimezone()
    return local.strftime("%H:%M" if abs(now - at) < _DAY_S else "%d %b %H:%M")


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
