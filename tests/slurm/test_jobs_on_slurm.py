"""Jobs from the command line on a real Slurm: pilots and plain mode, what Slurm refuses, a squeue that fails."""

import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from launcher.queue.backends.pilot_messages import Registered, decode_message
from launcher.queue.backends.pilot_rules import PilotState
from launcher.queue.home.paths import Home
from tests.build import end_everything, until
from tests.clusters.census import of_node, signal_all
from tests.forked import call_launcher
from tests.shortened import QUICK_PILOTS, shorten
from tests.slurm.cluster import Slurm

DEADLINE_S = 120.0
SAVED_S = 6.0  # slurmctld saves changes of nodes within 5 s


@dataclass(kw_only=True)
class Project:
    """A folder with a task file, and a queue of its own that may use a Slurm."""

    folder: Path
    environment: Mapping[str, str]
    slurm: Slurm

    def launcher(self, *words: str, code: int | None = 0, errors: bool = False) -> str:
        """Run a command and return what it printed, also as errors where that is asked for."""
        done = call_launcher(
            *words, folder=self.folder, environment=self.environment, timeout_s=DEADLINE_S
        )
        assert code is None or done.returncode == code, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout + (done.stderr if errors else "")

    def configure(self, text: str) -> None:
        """Write the table of the backend `slurm`."""
        path = Path(self.environment["LAUNCHER_CONFIG"])
        path.write_text(f'[backends.slurm]\npoll = "0.2s"\nbeat = "0.2s"\n{text}')

    def jobs(self, *scripts: str) -> None:
        """Queue a job for each script, in a run that is left to itself."""
        entries = [
            f"  - name: j{number}\n    argv: [sh, -c, '{script}']\n"
            for number, script in enumerate(scripts)
        ]
        (self.folder / "tasks.yaml").write_text("name: work\ncommand:\n" + "".join(entries))
        self.launcher("run", "tasks.yaml", "--on", "slurm", "--detach")

    def attempts(self) -> list[Path]:
        """Return where the first attempts of all jobs lie."""
        home = Path(self.environment["LAUNCHER_HOME"])
        return [link.resolve() for link in sorted((home / "attempts").glob("*-1"))]

    def await_done(self, number: int) -> None:
        """Wait until so many jobs are done."""
        self.launcher("wait", "--timeout", f"{DEADLINE_S:g}s")
        states = [line.split("\t")[3] for line in self.launcher("status", "--all").splitlines()]
        assert states == ["done"] * number

    def await_status(self, text: str) -> None:
        """Wait until `launcher status` shows a text."""
        until(
            lambda: text in self.launcher("status", "--all"), f"status shows {text!r}", DEADLINE_S
        )


@pytest.fixture
def project(tmp_path: Path, slurm: Slurm) -> Iterator[Project]:
    """A project on a Slurm that is shared."""
    with a_project(tmp_path, slurm) as project:
        yield project


@pytest.fixture
def fragile(tmp_path: Path, three_nodes: Slurm) -> Iterator[Project]:
    """A project on a Slurm that the test may break."""
    with a_project(tmp_path, three_nodes) as project:
        yield project


@contextmanager
def a_project(tmp_path: Path, slurm: Slurm) -> Iterator[Project]:
    """Yield a project. Its scheduler, pilots and jobs are ended after the test."""
    home = Home(tmp_path / "home")
    folder = tmp_path / "project"
    folder.mkdir()
    environment = {
        **os.environ,
        **slurm.environment,
        "LAUNCHER_HOME": str(home.folder),
        "LAUNCHER_CONFIG": str(tmp_path / "config.toml"),
    }
    shorten(environment, QUICK_PILOTS)
    project = Project(folder=folder, environment=environment, slurm=slurm)
    try:
        yield project
        project.launcher("stop", "--now")
        queued = "squeue", "--noheader", "--me"
        until(lambda: slurm.ask(*queued) == "", "no pilot is left", DEADLINE_S)
    finally:
        end_everything(home)


