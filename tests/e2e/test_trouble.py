"""Clocks that jump, programs that misbehave, and memory that runs out."""

import contextlib
import os
import signal
import struct
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import pytest

from launcher.queue.home.daemon_control import scheduler_pid
from tests.build import gone, lines_of, shell, until
from tests.e2e.conftest import Command, Project
from tests.e2e.test_disk import NEEDS_CC, a_queue_of_its_own, check_never, compiled
from tests.e2e.test_reliability import (
    a_queue,
    add,
    add_waiting,
    all_states,
    endings,
    job_details,
    open_gate,
    stamps,
    state,
    wait,
)
from tests.forked import BIN

DAY_S = 86400
GROUP_BYTES = 300 << 20
JUMPING = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
static volatile long *offset;
__attribute__((constructor)) void begin_preloaded(void) { /* a fork calls it again: tests/forked.py */
    const char *path = getenv("TRICK_OFFSET");
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0) return;
    void *there = mmap(0, sizeof(long), PROT_READ, MAP_SHARED, fd, 0);
    if (there != MAP_FAILED) offset = there;
    close(fd);
}
int clock_gettime(clockid_t clock, struct timespec *now) {
    int code = syscall(SYS_clock_gettime, clock, now);
    int wall = clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE;
    if (code == 0 && wall && offset) now->tv_sec += *offset;
    return code;
}
int gettimeofday(struct timeval *now, void *zone) {
    struct timespec exact;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &exact);
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return 0;
}
time_t time(time_t *now) {
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    if (now) *now = exact.tv_sec;
    return exact.tv_sec;
}
"""
STUBBORN = """
trap '' TERM
(until [ -e gate ]; do sleep 0.05; done) & echo $! >>"$1"
echo $$ >>"$1"
until [ -e gate ]; do sleep 0.05; done
"""
DAEMON = """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.closerange(0, 100)
        with open("stamps", "w") as file:
            print(os.getpid(), file=file)
        os.execve("/bin/sleep", ["sleep", "300"], {})
    os._exit(0)
os.wait()
while not os.path.exists("stamps"):
    time.sleep(0.01)
