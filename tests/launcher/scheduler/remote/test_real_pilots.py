"""Pilots that are processes of this machine, and schedulers that are killed."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from launcher.backends import pilot_rules
from launcher.backends.fleet import Fleet
from launcher.backends.pilots_file import seen_pilots
from launcher.system.paths import Home
from tests.build import until
from tests.launcher.scheduler.remote import real_pilots
from tests.launcher.scheduler.remote.real_pilots import LAB, Engines, a_fleet, pilots_alive, turn

PATIENCE_S = 90.0  # several pilots start one after another, on a machine that may be busy
TREE = Path(__file__).parents[4]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setattr(pilot_rules, "UNKNOWN_S", 1.0)
    monkeypatch.setattr(pilot_rules, "SPACING_S", 0.01)
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
    return {(row.backend, row.stage, row.attempts) for row in seen_pilots(home).pilots}


def go_on(fleet: Fleet, jobs: int, condition: Callable[[], bool], what: str) -> None:
    def done() -> bool:
        turn(fleet, jobs)
        return condition()

    until(done, what, PATIENCE_S)


def test_pilots_come_serve_and_leave(home: Home, engines: Engines) -> None:
    fleet = a_fleet(home, engines)
    go_on(fleet, 2, lambda: len(fleet.links) == 2, "two pilots speak")
    assert pilots_alive(home) == records(home) == {link.token for link in fleet.links}
    shown = {("lab", "running", 0)}
    go_on(fleet, 2, lambda: rows(home) == shown, "they are shown")
    fleet.leave(now=False)
    go_on(fleet, 0, lambda: not records(home), "they are gone")
    assert not pilots_alive(home)
    assert not fleet
    assert [path.name for path in (home.folder / "pilots").iterdir()] == ["owner.json"]


@pytest.mark.parametrize("instant", ["launcher-*.json", "*/spec.json", "*/process.json"])
def test_a_scheduler_that_is_killed_leaves_no_pilot_that_the_next_one_does_not_know(
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
    fleet.leave(now=True)
    go_on(fleet, 0, lambda: not pilots_alive(home), "none is left")


def test_a_pilot_that_cannot_start_is_a_reason_with_its_log(
    home: Home, engines: Engines, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = LAB._replace(prologue="echo 'module: command not found' >&2; exit 3")
    monkeypatch.setattr(real_pilots, "LAB", broken)
    fleet = a_fleet(home, engines)
    go_on(fleet, 9, lambda: "tried in" in fleet.reasons()["lab"], "it pauses")
    assert "exit code 3" in fleet.reasons()["lab"]
    assert "module: command not found" in fleet.reasons()["lab"]
    assert "the last 3 pilots" in fleet.reasons()["lab"]
    assert not pilots_alive(home)
