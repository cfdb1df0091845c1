"""What is known of GPUs: what each attempt takes, what a home has used, and what attempts teach about sharing."""

import json
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

from launcher.accounts import HALF_LIFE_S, NO_USE, Use, Wish, decayed_span
from launcher.context import WorkerEnvironment
from launcher.gpu.monitor import NO_SIGHT, Ours, Sight
from launcher.gpu.reservations import Reservation, ReservationBoard
from launcher.gpu.snapshot import GpuProcess, GpuSnapshot, SeenGpus, attempts_seen, write_look
from launcher.job import Resources, Spec, program_signature
from launcher.scheduler.gpus.gpu_ledger import (
    HIDDEN_S,
    LONGEST_MEASURING_S,
    Ledger,
    reservations_of,
)
from launcher.scheduler.gpus.gpu_state import FLOOD_S, MEMORY_S, Accelerators, UseMeter
from launcher.scheduler.gpus.shared_time import (
    GAP_S,
    LEAST_USE_S,
    LOADING_S,
    SharedTime,
    slowdown_by_duration,
)
from launcher.scheduler.policy.co_location import UNKNOWN_LOAD, Load
from launcher.scheduler.policy.decide import decide
from launcher.scheduler.policy.inventory import refusal
from launcher.scheduler.policy.model import Machine, Start, Wait, waiting
from launcher.scheduler.policy.oom_policy import QUIET_SHARE
from launcher.scheduler.policy.vram_request import settled_request, vram_request_of
from launcher.states import Done, EndCause
from launcher.store.queue import Store
from launcher.store.rows import Claim, Lane, ReadyJob
from launcher.store.usage import LONGEST_S, NO_USAGE, Measured, Similar, Usage, no_usage
from launcher.system.executables import program_of
from launcher.system.files import Json
from launcher.system.gpu_sharing import Rules
from launcher.system.paths import Home
from launcher.workers.memory_share import CONTEXT, VramLimit
from tests.build import GIB, Clock, a_claim, a_gpu, a_spec, until
from tests.launcher.queued import end, one, seated

ME = os.getpid()  # a process that lives
OTHER = 1


def a_card(index: int = 0, used: float = 0, **processes: int | None) -> GpuSnapshot:
    """A card with processes: `ours=…` and `other=…` are their bytes, None where it is not told."""
    pids = {"ours": ME, "other": OTHER}
    found = [GpuProcess(pid=pids[who], used=amount) for who, amount in processes.items()]
    return a_gpu(index, used=used, processes=tuple(found))


DECLARED = a_spec(resources=Resources(device="cuda", min_vram=8 * GIB))


def running(
    job: int = 1, device: str = "GPU-0", *, spec: Spec | None = None, **changes: Any
) -> Claim:
    values: dict[str, Any] = {"reservation": 8 * GIB, "pid": ME}
    return a_claim(spec or DECLARED, job=job, device=device, **values | changes)


def reported(home: Home, job: int = 1, **changes: Any) -> None:
    folder = home.attempt(job, 1).folder
    folder.mkdir(parents=True, exist_ok=True)
    told = {"schema": 1, "at": 1.0, "reserved": 0, "peak": 0, "context": None, "uuid": None}
    (folder / "memory.json").write_text(json.dumps(told | changes))


def a_ledger(home: Home, claims: Iterable[Claim], *gpus: GpuSnapshot, at: float = 1.0) -> Ledger:
    ledger = Ledger(home, Ours())
    assert ledger.enter(Sight(gpus=gpus, at=at), list(claims))
    return ledger


def used(ledger: Ledger, *claims: Claim) -> list[Mapping[str, int]]:
    """What each attempt uses of cards."""
    return [one.used for one in ledger.taken.running(claims, no_usage)]


def test_what_the_driver_tells_of_our_processes_is_put_down(home: Home) -> None:
    claims = [running()]
    card = a_card(used=9, ours=5 * GIB, other=4 * GIB)
    ledger = a_ledger(home, claims, card)
    assert used(ledger, *claims) == [{"GPU-0": 5 * GIB}]
    assert ledger.taken.peak(claims[0]) == 5 * GIB
    assert ledger.taken.gpus(claims, [card]) == (card,)


def test_the_same_look_is_put_down_once(home: Home) -> None:
    sight = Sight(gpus=(a_card(),), at=1.0)
    ledger = Ledger(home, Ours())
    assert not ledger.enter(NO_SIGHT, [])
    assert ledger.enter(sight, [])
    assert not ledger.enter(sight, [])
    assert ledger.enter(sight._replace(at=2.0), [])


def test_where_the_driver_does_not_tell_the_workers_word_counts(home: Home) -> None:
    claims = [running()]
    reported(home, reserved=3 * GIB, peak=4 * GIB)
    for card in (a_card(used=9, ours=None), a_card(used=9)):
        ledger = a_ledger(home, claims, card)
        assert used(ledger, *claims) == [{"GPU-0": 3 * GIB + CONTEXT}]
        assert ledger.taken.peak(claims[0]) == 4 * GIB + CONTEXT


def test_unknown_stays_unknown(home: Home) -> None:
    claims = [running()]
    ledger = a_ledger(home, claims, a_card(used=9, ours=None))
    assert used(ledger, *claims) == [{}]
    assert ledger.taken.peak(claims[0]) is None
    assert ledger.taken.peak(running(device="cpu")) is None


def test_the_context_is_what_the_driver_sees_beyond_the_workers_word(home: Home) -> None:
    claims = [running(), running(2, pid=OTHER)]
    reported(home, reserved=3 * GIB, peak=6 * GIB)
    ledger = a_ledger(home, claims, a_card(used=9, ours=4 * GIB))
    assert ledger.taken.peak(claims[0]) == 7 * GIB
    assert ledger.taken.vram_limits(claims)[1, 1] == VramLimit(cap=8 * GIB, context=1 * GIB)


def test_a_peak_is_remembered_when_less_is_used_later(home: Home) -> None:
    claims = [running()]
    ledger = a_ledger(home, claims, a_card(used=9, ours=7 * GIB))
    ledger.enter(Sight(gpus=(a_card(used=3, ours=1 * GIB),), at=2.0), claims)
    assert ledger.taken.peak(claims[0]) == 7 * GIB
    assert used(ledger, *claims) == [{"GPU-0": 1 * GIB}]


