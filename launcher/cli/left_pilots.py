"""The pilots that are still there when a queue is stopped: where they are, why, and how a person ends them."""

from collections.abc import Iterator

from launcher.backends.pilot_records import PilotRecords
from launcher.backends.pilot_rules import OVER
from launcher.backends.pilots_file import PilotRow, seen_pilots
from launcher.backends.slurm_states import commands_by_hand
from launcher.errors import counted
from launcher.system.paths import Home

NAMED = 8  # pilots of a backend that a message names


def number_of_pilots(home: Home) -> int:
    """Return how many pilots there are, or may be; of one that has ended, the record may still be there."""
    over = {pilot.token for pilot in seen_pilots(home).pilots if pilot.stage in OVER}
    return len({*PilotRecords(home).tokens()} - over)


def left_pilots(home: Home) -> Iterator[str]:
    """Give lines about the pilots that are still there: those of each backend, then what to type.

    Args:
        home: whose scheduler has written down how it saw them last.
    """
    seen, recorded = seen_pilots(home), {*PilotRecords(home).tokens()}
    for backend in seen.backends:
        there = [
            pilot
            for pilot in seen.pilots
            if pilot.backend == backend.name and pilot.token in recorded
        ]
        if not there:
            continue
        named = ", ".join(map(_where, there[:NAMED]))
        more = f" and {len(there) - NAMED} more" if len(there) > NAMED else ""
        yield f"{counted(len(there), 'pilot')} of {backend.name}: {named}{more}"
        if backend.reason:
            yield f"  {backend.reason}"
        recorded -= {pilot.token for pilot in there}
        for command in commands_by_hand(backend.kind, (pilot.token for pilot in there)):
            yield f"  {command}"
    if recorded:
        yield f"{counted(len(recorded), 'pilot')} on record of which nothing has been seen yet"


def _where(pilot: PilotRow) -> str:
    """Return where a pilot is, as its engine knows it."""
    place = f"{pilot.stage} on {pilot.node}" if pilot.node else pilot.stage
    return f"{place} (job {pilot.job})" if pilot.job else place
