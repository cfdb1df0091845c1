"""The running and queued jobs of this machine, as a search for deadlocks sees them."""

from collections.abc import Collection

from launcher.queue.backends.eligibility import runs_only_here
from launcher.queue.gpu.gpus_file import read_gpu_status
from launcher.queue.home.paths import Home
from launcher.queue.jobs.states import State
from launcher.queue.scheduler.policy.deadlock import (
    AwaitedJobs,
    GpuTotal,
    Holding,
    MachineTotals,
    Queue,
    QueuedRequest,
)
from launcher.queue.store.client import cores_for_jobs
from launcher.queue.store.queue import Store
from launcher.queue.store.rows import Claim
from launcher.queue.store.wait_records import read_wait_records
from launcher.system import memory


def read_queue(home: Home, store: Store) -> Queue:
    """Return the running jobs of this machine that wait for others, and what these request."""
    passing = store.running_jobs.paused_jobs() | store.running_jobs.pending_actions().keys()
    claims = [claim for claim in store.claims.local_claims() if claim.job not in passing]
    waits = {
        claim.job: [AwaitedJobs(*record) for record in records]
        for claim in claims
        if (records := read_wait_records(home.attempt(*claim.key)))
    }
    awaited = {job for listed in waits.values() for each in listed for job in each.jobs}
    status = read_gpu_status(home)
    return Queue(
        waits=waits,
        holdings={claim.job: _make_holding(claim) for claim in claims},
        requests=_read_requests(store, awaited),
        totals=MachineTotals(
            cpus=cores_for_jobs(home),
            ram=memory.usable_bytes(),
            gpus={gpu.uuid: GpuTotal(gpu.number, gpu.total) for gpu in status.gpus}
            if status
            else {},
        ),
    )


def _make_holding(claim: Claim) -> Holding:
    ram = claim.spec.resources.ram or 0
    return Holding(claim.cpus, ram, claim.gpus, claim.vram, claim.exclusive)


def _read_requests(store: Store, jobs: Collection[int]) -> dict[int, QueuedRequest]:
    """Return the queued ones of some jobs, and of those that they need, if they run only on this machine."""
    requests: dict[int, QueuedRequest] = {}
    left = {*jobs}
    while left:
        rows = store.read.jobs_by_id(left)
        left = set()
        for row in rows:
            spec = row.spec_without_sources
            if row.state is not State.QUEUED or not runs_only_here(spec.terms):
                continue
            read = store.read
            needed = [*read.dependencies_of(row.id), *read.awaited_jobs_of(row.id)]
            needs = tuple(each.id for each in needed)
            requests[row.id] = QueuedRequest(spec.resources, needs)
            left |= {*needs} - requests.keys()
    return requests