def test_what_an_attempt_took_that_has_ended_since_the_look_is_free(home: Home) -> None:
    claims = [running()]
    seen = a_card(used=9, ours=5 * GIB), a_gpu(1, used=None)
    ledger = a_ledger(home, claims, *seen)
    assert [one.used for one in ledger.taken.gpus([], seen)] == [4 * GIB, None]
    assert Ledger(home, Ours()).taken.gpus([], seen) == seen


def test_only_jobs_that_share_a_card_are_held_to_what_they_declared(home: Home) -> None:
    alone, first, second, unknown, estimated, learned = (
        running(1, "GPU-1"),
        running(2),
        running(3, "GPU-0,GPU-2", pid=OTHER),
        running(4, "GPU-3", reservation=None, exclusive=True),
        running(5, spec=a_spec(), reservation=None),
        running(6, spec=a_spec()),
    )
    claims = [alone, first, second, unknown, estimated, learned, running(7, "cpu")]
    ledger = a_ledger(home, claims, a_card(used=9))
    vram_limits = ledger.taken.vram_limits(claims)
    assert {job: one.cap for (job, _), one in vram_limits.items()} == {
        1: None,
        2: 8 * GIB,
        3: 8 * GIB,
        4: None,
        5: None,
        6: None,
    }


def test_what_a_job_took_while_it_was_alone_stays_its_own(home: Home) -> None:
    first, second = running(), running(2, pid=OTHER)
    ledger = a_ledger(home, [first, second], a_card(used=12, ours=11 * GIB))
    assert ledger.taken.vram_limits([first, second])[1, 1].cap == 11 * GIB


def test_others_hear_of_every_promise_with_what_is_in_use_of_it(home: Home) -> None:
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


def promised(claim: int | None, *, estimate: int | None = None, **asked: Any) -> dict[str, int]:
    place = Start(job=1, devices=("GPU-0",), cpus=1, reason="", reservation=claim)
    reservations = reservations_of(
        place, Resources(**asked), totals={"GPU-0": 40 * GIB}, estimate=estimate
    )
    return {one.device: one.amount for one in reservations if "GPU-0" in one.device}


def test_others_hear_the_estimate_of_a_job_and_an_eighth_of_the_card_if_there_is_none() -> None:
    assert promised(None, estimate=3 * GIB) == {"GPU-0": 3 * GIB, "jobs:GPU-0": 1}
    assert promised(None) == {"GPU-0": 5 * GIB, "jobs:GPU-0": 1}
    assert promised(8 * GIB, estimate=3 * GIB) == {"GPU-0": 8 * GIB, "jobs:GPU-0": 1}


def test_a_job_that_shares_with_nobody_is_told_as_the_whole_card() -> None:
    whole = {"GPU-0": 40 * GIB, "jobs:GPU-0": 1, "alone:GPU-0": 1}
    assert promised(GIB, exclusive=True) == promised(None, exclusive=True) == whole


def test_a_running_job_is_expected_to_end_as_those_alike_did(home: Home) -> None:
    claims = [running(claimed=1000.0), running(2, "cpu", claimed=1000.0)]
    ledger = a_ledger(home, claims, a_card())
    on_gpu, on_cpu = ledger.taken.running(claims, lambda *_: Usage(seconds=(100.0,)))
    assert on_gpu.ends is not None
    assert on_gpu.ends == 1100
    assert (on_cpu.ends, on_cpu.devices) == (None, ())


def ready(least: int = 0, visible: tuple[str, ...] | None = ("0",), **asked: Any) -> ReadyJob:
    asks = Resources(**{"device": "cuda"} | asked)
    lane = Lane(
        group="g", resources=asks, environment=WorkerEnvironment(), least=least, visible=visible
    )
    return ReadyJob(id=7, rank=0.0, lane_id=1, lane=lane)


def test_a_waiting_job_has_what_was_declared_learned_or_needed() -> None:
    taught = Usage(peaks=(4 * GIB,), seconds=(10.0,))
    one = waiting(ready(min_vram=8 * GIB), NO_USAGE)
    assert (one.job, one.group, one.visible) == (7, "g", ("0",))
    assert (one.vram_request, one.seconds) == (8 * GIB, None)
    assert waiting(ready(), NO_USAGE).vram_request is None
    learned = waiting(ready(), taught)
    assert learned.vram_request is not None
    assert learned.vram_request > 4 * GIB
    assert learned.seconds is not None
    assert waiting(ready(least=9 * GIB), taught).vram_request == 9 * GIB


def test_what_nearly_fills_the_largest_card_gets_that_for_itself() -> None:
    full, gpus = Usage(peaks=(int(23.5 * GIB),)), (a_gpu(0, total=24), a_gpu(1, total=8))
    for rules in (Rules(), Rules(reserve=2 * GIB)):
        machine = Machine(cpus=2, gpus=gpus, rules=rules)
        (start,) = decide([waiting(ready(visible=None), full)], [], machine)
        assert isinstance(start, Start)
        assert (start.devices, start.exclusive) == ((gpus[0].uuid,), True)
        assert start.reservation == gpus[0].total
        # what its owner asks for, or what it lacked, can be more than any card has
        for job, usage in (
            (ready(visible=None, min_vram=30 * GIB), NO_USAGE),
            (ready(least=30 * GIB, visible=None), NO_USAGE),
            (ready(visible=None, min_vram=30 * GIB), full),
        ):
            never = refusal(waiting(job, usage), machine)
            assert never is not None
            assert "has at most" in never.text


@settings(deadline=None)
@given(
    total=st.integers(8, 80),
    driver=st.floats(0, QUIET_SHARE),
    reserve=st.sampled_from([0.0, 0.1, 0.3]),
    took=st.floats(0.02, 1),
    count=st.integers(1, 2),
    larger=st.booleans(),
)
def test_on_an_idle_machine_a_job_starts_again_where_it_was_seen_to_fit(
    total: int, driver: float, reserve: float, took: float, count: int, larger: bool
) -> None:
    cards = [a_gpu(at, total=total, used=total * driver) for at in range(2)]
    if larger:  # it may not have that one
        cards.append(a_gpu(2, total=4 * total, used=0))
    kept = round(total * GIB * reserve)
    machine = Machine(cpus=2, gpus=tuple(cards), rules=Rules(reserve=kept))
    peak = int((cards[0].total - (cards[0].used or 0)) * took)
    asks = ready(visible=("0", "1"), gpus=count, device="cuda")
    again = waiting(asks, Usage(peaks=(peak,)))

    assert refusal(again, machine) is None
    (start,) = decide([again], [], machine)

    assert isinstance(start, Start), start.reason
    free = cards[0].total - (cards[0].used or 0)
    assert start.reservation is None or peak <= start.reservation <= free
    if start.reservation is None or start.reservation > free - kept:
        assert start.exclusive, "its card is promised to it as a whole"


