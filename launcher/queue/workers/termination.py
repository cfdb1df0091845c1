"""A program that was asked to end and still runs: since when, when it is killed, and which processes resist.

The supervisor of an attempt records this in the attempt's folder. Screens and the scheduler read it.
"""

import contextlib
import os
from collections.abc import Iterable, Iterator
from functools import partial
from typing import NamedTuple

from launcher.queue.home.paths import Attempt
from launcher.system.answering import run_with_timeout
from launcher.system.files import Json, read_json, write_json
from launcher.system.processes import login_name, state_of
from launcher.system.stored_fields import Unreadable, restore_known_fields

TIME_LIMIT = "time-limit"  # the cause of an end that the supervisor itself has ordered
PILOT_ABANDONED = "pilot"  # the pilot of the attempt was abandoned
MOST_RESISTING = 10  # processes that are recorded


class ResistingProcess(NamedTuple):
    """A process that lives on after SIGKILL."""

    pid: int
    user: str
    state: str  # letter of /proc/<pid>/stat: D waits in the kernel


class Termination(NamedTuple):
    """The end of a running attempt, as far as it has come; times are seconds since 1970."""

    since: float
    kill_at: float
    # TIME_LIMIT, PILOT_ABANDONED or the signal to the supervisor; empty: the scheduler asked
    cause: str = ""
    resists: tuple[ResistingProcess, ...] = ()

    def to_json(self) -> dict[str, Json]:
        """Return it as JSON (schema 1)."""
        resists: list[Json] = [{**process._asdict()} for process in self.resists]
        return {"schema": 1, **self._asdict(), "resists": resists}


def write_termination(attempt: Attempt, termination: Termination) -> None:
    """Record how far the end of an attempt has come.

    A full disk, a deleted folder and a file system that does not answer are ignored: they must not delay SIGKILL.
    """
    write = partial(
        write_json, attempt.termination, termination.to_json(), mode=0o600, durable=False
    )
    with contextlib.suppress(OSError):
        run_with_timeout(attempt.folder, write)


def read_termination(attempt: Attempt) -> Termination | None:
    """Return how far the end of a running attempt has come, None if it was not asked to end."""
    try:
        record = read_json(attempt.termination)
    except OSError:
        return None
    if record is None or record.get("schema") != 1:
        return None
    listed = record.get("resists")
    resists = tuple(_read_processes(listed if isinstance(listed, list) else ()))
    try:
        return restore_known_fields(Termination, {**record, "resists": resists}, "its end")
    except Unreadable:
        return None


def is_to_be_killed(attempt: Attempt) -> bool:
    """Return whether an attempt is to be killed without a grace period; no if its folder does not answer."""
    try:
        return run_with_timeout(attempt.folder, attempt.kill_request.exists)
    except OSError:
        return False


def _read_processes(entries: Iterable[Json]) -> Iterator[ResistingProcess]:
    for item in entries:
        with contextlib.suppress(Unreadable):
            yield restore_known_fields(ResistingProcess, item, "a process")


def find_resisting(pids: Iterable[int]) -> tuple[ResistingProcess, ...]:
    """Return those of these processes that live, with their users and states."""
    found: list[ResistingProcess] = []
    for pid in pids:
        state = state_of(pid)
        with contextlib.suppress(OSError):
            owner = os.stat(f"/proc/{pid}").st_uid  # noqa: PTH116  # as in `processes`
            if state and len(found) < MOST_RESISTING:
                found.append(ResistingProcess(pid=pid, user=login_name(owner), state=state))
    return tuple(found)
