"""Jobs that queue jobs, and wait for them, from inside."""

import shlex
import sys
from pathlib import Path

import pytest

from launcher.queue.home.paths import Home
from launcher.queue.store.queue import Store
from launcher.system.processes import usable_cores
from tests.build import job_row, shell, until
from tests.launcher.conftest import Launcher
from tests.terminal import COMMAND

NOTE = "note: not waiting for job 1, because this program runs inside it\n"


def log_of(home: Home, job: int = 1) -> str:
    return home.attempt(job, 1).log.read_text()


def test_job_waiting_for_cores_names_running_parent_jobs(
    launcher: Launcher, store: Store, tmp_path: Path
) -> None:
    queue = shlex.join([*COMMAND, "add", "--name", "child", "--", "true"])
    flag = tmp_path / "flag"
    script = f'{queue}; until [ -e "$1" ]; do sleep 0.02; done'
    launcher(
        "add", "--cpus", str(usable_cores()), "--name", "parent", "--", *shell(script, str(flag))
    )
    held = f"job 1, which queued other jobs, holds {usable_cores()} core"
    until(lambda: held in launcher("status").out, "the reason of the child names its parent")
    waits = launcher.json("show", "child")
    assert waits["note_code"] == "no-room"
    flag.touch()
    launcher.well("wait", "child", "parent")
    assert job_row(store, 2).name == "command/child"


QUICK_CHECKS = (
    "import runpy, launcher.queue.scheduler.job_wait",
    "launcher.queue.scheduler.job_wait.CHECK_EVERY_S = 0.1",
    "runpy.run_module('launcher', run_name='__main__')",
)


def test_commands_that_wait_for_a_job_that_can_never_start_end_with_the_reason(
    launcher: Launcher, home: Home
) -> None:
    command = shlex.join([sys.executable, "-c", "; ".join(QUICK_CHECKS)])
    script = f"{command} add --name child --wait -- true; {command} wait 2"
    launcher("add", "--cpus", str(usable_cores()), "--name", "parent", "--", *shell(script))
    assert launcher("wait", "1").code == 1
    assert log_of(home).count("cannot start while this program waits for it: it needs 1") == 2
    launcher.well("wait", "2")


@pytest.mark.parametrize("words", [(), ("run:add",), ("command/w*",), ("1",)])
def test_wait_inside_a_job_excludes_the_job(
    launcher: Launcher, home: Home, store: Store, words: tuple[str, ...]
) -> None:
    launcher.well("add", "--time-limit", "60s", "--name", "w", "--", *COMMAND, "wait", *words)
    launcher.well("wait", "1")
    assert log_of(home) == NOTE


def test_python_wait_inside_a_job_excludes_the_job(
    launcher: Launcher, home: Home, store: Store
) -> None:
    script = "from launcher.api import wait; print(wait([1, 2]))"
    launcher("add", "--hold", "--time-limit", "60s", "--", sys.executable, "-c", script)
    launcher("add", "--", "true")
    launcher.well("wait", "2")
    launcher("release", "1")
    launcher.well("wait", "1")
    assert sorted(log_of(home).splitlines(keepends=True)) == sorted([NOTE, "{2: 'done'}\n"])
