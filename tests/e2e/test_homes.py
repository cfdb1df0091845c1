"""Several homes on one machine: together they promise no more than it has."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from launcher.queue.home.daemon_control import scheduler_pid
from launcher.system import memory
from launcher.system.locks import lock_holder
from launcher.system.processes import login_name
from tests.build import end_everything, lines_of, shell, until
from tests.e2e.conftest import Project
from tests.e2e.machine import Machine, Program, a_machine
from tests.forked import BIN
from tests.nvml.standin import Devices

CORES = 2


# says in $1 that it runs; ends, and says so, as soon as somebody opens the pipe $2
WORKS = 'echo start >>"$1"; touch "$3"; read line <"$2"; echo end >>"$1"'


@pytest.fixture
def homes(tmp_path: Path, gpus: Devices) -> Iterator[tuple[Machine, Machine]]:
    """Two homes of one user on a machine of few cores."""
    claims, places = tmp_path / "claims", [tmp_path / "one", tmp_path / "other"]
    for folder in (claims, *places):
        folder.mkdir()
    with ExitStack() as stack:
        one, other = (
            stack.enter_context(a_machine(place, gpus, claims=claims)) for place in places
        )
        for home in (one, other):
            home.serve(CORES)
        yield one, other


def at_once(journal: Path) -> list[int]:
    """Return how many programs ran after each of their starts and ends."""
    steps = [1 if line == "start" else -1 for line in lines_of(journal)]
    return [sum(steps[: number + 1]) for number in range(len(steps))]


def works(home: Machine, journal: Path, ram: str = "0GiB") -> Program:
    """Queue a program that runs until it is let go."""
    said, gate = home.places()
    job = home.add(*shell(WORKS, str(journal), str(gate), str(said)), ram=ram)
    return Program(job=job, said=said, gate=gate)


def end_one_after_another(queued: list[tuple[Machine, Program]]) -> None:
    """Let go whichever program runs, until all have ended."""
    left = list(queued)
    while left:
        until(lambda: any(program.started for _, program in left), "one more runs")
        home, program = next(one for one in left if one[1].started)
        program.let_go()
        home.until_state(program.job, "done")
        left.remove((home, program))


def test_two_queues_never_run_more_jobs_than_cores(
    homes: tuple[Machine, Machine], tmp_path: Path
) -> None:
    journal = tmp_path / "journal"
    queued = [(home, works(home, journal)) for _ in range(3) for home in homes]
    until(lambda: at_once(journal)[-1:] == [CORES], "all cores are busy")
    home, waiting = next(one for one in queued if not one[1].started)
    me = login_name(os.geteuid())
    home.wait_for_reason(waiting.job, f"of {CORES} reserved by the queue /", f" of user {me}")

    end_one_after_another(queued)
    assert max(at_once(journal)) == CORES
    assert lines_of(journal).count("start") == len(queued)


def test_two_queues_never_reserve_more_main_memory_than_installed(
    homes: tuple[Machine, Machine], tmp_path: Path
) -> None:
    one, other = homes
    total = memory.usable_bytes() >> 20
    journal = tmp_path / "journal"
    first = works(one, journal, ram=f"{total * 3 // 5}MiB")
    until(lambda: first.started, "the first runs")
    second, own = (works(home, journal, f"{total * 3 // 5}MiB") for home in (other, one))
    other.wait_for_reason(second.job, "of main memory", "GiB reserved by the queue /")
    one.wait_for_reason(own.job, "of main memory")
    assert [second.started, own.started] == [False, False]
    end_one_after_another([(one, first), (other, second), (one, own)])
    assert max(at_once(journal)) == 1


def test_jobs_start_with_a_warning_if_reservations_cannot_be_published(
    homes: tuple[Machine, Machine], tmp_path: Path
) -> None:
    one, _ = homes
    (tmp_path / "claims").rmdir()
    first = works(one, tmp_path / "journal")
    until(lambda: first.started, "it starts all the same")
    told = "warning: other queues may reserve the same cores and GPU memory"
    until(lambda: told in " ".join(one.call("top", "--once").stdout.split()), "the screen says so")
    (tmp_path / "claims").mkdir()
    first.let_go()
    until(lambda: told not in " ".join(one.call("top", "--once").stdout.split()), "it is over")


# --- One home used from two PID namespaces, as from a host and a container, or from two containers


# processes of a namespace end with its first one; --kill-child: it ends with us
UNSHARE = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")


REFUSAL = "is in use in another container (PID namespace "


def can_unshare() -> bool:
    """Return whether this process may create a PID namespace."""
    if shutil.which("unshare") is None:
        return False
    return subprocess.run([*UNSHARE, "true"], check=False, capture_output=True).returncode == 0


NEEDS_NAMESPACES = pytest.mark.skipif(not can_unshare(), reason="no PID namespace can be made here")


def run_in_new_namespace(
    project: Project, script: str, *words: str
) -> subprocess.CompletedProcess[str]:
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
def test_queue_folder_in_use_is_refused_in_another_namespace(
    project: Project, tmp_path: Path
) -> None:
    journal, home = tmp_path / "journal", project.home
    job = ("--", *shell('echo here >>"$1"; exec sleep 60', str(journal)))
    assert project.call("launcher", "add", *job).returncode == 0
    until(lambda: attempts(journal) == 1, "it runs")

    for command in ("launcher status", "launcher add -- true", "launcher top --once"):
        refused = run_in_new_namespace(project, command)
        assert refused.returncode == 3, refused
        assert REFUSAL in refused.stderr
        assert "launcher stop --now" in refused.stderr
    scheduler = f"{sys.executable} -P -m launcher.scheduler {home.folder}"
    assert run_in_new_namespace(project, scheduler).returncode != 0

    # a supervisor that outlives its scheduler holds the home, too
    home.restarts.write_text(json.dumps({"schema": 1, "times": [9e9] * 3}))
    pid = scheduler_pid(home)
    subprocess.run(["kill", "-9", str(pid)], check=True)
    home.stop_record.write_text('{"schema": 1, "now": false, "at": 0.0}')
    until(lambda: lock_holder(home.scheduler_lock) is None, "the scheduler is dead")
    assert REFUSAL in run_in_new_namespace(project, "launcher status").stderr
    assert attempts(journal) == 1

    end_everything(home)
    until(
        lambda: run_in_new_namespace(project, "launcher status").returncode == 0,
        "the other namespace has it",
    )


@NEEDS_NAMESPACES
def test_ended_container_releases_the_queue_folder(project: Project, tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    script = 'echo "$(readlink /proc/self/ns/pid)" >>"$1"; exec sleep 60'
    queue = 'launcher add -- sh -c "$1" sh "$2"; until [ -s "$2" ]; do sleep 0.05; done'
    first = run_in_new_namespace(project, queue, script, str(journal))
    assert first.returncode == 0, first
    assert attempts(journal) == 1

    # the job there was killed with its namespace, and runs again in this one
    added = project.call("launcher", "add", "--", "true")
    assert added.returncode == 0, added
    until(lambda: attempts(journal) == 2, "it runs again")
    there, here = lines_of(journal)
    assert there != here
    shown = project.call("launcher", "show", "1").stdout
    assert "its container has ended" in shown
