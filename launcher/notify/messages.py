"""Messages: what they say, which of those that wait are due, what a failed try means, what quiet hours make of them.

Pure functions from notes to a title, a text, and the facts for commands, and from an outbox to an outbox.
"""

import secrets
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from launcher.errors import counted
from launcher.job_options.notifications import Event
from launcher.notify.settings import NotifySettings, Quiet
from launcher.notify.state import MOST_GIVEN_UP, Bundle, Delivery, GivenUp, Note, Notices, RunWatch
from launcher.states import ENDED, State
from launcher.system.text import harmless
from launcher.units import format_seconds

WITHOUT_FOLDER = frozenset({"add", "functions"})  # runs of programs and functions, of no task file
MESSAGES = "LAUNCHER_MESSAGES"  # of how many messages a digest was made
MOST_TITLE = 160  # characters; some services take no more
MOST_TEXT = 4000
MOST_LINES = 12  # of single jobs
_ORDER = (
    Event.RUN_ENDED,
    Event.GPU_FAILED,
    Event.OUT_OF_MEMORY,
    Event.FIRST_FAILURE,
    Event.GPU_IDLE,
)
_ENDS = (State.DONE, State.FAILED, State.CANCELLED, State.SKIPPED)
_DAY_S = 86_400.0
_IN_WORDS = {Event.FIRST_FAILURE: "first failure", Event.OUT_OF_MEMORY: "out of memory for good"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What is to be said to all who want to hear it."""

    at: float
    events: tuple[Event, ...]  # the most important first
    title: str
    text: str
    facts: Mapping[str, str] = field(default_factory=dict)

    def to(self, targets: Iterable[str], *, quiet: bool) -> tuple[Delivery, ...]:
        """Return the message for each of these targets.

        Args:
            targets: their names.
            quiet: it waits for the end of the quiet hours.
        """
        return tuple(
            Delivery(
                id=secrets.token_hex(8),
                target=target,
                at=self.at,
                events=self.events,
                title=self.title,
                text=self.text,
                facts=self.facts,
                quiet=quiet,
            )
            for target in targets
        )


def of_run(run: RunWatch, counts: Mapping[State, int] | None, host: str, now: float) -> Message:
    """Return the message of what happened to a run.

    Args:
        run: with its notes.
        counts: of the jobs that ended since it began, where it has ended; None: it goes on.
        host: this machine's name.
        now: seconds since 1970.
    """
    events = _events_of(run.bundle) | ({Event.RUN_ENDED} if counts else set())
    first = next(iter(run.bundle.notes), None)
    if counts:
        upto = now if run.ended is None else run.ended
        took_s = max(0.0, upto - run.since)
        title = f"{run.name} ended: {in_counts(counts)} in {format_seconds(took_s)}"
        lines = _end_lines(run, counts, upto, took_s)
    else:
        took_s = max(0.0, now - run.since)
        title = f"{run.name}: {_headline(run.bundle)}"
        lines = [f"{run.name} goes on: {in_counts(run.totals)}, {counted(run.open, 'job')} left."]
    lines += _note_lines(run.bundle)
    folder = "" if run.name in WITHOUT_FOLDER else f"{run.root}/runs/{run.name}"
    lines += ["", *([f"folder: {folder}"] if folder else []), f"machine: {host}"]
    shown = counts or run.totals
    facts = {
        "RUN": run.name,
        "FOLDER": folder,
        "SECONDS": f"{took_s:.0f}",
        **{state.upper(): str(shown.get(state, 0)) for state in _ENDS},
        **({} if first is None else _job_facts(first)),
    }
    return _message(now, events, title, lines, facts, host)


def of_machine(bundle: Bundle, host: str, now: float) -> Message:
    """Return the message of what happened to the GPUs of a machine."""
    events = _events_of(bundle)
    titles = list(dict.fromkeys(note.text.partition("\n")[0] for note in bundle.notes))
    title = f"{host}: {titles[0]}" + (f" (and {len(titles) - 1} more)" if titles[1:] else "")
    lines = [note.text for note in bundle.notes] + ["", f"machine: {host}"]
    gpus = [note.name for note in bundle.notes if note.name]
    return _message(now, events, title, lines, {"GPU": ", ".join(gpus)}, host)


def of_test(target: str, host: str, now: float) -> Message:
    """Return a message that tells of nothing."""
    title = f"launcher on {host}: a test"
    lines = [
        f"`launcher notify --test` sent this to {target}. Messages reach you here.",
        "",
        f"machine: {host}",
    ]
    message = _message(now, set(), title, lines, {}, host)
    return Message(
        at=now,
        events=(),
        title=message.title,
        text=message.text,
        facts={**message.facts, "LAUNCHER_EVENT": "test"},
    )


def digest(deliveries: Sequence[Delivery], now: float) -> Delivery:
    """Return one message in place of several to the same target."""
    first, last = deliveries[0], deliveries[-1]
    number = sum(int(each.facts.get(MESSAGES, "1")) for each in deliveries)
    title = f"{counted(number, 'message')} of {_clock(first.at, now)} to {_clock(last.at, now)}"
    parts = []
    room = MOST_TEXT // len(deliveries)
    for each in deliveries:
        parts += [
            f"{_clock(each.at, now)}  {each.title}",
            _cut(each.text, max(0, room - len(each.title))),
            "",
        ]
    events = tuple(event for event in _ORDER if any(event in each.events for each in deliveries))
    text = _cut("\n".join(parts).strip(), MOST_TEXT)
    return Delivery(
        id=secrets.token_hex(8),
        target=first.target,
        at=now,
        events=events,
        title=title,
        text=text,
        facts={
            "LAUNCHER_EVENT": "digest",
            "LAUNCHER_EVENTS": ",".join(events),
            "LAUNCHER_HOST": first.facts.get("LAUNCHER_HOST", ""),
            MESSAGES: str(number),
        },
    )


def _events_of(bundle: Bundle) -> set[Event]:
    return {event for note in bundle.notes for event in note.events}


def in_counts(counts: Mapping[State, int]) -> str:
    """Return how many jobs came to which end: `108 done, 2 failed`."""
    parts = [f"{counts[state]:,} {state}" for state in _ENDS if counts.get(state)]
    return ", ".join(parts) or "none ended"


def _message(
    now: float,
    events: set[Event],
    title: str,
    lines: Sequence[str],
    facts: Mapping[str, str],
    host: str,
) -> Message:
    ordered = tuple(event for event in _ORDER if event in events)
    shown = _cut(harmless(title), MOST_TITLE)
    text = _cut("\n".join(harmless(each) for line in lines for each in line.split("\n")), MOST_TEXT)
    named = {
        "EVENT": str(ordered[0]) if ordered else "",
        "EVENTS": ",".join(ordered),
        "HOST": host,
        **facts,
    }
    return Message(
        at=now,
        events=ordered,
        title=shown,
        text=text,
        facts={f"LAUNCHER_{name}": harmless(value) for name, value in named.items()},
    )


def _headline(bundle: Bundle) -> str:
    """Return what happened to a run that goes on, in a few words."""
    short = [note for note in bundle.notes if Event.OUT_OF_MEMORY in note.events]
    if short:
        number = len(short) + bundle.more
        return f"{short[0].name} ran out of memory" + (
            f", and {number - 1} more" if number > 1 else ""
        )
    first = bundle.notes[0]
    return f"{first.name} failed, the first of this run"


def _end_lines(run: RunWatch, counts: Mapping[State, int], upto: float, took_s: float) -> list[str]:
    began, ended = _clock(run.since, upto), _clock(upto, upto)
    lines = [f"{in_counts(counts)}; began {began}, ended {ended} ({format_seconds(took_s)})."]
    every = {state: run.totals.get(state, 0) for state in ENDED}
    if sum(every.values()) > sum(counts.values()):
        lines.append(f"The run in all: {in_counts(every)}.")
    return lines


def _note_lines(bundle: Bundle) -> list[str]:
    lines: list[str] = []
    for note in bundle.notes[:MOST_LINES]:
        what = " and ".join(_IN_WORDS[event] for event in reversed(note.events))
        lines += [
            "",
            f"{what}: {note.name} (job {note.job})",
            f"  {note.text}",
            f"  launcher logs {note.job}",
        ]
    left = (
        len(bundle.notes) - MOST_LINES + bundle.more
        if len(bundle.notes) > MOST_LINES
        else bundle.more
    )
    if left > 0:
        lines += ["", f"and {counted(left, 'more job')} out of memory"]
    return lines


def _job_facts(note: Note) -> dict[str, str]:
    return {"JOB": str(note.job), "JOB_NAME": note.name, "REASON": note.text}


def _clock(at: float, now: float) -> str:
    local = datetime.fromtimestamp(at).astimezone()
    return local.strftime("%H:%M" if abs(now - at) < _DAY_S else "%d %b %H:%M")


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


PAUSE_S = 10.0  # after a failed try; doubles each time
LONGEST_PAUSE_S = 1800.0
LEAST_TRIES = 5  # before a message is given up, whatever the clock says
MOST_SINGLE = 5  # messages to a target that are sent as such; more at once become one
MOST_HELD = 50  # likewise while quiet hours last
MOST = 200  # messages that wait; of more, which were tried all, the oldest are given up


def is_quiet(quiet: Quiet | None, now: float) -> bool:
    """Tell whether a moment lies in the quiet hours of the local day."""
    if quiet is None:
        return False
    return quiet.holds(datetime.fromtimestamp(now).astimezone().time())


def posted(notices: Notices, deliveries: Iterable[Delivery], now: float) -> Notices:
    """Return the notices with further messages in the outbox."""
    every = (*notices.outbox, *deliveries)
    dropped = every[: max(0, len(every) - MOST)]
    notices = replace(notices, outbox=every[len(dropped) :])
    for delivery in dropped:
        notices = _given_up(notices, delivery, f"more than {MOST} messages wait", now)
    return notices


def gathered(notices: Notices, under_way: Collection[str], now: float, *, quiet: bool) -> Notices:
    """Return the notices with one message in place of several to the same target.

    That are those of its quiet hours, and so many at once that nobody would read each.

    Args:
        notices: hold the outbox.
        under_way: IDs of messages that are being sent.
        now: seconds since 1970.
        quiet: these are quiet hours, in which all of them wait.
    """
    waiting: dict[str, list[Delivery]] = {}
    for delivery in notices.outbox:
        if not delivery.tries and delivery.id not in under_way:
            waiting.setdefault(delivery.target, []).append(delivery)
    outbox = {delivery.id: delivery for delivery in notices.outbox}
    for deliveries in waiting.values():
        together = _together(deliveries, quiet=quiet)
        if not together:
            continue
        for delivery in together:
            del outbox[delivery.id]
        merged = together[0] if len(together) == 1 else digest(together, now)
        outbox[merged.id] = replace(merged, quiet=quiet)
    return replace(notices, outbox=tuple(outbox.values()))


def _together(deliveries: Sequence[Delivery], *, quiet: bool) -> list[Delivery]:
    """Return which of the messages that wait for a target become one."""
    if len(deliveries) > (MOST_HELD if quiet else MOST_SINGLE):
        return [*deliveries]
    return [] if quiet else [delivery for delivery in deliveries if delivery.quiet]


def due(notices: Notices, busy: Collection[str], now: float) -> list[Delivery]:
    """Return what is to be sent now: the oldest message of each target that is due.

    Args:
        notices: hold the outbox.
        busy: names of targets to which a message is under way.
        now: seconds since 1970.
    """
    first: dict[str, Delivery] = {}
    for delivery in notices.outbox:
        if delivery.target not in busy and _is_due(delivery, now):
            first.setdefault(delivery.target, delivery)
    return list(first.values())


def _is_due(delivery: Delivery, now: float) -> bool:
    # a longer wait than the longest pause tells that the clock was set back
    return not now < delivery.next <= now + LONGEST_PAUSE_S


def next_due_s(notices: Notices, now: float) -> float:
    """Return how long it is until a message may be due."""
    return min(
        (max(0.0, delivery.next - now) for delivery in notices.outbox), default=LONGEST_PAUSE_S
    )


def sent(notices: Notices, id_: str) -> Notices:
    """Return the notices without a message that was sent."""
    outbox = tuple(delivery for delivery in notices.outbox if delivery.id != id_)
    return replace(notices, outbox=outbox)


def failed(notices: Notices, id_: str, why: str, settings: NotifySettings, now: float) -> Notices:
    """Return the notices after a try that came to nothing: the message is tried again, or given up."""
    delivery = next((each for each in notices.outbox if each.id == id_), None)
    if delivery is None:
        return notices
    tries, first = delivery.tries + 1, now if delivery.tried is None else delivery.tried
    if tries >= LEAST_TRIES and not first <= now < first + settings.retry_s:
        return _given_up(sent(notices, id_), delivery, why, now)
    pause_s = min(PAUSE_S * 2 ** min(delivery.tries, 20), LONGEST_PAUSE_S)
    again = replace(delivery, tries=tries, tried=first, next=now + pause_s, answer=why)
    outbox = tuple(again if each.id == id_ else each for each in notices.outbox)
    return replace(notices, outbox=outbox)


def without_target(notices: Notices, targets: Collection[str], now: float) -> Notices:
    """Return the notices without messages to targets that the configuration has no more."""
    for delivery in notices.outbox:
        if delivery.target not in targets:
            why = "config.toml has no such target any more"
            notices = _given_up(sent(notices, delivery.id), delivery, why, now)
    return notices


def _given_up(notices: Notices, delivery: Delivery, why: str, now: float) -> Notices:
    given_up = GivenUp(at=now, target=delivery.target, title=delivery.title, why=why)
    return replace(notices, given_up=(*notices.given_up, given_up)[-MOST_GIVEN_UP:])
