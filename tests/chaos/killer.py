"""Kills what it finds of a home, at random instants and at those that hurt most."""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from launcher.queue.gpu.monitor import recorded_program
from launcher.queue.home.daemon_control import scheduler_pid
from launcher.queue.home.paths import Attempt, Home
from launcher.queue.workers.attempt_journal import read_recorded_outcome, read_starter
from launcher.system.processes import identity, is_alive
from tests.chaos.census import Ours, Role, census

PAUSE_S = (0.05, 0.7)  # between two strikes; a queue that is never left alone does nothing
PATIENCE_S = 1.5  # for the instant that a strike aims at
POLL_S = 0.0003
AFTER_S = 0.02  # longest way from the instant to the kill


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """A process that was killed; it lived until then."""

    pid: int
    at: float  # seconds since 1970, just before the signal
    strike: str


class Killer:
    """Strikes again and again, in a thread of its own."""

    def __init__(self, home: Home, program: Path, chance: random.Random, resting: Event) -> None:
        """Prepare; nothing is killed yet."""
        self._home, self._program, self._chance = home, program, chance
        self.resting = resting
        self.kills: list[Kill] = []

    def strike_on(self) -> None:
        """Strike again and again until it is time to rest."""
        strikes: dict[Callable[[], None], int] = {
            self._some_of_one_role: 6,
            self._some_of_all: 2,
            self._everything: 1,
            self._at_a_claim: 3,
            self._at_a_commit: 1,
            self._at_an_outcome: 3,
        }
        while not self.resting.wait(self._chance.uniform(*PAUSE_S)):
            (strike,) = self._chance.choices(list(strikes), list(strikes.values()))
            strike()

    # --- at random instants

    def _some_of_one_role(self) -> None:
        role = self._chance.choices(list(Role), (4, 3, 3, 1))[0]
        found = [one for one in self._census() if one.role is role]
        if found:
            self._kill(self._chance.sample(found, self._chance.randint(1, len(found))), str(role))

    def _some_of_all(self) -> None:
        found = self._census()
        if found:
            self._kill(self._chance.sample(found, self._chance.randint(1, len(found))), "some")

    def _everything(self) -> None:
        """Kill all, and what these had brought forth before it was their turn."""
        while found := self._census():
            self._chance.shuffle(found)
            self._kill(found, "everything")
            if self.resting.wait(POLL_S):
                return

    # --- at the instants that hurt

    def _at_a_claim(self) -> None:
        """Kill the scheduler between a claim and the start, and perhaps the fork servers too."""
        fork_servers = [one for one in self._census() if one.role is Role.FORK_SERVER]
        if self._changes(self._home.attempts):
            self._kill_scheduler("claim")
            if self._chance.random() < 0.5:
                self._kill(fork_servers, "claim")

    def _at_a_commit(self) -> None:
        if self._changes(self._home.database.with_name(self._home.database.name + "-wal")):
            self._kill_scheduler("commit")

    def _at_an_outcome(self) -> None:
        """Kill a supervisor about when its program has ended, and perhaps the scheduler."""
        before = _names(self._home.attempts)
        if not self._changes(self._home.attempts):
            return
        born = _names(self._home.attempts) - before
        if not born:
            return
        attempt = Attempt(self._home.attempts / max(born))
        if not self._waited(lambda: _writes_outcome(attempt)):
            return
        who = read_starter(attempt)
        if self._chance.random() < 0.5:
            self._kill_scheduler("outcome")
        if who is not None:
            self._kill([Ours(who=who, role=Role.SUPERVISOR)], "outcome")

    def _kill_scheduler(self, strike: str) -> None:
        if self._chance.random() < 0.5:
            time.sleep(self._chance.uniform(0, AFTER_S))
        pid = scheduler_pid(self._home)
        who = identity(pid) if pid is not None else None
        if who is not None:
            self._kill([Ours(who=who, role=Role.SCHEDULER)], strike)

    def _changes(self, path: Path) -> bool:
        """Wait until something is written there; False when nothing is."""
        before = _written(path)
        return self._waited(lambda: _written(path) != before)

    def _waited(self, condition: Callable[[], bool]) -> bool:
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            if time.monotonic() > deadline or self.resting.is_set():
                return False
            time.sleep(POLL_S)
        return True

    # --- how

    def _census(self) -> list[Ours]:
        return census(self._home.folder, self._program)

    def _kill(self, found: Sequence[Ours], strike: str) -> None:
        for one in found:
            at = one.kill()
            if at is not None:
                self.kills.append(Kill(pid=one.who.pid, at=at, strike=strike))


def _written(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def _names(folder: Path) -> set[str]:
    try:
        return {entry.name for entry in folder.iterdir()}
    except FileNotFoundError:
        return set()


def _writes_outcome(attempt: Attempt) -> bool:
    """Return whether the outcome is recorded, or its program has just ended."""
    if read_recorded_outcome(attempt) is not None:
        return True
    program = recorded_program(attempt)
    return program is not None and not is_alive(program)
