"""From what happened to messages: pure functions of rows of the queue and of looks at the GPUs."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from launcher.job_options.notifications import AS_CONFIGURED, Event
from launcher.notify.messages import Message, of_machine, of_run
from launcher.notify.settings import NotifySettings
from launcher.notify.state import Bundle, Note, Notices, RunWatch
from launcher.states import ReasonCode, State
from launcher.store.news import Failure, News, RunNews

AGAIN_S = 3600.0  # between two messages of a run that goes on
MOST_NOTES = 10
STALE_S = 86_400.0  # what happened longer ago is no news

Counts = Callable[[int, float], Mapping[State, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Addressed:
    """A message, and who gets it."""

    message: Message
    targets: tuple[str, ...]


def noted(notices: Notices, news: News, settings: NotifySettings, now: float) -> Notices:
    """Return the notices with what happened to runs: which go on, and what is worth telling.

    Args:
        notices: as they were.
        news: what happened after their cursor.
        settings: which events are wanted.
        now: seconds since 1970.
    """
    runs = dict(notices.runs)
    for run in news.runs:
        if run.id not in runs and run.first_at < now - STALE_S and not run.open:
            continue
        failures = [failure for failure in news.failures if failure.run == run.id]
        runs[run.id] = _after(runs.get(run.id), run, failures, settings, now)
    return replace(notices, cursor=news.upto, runs=runs)


def _after(
    before: RunWatch | None,
    news: RunNews,
    failures: Iterable[Failure],
    settings: NotifySettings,
    now: float,
) -> RunWatch:
    watch = before or RunWatch(id=news.id, name=news.name, root=news.root, since=news.first_at)
    wanted = settings.of_machine if news.notify.events is None else frozenset(news.notify.events)
    notes, short = [], 0
    for number, failure in enumerate(failures):
        events = _events_of(failure, first=watch.failed + number == 0)
        short += Event.OUT_OF_MEMORY in events
        if worth := tuple(event for event in events if event in wanted):
            notes.append(_note(worth, failure))
    unlisted = max(0, news.out_of_memory - short) if Event.OUT_OF_MEMORY in wanted else 0
    return replace(
        watch,
        notify=news.notify,
        open=news.open,
        totals=news.totals,
        failed=watch.failed + news.failed,
        ended=None if news.open else news.last_at,
        bundle=with_notes(watch.bundle, notes, now, more=unlisted),
    )


def _events_of(failure: Failure, *, first: bool) -> tuple[Event, ...]:
    short = failure.reason.code is ReasonCode.OUT_OF_MEMORY
    events = ((Event.OUT_OF_MEMORY, short), (Event.FIRST_FAILURE, first))
    return tuple(event for event, holds in events if holds)


def with_notes(bundle: Bundle, notes: Iterable[Note], now: float, *, more: int = 0) -> Bundle:
    """Return a bundle with further notes; what is beyond its room is counted."""
    every = (*bundle.notes, *notes)
    if not every:
        return bundle
    return Bundle(
        notes=every[:MOST_NOTES],
        more=bundle.more + more + len(every[MOST_NOTES:]),
        opened=bundle.opened if bundle.notes else now,
    )


def _note(events: tuple[Event, ...], failure: Failure) -> Note:
    short = failure.reason.data.get("short")
    text = short if isinstance(short, str) else failure.reason.text
    return Note(events=events, at=failure.at, text=text, job=failure.job, name=failure.name)


def ripe(
    notices: Notices, counts: Counts, settings: NotifySettings, host: str, now: float
) -> tuple[Notices, list[Addressed]]:
    """Return the messages whose time has come, and the notices without what they tell.

    Args:
        notices: as they are.
        counts: returns how many jobs of a run ended since a time, by their states.
        settings: how long is waited for more.
        host: this machine's name.
        now: seconds since 1970.
    """
    runs, messages = dict(notices.runs), list[Addressed]()
    for run in notices.runs.values():
        if run.ended is not None:  # what is to be told of it goes into the message of its end
            if _is_past(run.ended, settings.bundle_s, now):
                messages += _of_run(run, counts(run.id, run.since), settings, host, now)
                del runs[run.id]
        elif run.bundle.notes and _is_past(run.bundle.opened, _patience_s(run, settings), now):
            addressed = [*_of_run(run, None, settings, host, now)]
            messages += addressed
            runs[run.id] = replace(run, bundle=Bundle(), messages=run.messages + len(addressed))
    machine = notices.machine
    if machine.notes and _is_past(machine.opened, settings.bundle_s, now):
        events = frozenset(event for note in machine.notes for event in note.events)
        targets = settings.receivers(events, AS_CONFIGURED)
        messages.append(Addressed(message=of_machine(machine, host, now), targets=targets))
        machine = Bundle()
    return replace(notices, runs=runs, machine=machine), messages


def _of_run(
    run: RunWatch,
    counts: Mapping[State, int] | None,
    settings: NotifySettings,
    host: str,
    now: float,
) -> Iterator[Addressed]:
    """Yield the message of a run, where something is to be said and somebody wants to hear it."""
    if not counts and not run.bundle.notes:  # nothing of it ran
        return
    message = of_run(run, counts or None, host, now)
    targets = settings.receivers(frozenset(message.events), run.notify)
    if targets:
        yield Addressed(message=message, targets=targets)


def _patience_s(run: RunWatch, settings: NotifySettings) -> float:
    """Return how long notes of a run that goes on wait for others."""
    return settings.bundle_s if not run.messages else max(settings.bundle_s, AGAIN_S)


def _is_past(since: float, span_s: float, now: float) -> bool:
    """Tell whether so long has passed; also where the clock was set back behind its beginning."""
    return not since <= now < since + span_s
