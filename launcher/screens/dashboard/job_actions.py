"""What a person may do to a job, or to several, from a screen: the question first, then exactly what a verb does.

Several jobs are one question, one answer, one transaction. Tags and notes are written as `launcher tag` and
`launcher note` do, in a line at the bottom: those of one job as they are, of several what changes.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from launcher.errors import Error, UsageError, counted
from launcher.job_options.value_types import PRIORITY
from launcher.screens.dashboard.page import Later
from launcher.screens.format import first_line, harmless, named, pause_reason, reserved_text
from launcher.screens.snapshots import Queue
from launcher.screens.text_table import Line, Span, Tone, line, shortened, width_of
from launcher.states import OPEN, State
from launcher.store.client import set_off
from launcher.store.queue import Store
from launcher.store.rows import JobRow
from launcher.store.steering import LONGEST_NOTE, TAG_RULE, check_note, is_tag
from launcher.system.daemon_control import ensure_scheduler, wake
from launcher.system.paths import Home

LEAST_NAME = 12  # columns of a job's name in a question
ANSWERS = "  y/n"


class JobAction(NamedTuple):
    """A change of a job that the user must confirm."""

    job: JobRow
    verb: str  # as in the question: "cancel job"
    done: str  # as in the answer: "cancelled"
    act: Callable[[Store], list[int]]  # in the database; returns the jobs that it concerned
    after: Callable[[Home], object]  # may take seconds, and touches no database
    tail: str = "?"  # what follows the job's name

    @property
    def asked(self) -> str:
        """What is asked, with the job's whole name."""
        return self.asked_with(harmless(self.job.name))

    def asked_with(self, name: str) -> str:
        """Return what is asked, with as much of the job's name."""
        return f"{self.verb} {self.job.id} {name}{self.tail}"


def propose(key: str, job: JobRow, store: Store) -> JobAction | str:
    """Return what a key would do to a job, or why that cannot be.

    Args:
        key: one of KEYS.
        job: as the queue knows it now.
        store: is only read.
    """
    return _ACTIONS[key].propose(job, store)


def done_text(action: JobAction, touched: Sequence[int], home: Home) -> str:
    """Return what was done, for people.

    Args:
        action: what was confirmed.
        touched: the jobs that it concerned; at least one.
        home: the queue's.
    """
    more = len(touched) - 1
    also = f", and {more:,} more" if more else ""
    stays = home.stop.exists() and action.done == "released"
    note = "; the queue is stopped, `launcher start` goes on" if stays else ""
    return f"job {action.job.id} {harmless(action.job.name)} {action.done}{also}{note}"


def _held(job: JobRow, store: Store) -> JobAction | str:  # noqa: ARG001  # as every proposal
    if job.state is State.RUNNING:
        return "a running job cannot be held; p pauses it, c cancels it"
    if job.state is not State.QUEUED:
        return f"job {job.id} is {job.state}: only a queued job can be held"
    return JobAction(
        job=job,
        verb="hold job",
        tail="? it starts only when it is released",
        done="held",
        act=lambda queue: queue.steering.hold([job.id], time.time()),
        after=wake,
    )


def _released(job: JobRow, store: Store) -> JobAction | str:  # noqa: ARG001  # as every proposal
    if job.state is not State.HELD:
        return f"job {job.id} is {job.state}: only a held job can be released"
    return JobAction(
        job=job,
        verb="release job",
        done="released",
        act=lambda queue: queue.steering.release([job.id], time.time()),
        after=set_off,
    )


def _paused(job: JobRow, store: Store) -> JobAction | str:
    if job.state is not State.RUNNING:
        return f"job {job.id} is {job.state}: only a running job can be paused"
    if job.paused is not None:
        return f"job {job.id} is paused already; u resumes it"
    if job.wish:
        return f"job {job.id} is about to end"
    attempt = store.read.newest_attempts([job.id])[job.id]
    if attempt.pilot:
        return "a job on a node of a cluster cannot be paused: its allocation would run out"
    kept = reserved_text(attempt.device, attempt.claim)
    return JobAction(
        job=job,
        verb="pause job",
        tail=f"? {kept}" if kept else "?",
        done=f"paused; {kept}" if kept else "paused",
        act=lambda queue: _pause(queue, job.id, time.time()),
        after=_wake_or_start,
    )


