"""Our own queue as the benchmarks need it; whatever they touch of the launcher is in this module."""

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil

from benchmarks.timing import Program, Queue, System, until
from launcher.api import load, plan
from launcher.experiments.planning.queue_comparison import compare_with_queue
from launcher.experiments.planning.submit import submit
from launcher.frontends.cli.job_selection import gc_paused
from launcher.frontends.screens.job_view import RECENT, WAITING
from launcher.queue.home.daemon_control import scheduler_pid, wake
from launcher.queue.home.paths import Home, make_home
from launcher.queue.home.scheduler_start import ensure_scheduler
from launcher.queue.jobs.context import current_context
from launcher.queue.jobs.job import Resources, Spec
from launcher.queue.jobs.states import Done, State
from launcher.queue.store.claims import ClaimPlacement
from launcher.queue.store.queue import NewJob, Store
from launcher.queue.store.rows import Claim
from launcher.system.files import file_stamp
from launcher.system.process_trees import send_signal
from launcher.system.processes import boot_id

BIN = Path(sys.executable).parent
RUN = "benchmark"


def cores() -> int:
    """Return the cores that the scheduler divides."""
    return len(os.sched_getaffinity(0))


def cpus_for(slots: int) -> int:
    """Return what each job must ask for, so that at most so many run at a time."""
    return cores() // (slots + 1) + 1


def a_spec(name: str, *argv: str, **changes: Any) -> Spec:
    """Return a job that runs a program."""
    values: dict[str, Any] = {"kind": "command", "role": "plain", "run": RUN, "root": "/"}
    return Spec(name=name, argv=argv, **values | changes)


def needs(cpus: int) -> Resources:
    """Return resources on the CPU."""
    return Resources(cpus=cpus, device="cpu")


@contextmanager
def a_home(folder: Path) -> Iterator[tuple[Home, Store]]:
    """Open a new queue; nothing of it lives afterwards."""
    home = Home(folder / "home")
    make_home(home)
    store = Store(home)
    try:
        yield home, store
    finally:
        store.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            subprocess.run(
                [BIN / "launcher", "stop", "--now"],
                env=environment(home),
                stderr=subprocess.DEVNULL,
                timeout=90,
                start_new_session=True,  # a second Ctrl-C must not keep it from its work
            )
        if pid := scheduler_pid(home):
            send_signal(pid, signal.SIGKILL)


def environment(home: Home) -> dict[str, str]:
    """Return the environment of a command that is to use this queue."""
    return {**os.environ, "LAUNCHER_HOME": str(home.folder), "LAUNCHER_CONFIG": os.devnull}


def insert(
    store: Store,
    specs: Iterable[Spec],
    *,
    state: State = State.QUEUED,
    python_path: Path | None = None,
) -> list[int]:
    """Put jobs that need nothing into the queue in one transaction; return their numbers."""
    here = current_context(os.environ)
    if python_path is not None:
        here = here._replace(environment={**here.environment, "PYTHONPATH": str(python_path)})
    with store.database.writing():
        jobs = (NewJob(spec=spec, state=state) for spec in specs)
        return store.insert_new(store.ensure_run(Path("/"), RUN), here, jobs, time.time())


class Ours:
    """The launcher: many programs are queued in one transaction, timed from its end."""

    eager = False

    def __init__(self, home: Home, store: Store, cpus: int) -> None:
        """Queue over an open store, for a scheduler that lives."""
        self._home, self._store, self._cpus = home, store, cpus

    def submit(self, programs: Sequence[Program]) -> int:
        """Queue programs and wake the scheduler."""
        first = self._store.next_job_number()
        insert(
            self._store,
            (
                a_spec(f"command/{first + index}", *argv, resources=needs(self._cpus))
                for index, argv in enumerate(programs)
            ),
        )
        since = time.monotonic_ns()
        wake(self._home)
        return since


@contextmanager
def _open(folder: Path, slots: int) -> Iterator[Queue]:
    with a_home(folder) as (home, store):
        ensure_scheduler(home)
        yield Ours(home, store, cpus_for(slots))


OURS = System(name="ours", open=_open)