"""
HUGE_LOG = """
import os, sys
os.ftruncate(1, 10 << 30)
os.lseek(1, 0, os.SEEK_END)
os.write(1, b"\\nlast words\\n")
sys.exit(3)
"""
JUMPS_S = {"ahead": DAY_S, "back": -DAY_S}


class Clock:
    """The wall clock of all processes of a project.

    `outside` is the project for commands that print what is stored, or that run before a jump; they start sooner.
    """

    def __init__(self, project: Project) -> None:
        self._path = project.folder / "offset"
        self._path.write_bytes(struct.pack("l", 0))
        project.environment["TRICK_OFFSET"] = str(self._path)
        self.outside = replace(project, environment=dict(project.environment))
        project.environment["LD_PRELOAD"] = compiled(JUMPING)

    def jump(self, offset_s: int) -> None:
        """Set the clock to the real time and so much."""
        with self._path.open("r+b", buffering=0) as file:  # it must never be shorter: it is mapped
            file.write(struct.pack("l", offset_s))


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[Project]:
    """A new project."""
    with a_queue(tmp_path) as project:
        yield project


class Jump(NamedTuple):
    """A clock that is set while a queue works."""

    queue: Project
    clock: Clock
    offset_s: int

    def occur(self) -> None:
        """Set the clock."""
        self.clock.jump(self.offset_s)


@pytest.fixture
def jumps(tmp_path: Path) -> Iterator[list[Jump]]:
    """Two queues, which wait at the same time: the clock of one is set ahead, that of the other back."""
    with contextlib.ExitStack() as opened:
        queues = [opened.enter_context(a_queue_of_its_own(tmp_path / name)) for name in JUMPS_S]
        yield [
            Jump(queue, Clock(queue), offset_s)
            for queue, offset_s in zip(queues, JUMPS_S.values(), strict=True)
        ]


def at(queue: Project, job: int, event: int) -> float:
    """Return when something happened to a job."""
    return datetime.fromisoformat(job_details(queue, job)["events"][event]["at"]).timestamp()


LIMIT_S = 4  # long enough for a job on each of two queues to start on a busy machine


@NEEDS_CC
def test_clock_jump_does_not_change_time_limits(jumps: list[Jump]) -> None:
    warned = "trap 'touch warned' TERM; touch runs; until [ -e gate ]; do sleep 0.05; done"
    patient = [add(jump.queue, *shell(warned), time_limit="1h", warn="30m") for jump in jumps]
    until(lambda: all((jump.queue.folder / "runs").exists() for jump in jumps), "the first run")
    limits = {"time_limit": f"{LIMIT_S}s", "grace": "1s"}
    short = [add(jump.queue, *shell("touch short; exec sleep 300"), **limits) for jump in jumps]
    until(lambda: all((jump.queue.folder / "short").exists() for jump in jumps), "the others run")
    schedulers = [scheduler_pid(jump.queue.home) for jump in jumps]
    with contextlib.ExitStack() as opened:
        words = ("launcher", "wait", "--timeout", "1h")
        waiting = [opened.enter_context(jump.queue.start(*words)) for jump in jumps]
        for jump in jumps:
            jump.occur()

        for each in zip(jumps, patient, short, waiting, strict=True):
            check_time_limits(*each)
            assert schedulers == [scheduler_pid(jump.queue.home) for jump in jumps]


def check_time_limits(jump: Jump, patient: int, short: int, waiting: Command) -> None:
    """Check that the time limit of one job ended it after a jump, and that of the other did not."""
    queue, outside = jump.queue, jump.clock.outside
    until(lambda: state(queue, short) == "failed", "the time limit ends the other")
    check_never(lambda: state(queue, patient) != "running", "it ends before its time limit")
    late_s = at(outside, short, -1) - time.time() - jump.offset_s
    assert abs(late_s) < DAY_S / 2, "no jump at all"
    assert waiting.poll() is None
    open_gate(queue)
    waiting.communicate(timeout=20)
    assert waiting.returncode == 1
    assert endings(queue, patient) == ["done"]
    assert "limit" in job_details(outside, short)["note"]
    assert not (queue.folder / "warned").exists()


@NEEDS_CC
def test_clock_jump_delays_no_retry_and_no_new_job(jumps: list[Jump]) -> None:
    script = "echo x >>stamps; [ $(wc -l <stamps) = 2 ]"
    jobs = [add(jump.queue, *shell(script), retries=1, backoff="3s") for jump in jumps]
    both = [*zip((jump.queue for jump in jumps), jobs, strict=True)]
    until(lambda: all(endings(*each)[:1] == ["failed"] for each in both), "they failed once")
    schedulers = [scheduler_pid(jump.queue.home) for jump in jumps]

    for jump in jumps:
        jump.occur()

    until(lambda: all(state(*each) == "done" for each in both), "they were tried again")
    for each in both:
        assert endings(*each) == ["failed", "done"]

    def same() -> bool:
        return schedulers == [scheduler_pid(jump.queue.home) for jump in jumps]

    for factor in (0, -1):
        for jump in jumps:
            jump.clock.jump(factor * jump.offset_s)
        check_never(lambda: not same(), "an idle scheduler leaves")
        for jump in jumps:
            add(jump.queue, "true")
        until(lambda: all(map(all_done, jumps)), "the new jobs are done")


def all_done(jump: Jump) -> bool:
    """Return whether all jobs of a queue are done."""
    return set(all_states(jump.queue).values()) == {"done"}


@NEEDS_CC
def test_clock_jump_does_not_change_the_grace_period(jumps: list[Jump]) -> None:
    jobs = {
        jump.queue.folder: [
            add(jump.queue, *shell(STUBBORN, name), grace=name) for name in ("2s", "1h")
        ]
        for jump in jumps
    }
    folders = [jump.queue.folder for jump in jumps]
    for name in ("2s", "1h"):
        until(lambda: all(len(lines_of(place / name)) == 2 for place in folders), "they run")  # noqa: B023
    short, long = (
        [int(pid) for place in folders for pid in lines_of(place / name)] for name in ("2s", "1h")
    )

    for jump in jumps:
        jump.clock.outside.call("launcher", "cancel", "--yes", *map(str, jobs[jump.queue.folder]))
        jump.occur()

    until(lambda: all(map(gone, short)), "the ones are killed after their grace")
    check_never(lambda: any(map(gone, long)), "the others are killed before their grace is over")
    for jump in jumps:
        open_gate(jump.queue)
    for jump in jumps:
        check_cancelled(jump.queue, jobs[jump.queue.folder])


def check_cancelled(queue: Project, jobs: Sequence[int]) -> None:
    """Wait until jobs are cancelled."""
    until(lambda: {state(queue, job) for job in jobs} == {"cancelled"}, "all are cancelled")


def test_daemon_of_a_job_ends_with_it(queue: Project) -> None:
    job = add(queue, sys.executable, "-S", "-c", DAEMON)
    queue.call("launcher", "wait", "--timeout", "20s")
    daemon = int(stamps(queue)[0])
    try:
        assert state(queue, job) == "done"
        assert gone(daemon)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(daemon, signal.SIGKILL)


def test_log_of_ten_gigabytes_is_read_from_its_end(queue: Project) -> None:
    config = queue.folder / "config.toml"
    config.write_text('log_limit = "none"\n', encoding="utf-8")
    queue.environment["LAUNCHER_CONFIG"] = str(config)
    flood = add(queue, *shell("yes | head -c 50000000; echo; echo end"))
    huge = add(queue, sys.executable, "-c", HUGE_LOG)
    wait(queue, code=1)

    assert state(queue, flood) == "done"
    assert (state(queue, huge), endings(queue, huge)) == ("failed", ["failed"])
    assert queue.home.attempt(flood, 1).log.stat().st_size == 50000005
    assert queue.home.attempt(huge, 1).log.stat().st_size > 10 << 30
    assert job_details(queue, huge)["note"] == "ended with exit code 3: last words"
    assert queue.call("launcher", "logs", "-n", "1", str(huge)).stdout == "last words\n"
    assert queue.call("launcher", "logs", "-n", "1", str(flood)).stdout == "end\n"


@pytest.mark.parametrize(("code", "ends"), [(0, "done"), (3, "failed")])
def test_end_of_a_job_that_deletes_its_folder_is_recorded(
    queue: Project, code: int, ends: str
) -> None:
    script = 'folder=$(dirname "$(readlink /proc/$$/fd/1)"); rm -rf "$folder"; exit "$1"'
    job = add(queue, *shell(script, str(code)))
    after = add(queue, "true")

    until(lambda: state(queue, job) == ends, "its end is taken in")

    assert endings(queue, job) == [ends]
    until(lambda: state(queue, after) == "done", "the queue goes on")
    for verb in ("logs", "show", "status"):
        assert "Traceback" not in queue.call("launcher", verb, str(job)).stderr


@pytest.fixture
def memory_group() -> Iterator[Path]:
    """A cgroup of its own with little memory."""
    root = Path("/sys/fs/cgroup")
    first = root / "memory" if (root / "memory").is_dir() else root
    group = first / f"launcher-test-{os.getpid()}"
    limit = "memory.max" if first == root else "memory.limit_in_bytes"
    try:
        group.mkdir()
        try:
            (group / limit).write_text(str(GROUP_BYTES))
        except OSError:
            group.rmdir()
            raise
    except OSError as error:
        pytest.skip(f"no memory cgroup can be made here: {error}")
    yield group
    until(lambda: not (group / "cgroup.procs").read_text(), "the group is empty")
    group.rmdir()


def test_only_kernel_oom_kills_are_reported_as_out_of_memory(
    memory_group: Path, queue: Project
) -> None:
    inside = f'echo $$ >"{memory_group}/cgroup.procs"; exec "$0" "$@"'
    program = 'x = b"x" * (2 << 30)'
    words = [str(BIN / "launcher"), "add", "--", sys.executable, "-c", program]
    said = queue.call("/bin/sh", "-c", inside, *words)
    assert said.returncode == 0, said.stderr

    wait(queue, code=1)
    assert endings(queue, 1) == ["out-of-memory"]
    assert "ran out of memory" in job_details(queue, 1)["note"]

    killed = add_waiting(queue)
    until(lambda: stamps(queue), "the program runs")
    os.kill(int(stamps(queue)[0]), signal.SIGKILL)
    until(lambda: state(queue, killed) == "failed", "it is dead")
    assert "ran out of memory" not in job_details(queue, killed)["note"]
    assert "kill" in job_details(queue, killed)["note"].lower()
