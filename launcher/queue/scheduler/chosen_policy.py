"""Which policy decides in a queue: ours, or one that everybody knows, chosen with `--policy` to compare them."""

import contextlib

from launcher.queue.home.paths import Home
from launcher.queue.scheduler.policy.disciplines import (
    DEFAULT_POLICY,
    POLICIES_BY_NAME,
    SchedulingPolicy,
)
from launcher.system.errors import MachineError, UsageError
from launcher.system.files import read_json, write_json


def find_policy(name: str) -> SchedulingPolicy:
    """Return the policy of a name.

    Raises:
        UsageError: no policy has that name.
    """
    if name not in POLICIES_BY_NAME:
        raise UsageError(f"no policy {name!r}; expected one of {', '.join(POLICIES_BY_NAME)}")
    return POLICIES_BY_NAME[name]


def read_policy(home: Home) -> SchedulingPolicy:
    """Return the policy of a queue; ours if none is chosen, or the choice cannot be understood."""
    with contextlib.suppress(OSError):
        name = (read_json(home.policy) or {}).get("policy")
        return (
            POLICIES_BY_NAME.get(name, DEFAULT_POLICY) if isinstance(name, str) else DEFAULT_POLICY
        )
    return DEFAULT_POLICY


def set_policy(home: Home, policy: SchedulingPolicy) -> None:
    """Let a policy decide in a queue from now on.

    Raises:
        MachineError: the choice cannot be written.
    """
    try:
        if policy is DEFAULT_POLICY:
            home.policy.unlink(missing_ok=True)
        else:
            write_json(home.policy, {"schema": 1, "policy": policy.name}, mode=0o600)
    except OSError as error:
        raise MachineError(
            f"cannot write {home.policy}: {error.strerror}. Free space on its disk and try again."
        ) from error


def policy_note(home: Home) -> str:
    """Return in words that another policy than ours decides; '' if ours does."""
    chosen = read_policy(home)
    if chosen is DEFAULT_POLICY:
        return ""
    return f"policy {chosen.name}: {chosen.description}. To restore the default: launcher start --policy {DEFAULT_POLICY.name}"


def policy_message(home: Home) -> str:
    """Return a message about the policy that the user has just chosen."""
    return policy_note(home) or f"policy {DEFAULT_POLICY.name} decides"
