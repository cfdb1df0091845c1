"""The state of the process that sends messages, and which message is due: pure functions and the stored file.

For each run that continues, or whose end is not reported yet, the state contains its events and the targets that
received them. A target is recorded after its message was sent. No message is lost if the process crashes, and a
message that was sent just before a crash is sent again.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from launcher.frontends.notify.settings import NotifySettings, NotifyTarget
from launcher.queue.home.paths import Home
from launcher.queue.job_options.notifications import NotifyEvent, run_notify_from_record
from launcher.queue.jobs.states import Reason, ReasonCode, State
from launcher.queue.store.run_news import JobEnd, RunEvents
from launcher.system.files import Json, read_json, write_json
from launcher.system.stored_fields import restore_fields
from launcher.system.units import exponential_backoff_s

SCHEMA = 2
RUN_END_DELAY_S = 5.0  # a run without open jobs has ended after this time: jobs added one by one cause one message
OLDEST_EVENT_S = 86_400.0  # older events are not reported
FIRST_BACKOFF_S = 10.0  # seconds after a failed try; doubles with each try
LONGEST_BACKOFF_S = 1800.0
LEAST_TRIES = 5  # before a message is abandoned, independent of the clock
MOST_DEAD_LETTERS = 20
_BY_IMPORTANCE = (NotifyEvent.OUT_OF_MEMORY, NotifyEvent.FIRST_FAILURE)  # the most important first


class RetryState(NamedTuple):
    """A target whose last message could not be sent."""

    title: str  # title of the message
    at: float  # time of the reported event
    tries: int
    next: float  # time of the next try
    answer: str  # the error of the last try


class DeadLetter(NamedTuple):
    """An abandoned message."""

    at: float
    target: str
    title: str
    why: str


class NotificationState(NamedTuple):
    """The stored state of all runs and targets."""

    cursor: int | None = None  # ID of the last event that was read; None: no event yet
    runs: Mapping[int, RunEvents] = {}
    job_ends: tuple[JobEnd, ...] = ()  # ends of jobs to report, in the order of their events
    failing: Mapping[str, RetryState] = {}  # by target
    given_up: tuple[DeadLetter, ...] = ()
    # target → time of the target's definition in seconds since 1970
    targets: Mapping[str, float] = {}

    @property
    def has_pending(self) -> bool:
        """Whether a message is pending."""
        ended = any(not run.open for run in self.runs.values())
        return bool(self.failing or self.job_ends or ended)


def with_events(
    state: NotificationState,
    last_event: int,
    runs: Iterable[RunEvents],
    now: float,
    *,
    job_ends: Iterable[JobEnd] = (),
) -> NotificationState:
    """Return the state with the events of runs, and the ends of jobs to report, up to an event ID."""
    known = dict(state.runs)
    for run in runs:
        if run.id in known or run.open or run.since >= now - OLDEST_EVENT_S:
            known[run.id] = _merge_run(known.get(run.id), run)
    new = [end for end in job_ends if end.at >= now - OLDEST_EVENT_S]
    return state._replace(cursor=last_event, runs=known, job_ends=(*state.job_ends, *new))


def with_targets(
    state: NotificationState, names: Iterable[str], change_time: float
) -> NotificationState:
    """Return the state with the current targets; new targets are defined since `change_time`.

    Earlier events of a run count as sent to a new target.
    """
    names = [*names]
    known = state.targets
    new = [name for name in names if name not in known]
    runs = {}
    for run in state.runs.values():
        happened = run.happened if run.open else (*run.happened, NotifyEvent.RUN_ENDED)
        is_past = run.last_at < change_time
        told = {**run.told, **{name: happened for name in new if is_past}}
        runs[run.id] = run._replace(told=told)
    job_ends = tuple(
        end._replace(told=(*end.told, *new)) if end.at < change_time else end
        for end in state.job_ends
    )
    targets = {name: known.get(name, change_time) for name in names}
    return state._replace(targets=targets, runs=runs, job_ends=job_ends)


def _merge_run(earlier_events: RunEvents | None, run: RunEvents) -> RunEvents:
    if earlier_events is None:
        return run
    happened = {*earlier_events.happened, *run.happened}
    return run._replace(
        since=earlier_events.since,
        after=earlier_events.after,
        happened=tuple(event for event in _BY_IMPORTANCE if event in happened),
        # a run whose end was reported has started again
        told={
            name: those
            for name, those in earlier_events.told.items()
            if NotifyEvent.RUN_ENDED not in those
        },
    )


def due_events(
    run: RunEvents,
    target: NotifyTarget,
    settings: NotifySettings,
    now: float,
    *,
    start_time: float = 0.0,
) -> tuple[NotifyEvent, ...]:
    """Return the events that a target must receive now, the most important first.

    The end of a run is reported with all of its events.

    Args:
        run: Events of a run.
        target: Target of the message.
        settings: Settings of all targets.
        now: Seconds since 1970.
        start_time: Time of the target's definition; earlier events are not sent.
    """
    if run.last_at < start_time:
        return ()
    if not run.open and not has_passed(run.last_at, RUN_END_DELAY_S, now):
        return ()
    happened = run.happened if run.open else (NotifyEvent.RUN_ENDED, *run.happened)
    wanted = settings.events_for_run(target, run.notify)
    events = [event for event in happened if event in wanted]
    told = run.told.get(target.name, ())
    untold = [event for event in events if event not in told]
    return tuple(untold if run.open else events if untold else ())


def is_end_due(
    end: JobEnd, target: NotifyTarget, settings: NotifySettings, *, start_time: float = 0.0
) -> bool:
    """Return whether a target must receive the end of a job, or a hold.

    If the owner of the job asked for this message, it goes to every target, or to those that its run selects.

    Args:
        end: End of the job, or hold of its siblings.
        target: Target of the message.
        settings: Settings of all targets.
        start_time: Time of the target's definition; earlier ends are not sent.
    """
    is_selected = end.notify.to is None or target.name in end.notify.to
    if not end.is_requested:
        is_selected = NotifyEvent.JOBS_HELD in settings.events_for_run(target, end.notify)
    return is_selected and end.at >= start_time and target.name not in end.told


def prune(state: NotificationState, settings: NotifySettings, now: float) -> NotificationState:
    """Return the state without completely reported runs and without removed targets."""
    names = {target.name for target in settings.targets}
    since = state.targets
    runs = {
        run.id: run
        for run in state.runs.values()
        if run.open
        or not has_passed(run.last_at, RUN_END_DELAY_S, now)
        or any(
            due_events(run, target, settings, now, start_time=since.get(target.name, 0.0))
            for target in settings.targets
        )
    }
    job_ends = tuple(
        end
        for end in state.job_ends
        if any(
            is_end_due(end, target, settings, start_time=since.get(target.name, 0.0))
            for target in settings.targets
        )
    )
    failing = {name: each for name, each in state.failing.items() if name in names}
    return state._replace(runs=runs, job_ends=job_ends, failing=failing)


def mark_end_sent(state: NotificationState, target: str, end: JobEnd) -> NotificationState:
    """Return the state after a target received the end of a job."""
    job_ends = tuple(
        each._replace(told=(*each.told, target)) if each.event == end.event else each
        for each in state.job_ends
    )
    failing = {name: each for name, each in state.failing.items() if name != target}
    return state._replace(job_ends=job_ends, failing=failing)


def mark_sent(
    state: NotificationState, target: str, run: RunEvents, events: Sequence[NotifyEvent]
) -> NotificationState:
    """Return the state after a target received events of a run, as of the start of the delivery."""
    failing = {name: each for name, each in state.failing.items() if name != target}
    now = state.runs.get(run.id)
    if now is None:
        return state._replace(failing=failing)
    if now.last_at != run.last_at:  # the run has started again meanwhile
        events = [event for event in events if event is not NotifyEvent.RUN_ENDED]
    marked = now._replace(told={**now.told, target: (*now.told.get(target, ()), *events)})
    return state._replace(runs={**state.runs, run.id: marked}, failing=failing)


def mark_failed(
    state: NotificationState,
    sent_state: NotificationState,
    dead_letter: DeadLetter,
    *,
    event_time: float,
    retry_s: float,
) -> NotificationState:
    """Return the state after a failed try. The next try is later; after `retry_s` the message is abandoned.

    Args:
        state: State before the try.
        sent_state: State after a successful delivery.
        dead_letter: Record of the message if it is abandoned.
        event_time: Time of the last reported event.
        retry_s: Seconds after which the message is abandoned.
    """
    before = state.failing.get(dead_letter.target)
    tries = 1 if before is None else before.tries + 1
    if tries >= LEAST_TRIES and has_passed(event_time, retry_s, dead_letter.at):
        return sent_state._replace(given_up=(*state.given_up, dead_letter)[-MOST_DEAD_LETTERS:])
    next_at = dead_letter.at + exponential_backoff_s(FIRST_BACKOFF_S, tries - 1, LONGEST_BACKOFF_S)
    failing = RetryState(dead_letter.title, event_time, tries, next_at, dead_letter.why)
    return state._replace(failing={**state.failing, dead_letter.target: failing})


def is_retry_due(retry_state: RetryState | None, now: float) -> bool:
    """Return whether a retry is due. A wait longer than the longest pause means that the clock was set back."""
    return retry_state is None or not now < retry_state.next <= now + LONGEST_BACKOFF_S


def has_passed(start_time: float, span_s: float, now: float) -> bool:
    """Return whether a time span has passed; true if the clock was set back before its start."""
    return not start_time <= now < start_time + span_s


def write_notification_state(home: Home, state: NotificationState) -> None:
    """Replace the stored state.

    Raises:
        OSError: the disk is full; the old file is unchanged.
    """
    runs: list[Json] = [
        {**run._asdict(), "notify": run.notify.to_json()} for run in state.runs.values()
    ]
    record: dict[str, Json] = {
        "schema": SCHEMA,
        "cursor": state.cursor,
        "runs": runs,
        "job_ends": [
            {**end._asdict(), "notify": end.notify.to_json(), "reason": end.reason._asdict()}
            for end in state.job_ends
        ],
        "failing": {name: each._asdict() for name, each in state.failing.items()},
        "given_up": [each._asdict() for each in state.given_up],
        "targets": dict(state.targets),
    }
    write_json(home.notify_record, record, mode=0o600)


def read_notification_state(home: Home) -> NotificationState:
    """Return the stored state; an empty state if the file is missing or invalid."""
    record: Any = read_json(home.notify_record)
    try:
        if record is not None and record["schema"] == SCHEMA:
            return _read_state(record)
    except (KeyError, TypeError, ValueError, AttributeError):
        pass
    return NotificationState()


def _read_state(record: Any) -> NotificationState:
    cursor = record["cursor"]
    return NotificationState(
        cursor=None if cursor is None else int(cursor),
        runs={run.id: run for run in map(_read_run, record["runs"])},
        job_ends=tuple(map(_read_job_end, record["job_ends"])),
        failing={
            name: restore_fields(RetryState, each, "a retry")
            for name, each in record["failing"].items()
        },
        given_up=tuple(
            restore_fields(DeadLetter, each, "a message") for each in record["given_up"]
        ),
        targets={str(name): float(at) for name, at in record["targets"].items()},
    )


def _read_run(record: Any) -> RunEvents:
    values = {
        **record,
        "notify": run_notify_from_record(record["notify"]),
        "totals": {State(state): int(n) for state, n in record["totals"].items()},
        "happened": _read_events(record["happened"]),
        "told": {name: _read_events(words) for name, words in record["told"].items()},
    }
    return restore_fields(RunEvents, values, "a run")


def _read_job_end(record: Any) -> JobEnd:
    reason = {**record["reason"], "code": ReasonCode(record["reason"]["code"])}
    values = {
        **record,
        "notify": run_notify_from_record(record["notify"]),
        "state": State(record["state"]),
        "reason": restore_fields(Reason, reason, "a reason"),
        "told": tuple(map(str, record["told"])),
    }
    return restore_fields(JobEnd, values, "the end of a job")


def _read_events(words: Any) -> tuple[NotifyEvent, ...]:
    return tuple(NotifyEvent(word) for word in words)
