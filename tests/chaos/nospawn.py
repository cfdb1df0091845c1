"""A machine that can start no process: python -m tests.chaos.nospawn [--jobs 1000] [--seconds 60].

`fork`, `vfork` and `posix_spawn` really fail in all processes of the queue, as for a user with the maximum number of
processes. The files that the queue leaves meanwhile are counted.
"""

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from benchmarks.measured import record
from launcher.queue.home.daemon_control import scheduler_pid, wake
from launcher.queue.home.paths import Home, make_home
from launcher.queue.home.scheduler_start import ensure_scheduler
from launcher.queue.jobs.states import State
from launcher.queue.store.queue import Store
from tests.build import a_spec, end_everything, enqueue, lane_reason_text, until

NO_PROCESS = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>
static int fails(const char *name) {
    const char *flag = getenv(name);
    return flag && access(flag, F_OK) == 0;
}
int clock_gettime(clockid_t clock, struct timespec *now) {
    int failed = ((int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime"))(clock, now);
    if (!failed && clock == CLOCK_REALTIME && fails("CLOCK_IS_SET")) now->tv_sec += atoi(getenv("CLOCK_SHIFT_S"));
    return failed;
}
static pid_t real_fork(void) {
    return ((pid_t (*)(void))dlsym(RTLD_NEXT, "fork"))();
}
static pid_t a_fork(void) {
    if (fails("NO_PROCESS")) { errno = EAGAIN; return -1; }
    return real_fork();
}
pid_t fork(void) { return a_fork(); }
pid_t vfork(void) { return a_fork(); }
static int busy(const char *path) {
    const char *only = getenv("BUSY_PROGRAM");
    return only && path && __builtin_strcmp(only, path) == 0 && fails("BUSY");
}
typedef int (*spawning)(pid_t *, const char *, const posix_spawn_file_actions_t *,
                        const posix_spawnattr_t *, char *const[], char *const[]);
int posix_spawn(pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions,
                const posix_spawnattr_t *attributes, char *const argv[], char *const envp[]) {
    if (fails("NO_PROCESS")) return EAGAIN;
    if (busy(path)) return ETXTBSY;
    return ((spawning)dlsym(RTLD_NEXT, "posix_spawn"))(pid, path, actions, attributes, argv, envp);
}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """Files of a queue on disk."""

    rows: int  # rows of attempts and of events
    folders: int
    log_bytes: int

    def __sub__(self, before: "Left") -> "Left":
        return Left(
            rows=self.rows - before.rows,
            folders=self.folders - before.folders,
            log_bytes=self.log_bytes - before.log_bytes,
        )


def left(home: Home, store: Store) -> Left:
    """Count what a queue has on disk now."""
    (rows,) = store.database.execute(
        "SELECT (SELECT count(*) FROM attempts) + (SELECT count(*) FROM events)"
    ).fetchone()
    return Left(
        rows=rows,
        folders=sum(1 for _ in home.attempts.iterdir()),
        log_bytes=home.scheduler_log.stat().st_size,
    )


@contextlib.contextmanager
def shimmed(folder: Path, home: Home, **flags: str) -> Iterator[None]:
    """Start a scheduler whose processes, and theirs, meet what the flags say; new ones do not."""
    library = folder / "trick.so"
    words = ["cc", "-shared", "-fPIC", "-O1", "-x", "c", "-", "-o", str(library), "-ldl"]
    subprocess.run(words, input=NO_PROCESS, text=True, check=True, capture_output=True)
    changes = {"LD_PRELOAD": str(library), **flags}
    os.environ.update(changes)
    try:
        ensure_scheduler(home)
    finally:
        for name in changes:
            del os.environ[name]
    yield


def starve(folder: Path, home: Home, *, jobs: int, seconds: float) -> Left:
    """Queue jobs while no process can be started, for this time. Return the files that this left.

    When there are processes again, all of them are done without any command.
    """
    flag = folder / "no-process"
    with shimmed(folder, home, NO_PROCESS=str(flag)):
        store = Store(home, durable=False)
        (first,) = enqueue(store, a_spec(name="command/first"))
        wake(home)
        until(lambda: _done(store) == 1, f"job {first} is done")
        flag.touch()
        numbers = enqueue(store, *(a_spec(name=f"command/{n}") for n in range(jobs)))
        before = left(home, store)
        wake(home)
        until(lambda: _told(store), "it is told why nothing starts")
        time.sleep(seconds)
        assert _told(store), "it is not told any more"
        assert _done(store) == 1
        grown = left(home, store) - before
        flag.unlink()
        until(lambda: _done(store) == 1 + jobs, "all are done", seconds + 60 + jobs / 10)
        attempts = {row.attempts for row in store.read.jobs_by_id(numbers)}
        assert attempts == {1}, attempts
        store.close()
    return grown


def _done(store: Store) -> int:
    return store.read.counts().get(State.DONE, 0)


def _told(store: Store) -> bool:
    return any("cannot start programs" in lane_reason_text(row) for row in store.read.open_jobs())


@click.command()
@click.option("--jobs", type=click.IntRange(min=1), default=1000, show_default=True)
@click.option("--seconds", type=float, default=60.0, show_default=True)
def main(jobs: int, seconds: float) -> None:
    """Let a queue meet a machine that can start no process, and count what it leaves."""
    with tempfile.TemporaryDirectory(prefix="nospawn-") as place:
        home = Home(Path(place) / "home")
        make_home(home)
        try:
            grown = starve(Path(place), home, jobs=jobs, seconds=seconds)
        finally:
            end_everything(home)
            until(lambda: scheduler_pid(home) is None, "the scheduler is over")
    click.echo(
        f"{jobs} jobs, {seconds:g} s without a process: {grown.rows} rows, {grown.folders} folders, "
        f"{grown.log_bytes} bytes of log more; then all were done"
    )
    name = f"{jobs:,} jobs, {seconds:g} s without a process"
    values = {
        f"{name}: folders": (f"{grown.folders:,}", ""),
        f"{name}: rows": (f"{grown.rows:,}", ""),
        f"{name}: kB of log": (f"{grown.log_bytes / 1000:.1f}", ""),
    }
    record("reliability", values)
    sys.exit(0 if grown.rows <= 10 and grown.folders <= 2 else 1)


if __name__ == "__main__":
    main()