def date_ends(home: Home) -> None:
    """Give jobs that were put in as done a time at which they ended, each another."""
    with closing(sqlite3.connect(home.database)) as database, database:
        database.execute("UPDATE jobs SET ended = submitted + 0.001 * id WHERE state = 'done'")


def scheduler_store(home: Home) -> Store:
    """Open the queue as the scheduler does, but without its syncs, which are the disk's time."""
    return Store(home, durable=False)


def claim_next(store: Store) -> Claim:
    """Find the next job and claim it, as the scheduler does."""
    here = ClaimPlacement(device="cpu", cpus=1, boot=boot_id(), pid=os.getpid(), start_ticks=0)
    job = store.ready_jobs.read_ready(1)[0]
    claim = store.claims.claim(job.id, here, reason="fits", now=time.time())
    assert claim is not None, "nobody else claims here"
    return claim


def finish(store: Store, claim: Claim) -> None:
    """Take in that a claimed job is done."""
    now = time.time()
    store.transitions.finish_attempt(claim, Done(at=now), outputs={}, now=now)


def ask_for_status(store: Store) -> None:
    """Ask the store what `launcher status` asks it."""
    store.read.counts()
    store.read.recently_ended(RECENT)
    store.read.jobs_in_state(State.RUNNING)
    store.read.waiting_jobs(WAITING)


@dataclass(frozen=True, kw_only=True)
class Queued:
    """A task file that was queued."""

    jobs: Sequence[int]  # their numbers
    cpu_s: Mapping[str, float]  # step → the time of the processor


def queue_taskfile(store: Store, path: Path) -> Queued:
    """Plan a task file and queue it, as `launcher run` does."""
    times = [time.process_time()]
    with gc_paused():
        made = plan(load(path))
        times.append(time.process_time())
        comparison = compare_with_queue(
            made, store.read.jobs_of(path.parent, made.name), file_stamp
        )
        times.append(time.process_time())
        done = submit(store, path.parent, comparison, current_context(os.environ), time.time())
        times.append(time.process_time())
    spans = [after - before for before, after in pairwise(times)]
    return Queued(jobs=done.jobs, cpu_s=dict(zip(("plan", "compare", "write"), spans, strict=True)))


def occupy(home: Home, store: Store) -> int:
    """Let one job take all cores, so that all others wait; return the scheduler's pid."""
    resources = needs(cores())
    insert(store, [a_spec("occupy/1", "sleep", "3600", resources=resources, priority=1000)])
    pid = ensure_scheduler(home)
    wake(home)
    until(lambda: store.read.counts().get(State.RUNNING), "the job runs")
    return pid


def adoption_s(home: Home) -> float:
    """Kill the scheduler, and return the seconds until a new one has adopted the running job."""
    home.restarts.unlink(missing_ok=True)  # three deaths in five minutes end the restarts
    before, adopted = ensure_scheduler(home), _adopted(home)
    start = time.monotonic()
    send_signal(before, signal.SIGKILL)
    until(
        lambda: scheduler_pid(home) not in {None, before} and _adopted(home) > adopted,
        "a new scheduler has adopted the job",
        poll_s=0.002,
    )
    return time.monotonic() - start


def _adopted(home: Home) -> int:
    return home.scheduler_log.read_text(encoding="utf-8").count(" adopted")


@dataclass(frozen=True, kw_only=True)
class Birth:
    """How long a worker took to its first line."""

    from_commit_ms: float
    from_claim_ms: float


def birth(home: Home, store: Store, spec: Spec, *, python_path: Path) -> Birth:
    """Queue a worker whose result says when its first line ran, and wait for it."""
    ensure_scheduler(home)
    (job,) = insert(store, [spec], python_path=python_path)
    committed = time.time()
    wake(home)
    until(
        lambda: store.read.result_of(job),
        f"the worker is done; {home.scheduler_log} may say more",
    )
    at = float((store.read.result_of(job) or {})["at"])
    claimed = float(store.read.attempts([job])[-1].claimed)
    return Birth(from_commit_ms=1000 * (at - committed), from_claim_ms=1000 * (at - claimed))


def kill_spares(home: Home) -> None:
    """Kill what the fork servers have forked ahead, while nothing runs."""
    for fork_server in psutil.Process(scheduler_pid(home)).children():
        for spare in fork_server.children():
            spare.kill()