def _pause(store: Store, job: int, now: float) -> list[int]:
    """Pause a job where it runs now; it may have been started anew, elsewhere, since it was asked about."""
    with store.writing():
        attempt = store.read.newest_attempts([job]).get(job)
        if attempt is None or attempt.pilot:
            return []
        reason = pause_reason(attempt.device, attempt.claim, now)
        return store.steering.pause({job: reason}, now)


def _resumed(job: JobRow, store: Store) -> JobAction | str:  # noqa: ARG001  # as every proposal
    if job.state is not State.RUNNING:
        return f"job {job.id} is {job.state}: only a paused job can be resumed"
    if job.paused is None:
        return f"job {job.id} is not paused"
    return JobAction(
        job=job,
        verb="resume job",
        done="goes on",
        act=lambda queue: queue.steering.resume([job.id], time.time()),
        after=_wake_or_start,
    )


def _cancelled(job: JobRow, store: Store) -> JobAction | str:
    if job.state not in OPEN:
        return f"job {job.id} is {job.state} already: there is nothing to cancel"
    needy = len(store.read.dependants_of([job.id]))
    verb = "needs" if needy == 1 else "need"
    dependants = f" {counted(needy, 'job')} that {verb} it will be skipped" if needy else ""
    runs = job.state is State.RUNNING
    return JobAction(
        job=job,
        verb="end running job" if runs else "cancel job",
        tail=f"?{dependants}",
        done="asked to end" if runs else "cancelled",
        act=lambda queue: queue.steering.cancel([job.id], time.time()),
        after=_wake_or_start if runs else wake,
    )


def _again(job: JobRow, store: Store) -> JobAction | str:
    if job.state in OPEN:
        return f"job {job.id} is {job.state}: only what ended can be retried"
    if job.state is State.DONE:
        return f"job {job.id} is done; `launcher retry {job.id} --force` runs it again"
    others = len(store.steering.again([job.id])) - 1
    verb = "belongs" if others == 1 else "belong"
    dependants = f" with {counted(others, 'job')} that {verb} to it" if others else ""
    return JobAction(
        job=job,
        verb="retry job",
        tail=f"{dependants}?",
        done="held again" if store.steering.held_before([job.id]) else "queued again",
        act=lambda queue: queue.steering.retry([job.id], time.time()),
        after=_go_on,
    )


def _with_priority(job: JobRow, store: Store, *, by: int) -> JobAction | str:  # noqa: ARG001  # as every proposal
    if job.state not in {State.QUEUED, State.HELD}:
        return f"job {job.id} is {job.state}: only what waits has a priority that matters"
    priority = job.priority + by
    if not PRIORITY.holds(priority):
        return f"job {job.id} has priority {job.priority}: there is none beyond"
    return JobAction(
        job=job,
        verb="priority of job",
        tail=f": {job.priority} → {priority}?",
        done=f"given priority {priority}",
        act=lambda queue: queue.steering.prioritise([job.id], priority),
        after=wake,
    )


def _wake_or_start(home: Home) -> None:
    """Let the scheduler act on what runs; start one where none lives."""
    wake(home)
    ensure_scheduler(home)


def _go_on(home: Home) -> None:
    """Let a queue that was stopped go on, as it does when jobs are queued."""
    home.stop.unlink(missing_ok=True)
    set_off(home)


class _Action(NamedTuple):
    """What a key does."""

    propose: Callable[[JobRow, Store], JobAction | str]
    many: str  # in the question about several jobs, before their number
    did: str  # in the answer, behind it


_ACTIONS: Mapping[str, _Action] = {
    "h": _Action(_held, "hold", "held"),
    "l": _Action(_released, "release", "released"),
    "p": _Action(_paused, "pause", "paused"),
    "u": _Action(_resumed, "resume", "resumed"),
    "c": _Action(_cancelled, "cancel", "cancelled"),
    "r": _Action(_again, "retry", "queued again"),
    "+": _Action(partial(_with_priority, by=1), "raise the priority of", "given more priority"),
    "-": _Action(partial(_with_priority, by=-1), "lower the priority of", "given less priority"),
}
KEYS = frozenset(_ACTIONS)


LONGEST_TAGS = 2000  # characters of all tags of a job, where they are typed in one line


