"""GPU state: usage by attempts, usage of a queue, and measurements of sharing."""

import json
import logging
import math
import os
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launcher.queue.gpu.gpus_file import GpuStatus, read_known_attempts, write_gpu_status
from launcher.queue.gpu.monitor import NO_SAMPLE, GpuSample, OwnProcesses
from launcher.queue.gpu.own_reservations import Reservation
from launcher.queue.gpu.reservations import ReservationBoard
from launcher.queue.gpu.snapshot import GpuProcess, GpuSnapshot
from launcher.queue.home.paths import Home
from launcher.queue.jobs.accounts import (
    HALF_LIFE_S,
    NO_RESOURCE_USAGE,
    ResourceDemand,
    ResourceUsage,
    decayed_seconds,
)
from launcher.queue.jobs.context import WorkerEnvironment
from launcher.queue.jobs.job import Resources, Spec
from launcher.queue.jobs.signatures import program_signature
from launcher.queue.jobs.states import Done, EndCause
from launcher.queue.scheduler.gpus.gpu_ledger import HIDDEN_S, GpuAccounting, reservations_of
from launcher.queue.scheduler.gpus.gpu_state import FLOOD_S, SchedulerGpus
from launcher.queue.scheduler.gpus.shared_time import (
    LEAST_SAMPLED_S,
    LOADING_S,
    LONGEST_GAP_S,
    SharedTime,
    slowdown_by_duration,
)
from launcher.queue.scheduler.gpus.taken_memory import LONGEST_MEASURING_S
from launcher.queue.scheduler.gpus.use_meter import USAGE_HISTORY_S, UsageAccumulator
from launcher.queue.scheduler.policy.co_location import UNKNOWN_LOAD, GpuLoad
from launcher.queue.scheduler.policy.decide import decide
from launcher.queue.scheduler.policy.inventory import permanent_refusal
from launcher.queue.scheduler.policy.model import Machine, Start, Wait, make_waiting
from launcher.queue.scheduler.policy.oom_policy import QUIET_SHARE
from launcher.queue.scheduler.policy.vram_request import choose_vram_request, steady_request
from launcher.queue.store.lanes import Lane
from launcher.queue.store.queue import Store
from launcher.queue.store.rows import Claim, ReadyJob
from launcher.queue.store.usage import (
    LONGEST_S,
    NO_USAGE,
    MeasuredUsage,
    SimilarUsage,
    Usage,
    no_usage,
)
from launcher.queue.workers.memory_share import DEFAULT_CONTEXT_BYTES, VramLimit
from launcher.system.executables import program_of
from launcher.system.files import Json
from launcher.system.gpu_sharing import SharingRules
from tests.build import GIB, Clock, a_claim, a_gpu, a_spec, until
from tests.launcher.queued import end, one, seated

ME = os.getpid()  # a process that lives
OTHER = 1


def a_card(index: int = 0, used: float = 0, **processes: int | None) -> GpuSnapshot:
    """A GPU with processes: `ours=…` and `other=…` are their bytes, None if not reported."""
    pids = {"ours": ME, "other": OTHER}
    found = [GpuProcess(pid=pids[who], used=amount) for who, amount in processes.items()]
    return a_gpu(index, used=used, processes=tuple(found))


DECLARED = a_spec(resources=Resources(device="cuda", vram=8 * GIB))


def running(
    job: int = 1, device: str = "GPU-0", *, spec: Spec | None = None, **changes: Any
) -> Claim:
    values: dict[str, Any] = {"vram": 8 * GIB, "pid": ME}
    return a_claim(spec or DECLARED, job=job, device=device, **values | changes)


def write_memory_report(home: Home, job: int = 1, **changes: Any) -> None:
    folder = home.attempt(job, 1).folder
    folder.mkdir(parents=True, exist_ok=True)
    told = {"schema": 1, "at": 1.0, "reserved": 0, "peak": 0, "context": None, "uuid": None}
    (folder / "memory.json").write_text(json.dumps(told | changes))


def a_ledger(
    home: Home, claims: Iterable[Claim], *gpus: GpuSnapshot, at: float = 1.0
) -> GpuAccounting:
    ledger = GpuAccounting(home, OwnProcesses())
    assert ledger.record_sample(GpuSample(gpus=gpus, at=at), list(claims))
    return ledger


def used(ledger: GpuAccounting, *claims: Claim) -> list[Mapping[str, int]]:
    """Usage of GPUs by each attempt."""
    return [one.used for one in ledger.usage_tracker.running_jobs(claims, no_usage)]


def test_memory_reported_by_the_driver_is_recorded(home: Home) -> None:
    claims = [running()]
    card = a_card(used=9, ours=5 * GIB, other=4 * GIB)
    ledger = a_ledger(home, claims, card)
    assert used(ledger, *claims) == [{"GPU-0": 5 * GIB}]
    assert ledger.usage_tracker.peak(claims[0]) == 5 * GIB
    assert ledger.usage_tracker.gpus_without_ended(claims, [card]) == (card,)


def test_one_reading_is_recorded_once(home: Home) -> None:
    sight = GpuSample(gpus=(a_card(),), at=1.0)
    ledger = GpuAccounting(home, OwnProcesses())
    assert not ledger.record_sample(NO_SAMPLE, [])
    assert ledger.record_sample(sight, [])
    assert not ledger.record_sample(sight, [])
    assert ledger.record_sample(sight._replace(at=2.0), [])


def test_report_of_the_worker_counts_without_driver_values(home: Home) -> None:
    claims = [running()]
    write_memory_report(home, reserved=3 * GIB, peak=4 * GIB)
    for card in (a_card(used=9, ours=None), a_card(used=9)):
        ledger = a_ledger(home, claims, card)
        assert used(ledger, *claims) == [{"GPU-0": 3 * GIB + DEFAULT_CONTEXT_BYTES}]
        assert ledger.usage_tracker.peak(claims[0]) == 4 * GIB + DEFAULT_CONTEXT_BYTES


def test_unknown_usage_stays_unknown(home: Home) -> None:
    claims = [running()]
    ledger = a_ledger(home, claims, a_card(used=9, ours=None))
    assert used(ledger, *claims) == [{}]
    assert ledger.usage_tracker.peak(claims[0]) is None
    assert ledger.usage_tracker.peak(running(device="cpu")) is None


def test_context_memory_is_the_driver_value_minus_the_worker_report(home: Home) -> None:
    claims = [running(), running(2, pid=OTHER)]
    write_memory_report(home, reserved=3 * GIB, peak=6 * GIB)
    ledger = a_ledger(home, claims, a_card(used=9, ours=4 * GIB))
    assert ledger.usage_tracker.peak(claims[0]) == 7 * GIB
    assert ledger.usage_tracker.vram_limits(claims)[1, 1] == VramLimit(cap=8 * GIB, context=1 * GIB)


def test_peak_is_kept_when_less_is_used_later(home: Home) -> None:
    claims = [running()]
    ledger = a_ledger(home, claims, a_card(used=9, ours=7 * GIB))
    ledger.record_sample(GpuSample(gpus=(a_card(used=3, ours=1 * GIB),), at=2.0), claims)
    assert ledger.usage_tracker.peak(claims[0]) == 7 * GIB
    assert used(ledger, *claims) == [{"GPU-0": 1 * GIB}]


def test_memory_of_an_attempt_ended_since_the_reading_is_free(home: Home) -> None:
    claims = [running()]
    seen = a_card(used=9, ours=5 * GIB), a_gpu(1, used=None)
    ledger = a_ledger(home, claims, *seen)
    assert [one.used for one in ledger.usage_tracker.gpus_without_ended([], seen)] == [
        4 * GIB,
        None,
    ]
    assert GpuAccounting(home, OwnProcesses()).usage_tracker.gpus_without_ended([], seen) == seen