def test_a_job_that_lacked_a_little_gets_the_idle_card_that_is_as_large_as_it_was_told() -> None:
    # the driver takes a little more than when its need was judged
    card = a_gpu(total=24, used=0.75)
    job = waiting(ready(least=int(23.5 * GIB), device="cuda"), NO_USAGE)
    (start,) = decide([job], [], Machine(cpus=2, gpus=(card,)))
    assert isinstance(start, Start), start.reason
    (wait,) = decide([job], [], Machine(cpus=2, gpus=(a_gpu(total=24, used=2),)))
    assert wait == Wait(
        job=7,
        reason="waiting for 23.5 GiB of GPU memory: cuda:0 has 22 GiB free",
        data={"need": "waiting for 23.5 GiB of GPU memory", "situation": "cuda:0 has 22 GiB free"},
        lacks="gpu",
    )


def test_a_workers_word_counts_for_the_card_that_it_names(home: Home) -> None:
    claims = [running(device="GPU-0,GPU-1")]
    reported(home, reserved=9 * GIB, peak=9 * GIB, uuid="GPU-0")
    ledger = a_ledger(home, claims, a_card(0, used=10), a_card(1, used=10))
    assert used(ledger, *claims) == [{"GPU-0": 9 * GIB + CONTEXT}]


def test_where_the_driver_knows_our_processes_what_it_does_not_list_is_not_there(
    home: Home,
) -> None:
    claims = [running(), running(2, "GPU-1", pid=os.getppid())]
    reported(home, job=2, reserved=9 * GIB, peak=9 * GIB)
    ledger = a_ledger(home, claims, a_card(0, used=10, ours=2 * GIB), a_card(1, used=10))
    assert used(ledger, *claims) == [{"GPU-0": 2 * GIB}, {}]


def test_what_an_earlier_attempt_took_is_not_its_successors(home: Home) -> None:
    first, second = running(), running(number=2)
    ledger = a_ledger(home, [first], a_card(used=9, ours=5 * GIB))
    assert used(ledger, second) == [{}]
    assert (ledger.taken.peak(second), ledger.taken.others_usage(second)) == (None, {})
    assert ledger.taken.others_usage(first) == {"GPU-0": 4 * GIB}
    assert set(ledger.taken.vram_limits([second])) == {(1, 2)}


def test_an_attempt_without_a_reservation_shares_its_card_with_an_estimate(home: Home) -> None:
    ledger = a_ledger(home, [], a_card(used=9))
    (one,) = ledger.taken.running([running(reservation=None, exclusive=False)], no_usage)
    assert (one.estimated, one.exclusive, one.reservation) == (True, False, None)
    (other,) = ledger.taken.running([running(reservation=None, exclusive=True)], no_usage)
    assert (other.estimated, other.exclusive) == (False, True)


# --- estimates: what is reserved for a job whose memory was neither declared nor learned


TRAIN = ("python", "train.py", "--lr", "1")
SIMILAR_TRAIN = ("python", "train.py", "--size", "big")


def an_estimate(job: int = 1, argv: tuple[str, ...] = TRAIN, pid: int = ME) -> Claim:
    """An attempt of a program of which nothing is known."""
    spec = a_spec(*argv, signature=program_signature(argv))
    return running(job, spec=spec, reservation=None, pid=pid)


def watched(home: Home, claims: Iterable[Claim], *looks: tuple[float, GpuSnapshot]) -> Ledger:
    """A ledger after looks, each with its time."""
    ledger, claims = Ledger(home, Ours()), list(claims)
    for at, gpu in looks:
        assert ledger.enter(Sight(gpus=(gpu,), at=at), claims)
    return ledger


def busy(used: float, sm: float | None = 0.3) -> GpuSnapshot:
    """A card on which our process uses so many GiB, and works for so much of the time."""
    process = GpuProcess(pid=ME, used=round(used * GIB), sm=sm)
    return a_gpu(total=80, used=used, processes=(process,))


def steady(used: float, sm: float | None = 0.3) -> list[tuple[float, GpuSnapshot]]:
    return [(float(at), busy(used, sm)) for at in range(1, 6)]


def similar_took(*gib: float) -> Usage:
    return Usage(similar=Similar(peaks=tuple(int(each * GIB) for each in gib)))


def test_what_is_reserved_follows_the_use_once_it_has_settled(home: Home) -> None:
    claim = an_estimate()
    ledger = watched(home, [claim], (1.0, busy(3)), (2.0, busy(6)))
    (young,) = ledger.taken.running([claim], no_usage)
    assert (young.reservation, young.young_s) == (None, 1.0), "a fixed part of the card counts"
    ledger = watched(home, [claim], *steady(6))
    (settled,) = ledger.taken.running([claim], no_usage)
    assert settled.reservation == settled_request(6 * GIB, (), None)
    assert settled.young_s is None
    assert ledger.enter(Sight(gpus=(busy(6),), at=9.0), [claim])  # before the next decision
    (published,) = [one for one in ledger.reservations([claim], 0b1) if one.device == "GPU-0"]
    assert published.amount == settled.reservation


def test_until_its_use_has_settled_what_similar_jobs_took_is_reserved(home: Home) -> None:
    claim = an_estimate()
    ledger = watched(home, [claim], (1.0, busy(3)), (2.0, busy(6)))
    (young,) = ledger.taken.running([claim], lambda *_: similar_took(10))
    assert young.reservation == vram_request_of(None, 0, similar_took(10)).amount
    assert young.young_s is None, "something similar was measured"
    ledger = watched(home, [claim], *steady(6))
    (settled,) = ledger.taken.running([claim], lambda *_: similar_took(10))
    assert settled.reservation == 10 * GIB, "it may still grow to what most of them took"


def test_a_declared_reservation_does_not_follow_the_use(home: Home) -> None:
    ledger = watched(home, [running()], *steady(1))
    (place,) = ledger.taken.running([running()], no_usage)
    assert (place.reservation, place.estimated, place.similar) == (8 * GIB, False, "")


