"""Tags and notes of jobs, as a line that a user edits on a screen.

They are written as `launcher tag` and `launcher note` do: the text of one job is replaced, of several jobs the
difference is applied.
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple

from launcher.queue.jobs.job import LONGEST_NOTE
from launcher.queue.store.queue import Store
from launcher.queue.store.rows import JobRow
from launcher.queue.store.tags import TAG_RULE, check_note, is_tag
from launcher.queue.texts import first_line
from launcher.system.errors import UsageError, pluralize
from launcher.system.text import sanitize_terminal

LONGEST_TAGS = 2000  # characters of all tags of a job, where they are typed in one line
TAG, NOTE = "tag", "note"
TEXT_KEYS = {"t": TAG, "n": NOTE}


class JobText(NamedTuple):
    """A text on a job, as it is now: its tags, with spaces between them, or the note on it."""

    job: JobRow
    kind: str  # TAG or NOTE
    text: str

    @property
    def prompt(self) -> str:
        """What is asked, with the job's whole name."""
        return f"{self.label} {self.job.id} {sanitize_terminal(self.job.name)}"

    @property
    def label(self) -> str:
        """How it is asked for, before the job's number."""
        return "tags of job" if self.kind == TAG else "note on job"

    @property
    def rule(self) -> str:
        """The rule for valid texts, as shown to users."""
        if self.kind == TAG:
            return f"tags separated by spaces; a tag is {TAG_RULE}"
        return f"any text of at most {LONGEST_NOTE:,} characters; an empty one removes the note"

    @property
    def longest(self) -> int:
        """Characters that may be written."""
        return LONGEST_TAGS if self.kind == TAG else LONGEST_NOTE

    def write(self, store: Store, text: str) -> str:
        """Replace this text by another one, and return a message for users.

        Raises:
            UsageError: the text is not valid.
        """
        job = [self.job.id]
        if self.kind == TAG:
            tags, before = [*dict.fromkeys(text.split())], {*self.text.split()}
            # only what was changed: another one may have given it a tag meanwhile
            _change_tags(store, job, {*tags} - before, before - {*tags})
            now = store.job_control.tags_of(job).get(self.job.id, [])
            holds = f"tags: {', '.join(map(sanitize_terminal, now))}" if now else "no tags"
        else:
            check_note(text)
            store.job_control.set_note(job, text)
            holds = f"note: {sanitize_terminal(first_line(text))}" if text else "no note"
        return f"job {self.job.id} {sanitize_terminal(self.job.name)}: {holds}"


def read_job_text(kind: str, job: JobRow, store: Store) -> JobText:
    """Return what is written on a job: TAG or NOTE."""
    if kind == NOTE:
        return JobText(job, kind, job.owner_note)
    return JobText(job, kind, " ".join(store.job_control.tags_of([job.id]).get(job.id, [])))


def write_texts(texts: Sequence[JobText], store: Store, typed_text: str) -> str:
    """Write on jobs what was typed in one line, and return what was done, for people.

    Args:
        texts: texts as they are now, the same of each job; at least one.
        store: the queue's.
        typed_text: text that was typed; for several jobs, tags to add and, behind a minus, tags to remove.

    Raises:
        UsageError: it may not be written.
    """
    first = texts[0]
    if len(texts) == 1:
        shown, _, below = first.text.partition("\n")
        if typed_text == sanitize_terminal(shown):
            return f"{first.prompt}: unchanged"
        # lines that cannot be typed here stay; an empty text removes all of them
        return first.write(store, f"{typed_text}\n{below}" if typed_text and below else typed_text)
    if first.kind == NOTE:
        with store.database.writing():
            for each in texts:
                each.write(store, typed_text)
        return f"{pluralize(len(texts), 'job')}: {'note written' if typed_text else 'no note'}"
    words = typed_text.split()
    add = {word.removeprefix("+") for word in words if not word.startswith("-")}
    remove = {word[1:] for word in words if word.startswith("-")}
    touched = _change_tags(store, [each.job.id for each in texts], add, remove)
    return f"{pluralize(len(touched), 'job')} with changed tags"


def _change_tags(
    store: Store, jobs: Sequence[int], add: set[str], remove: set[str]
) -> Collection[int]:
    """Add tags to jobs and remove others. Return the jobs that changed.

    Raises:
        UsageError: a word is not a tag.
    """
    for tag in sorted(add | remove):
        if not is_tag(tag):
            raise UsageError(f"{sanitize_terminal(tag)!r} is not a tag; a tag is {TAG_RULE}")
    return store.job_control.change_tags(jobs, add, remove)
