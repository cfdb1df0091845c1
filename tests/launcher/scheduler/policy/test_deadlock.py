"""Deadlocks of jobs that wait for jobs: only certain ones are found, and the newest job gives up."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from launcher.queue.jobs.job import Resources
from launcher.queue.scheduler.policy.deadlock import (
    AwaitedJobs,
    GpuTotal,
    Holding,
    MachineTotals,
    Queue,
    QueuedRequest,
    find_deadlock,
)
from tests.build import GIB

TOTALS = MachineTotals(
    cpus=2,
    ram=8 * GIB,
    gpus={"GPU-a": GpuTotal("cuda:0", 10 * GIB), "GPU-b": GpuTotal("cuda:1", 10 * GIB)},
)
ONE, TWO = Holding(cpus=1), Holding(cpus=2)
CHILD = QueuedRequest(Resources(cpus=1))
ON_GPU = Resources(device="cuda", vram=4 * GIB)


def a_wait(*jobs: int, is_main: bool = True) -> AwaitedJobs:
    return AwaitedJobs(jobs, is_main)


def on_gpus(*gpus: str, **changes: Any) -> Holding:
    return Holding(cpus=0, gpus=gpus, **changes)


@pytest.mark.parametrize(
    ("own", "waits", "holdings", "requests", "lack"),
    [
        pytest.param(
            1, {1: [a_wait(9)]}, {1: TWO}, {9: CHILD},
            "job 9 cannot start while this program waits for it: it needs 1 CPU core, and job 1, which waits for "
            "queued jobs, holds 2 of 2", id="one job holds all cores",
        ),
        pytest.param(1, {1: [a_wait(9)]}, {1: ONE}, {9: CHILD}, "", id="a core is left"),
        pytest.param(
            1, {1: [a_wait(9)]}, {1: ONE}, {9: QueuedRequest(Resources(cpus=2))}, "needs 2 CPU cores",
            id="too few cores are left",
        ),
        pytest.param(
            2, {1: [a_wait(8)], 2: [a_wait(9)]}, {1: ONE, 2: ONE}, {8: CHILD, 9: CHILD},
            "jobs 1, 2, which wait for queued jobs, hold 2 of 2", id="the newest gives up",
        ),
        pytest.param(
            1, {1: [a_wait(8)], 2: [a_wait(9)]}, {1: ONE, 2: ONE}, {8: CHILD, 9: CHILD}, "",
            id="an older one waits for that",
        ),
        pytest.param(1, {1: [a_wait(9)]}, {1: ONE, 2: ONE}, {9: CHILD}, "", id="one does not wait"),
        pytest.param(
            2, {1: [a_wait(3)], 2: [a_wait(9)]}, {1: ONE, 2: ONE, 3: ONE}, {9: CHILD}, "",
            id="one waits for a job that runs",
        ),
        pytest.param(
            2, {1: [a_wait(2)], 2: [a_wait(9)]}, {1: ONE, 2: ONE}, {9: CHILD}, "hold 2 of 2",
            id="a chain of waits",
        ),
        pytest.param(
            1, {1: [a_wait(9)], 2: [a_wait(9, is_main=False)]}, {1: ONE, 2: ONE}, {9: CHILD}, "",
            id="another thread of the other job may end it",
        ),
        pytest.param(
            2, {1: [a_wait(9)], 2: [a_wait(9, is_main=False)]}, {1: ONE, 2: ONE}, {9: CHILD},
            "hold 2 of 2", id="this thread waits as long as its job holds the core",
        ),
        pytest.param(
            1, {1: [a_wait(8), a_wait(9)]}, {1: TWO, 2: ONE}, {9: CHILD}, "",
            id="another wait of the job may return",
        ),
        pytest.param(
            1, {1: [a_wait(8, 9)]}, {1: TWO}, {9: CHILD}, "needs 1 CPU core", id="one of two must start",
        ),
        pytest.param(
            1, {1: [a_wait(9)]}, {1: TWO}, {9: QueuedRequest(Resources(cpus=0), (8,)), 8: CHILD},
            "job 8 cannot start", id="a job that it needs cannot start",
        ),
        pytest.param(1, {1: [a_wait(9)]}, {1: TWO}, {}, "", id="held, or on a cluster"),
        pytest.param(1, {1: [a_wait(9)]}, {}, {9: CHILD}, "", id="paused"),
        pytest.param(
            1, {1: [a_wait(9)]}, {1: Holding(cpus=1, ram=5 * GIB)},
            {9: QueuedRequest(Resources(cpus=1, ram=4 * GIB))},
            "4 GiB of main memory, and job 1, which waits for queued jobs, holds 5 GiB of 8 GiB",
            id="memory",
        ),
        pytest.param(
            1, {1: [a_wait(9)]}, {1: on_gpus("GPU-a", "GPU-b", vram=7 * GIB)},
            {9: QueuedRequest(ON_GPU)},
            "1 GPU with 4 GiB, and job 1, which waits for queued jobs, holds 2 of 2", id="cards",
        ),
        pytest.param(
            1, {1: [a_wait(9)]}, {1: on_gpus("GPU-a", "GPU-b", vram=6 * GIB)},
            {9: QueuedRequest(ON_GPU)}, "", id="it fits beside",
        ),
        pytest.param(
            1, {1: [a_wait(9)]}, {1: on_gpus("GPU-a", exclusive=True)},
            {9: QueuedRequest(ON_GPU._replace(gpus=2))}, "2 GPUs with 4 GiB", id="two cards",
        ),
        pytest.param(
            1, {1: [a_wait(9)]}, {1: on_gpus("GPU-a")},
            {9: QueuedRequest(ON_GPU._replace(exclusive=True))}, "", id="another card is free",
        ),
        pytest.param(
            1, {1: [a_wait(9)]}, {1: on_gpus("GPU-a", exclusive=True)},
            {9: QueuedRequest(ON_GPU._replace(device="cuda:0"))},
            "it needs cuda:0 with 4 GiB, and job 1, which waits for queued jobs, holds it", id="that card",
        ),
    ],
)  # fmt: skip
def test_only_certain_deadlocks_are_found(
    own: int,
    waits: Mapping[int, Sequence[AwaitedJobs]],
    holdings: Mapping[int, Holding],
    requests: Mapping[int, QueuedRequest],
    lack: str,
) -> None:
    found = find_deadlock(own, Queue(waits, holdings, requests, TOTALS))
    assert lack in found
    assert bool(lack) is bool(found)
