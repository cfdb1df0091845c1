"""No failure of scheduler or engine submits a pilot twice or forgets one, also if pilots are processes."""

import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from launcher.queue.backends import pilot_rules
from launcher.queue.backends.pilot_pool import PilotPool
from launcher.queue.backends.pilot_records import acquire_folder
from launcher.queue.backends.pilot_rules import DELETE_UNKNOWN_AFTER_S
from launcher.queue.backends.pilot_status import read_pilot_status
from launcher.queue.backends.protocol import AllocationState, EngineCalls
from launcher.queue.home.paths import Home
from launcher.system.files import write_json
from tests.build import until
from tests.launcher.scheduler.remote import real_pilots
from tests.launcher.scheduler.remote.real_pilots import LAB, Engines, a_fleet, pilots_alive, turn
from tests.launcher.scheduler.remote.toy_cluster import World, waited_for

WRITE = "launcher.queue.backends.pilot_records.write_json"


class Killed(BaseException):
    """The scheduler was killed at this instant."""


def killed(*_: object, **__: object) -> NoReturn:
    raise Killed


def killed_after(path: Path, record: Any, **options: Any) -> NoReturn:
    write_json(path, record, **options)
    raise Killed


@pytest.mark.parametrize("instant", [killed, killed_after], ids=["before", "after"])
def test_scheduler_killed_around_a_record_leaves_no_pilot_behind(
    tmp_path: Path, instant: Callable[..., NoReturn]
) -> None:
    world = World(tmp_path)
    acquire_folder(world.home.folder / "pilots", world.home)  # by an earlier submission: it is seen
    world.need(2)
    with patch(WRITE, instant), pytest.raises(Killed):
        world.turn()
    world.new_fleet()
    assert not world.records()  # nothing of them was made
    world.turn()
    assert len(world.cluster.submitted) == len(world.records()) == 2


def test_scheduler_killed_in_a_submission_finds_the_pilot_again(tmp_path: Path) -> None:
    world = World(tmp_path)
    held = world.cluster.hangs = threading.Event()
    world.need(3)
    world.fleet.run_cycle(world.demand, {})
    world.clock.now += 1
    waited_for(lambda: held in world.cluster.entered)
    world.new_fleet()
    world.cluster.hangs = None
    world.pass_time(10)
    assert not world.cluster.submitted
    held.set()  # sbatch outlived the scheduler
    waited_for(lambda: len(world.cluster.submitted) == 3)
    world.pass_time(60)
    assert len(world.cluster.submitted) == 3
    assert sorted(world.cluster.submitted) == world.records()


def test_scheduler_killed_before_it_abandoned_a_pilot_abandons_it_again(
    tmp_path: Path,
) -> None:
    world = World(tmp_path)
    (token,) = world.submitted()
    world.speak(token)
    world.busy = {token: 1}
    world.turn()
    world.need(0)
    world.cluster.end(token)
    deaths = 0
    for instant in (killed, killed_after, killed, killed_after):
        with patch(WRITE, instant):
            try:
                world.pass_time(40)
            except Killed:
                deaths += 1
                world.new_fleet()
    assert deaths == 4  # twice around why it is to end, twice around that it is given up
    world.pass_time(40)
    assert world.fleet.abandoned_pilots() == {token: "the pilot of toy on n1 failed"}
    with patch(WRITE, killed_after), pytest.raises(Killed):
        world.fleet.mark_reaped(token)
    world.busy = {}
    world.new_fleet()
    world.pass_time(30)
    assert not world.lost
    assert not world.records()


def _are_back(calls: Sequence[EngineCalls]) -> bool:
    return all(call.has_result or not call.is_busy for call in calls)