def test_declared_memory_is_enforced_only_on_shared_gpus(home: Home) -> None:
    alone, first, second, unknown, estimated, learned = (
        running(1, "GPU-1"),
        running(2),
        running(3, "GPU-0,GPU-2", pid=OTHER),
        running(4, "GPU-3", vram=None, exclusive=True),
        running(5, spec=a_spec(), vram=None),
        running(6, spec=a_spec()),
    )
    claims = [alone, first, second, unknown, estimated, learned, running(7, "cpu")]
    ledger = a_ledger(home, claims, a_card(used=9))
    vram_limits = ledger.usage_tracker.vram_limits(claims)
    assert {job: one.cap for (job, _), one in vram_limits.items()} == {
        1: None,
        2: 8 * GIB,
        3: 8 * GIB,
        4: None,
        5: None,
        6: None,
    }


def test_vram_limit_is_never_below_memory_used_while_alone(home: Home) -> None:
    first, second = running(), running(2, pid=OTHER)
    ledger = a_ledger(home, [first, second], a_card(used=12, ours=11 * GIB))
    assert ledger.usage_tracker.vram_limits([first, second])[1, 1].cap == 11 * GIB


def test_every_reservation_is_published_with_its_usage(home: Home) -> None:
    works = a_spec(resources=Resources(cpus=2, ram=3 * GIB, device="cpu"))
    claims = [
        running(1, "GPU-0,GPU-1"),
        a_claim(works, job=2, cpus=2),
    ]
    ledger = a_ledger(home, claims, a_card(0, used=9, ours=5 * GIB), a_card(1))
    assert ledger.reservations(claims, 0b1111) == [
        Reservation(device="cores:f", amount=1, used=None, job=1),
        Reservation(device="GPU-0", amount=8 * GIB, used=5 * GIB, job=1),
        Reservation(device="jobs:GPU-0", amount=1, used=None, job=1),
        Reservation(device="GPU-1", amount=8 * GIB, used=None, job=1),
        Reservation(device="jobs:GPU-1", amount=1, used=None, job=1),
        Reservation(device="cores:f", amount=2, used=None, job=2),
        Reservation(device="memory", amount=3 * GIB, used=None, job=2),
    ]


def reserved_bytes(
    claim: int | None, *, estimate: int | None = None, **asked: Any
) -> dict[str, int]:
    place = Start(job=1, devices=("GPU-0",), cpus=1, reason="", vram=claim)
    reservations = reservations_of(
        place, Resources(**asked), totals={"GPU-0": 40 * GIB}, estimate=estimate
    )
    return {one.device: one.amount for one in reservations if "GPU-0" in one.device}


def test_estimate_is_published_or_an_eighth_of_the_gpu_without_one() -> None:
    assert reserved_bytes(None, estimate=3 * GIB) == {"GPU-0": 3 * GIB, "jobs:GPU-0": 1}
    assert reserved_bytes(None) == {"GPU-0": 5 * GIB, "jobs:GPU-0": 1}
    assert reserved_bytes(8 * GIB, estimate=3 * GIB) == {"GPU-0": 8 * GIB, "jobs:GPU-0": 1}


def test_exclusive_job_is_published_as_the_whole_gpu() -> None:
    whole = {"GPU-0": 40 * GIB, "jobs:GPU-0": 1, "alone:GPU-0": 1}
    assert reserved_bytes(GIB, exclusive=True) == reserved_bytes(None, exclusive=True) == whole


def test_expected_end_of_a_running_job_comes_from_similar_jobs(home: Home) -> None:
    claims = [running(claimed=1000.0), running(2, "cpu", claimed=1000.0)]
    ledger = a_ledger(home, claims, a_card())
    on_gpu, on_cpu = ledger.usage_tracker.running_jobs(claims, lambda *_: Usage(seconds=(100.0,)))
    assert on_gpu.ends is not None
    assert on_gpu.ends == 1100
    assert (on_cpu.ends, on_cpu.devices) == (None, ())


def ready(least: int = 0, visible: tuple[str, ...] | None = ("0",), **asked: Any) -> ReadyJob:
    asks = Resources(**{"device": "cuda"} | asked)
    lane = Lane(
        group="g",
        resources=asks,
        environment=WorkerEnvironment(),
        least_vram=least,
        visible=visible,
    )
    return ReadyJob(id=7, rank=0.0, lane_id=1, lane=lane)


def test_request_of_a_waiting_job_is_declared_measured_or_needed_memory() -> None:
    taught = Usage(peaks=(4 * GIB,), seconds=(10.0,))
    one = make_waiting(ready(vram=8 * GIB), NO_USAGE)
    assert (one.job, one.group, one.visible) == (7, "g", ("0",))
    assert (one.vram, one.seconds) == (8 * GIB, None)
    assert make_waiting(ready(), NO_USAGE).vram is None
    learned = make_waiting(ready(), taught)
    assert learned.vram is not None
    assert learned.vram > 4 * GIB
    assert learned.seconds is not None
    assert make_waiting(ready(least=9 * GIB), taught).vram == 9 * GIB


def test_job_that_nearly_fills_the_largest_gpu_gets_it_exclusively() -> None:
    full, gpus = Usage(peaks=(int(23.5 * GIB),)), (a_gpu(0, total=24), a_gpu(1, total=8))
    for rules in (SharingRules(), SharingRules(reserve=2 * GIB)):
        machine = Machine(cpus=2, gpus=gpus, rules=rules)
        (start,) = decide([make_waiting(ready(visible=None), full)], [], machine)
        assert isinstance(start, Start)
        assert (start.devices, start.exclusive) == ((gpus[0].uuid,), True)
        assert start.vram == gpus[0].total
        # declared memory, or memory missing at a failure, can exceed every GPU
        for job, usage in (
            (ready(visible=None, vram=30 * GIB), NO_USAGE),
            (ready(least=30 * GIB, visible=None), NO_USAGE),
            (ready(visible=None, vram=30 * GIB), full),
        ):
            never = permanent_refusal(make_waiting(job, usage), machine)
            assert never is not None
            assert "has at most" in never.text


@settings(deadline=None)
@given(
    total=st.integers(8, 80),
    driver=st.floats(0, 0.999 * QUIET_SHARE),  # bytes are rounded, perhaps to more than the share
    reserve=st.sampled_from([0.0, 0.1, 0.3]),
    took=st.floats(0.02, 1),
    count=st.integers(1, 2),
    larger=st.booleans(),
)
def test_on_an_idle_machine_a_job_starts_on_a_gpu_that_it_fitted_before(
    total: int, driver: float, reserve: float, took: float, count: int, larger: bool
) -> None:
    cards = [a_gpu(at, total=total, used=total * driver) for at in range(2)]
    if larger:  # it may not have that one
        cards.append(a_gpu(2, total=4 * total, used=0))
    kept = round(total * GIB * reserve)
    machine = Machine(cpus=2, gpus=tuple(cards), rules=SharingRules(reserve=kept))
    peak = int((cards[0].total - (cards[0].used or 0)) * took)
    asks = ready(visible=("0", "1"), gpus=count, device="cuda")
    again = make_waiting(asks, Usage(peaks=(peak,)))

    assert permanent_refusal(again, machine) is None
    (start,) = decide([again], [], machine)

    assert isinstance(start, Start), start.reason
    free = cards[0].total - (cards[0].used or 0)
    assert start.vram is None or peak <= start.vram <= free
    if start.vram is None or start.vram > free - kept:
        assert start.exclusive, "its card is promised to it as a whole"