def test_what_runs_tells_what_similar_jobs_take_while_it_runs(home: Home) -> None:
    claim = an_estimate()
    signature, program = program_signature(SIMILAR_TRAIN), program_of(SIMILAR_TRAIN)
    ledger = watched(home, [claim], *steady(6))
    known = similar_took(2)._replace(peaks=(GIB,))
    live = ledger.taken.with_live(known, signature, program)
    assert live == known._replace(similar=Similar(peaks=(2 * GIB,), live=(6 * GIB,), sm=0.3))
    assert ledger.taken.records()[claim.key]["settled"] == 6 * GIB
    for other in (("./train",), ("python", "score.py")):
        signature = program_signature(other)
        assert ledger.taken.with_live(known, signature, program_of(other)) == known
    assert ledger.taken.with_live(NO_USAGE, "", "") == NO_USAGE
    assert ledger.enter(Sight(gpus=(busy(0),), at=9.0), [])
    assert ledger.taken.with_live(known, program_signature(SIMILAR_TRAIN), program) == known


def test_memory_that_still_grows_tells_similar_jobs_nothing_until_it_is_an_eighth_of_the_card(
    home: Home,
) -> None:
    claim = an_estimate()
    signature, program = program_signature(SIMILAR_TRAIN), program_of(SIMILAR_TRAIN)
    ledger = watched(home, [claim], (1.0, busy(3)), (2.0, busy(6)))
    assert ledger.taken.with_live(NO_USAGE, signature, program).similar == Similar(sm=0.3)
    assert ledger.taken.records()[claim.key]["settled"] is None
    assert ledger.enter(Sight(gpus=(busy(11),), at=3.0), [claim])
    live = ledger.taken.with_live(NO_USAGE, signature, program)
    assert live.similar.live == (11 * GIB,)


def test_a_load_that_was_not_measured_leaves_what_is_stored(home: Home) -> None:
    ledger = watched(home, [an_estimate()], *steady(11, sm=None))
    known = Usage(similar=Similar(sm=0.7))
    live = ledger.taken.with_live(known, program_signature(SIMILAR_TRAIN), program_of(TRAIN))
    assert live.similar == Similar(live=(11 * GIB,), sm=0.7)


def test_a_measured_load_counts_before_a_stored_one(home: Home) -> None:
    claim = an_estimate()
    stored = Usage(sm=0.9, slowdown=2.0)
    (unknown,) = watched(home, [claim], (1.0, busy(1))).taken.running([claim], lambda *_: stored)
    assert unknown.demand == Load(sm=0.9, slowdown=2.0)
    (known,) = watched(home, [claim], *steady(1)).taken.running([claim], lambda *_: stored)
    assert known.demand == Load(sm=0.3, slowdown=2.0, measured=True)


def test_gpus_are_looked_at_more_often_until_what_has_just_started_is_measured(
    home: Home,
) -> None:
    claim, on_cpu = an_estimate(), running(2, "cpu")
    assert watched(home, []).taken.measuring([claim]), "it has not been seen yet"
    assert not watched(home, []).taken.measuring([on_cpu])
    assert watched(home, [claim], (1.0, busy(3))).taken.measuring([claim])
    assert watched(home, [claim], *steady(3), (6.0, busy(9))).taken.measuring([claim]), "it grows"
    assert not watched(home, [claim], *steady(3)).taken.measuring([claim])
    silent = watched(home, [claim], (1.0, busy(3)), (1.0 + LONGEST_MEASURING_S, busy(3, None)))
    assert not silent.taken.measuring([claim]), "it never will be"


