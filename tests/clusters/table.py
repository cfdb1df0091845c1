"""The reports of proofs as a table in Markdown."""

from collections.abc import Sequence

from tests.clusters.proof import Report

HEADS = (
    "what happens",
    "jobs",
    "lost",
    "accepted twice",
    "files of others",
    "processes left",
    "pilots left",
    "attempts",
    "ended twice",
    "pilots",
    "time",
)


def table(reports: Sequence[Report]) -> str:
    """Return a row for each report."""
    rows = [HEADS, ("---", *["---:"] * (len(HEADS) - 1)), *map(_row, reports)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _row(report: Report) -> tuple[str, ...]:
    verdict = report.verdict
    numbers = (
        verdict.jobs,
        len(verdict.lost),
        len(verdict.accepted_twice),
        len(verdict.foreign_files),
        len(report.processes_left),
        len(report.pilots_left),
        verdict.attempts,
        verdict.ended_twice,
        report.pilots,
    )
    return (report.fault.does, *map(str, numbers), f"{report.seconds:.0f} s")