def test_jobs_run_on_a_pilot_where_slurm_gave_it_a_node(project: Project) -> None:
    project.configure("cpus = 2\npilots = 2\n")
    project.jobs(*["echo hello"] * 5)
    project.await_done(5)
    assert len({attempt.parent for attempt in project.attempts()}) <= 2
    assert [(attempt / "log").read_text() for attempt in project.attempts()] == ["hello\n"] * 5


ALONE = """
import fcntl, os, signal, sys, time
lock, said, go, deaf = sys.argv[1:]
file = os.open(lock, os.O_RDWR | os.O_CREAT)
say = lambda word: print(word, file=open(said, "a"))
if deaf == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
try:
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    say("twice")
say("began")
while not os.path.exists(go):
    time.sleep(0.05)
"""


def kill_its_pilot(attempt: Path) -> None:
    """Kill the pilot of an attempt, and nothing that it started."""
    hello = decode_message((attempt.parent.parent / "from").read_bytes().splitlines()[0])
    assert isinstance(hello, Registered)
    os.kill(hello.pid, signal.SIGKILL)


@pytest.mark.parametrize("manner", ["plain", pytest.param("deaf", marks=pytest.mark.night)])
def test_job_of_a_killed_pilot_is_restarted_after_its_first_attempt_has_ended(
    project: Project, manner: str
) -> None:
    project.configure("cpus = 1\npilots = 2\n")
    (project.folder / "alone.py").write_text(ALONE)
    said, go = project.folder / "said", project.folder / "go"
    words = [sys.executable, "alone.py", "lock", str(said), str(go), manner]
    project.launcher("add", "--on", "slurm", "--name", "alone", "--grace", "1s", "--", *words)
    until(said.exists, "it has begun", DEADLINE_S)
    (first,) = project.attempts()
    kill_its_pilot(first)
    until(lambda: "began\n" in said.read_text()[6:], "it begins again", DEADLINE_S)
    assert said.read_text() == "began\nbegan\n"
    go.touch()
    project.await_done(1)


def test_job_that_ends_well_after_its_pilot_was_killed_is_done(project: Project) -> None:
    project.configure("cpus = 1\npilots = 2\n")
    said, go = project.folder / "said", project.folder / "go"
    project.jobs(f"echo began >> {said}; until [ -e {go} ]; do sleep 0.02; done")
    until(said.exists, "it has begun", DEADLINE_S)
    (first,) = project.attempts()
    kill_its_pilot(first)
    go.touch()
    project.await_done(1)
    assert said.read_text() == "began\n"


@pytest.mark.night
def test_restored_controller_that_restarts_a_pilot_ends_nothing_of_the_first(
    fragile: Project,
) -> None:
    slurm = fragile.slurm
    fragile.configure("cpus = 1\npilots = 1\n")
    slurm.ask("scontrol", "update", "nodename=n1,n2,n3", "state=drain", "reason=test")
    said, go = fragile.folder / "said", fragile.folder / "go"
    fragile.jobs(f"echo began >> {said}; until [ -e {go} ]; do sleep 0.02; done")
    state = slurm.folder / "state/job_state"
    until(lambda: state.exists() and b"launcher-" in state.read_bytes(), "it is saved", DEADLINE_S)
    waiting = state.read_bytes()
    slurm.ask("scontrol", "update", "nodename=n1", "state=resume")
    until(said.exists, "it has begun", DEADLINE_S)
    (first,) = fragile.attempts()
    frozen = of_node([slurm.daemons["n1"].pid], {first.parent.parent.name})
    signal_all(frozen, signal.SIGSTOP)  # a whole node
    slurm.ask("scontrol", "update", "nodename=n2,n3", "state=resume")
    time.sleep(SAVED_S)
    slurm.kill("slurmctld")
    state.write_bytes(waiting)
    slurm.start_controller()
    log = first.parent.parent / "engine.log"
    until(lambda: "cannot serve" in log.read_text(), "it was started again", DEADLINE_S)
    shown = Path(fragile.environment["LAUNCHER_HOME"]) / "pilots.json"
    until(lambda: PilotState.STRANDED in shown.read_text(), "its own node counts", DEADLINE_S)
    assert said.read_text() == "began\n"
    go.touch()
    signal_all(frozen, signal.SIGCONT)
    fragile.await_done(1)


