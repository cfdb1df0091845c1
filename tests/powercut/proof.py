"""Cuts a recorded run at many instants, and looks at what the queue makes of each."""

import contextlib
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from launcher.queue.home.daemon_control import wake
from launcher.queue.home.paths import Home
from launcher.queue.home.scheduler_start import ensure_scheduler
from launcher.queue.jobs.states import OPEN_STATES
from launcher.queue.store.queue import Store
from launcher.system.errors import StoreError
from tests.build import end_everything
from tests.powercut.disk import Cut, Disk, write_out
from tests.powercut.recording import Operation, Recorder
from tests.powercut.workload import HOME, ONCE, STAMPS, name_of

END_S = 60.0  # for the jobs that a new scheduler finds
MODULE = "tests.powercut.workload"


@dataclass(slots=True)
class Seen:
    """Observations before a cut."""

    queued: set[str] = field(default_factory=set)
    done: set[str] = field(default_factory=set)
    began: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Result of the proof."""

    operations: int
    cuts: int
    restarts: int  # runs after which a scheduler continued
    findings: tuple[str, ...]
    restart_findings: int  # findings after a restart

    @property
    def line(self) -> str:
        """The report in one line."""
        return (
            f"powercut: {self.operations} changes of the disk, {self.cuts} cuts,"
            f" {self.restarts} restarts, {len(self.findings)} wrong"
        )


def record(place: Path, jobs: int) -> list[Operation]:
    """Run jobs in an empty folder, and return what was written there; it is deleted."""
    disk = place / "disk"
    disk.mkdir()
    (place / "recorder").mkdir()
    recorder = Recorder(place / "recorder", disk)
    environment = {**os.environ, **recorder.environment(), "LAUNCHER_CONFIG": os.devnull}
    command = [sys.executable, "-m", MODULE, str(disk), str(jobs)]
    subprocess.run(command, env=environment, check=True)
    operations = recorder.operations()
    _remove(disk)
    return operations


def prove(
    place: Path,
    operations: Sequence[Operation],
    *,
    cuts: int,
    restarts: int,
    seed: int,
    syncs: bool = True,
) -> Report:
    """Cut at random times, each time with a part of the writes that were not synced.

    Args:
        place: where the run was recorded.
        operations: the record.
        cuts: how many.
        restarts: after how many of them a scheduler has to end all jobs.
        seed: Seed of the random draws.
        syncs: False: they do nothing, and the proof must fail.
    """
    chance = random.Random(seed)
    at = sorted(chance.choices(range(len(operations) + 1), k=cuts))
    deep = {int(index * cuts / restarts) for index in range(restarts)} if restarts else set()
    findings: list[str] = []
    restart_findings = 0
    for index, (number, left, seen) in enumerate(_cuts(place, operations, at, chance, syncs)):
        with _disk(place, left) as home:
            wrong = judge(home, seen)
            if not wrong and index in deep:
                wrong = _goes_on(home, seen)
                restart_findings += len(wrong)
        findings += [f"cut after change {number}: {text}" for text in wrong]
    return Report(
        operations=len(operations),
        cuts=cuts,
        restarts=len(deep),
        findings=tuple(findings),
        restart_findings=restart_findings,
    )


def _cuts(
    place: Path,
    operations: Sequence[Operation],
    at: Sequence[int],
    chance: random.Random,
    syncs: bool,
) -> Iterator[tuple[int, Cut, Seen]]:
    disk, seen, number = Disk(str(place / "disk"), syncs=syncs), Seen(), 0
    stamps = 0
    for cut in at:
        for change in operations[number:cut]:
            disk.apply(change)
            if change.what == "c" and change.path.endswith(f"/{STAMPS}"):
                stamps = change.inode
            _see(change, seen, stamps)
        number = cut
        share = chance.choice((0.0, 0.5, 1.0))  # fraction of the writes that were not synced
        yield number, disk.after_a_cut(lambda share=share: chance.random() < share), seen  # type: ignore[misc]


def _see(change: Operation, seen: Seen, stamps: int) -> None:
    if change.what == "w" and change.inode == stamps:
        seen.began.update(change.data.decode().split())
    if change.what == "l" and change.other.endswith("/started"):  # its program is about to start
        seen.began.add(name_of(int(Path(change.other).parent.name.partition("-")[0])))
    if change.what == "n":
        what, _, name = change.path.partition(" ")
        (seen.queued if what == "queued" else seen.done).add(name)


@contextlib.contextmanager
def _disk(place: Path, left: Cut) -> Iterator[Home]:
    """Write down what a cut left, where it was."""
    disk = place / "disk"
    write_out(left, disk)
    for index in (disk / HOME).glob("*-shm"):  # in memory that processes share, not on the disk
        index.unlink()
    try:
        yield Home(disk / HOME)
    finally:
        end_everything(Home(disk / HOME))
        _remove(disk)


def _remove(disk: Path) -> None:
    """Delete the disk; who leaves just now may still write there."""
    deadline = time.monotonic() + END_S
    while disk.exists():
        shutil.rmtree(disk, ignore_errors=time.monotonic() < deadline)
        time.sleep(0.01)


def judge(home: Home, seen: Seen) -> list[str]:
    """Return what is wrong with a home after a power cut."""
    if not home.database.exists():
        return [f"{name} was queued, and there is no queue" for name in sorted(seen.queued)]
    try:
        Store(home, durable=False, check=True).close()
    except StoreError as error:
        return [f"the queue cannot be opened: {error}"]
    with contextlib.closing(sqlite3.connect(home.database)) as database:
        states = dict(database.execute("SELECT name, state FROM jobs"))
    wrong = [f"{name} was queued, and is forgotten" for name in sorted(seen.queued - states.keys())]
    wrong += [
        f"{name} was done, and is {states.get(name)}"
        for name in sorted(seen.done)
        if states.get(name) != "done"
    ]
    return wrong + [
        f"{name} must not run twice, began, and is {states.get(name)}"
        for name in sorted(seen.began)
        if ONCE in name and states.get(name, "queued") == "queued"
    ]


def _goes_on(home: Home, seen: Seen) -> list[str]:
    """Let a scheduler of the next boot end all jobs, and return what went wrong with it."""
    if not home.database.exists():
        return []
    stamps = home.folder.parent / STAMPS
    stamps.unlink(missing_ok=True)
    with contextlib.closing(sqlite3.connect(home.database)) as database, database:
        database.execute("UPDATE attempts SET boot = 'another boot'")
    ensure_scheduler(home)
    wake(home)
    deadline = time.monotonic() + END_S
    while left := _open_jobs(home):
        if time.monotonic() > deadline:
            return [f"{name} does not end" for name in left]
        time.sleep(0.01)
    again = stamps.read_text().split() if stamps.exists() else []
    return [
        f"{name} must not run twice, and did"
        for name in sorted(set(again) & seen.began)
        if ONCE in name
    ]


def _open_jobs(home: Home) -> list[str]:
    with contextlib.closing(sqlite3.connect(home.database, timeout=20)) as database:
        rows = database.execute("SELECT name, state FROM jobs").fetchall()
    return [name for name, state in rows if state in OPEN_STATES]