def test_request_slightly_above_the_free_memory_gets_an_idle_gpu() -> None:
    # the driver takes a little more than when its need was judged
    card = a_gpu(total=24, used=0.75)
    job = make_waiting(ready(least=int(23.5 * GIB), device="cuda"), NO_USAGE)
    (start,) = decide([job], [], Machine(cpus=2, gpus=(card,)))
    assert isinstance(start, Start), start.reason
    (wait,) = decide([job], [], Machine(cpus=2, gpus=(a_gpu(total=24, used=2),)))
    assert wait == Wait(
        job=7,
        reason="waiting for 23.5 GiB of GPU memory: cuda:0 has 22 GiB free",
        data={"need": "waiting for 23.5 GiB of GPU memory", "situation": "cuda:0 has 22 GiB free"},
        lacking_resource="gpu",
    )


def test_report_of_a_worker_counts_for_the_gpu_that_it_names(home: Home) -> None:
    claims = [running(device="GPU-0,GPU-1")]
    write_memory_report(home, reserved=9 * GIB, peak=9 * GIB, uuid="GPU-0")
    ledger = a_ledger(home, claims, a_card(0, used=10), a_card(1, used=10))
    assert used(ledger, *claims) == [{"GPU-0": 9 * GIB + DEFAULT_CONTEXT_BYTES}]


def test_process_not_listed_by_a_working_driver_uses_no_memory(
    home: Home,
) -> None:
    claims = [running(), running(2, "GPU-1", pid=os.getppid())]
    write_memory_report(home, job=2, reserved=9 * GIB, peak=9 * GIB)
    ledger = a_ledger(home, claims, a_card(0, used=10, ours=2 * GIB), a_card(1, used=10))
    assert used(ledger, *claims) == [{"GPU-0": 2 * GIB}, {}]


def test_usage_of_an_earlier_attempt_is_not_inherited(home: Home) -> None:
    first, second = running(), running(number=2)
    ledger = a_ledger(home, [first], a_card(used=9, ours=5 * GIB))
    assert used(ledger, second) == [{}]
    assert (ledger.usage_tracker.peak(second), ledger.usage_tracker.others_usage(second)) == (
        None,
        {},
    )
    assert ledger.usage_tracker.others_usage(first) == {"GPU-0": 4 * GIB}
    assert set(ledger.usage_tracker.vram_limits([second])) == {(1, 2)}


def test_attempt_without_a_reservation_has_an_estimate(home: Home) -> None:
    ledger = a_ledger(home, [], a_card(used=9))
    (one,) = ledger.usage_tracker.running_jobs([running(vram=None, exclusive=False)], no_usage)
    assert (one.estimated, one.exclusive, one.vram) == (True, False, None)
    (other,) = ledger.usage_tracker.running_jobs([running(vram=None, exclusive=True)], no_usage)
    assert (other.estimated, other.exclusive) == (False, True)


# --- estimates: reservations of jobs with neither declared nor recorded memory


TRAIN = ("python", "train.py", "--lr", "1")
SIMILAR_TRAIN = ("python", "train.py", "--size", "big")


def an_estimate(job: int = 1, argv: tuple[str, ...] = TRAIN, pid: int = ME) -> Claim:
    """An attempt of a program of which nothing is known."""
    spec = a_spec(*argv, signature=program_signature(argv))
    return running(job, spec=spec, vram=None, pid=pid)


def ledger_after(
    home: Home, claims: Iterable[Claim], *shared_time: tuple[float, GpuSnapshot]
) -> GpuAccounting:
    """The accounting after readings, each with its time."""
    ledger, claims = GpuAccounting(home, OwnProcesses()), list(claims)
    for at, gpu in shared_time:
        assert ledger.record_sample(GpuSample(gpus=(gpu,), at=at), claims)
    return ledger


def busy(used: float, sm: float | None = 0.3) -> GpuSnapshot:
    """A GPU on which our process uses so many GiB and has this load."""
    process = GpuProcess(pid=ME, used=round(used * GIB), sm=sm)
    return a_gpu(total=80, used=used, processes=(process,))


def steady(used: float, sm: float | None = 0.3) -> list[tuple[float, GpuSnapshot]]:
    return [(float(at), busy(used, sm)) for at in range(1, 6)]


def usage_of_similar(*gib: float) -> Usage:
    return Usage(similar=SimilarUsage(peaks=tuple(int(each * GIB) for each in gib)))


def test_reservation_follows_the_usage_once_it_is_steady(home: Home) -> None:
    claim = an_estimate()
    ledger = ledger_after(home, [claim], (1.0, busy(3)), (2.0, busy(6)))
    (young,) = ledger.usage_tracker.running_jobs([claim], no_usage)
    assert (young.vram, young.unmeasured_s) == (None, 1.0), "a fixed part of the card counts"
    ledger = ledger_after(home, [claim], *steady(6))
    (settled,) = ledger.usage_tracker.running_jobs([claim], no_usage)
    assert settled.vram == steady_request(6 * GIB, (), None)
    assert settled.unmeasured_s is None
    assert ledger.record_sample(
        GpuSample(gpus=(busy(6),), at=9.0), [claim]
    )  # before the next decision
    (published,) = [one for one in ledger.reservations([claim], 0b1) if one.device == "GPU-0"]
    assert published.amount == settled.vram


def test_peak_of_similar_jobs_is_reserved_until_usage_is_steady(home: Home) -> None:
    claim = an_estimate()
    ledger = ledger_after(home, [claim], (1.0, busy(3)), (2.0, busy(6)))
    (young,) = ledger.usage_tracker.running_jobs([claim], lambda *_: usage_of_similar(10))
    assert young.vram == choose_vram_request(None, 0, usage_of_similar(10)).vram
    assert young.unmeasured_s is None, "something similar was measured"
    ledger = ledger_after(home, [claim], *steady(6))
    (settled,) = ledger.usage_tracker.running_jobs([claim], lambda *_: usage_of_similar(10))
    assert settled.vram == 10 * GIB, "it may still grow to what most of them took"


def test_a_declared_reservation_does_not_follow_the_use(home: Home) -> None:
    ledger = ledger_after(home, [running()], *steady(1))
    (place,) = ledger.usage_tracker.running_jobs([running()], no_usage)
    assert (place.vram, place.estimated, place.similar) == (8 * GIB, False, "")


def test_running_job_gives_the_estimate_of_similar_jobs(home: Home) -> None:
    claim = an_estimate()
    signature, program = program_signature(SIMILAR_TRAIN), program_of(SIMILAR_TRAIN)
    ledger = ledger_after(home, [claim], *steady(6))
    known = usage_of_similar(2)._replace(peaks=(GIB,))
    live = ledger.usage_tracker.add_running_usage(known, signature, program)
    assert live == known._replace(
        similar=SimilarUsage(peaks=(2 * GIB,), running_bytes=(6 * GIB,), sm=0.3)
    )
    assert ledger.usage_tracker.records()[claim.key]["settled"] == 6 * GIB
    for other in (("./train",), ("python", "score.py")):
        signature = program_signature(other)
        assert ledger.usage_tracker.add_running_usage(known, signature, program_of(other)) == known
    assert ledger.usage_tracker.add_running_usage(NO_USAGE, "", "") == NO_USAGE
    assert ledger.record_sample(GpuSample(gpus=(busy(0),), at=9.0), [])
    assert (
        ledger.usage_tracker.add_running_usage(known, program_signature(SIMILAR_TRAIN), program)
        == known
    )


