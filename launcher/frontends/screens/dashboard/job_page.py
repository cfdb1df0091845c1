"""An open job on three pages: its details, its log, and its metrics."""

import time
from collections.abc import Sequence

from launcher.frontends.screens.dashboard.job_metrics import SHARE, Metrics
from launcher.frontends.screens.dashboard.keys import JOB_HINTS
from launcher.frontends.screens.dashboard.log_page import LogPage
from launcher.frontends.screens.dashboard.page import RunInBackground
from launcher.frontends.screens.dashboard.text_page import TextPage
from launcher.frontends.screens.job_details import (
    attempt_cells,
    dependency_cells,
    dependents_text,
    event_cells,
    facts_of,
    result_cells,
    time_zone_of,
    zone_title,
)
from launcher.frontends.screens.job_records import record_of
from launcher.frontends.screens.queue_view import TONES
from launcher.frontends.screens.snapshots import QueueSnapshotReader
from launcher.queue.jobs.states import OPEN_STATES, State
from launcher.queue.store.feed import QueueVersion
from launcher.queue.store.queue import Store
from launcher.queue.store.rows import JobRow
from launcher.queue.texts import GLYPHS, PAUSED
from launcher.system.text import sanitize_terminal
from launcher.system.text_table import Column, TextLine, TextSpan, TextStyle, TextTable, line

PAGES = ("overview", "log", "metrics")
OVERVIEW, LOG, METRICS = range(len(PAGES))
NEEDS = 20  # jobs that are listed; the others are counted
_ROWS = 40  # lines of a text at most
_HEAD = 3  # lines above each page
EVENTS = "events"  # prefix of the title of the events
_KEY, _TEXT = Column(), Column(least=20, rows=_ROWS)


class JobPage:
    """A job, on three pages."""

    def __init__(
        self,
        queue: QueueSnapshotReader,
        store: Store,
        job: int,
        *,
        run_in_background: RunInBackground,
        why: bool = False,
        page: int = OVERVIEW,
    ) -> None:
        """Open a job.

        Args:
            queue: the job's.
            store: its database.
            job: the job's number.
            run_in_background: runs functions that may take seconds in the background.
            why: begin at the explanation of its state.
            page: which of PAGES to begin with.
        """
        self.job: int = job
        self.is_deleted = False
        self._queue, self._home, self._store, self._why = queue, queue.home, store, why
        self._page = page
        self._facts, self.log, self._metrics = (
            TextPage(self._lines, JOB_HINTS),
            LogPage(run_in_background),
            Metrics(),
        )
        self._version: QueueVersion | None = None  # version of the queue at the last read
        self._runs = False
        self._next = 0.0  # time of the next read
        self._title: TextLine = line("")
        self._sections: Sequence[tuple[str, Sequence[tuple[str, ...]]]] = ()
        self.refresh(force=True)

    @property
    def hints(self) -> Sequence[tuple[str, str]]:
        """The keys of this page."""
        return self._current_page.hints

    @property
    def _current_page(self) -> TextPage | LogPage | Metrics:
        return (self._facts, self.log, self._metrics)[self._page]

    @property
    def shows_log(self) -> bool:
        """Whether the log page is visible."""
        return self._page == LOG

    def refresh(self, *, force: bool = False) -> None:
        """Read the job again if the queue may have changed.

        Args:
            force: it has been changed by ourselves.
        """
        now = time.monotonic()
        version = self._queue.version
        if not force and (now < self._next or not (self._runs or version != self._version)):
            return
        self._version = version
        self._read()
        self._next = now + (time.monotonic() - now) / SHARE

    def _read(self) -> None:
        rows = self._store.read.jobs_by_id([self.job])
        self.is_deleted = not rows
        if not rows:
            return
        row = rows[0]
        sign = GLYPHS[row.state] if row.paused is None or row.wish else PAUSED
        # the progress of a running job is not in the database
        self._runs = row.state is State.RUNNING
        needy = self._store.read.dependents_of([row.id]) if row.state in OPEN_STATES else []
        record = record_of(self._home, self._store, row, needy)
        attempt = row.attempt_in(self._home) if row.attempts else None
        self._metrics.attempt, self.log.log = attempt, attempt and attempt.log
        self._title = TextLine(
            (
                TextSpan(f"{sign} {sanitize_terminal(row.name)}", TONES[row.state]),
                TextSpan(f"  job {row.id} of {sanitize_terminal(row.run)}, {row.state}"),
            )
        )
        read = self._store.read
        self._sections = [
            (row.state, [("  " + (record["note"] or "the reason is unknown"),)]),
            ("needs", _dependency_rows(read.dependencies_of(row.id))),
            ("starts after the end of", _dependency_rows(read.awaited_jobs_of(row.id))),
            ("needed by", [(f"  {dependents_text(needy)}",)] if needy else []),
            ("attempts", attempt_cells(self._home, record, time_zone_of(record))),
            (
                f"{EVENTS}, the newest first, {zone_title(record)}",
                event_cells(record, time_zone_of(record))[::-1],
            ),
            ("result", result_cells(record)),
            ("numbers that do not count", [(f"  {fault}",) for fault in record["number_faults"]]),
            (
                "printed names that are no results",
                [(f"  {name}", reason) for name, reason in record["left_out"].items()],
            ),
            ("what it does", [(f"  {key}", value) for key, value in facts_of(record, row)]),
        ]

    def press(self, key: str) -> bool:
        """Switch to another page, or scroll."""
        match key:
            case "1" | "2" | "3":
                self._page = int(key) - 1
            case "tab":
                self._page = (self._page + 1) % len(PAGES)
            case "shift+tab":
                self._page = (self._page - 1) % len(PAGES)
            case "w":
                self._page, self._why = OVERVIEW, True
            case "L":
                self._page = LOG
            case _:
                return self._current_page.press(key)
        return True

    def draw(self, width: int, height: int) -> list[TextLine]:
        """Return the lines of the visible page."""
        lines = self._current_page.draw(width, max(1, height - _HEAD))
        return [*self._head(width), *lines][:height]

    def _head(self, width: int) -> list[TextLine]:
        """Return the job's title, and the tabs of its pages."""
        tabs: list[TextSpan] = []
        for place, name in enumerate(PAGES):
            chosen = place == self._page
            text = f"[{place + 1} {name}]" if chosen else f" {place + 1} {name} "
            tabs.append(TextSpan(text, TextStyle.STRONG if chosen else TextStyle.DIM))
        if self._page == LOG:
            tabs.append(TextSpan(f"  {self.log.place}", TextStyle.DIM))
        return [self._title.truncate(width), TextLine(tuple(tabs)).truncate(width), line("")]

    def _lines(self, width: int) -> list[TextLine]:
        lines: list[TextLine] = []
        for title, rows in self._sections:
            if not rows:
                continue
            if self._why and title.startswith(EVENTS):
                self._facts.window.top = max(0, len(lines) - 2)
            lines.append(line(title, TextStyle.HEAD))
            cells = [(*row, *[""] * (len(rows[0]) - len(row))) for row in rows]
            lines += TextTable([_KEY] * (len(rows[0]) - 1) + [_TEXT], cells).to_lines(width)
            lines.append(line(""))
        self._why = False
        return lines


def _dependency_rows(needs: Sequence[JobRow]) -> list[tuple[str, ...]]:
    """Return a row for each dependency of a job, open ones first."""
    more = len(needs) - NEEDS
    return [*dependency_cells(needs, NEEDS), *([(f"  and {more:,} more",)] if more > 0 else [])]
