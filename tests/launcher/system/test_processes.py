import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from launcher.system.locks import lock_file, lock_holder
from launcher.system.process_start import spawn_daemon
from launcher.system.process_trees import (
    continue_processes,
    descendants,
    end_session,
    send_signal,
    session_processes,
    stop_processes,
)
from launcher.system.processes import (
    Identity,
    identity,
    identity_from_record,
    is_alive,
    is_stopped,
    open_pidfd,
    seconds_since_start,
)
from tests.build import ended, shell, until

TWO_GROUPS = """
import subprocess
for _ in range(2):
    subprocess.Popen(["sleep", "60"], process_group=0)
print(flush=True)
subprocess.run(["sleep", "60"])
"""
FORK = """
import os
child = os.fork()
if child:
    print(child, flush=True)
"""
# between vfork and exec the child opens a FIFO that nobody writes to
SPAWN = """
import os, sys, threading, time
if sys.argv[2]:
    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
print(flush=True)
os.posix_spawn("/bin/true", ["true"], {}, file_actions=[(os.POSIX_SPAWN_OPEN, 0, sys.argv[1], os.O_RDONLY, 0)])
print("spawned", flush=True)
time.sleep(60)
"""
HOLD_LOCK = """
import sys, time
from pathlib import Path
from launcher.system.locks import lock_file
assert lock_file(Path(sys.argv[1])) is not None
print("locked", flush=True)
{then}
time.sleep(60)
"""


Children = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def children() -> Iterator[Children]:
    """Return a function that starts a child, which is killed after the test."""
    with contextlib.ExitStack() as stack:

        def start(*argv: str, apart: bool = False) -> subprocess.Popen[str]:
            child = subprocess.Popen(
                argv, stdout=subprocess.PIPE, text=True, start_new_session=apart
            )
            stack.enter_context(child)
            stack.callback(child.kill)
            return child

        yield start