def test_growing_memory_counts_for_similar_jobs_only_from_an_eighth_of_the_gpu(
    home: Home,
) -> None:
    claim = an_estimate()
    signature, program = program_signature(SIMILAR_TRAIN), program_of(SIMILAR_TRAIN)
    ledger = ledger_after(home, [claim], (1.0, busy(3)), (2.0, busy(6)))
    assert ledger.usage_tracker.add_running_usage(
        NO_USAGE, signature, program
    ).similar == SimilarUsage(sm=0.3)
    assert ledger.usage_tracker.records()[claim.key]["settled"] is None
    assert ledger.record_sample(GpuSample(gpus=(busy(11),), at=3.0), [claim])
    live = ledger.usage_tracker.add_running_usage(NO_USAGE, signature, program)
    assert live.similar.running_bytes == (11 * GIB,)


def test_missing_load_keeps_the_stored_one(home: Home) -> None:
    ledger = ledger_after(home, [an_estimate()], *steady(11, sm=None))
    known = Usage(similar=SimilarUsage(sm=0.7))
    live = ledger.usage_tracker.add_running_usage(
        known, program_signature(SIMILAR_TRAIN), program_of(TRAIN)
    )
    assert live.similar == SimilarUsage(running_bytes=(11 * GIB,), sm=0.7)


def test_measured_load_takes_precedence_over_the_stored_one(home: Home) -> None:
    claim = an_estimate()
    stored = Usage(sm=0.9, slowdown=2.0)
    (unknown,) = ledger_after(home, [claim], (1.0, busy(1))).usage_tracker.running_jobs(
        [claim], lambda *_: stored
    )
    assert unknown.load == GpuLoad(sm=0.9, slowdown=2.0)
    (known,) = ledger_after(home, [claim], *steady(1)).usage_tracker.running_jobs(
        [claim], lambda *_: stored
    )
    assert known.load == GpuLoad(sm=0.3, slowdown=2.0, measured=True)


def test_gpus_are_polled_more_often_until_new_attempts_are_measured(
    home: Home,
) -> None:
    claim, on_cpu = an_estimate(), running(2, "cpu")
    assert ledger_after(home, []).usage_tracker.is_measuring([claim]), "it has not been seen yet"
    assert not ledger_after(home, []).usage_tracker.is_measuring([on_cpu])
    assert ledger_after(home, [claim], (1.0, busy(3))).usage_tracker.is_measuring([claim])
    assert ledger_after(home, [claim], *steady(3), (6.0, busy(9))).usage_tracker.is_measuring(
        [claim]
    ), "it grows"
    assert not ledger_after(home, [claim], *steady(3)).usage_tracker.is_measuring([claim])
    silent = ledger_after(home, [claim], (1.0, busy(3)), (1.0 + LONGEST_MEASURING_S, busy(3, None)))
    assert not silent.usage_tracker.is_measuring([claim]), "it never will be"


