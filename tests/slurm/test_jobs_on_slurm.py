"""Jobs from the command line on a real Slurm: pilots and plain mode, what Slurm refuses, a squeue that fails."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from launcher.system.paths import Home
from tests.build import end_everything, until
from tests.slurm.cluster import Slurm

LAUNCHER = Path(sys.executable).with_name("launcher")
DEADLINE_S = 120.0


@dataclass(kw_only=True)
class Project:
    """A folder with a task file, and a queue of its own that may use a Slurm."""

    folder: Path
    environment: Mapping[str, str]
    slurm: Slurm

    def launcher(self, *words: str, code: int | None = 0) -> str:
        """Run a command and return what it printed."""
        done = subprocess.run(
            [LAUNCHER, *words],
            cwd=self.folder,
            env=dict(self.environment),
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )
        assert code is None or done.returncode == code, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout

    def configure(self, text: str) -> None:
        """Write the table of the backend `slurm`."""
        path = Path(self.environment["LAUNCHER_CONFIG"])
        path.write_text(f'[backends.slurm]\npoll = "1s"\nbeat = "1s"\n{text}')

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
    """A project; its scheduler, its pilots and what runs there are ended after the test."""
    home = Home(tmp_path / "home")
    folder = tmp_path / "project"
    folder.mkdir()
    environment = {
        **os.environ,
        **slurm.environment,
        "LAUNCHER_HOME": str(home.folder),
        "LAUNCHER_CONFIG": str(tmp_path / "config.toml"),
    }
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


@pytest.mark.night
def test_in_plain_mode_each_job_is_an_element_of_one_array(project: Project) -> None:
    project.configure('cpus = 1\npilots = 100\npilot = "off"\n')
    project.jobs(*["true"] * 5)
    project.await_done(5)
    tokens = {attempt.parent.parent.name for attempt in project.attempts()}
    (name,) = {token.rpartition("_")[0] for token in tokens}
    assert tokens == {f"{name}_{number}" for number in range(5)}
    listed = ("squeue", "--noheader", "--states=all", "--array", f"--name={name}", "-o", "%F")
    assert len(set(project.slurm.ask(*listed).split())) == 1


@pytest.mark.night
def test_what_slurm_refuses_is_shown_and_jobs_stay_queued_until_it_is_mended(
    project: Project,
) -> None:
    project.configure('partition = "gpus"\n')
    project.jobs("true")
    project.await_status("invalid partition specified: gpus")
    assert "its partitions: main, urgent, short" in project.launcher("status", "--all")
    project.configure('partition = "short"\n')
    project.await_done(1)


@pytest.mark.night
def test_of_a_pilot_that_cannot_start_the_last_lines_are_shown(project: Project) -> None:
    project.configure('prologue = "echo no module cuda/99 >&2; exit 3"\n')
    project.jobs("true")
    project.await_status("no module cuda/99")
    project.configure("")
    project.await_done(1)


@pytest.mark.night
def test_a_squeue_that_fails_ends_no_pilot_and_brings_no_second_one(
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
    project.await_status("Socket timed out")  # of those that wait
    rows = project.slurm.ask("squeue", "--noheader", "--me", "-o", "%j")
    assert len(rows.splitlines()) <= 1
    go.touch()
    project.await_done(3)
