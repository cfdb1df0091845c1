"""The other queues, each behind the same one method; they leave nothing behind, after Ctrl-C either."""

import contextlib
import importlib
import importlib.util
import json
import os
import select
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.timing import Program, Queue, System

END_S = 5.0  # grace period of a peer after a request to end

HUEY = """
import subprocess
from huey import SqliteHuey
huey = SqliteHuey(filename={database!r})
@huey.task()
def run(argv):
    return subprocess.call(argv, stdout=subprocess.DEVNULL)
"""
HUEY_CONSUMER = ("-m", "huey.bin.huey_consumer", "benchtasks.huey", "-k", "process")
BARE = """
CREATE TABLE jobs (id INTEGER PRIMARY KEY, argv TEXT, state TEXT, pid INTEGER, status INTEGER);
CREATE INDEX ready ON jobs (state, id);
"""


class Bare:
    """A loop over SQLite and posix_spawn: three transactions a job, and nothing else is kept."""

    eager = False

    def __init__(self, database: sqlite3.Connection, slots: int) -> None:
        """Work on a database with the table `jobs`."""
        self._db, self._slots = database, slots

    def submit(self, programs: Sequence[Program]) -> int:
        """Queue programs and run them all; returns when the last one has ended."""
        self._db.execute("BEGIN IMMEDIATE")
        rows = [(json.dumps(argv),) for argv in programs]
        self._db.executemany("INSERT INTO jobs (argv, state) VALUES (?, 'queued')", rows)
        self._db.execute("COMMIT")
        since = time.monotonic_ns()
        poll, running = select.epoll(), dict[int, tuple[int, int]]()
        while self._start_all(poll, running) or running:
            for descriptor, _ in poll.poll():
                poll.unregister(descriptor)  # a child that is not yet past its exec keeps it open
                self._end(descriptor, *running.pop(descriptor))
        poll.close()
        return since

    def _start_all(self, poll: select.epoll, running: dict[int, tuple[int, int]]) -> bool:
        while len(running) < self._slots:
            row = self._db.execute(
                "UPDATE jobs SET state = 'running' WHERE id = (SELECT id FROM jobs"
                " WHERE state = 'queued' ORDER BY id LIMIT 1) RETURNING id, argv"
            ).fetchone()
            if row is None:
                return False
            job, argv = row[0], json.loads(row[1])
            pid = os.posix_spawn(argv[0], argv, os.environ, setsid=True)
            self._db.execute("UPDATE jobs SET pid = ? WHERE id = ?", (pid, job))
            descriptor = os.pidfd_open(pid)
            running[descriptor] = (pid, job)
            poll.register(descriptor, select.EPOLLIN)
        return True

    def _end(self, descriptor: int, pid: int, job: int) -> None:
        _, status = os.waitpid(pid, 0)
        os.close(descriptor)
        self._db.execute("UPDATE jobs SET state = 'done', status = ? WHERE id = ?", (status, job))


@contextmanager
def _bare(folder: Path, slots: int) -> Iterator[Queue]:
    with contextlib.closing(sqlite3.connect(folder / "bare", isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
        database.executescript(BARE)
        yield Bare(database, slots)


class Spooler:
    """task-spooler: one call of its client for each program, timed from before the call."""

    eager = True

    def __init__(self, environment: dict[str, str]) -> None:
        """Talk to the server that the environment names."""
        self._environment = environment

    def submit(self, programs: Sequence[Program]) -> int:
        """Queue programs one by one."""
        since = time.monotonic_ns()
        for argv in programs:
            self.call(*argv)
        return since

    def call(self, *words: str) -> None:
        """Run the client."""
        subprocess.run(
            ["tsp", *words], env=self._environment, check=True, stdout=subprocess.DEVNULL
        )


@contextmanager
def _spooler(folder: Path, slots: int) -> Iterator[Queue]:
    queue = Spooler({**os.environ, "TS_SOCKET": str(folder / "socket"), "TMPDIR": str(folder)})
    try:
        queue.call("-S", str(slots))
        yield queue
    finally:
        queue.call("-K")  # its clients, one for each queued program, end with it


class Huey:
    """huey over SQLite: a consumer whose worker processes run each program."""

    eager = True

    def __init__(self, run: Callable[[Program], object]) -> None:
        """Queue by a task of its own."""
        self._run = run

    def submit(self, programs: Sequence[Program]) -> int:
        """Queue programs one by one."""
        since = time.monotonic_ns()
        for argv in programs:
            self._run(argv)
        return since


@contextmanager
def _huey(folder: Path, slots: int) -> Iterator[Queue]:
    path = folder / "benchtasks.py"
    path.write_text(HUEY.format(database=str(folder / "huey")), encoding="utf-8")
    found = importlib.util.spec_from_file_location("benchtasks", path)
    assert found is not None
    assert found.loader is not None
    tasks = importlib.util.module_from_spec(found)
    found.loader.exec_module(tasks)
    consumer = subprocess.Popen(
        [sys.executable, *HUEY_CONSUMER, "-w", str(slots)],
        env={**os.environ, "PYTHONPATH": str(folder)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # a Ctrl-C is ours to pass on
    )
    try:
        yield Huey(tasks.run)
    finally:
        _end_group(consumer)


def _end_group(leader: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        leader.wait(END_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader.pid, signal.SIGKILL)
    leader.wait()


class HyperQueue:
    """HyperQueue's local cluster: all programs of a call are one job, sent as one message."""

    eager = False

    def __init__(self, client: Any, folder: Path) -> None:  # Any: the package has no types
        """Queue over a client; the programs' output goes into the folder."""
        self._client, self._folder = client, folder
        self._job: Callable[..., Any] = importlib.import_module("hyperqueue").Job

    def submit(self, programs: Sequence[Program]) -> int:
        """Queue programs as one job."""
        job = self._job(default_workdir=self._folder)
        for argv in programs:
            job.program(list(argv))
        since = time.monotonic_ns()
        self._client.submit(job)
        return since


@contextmanager
def _hyperqueue(folder: Path, slots: int) -> Iterator[Queue]:
    cluster_of = importlib.import_module("hyperqueue.cluster")
    # it prints a table of its own, and does not clear away the folder that its worker makes
    with _silent(), _temporary(folder):
        cluster = cluster_of.LocalCluster(str(folder), cluster_of.WorkerConfig(cores=slots))
    try:
        yield HyperQueue(cluster.client(), folder)
    finally:
        cluster.stop()


@contextmanager
def _temporary(folder: Path) -> Iterator[None]:
    """Let temporary files be made in a folder."""
    before = os.environ.get("TMPDIR")
    os.environ["TMPDIR"] = str(folder)
    try:
        yield
    finally:
        del os.environ["TMPDIR"]
        if before is not None:
            os.environ["TMPDIR"] = before


@contextmanager
def _silent() -> Iterator[None]:
    """Send what is written to the standard output nowhere, by whatever part of this process."""
    sys.stdout.flush()
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)


def _package(name: str) -> str:
    return "" if importlib.util.find_spec(name) else f"pip install {name}"


BARE_LOOP = System(name="bare loop", open=_bare)
TASK_SPOOLER = System(
    name="task-spooler",
    open=_spooler,
    lacking=lambda: "" if shutil.which("tsp") else "apt install task-spooler",
)
HUEY_SQLITE = System(name="huey", open=_huey, lacking=lambda: _package("huey"))
HYPERQUEUE = System(name="HyperQueue", open=_hyperqueue, lacking=lambda: _package("hyperqueue"))
