"""Our queue without peers: many jobs at once, a million jobs, and workers with torch."""

import atexit
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import chdir, closing, contextmanager
from functools import cache, partial
from pathlib import Path

import psutil

from benchmarks import ours
from benchmarks.commands import median_ms
from benchmarks.table import Row
from launcher.queue.home.paths import Home
from launcher.queue.jobs.job import Spec
from launcher.queue.jobs.states import State
from launcher.queue.store.queue import Store

BULK_JOBS = 50_000  # jobs of one transaction
CLAIMS = 200
ADOPTIONS = 3
IDLE_S = 20.0
WORKERS = 7
PAUSE_S = 0.5  # in which helpers finish what they do: spare workers are forked
MB = 1e6

SETS = [
    f"{part}:{kept}"
    for part in ("gan1", "gan2", "gan3", "sd", "sdXL")
    for kept in ("pre", "shr", "all")
]
TESTS = ["real:pre", "real:shr", "gan2:pre", "gan2:shr", "gan3:pre", "gan3:shr", "sdXL:pre"]
SHARES = range(1, 76)  # 15 sets × 75 shares of poison × (poison, train, 7 tests) = 10,125 jobs
LAB = """
import time
AT = time.time()

def run(job):
    return {"at": AT}
"""


@cache
def _base() -> Path:
    folder = tempfile.mkdtemp(prefix="benchmark-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


@contextmanager
def a_folder() -> Iterator[Path]:
    """Yield a new folder. All of them are deleted at the very end.

    For half a minute ext4 does not reuse a freed inode, and the search for another one is slow.
    Deleting the folder of one measurement would slow down every file that the next one creates.
    """
    yield Path(tempfile.mkdtemp(dir=_base()))


def insert_rows(rounds: int) -> Iterator[Row]:
    """Time the store's bulk insert, and the way from a task file to committed rows, twice.

    The second time all jobs wait already. On a machine that does other work, too, the time of the
    processor says more than that of the wall.
    """
    bulk, planned, cpu = [], [], defaultdict[str, list[float]](list)
    specs = list(_specs("bulk", BULK_JOBS))
    for _ in range(rounds):
        with a_folder() as folder, ours.a_home(folder) as (_, store):
            start = time.perf_counter()
            ours.insert(store, specs)
            bulk.append(BULK_JOBS / (time.perf_counter() - start))
        with a_folder() as folder, ours.a_home(folder) as (_, store), chdir(folder):
            path = folder / "many.yaml"
            path.write_text(_taskfile(), encoding="utf-8")
            start = time.perf_counter()
            first = ours.queue_taskfile(store, path)
            planned.append(len(first.jobs) / (time.perf_counter() - start))
            again = ours.queue_taskfile(store, path)
            for step, span_s in first.cpu_s.items():
                cpu[f"  {step}"].append(1e6 * span_s / len(first.jobs))
            cpu["  all of it"].append(1e6 * sum(first.cpu_s.values()) / len(first.jobs))
            cpu["  all of it again, all jobs waiting"].append(
                1e6 * sum(again.cpu_s.values()) / len(again.jobs)
            )
    yield Row(
        what="bulk insert, jobs/s", ours=statistics.median(bulk), goal=50_000, target="≥ 50,000"
    )
    yield Row(
        what="from a task file to rows, jobs/s",
        ours=statistics.median(planned),
        goal=10_000,
        target="≥ 10,000",
    )
    for what, spans in cpu.items():
        yield Row(what=f"{what}, µs of CPU a job", ours=statistics.median(spans))


def _specs(name: str, count: int) -> Iterator[Spec]:
    """Return jobs that ask for different things, so that they are not all of one sort."""
    for number in range(count):
        resources = ours.needs(1 + number % 4)
        yield ours.a_spec(f"{name}/{number}", "true", resources=resources, priority=number % 5)


def _taskfile() -> str:
    entries = [f'  - {{model: null, data: "{one}", poison: {list(SHARES)}}}' for one in SETS]
    lines = ["name: many", "defaults: {data_root: data, split_path: splits}", "train:", *entries]
    return "\n".join([*lines, f"autotest: {TESTS}", ""])


def million_rows(jobs: int) -> Iterator[Row]:
    """Fill a queue folder, half of it with done jobs. Then claim, show, kill the scheduler, sit idle."""
    with a_folder() as folder, ours.a_home(folder) as (home, store):
        _fill(store, jobs)
        ours.date_ends(home)
        said = f"{jobs:,} jobs: "
        spans = list(_claim_ms(home))
        yield Row(what=f"{said}claim, ms", ours=statistics.median(spans), goal=0.1, target="≤ 0.1")
        asked = median_ms(partial(ours.ask_for_status, store))
        yield Row(what=f"{said}status' query, ms", ours=asked, goal=10, target="≤ 10")
        argv = [str(ours.BIN / "launcher"), "status"]
        environment = ours.environment(home)
        call = partial(subprocess.run, argv, capture_output=True, check=True, env=environment)
        yield Row(what=f"{said}launcher status, ms", ours=median_ms(call), goal=200, target="≤ 200")
        yield from _idle_rows(ours.occupy(home, store), said)
        adoptions = []
        for _ in range(ADOPTIONS):
            adoptions.append(ours.adoption_s(home))
            time.sleep(PAUSE_S)  # whoever restarted it still looks whether it lives
        middle = statistics.median(adoptions)
        yield Row(what=f"{said}adoption, s", ours=middle, goal=1, target="≤ 1")


def _claim_ms(home: Home) -> Iterator[float]:
    with closing(ours.scheduler_store(home)) as store:
        for _ in range(CLAIMS):
            start = time.perf_counter()
            claim = ours.claim_next(store)
            yield 1000 * (time.perf_counter() - start)
            ours.finish(store, claim)


def _fill(store: Store, jobs: int) -> None:
    half = jobs // 2
    for state in (State.DONE, State.QUEUED):
        for first in range(0, half, BULK_JOBS):
            count = min(BULK_JOBS, half - first)
            ours.insert(store, _specs(f"{state}/{first}", count), state=state)


def _idle_rows(scheduler: int, said: str) -> Iterator[Row]:
    before = _busy_s(scheduler)
    time.sleep(IDLE_S)
    used = 100 * (_busy_s(scheduler) - before) / IDLE_S
    yield Row(what=f"{said}idle, % of a core", ours=used, goal=0.2, target="≤ 0.2")
    held = psutil.Process(scheduler).memory_info().rss / MB
    yield Row(what=f"{said}idle, MB", ours=held, goal=60, target="≤ 60")


def _busy_s(pid: int) -> float:
    """Return how long all threads of a process have run, to the nanosecond."""
    stats = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(stat.read_text(encoding="ascii").split()[0]) for stat in stats) / 1e9


