"""Which policy decides in a queue: ours, or one that everybody knows, chosen with `--policy` to compare them."""

import contextlib

from launcher.errors import MachineError, UsageError
from launcher.scheduler.policy.disciplines import DISCIPLINES, OURS, Discipline
from launcher.system.files import read_json, write_json
from launcher.system.paths import Home


def discipline_named(name: str) -> Discipline:
    """Return the policy of a name.

    Raises:
        UsageError: there is none of that name.
    """
    if name not in DISCIPLINES:
        raise UsageError(f"no policy {name!r}; expected one of {', '.join(DISCIPLINES)}")
    return DISCIPLINES[name]


def chosen_discipline(home: Home) -> Discipline:
    """Return the policy of a queue; ours where none is chosen, or the choice cannot be understood."""
    with contextlib.suppress(OSError):
        name = (read_json(home.policy) or {}).get("policy")
        return DISCIPLINES.get(name, OURS) if isinstance(name, str) else OURS
    return OURS


def choose_discipline(home: Home, discipline: Discipline) -> None:
    """Let a policy decide in a queue from now on.

    Raises:
        MachineError: the choice cannot be written.
    """
    try:
        if discipline is OURS:
            home.policy.unlink(missing_ok=True)
        else:
            write_json(home.policy, {"schema": 1, "policy": discipline.name}, mode=0o600)
    except OSError as error:
        raise MachineError(
            f"cannot write {home.policy}: {error.strerror}. Free space on its disk and try again."
        ) from error


def note_of(home: Home) -> str:
    """Return in words that another policy than ours decides; '' where ours does."""
    chosen = chosen_discipline(home)
    if chosen is OURS:
        return ""
    return f"policy {chosen.name}: {chosen.about}. To restore the default: launcher start --policy {OURS.name}"


def told_of(home: Home) -> str:
    """Return in words which policy decides, to who has just chosen it."""
    return note_of(home) or f"policy {OURS.name} decides"
