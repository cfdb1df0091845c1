"""One home used from two PID namespaces, as from a host and a container, or from two containers."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from launcher.system.daemon_control import scheduler_pid
from launcher.system.processes import lock_holder
from tests.build import end_everything, lines_of, shell, until
from tests.e2e.conftest import Project
from tests.forked import BIN

# processes of a namespace end with its first one; --kill-child: it ends with us
UNSHARE = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")
REFUSAL = "is in use in another container (PID namespace "


def can_unshare() -> bool:
    """Tell whether we may make a PID namespace."""
    if shutil.which("unshare") is None:
        return False
    return subprocess.run([*UNSHARE, "true"], check=False, capture_output=True).returncode == 0


NEEDS_NAMESPACES = pytest.mark.skipif(not can_unshare(), reason="no PID namespace can be made here")


def elsewhere(project: Project, script: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a script of the shell in a PID namespace of its own, which ends with it."""
    return subprocess.run(
        [*UNSHARE, *shell(f'PATH="{BIN}:$PATH"; {script}', *words)],
        cwd=project.folder,
        env=project.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def attempts(journal: Path) -> int:
    return len(lines_of(journal))


@NEEDS_NAMESPACES
def test_a_home_in_use_is_refused_in_another_namespace_as_long_as_something_of_it_lives(
    project: Project, tmp_path: Path
) -> None:
    journal, home = tmp_path / "journal", project.home
    job = ("--", *shell('echo here >>"$1"; exec sleep 60', str(journal)))
    assert project.call("launcher", "add", *job).returncode == 0
    until(lambda: attempts(journal) == 1, "it runs")

    for command in ("launcher status", "launcher add -- true", "launcher top --once"):
        refused = elsewhere(project, command)
        assert refused.returncode == 3, refused
        assert REFUSAL in refused.stderr
        assert "launcher stop --now" in refused.stderr
    scheduler = f"{sys.executable} -P -m launcher.scheduler {home.folder}"
    assert elsewhere(project, scheduler).returncode != 0

    # a supervisor that outlives its scheduler holds the home, too
    home.restarts.write_text(json.dumps({"schema": 1, "times": [9e9] * 3}))
    pid = scheduler_pid(home)
    subprocess.run(["kill", "-9", str(pid)], check=True)
    home.stop.write_text('{"schema": 1, "now": false, "at": 0.0}')
    until(lambda: lock_holder(home.scheduler_lock) is None, "the scheduler is dead")
    assert REFUSAL in elsewhere(project, "launcher status").stderr
    assert attempts(journal) == 1

    end_everything(home)
    until(
        lambda: elsewhere(project, "launcher status").returncode == 0, "the other namespace has it"
    )


@NEEDS_NAMESPACES
def test_a_container_that_ended_with_its_jobs_leaves_the_home_to_the_next(
    project: Project, tmp_path: Path
) -> None:
    journal = tmp_path / "journal"
    script = 'echo "$(readlink /proc/self/ns/pid)" >>"$1"; exec sleep 60'
    queue = 'launcher add -- sh -c "$1" sh "$2"; until [ -s "$2" ]; do sleep 0.05; done'
    first = elsewhere(project, queue, script, str(journal))
    assert first.returncode == 0, first
    assert attempts(journal) == 1

    # what ran there was killed with its namespace, and runs again in this one
    added = project.call("launcher", "add", "--", "true")
    assert added.returncode == 0, added
    until(lambda: attempts(journal) == 2, "it runs again")
    there, here = lines_of(journal)
    assert there != here
    shown = project.call("launcher", "show", "1").stdout
    assert "the container in which it ran is gone" in shown
