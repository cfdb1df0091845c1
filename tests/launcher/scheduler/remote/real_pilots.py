"""A fleet of processes of this machine, for tests that need no cluster: `python -m` it, or use it."""

import os
import sys
import time
from pathlib import Path

from launcher.queue.backends.local import Local, make
from launcher.queue.backends.pilot_folder import PilotFolder
from launcher.queue.backends.pilot_pool import PilotPool
from launcher.queue.backends.pilot_rules import Demand
from launcher.queue.backends.settings import Backends, BackendSettings
from launcher.queue.home.paths import Home
from launcher.system.files import read_bytes

LAB = BackendSettings(
    name="lab", kind="local", pilots=2, beat_s=0.2, poll_s=0.1, per_minute=1000, idle_s=600.0
)
PAUSE_S = 0.005


class Engine(Local):
    """The engine of a test, whose children are waited for at its end: nobody else can."""

    def end(self) -> None:
        """Wait for the pilots that it started; all of them are over, or killed."""
        for child in self._children.values():
            child.wait()


class Engines:
    """The engines of a test's schedulers."""

    def __init__(self) -> None:
        """Begin without one."""
        self._made: list[Engine] = []

    def make(self, settings: BackendSettings, home: Home) -> Engine:
        """Return the engine of a table of config.toml."""
        self._made.append(Engine(settings, home))
        return self._made[-1]

    def end(self, home: Home) -> None:
        """Kill the pilots that live, and take in the exit codes of all."""
        make(LAB, home).cancel(list(pilots_alive(home)))
        for engine in self._made:
            engine.end()


def a_fleet(home: Home, engines: Engines) -> PilotPool:
    """Begin as a scheduler of this home."""
    fleet = PilotPool(home, lambda: Backends(by_name={"lab": LAB}), lambda: None, make=engines.make)
    fleet.adopt_recorded_pilots()
    return fleet


def turn(fleet: PilotPool, jobs: int) -> None:
    """Do what a scheduler does in a turn in which so many jobs wait."""
    for link in fleet.all_links:
        link.read(time.monotonic())
    fleet.run_cycle({"lab": Demand(jobs=jobs)} if jobs else {}, {})
    for token in fleet.abandoned_pilots():
        fleet.mark_reaped(token)


def pilots_alive(home: Home) -> set[str]:
    """Return the tokens of the pilots of a home of which a process lives."""
    tokens = set()
    for entry in Path("/proc").iterdir():
        try:
            words = read_bytes(entry / "cmdline").split(b"\0") if entry.name.isdigit() else []
        except OSError:
            continue
        if b"launcher.pilots" in words:
            folder = PilotFolder(Path(os.fsdecode(words[words.index(b"launcher.pilots") + 1])))
            if folder.folder.is_relative_to(home.folder):
                tokens.add(folder.token)
    return tokens


def serve(home: Home) -> None:
    """Be a scheduler for which work waits, until killed."""
    fleet = a_fleet(home, Engines())
    while True:
        turn(fleet, 2)
        time.sleep(PAUSE_S)


if __name__ == "__main__":
    serve(Home(Path(sys.argv[1])))