class JobText(NamedTuple):
    """A text on a job, as it is now."""

    job: JobRow
    what: str  # as in the question: "tags of job"
    text: str
    rule: str  # what may be written, for people
    longest: int  # characters
    several_lines: bool
    write: Callable[[Store, str], str]  # in the database; returns what holds now, for people

    @property
    def asked(self) -> str:
        """What is asked, with the job's whole name."""
        return f"{self.what} {self.job.id} {harmless(self.job.name)}"

    def put(self, store: Store, text: str) -> str:
        """Write another text in the place of this one, and return what was done, for people.

        Raises:
            UsageError: it may not be written.
        """
        holds = self.write(store, text)
        return f"job {self.job.id} {harmless(self.job.name)}: {holds}"


def _tags(job: JobRow, store: Store) -> JobText:
    before = store.steering.tags_of([job.id]).get(job.id, [])

    def write(queue: Store, text: str) -> str:
        tags = list(dict.fromkeys(text.split()))
        for tag in tags:
            if not is_tag(tag):
                raise UsageError(f"{harmless(tag)!r} is no tag: {TAG_RULE}")
        # only what was changed: another one may have given it a tag meanwhile
        add, remove = set(tags) - set(before), set(before) - set(tags)
        queue.steering.change_tags([job.id], add, remove)
        now = queue.steering.tags_of([job.id]).get(job.id, [])
        return f"tags: {', '.join(map(harmless, now))}" if now else "no tags"

    return JobText(
        job=job,
        what="tags of job",
        text=" ".join(before),
        rule=f"words with spaces between them; a tag is {TAG_RULE}",
        longest=LONGEST_TAGS,
        several_lines=False,
        write=write,
    )


def _note(job: JobRow, store: Store) -> JobText:  # noqa: ARG001  # as every text
    def write(queue: Store, text: str) -> str:
        check_note(text)
        queue.steering.set_note([job.id], text)
        return f"note: {harmless(first_line(text))}" if text else "no note"

    return JobText(
        job=job,
        what="note on job",
        text=job.owner_note,
        rule=f"any text of at most {LONGEST_NOTE:,} characters; an empty one removes the note",
        longest=LONGEST_NOTE,
        several_lines=True,
        write=write,
    )


TEXTS: Mapping[str, Callable[[JobRow, Store], JobText]] = {"tag": _tags, "note": _note}


_CANCEL = "c"


class Change(NamedTuple):
    """A change of one job, or of several, that the user must confirm."""

    key: str
    actions: tuple[JobAction, ...]  # in the order in which they are done
    asked: str = ""  # of several jobs

    def question(self, width: int) -> Line:
        """Return what is asked, in one line; a job's name gives way where there is little room."""
        room = max(1, width - width_of(ANSWERS))
        text = self.asked
        if not text:
            action = self.actions[0]
            left = max(LEAST_NAME, room - width_of(action.asked_with("")))
            text = action.asked_with(shortened(harmless(action.job.name), left, middle=True))
        return Line((*line(text, Tone.WARN).cut(room).spans, Span(ANSWERS, Tone.STRONG)))

    def act(self, store: Store) -> list[int]:
        """Change all of them in one transaction; return the jobs that this concerned."""
        with store.writing():
            return [job for action in self.actions for job in action.act(store)]

    def after(self, home: Home) -> None:
        """Let the scheduler know; may take seconds."""
        for follow_up in dict.fromkeys(action.after for action in self.actions):
            follow_up(home)

    def report(self, touched: Sequence[int], home: Home) -> Line:
        """Return what was done; jobs that changed meanwhile are named."""
        missed = [action.job for action in self.actions if action.job.id not in touched]
        if not self.asked:
            if missed:
                text = f"job {missed[0].id} changed meanwhile: nothing was done"
                return line(text, Tone.WARN)
            return line(done_text(self.actions[0], touched, home), Tone.GOOD)
        text = "nothing was done"
        changed = len(self.actions) - len(missed)
        if changed:
            text = f"{counted(changed, 'job')} {_ACTIONS[self.key].did}"
        if more := len({*touched}) - changed:
            text += f", and {more:,} more with them"
        if not missed:
            return line(text, Tone.GOOD)
        return line(f"{text}; changed meanwhile: {named(sorted(missed, key=_number))}", Tone.WARN)


