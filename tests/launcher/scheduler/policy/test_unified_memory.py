"""A GPU without memory of its own: no byte of the main memory is reserved twice."""

from dataclasses import replace
from typing import Any

from launcher.queue.gpu.resources import MEMORY, ForeignReservation
from launcher.queue.gpu.snapshot import GpuSnapshot
from launcher.queue.jobs.job import Resources
from launcher.queue.scheduler.gpus.gpu_ledger import reservations_of
from launcher.queue.scheduler.policy.decide import decide
from launcher.queue.scheduler.policy.inventory import impossible_reason
from launcher.queue.scheduler.policy.model import Machine, Running, Start, Wait, Waiting
from tests.build import GIB, a_gpu, a_waiting

RAM = 24
UNIFIED = a_gpu(total=RAM, used=2, shares_host_memory=True)
OWN = a_gpu(1, total=RAM, used=2)


def machine(*gpus: GpuSnapshot, **changes: Any) -> Machine:
    values: dict[str, Any] = {
        "cpus": 8,
        "ram": RAM * GIB,
        "ram_free": 22 * GIB,
        "gpus": gpus or (UNIFIED,),
    }
    return Machine(**values | changes)


def on_gpu(job: int, vram: float, uuid: str = UNIFIED.uuid, **changes: Any) -> Running:
    run = Running(job=job, cpus=1, devices=(uuid,), vram=round(vram * GIB), since=0.0)
    return run._replace(**changes)


def asks(job: int, *, ram: float = 0, vram: float = 0, **more: Any) -> Waiting:
    memory: dict[str, Any] = {"ram": round(ram * GIB)} if ram else {}
    if vram:
        memory |= {"vram": round(vram * GIB), "device": "cuda"}
    return a_waiting(job, **memory | more)


def starts(
    *jobs: Waiting, running: tuple[Running, ...] = (), on: Machine | None = None
) -> list[int]:
    decisions = decide(jobs, running, on or machine())
    return [decision.job for decision in decisions if isinstance(decision, Start)]


def reason(job: Waiting, running: tuple[Running, ...], on: Machine | None = None) -> str:
    (wait,) = decide([job], running, on or machine())
    assert isinstance(wait, Wait)
    return wait.reason


def test_main_memory_reserved_through_a_gpu_is_not_given_to_a_job_with_ram() -> None:
    busy = (on_gpu(1, 12),)
    assert starts(asks(2, ram=15), running=busy) == []
    told = reason(asks(2, ram=15), busy)
    assert "15 GiB of main memory: 12 GiB not reserved" in told
    assert "12 GiB reserved on cuda:0" in told
    assert starts(asks(2, ram=12), running=busy) == [2]
    assert starts(asks(2, ram=15), running=(on_gpu(1, 12, OWN.uuid),), on=machine(OWN)) == [2]


def test_reserved_main_memory_is_not_given_to_a_job_on_the_gpu() -> None:
    busy = (Running(job=1, cpus=1, ram=15 * GIB, since=0.0),)
    assert starts(asks(2, vram=10), running=busy) == []
    told = reason(asks(2, vram=10), busy)
    assert "cuda:0 uses the main memory of the machine, of which 9 GiB is not reserved" in told
    assert starts(asks(2, vram=9), running=busy) == [2]
    assert starts(asks(2, vram=10), running=busy, on=machine(OWN)) == [2]


def test_both_requests_of_one_job_and_of_jobs_that_start_together_count() -> None:
    assert starts(asks(1, vram=12), asks(2, ram=15)) == [1]
    assert starts(asks(1, ram=15), asks(2, vram=12)) == [1]
    assert starts(asks(1, ram=8, vram=8), asks(2, vram=9)) == [1]
    assert starts(asks(1, ram=8, vram=8), asks(2, ram=9)) == [1]
    assert starts(asks(1, ram=12, vram=12), on=machine(OWN)) == [1]
    assert starts(asks(1, ram=21, gpus=1, device="cuda")) == [1]


def test_two_such_gpus_share_the_same_main_memory() -> None:
    both = machine(UNIFIED, replace(UNIFIED, uuid="GPU-1", index=1))
    assert starts(asks(1, vram=12), asks(2, vram=10), asks(3, vram=10), on=both) == [1, 2]


def test_job_that_exceeds_the_main_memory_with_both_requests_is_refused() -> None:
    refusal = impossible_reason(asks(1, ram=15, vram=12), machine())
    assert refusal == (
        "needs 27 GiB of main memory and GPU memory together, "
        "but cuda:0 uses the main memory of this machine, 24 GiB"
    )
    assert not impossible_reason(asks(1, ram=15, vram=12), machine(OWN))
    quota = machine(ram=8 * GIB)  # memory of a control group
    assert "needs 12 GiB of GPU memory" in impossible_reason(asks(1, vram=12), quota)


def test_place_is_kept_for_the_first_job_until_main_memory_is_free() -> None:
    busy = (on_gpu(1, 12, ends=50.0),)
    first = asks(2, ram=15)._replace(backfill_until=0.0)
    assert "free in about 50 s" in reason(first, busy)
    # a later job of 10 GiB would still be there then
    assert starts(first, asks(3, vram=10), running=busy) == []
    assert starts(first, asks(3, vram=10, seconds=40.0), running=busy) == [3]
    ram = (Running(job=1, cpus=1, ram=15 * GIB, since=0.0, ends=50.0),)
    assert "cuda:0 will have room in about 50 s" in reason(asks(2, vram=10), ram)


def test_other_queues_read_what_is_reserved_through_the_gpu_as_main_memory() -> None:
    start = Start(job=1, devices=(UNIFIED.uuid,), cpus=1, reason="", vram=12 * GIB)
    totals = {UNIFIED.uuid: UNIFIED.total}
    for unified, amount in (({UNIFIED.uuid}, 13), ((), 1)):
        told = reservations_of(start, Resources(ram=GIB), totals=totals, unified_gpus=unified)
        assert [each.amount for each in told if each.device == MEMORY] == [amount * GIB]
    theirs = machine(foreign=(ForeignReservation("ada", MEMORY, 15 * GIB),))
    assert starts(asks(1, vram=10), on=theirs) == []
    assert starts(asks(1, vram=9), on=theirs) == [1]


def test_estimate_that_shrinks_gives_back_main_memory() -> None:
    on = machine(
        ram=100 * GIB, ram_free=100 * GIB, gpus=(replace(UNIFIED, total=100 * GIB, used=70 * GIB),)
    )
    estimate = on_gpu(1, 60, estimated=True, used={UNIFIED.uuid: 5 * GIB})
    assert starts(asks(3, ram=60), running=(estimate, on_gpu(2, 20)), on=on) == [3]


def test_job_on_several_gpus_asks_for_the_main_memory_of_all() -> None:
    other = replace(UNIFIED, uuid="GPU-another", index=1)
    on = machine(UNIFIED, other)
    assert starts(asks(1, vram=10, gpus=2), on=on) == [1]
    assert starts(asks(1, vram=13, gpus=2), on=on) == []
