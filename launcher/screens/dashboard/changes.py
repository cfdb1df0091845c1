"""Changes from the screen: asked about, confirmed, made, and told of.

Tags and notes are typed in a line at the bottom: those of one job as they are, of several what changes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from launcher.errors import Error, UsageError, counted
from launcher.screens.dashboard.job_actions import (
    TEXTS,
    Change,
    JobText,
    propose_change,
)
from launcher.screens.dashboard.page import Later
from launcher.screens.dashboard.sources import Queue
from launcher.screens.format import first_line, harmless
from launcher.screens.text_table import Line, Span, Tone, line, shortened
from launcher.store.queue import Store
from launcher.store.steering import TAG_RULE, is_tag
from launcher.system.paths import Home

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