def propose_change(key: str, jobs: Sequence[JobRow], store: Store) -> Change | str:
    """Return what a key would do to jobs, or why that can be done to none of them.

    Args:
        key: one of KEYS.
        jobs: as the queue knows them now.
        store: is only read.
    """
    # the newest first: what needs another of them is changed itself, not with that
    ordered = sorted(jobs, key=_number, reverse=True)
    proposals = [propose(key, job, store) for job in ordered]
    actions = tuple(proposal for proposal in proposals if isinstance(proposal, JobAction))
    refusals = [proposal for proposal in proposals if isinstance(proposal, str)]
    if len(jobs) == 1:
        return Change(key, actions) if actions else refusals[0]
    if not actions:
        return f"none of {counted(len(jobs), 'marked job')}: {refusals[-1]}"
    text = f"{_ACTIONS[key].many} {counted(len(actions), 'job')}?"
    if key == _CANCEL:
        text += "".join(f" {detail}" for detail in _ends(actions, store))
    if refusals:
        left = "stays" if len(refusals) == 1 else "stay"
        text += f" {len(refusals):,} {left} unchanged: {refusals[-1]}"
    return Change(key, actions, text)


def _ends(actions: Sequence[JobAction], store: Store) -> Iterator[str]:
    """Return what a cancellation does beside what it says."""
    jobs = [action.job.id for action in actions]
    if runs := sum(action.job.state is State.RUNNING for action in actions):
        yield f"{runs:,} of them {'runs' if runs == 1 else 'run'}."
    if needy := {row.id for row in store.read.dependants_of(jobs)} - {*jobs}:
        yield f"{counted(len(needy), 'job')} that {'needs' if len(needy) == 1 else 'need'} them will be skipped."


def _number(job: JobRow) -> int:
    return job.id


LONGEST = 200  # characters
_TYPED_ROOM = 8  # columns for what is typed, however narrow the screen is


def _nothing(*_: object) -> None:
    """Do nothing."""


@dataclass(slots=True, kw_only=True)
class Prompt:
    """Takes keys until Enter or Escape; what is typed is shown with its end where there is little room."""

    label: str
    hint: str
    done: Callable[[str], None]
    changed: Callable[[str], None] = _nothing  # after each key
    left: Callable[[], None] = _nothing
    text: str = ""
    longest: int = LONGEST

    def press(self, key: str, character: str | None) -> bool:
        """Take a key; tell whether more is to be typed."""
        match key:
            case "enter":
                self.done(self.text)
                return False
            case "escape":
                self.left()
                return False
            case "backspace" | "ctrl+h":
                self._write(self.text[:-1])
            case "ctrl+u":
                self._write("")
            case _ if character and character.isprintable():
                self._write(self.text + character)
        return True

    def paste(self, text: str) -> None:
        """Take in the first line of what was pasted."""
        first = next(iter(text.splitlines()), "")
        self._write(self.text + "".join(char for char in first if char.isprintable()))

    def draw(self, width: int) -> Line:
        """Return the line."""
        tail = f"  {self.hint}"
        room = max(_TYPED_ROOM, width - len(tail) - len(self.label) - len(": _"))
        spans = (
            Span(f"{self.label}: ", Tone.STRONG),
            Span(f"{harmless(self.text[-room:])}_"),
            Span(tail, Tone.DIM),
        )
        return Line(spans).cut(width)

    def _write(self, text: str) -> None:
        self.text = text[: self.longest]
        self.changed(self.text)


_ROOM = 24  # columns of a job's name
_HINT = "Enter keeps  Esc leaves it"
_TAGS = "tags of job"


def typed_text(texts: Sequence[JobText], done: Callable[[str], None]) -> Prompt:
    """Return the line in which a text on jobs is typed.

    Args:
        texts: as they are now, the same of each job; at least one.
        done: takes what was typed.
    """
    first = texts[0]
    if len(texts) == 1:
        label = shortened(first.asked, len(first.what) + _ROOM, middle=True)
        return Prompt(
            label=label,
            hint=_HINT,
            text=harmless(first_line(first.text)),
            longest=first.longest,
            done=done,
        )
    label = f"{first.what}s ({counted(len(texts), 'marked job')})"
    hint = "TAG gives, -TAG takes  Esc leaves" if first.what == _TAGS else _HINT
    return Prompt(label=label, hint=hint, longest=first.longest, done=done)


