"""What a person may write on a job from a screen: its tags and its note, as `launcher tag` and `launcher note` do."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from launcher.errors import UsageError
from launcher.screens.format import first_line, harmless
from launcher.store.queue import Store
from launcher.store.rows import JobRow
from launcher.store.steering import LONGEST_NOTE, TAG_RULE, check_note, is_tag

LONGEST_TAGS = 2000  # characters of all tags of a job, where they are typed in one line


@dataclass(frozen=True, slots=True, kw_only=True)
class JobText:
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


def job_text(which: str, job: JobRow, store: Store) -> JobText:
    """Return a text that stands on a job.

    Args:
        which: one of TEXTS.
        job: as the queue knows it now.
        store: is only read.
    """
    return TEXTS[which](job, store)


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
