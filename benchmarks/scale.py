"""What our queue does without peers: much at once, with a million jobs, with workers of torch."""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager
from functools import partial
from pathlib import Path

import psutil

from benchmarks import ours
from benchmarks.commands import median_ms
from benchmarks.table import Row
from launcher.specs import Spec
from launcher.states import State
from launcher.store.store import Store

BULK_JOBS = 50_000  # of one transaction
CLAIMS = 200
QUERIES = 20
ADOPTIONS = 3
IDLE_S = 20.0
WORKERS = 7
PAUSE_S = 0.5  # in which a spare worker is forked
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


@contextmanager
def a_folder() -> Iterator[Path]:
    """A folder that is gone afterwards, whatever is still written into it."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        yield Path(name)


def insert_rows(rounds: int) -> Iterator[Row]:
    """Time the store's bulk insert, and the way from a task file to committed rows."""
    bulk, planned = [], []
    specs = list(_specs("bulk", BULK_JOBS))
    for _ in range(rounds):
        with a_folder() as folder, ours.a_home(folder) as (_, store):
            bulk.append(_rate(partial(ours.insert, store, specs)))
        with a_folder() as folder, ours.a_home(folder) as (_, store), chdir(folder):
            path = folder / "many.yaml"
            path.write_text(_taskfile(), encoding="utf-8")
            planned.append(_rate(partial(ours.queue_taskfile, store, path)))
    yield Row(
        what="bulk insert, jobs/s", ours=statistics.median(bulk), goal=50_000, target="≥ 50,000"
    )
    yield Row(
        what="from a task file to rows, jobs/s",
        ours=statistics.median(planned),
        goal=10_000,
        target="≥ 10,000",
    )


def _specs(name: str, count: int) -> Iterator[Spec]:
    return (ours.a_spec(f"{name}/{number}", "true") for number in range(count))


def _rate(action: Callable[[], list[int]]) -> float:
    start = time.perf_counter()
    done = len(action())
    return done / (time.perf_counter() - start)


def _taskfile() -> str:
    entries = [f'  - {{model: null, data: "{one}", poison: {list(SHARES)}}}' for one in SETS]
    lines = ["name: many", "defaults: {data_root: data, split_path: splits}", "train:", *entries]
    return "\n".join([*lines, f"autotest: {TESTS}", ""])


def million_rows(jobs: int) -> Iterator[Row]:
    """Fill a home, half of it with what is done; then claim, look, kill the scheduler, sit idle."""
    with a_folder() as folder, ours.a_home(folder) as (home, store):
        _fill(store, jobs)
        said = f"{jobs:,} jobs: "
        spans = []
        for _ in range(CLAIMS):
            start = time.perf_counter()
            claim = ours.claim_next(store)
            spans.append(1000 * (time.perf_counter() - start))
            ours.finish(store, claim)
        yield Row(what=f"{said}claim, ms", ours=statistics.median(spans), goal=0.1, target="≤ 0.1")
        asked = median_ms(partial(ours.ask_for_status, store))
        yield Row(what=f"{said}status' query, ms", ours=asked, goal=10, target="≤ 10")
        argv = [str(ours.BIN / "launcher"), "status"]
        environment = ours.environment(home)
        call = partial(subprocess.run, argv, capture_output=True, check=True, env=environment)
        yield Row(what=f"{said}launcher status, ms", ours=median_ms(call), goal=200, target="≤ 200")
        pid = ours.occupy(home, store)
        yield from _idle_rows(psutil.Process(pid), said)
        spans = [ours.adoption_s(home) for _ in range(ADOPTIONS)]
        yield Row(what=f"{said}adoption, s", ours=statistics.median(spans), goal=1, target="≤ 1")


def _fill(store: Store, jobs: int) -> None:
    half = jobs // 2
    for state in (State.DONE, State.QUEUED):
        for first in range(0, half, BULK_JOBS):
            count = min(BULK_JOBS, half - first)
            ours.insert(store, _specs(f"{state}/{first}", count), state=state)


def _idle_rows(scheduler: psutil.Process, said: str) -> Iterator[Row]:
    before = scheduler.cpu_times()
    time.sleep(IDLE_S)
    after = scheduler.cpu_times()
    used_s = after.user + after.system - before.user - before.system
    yield Row(what=f"{said}idle, % of a core", ours=100 * used_s / IDLE_S, goal=0.2, target="≤ 0.2")
    yield Row(what=f"{said}idle, MB", ours=scheduler.memory_info().rss / MB, goal=60, target="≤ 60")


def torch_rows() -> Iterator[Row]:
    """Time workers with torch from the decision to their first line, and a cold import beside."""
    with a_folder() as folder, ours.a_home(folder) as (home, store):
        (folder / "benchlab.py").write_text(LAB, encoding="utf-8")
        starts = partial(ours.worker_starts_ms, home, store, python_path=folder)
        starts([_worker("first", 0)])  # its nursery imports torch
        at_rest, at_once = [], []
        for turn in range(WORKERS):
            time.sleep(PAUSE_S)
            at_rest += starts([_worker("rest", turn)])
            time.sleep(PAUSE_S)
            burst = [_worker(f"burst{turn}", number) for number in range(max(2, ours.cores()))]
            at_once.append(max(starts(burst)))
    command = [sys.executable, "-c", "import torch, torchvision"]
    cold = {"cold import": median_ms(partial(subprocess.run, command, check=True), rounds=3)}
    yield Row(
        what="torch worker with a spare, ms",
        ours=statistics.median(at_rest),
        peers=cold,
        beside="cold import",
        target="≤ 5 ms",
    )
    yield Row(
        what="torch worker without, ms",  # the last of as many as there are cores
        ours=statistics.median(at_once),
        peers=cold,
        beside="cold import",
        target="≤ 50 ms",
    )


def _worker(name: str, number: int) -> Spec:
    preload = ("torch", "torchvision")
    return ours.a_spec(f"{name}/{number}", entry="benchlab:run", preload=preload)
