"""What the screens show, as plain values: every screen says the same because it starts here."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from launcher.progress import Step
from launcher.records import Json
from launcher.states import State
from launcher.store.rows import JobRow

GLYPHS = {
    State.QUEUED: "○",
    State.HELD: "‖",
    State.RUNNING: "●",
    State.DONE: "✓",
    State.FAILED: "✗",
    State.CANCELLED: "–",
    State.SKIPPED: "·",
}
ORDER = (
    State.RUNNING,
    State.QUEUED,
    State.HELD,
    State.DONE,
    State.FAILED,
    State.CANCELLED,
    State.SKIPPED,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobLine:
    """One job as a line of a list."""

    id: int
    run: str
    name: str
    state: State
    since: float
    note: str

    def columns(self) -> tuple[str, ...]:
        """Return the line for pipes: full values, absolute times."""
        return (str(self.id), self.run, self.name, self.state, iso(self.since), self.note)

    def record(self) -> dict[str, Json]:
        """Return the line for JSON."""
        return {
            "id": self.id,
            "run": self.run,
            "name": self.name,
            "state": self.state,
            "since": iso(self.since),
            "note": self.note,
        }


def job_line(job: JobRow, step: Step | None) -> JobLine:
    """Return a job's line; a running one tells its progress, any other its reason."""
    note = str(step) if job.state is State.RUNNING and step is not None else _why(job)
    return JobLine(
        id=job.id,
        run=harmless(job.run),
        name=harmless(job.name),
        state=job.state,
        since=job.ended or job.submitted,
        note=harmless(note),
    )


def _why(job: JobRow) -> str:
    if job.state is State.QUEUED and job.waits:
        return f"needs {job.waits} more job{'s' if job.waits > 1 else ''}"
    return job.reason.partition("\n")[0]


def tally(counts: Mapping[State, int]) -> str:
    """Return how many jobs are in each state, in words."""
    said = [f"{counts[state]} {state}" for state in ORDER if counts.get(state)]
    return " · ".join(said) or "no jobs"


def iso(at: float) -> str:
    """Return a time as ISO 8601 in UTC, to the second."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def clock(at: float) -> str:
    """Return the local time of day."""
    return datetime.fromtimestamp(at).astimezone().strftime("%H:%M:%S")


def harmless(text: str) -> str:
    """Return text that cannot steer a terminal: control characters become visible ones."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def tabbed(rows: Iterable[Sequence[str]]) -> str:
    """Return rows as tab-separated lines."""
    return "\n".join("\t".join(row) for row in rows)


def columns(rows: Sequence[Sequence[str]], *, right: frozenset[int] = frozenset()) -> list[str]:
    """Return rows as lines whose columns line up; those in `right` end together."""
    if not rows:
        return []
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if index in right else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return lines
