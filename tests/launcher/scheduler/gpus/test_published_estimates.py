"""Published reservations of a job whose reservation follows its usage."""

import os
import time
from pathlib import Path

import pytest

from launcher.queue.gpu.monitor import GpuSample, OwnProcesses
from launcher.queue.gpu.reservations import ReservationBoard
from launcher.queue.gpu.snapshot import GpuProcess, GpuSnapshot
from launcher.queue.home.paths import Home
from launcher.queue.jobs.job import Resources
from launcher.queue.scheduler.cycle import CycleResult
from launcher.queue.scheduler.gpus.gpu_ledger import GpuAccounting, reservations_of
from launcher.queue.scheduler.gpus.gpu_state import SchedulerGpus
from launcher.queue.scheduler.gpus.memory_growth import IDLE_STEADY_S, MemoryGrowth
from launcher.queue.scheduler.loop import Scheduler
from launcher.queue.scheduler.policy.model import Machine, Start
from launcher.queue.scheduler.policy.vram_request import steady_request
from launcher.queue.store.queue import Store
from launcher.queue.workers.attempt_handles import AttemptHandle
from launcher.system.gpu_sharing import SharingRules
from tests.build import GIB, a_claim, a_gpu, a_spec, a_waiting, until

TOTAL = 24  # GiB
ESTIMATES = {
    # usage by the job and by others, estimate, published amount: GiB
    "much is free": (4, 0, 6, 6),
    "half of what is free": (12, 10, 15, 13),
    "nothing is free": (12, 12, 15, 12),
    "it has used nothing yet": (0, 23, 15, 3),
}


@pytest.mark.parametrize(
    ("used", "others", "estimate", "published"), ESTIMATES.values(), ids=ESTIMATES
)
def test_estimate_is_published_up_to_the_room_beside_others(
    tmp_path: Path, used: int, others: int, estimate: int, published: int
) -> None:
    ledger = GpuAccounting(Home(tmp_path), OwnProcesses())
    asked = Resources(device="cuda")
    claim = a_claim(a_spec(resources=asked), device="GPU-0", vram=None, pid=os.getpid())
    process = GpuProcess(pid=os.getpid(), used=used * GIB)
    card = a_gpu(total=TOTAL, used=used + others, processes=(process,) if used else ())
    ledger.record_sample(GpuSample(gpus=(card,), at=1.0), [claim])
    ledger.usage_tracker.memory_of(claim).estimate = estimate * GIB
    amounts = {each.device: each.amount for each in ledger.reservations([claim])}
    assert amounts["GPU-0"] == published * GIB


def test_unmeasured_job_is_published_with_its_default_part() -> None:
    place = Start(job=1, devices=("GPU-0",), cpus=1, reason="")
    told = reservations_of(
        place, Resources(), totals={"GPU-0": TOTAL * GIB}, rules=SharingRules(unknown=0.5)
    )
    assert {each.device: each.amount for each in told}["GPU-0"] == TOTAL // 2 * GIB


def test_initial_estimate_is_published_until_the_first_reading(
    tmp_path: Path,
) -> None:
    home, card = Home(tmp_path / "one"), a_gpu(total=TOTAL)
    board = ReservationBoard(tmp_path, home.folder)
    gpus = SchedulerGpus(home, tuple[GpuSnapshot, ...], lambda: None, board=board)
    gpus.accounting.record_sample(GpuSample(gpus=(card,), at=1.0), [])
    asked = Resources(device="cuda")
    start = Start(job=1, devices=(card.uuid,), cpus=1, reason="", estimate=7 * GIB)
    machine = Machine(cpus=4, gpus=(card,))
    asked_for = [a_waiting(1, device="cuda")]
    assert gpus.publish_starts([start], [], (asked_for, [], machine, 0.0)) == [start]
    claim = a_claim(a_spec(resources=asked), device=card.uuid, pid=os.getpid())

    def published() -> int:
        return {each.device: each.amount for each in gpus.accounting.reservations([claim])}[
            card.uuid
        ]

    assert published() == 7 * GIB, "its claim is published in the turn of its start"
    gpus.accounting.record_sample(
        GpuSample(gpus=(card,), at=2.0), []
    )  # a reading from before its start
    assert published() == 7 * GIB
    process = GpuProcess(pid=os.getpid(), used=GIB)
    seen = a_gpu(total=TOTAL, used=1, processes=(process,))
    gpus.accounting.record_sample(GpuSample(gpus=(seen,), at=3.0), [claim])
    assert published() == TOTAL // 8 * GIB, "from then on what is estimated now"
    assert gpus.accounting.started_estimates == {}


def test_reservations_of_gpus_are_published_again_only_for_another_job(tmp_path: Path) -> None:
    home = Home(tmp_path / "one")
    board = ReservationBoard(tmp_path, home.folder)
    gpus = SchedulerGpus(home, tuple[GpuSnapshot, ...], lambda: None, board=board)
    files = []
    for job in (1, 1, 2, 2):
        gpus.publish([a_claim(a_spec(), job=job, device="GPU-0", vram=GIB)])
        (file,) = tmp_path.glob("launcher-claims.*")
        files.append(file.stat().st_mtime_ns)
    first, same, other, last = files
    assert (first == same, same == other, other == last) == (True, False, True)


class Watched(AttemptHandle):
    """An attempt that goes on."""

    def poll_outcome(self) -> None:
        return None


def test_publication_follows_the_usage_without_waiting_jobs(
    home: Home, store: Store, tmp_path: Path
) -> None:
    process = GpuProcess(pid=os.getpid(), used=6 * GIB)
    card = a_gpu(total=TOTAL, used=6, processes=(process,))
    board = ReservationBoard(tmp_path / "board", home.folder)
    scheduler = Scheduler(home, store, snapshot=lambda: (card,), cpus=1, board=board)
    spec = a_spec(resources=Resources(device="cuda"), signature="train 1")
    claim = a_claim(spec, device=card.uuid, pid=os.getpid())
    scheduler._attempts.add(claim, Watched())
    ledger, now = scheduler._gpus.accounting, time.monotonic()
    since = now - IDLE_STEADY_S
    growth = MemoryGrowth(began=since, first_byte=since, steady_since=since, at=now, used=6 * GIB)
    ledger.adopt([{"job": claim.job, "number": claim.number, **growth.to_json()}], now)

    def looked() -> bool:
        scheduler._admission.poll_nodes(CycleResult())
        return scheduler._gpus.has_sample_since(now)

    until(looked, "the card is looked at")
    (amount,) = [each.amount for each in ledger.reservations([claim]) if each.device == card.uuid]
    assert amount == steady_request(6 * GIB, (), None)


def test_exclusive_job_is_published_with_its_whole_gpu() -> None:
    place = Start(job=1, devices=("GPU-0",), cpus=1, reason="", exclusive=True)
    told = reservations_of(place, Resources(), totals={"GPU-0": TOTAL * GIB}, estimate=GIB)
    assert {each.device: each.amount for each in told}["GPU-0"] == TOTAL * GIB
    claim = a_claim(device="GPU-0", vram=None, exclusive=True)
    told = reservations_of(claim, Resources(), totals={"GPU-0": TOTAL * GIB})
    assert {each.device: each.amount for each in told}["GPU-0"] == TOTAL * GIB