def test_what_a_program_gave_back_is_believed_after_half_a_minute(home: Home) -> None:
    claim = an_estimate()
    ledger = watched(home, [claim], *[(float(at), busy(9)) for at in range(1, 6)])
    reserved = []
    for at in (6.0, 7.0, 8.0, 29.0, 31.0):
        assert ledger.enter(Sight(gpus=(busy(4),), at=at), [claim])
        live = ledger.taken.with_live(NO_USAGE, claim.spec.signature, program_of(TRAIN))
        (place,) = ledger.taken.running([claim], no_usage)
        (used,) = live.similar.live
        assert place.reservation == settled_request(used, (), None)
        reserved.append(used // GIB)
    assert reserved == [9, 9, 9, 9, 4]


def test_a_process_of_ours_that_has_just_ended_is_not_one_of_others(home: Home) -> None:
    ledger, theirs = Ledger(home, Ours()), GpuProcess(pid=OTHER, used=GIB, sm=0.25)
    card = a_gpu(processes=(GpuProcess(pid=ME, used=GIB, sm=0.5), theirs))
    ledger.enter(Sight(gpus=(card,), at=1.0), [running()])
    assert ledger.foreign_load == {"GPU-0": (0.25, 1)}
    ledger.enter(Sight(gpus=(card,), at=2.0), [])  # the look still shows it
    assert ledger.foreign_load == {"GPU-0": (0.25, 1)}
    ledger.enter(Sight(gpus=(card,), at=3.0), [])
    assert ledger.foreign_load == {"GPU-0": (0.75, 2)}, "it has not ended with our job"


def test_a_card_whose_driver_lists_no_process_of_ours_is_unmeasured_until_it_names_one(
    home: Home,
) -> None:
    claim, ledger = an_estimate(), Ledger(home, Ours())
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
        assert ledger.enter(Sight(gpus=(card,), at=at), [claim])
        unmeasured.append("GPU-0" in ledger.unmeasured)
        known.append(ledger.memory_is_known(card))
    assert unmeasured == [False, False, True, True, False, False]
    assert known == [True, True, False, False, True, True]
    assert not ledger.memory_is_known(a_gpu()), "it tells of no processes at all"


def test_a_card_that_is_idle_or_has_a_process_is_measured(home: Home) -> None:
    idle = a_gpu(processes=(), utilisation=0.0)
    theirs = replace(a_card(used=4, other=4 * GIB), utilisation=0.8)
    for card in (idle, theirs):
        ledger = watched(home, [an_estimate()], (1.0, card), (2.0 + HIDDEN_S, card))
        assert ledger.unmeasured == frozenset()


def test_how_busy_others_keep_a_card_is_known_with_their_number(home: Home) -> None:
    theirs = [GpuProcess(pid=pid, used=GIB, sm=sm) for pid, sm in ((OTHER, 0.25), (2, None))]
    ours = GpuProcess(pid=ME, used=GIB, sm=0.5)
    ledger = Ledger(home, Ours())
    ledger.know([running()], {ME: 1})
    gpus = a_gpu(0, processes=(ours, *theirs)), a_gpu(1)
    ledger.enter(Sight(gpus=gpus, at=1.0), [running()])
    assert ledger.foreign_load == {"GPU-0": (0.25, 2), "GPU-1": (0.0, 0)}


def test_a_successor_knows_what_was_measured_of_attempts(home: Home) -> None:
    claim = an_estimate()
    killed = watched(home, [claim], (1.0, busy(9)), *[(at + 1, gpu) for at, gpu in steady(6)])
    records = json.loads(json.dumps(killed.records()))
    successor = Ledger(home, Ours())
    successor.adopt(records, now=7.0)
    assert successor.taken.peak(claim) == 9 * GIB
    assert successor.enter(Sight(gpus=(busy(6),), at=7.0), [claim])
    (place,) = successor.taken.running([claim], no_usage)
    assert place.reservation == settled_request(6 * GIB, (), None)
    assert place.demand == Load(sm=0.3, measured=True)
    (fresh,) = watched(home, [claim], (7.0, busy(6))).taken.running([claim], no_usage)
    assert fresh.reservation is None, "without them it would be young again"


def test_a_scheduler_that_begins_takes_over_what_its_predecessor_wrote(tmp_path: Path) -> None:
    home = Home(tmp_path / "one")
    home.folder.mkdir()
    gpus, _ = a_scheduler(home.folder, tmp_path)
    claim = an_estimate()
    now = time.monotonic()
    killed = watched(home, [claim], *[(now - 9 + at, gpu) for at, gpu in steady(6)])
    write_look(home, SeenGpus(at=0.0, gpus=(busy(6),), trouble=""), killed.records())
    gpus.begin()
    assert gpus.ledger.records() == killed.records()
    (other,) = (a_scheduler(tmp_path / "other", tmp_path)[0],)
    other.begin()
    assert other.ledger.records() == []


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
def test_a_damaged_record_of_an_attempt_does_no_harm(home: Home, value: Any) -> None:
    claim = an_estimate()
    (record,) = watched(home, [claim], *steady(6)).records()
    assert isinstance(record, dict)
    for name in record.keys() - {"job", "number"}:
        ledger = Ledger(home, Ours())
        ledger.adopt([record | {name: value}], now=7.0)
        for at in (7.0, 8.0, 90.0):
            assert ledger.enter(Sight(gpus=(busy(6),), at=at), [claim])
            (place,) = ledger.taken.running([claim], no_usage)
            assert place.reservation in (None, settled_request(6 * GIB, (), None)), name
            assert 0 <= (place.demand.sm or 0.0) <= 1, name
            assert ledger.taken.peak(claim) == 6 * GIB, name
            json.dumps(ledger.records(), allow_nan=False)


@pytest.mark.parametrize("number", ODD_NUMBERS, ids=SHORT_IDS)
def test_a_damaged_job_number_of_an_attempt_is_left_out(home: Home, number: Any) -> None:
    (record,) = watched(home, [an_estimate()], *steady(6)).records()
    assert isinstance(record, dict)
    ledger = Ledger(home, Ours())
    for name in ("job", "number"):
        ledger.adopt([record | {name: number}], now=7.0)
    assert ledger.enter(Sight(gpus=(busy(6),), at=8.0), [an_estimate()])


@pytest.mark.parametrize(
    "record",
    [None, 7, "x", [], {}, {"job": "1", "number": 1}, {"job": 1}, {"job": 1, "number": 1}],
)
def test_a_record_that_cannot_be_understood_is_not_taken_over(home: Home, record: Json) -> None:
    ledger = Ledger(home, Ours())
    ledger.adopt([record], now=5.0)
    assert ledger.records() == []


def test_a_look_at_a_card_that_runs_short_tells_who_has_to_leave_it_and_is_on_record(
    tmp_path: Path,
) -> None:
    home = Home(tmp_path / "one")
    home.folder.mkdir()
    took = GpuProcess(pid=ME, used=30 * GIB)
    board = ReservationBoard(tmp_path, home.folder)
    gpus = Accelerators(
        home, lambda: (a_gpu(total=40, used=32, processes=(took,)),), lambda: None, board=board
    )
    claims = [replace(an_estimate(), claimed=time.time()), running(2, pid=OTHER)]
    claims[1] = replace(claims[1], reservation=20 * GIB)

    def seen() -> bool:
        gpus.look(claims, {}, wanted=True)
        return bool(gpus.moved)

    until(seen, "the estimate is in the way of what was declared")
    assert gpus.moved.keys() == {1}
    assert gpus.moved[1].cause is EndCause.GPU_MEMORY
    records = attempts_seen(home)
    assert [record["job"] for record in records if isinstance(record, dict)] == [1, 2]


class WatchedCard:
    """A card of 40 GiB on which a job of ours uses 30 GiB, and its scheduler that looks at it."""

    def __init__(self, folder: Path, process: GpuProcess) -> None:
        home = Home(folder / "one")
        home.folder.mkdir()
        card = a_gpu(total=40, used=32, processes=(process,))
        board = ReservationBoard(folder, home.folder)
        self.home = home
        self.gpus = Accelerators(home, lambda: (card,), lambda: None, board=board)

    def look(self, claims: list[Claim]) -> Mapping[int, Any]:
        """Take in one more look; returns who has to leave the card."""
        at = time.monotonic()

        def seen() -> bool:
            self.gpus.look(claims, {}, wanted=True)
            return self.gpus.seen_since(at)

        until(seen, "the card is looked at")
        return self.gpus.moved


def in_the_way() -> list[Claim]:
    """A job that uses 30 GiB by an estimate, and one that has declared 20 GiB."""
    estimated = replace(an_estimate(), claimed=time.time())
    return [estimated, replace(running(2, pid=OTHER), reservation=20 * GIB)]


@pytest.mark.parametrize(("told", "leaves"), [(30 * GIB, {1}), (None, set())])
def test_nobody_leaves_a_card_whose_driver_does_not_tell_how_much_a_process_uses(
    tmp_path: Path, told: int | None, leaves: set[int]
) -> None:
    card = WatchedCard(tmp_path, GpuProcess(pid=ME, used=told))
    reported(card.home, reserved=30 * GIB, peak=30 * GIB)  # by its worker
    assert set(card.look(in_the_way())) == leaves


def test_nobody_leaves_a_card_at_the_look_after_one_of_ours_has_ended_there(
    tmp_path: Path,
) -> None:
    card = WatchedCard(tmp_path, GpuProcess(pid=ME, used=30 * GIB))
    estimated, declared = in_the_way()
    ended, elsewhere = running(3, pid=OTHER, reservation=GIB), running(4, "GPU-9", pid=OTHER)
    assert not card.look([estimated, ended, elsewhere]), "nothing is in the way"
    assert not card.look([estimated, declared, elsewhere]), "its memory may be seen as in use"
    assert set(card.look([estimated, declared])) == {1}


def test_what_a_job_with_an_estimate_uses_counts_for_its_user(tmp_path: Path) -> None:
    counted = list[Claim]()

    def meter(claims: Iterable[Claim], _: object) -> Use:
        counted[:] = claims
        return NO_USE

    board = ReservationBoard(tmp_path, tmp_path / "one")
    gpus = Accelerators(Home(tmp_path / "one"), lambda: (), lambda: None, board=board, meter=meter)
    claims = [an_estimate(), running(2), running(3, reservation=None, exclusive=True)]
    gpus.others(claims)
    assert [claim.reservation for claim in counted] == [None, 8 * GIB, None]
    gpus.ledger.enter(Sight(gpus=(busy(6),), at=1.0), claims[:1])
    gpus.others(claims)
    assert [claim.reservation for claim in counted] == [6 * GIB, 8 * GIB, None]


def test_each_process_of_a_job_on_two_cards_counts_on_its_own_card(home: Home) -> None:
    claim = running(device="GPU-0,GPU-1", reservation=4 * GIB)
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
    assert ledger.taken.peak(claim) == 3 * GIB
    assert ledger.taken.others_usage(claim) == {"GPU-0": 7 * GIB, "GPU-1": 6 * GIB}


def test_where_the_driver_does_not_tell_each_card_has_its_own_word(home: Home) -> None:
    claim = running(device="GPU-0,GPU-1")
    by_card = {"GPU-0": 2 * GIB, "GPU-1": 3 * GIB, "GPU-9": GIB}
    reported(home, reserved=3 * GIB, peak=4 * GIB, cards=by_card)
    ledger = a_ledger(home, [claim], a_card(0, used=9), a_card(1, used=9))
    assert used(ledger, claim) == [{"GPU-0": 2 * GIB + CONTEXT, "GPU-1": 3 * GIB + CONTEXT}]
    assert ledger.taken.peak(claim) == 4 * GIB + CONTEXT


# --- what a home has used, decayed: counted while attempts run, and found again after a restart


DAY = HALF_LIFE_S


def an_attempt(store: Store, name: str, claimed: float, ended: float | None, **seat: object) -> int:
    """An attempt that ran for so long."""
    job = one(store, name, resources=Resources(cpus=2, device="cpu", ram=GIB))
    claim = seated(store, job, claimed, **seat)
    if ended is not None:
        end(store, claim, Done(at=ended), now=ended)
    return job


def a_meter(store: Store, clock: Clock, monotonic: Clock) -> UseMeter:
    return UseMeter(store.scheduling.past_use, clock, monotonic)


def test_what_runs_is_counted_by_what_it_has_reserved() -> None:
    clock, monotonic = Clock(), Clock()
    meter = UseMeter(lambda _since, _now: [], clock, monotonic)
    gpu = a_gpu(total=40)
    half = a_claim(device=gpu.uuid, cpus=3, reservation=20 * GIB, claimed=clock.now)
    whole = a_claim(job=2, device=f"{gpu.uuid},GPU-9", cpus=1, exclusive=True, claimed=clock.now)
    assert meter.read([half, whole], [gpu]).cards == 0
    monotonic.now += 100
    clock.now -= 1e6  # the clock is set: what is used is not counted by it
    use = meter.read([], [gpu])
    assert use.cards == pytest.approx(250, rel=1e-3)
    assert use.cores == pytest.approx(400, rel=1e-3)
    monotonic.now += DAY
    assert meter.read([], [gpu]).cards == pytest.approx(125, rel=1e-3)


def test_what_is_reserved_for_nothing_known_counts_as_an_eighth_of_a_card() -> None:
    clock, monotonic = Clock(), Clock()
    meter = UseMeter(lambda _since, _now: [], clock, monotonic)
    gpu = a_gpu(total=40)
    meter.read([a_claim(device=gpu.uuid, claimed=clock.now)], [gpu])
    monotonic.now += 80
    assert meter.read([], [gpu]).cards == pytest.approx(10, rel=1e-3)


def test_an_attempt_with_an_estimate_that_has_ended_counts_by_what_it_used(store: Store) -> None:
    gpu = a_gpu(total=40)
    job = one(store, "1", resources=Resources(cpus=1, device="cuda"))
    claim = seated(store, job, DAY - 200, device=gpu.uuid)
    ended = Done(at=DAY - 100)
    store.scheduling.finish(
        claim, ended, outputs={}, now=ended.at, measured=Measured(peak=20 * GIB)
    )
    use = a_meter(store, Clock(DAY), Clock()).read([], [gpu])
    assert use.cards == pytest.approx(50, rel=0.01)


def test_a_new_scheduler_finds_in_the_store_what_was_used(store: Store) -> None:
    now = 100 * DAY
    clock, monotonic = Clock(now), Clock(5.0)
    gpu = a_gpu(total=40)
    on_gpu = {"device": gpu.uuid, "cpus": 2, "reservation": 10 * GIB}
    an_attempt(store, "long", now - 1.5 * DAY, now - 0.5 * DAY, **on_gpu)
    for number in range(20):
        an_attempt(store, f"short-{number}", now - 600 - number, now - 500 - number)
    an_attempt(store, "old", now - MEMORY_S - DAY, now - MEMORY_S - 1)
    an_attempt(store, "odd", now + 5, now + 1)  # the clock was set meanwhile
    running = an_attempt(store, "running", now - 50, None, **on_gpu)

    use = a_meter(store, clock, monotonic).read(store.scheduling.claims(), [gpu])

    assert store.scheduling.claims()[0].job == running
    span_s = decayed_span(1.5 * DAY, 0.5 * DAY) + 50
    assert use.cards == pytest.approx(span_s / 4, rel=0.01)
    seconds = span_s + 20 * decayed_span(610, 510) / 2  # they had one core each
    assert use.cores == pytest.approx(2 * seconds, rel=0.01)
    assert use.memory == pytest.approx((span_s + 20 * decayed_span(610, 510)) * GIB, rel=0.01)


def test_the_sizes_of_cards_that_become_known_later_count_for_what_was_before(
    store: Store,
) -> None:
    clock, monotonic = Clock(DAY), Clock()
    gpu = a_gpu(total=40)
    an_attempt(store, "1", DAY - 200, DAY - 100, device=gpu.uuid, reservation=10 * GIB)
    meter = a_meter(store, clock, monotonic)
    assert meter.read([], []).cards == pytest.approx(100, rel=0.01)
    monotonic.now += 1
    assert meter.read([], [gpu]).cards == pytest.approx(25, rel=0.01)
    unknown = replace(gpu, total=0)
    assert meter.read([], [unknown]).cards == pytest.approx(25, rel=0.01)


@pytest.mark.parametrize("key", [json.dumps({"resources": {"ram": "all"}}), "no JSON", ""])
def test_records_that_cannot_be_read_use_no_memory(store: Store, key: str) -> None:
    job = an_attempt(store, "1", 100.0, 200.0)
    with store.writing():
        store.database.execute(
            "UPDATE lanes SET key = ? WHERE id = (SELECT lane FROM jobs WHERE id = ?)", (key, job)
        )
    use = a_meter(store, Clock(300.0), Clock()).read([], [])
    assert use.memory == 0.0
    assert use.cores == pytest.approx(100, rel=0.01)


def a_scheduler(home: Path, claims: Path) -> tuple[Accelerators, ReservationBoard]:
    """What a scheduler knows of GPUs, without any; and what it tells others."""
    board = ReservationBoard(claims, home)
    return Accelerators(Home(home), lambda: (), lambda: None, board=board), board


def test_who_is_woken_again_and_again_does_not_listen_for_a_moment(tmp_path: Path) -> None:
    gpus, _ = a_scheduler(tmp_path / "one", tmp_path)
    gpus.take_news()
    assert gpus.deaf_s <= 0
    began = time.monotonic()
    gpus.take_news()
    took_s = time.monotonic() - began
    assert gpus.deaf_s <= FLOOD_S / 2 + took_s
    assert took_s > FLOOD_S / 2 or gpus.deaf_s > -FLOOD_S
    until(lambda: gpus.deaf_s <= 0, "it listens again")


def test_a_scheduler_that_leaves_lets_the_other_homes_of_its_user_know_what_was_used(
    tmp_path: Path,
) -> None:
    gpus, board = a_scheduler(tmp_path / "one", tmp_path)
    _, other = a_scheduler(tmp_path / "other", tmp_path)
    board.wish = Wish(since=0.0, gpus=1)
    board.use_is(Use(cards=7200.0))
    gpus.leave([])
    other.others()
    assert other.whole_use().cards == pytest.approx(7200.0, rel=1e-3)
    assert other.colleagues() == ()
    board.use_is(Use(cards=1.0))
    gpus.leave([])
    assert not [*tmp_path.glob("launcher-claims.*")], "it is not worth a file"


def test_who_leaves_his_place_to_another_has_waited_all_the_same(tmp_path: Path) -> None:
    gpus, board = a_scheduler(tmp_path / "one", tmp_path)
    published = list[Wish | None]()
    wish = Wish(since=0.0, gpus=1)
    for asked, present in ((wish, {7}), (None, {7}), (wish, {7}), (None, set[int]()), (wish, {7})):
        gpus.waits_for(asked, 7 if asked else 0, present)
        published.append(board.wish)
    first, leaves, again, _, anew = published
    assert first is not None
    assert (leaves, again) == (None, first)
    assert anew is not None
    assert anew.since > first.since


# --- what attempts teach about sharing a GPU: looks are given, progress lies where workers write it


STRANGER = 999


def a_job(job: int, device: str = "GPU-0") -> Claim:
    return a_claim(a_spec(), job=job, device=device, reservation=GIB)


def owner(pid: int) -> int | None:
    """Job N has the process N."""
    return None if pid == STRANGER else pid


class Looks:
    """Looks at one card a second, with the steps of those that run."""

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
        """So many times let `seconds` pass, in which each process uses the card so much and its job makes steps."""
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
        self.times.enter(Sight(gpus=(card,), at=self.now), claims, owner)

    def of(self, job: int) -> Measured:
        return self.times.of(a_job(job))

    def load(self, job: int) -> Load:
        return self.times.load(a_job(job))


@pytest.fixture
def looks(home: Home) -> Looks:
    return Looks(home)


def test_an_attempt_that_had_its_card_to_itself_shared_it_for_no_time(looks: Looks) -> None:
    looks.look({1: 0.5}, times=6)
    assert looks.of(1) == Measured(shared_s=0.0, slowdown=None, sm=0.5)
    assert looks.of(2) == Measured()


def test_the_steps_alone_and_beside_another_say_how_much_slower_it_was(looks: Looks) -> None:
    looks.look({1: 0.9}, rates={1: 10.0}, times=11)
    looks.look({1: 0.5, 2: 0.5}, rates={1: 5.0, 2: 4.0}, times=11)
    known = looks.of(1)
    assert known.shared_s == pytest.approx(11.0)
    assert known.slowdown == pytest.approx(2.0)
    assert known.sm == pytest.approx(0.9)
    assert looks.of(2).slowdown is None  # it was never alone


def test_the_factor_of_several_others_is_divided_among_them(looks: Looks) -> None:
    looks.look({1: 0.9}, rates={1: 20.0}, times=11)
    looks.look({1: 0.3, 2: 0.3, 3: 0.3}, rates={1: 5.0}, times=11)
    assert looks.of(1).slowdown == pytest.approx(4.0)
    assert looks.of(1).others == pytest.approx(2.0)
    assert looks.load(1).slowdown == pytest.approx(2.0)


def test_the_mean_number_of_others_is_measured_without_steps_too(looks: Looks) -> None:
    looks.look({1: 0.1}, times=5)
    looks.look({1: 0.1, 2: 0.1, 3: 0.1, 4: 0.1}, times=10)
    looks.look({1: 0.1, 2: 0.1}, times=10)
    measured = looks.of(1)
    assert measured.slowdown is None
    assert measured.others == pytest.approx((11 * 3 + 9 * 1) / 20, abs=0.1)


def test_who_is_no_slower_beside_others_has_a_slowdown_of_one(looks: Looks) -> None:
    looks.look({1: 0.2}, rates={1: 10.0}, times=11)
    looks.look({1: 0.2, 2: 0.2}, rates={1: 11.0}, times=11)
    assert looks.of(1).slowdown == 1.0


def test_a_few_seconds_beside_another_teach_nothing(looks: Looks) -> None:
    looks.look({1: 0.9}, rates={1: 10.0}, times=11)
    looks.look({1: 0.5, 2: 0.5}, rates={1: 5.0}, times=3)
    assert looks.of(1).slowdown is None


def test_steps_that_begin_anew_and_clocks_that_jump_are_left_out(looks: Looks) -> None:
    looks.look({1: 0.9}, rates={1: 10.0}, times=11)
    looks.steps[1] = 0.0
    looks.look({1: 0.5, 2: 0.5}, rates={1: 5.0}, times=7)
    progress = looks.home.attempt(1, 1).progress
    with progress.open("a") as lines:
        lines.write('{"at": 1e12, "step": 36, "total": null, "metrics": {}}\n')
    looks.look({1: 0.5, 2: 0.5})
    assert looks.of(1).slowdown == pytest.approx(2.0)


def test_use_is_unknown_where_the_driver_does_not_tell_and_never_zero(looks: Looks) -> None:
    looks.look({1: None}, utilisation=0.0, times=6)
    assert looks.of(1).sm is None


def test_a_process_that_rests_between_its_bursts_is_counted_where_the_card_rests(
    looks: Looks,
) -> None:
    for _ in range(4):
        looks.look({1: 0.8})
        looks.look({1: None}, utilisation=0.0)
    looks.look({1: None})  # it goes on
    assert looks.of(1).sm == pytest.approx(0.4)


def test_a_look_between_a_programs_end_and_the_news_of_it_counts_for_nothing(looks: Looks) -> None:
    looks.look({1: 0.97}, times=5)
    looks.look({1: None}, utilisation=0.0)
    assert looks.of(1).sm == pytest.approx(0.97)


def test_use_beside_others_counts_while_the_card_is_not_full(looks: Looks) -> None:
    looks.look({1: 0.3, 2: 0.2}, times=6)
    assert looks.of(1).sm == pytest.approx(0.3)


def test_on_a_full_card_each_gets_less_than_alone_so_only_more_than_was_known_counts(
    looks: Looks,
) -> None:
    looks.look({1: 0.6}, times=6)
    looks.look({1: 0.4, 2: 0.6}, times=6)
    assert looks.load(1).sm == pytest.approx(0.6)
    assert looks.load(2).sm == pytest.approx(0.6), "it is at least so much"
    looks.look({1: 0.7, 2: 0.3}, times=30)
    assert looks.load(1).sm == pytest.approx(0.68, abs=0.02)
    assert looks.load(2).sm == pytest.approx(0.6)


# --- what a running attempt does to its GPUs lately


def test_a_load_is_known_after_less_than_a_second(looks: Looks) -> None:
    assert looks.load(1) == UNKNOWN_LOAD
    looks.look({1: 0.4})
    looks.look({1: 0.4}, seconds=LEAST_USE_S * 0.75)
    assert looks.load(1).sm is None
    looks.look({1: 0.4}, seconds=LEAST_USE_S / 2)
    assert looks.load(1) == Load(sm=0.4, measured=True)


def test_the_load_is_that_of_the_newest_looks_and_what_is_stored_the_mean(looks: Looks) -> None:
    looks.look({1: 0.9}, times=60)
    looks.look({1: 0.1}, times=60)
    assert looks.load(1).sm == pytest.approx(0.1, abs=0.05)
    assert looks.of(1).sm == pytest.approx(0.5, abs=0.02)


def test_a_load_tells_whether_steps_are_reported_and_how_much_slower_it_is_beside_others(
    looks: Looks,
) -> None:
    looks.look({1: 0.9}, rates={1: 10.0}, times=11)
    assert looks.load(1) == Load(sm=0.9, measured=True, steps=True)
    looks.look({1: 0.5, 2: 0.5}, rates={1: 5.0}, times=11)
    assert looks.load(1).slowdown == pytest.approx(2.0)
    assert not looks.load(2).steps


def test_a_process_that_the_driver_leaves_out_while_it_reports_others_did_nothing(
    looks: Looks,
) -> None:
    looks.look({1: 0.8, STRANGER: 0.1}, times=4)
    looks.look({1: None, STRANGER: 0.1}, times=4)
    assert looks.of(1).sm == pytest.approx(0.4)


def test_a_program_that_still_loads_has_no_load_instead_of_none(looks: Looks) -> None:
    looks.look({1: None, 2: 0.5}, times=9)
    assert looks.load(1).sm is None


def test_a_program_that_has_started_no_kernel_for_a_minute_does_nothing(looks: Looks) -> None:
    looks.look({1: None, 2: 0.5}, times=int(LOADING_S))
    assert looks.load(1).sm is None
    looks.look({1: None, 2: 0.5}, times=3)
    assert looks.load(1) == Load(sm=0.0, measured=True)


def test_a_successor_knows_the_load_of_an_attempt(looks: Looks) -> None:
    looks.look({1: 0.4}, times=9)
    successor = SharedTime(looks.home)
    successor.adopt((1, 1), json.loads(json.dumps(looks.times.record((1, 1)))), looks.now)
    assert successor.load(a_job(1)) == looks.load(1)
    assert successor.of(a_job(1)).shared_s is None, "it did not see how long it shared"
    assert successor.record((1, 1)) == pytest.approx(looks.times.record((1, 1)))
    assert looks.times.record((2, 1)) == {}


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
def test_a_load_that_cannot_be_true_is_not_taken_over(home: Home, record: dict[str, Json]) -> None:
    times = SharedTime(home)
    times.adopt((1, 1), record, 5.0)
    assert times.load(a_job(1)) == UNKNOWN_LOAD
    assert times.record((1, 1)) == {}


def test_a_stranger_that_works_on_the_card_is_company_and_one_that_rests_is_not(
    looks: Looks,
) -> None:
    looks.look({1: 0.5, STRANGER: 0.01}, times=6)
    assert looks.of(1).shared_s == 0.0
    looks.look({1: 0.5, STRANGER: 0.4})
    assert looks.of(1).shared_s == pytest.approx(1.0)


def test_of_an_attempt_that_was_adopted_it_is_unknown_how_long_it_shared(home: Home) -> None:
    times = SharedTime(home)
    for at in range(5):
        times.enter(Sight(gpus=(a_gpu(),), at=float(at)), [a_job(1)], owner)
    assert times.of(a_job(1)).shared_s is None


def test_a_gap_between_looks_teaches_nothing(looks: Looks) -> None:
    looks.look({1: 0.5})
    looks.look({1: 0.5}, seconds=GAP_S + 1)
    assert looks.of(1) == Measured()


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
def test_durations_alone_and_shared_say_how_much_slower_it_was_beside_others(
    seconds: float, shared_s: float | None, alone: list[float], slowdown: Any
) -> None:
    factor = slowdown_by_duration(seconds, shared_s, alone)
    assert factor == (None if slowdown is None else pytest.approx(slowdown))