def holder(children: Children, path: Path, then: str = "") -> subprocess.Popen[str]:
    child: subprocess.Popen[str] = children(
        sys.executable, "-c", HOLD_LOCK.format(then=then), str(path)
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "locked\n"
    return child


def of(pid: int) -> Identity:
    who = identity(pid)
    assert who is not None
    return who


def test_process_is_identified_by_pid_start_time_and_boot(children: Children) -> None:
    child = children("sleep", "60")
    who = of(child.pid)
    assert identity_from_record(who.to_json()) == who
    assert is_alive(who)
    child.kill()
    child.wait()
    assert not is_alive(who)


def test_zombie_is_not_alive(children: Children) -> None:
    child = children("sleep", "60")
    who = of(child.pid)
    child.kill()
    until(lambda: identity(child.pid) is None, "the killed child has become a zombie")
    assert Path(f"/proc/{child.pid}").exists()
    assert not is_alive(who)
    assert open_pidfd(who) is None


@pytest.mark.parametrize("change", [{"start_ticks": 1}, {"boot": "another"}])
def test_reused_pid_is_not_mistaken_for_the_first_process(
    change: dict[str, int | str],
) -> None:
    me = of(os.getpid())
    earlier = replace(me, **change)  # type: ignore[arg-type]  # a field of either type
    assert not is_alive(earlier)
    assert open_pidfd(earlier) is None
    assert is_alive(me)


def test_program_name_cannot_forge_an_identity(children: Children, tmp_path: Path) -> None:
    program = tmp_path / "x) Z 1 (y"
    shutil.copy("/bin/sleep", program)
    child = children(str(program), "60")
    until(lambda: ") Z 1" in Path(f"/proc/{child.pid}/stat").read_text(), "it has its new name")
    assert of(child.pid).start_ticks > of(1).start_ticks


def test_incomplete_identity_record_names_no_process() -> None:
    assert identity_from_record(None) is None
    assert identity_from_record({"pid": 12}) is None
    assert identity_from_record({"pid": "12", "start_ticks": 1, "boot": "x"}) is None


def test_pidfd_becomes_readable_when_the_process_ends(children: Children) -> None:
    child = children("sleep", "60")
    descriptor = open_pidfd(of(child.pid))
    assert descriptor is not None
    assert not ended(descriptor, deadline_s=0)
    child.kill()
    assert ended(descriptor)
    os.close(descriptor)


def test_lock_has_one_holder_until_it_is_killed_while_another_waits(
    children: Children, tmp_path: Path
) -> None:
    path = tmp_path / "lock"
    assert lock_holder(path) is None
    assert not path.exists()
    child = holder(children, path)
    assert lock_file(path) is None
    assert [lock_holder(path) for _ in range(3)] == [child.pid] * 3
    assert lock_file(path, 0.05) is None
    threading.Timer(0.1, child.kill).start()
    held = lock_file(path, 60.0)
    assert held is not None
    assert lock_holder(path) != child.pid
    os.close(held)


def test_child_does_not_keep_its_parents_lock(children: Children, tmp_path: Path) -> None:
    path = tmp_path / "lock"
    child = holder(children, path, then=FORK)
    assert child.stdout is not None
    grandchild = int(child.stdout.readline())
    try:
        child.kill()
        child.wait()
        assert identity(grandchild) is not None
        assert lock_holder(path) is None
    finally:
        os.kill(grandchild, signal.SIGKILL)


def test_descendants_include_all_levels(children: Children) -> None:
    child = children(*shell("sh -c 'sleep 60 & echo $!; wait' & wait"))
    assert child.stdout is not None
    grandchild = int(child.stdout.readline())
    below = descendants(child.pid)
    assert len(below) == 2
    assert below[1] == grandchild
    for pid in below:
        os.kill(pid, signal.SIGKILL)


def test_processes_left_in_a_dead_leaders_session_are_killed(children: Children) -> None:
    child = children(sys.executable, "-c", TWO_GROUPS, apart=True)
    assert child.stdout is not None
    child.stdout.readline()
    leader = of(child.pid)
    child.kill()
    child.wait()
    assert len(session_processes(child.pid)) >= 2
    end_session(leader)
    assert session_processes(child.pid) == []


def test_session_of_a_process_that_reused_the_pid_is_left_alone(
    children: Children,
) -> None:
    child = children("sleep", "60", apart=True)
    end_session(replace(of(child.pid), start_ticks=1))
    assert child.poll() is None


@pytest.mark.parametrize(
    "other", [{"boot": "earlier"}, {"namespace": 1}], ids=["boot", "namespace"]
)
def test_session_of_a_leader_in_another_boot_or_namespace_is_left_alone(
    children: Children, other: dict[str, Any]
) -> None:
    child = children(*shell("sleep 60 & echo $!"), apart=True)
    assert child.stdout is not None
    left = int(child.stdout.readline())
    leader = of(left)
    child.wait()
    end_session(replace(leader, pid=child.pid, start_ticks=1, **other))
    assert identity(left) == leader
    end_session(replace(leader, pid=child.pid, start_ticks=1))
    until(lambda: identity(left) is None, "a leader of this boot and namespace takes it along")


def test_signal_to_an_ended_process_is_not_an_error(children: Children) -> None:
    child = children("true")
    child.wait()
    send_signal(child.pid, signal.SIGTERM)


def test_daemon_is_detached_from_our_process(tmp_path: Path) -> None:
    log = tmp_path / "log"
    inherited, ours = os.pipe()
    os.set_inheritable(ours, True)  # as a shell leaves it to its programs
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    ignored = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        show = "echo $COLOUR; ls -l /proc/self/fd; grep Sig /proc/self/status"
        pid = spawn_daemon(
            shell(show), log, inherited_descriptors=(inherited,), environment={"COLOUR": "blue"}
        )
    finally:
        signal.signal(signal.SIGHUP, ignored)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    assert os.getsid(pid) == pid
    os.waitpid(pid, 0)
    os.close(inherited)
    os.close(ours)
    said = log.read_text()
    assert said.startswith("blue\n")
    assert f" {inherited} -> pipe:" in said
    assert f" {ours} -> pipe:" not in said
    assert "0 -> /dev/null" in said
    assert "SigBlk:\t0000000000000000" in said
    ignored_by_libc = 0x180000000  # 32 and 33 are its own
    assert int(said.partition("SigIgn:\t")[2].split()[0], 16) & ~ignored_by_libc == 0


FEW_FILES = """
import os, resource, sys
from pathlib import Path
from launcher.system.process_start import open_files_shortage, spawn_daemon
hard = int(sys.argv[1])
above = os.dup2(0, 200)  # as it was inherited
os.set_inheritable(above, True)
resource.setrlimit(resource.RLIMIT_NOFILE, (60, hard))
print(bool(open_files_shortage()), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
while os.dup(0) < 50:
    pass
print(bool(open_files_shortage()), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
log = Path(sys.argv[2])
program = spawn_daemon(["/bin/sh", "-c", "ulimit -n; ls /proc/self/fd"], log)
assert os.waitpid(program, 0)[1] == 0
print(*log.read_text().split())
"""


@pytest.mark.parametrize(
    ("hard", "short"), [(60, ["False 60", "True 60"]), (100, ["False 60", "False 100"])]
)
def test_open_file_limit_is_raised_for_us_only_and_otherwise_is_a_reason_to_wait(
    tmp_path: Path, hard: int, short: list[str]
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FEW_FILES, str(hard), str(tmp_path / "log")],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == [*short, "60 0 1 2 3"]


def test_running_time_of_a_process_uses_a_monotonic_clock(children: Children) -> None:
    child = identity(children("sleep", "60").pid)
    assert child is not None
    elapsed = seconds_since_start(child)
    assert elapsed is not None
    assert -1 < elapsed < 600  # a tick is a hundredth of a second
    later = seconds_since_start(replace(child, start_ticks=child.start_ticks - 360_000))
    assert later is not None
    assert later > elapsed + 1000
    assert seconds_since_start(replace(child, boot="another")) is None


@pytest.mark.parametrize("thread", ["", "with a thread"])
def test_program_stopped_while_spawning_another_stops_and_continues(
    children: Children, tmp_path: Path, thread: str
) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    parent = children(sys.executable, "-c", SPAWN, str(fifo), thread)
    assert parent.stdout is not None
    parent.stdout.readline()
    until(lambda: descendants(parent.pid), "it has begun to start the other")

    def both() -> list[int]:
        return [parent.pid, *descendants(parent.pid)]

    assert not any(map(is_stopped, both()))
    assert stop_processes(both, timeout_s=20)
    assert all(map(is_stopped, both()))
    writer = os.open(fifo, os.O_RDWR)
    continue_processes(both())
    assert parent.stdout.readline() == "spawned\n"
    os.close(writer)


OFTEN = """
import random, signal
from launcher.system.stop_event import StopEvent

for _ in range(200):
    stop = StopEvent()
    signal.signal(signal.SIGALRM, lambda *_: stop.set())
    signal.setitimer(signal.ITIMER_REAL, (1 + random.random()) / 2000)
    while not stop.is_set():
        stop.wait(0)
    assert stop.wait(30)
"""


def test_handler_may_set_an_event_that_its_interrupted_thread_waits_for() -> None:
    subprocess.run([sys.executable, "-c", OFTEN], check=True, timeout=60)