def put_text(texts: Sequence[JobText], store: Store, text: str) -> str:
    """Write on jobs what was typed, and return what was done, for people.

    Raises:
        UsageError: it may not be written.
    """
    first = texts[0]
    if len(texts) == 1:
        if text == harmless(first_line(first.text)):
            return f"{first.asked}: as before"
        _, _, below = first.text.partition("\n")
        # what cannot be typed here stays; an empty text removes all of it
        return first.put(store, f"{text}\n{below}" if text and below else text)
    if first.what != _TAGS:
        with store.writing():
            for each in texts:
                each.put(store, text)
        return f"{counted(len(texts), 'job')}: {'note written' if text else 'no note'}"
    words = text.split()
    add = {word.removeprefix("+") for word in words if not word.startswith("-")}
    remove = {word[1:] for word in words if word.startswith("-")}
    for tag in sorted(add | remove):
        if not is_tag(tag):
            raise UsageError(f"{harmless(tag)!r} is no tag: {TAG_RULE}")
    touched = store.steering.change_tags([each.job.id for each in texts], add, remove)
    return f"{counted(len(touched), 'job')} tagged otherwise"


TEXT_KEYS = {"t": "tag", "n": "note"}
READ_ONLY = "read only: nothing can be changed from here"


class Changes:
    """Holds the change that is asked about; there is one at most. What goes wrong is told by who calls."""

    def __init__(
        self,
        queue: Queue,
        *,
        later: Later,
        say: Callable[[Line], None],
        changed: Callable[[], None],
        read_only: bool = False,
    ) -> None:
        """Ask about nothing yet.

        Args:
            queue: whose jobs are changed.
            later: runs what may take seconds beside everything else.
            say: shows a line until the next key.
            changed: is called when jobs were changed.
            read_only: nothing can be changed.
        """
        self._queue, self._later, self._say = queue, later, say
        self._changed, self._read_only = changed, read_only
        self.asked: Change | None = None

    def queue(self) -> tuple[Store, Home] | None:
        """Return the queue if it can be changed; else say why not."""
        store = self._queue.store
        if self._read_only:
            self._say(line(READ_ONLY, Tone.WARN))
        elif store is None:
            self._say(line("no job is chosen"))
        else:
            return store, self._queue.home
        return None

    def ask(self, key: str, jobs: Sequence[int]) -> None:
        """Ask about what a key does to jobs, or say why that cannot be."""
        queue = self.queue()
        if queue is None:
            return
        store, _ = queue
        if not jobs:
            self._say(line("no job is chosen"))
            return
        rows = store.read.jobs_by_id(jobs)
        proposal = propose_change(key, rows, store) if rows else f"{_named(jobs)} cleaned"
        if isinstance(proposal, str):
            self._say(line(harmless(proposal), Tone.WARN))
        else:
            self.asked = proposal

    def answer(self, key: str) -> None:
        """Make the change that was asked about if the key says so."""
        change, self.asked = self.asked, None
        queue = self.queue() if key == "y" else None
        if change is None or queue is None:
            self._say(line("nothing was changed"))
            return
        store, home = queue
        touched = change.act(store)
        self._say(change.report(touched, home))
        if not touched:
            return

        def follow_up() -> None:
            try:
                change.after(home)
            except (Error, OSError) as error:
                self._say(line(one_line(error), Tone.BAD))

        self._later(follow_up)
        self._changed()

    def write(self, key: str, jobs: Sequence[int]) -> Prompt | None:
        """Return the line in which a text on jobs is typed; None where there can be none, which is said.

        Args:
            key: one of TEXT_KEYS.
            jobs: of several, their tags are given and taken away, and their notes replaced.
        """
        queue = self.queue()
        if queue is None:
            return None
        store, _ = queue
        texts = [TEXTS[TEXT_KEYS[key]](row, store) for row in store.read.jobs_by_id(jobs)]
        if not texts:
            self._say(line(f"{_named(jobs)} cleaned" if jobs else "no job is chosen"))
            return None
        return typed_text(texts, lambda text: self._put(texts, text))

    def _put(self, texts: Sequence[JobText], text: str) -> None:
        queue = self.queue()
        if queue is None:
            return
        store, _ = queue
        self._say(line(put_text(texts, store, text), Tone.GOOD))
        self._changed()


def one_line(error: Exception) -> str:
    """Return what went wrong, for the bottom line."""
    return harmless(" ".join(str(error).split())) or type(error).__name__


def _named(jobs: Sequence[int]) -> str:
    return f"job {jobs[0]} was" if len(jobs) == 1 else f"{len(jobs):,} marked jobs were"