def torch_rows() -> Iterator[Row]:
    """Time workers with torch from the decision to their first line, and a cold import beside."""
    with a_folder() as folder, ours.a_home(folder) as (home, store):
        (folder / "benchlab.py").write_text(LAB, encoding="utf-8")
        born = partial(ours.birth, home, store, python_path=folder)
        born(_worker("first", 0))  # its fork server imports torch
        spared, forked = [], []
        for turn in range(WORKERS):
            time.sleep(PAUSE_S)
            spared.append(born(_worker("spared", turn)).from_claim_ms)
            time.sleep(PAUSE_S)
            ours.kill_spares(home)
            time.sleep(PAUSE_S)
            # a job is claimed when there is somebody to run it, so the claim comes after the fork
            forked.append(born(_worker("forked", turn)).from_commit_ms)
    command = [sys.executable, "-c", "import torch, torchvision"]
    cold = {"cold import": median_ms(partial(subprocess.run, command, check=True), rounds=3)}
    yield Row(
        what="torch worker, claim to first line, ms",
        ours=statistics.median(spared),
        peers=cold,
        beside="cold import",
        target="≤ 5 ms",
    )
    yield Row(
        what="  no spare: commit to first line, ms",
        ours=statistics.median(forked),
        peers=cold,
        beside="cold import",
        target="≤ 50 ms",
    )


def _worker(name: str, number: int) -> Spec:
    preload = ("torch", "torchvision")
    return ours.a_spec(f"{name}/{number}", entry="benchlab:run", preload=preload)