def test_released_memory_counts_as_free_after_half_a_minute(home: Home) -> None:
    claim = an_estimate()
    ledger = ledger_after(home, [claim], *[(float(at), busy(9)) for at in range(1, 6)])
    reserved = []
    for at in (6.0, 7.0, 8.0, 29.0, 31.0):
        assert ledger.record_sample(GpuSample(gpus=(busy(4),), at=at), [claim])
        live = ledger.usage_tracker.add_running_usage(
            NO_USAGE, claim.spec.signature, program_of(TRAIN)
        )
        (place,) = ledger.usage_tracker.running_jobs([claim], no_usage)
        (used,) = live.similar.running_bytes
        assert place.vram == steady_request(used, (), None)
        reserved.append(used // GIB)
    assert reserved == [9, 9, 9, 9, 4]


def test_just_ended_own_process_is_not_attributed_to_others(home: Home) -> None:
    ledger, theirs = GpuAccounting(home, OwnProcesses()), GpuProcess(pid=OTHER, used=GIB, sm=0.25)
    card = a_gpu(processes=(GpuProcess(pid=ME, used=GIB, sm=0.5), theirs))
    ledger.record_sample(GpuSample(gpus=(card,), at=1.0), [running()])
    assert ledger.foreign_load == {"GPU-0": (0.25, 1)}
    ledger.record_sample(GpuSample(gpus=(card,), at=2.0), [])  # the reading still shows it
    assert ledger.foreign_load == {"GPU-0": (0.25, 1)}
    ledger.record_sample(GpuSample(gpus=(card,), at=3.0), [])
    assert ledger.foreign_load == {"GPU-0": (0.75, 2)}, "it has not ended with our job"


def test_gpu_without_listed_own_processes_is_unmeasured(
    home: Home,
) -> None:
    claim, ledger = an_estimate(), GpuAccounting(home, OwnProcesses())
    silent, idle = (a_gpu(used=3, processes=(), utilisation=use) for use in (0.8, 0.0))
    unmeasured, known = [], []
    for at, card in (
        (1.0, silent),
        (2.0, silent),  # it may still load its libraries
        (2.0 + HIDDEN_S, silent),
        (3.0 + HIDDEN_S, idle),  # no reason to believe the driver now
        (4.0 + HIDDEN_S, busy(3)),
        (5.0 + HIDDEN_S, silent),  # it names those that it sees
    ):
        assert ledger.record_sample(GpuSample(gpus=(card,), at=at), [claim])
        unmeasured.append("GPU-0" in ledger.unmeasured)
        known.append(ledger.memory_is_known(card))
    assert unmeasured == [False, False, True, True, False, False]
    assert known == [True, True, False, False, True, True]
    assert not ledger.memory_is_known(a_gpu()), "it tells of no processes at all"


def test_idle_gpu_or_one_with_listed_processes_is_measured(home: Home) -> None:
    idle = a_gpu(processes=(), utilisation=0.0)
    theirs = replace(a_card(used=4, other=4 * GIB), utilisation=0.8)
    for card in (idle, theirs):
        ledger = ledger_after(home, [an_estimate()], (1.0, card), (2.0 + HIDDEN_S, card))
        assert ledger.unmeasured == frozenset()


def test_load_and_number_of_other_processes_are_known(home: Home) -> None:
    theirs = [GpuProcess(pid=pid, used=GIB, sm=sm) for pid, sm in ((OTHER, 0.25), (2, None))]
    ours = GpuProcess(pid=ME, used=GIB, sm=0.5)
    ledger = GpuAccounting(home, OwnProcesses())
    ledger.set_own_processes([running()], {ME: 1})
    gpus = a_gpu(0, processes=(ours, *theirs)), a_gpu(1)
    ledger.record_sample(GpuSample(gpus=gpus, at=1.0), [running()])
    assert ledger.foreign_load == {"GPU-0": (0.25, 2), "GPU-1": (0.0, 0)}


def test_next_scheduler_reads_measurements_of_attempts(home: Home) -> None:
    claim = an_estimate()
    killed = ledger_after(home, [claim], (1.0, busy(9)), *[(at + 1, gpu) for at, gpu in steady(6)])
    records = json.loads(json.dumps(killed.records()))
    successor = GpuAccounting(home, OwnProcesses())
    successor.adopt(records, now=7.0)
    assert successor.usage_tracker.peak(claim) == 9 * GIB
    assert successor.record_sample(GpuSample(gpus=(busy(6),), at=7.0), [claim])
    (place,) = successor.usage_tracker.running_jobs([claim], no_usage)
    assert place.vram == steady_request(6 * GIB, (), None)
    assert place.load == GpuLoad(sm=0.3, measured=True)
    (fresh,) = ledger_after(home, [claim], (7.0, busy(6))).usage_tracker.running_jobs(
        [claim], no_usage
    )
    assert fresh.vram is None, "without them it would be young again"


def test_new_scheduler_reads_the_measurements_of_the_previous_one(tmp_path: Path) -> None:
    home = Home(tmp_path / "one")
    home.folder.mkdir()
    gpus, _ = a_scheduler(home.folder, tmp_path)
    claim = an_estimate()
    now = time.monotonic()
    killed = ledger_after(home, [claim], *[(now - 9 + at, gpu) for at, gpu in steady(6)])
    write_gpu_status(home, GpuStatus(at=0.0, gpus=(busy(6),), error=""), killed.records())
    gpus.begin()
    assert gpus.accounting.records() == killed.records()
    (other,) = (a_scheduler(tmp_path / "other", tmp_path)[0],)
    other.begin()
    assert other.accounting.records() == []


ODD_NUMBERS: list[Any] = [
    0,
    -1,
    10**400,
    1e308,
    math.inf,
    -math.inf,
    math.nan,
    0.5,
    True,
    None,
    "7",
    [],
    {},
]
SHORT_IDS = [f"{value!s:.9}" for value in ODD_NUMBERS]


@pytest.mark.parametrize("value", ODD_NUMBERS, ids=SHORT_IDS)
def test_damaged_record_of_an_attempt_is_ignored(home: Home, value: Any) -> None:
    claim = an_estimate()
    (record,) = ledger_after(home, [claim], *steady(6)).records()
    assert isinstance(record, dict)
    for name in record.keys() - {"job", "number"}:
        ledger = GpuAccounting(home, OwnProcesses())
        ledger.adopt([record | {name: value}], now=7.0)
        for at in (7.0, 8.0, 90.0):
            assert ledger.record_sample(GpuSample(gpus=(busy(6),), at=at), [claim])
            (place,) = ledger.usage_tracker.running_jobs([claim], no_usage)
            assert place.vram in (None, steady_request(6 * GIB, (), None)), name
            assert 0 <= (place.load.sm or 0.0) <= 1, name
            assert ledger.usage_tracker.peak(claim) == 6 * GIB, name
            json.dumps(ledger.records(), allow_nan=False)


@pytest.mark.parametrize("number", ODD_NUMBERS, ids=SHORT_IDS)
def test_damaged_job_id_of_an_attempt_is_ignored(home: Home, number: Any) -> None:
    (record,) = ledger_after(home, [an_estimate()], *steady(6)).records()
    assert isinstance(record, dict)
    ledger = GpuAccounting(home, OwnProcesses())
    for name in ("job", "number"):
        ledger.adopt([record | {name: number}], now=7.0)
    assert ledger.record_sample(GpuSample(gpus=(busy(6),), at=8.0), [an_estimate()])


@pytest.mark.parametrize(
    "record",
    [None, 7, "x", [], {}, {"job": "1", "number": 1}, {"job": 1}, {"job": 1, "number": 1}],
)
def test_invalid_record_is_not_used(home: Home, record: Json) -> None:
    ledger = GpuAccounting(home, OwnProcesses())
    ledger.adopt([record], now=5.0)
    assert ledger.records() == []


def test_reading_of_a_gpu_short_of_memory_selects_and_records_an_eviction(
    tmp_path: Path,
) -> None:
    home = Home(tmp_path / "one")
    home.folder.mkdir()
    took = GpuProcess(pid=ME, used=30 * GIB)
    board = ReservationBoard(tmp_path, home.folder)
    gpus = SchedulerGpus(
        home, lambda: (a_gpu(total=40, used=32, processes=(took,)),), lambda: None, board=board
    )
    claims = [replace(an_estimate(), claimed=time.time()), running(2, pid=OTHER)]
    claims[1] = replace(claims[1], vram=20 * GIB)

    def seen() -> bool:
        gpus.evict(gpus.poll(claims, {}, is_wanted=True))
        return bool(gpus.evictions)

    until(seen, "the estimate is in the way of what was declared")
    assert gpus.evictions.keys() == {1}
    assert gpus.evictions[1].cause is EndCause.GPU_MEMORY
    records = read_known_attempts(home)
    assert [record["job"] for record in records if isinstance(record, dict)] == [1, 2]


class WatchedCard:
    """A GPU of 40 GiB with a job of ours that uses 30 GiB, and its scheduler."""

    def __init__(self, folder: Path, process: GpuProcess) -> None:
        home = Home(folder / "one")
        home.folder.mkdir()
        card = a_gpu(total=40, used=32, processes=(process,))
        board = ReservationBoard(folder, home.folder)
        self.home = home
        self.gpus = SchedulerGpus(home, lambda: (card,), lambda: None, board=board)

    def look(self, claims: list[Claim]) -> Mapping[int, Any]:
        """Process one more reading. Return the jobs to evict."""
        at = time.monotonic()

        def seen() -> bool:
            self.gpus.evict(self.gpus.poll(claims, {}, is_wanted=True))
            return self.gpus.has_sample_since(at)

        until(seen, "the card is looked at")
        return self.gpus.evictions


def conflicting_claims() -> list[Claim]:
    """A job that uses 30 GiB by an estimate, and one that has declared 20 GiB."""
    estimated = replace(an_estimate(), claimed=time.time())
    return [estimated, replace(running(2, pid=OTHER), vram=20 * GIB)]


@pytest.mark.parametrize(("told", "leaves"), [(30 * GIB, {1}), (None, set())])
def test_no_eviction_without_memory_values_per_process(
    tmp_path: Path, told: int | None, leaves: set[int]
) -> None:
    card = WatchedCard(tmp_path, GpuProcess(pid=ME, used=told))
    write_memory_report(card.home, reserved=30 * GIB, peak=30 * GIB)  # by its worker
    assert set(card.look(conflicting_claims())) == leaves


def test_no_eviction_right_after_the_end_of_an_own_process(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("launcher.queue.gpu.monitor.POLL_S", 0.1)
    caplog.set_level(logging.INFO)
    card = WatchedCard(tmp_path, GpuProcess(pid=ME, used=30 * GIB))
    estimated, declared = conflicting_claims()
    ended, elsewhere = running(3, pid=OTHER, vram=GIB), running(4, "GPU-9", pid=OTHER)
    assert not card.look([estimated, ended, elsewhere]), "nothing is in the way"
    assert not card.look([estimated, declared, elsewhere]), "its memory may be seen as in use"
    assert set(card.look([estimated, declared])) == {1}
    assert "does not report the load" not in caplog.text


def test_usage_of_a_job_with_an_estimate_is_charged_to_its_user(tmp_path: Path) -> None:
    counted = list[Claim]()

    def meter(claims: Iterable[Claim], _: object) -> ResourceUsage:
        counted[:] = claims
        return NO_RESOURCE_USAGE

    board = ReservationBoard(tmp_path, tmp_path / "one")
    gpus = SchedulerGpus(
        Home(tmp_path / "one"), lambda: (), lambda: None, board=board, read_usage=meter
    )
    claims = [an_estimate(), running(2), running(3, vram=None, exclusive=True)]
    gpus.peer_fields(claims)
    assert [claim.vram for claim in counted] == [None, 8 * GIB, None]
    gpus.accounting.record_sample(GpuSample(gpus=(busy(6),), at=1.0), claims[:1])
    gpus.peer_fields(claims)
    assert [claim.vram for claim in counted] == [6 * GIB, 8 * GIB, None]


def test_processes_of_a_two_gpu_job_are_counted_per_gpu(home: Home) -> None:
    claim = running(device="GPU-0,GPU-1", vram=4 * GIB)
    ranks = "sleep 60 & echo $!; sleep 60 & echo $!; wait"
    with subprocess.Popen(["sh", "-c", ranks], stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        pids = [int(program.stdout.readline()) for _ in range(2)]
        try:
            cards = [
                a_gpu(index, used=9, processes=(GpuProcess(pid=pid, used=(index + 2) * GIB),))
                for index, pid in enumerate(pids)
            ]
            ledger = a_ledger(home, [claim], *cards)
            taken = used(ledger, claim)
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
    assert taken == [{"GPU-0": 2 * GIB, "GPU-1": 3 * GIB}]
    assert ledger.usage_tracker.peak(claim) == 3 * GIB
    assert ledger.usage_tracker.others_usage(claim) == {"GPU-0": 7 * GIB, "GPU-1": 6 * GIB}


def test_without_driver_values_worker_reports_are_counted_per_gpu(home: Home) -> None:
    claim = running(device="GPU-0,GPU-1")
    by_card = {"GPU-0": 2 * GIB, "GPU-1": 3 * GIB, "GPU-9": GIB}
    write_memory_report(home, reserved=3 * GIB, peak=4 * GIB, cards=by_card)
    ledger = a_ledger(home, [claim], a_card(0, used=9), a_card(1, used=9))
    assert used(ledger, claim) == [
        {"GPU-0": 2 * GIB + DEFAULT_CONTEXT_BYTES, "GPU-1": 3 * GIB + DEFAULT_CONTEXT_BYTES}
    ]
    assert ledger.usage_tracker.peak(claim) == 4 * GIB + DEFAULT_CONTEXT_BYTES


# --- usage of a queue, decayed: counted while attempts run, and read again after a restart


DAY = HALF_LIFE_S


def an_attempt(store: Store, name: str, claimed: float, ended: float | None, **seat: object) -> int:
    """An attempt with a given duration."""
    job = one(store, name, resources=Resources(cpus=2, device="cpu", ram=GIB))
    claim = seated(store, job, claimed, **seat)
    if ended is not None:
        end(store, claim, Done(at=ended), now=ended)
    return job


def a_meter(store: Store, clock: Clock, monotonic: Clock) -> UsageAccumulator:
    return UsageAccumulator(store.usage_records.past_usage, clock, monotonic)


def test_running_jobs_are_charged_by_reservation() -> None:
    clock, monotonic = Clock(), Clock()
    meter = UsageAccumulator(lambda _since, _now: [], clock, monotonic)
    gpu = a_gpu(total=40)
    half = a_claim(device=gpu.uuid, cpus=3, vram=20 * GIB, claimed=clock.now)
    whole = a_claim(job=2, device=f"{gpu.uuid},GPU-9", cpus=1, exclusive=True, claimed=clock.now)
    assert meter.read([half, whole], [gpu]).cards == 0
    monotonic.now += 100
    clock.now -= 1e6  # the clock is set: it does not affect the usage
    use = meter.read([], [gpu])
    assert use.cards == pytest.approx(250, rel=1e-3)
    assert use.cores == pytest.approx(400, rel=1e-3)
    monotonic.now += DAY
    assert meter.read([], [gpu]).cards == pytest.approx(125, rel=1e-3)


def test_unknown_reservation_is_charged_as_an_eighth_of_a_gpu() -> None:
    clock, monotonic = Clock(), Clock()
    meter = UsageAccumulator(lambda _since, _now: [], clock, monotonic)
    gpu = a_gpu(total=40)
    meter.read([a_claim(device=gpu.uuid, claimed=clock.now)], [gpu])
    monotonic.now += 80
    assert meter.read([], [gpu]).cards == pytest.approx(10, rel=1e-3)


def test_ended_attempt_with_an_estimate_is_charged_by_usage(store: Store) -> None:
    gpu = a_gpu(total=40)
    job = one(store, "1", resources=Resources(cpus=1, device="cuda"))
    claim = seated(store, job, DAY - 200, device=gpu.uuid)
    ended = Done(at=DAY - 100)
    store.transitions.finish_attempt(
        claim, ended, outputs={}, now=ended.at, measured_usage=MeasuredUsage(peak=20 * GIB)
    )
    use = a_meter(store, Clock(DAY), Clock()).read([], [gpu])
    assert use.cards == pytest.approx(50, rel=0.01)


def test_new_scheduler_reads_past_usage_from_the_store(store: Store) -> None:
    now = 100 * DAY
    clock, monotonic = Clock(now), Clock(5.0)
    gpu = a_gpu(total=40)
    on_gpu = {"device": gpu.uuid, "cpus": 2, "vram": 10 * GIB}
    an_attempt(store, "long", now - 1.5 * DAY, now - 0.5 * DAY, **on_gpu)
    for number in range(20):
        an_attempt(store, f"short-{number}", now - 600 - number, now - 500 - number)
    an_attempt(store, "old", now - USAGE_HISTORY_S - DAY, now - USAGE_HISTORY_S - 1)
    an_attempt(store, "odd", now + 5, now + 1)  # the clock was set meanwhile
    running = an_attempt(store, "running", now - 50, None, **on_gpu)

    use = a_meter(store, clock, monotonic).read(store.claims.open_claims(), [gpu])

    assert store.claims.open_claims()[0].job == running
    span_s = decayed_seconds(1.5 * DAY, 0.5 * DAY) + 50
    assert use.cards == pytest.approx(span_s / 4, rel=0.01)
    seconds = span_s + 20 * decayed_seconds(610, 510) / 2  # they had one core each
    assert use.cores == pytest.approx(2 * seconds, rel=0.01)
    assert use.memory == pytest.approx((span_s + 20 * decayed_seconds(610, 510)) * GIB, rel=0.01)


def test_later_known_gpu_sizes_apply_to_earlier_usage(
    store: Store,
) -> None:
    clock, monotonic = Clock(DAY), Clock()
    gpu = a_gpu(total=40)
    an_attempt(store, "1", DAY - 200, DAY - 100, device=gpu.uuid, vram=10 * GIB)
    meter = a_meter(store, clock, monotonic)
    assert meter.read([], []).cards == pytest.approx(100, rel=0.01)
    monotonic.now += 1
    assert meter.read([], [gpu]).cards == pytest.approx(25, rel=0.01)
    unknown = replace(gpu, total=0)
    assert meter.read([], [unknown]).cards == pytest.approx(25, rel=0.01)


@pytest.mark.parametrize("key", [json.dumps({"resources": {"ram": "all"}}), "no JSON", ""])
def test_unreadable_records_use_no_memory(store: Store, key: str) -> None:
    job = an_attempt(store, "1", 100.0, 200.0)
    with store.database.writing():
        store.database.execute(
            "UPDATE lanes SET key = ? WHERE id = (SELECT lane FROM jobs WHERE id = ?)", (key, job)
        )
    use = a_meter(store, Clock(300.0), Clock()).read([], [])
    assert use.memory == 0.0
    assert use.cores == pytest.approx(100, rel=0.01)


def a_scheduler(home: Path, claims: Path) -> tuple[SchedulerGpus, ReservationBoard]:
    """The GPU state of a scheduler without GPUs, and its publications."""
    board = ReservationBoard(claims, home)
    return SchedulerGpus(Home(home), lambda: (), lambda: None, board=board), board


def test_repeated_wakeups_pause_the_watch(tmp_path: Path) -> None:
    gpus, _ = a_scheduler(tmp_path / "one", tmp_path)
    gpus.poll_events()
    assert gpus.ignore_wakeups_s <= 0
    began = time.monotonic()
    gpus.poll_events()
    took_s = time.monotonic() - began
    assert gpus.ignore_wakeups_s <= FLOOD_S / 2 + took_s
    assert took_s > FLOOD_S / 2 or gpus.ignore_wakeups_s > -FLOOD_S
    until(lambda: gpus.ignore_wakeups_s <= 0, "it listens again")


def test_exiting_scheduler_publishes_usage_for_other_queues_of_the_user(
    tmp_path: Path,
) -> None:
    gpus, board = a_scheduler(tmp_path / "one", tmp_path)
    _, other = a_scheduler(tmp_path / "other", tmp_path)
    board.demand = ResourceDemand(since=0.0, gpus=1)
    board.set_usage(ResourceUsage(cards=7200.0))
    gpus.leave([])
    other.foreign_reservations()
    assert other.total_usage().cards == pytest.approx(7200.0, rel=1e-3)
    assert other.peers() == ()
    board.set_usage(ResourceUsage(cards=1.0))
    gpus.leave([])
    assert not [*tmp_path.glob("launcher-claims.*")], "it is not worth a file"


def test_yielding_user_keeps_the_waiting_time(tmp_path: Path) -> None:
    gpus, board = a_scheduler(tmp_path / "one", tmp_path)
    published = list[ResourceDemand | None]()
    wish = ResourceDemand(since=0.0, gpus=1)
    for asked, present in ((wish, {7}), (None, {7}), (wish, {7}), (None, set[int]()), (wish, {7})):
        gpus.announce_demand(asked, 7 if asked else 0, present)
        published.append(board.demand)
    first, leaves, again, _, anew = published
    assert first is not None
    assert (leaves, again) == (None, first)
    assert anew is not None
    assert anew.since > first.since


# --- measurements of GPU sharing: readings are given, progress is where workers write it


STRANGER = 999


def a_job(job: int, device: str = "GPU-0") -> Claim:
    return a_claim(a_spec(), job=job, device=device, vram=GIB)


def owner(pid: int) -> int | None:
    """Job N has the process N."""
    return None if pid == STRANGER else pid


class SharedTimeHarness:
    """One reading of a GPU per second, with the steps of the running jobs."""

    def __init__(self, home: Home) -> None:
        self.home, self.now = home, 0.0
        self.times = SharedTime(home)
        self.steps: dict[int, float] = {}
        self.look({})

    def look(
        self,
        uses: Mapping[int, float | None],
        *,
        seconds: float = 1.0,
        rates: Mapping[int, float] | None = None,
        utilisation: float | None = None,
        times: int = 1,
    ) -> None:
        """Several times let `seconds` pass, in which each process has its load on the GPU and its job makes steps."""
        for _ in range(times - 1):
            self.look(uses, seconds=seconds, rates=rates, utilisation=utilisation)
        self.now += seconds
        for job, rate in (rates or {}).items():
            self.steps[job] = self.steps.get(job, 0.0) + rate * seconds
            progress = self.home.attempt(job, 1).progress
            progress.parent.mkdir(parents=True, exist_ok=True)
            line: dict[str, Any] = {
                "at": self.now,
                "step": round(self.steps[job]),
                "total": None,
                "metrics": {},
            }
            with progress.open("a") as lines:
                lines.write(json.dumps(line) + "\n")
        processes = tuple(GpuProcess(pid=pid, used=2 * GIB, sm=sm) for pid, sm in uses.items())
        card = a_gpu(processes=processes, utilisation=utilisation)
        claims = [a_job(pid) for pid in uses if pid != STRANGER]
        self.times.record_sample(GpuSample(gpus=(card,), at=self.now), claims, owner)

    def measured_usage(self, job: int) -> MeasuredUsage:
        return self.times.measured_sharing(a_job(job))

    def load(self, job: int) -> GpuLoad:
        return self.times.recent_load(a_job(job))


@pytest.fixture
def shared_time(home: Home) -> SharedTimeHarness:
    return SharedTimeHarness(home)


def test_attempt_alone_on_its_gpu_has_zero_shared_time(shared_time: SharedTimeHarness) -> None:
    shared_time.look({1: 0.5}, times=6)
    assert shared_time.measured_usage(1) == MeasuredUsage(shared_s=0.0, slowdown=None, sm=0.5)
    assert shared_time.measured_usage(2) == MeasuredUsage()


def test_slowdown_is_computed_from_step_rates_alone_and_shared(
    shared_time: SharedTimeHarness,
) -> None:
    shared_time.look({1: 0.9}, rates={1: 10.0}, times=11)
    shared_time.look({1: 0.5, 2: 0.5}, rates={1: 5.0, 2: 4.0}, times=11)
    known = shared_time.measured_usage(1)
    assert known.shared_s == pytest.approx(11.0)
    assert known.slowdown == pytest.approx(2.0)
    assert known.sm == pytest.approx(0.9)
    assert shared_time.measured_usage(2).slowdown is None  # it was never alone


def test_slowdown_by_several_jobs_is_divided_among_them(shared_time: SharedTimeHarness) -> None:
    shared_time.look({1: 0.9}, rates={1: 20.0}, times=11)
    shared_time.look({1: 0.3, 2: 0.3, 3: 0.3}, rates={1: 5.0}, times=11)
    assert shared_time.measured_usage(1).slowdown == pytest.approx(4.0)
    assert shared_time.measured_usage(1).others == pytest.approx(2.0)
    assert shared_time.load(1).slowdown == pytest.approx(2.0)


def test_mean_number_of_co_located_jobs_is_measured_without_steps(
    shared_time: SharedTimeHarness,
) -> None:
    shared_time.look({1: 0.1}, times=5)
    shared_time.look({1: 0.1, 2: 0.1, 3: 0.1, 4: 0.1}, times=10)
    shared_time.look({1: 0.1, 2: 0.1}, times=10)
    measured = shared_time.measured_usage(1)
    assert measured.slowdown is None
    assert measured.others == pytest.approx((11 * 3 + 9 * 1) / 20, abs=0.1)


def test_job_that_is_not_slower_has_a_slowdown_of_one(shared_time: SharedTimeHarness) -> None:
    shared_time.look({1: 0.2}, rates={1: 10.0}, times=11)
    shared_time.look({1: 0.2, 2: 0.2}, rates={1: 11.0}, times=11)
    assert shared_time.measured_usage(1).slowdown == 1.0


def test_few_shared_seconds_give_no_slowdown(shared_time: SharedTimeHarness) -> None:
    shared_time.look({1: 0.9}, rates={1: 10.0}, times=11)
    shared_time.look({1: 0.5, 2: 0.5}, rates={1: 5.0}, times=3)
    assert shared_time.measured_usage(1).slowdown is None


def test_step_resets_and_clock_jumps_are_ignored(shared_time: SharedTimeHarness) -> None:
    shared_time.look({1: 0.9}, rates={1: 10.0}, times=11)
    shared_time.steps[1] = 0.0
    shared_time.look({1: 0.5, 2: 0.5}, rates={1: 5.0}, times=7)
    progress = shared_time.home.attempt(1, 1).progress
    with progress.open("a") as lines:
        lines.write('{"at": 1e12, "step": 36, "total": null, "metrics": {}}\n')
    shared_time.look({1: 0.5, 2: 0.5})
    assert shared_time.measured_usage(1).slowdown == pytest.approx(2.0)


def test_unreported_load_is_unknown_and_never_zero(shared_time: SharedTimeHarness) -> None:
    shared_time.look({1: None}, utilisation=0.0, times=6)
    assert shared_time.measured_usage(1).sm is None


def test_idle_time_of_a_bursty_process_counts_if_the_gpu_is_idle(
    shared_time: SharedTimeHarness,
) -> None:
    for _ in range(4):
        shared_time.look({1: 0.8})
        shared_time.look({1: None}, utilisation=0.0)
    shared_time.look({1: None})  # it goes on
    assert shared_time.measured_usage(1).sm == pytest.approx(0.4)


def test_reading_between_program_end_and_its_report_is_ignored(
    shared_time: SharedTimeHarness,
) -> None:
    shared_time.look({1: 0.97}, times=5)
    shared_time.look({1: None}, utilisation=0.0)
    assert shared_time.measured_usage(1).sm == pytest.approx(0.97)


def test_shared_load_counts_while_the_gpu_is_not_saturated(shared_time: SharedTimeHarness) -> None:
    shared_time.look({1: 0.3, 2: 0.2}, times=6)
    assert shared_time.measured_usage(1).sm == pytest.approx(0.3)


def test_on_a_saturated_gpu_only_a_higher_load_counts(
    shared_time: SharedTimeHarness,
) -> None:
    shared_time.look({1: 0.6}, times=6)
    shared_time.look({1: 0.4, 2: 0.6}, times=6)
    assert shared_time.load(1).sm == pytest.approx(0.6)
    assert shared_time.load(2).sm == pytest.approx(0.6), "it is at least so much"
    shared_time.look({1: 0.7, 2: 0.3}, times=30)
    assert shared_time.load(1).sm == pytest.approx(0.68, abs=0.02)
    assert shared_time.load(2).sm == pytest.approx(0.6)


# --- what a running attempt does to its GPUs lately


def test_load_is_measured_in_less_than_a_second(shared_time: SharedTimeHarness) -> None:
    assert shared_time.load(1) == UNKNOWN_LOAD
    shared_time.look({1: 0.4})
    shared_time.look({1: 0.4}, seconds=LEAST_SAMPLED_S * 0.75)
    assert shared_time.load(1).sm is None
    shared_time.look({1: 0.4}, seconds=LEAST_SAMPLED_S / 2)
    assert shared_time.load(1) == GpuLoad(sm=0.4, measured=True)


def test_current_load_is_recent_and_stored_load_is_the_mean(shared_time: SharedTimeHarness) -> None:
    shared_time.look({1: 0.9}, times=60)
    shared_time.look({1: 0.1}, times=60)
    assert shared_time.load(1).sm == pytest.approx(0.1, abs=0.05)
    assert shared_time.measured_usage(1).sm == pytest.approx(0.5, abs=0.02)


def test_load_has_the_slowdown_and_whether_steps_are_reported(
    shared_time: SharedTimeHarness,
) -> None:
    shared_time.look({1: 0.9}, rates={1: 10.0}, times=11)
    assert shared_time.load(1) == GpuLoad(sm=0.9, measured=True, steps=True)
    shared_time.look({1: 0.5, 2: 0.5}, rates={1: 5.0}, times=11)
    assert shared_time.load(1).slowdown == pytest.approx(2.0)
    assert not shared_time.load(2).steps


def test_process_missing_among_reported_ones_has_zero_load(
    shared_time: SharedTimeHarness,
) -> None:
    shared_time.look({1: 0.8, STRANGER: 0.1}, times=4)
    shared_time.look({1: None, STRANGER: 0.1}, times=4)
    assert shared_time.measured_usage(1).sm == pytest.approx(0.4)


def test_loading_program_has_unknown_load_instead_of_zero(shared_time: SharedTimeHarness) -> None:
    shared_time.look({1: None, 2: 0.5}, times=9)
    assert shared_time.load(1).sm is None


def test_program_without_kernels_for_a_minute_has_zero_load(shared_time: SharedTimeHarness) -> None:
    shared_time.look({1: None, 2: 0.5}, times=int(LOADING_S))
    assert shared_time.load(1).sm is None
    shared_time.look({1: None, 2: 0.5}, times=3)
    assert shared_time.load(1) == GpuLoad(sm=0.0, measured=True)


def test_next_scheduler_reads_the_load_of_an_attempt(shared_time: SharedTimeHarness) -> None:
    shared_time.look({1: 0.4}, times=9)
    successor = SharedTime(shared_time.home)
    successor.adopt(
        (1, 1), json.loads(json.dumps(shared_time.times.to_json((1, 1)))), shared_time.now
    )
    assert successor.recent_load(a_job(1)) == shared_time.load(1)
    assert successor.measured_sharing(a_job(1)).shared_s is None, (
        "it did not see how long it shared"
    )
    assert successor.to_json((1, 1)) == pytest.approx(shared_time.times.to_json((1, 1)))
    assert shared_time.times.to_json((2, 1)) == {}


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"load": 0.5},
        {"load": None, "load_s": 5.0},
        {"load": 1.5, "load_s": 5.0},
        {"load": -0.5, "load_s": 5.0},
        {"load": math.nan, "load_s": 5.0},
        {"load": 0.5, "load_s": 0.0},
        {"load": 0.5, "load_s": math.inf},
        {"load": 0.5, "load_s": LONGEST_S + 1},
        {"load": 0.5, "load_s": "5"},
    ],
)
def test_impossible_load_is_not_used(home: Home, record: dict[str, Json]) -> None:
    times = SharedTime(home)
    times.adopt((1, 1), record, 5.0)
    assert times.recent_load(a_job(1)) == UNKNOWN_LOAD
    assert times.to_json((1, 1)) == {}


