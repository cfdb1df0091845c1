"""What the process that sends messages knows, and which message is due: pure functions, and the file that stores it.

For each run that continues, or whose end was not reported yet, it knows what happened and which targets were told. A
target is recorded after its message was sent: no message is lost, however often the process dies, and a message that
was sent just before a death is sent again.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from launcher.job_options.notifications import Event, recorded_run_notify
from launcher.notify.settings import NotifySettings, Target
from launcher.states import State
from launcher.store.run_news import RunNews
from launcher.system.files import Json, read_json, write_json
from launcher.system.paths import Home

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