class Cluster(RuleBasedStateMachine):
    """An engine and a scheduler to which anything happens at any time."""

    @initialize(pilots=st.integers(1, 3))
    def begin(self, pilots: int) -> None:
        self.place = Path(tempfile.mkdtemp())
        self.world = World(self.place, pilots=pilots)
        self.most = pilots
        self.fair = True  # the engine has not hidden a pilot yet, and none came late
        self.held: list[tuple[threading.Event, PilotPool]] = []

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self._release()
            try:
                self._come_to_rest()
            finally:
                shutil.rmtree(self.place)

    def _come_to_rest(self) -> None:
        world = self.world
        world.cluster.refuses = world.cluster.mute = ""
        world.cluster.hidden.clear()
        self._bury()
        self._go_on(30)
        assert set(world.cluster.alive()) <= set(world.records())
        world.busy = {}
        world.need(0)
        for _ in range(30):
            world.fleet.drain(now=True)
            self._go_on(1)
            self._bury()
            for token in world.cluster.alive():
                if world.by_token[token].is_draining:
                    world.by_token[token].exit_reason = "told to"
                    world.cluster.end(token)
        assert not world.cluster.alive()
        world.pass_time(DELETE_UNKNOWN_AFTER_S + 60, step_s=10.0)
        assert not world.records()
        assert not world.fleet

    @rule(jobs=st.integers(0, 6), slots=st.integers(1, 2))
    def work(self, jobs: int, slots: int) -> None:
        self.world.need(jobs, slots)

    @rule(turns=st.integers(1, 8))
    def time(self, turns: int) -> None:
        self._go_on(turns)

    @rule(spoken=st.booleans())
    def start(self, spoken: bool) -> None:
        waiting = [
            token
            for token, job in self.world.cluster.jobs.items()
            if job.stage is AllocationState.WAITING and token in self.world.by_token
        ]
        self.world.cluster.run(*waiting[:1])
        if spoken:
            for token in waiting[:1]:
                self.world.by_token[token].speak(self.world.clock.now)

    @rule(node_answers=st.booleans())
    def end(self, node_answers: bool) -> None:
        self.world.cluster.end(*self.world.cluster.alive()[:1], node_answers=node_answers)

    @rule()
    def deal(self) -> None:
        for link in self.world.fleet.links:
            self.world.busy[link.folder.token] = 1

    @rule()
    def bury(self) -> None:
        self._bury()

    @rule()
    def hide(self) -> None:
        self.fair = False
        self.world.cluster.hidden.update(self.world.cluster.alive()[:1])

    @rule()
    def show(self) -> None:
        self.world.cluster.hidden.clear()

    @rule(words=st.sampled_from(["", "timed out"]), takes=st.booleans())
    def refuse(self, words: str, takes: bool) -> None:
        self.world.cluster.refuses, self.world.cluster.takes_all_the_same = words, takes

    @rule(words=st.sampled_from(["", "cannot connect"]))
    def answer(self, words: str) -> None:
        self.world.cluster.mute = words

    @rule()
    def kill(self) -> None:
        self.world.new_fleet()

    @rule(instant=st.sampled_from([killed, killed_after]))
    def kill_around_a_record(self, instant: Callable[..., NoReturn]) -> None:
        with patch(WRITE, instant):
            try:
                self._go_on(3)
            except Killed:
                self.world.new_fleet()

    @precondition(lambda self: len(self.held) < 3)
    @rule()
    def kill_in_a_call(self) -> None:
        event = self.world.cluster.hangs = threading.Event()
        self.world.clock.now += 5
        self.world.fleet.run_cycle(self.world.demand, self.world.busy)
        if self.world.waits():
            self.fair = False
            calls = [group.calls for group in self.world.fleet._groups.values()]
            entered = self.world.cluster.entered
            waited_for(lambda: event in entered or any(call.has_result for call in calls))
        self.held.append((event, self.world.fleet))
        self.world.new_fleet()
        self.world.cluster.hangs = None

    @rule()
    def come_late(self) -> None:
        self._release()

    @invariant()
    def no_more_than_allowed(self) -> None:
        if hasattr(self, "world"):
            self.world.cluster.check()
        if hasattr(self, "world") and self.fair:
            assert self.world.cluster.most_alive <= self.most

    def _go_on(self, turns: int) -> None:
        for _ in range(turns):
            running = [
                token
                for token in self.world.cluster.alive()
                if token in self.world.by_token
                and self.world.by_token[token].registration is not None
            ]
            self.world.pass_time(5, speaking=running, step_s=5.0)

    def _bury(self) -> None:
        for token in self.world.fleet.abandoned_pilots():
            self.world.busy.pop(token, None)
            self.world.fleet.mark_reaped(token)

    def _release(self) -> None:
        for event, _ in self.held:
            event.set()
        for _, fleet in self.held:
            calls = [group.calls for group in fleet._groups.values()]
            waited_for(partial(_are_back, calls))
        self.held.clear()


