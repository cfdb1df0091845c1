import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.queue.backends.local import Local, make
from launcher.queue.backends.pilot_folder import PilotSpec
from launcher.queue.backends.pilot_messages import Drain
from launcher.queue.backends.protocol import (
    AllocationEndCause,
    AllocationState,
    EngineError,
    Observation,
)
from launcher.queue.backends.settings import BackendSettings
from launcher.queue.home.paths import Home
from launcher.system.environment import owners_environment
from tests.build import a_context, a_spec, gone, program_of, said_by, shell, supervisor_of, until
from tests.launcher.pilots.desk import Desk, a_pilot
from tests.nvml.standin import Devices, asked_here

FOR_EVER = "while :; do sleep 60 & wait; done"


class Engine:
    """The engine under test, and the pilots that it was given."""

    def __init__(self, home: Home, **settings: object) -> None:
        self.home = home
        self.backend = self.anew(**settings)
        self.desks: list[Desk] = []

    def anew(self, **settings: object) -> Local:
        """The engine of another scheduler of the same home."""
        return make(BackendSettings(name="here", kind="local", **settings), self.home)  # type: ignore[arg-type]

    def seen(self, desk: Desk) -> Observation:
        """Return the engine's observation of a pilot."""
        return self.backend.observe([desk.folder.token])[desk.folder.token]

    def ends(self, desk: Desk) -> Observation:
        """Wait for a pilot's end, and return the engine's observation of it."""
        until(lambda: self.seen(desk).stage is AllocationState.ENDED, "it ends")
        return self.seen(desk)

    def start(self, spec: PilotSpec | None = None) -> Desk:
        spec = spec or a_pilot()
        self.desks.append(Desk.of(self.home.folder / "pilots", spec))
        self.backend.submit([(self.desks[-1].folder, spec)])
        return self.desks[-1]


