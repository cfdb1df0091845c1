"""What a page is: an address, a template of the same name, and a function that fills it."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlencode

from launcher.errors import UsageError
from launcher.screens.snapshots import Queue
from launcher.store.listings import ListedPage
from launcher.store.queue import Store
from launcher.store.rows import JobRow
from launcher.system.paths import Home
from launcher.web.runs.run_data import Background, RunData
from launcher.web.runs.run_filter import Settings


class NotThere(UsageError):
    """There is no such page, job or file."""


def whole_of(text: str) -> int | None:
    """Return the number that a text is; None where it is none that the queue can hold."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else None


class Address(NamedTuple):
    """What was asked for; pages that have the same address show the same."""

    path: str  # below the root, such as `jobs/12`
    number: int = 0  # of the job or the run that the path names
    query: tuple[tuple[str, str], ...] = ()  # names may stand there several times

    def text(self, name: str, default: str = "") -> str:
        """Return a value of the query, the last where there are several."""
        return dict(self.query).get(name, default)

    def whole(self, name: str) -> int | None:
        """Return a value of the query as a number, None where it is none."""
        return whole_of(self.text(name))

    def wholes(self, name: str) -> list[int]:
        """Return all numbers of a name in the query, each once."""
        numbers = (whole_of(value) for key, value in self.query if key == name)
        return [*dict.fromkeys(number for number in numbers if number is not None)]

    def changed(self, **changes: str | int | None) -> str:
        """Return the query with other values, as it stands in a link; None leaves a value out."""
        kept = [(name, value) for name, value in self.query if name not in changes]
        kept += [(name, str(value)) for name, value in changes.items() if value is not None]
        return f"?{urlencode(kept)}" if kept else "?"

    def around(self, page: ListedPage) -> dict[str, str]:
        """Return the links to the pages beside one of a list; '' where there is none."""
        newest, oldest = (page.numbers[0], page.numbers[-1]) if page.numbers else (0, 0)
        return {
            "newer": self.changed(after=newest, before=None) if page.newer else "",
            "older": self.changed(before=oldest, after=None) if page.older else "",
            "first": self.changed(before=None, after=None) if page.newer else "",
        }


class View(NamedTuple):
    """What pages are made from: the queue as it is now. It belongs to one thread."""

    home: Home
    root: str  # the path of the first page, with a slash at its end
    queue: Queue
    runs: Background[tuple[int, ...], RunData]  # by their numbers
    settings: Background[None, Mapping[int, Settings]]  # of each run
    read_only: bool
    now: float  # seconds since 1970

    @property
    def store(self) -> Store:
        """The queue's database.

        Raises:
            NotThere: there is no queue yet.
        """
        store = self.queue.current()
        if store is None:
            raise NotThere(
                "there is no queue yet; `launcher run TASKFILE` or `launcher add` begins one"
            )
        return store

    @property
    def version(self) -> tuple[int, int] | None:
        """What is another value when the queue has changed; None where there is no queue."""
        return self.queue.version

    def progress_of(self, jobs: Iterable[JobRow]) -> tuple[Path, ...]:
        """Return the files in which jobs report how far they are."""
        return tuple(job.attempt_in(self.home).progress for job in jobs)


def job_of(store: Store, number: int) -> JobRow:
    """Return a job.

    Raises:
        NotThere: there is none of this number.
    """
    for row in store.read.jobs_by_id([number]):
        return row
    raise NotThere(f"there is no job {number}; it may have been cleaned")


class Content(NamedTuple):
    """What fills a template."""

    title: str
    values: Mapping[str, object]
    files: tuple[Path, ...] = ()  # beside the queue's, whose change makes the page another
    pending: bool = False  # what the page shows is being read: it is another soon


class Page(NamedTuple):
    """A page; its template is `templates/NAME.html`."""

    name: str
    path: str  # below the root, with `{number:int}` for that of a job or a run
    fill: Callable[[View, Address], Content]
    menu: str = ""  # its word in the menu; '': it is not there