TestCluster = Cluster.TestCase
TestCluster.settings = settings(
    max_examples=25,
    stateful_step_count=20,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


# --- pilots that are processes of this machine, and schedulers that are killed


PATIENCE_S = 90.0  # several pilots start one after another, on a machine that may be busy
TREE = Path(__file__).parents[4]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setattr(pilot_rules, "UNKNOWN_TIMEOUT_S", 1.0)
    monkeypatch.setattr(pilot_rules, "SUBMISSION_SPACING_S", 0.01)
    home = Home(tmp_path / "home")
    home.folder.mkdir()
    return home


@pytest.fixture
def engines(home: Home) -> Iterator[Engines]:
    engines = Engines()
    yield engines
    engines.end(home)


def records(home: Home) -> set[str]:
    return {path.stem for path in (home.folder / "pilots").glob("launcher-*.json")}


def rows(home: Home) -> set[tuple[str, str, int]]:
    return {(row.backend, row.stage, row.attempts) for row in read_pilot_status(home).pilots}


def go_on(fleet: PilotPool, jobs: int, condition: Callable[[], bool], what: str) -> None:
    def done() -> bool:
        turn(fleet, jobs)
        return condition()

    until(done, what, PATIENCE_S)


def test_pilots_start_serve_and_exit(home: Home, engines: Engines) -> None:
    fleet = a_fleet(home, engines)
    go_on(fleet, 2, lambda: len(fleet.links) == 2, "two pilots speak")
    assert pilots_alive(home) == records(home) == {link.token for link in fleet.links}
    shown = {("lab", "running", 0)}
    go_on(fleet, 2, lambda: rows(home) == shown, "they are shown")
    fleet.drain(now=False)
    go_on(fleet, 0, lambda: not records(home), "they are gone")
    assert not pilots_alive(home)
    assert not fleet
    assert [path.name for path in (home.folder / "pilots").iterdir()] == ["owner.json"]


@pytest.mark.parametrize("instant", ["launcher-*.json", "*/spec.json", "*/process.json"])
def test_killed_scheduler_leaves_no_pilot_unknown_to_the_next_one(
    home: Home, engines: Engines, instant: str
) -> None:
    command = [sys.executable, "-m", "tests.launcher.scheduler.remote.real_pilots"]
    scheduler = subprocess.Popen([*command, str(home.folder)], cwd=TREE)
    until(lambda: any((home.folder / "pilots").glob(instant)), "it submits", PATIENCE_S)
    scheduler.kill()
    scheduler.wait()
    fleet = a_fleet(home, engines)
    go_on(fleet, 2, lambda: len(fleet.links) == 2, "two pilots speak")
    assert pilots_alive(home) <= records(home)
    assert len(pilots_alive(home)) == LAB.pilots
    fleet.drain(now=True)
    go_on(fleet, 0, lambda: not pilots_alive(home), "none is left")


def test_pilot_that_cannot_start_is_a_reason_with_its_log(
    home: Home, engines: Engines, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = LAB._replace(prologue="echo 'module: command not found' >&2; exit 3")
    monkeypatch.setattr(real_pilots, "LAB", broken)
    fleet = a_fleet(home, engines)
    go_on(fleet, 9, lambda: "tried in" in fleet.reasons_by_backend()["lab"], "it pauses")
    assert "exit code 3" in fleet.reasons_by_backend()["lab"]
    assert "module: command not found" in fleet.reasons_by_backend()["lab"]
    assert "the last 3 pilots" in fleet.reasons_by_backend()["lab"]
    assert not pilots_alive(home)