@pytest.fixture(autouse=True)
def nodes_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what killed pilots leave on their node be deleted with the test."""
    (tmp_path / "node").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "node"))


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = Engine(Home(tmp_path / "home"))
    yield engine
    engine.backend.cancel([desk.folder.token for desk in engine.desks])


def test_pilot_runs_until_it_exits(engine: Engine) -> None:
    desk = engine.start()
    desk.hello()
    assert engine.seen(desk).stage is AllocationState.RUNNING
    desk.send(Drain())
    assert engine.ends(desk).cause is AllocationEndCause.COMPLETED
    assert "ends: the scheduler requested it" in engine.backend.collect(desk.folder)


def test_next_scheduler_finds_a_pilot_again(engine: Engine) -> None:
    desk = engine.start()
    pid = desk.hello().pid
    other = engine.anew()
    assert other.observe([desk.folder.token])[desk.folder.token].stage is AllocationState.RUNNING
    desk.folder.process_file.unlink()  # it died before it had written who the pilot is
    assert other.observe([desk.folder.token])[desk.folder.token].stage is AllocationState.RUNNING
    other.cancel([desk.folder.token])
    until(lambda: gone(pid), "it is killed")
    assert other.observe([desk.folder.token])[desk.folder.token].stage is AllocationState.UNKNOWN


def test_pilot_that_never_existed_is_unknown(engine: Engine) -> None:
    assert engine.backend.observe(["nobody"])["nobody"].stage is AllocationState.UNKNOWN
    engine.backend.cancel(["nobody"])


def test_cancelling_a_pilot_kills_everything_that_runs_in_it(engine: Engine) -> None:
    desk = engine.start()
    attempt = desk.run(spec=a_spec(*shell(FOR_EVER)))
    pids = [desk.hello().pid, program_of(attempt), supervisor_of(attempt)]
    engine.backend.cancel([desk.folder.token])
    assert all(map(gone, pids))
    there = engine.seen(desk)
    assert (there.stage, there.cause) == (AllocationState.ENDED, AllocationEndCause.CANCELLED)


def test_cancelling_a_dead_pilot_kills_what_it_left(engine: Engine) -> None:
    desk = engine.start()
    attempt = desk.run(spec=a_spec(*shell(FOR_EVER)))
    program = program_of(attempt)
    os.kill(desk.hello().pid, signal.SIGKILL)
    there = engine.ends(desk)
    assert (there.cause, there.reason) == (AllocationEndCause.FAILED, "ended by SIGKILL")
    assert not gone(program)
    engine.backend.cancel([desk.folder.token])
    assert gone(program)


def test_prologue_runs_before_the_pilot_and_its_failure_is_shown(tmp_path: Path) -> None:
    engine = Engine(Home(tmp_path / "home"), prologue="echo no such module; exit 3")
    desk = engine.start()
    there = engine.ends(desk)
    assert (there.cause, there.reason) == (AllocationEndCause.FAILED, "ended with exit code 3")
    assert engine.backend.collect(desk.folder) == "no such module"


def test_missing_interpreter_is_an_error_of_the_backend(tmp_path: Path) -> None:
    engine = Engine(Home(tmp_path / "home"), python="/nowhere/python")
    with pytest.raises(EngineError, match="/nowhere/python"):
        engine.start()


def test_secrets_of_the_environment_reach_neither_pilot_nor_jobs(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HUB_TOKEN", "hidden")
    monkeypatch.setenv("HARMLESS", "plain")
    desk = engine.start()
    attempt = desk.run(spec=a_spec("env"))
    desk.outcome()
    variables = Path(f"/proc/{desk.hello().pid}/environ").read_bytes().split(b"\0")
    assert b"HARMLESS=plain" in variables
    assert not any(b"hidden" in variable for variable in variables)
    assert "hidden" not in said_by(attempt)


def test_pilots_get_different_gpus_and_excess_pilots_are_refused(
    engine: Engine, gpus: Devices, monkeypatch: pytest.MonkeyPatch
) -> None:
    uuids = [gpus.add(), gpus.add(), gpus.add()]
    with asked_here(gpus):
        for name, text in {**gpus.environment, "CUDA_VISIBLE_DEVICES": "0,2"}.items():
            monkeypatch.setenv(name, text)
        desks = [engine.start(a_pilot(gpus=1)) for _ in range(2)]
        seen = [gpu.uuid for desk in desks for gpu in desk.hello().gpus]
        assert seen == [uuids[0], uuids[2]]
        with pytest.raises(EngineError, match="this machine has 2, 2 used by other pilots"):
            engine.start(a_pilot(gpus=1))
        estimate = engine.backend.estimate(a_pilot(gpus=3))
        assert not estimate.possible
        assert "requests 3 GPUs" in estimate.why
        assert engine.backend.estimate(a_pilot()).possible


def test_jobs_have_the_variables_and_path_entries_of_a_prologue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prologue = """
        export LD_LIBRARY_PATH=/site/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
        export PATH=/site/bin:$PATH CUDA_HOME=/site/cuda SITE_TOKEN=hidden
    """
    monkeypatch.setenv("LD_LIBRARY_PATH", "/old/lib")
    monkeypatch.setenv("OF_THE_SCHEDULER", "nothing to a job")
    engine = Engine(Home(tmp_path / "home"), prologue=prologue)
    desk = engine.start()
    owner = {"PATH": "/usr/bin:/bin", "CUDA_HOME": "/own/cuda"}
    attempt = desk.run(spec=a_spec("env"), context=a_context(environment=owner))
    desk.outcome()
    variables = dict(line.split("=", 1) for line in said_by(attempt).splitlines())
    assert variables["PATH"] == "/site/bin:/usr/bin:/bin"
    assert variables["LD_LIBRARY_PATH"] == "/site/lib"
    assert variables["CUDA_HOME"] == "/site/cuda"
    assert {"SITE_TOKEN", "OF_THE_SCHEDULER"} & variables.keys() == set()
    assert owners_environment(variables) == owner
    engine.backend.cancel([desk.folder.token])