@pytest.mark.night
def test_each_job_is_an_element_of_one_array_in_plain_mode(project: Project) -> None:
    project.configure('cpus = 1\npilots = 100\npilot = "off"\n')
    project.jobs(*["true"] * 5)
    project.await_done(5)
    tokens = {attempt.parent.parent.name for attempt in project.attempts()}
    (name,) = {token.rpartition("_")[0] for token in tokens}
    assert tokens == {f"{name}_{number}" for number in range(5)}
    listed = ("squeue", "--noheader", "--states=all", "--array", f"--name={name}", "-o", "%F")
    assert len(set(project.slurm.ask(*listed).split())) == 1


@pytest.mark.night
def test_refusal_of_slurm_is_shown_and_jobs_stay_queued_until_it_is_fixed(
    project: Project,
) -> None:
    project.configure('partition = "gpus"\n')
    project.jobs("true")
    project.await_status("invalid partition specified: gpus")
    assert "its partitions: main, urgent, short" in project.launcher("status", "--all")
    project.configure('partition = "short"\n')
    project.await_done(1)


@pytest.mark.night
def test_missing_partition_is_reported_when_a_job_is_added(project: Project) -> None:
    project.configure('partition = "gpus"\n')
    words = ("add", "--on", "slurm", "--", "true")
    told = project.launcher(*words, errors=True)
    assert "warning: Slurm refuses pilots of [backends.slurm]" in told
    assert "invalid partition specified: gpus" in told
    project.configure('partition = "short"\n')
    assert "warning" not in project.launcher(*words, errors=True)
    project.await_done(2)


@pytest.mark.night
def test_cancelled_allocation_is_the_reason_for_a_restarted_job(project: Project) -> None:
    project.configure("cpus = 1\npilots = 2\n")
    said, go = project.folder / "said", project.folder / "go"
    project.jobs(f"echo began >> {said}; until [ -e {go} ]; do sleep 0.02; done")
    until(said.exists, "it has begun", DEADLINE_S)
    (first,) = project.attempts()
    number = project.slurm.ask("squeue", "-h", "-o", "%i", f"--name={first.parent.parent.name}")
    project.slurm.ask("scancel", number.strip())
    why = f"allocation {number.strip()} of slurm was cancelled"
    until(lambda: why in project.launcher("show", "command/j0"), "it is shown", DEADLINE_S)
    assert "its supervisor got" not in project.launcher("show", "command/j0")
    go.touch()
    project.await_done(1)


@pytest.mark.night
def test_last_log_lines_of_a_pilot_that_cannot_start_are_shown(project: Project) -> None:
    project.configure('prologue = "echo no module cuda/99 >&2; exit 3"\n')
    project.jobs("true")
    project.await_status("no module cuda/99")
    project.configure("")
    project.await_done(1)


@pytest.mark.night
def test_failing_squeue_ends_no_pilot_and_submits_no_second_one(
    project: Project, tmp_path: Path
) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    stub = programs / "squeue"
    stub.write_text("#!/bin/sh\necho 'slurm_load_jobs error: Socket timed out' >&2\nexit 1\n")
    stub.chmod(0o755)
    path = f"{programs}:{project.environment['PATH']}"
    project.environment = {**project.environment, "PATH": path}
    project.configure("pilots = 1\n")
    go = project.folder / "go"
    project.jobs(f"until [ -e {go} ]; do sleep 0.1; done", "true", "true")
    project.await_status("Socket timed out")  # the reason of those that wait
    rows = project.slurm.ask("squeue", "--noheader", "--me", "-o", "%j")
    assert len(rows.splitlines()) <= 1
    go.touch()
    project.await_done(3)
