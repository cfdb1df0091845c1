"""Deadlocks of running jobs: each waits for jobs that can only start when one of these running jobs has ended."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from launcher.queue.jobs.job import Resources
from launcher.queue.scheduler.policy.co_location import format_job_names
from launcher.system.errors import pluralize
from launcher.system.units import format_bytes


class Holding(NamedTuple):
    """Resources that a running job keeps on this machine until it ends."""

    cpus: int
    ram: int = 0  # bytes
    gpus: tuple[str, ...] = ()  # UUIDs
    vram: int | None = None  # bytes on each of the job's GPUs; None: an estimate
    exclusive: bool = False


class GpuTotal(NamedTuple):
    """A GPU of the unused machine."""

    number: str  # such as cuda:0
    vram: int  # bytes


class MachineTotals(NamedTuple):
    """Resources of the unused machine."""

    cpus: int
    ram: int = 0  # bytes; 0: unknown
    gpus: Mapping[str, GpuTotal] = {}  # by UUID


class QueuedRequest(NamedTuple):
    """A queued job that can run only on this machine."""

    resources: Resources
    needs: tuple[int, ...] = ()  # jobs that must end before it starts


class AwaitedJobs(NamedTuple):
    """A wait without a time limit inside a job: it returns when all these jobs have ended."""

    jobs: tuple[int, ...]
    is_main: bool = True  # False: another thread waits, so the job may end before


class Queue(NamedTuple):
    """Running and queued jobs at one moment."""

    waits: Mapping[int, Sequence[AwaitedJobs]]  # running job → its waits
    holdings: Mapping[
        int, Holding
    ]  # running job → its resources; without jobs that are paused or being ended
    requests: Mapping[int, QueuedRequest]
    totals: MachineTotals


def find_deadlock(waiting_job: int, queue: Queue) -> str:
    """Return why a wait inside a job can never return; '' if that is not certain, or a newer job gives up before.

    A running job counts as stuck only if each of its waits needs a job that does not fit beside what the stuck
    jobs hold. The newest one gives up. The others may continue then.

    Args:
        waiting_job: the job whose wait is judged.
        queue: all running jobs, their waits, and the awaited jobs.
    """
    stuck = _find_stuck(waiting_job, queue)
    blocks_job = any(each.is_main for each in queue.waits.get(waiting_job, ()))
    if waiting_job not in stuck or (blocks_job and waiting_job != max(stuck)):
        return ""
    stuck_jobs = _StuckJobs(queue, stuck)
    awaited = (job for each in queue.waits[waiting_job] for job in each.jobs)
    return next((text for job in awaited if (text := stuck_jobs.explain(job))), "")


def _find_stuck(waiting_job: int, queue: Queue) -> frozenset[int]:
    """Return the largest set of running jobs that wait for jobs which cannot start beside them."""
    stuck = frozenset(
        job
        for job, waits in queue.waits.items()
        if job in queue.holdings and (job == waiting_job or any(each.is_main for each in waits))
    )
    while True:
        stuck_jobs = _StuckJobs(queue, stuck)
        left = frozenset(
            job for job in stuck if not any(map(stuck_jobs.may_return, queue.waits[job]))
        )
        if left == stuck:
            return stuck
        stuck = left


class _StuckJobs:
    """Running jobs that never end, and which other jobs may end beside them."""

    def __init__(self, queue: Queue, stuck_jobs: frozenset[int]) -> None:
        self._queue, self._stuck = queue, stuck_jobs
        self._held = {job: queue.holdings[job] for job in sorted(stuck_jobs)}

    def may_return(self, wait: AwaitedJobs) -> bool:
        return all(map(self._may_end, wait.jobs))

    def _may_end(self, job: int) -> bool:
        request = self._queue.requests.get(job)
        if job in self._stuck or request is None:
            return job not in self._stuck
        return all(map(self._may_end, request.needs)) and not self._shortfall(request.resources)

    def explain(self, job: int) -> str:
        """Return why a queued job cannot start, or a job that it needs; '' if they can."""
        request = self._queue.requests.get(job)
        if request is None:
            return ""
        if lack := self._shortfall(request.resources):
            return f"job {job} cannot start while this program waits for it: it needs {lack}"
        return next((text for need in request.needs if (text := self.explain(need))), "")

    def _shortfall(self, resources: Resources) -> str:
        """Return which resource does not suffice beside what the stuck jobs hold, and who holds it; '' if all do."""
        totals, held = self._queue.totals, self._held
        cpus = sum(each.cpus for each in held.values())
        if resources.cpus > totals.cpus - cpus:
            which = [job for job, each in held.items() if each.cpus]
            return f"{pluralize(resources.cpus, 'CPU core')}, and {_hold(which)} {cpus} of {totals.cpus}"
        ram = sum(each.ram for each in held.values())
        if resources.ram is not None and totals.ram and resources.ram > totals.ram - ram:
            which = [job for job, each in held.items() if each.ram]
            has = f"{format_bytes(ram)} of {format_bytes(totals.ram)}"
            return f"{format_bytes(resources.ram)} of main memory, and {_hold(which)} {has}"
        if not totals.gpus or not resources.may_need_gpu:
            return ""
        named = {
            uuid for uuid, gpu in totals.gpus.items() if resources.device in (uuid, gpu.number)
        }
        usable = named or {*totals.gpus}
        full = {uuid for uuid in usable if self._is_full(uuid, totals.gpus[uuid].vram, resources)}
        count = max(1, resources.gpus)
        if count <= len(usable) - len(full):
            return ""
        which = [job for job, each in held.items() if full & {*each.gpus}]
        size = "" if resources.vram is None else f" with {format_bytes(resources.vram)}"
        what = resources.device if named else pluralize(count, "GPU")
        taken = "it" if named else f"{len(full)} of {len(usable)}"
        return f"{what}{size}, and {_hold(which)} {taken}"

    def _is_full(self, uuid: str, total: int, resources: Resources) -> bool:
        """Whether a job does not fit on a GPU beside the stuck ones. Estimates of memory do not count."""
        there = [each for each in self._held.values() if uuid in each.gpus]
        vram = sum(each.vram or 0 for each in there)
        excludes = any(each.exclusive for each in there) or (resources.exclusive and bool(there))
        return excludes or (bool(there) and vram + (resources.vram or 0) > total)


def _hold(jobs: Sequence[int]) -> str:
    names = format_job_names([str(job) for job in jobs])
    one = len(jobs) == 1
    return (
        f"{names}, which {'waits' if one else 'wait'} for queued jobs, {'holds' if one else 'hold'}"
    )
