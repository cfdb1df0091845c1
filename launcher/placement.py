"""What an attempt's environment says of its place, and its owner's environment without that.

A job may queue jobs itself. What the launcher set for it, such as the empty CUDA_VISIBLE_DEVICES of a job on the
CPU, is no wish of the owner's for those: what was set is on record beside it, with what stood there before.
"""

import json
from collections.abc import Mapping

from launcher.processes import MARK

RECORD = "LAUNCHER_PLACE"  # name → [as it was set, as its owner had it or null]
OURS = ("LAUNCHER_CPUS", "LAUNCHER_JOB", "LAUNCHER_VRAM", MARK)  # no owner sets these


def placed_environment(
    owner: Mapping[str, str], place: Mapping[str, str], *, unless_set: Mapping[str, str]
) -> dict[str, str]:
    """Return the environment of an attempt.

    Args:
        owner: that in which its job was queued.
        place: what holds whatever its owner had there.
        unless_set: what its owner may have set otherwise.
    """
    found = {**unless_set, **owner, **place}
    found.pop(RECORD, None)
    ours = {
        name: [text, owner.get(name)]
        for name, text in found.items()
        if owner.get(name) != text and name not in OURS
    }
    return {**found, RECORD: json.dumps(ours)}


def owners_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return an environment as its owner made it; what a job has changed of its own stays."""
    found = {name: text for name, text in environ.items() if name != RECORD}
    if RECORD not in environ:
        return found
    for name in OURS:
        found.pop(name, None)
    for name, (ours, before) in _record(environ[RECORD]).items():
        if found.get(name) != ours:
            continue
        if before is None:
            del found[name]
        else:
            found[name] = before
    return found


def _record(text: str) -> dict[str, tuple[str, str | None]]:
    """Return what a record tells; what cannot be understood is left out."""
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    found: dict[str, tuple[str, str | None]] = {}
    for name, entry in record.items() if isinstance(record, dict) else ():
        match entry:
            case [str(ours), str() | None as before]:
                found[name] = (ours, before)
    return found
