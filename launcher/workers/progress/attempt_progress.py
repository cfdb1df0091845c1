"""How far an attempt is, whatever reported it; every screen asks here."""

from launcher.system.paths import Attempt
from launcher.workers.progress.steps import Step, history, latest

MOST_BYTES = 1 << 20  # of what was reported: some ten thousand steps


def newest_step(attempt: Attempt) -> Step | None:
    """Return the newest report of an attempt, or None where there is none."""
    return latest(attempt.progress)


def reported_steps(attempt: Attempt, most_bytes: int = MOST_BYTES) -> list[Step]:
    """Return the reports of an attempt, the oldest first.

    Args:
        attempt: where it keeps its records.
        most_bytes: that are read from the end of each file in which it reports.
    """
    return history(attempt.progress, most_bytes)