def test_only_an_active_process_of_another_user_counts_as_co_located(
    shared_time: SharedTimeHarness,
) -> None:
    shared_time.look({1: 0.5, STRANGER: 0.01}, times=6)
    assert shared_time.measured_usage(1).shared_s == 0.0
    shared_time.look({1: 0.5, STRANGER: 0.4})
    assert shared_time.measured_usage(1).shared_s == pytest.approx(1.0)


def test_shared_time_of_an_adopted_attempt_is_unknown(home: Home) -> None:
    times = SharedTime(home)
    for at in range(5):
        times.record_sample(GpuSample(gpus=(a_gpu(),), at=float(at)), [a_job(1)], owner)
    assert times.measured_sharing(a_job(1)).shared_s is None


def test_gap_between_readings_is_ignored(shared_time: SharedTimeHarness) -> None:
    shared_time.look({1: 0.5})
    shared_time.look({1: 0.5}, seconds=LONGEST_GAP_S + 1)
    assert shared_time.measured_usage(1) == MeasuredUsage()


@pytest.mark.parametrize(
    ("seconds", "shared_s", "alone", "slowdown"),
    [
        (200.0, 200.0, [100.0], 2.0),
        (150.0, 100.0, [100.0, 100.0, 900.0], 2.0),  # 50 s of work alone, 50 s in 100
        (90.0, 90.0, [100.0], 1.0),
        (100.0, 20.0, [90.0], None),  # too little of it was shared
        (100.0, None, [90.0], None),
        (100.0, 100.0, [], None),
        (500.0, 300.0, [100.0], None),  # it took longer alone than its like in all
        (-5.0, 100.0, [100.0], None),  # a clock was set back
    ],
)
def test_slowdown_is_computed_from_durations_alone_and_shared(
    seconds: float, shared_s: float | None, alone: list[float], slowdown: Any
) -> None:
    factor = slowdown_by_duration(seconds, shared_s, alone)
    assert factor == (None if slowdown is None else pytest.approx(slowdown))
