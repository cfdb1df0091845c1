import re
from collections import Counter
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given, settings

from launcher.gpu.snapshot import ForeignReservation, GpuSnapshot
from launcher.job import CPU
from launcher.scheduler.gpus.gpu_ledger import evacuated
from launcher.scheduler.policy.decide import Policy, decide
from launcher.scheduler.policy.inventory import refusal
from launcher.scheduler.policy.model import Machine, Running, Start, Wait, Waiting
from launcher.system.gpu_sharing import Rules
from tests.build import GIB, a_claim, a_gpu, a_waiting, as_read
from tests.launcher.cardworld import (
    LATE,
    after,
    earliest,
    machines,
    may_have,
    placed,
    places_of,
    queues,
    quiet,
    situations,
    taken,
    tight_situations,
)

KEPT = re.compile(
    r"would delay job (?P<job>\d+), which is first and gets (?P<where>.+?)( in about|$)"
)
Situation = tuple[list[Waiting], list[Running], Machine]
quickly = settings(max_examples=80, deadline=None)


def starts(situation: Situation) -> list[tuple[Waiting, Start]]:
    waiting, running, machine = situation
    decisions = decide(waiting, running, machine)
    return [
        (one, start)
        for one, start in zip(waiting, decisions, strict=True)
        if isinstance(start, Start)
    ]


def on_a_card(*uuids: str, job: int = 100, **changes: Any) -> Running:
    return Running(cpus=1, job=job, devices=uuids, **changes)


# --- what holds for every decision


@quickly
@given(situations())
def test_every_job_gets_one_decision_with_a_reason_in_its_turn(situation: Situation) -> None:
    waiting, running, machine = situation
    decisions = decide(waiting, running, machine)
    assert [one.job for one in decisions] == [one.job for one in waiting]
    assert all(one.reason for one in decisions)


@quickly
@given(situations())
def test_deciding_changes_nothing_and_comes_to_the_same_again(situation: Situation) -> None:
    waiting, running, machine = situation
    before = deepcopy((waiting, running, machine))
    first = decide(waiting, running, machine, 5.0)
    assert (waiting, running, machine) == before
    assert decide(waiting, running, machine, 5.0) == first


@quickly
@given(situations())
def test_no_more_cores_are_promised_than_there_are(situation: Situation) -> None:
    _, running, machine = situation
    new = [start.cpus for _, start in starts(situation)]
    assert sum(one.cpus for one in running) + sum(new) <= machine.cpus
    assert all(cpus >= 1 for cpus in new)


@quickly
@given(situations())
def test_no_more_main_memory_is_promised_than_there_is_and_none_that_is_in_use(
    situation: Situation,
) -> None:
    _, running, machine = situation
    new = sum(one.resources.ram or 0 for one, _ in starts(situation))
    assert new == 0 or new + sum(one.ram for one in running) <= machine.ram
    assert new <= machine.ram_free


@quickly
@given(situations())
def test_no_group_runs_more_jobs_than_its_limit(situation: Situation) -> None:
    _, running, machine = situation
    at_once = Counter(one.group for one in running)
    at_once += Counter(one.group for one, _ in starts(situation))
    assert all(at_once[group] <= limit for group, limit in machine.limits.items())


@quickly
@given(situations())
def test_no_card_is_promised_beyond_its_memory(situation: Situation) -> None:
    waiting, running, machine = situation
    decisions = decide(waiting, running, machine)
    used = {
        uuid for one in decisions if isinstance(one, Start) for uuid in one.devices
    }  # where nothing starts, others may have taken what was promised to ours
    whole = after(waiting, decisions, running, machine)
    for gpu in machine.gpus:
        if gpu.uuid in used and all(
            one.reservation is not None for one in whole if gpu.uuid in one.devices
        ):
            assert taken(gpu, whole, machine) <= gpu.total


@quickly
@given(situations())
def test_no_card_runs_more_of_ours_than_the_rules_say_and_none_beside_one_that_shares_with_nobody(
    situation: Situation,
) -> None:
    waiting, running, machine = situation
    decisions = decide(waiting, running, machine)
    whole = after(waiting, decisions, running, machine)
    most = machine.rules.max_per_gpu
    for gpu in machine.gpus:
        ours = [one for one in whole if gpu.uuid in one.devices]
        assert most is None or len(ours) <= most
        assert len(ours) <= 1 or not any(one.exclusive for one in ours)


@quickly
@given(situations())
def test_a_job_gets_the_cards_that_it_may_have_all_of_them_or_none(situation: Situation) -> None:
    _, running, machine = situation
    gpus = {gpu.uuid: gpu for gpu in machine.gpus}
    for one, start in starts(situation):
        if not start.devices:
            assert one.resources.device in {"auto", "cpu"}
            continue
        assert one.resources.device != CPU
        assert len(set(start.devices)) == len(start.devices) == one.resources.gpus
        assert set(start.devices) <= {gpu.uuid for gpu in may_have(one, machine)}
        assert start.reservation == one.vram_request
        assert start.exclusive == one.exclusive
        if one.exclusive:
            assert all(quiet(gpus[uuid], running, machine) for uuid in start.devices)


@settings(max_examples=100, deadline=None)
@given(situations())
def test_no_card_stays_idle_while_a_job_fits_unless_the_first_would_wait_longer(
    situation: Situation,
) -> None:
    _check_that_nothing_is_idle(*situation)


@settings(max_examples=150, deadline=None)
@given(tight_situations())
def test_nothing_stays_idle_where_everything_is_scarce(situation: Situation) -> None:
    _check_that_nothing_is_idle(*situation)


def _check_that_nothing_is_idle(
    waiting: list[Waiting], running: list[Running], machine: Machine
) -> None:
    asked = {one.job: one for one in waiting}
    decisions = decide(waiting, running, machine)
    whole = after(waiting, decisions, running, machine)
    new_ram = sum(one.ram for one in whole) - sum(one.ram for one in running)
    then = machine._replace(ram_free=machine.ram_free - new_ram)
    for one in decisions:
        places = [] if isinstance(one, Start) else places_of(asked[one.job], whole, then)
        if not places:
            continue
        kept = KEPT.match(one.reason)
        assert kept, f"fits on {places}, and is told: {one.reason}"
        first, labels = asked[int(kept["job"])], kept["where"].split(", ")
        devices = tuple(gpu.uuid for gpu in machine.gpus if gpu.label in labels)
        if first.group and asked[one.job].group == first.group:
            continue  # a later test tells when one of the same group may pass
        at = earliest(first, devices, whole, then)
        for place in places:
            there = placed(asked[one.job], place, machine, 0.0)
            if at >= LATE:  # nobody knows when: what came last is not known to end before
                there = there._replace(ends=None)
            beside = then._replace(ram_free=then.ram_free - there.ram)
            assert earliest(first, devices, [*whole, there], beside) > at, one.reason


@quickly
@given(queues(), machines(sound=True))
def test_an_empty_machine_starts_the_first_job_that_it_can_ever_hold(
    waiting: list[Waiting], machine: Machine
) -> None:
    able = [one for one in waiting if places_of(one, [], machine)]
    if able:
        (decision,) = decide(able[:1], [], machine)
        assert isinstance(decision, Start)


@quickly
@given(queues(), machines())
def test_what_can_never_fit_does_not_fit_an_empty_machine(
    waiting: list[Waiting], machine: Machine
) -> None:
    for one in waiting:
        if never := refusal(one, machine):
            assert not places_of(one, [], machine)
            (wait,) = decide([one], [], machine)
            assert as_read(wait) == Wait(job=one.job, reason=never.text)


# --- cores, main memory, groups


def test_a_job_that_asks_for_more_cores_than_there_are_gets_all_of_them() -> None:
    (start,) = decide([a_waiting(1, cpus=64)], [], Machine(cpus=4))
    assert start == Start(job=1, devices=(), cpus=4, reason="on the CPU with 4 cores")


def test_a_job_behind_one_that_waits_for_cores_says_whom_it_would_delay() -> None:
    waiting = [a_waiting(1, cpus=4), a_waiting(2, cpus=1)]
    assert [*map(as_read, decide(waiting, [Running(cpus=3, job=9)], Machine(cpus=4)))] == [
        Wait(job=1, reason="needs 4 cores, 1 of 4 free"),
        Wait(job=2, reason="would delay job 1, which is first and gets 4 cores"),
    ]


def test_room_that_is_nearly_there_is_announced_within_a_second() -> None:
    running = [Running(cpus=3, job=9, ends=1000.3)]
    (wait,) = decide([a_waiting(1, cpus=4)], running, Machine(cpus=4), 1000.0)
    assert as_read(wait) == Wait(
        job=1, reason="needs 4 cores, 1 of 4 free; there will be room on 4 cores within a second"
    )


def test_a_short_job_passes_one_that_waits_for_cores_when_it_ends_in_time() -> None:
    running = [Running(cpus=3, job=9, ends=1060.0)]
    waiting = [
        a_waiting(1, cpus=4),
        a_waiting(2, seconds=61.0),
        a_waiting(3, seconds=60.0),
    ]
    first, slow, quick = decide(waiting, running, Machine(cpus=4), 1000.0)
    assert as_read(first) == Wait(
        job=1, reason="needs 4 cores, 1 of 4 free; there will be room on 4 cores in about 1 m"
    )
    assert as_read(slow) == Wait(
        job=2, reason="would delay job 1, which is first and gets 4 cores in about 1 m"
    )
    assert isinstance(quick, Start)


def test_nobody_takes_the_cores_bit_by_bit_that_the_first_job_waits_for() -> None:
    # one by one the old jobs end, of which nobody knew when; each time a small one would fit
    running = [Running(cpus=2, job=8), Running(cpus=2, job=9)]
    machine = Machine(cpus=4)
    first = a_waiting(1, cpus=3)
    for _ in range(3):
        (small,) = decide([first, a_waiting(2)], running[1:], machine)[1:]
        if isinstance(small, Start):
            running = [*running, Running(cpus=1, job=2)]
    waiting, running = [first, a_waiting(3)], running[2:]
    assert isinstance(decide(waiting, running, machine)[0], Start)


def test_a_job_that_waits_for_main_memory_has_its_share_kept_and_lets_others_pass() -> None:
    machine = Machine(cpus=5, ram=8 * GIB, ram_free=6 * GIB)
    running = [Running(cpus=1, ram=2 * GIB)]
    waiting = [
        a_waiting(1, cpus=2, ram=7 * GIB),
        a_waiting(2, cpus=2),
        a_waiting(3, ram=1 * GIB),
        a_waiting(4, ram=1),
        a_waiting(5, cpus=2),
    ]
    first, second, third, fourth, fifth = decide(waiting, running, machine)
    assert as_read(first) == Wait(
        job=1, reason="needs 7 GiB of memory, 6 GiB are not promised to others"
    )
    assert isinstance(second, Start)
    assert isinstance(third, Start), "there is room for both"
    assert as_read(fourth) == Wait(
        job=4, reason="would delay job 1, which is first and gets 2 cores"
    )
    assert as_read(fifth) == Wait(job=5, reason="needs 2 cores, 1 of 5 free")


def test_nothing_is_kept_for_a_job_that_waits_for_main_memory_which_others_use() -> None:
    machine = Machine(cpus=2, ram=8 * GIB, ram_free=6 * GIB, gpus=(a_gpu(),))
    wish: dict[str, Any] = {"cpus": 2, "ram": 8 * GIB}
    told = "needs 8 GiB of memory, 6 GiB are not in use"
    wait, start = decide([a_waiting(1, **wish), a_waiting(2)], [], machine)
    assert as_read(wait) == Wait(job=1, reason=told)
    assert isinstance(start, Start)
    wait, start = decide(
        [a_waiting(1, device="cuda", **wish), a_waiting(2, device="cuda")], [], machine
    )
    assert as_read(wait) == Wait(job=1, reason=told)
    assert isinstance(start, Start)


def test_a_job_that_the_machine_can_never_hold_is_in_nobodys_way() -> None:
    machine = Machine(cpus=1, ram=8 * GIB, ram_free=8 * GIB)
    hopeless, other = decide([a_waiting(1, ram=9 * GIB), a_waiting(2)], [], machine)
    assert as_read(hopeless) == Wait(job=1, reason="needs 9 GiB of memory, this machine has 8 GiB")
    assert isinstance(other, Start)


def test_a_full_group_says_so_and_is_in_nobodys_way() -> None:
    running = [Running(cpus=1, group="downloads")]
    waiting = [a_waiting(1, group="downloads"), a_waiting(2)]
    full, other = decide(waiting, running, Machine(cpus=2, limits={"downloads": 1}))
    assert as_read(full) == Wait(job=1, reason="group 'downloads' runs 1 of at most 1")
    assert isinstance(other, Start)


def test_the_last_place_in_the_group_of_the_first_job_is_kept_too() -> None:
    machine = Machine(cpus=4, gpus=(a_gpu(),), limits={"wide": 2})
    running = [on_a_card("GPU-0", exclusive=True, ends=60.0)]
    waiting = [
        a_waiting(1, group="wide", device="cuda"),
        a_waiting(2, group="wide", device="cpu"),
        a_waiting(3, group="wide", device="cpu", seconds=1.0),
        a_waiting(4, device="cpu"),
    ]
    first, second, third, other = decide(waiting, running, machine)
    assert isinstance(first, Wait)
    assert isinstance(second, Start), "there is a place for both"
    assert as_read(third) == Wait(
        job=3, reason="would delay job 1, which is first and gets cuda:0 in about 1 m"
    ), "with the group full, the first would lose its place on the card"
    assert isinstance(other, Start)


# --- GPUs


def test_where_there_is_no_gpu_a_job_that_would_like_one_runs_on_the_cpu() -> None:
    (start,) = decide([a_waiting(1, accelerated=True)], [], Machine(cpus=2))
    assert isinstance(start, Start)
    assert start.devices == ()


def test_a_job_that_would_like_a_gpu_and_may_see_none_runs_on_the_cpu() -> None:
    machine = Machine(cpus=2, gpus=(a_gpu(),))
    (start,) = decide([a_waiting(1, accelerated=True, visible=())], [], machine)
    assert isinstance(start, Start)
    assert start.devices == ()


def test_jobs_of_which_nobody_knows_what_they_take_get_a_card_each() -> None:
    machine = Machine(cpus=4, gpus=(a_gpu(0), a_gpu(1)))
    decisions = decide([a_waiting(job, accelerated=True) for job in (1, 2, 3)], [], machine)
    assert [getattr(one, "devices", None) for one in decisions] == [("GPU-0",), ("GPU-1",), None]
    assert decisions[2].reason == (
        "needs a GPU that it shares with no other job; cuda:0 runs job 1; cuda:1 runs job 2"
    )


def test_jobs_share_a_card_as_far_as_their_claims_fit() -> None:
    machine = Machine(cpus=8, gpus=(a_gpu(total=24),))
    decisions = decide([a_waiting(job, min_vram=10 * GIB) for job in (1, 2, 3)], [], machine)
    assert [getattr(one, "devices", None) for one in decisions] == [("GPU-0",), ("GPU-0",), None]
    assert decisions[2].reason == (
        "needs 10 GiB; cuda:0 has 24 GiB free, 20 GiB of it promised to jobs 1, 2"
    )


def test_the_emptiest_card_comes_first_of_those_the_smallest() -> None:
    machine = Machine(cpus=8, gpus=(a_gpu(0, total=40), a_gpu(1, total=12), a_gpu(2, total=24)))
    decisions = decide([a_waiting(job, min_vram=11 * GIB) for job in (1, 2, 3, 4)], [], machine)
    assert [getattr(one, "devices", ()) for one in decisions] == [
        ("GPU-1",),
        ("GPU-2",),
        ("GPU-0",),
        ("GPU-2",),
    ]


def test_what_a_job_takes_beyond_its_promise_counts() -> None:
    machine = Machine(cpus=4, gpus=(a_gpu(total=24, used=14),))
    running = [on_a_card("GPU-0", job=7, reservation=8 * GIB, used={"GPU-0": 14 * GIB})]
    (wait,) = decide([a_waiting(1, min_vram=11 * GIB)], running, machine)
    assert as_read(wait) == Wait(job=1, reason="needs 11 GiB; cuda:0 has 10 GiB free")


def test_several_gpus_are_had_together_or_not_at_all() -> None:
    machine = Machine(cpus=4, gpus=(a_gpu(0), a_gpu(1), a_gpu(2)))
    running = [on_a_card("GPU-1", job=7, reservation=30 * GIB)]
    two, three = decide(
        [
            a_waiting(1, gpus=2, min_vram=20 * GIB),
            a_waiting(2, gpus=3, min_vram=20 * GIB),
        ],
        running,
        machine,
    )
    assert isinstance(two, Start)
    assert two.devices == ("GPU-0", "GPU-2")
    assert two.reason == "on cuda:0, cuda:2: gets 20 GiB of 40 GiB free"
    assert three.reason == (
        "needs 3 GPUs with 20 GiB each; cuda:0 has 40 GiB free, 20 GiB of it promised to job 1; "
        "cuda:1 has 40 GiB free, 30 GiB of it promised to job 7; "
        "cuda:2 has 40 GiB free, 20 GiB of it promised to job 1"
    )


def test_a_job_on_several_gpus_never_gets_an_instance_of_a_divided_card() -> None:
    gpus = (a_gpu(0), a_gpu(1, mig=0, uuid="MIG-a"), a_gpu(1, mig=1, uuid="MIG-b"))
    machine = Machine(cpus=4, gpus=gpus)
    (wait,) = decide([a_waiting(1, gpus=2, min_vram=GIB)], [], machine)
    assert as_read(wait) == Wait(
        job=1, reason="needs 2 GPUs, and this machine has 1 that are not divided"
    )
    (start,) = decide([a_waiting(1, device="cuda:1:1", min_vram=GIB)], [], machine)
    assert isinstance(start, Start)
    assert start.devices == ("MIG-b",)


def test_an_exclusive_job_gets_a_card_for_itself_and_keeps_others_away() -> None:
    machine = Machine(cpus=4, gpus=(a_gpu(0),))
    alone, other = decide(
        [a_waiting(1, min_vram=4 * GIB, exclusive=True), a_waiting(2, min_vram=GIB)], [], machine
    )
    assert isinstance(alone, Start)
    assert alone.exclusive
    assert as_read(other) == Wait(job=2, reason="needs 1 GiB; cuda:0 runs job 1 alone")
    (late,) = decide(
        [a_waiting(1, min_vram=4 * GIB, exclusive=True)],
        [on_a_card("GPU-0", job=7, reservation=GIB)],
        machine,
    )
    assert late.reason == "needs 4 GiB on a GPU of its own; cuda:0 runs job 7"


def test_a_card_on_which_others_have_a_job_is_not_shared_by_an_exclusive_one() -> None:
    gpus = (a_gpu(0), a_gpu(1))
    alone = a_waiting(1, min_vram=GIB, exclusive=True)
    # all that its job was promised is in use, and little: only that it is there is told
    theirs = (ForeignReservation(user="bob", device="jobs:GPU-0", amount=2),)
    (start,) = decide([alone], [], Machine(cpus=4, gpus=gpus, foreign=theirs))
    assert isinstance(start, Start)
    assert start.devices == ("GPU-1",)
    (wait,) = decide([alone], [], Machine(cpus=4, gpus=gpus[:1], foreign=theirs))
    assert wait.reason == "needs 1 GiB on a GPU of its own; cuda:0 has jobs of bob"
    # a launcher that does not tell how many jobs it has there tells what it promised them
    older = (ForeignReservation(user="eve", device="GPU-0", amount=GIB),)
    (wait,) = decide([alone], [], Machine(cpus=4, gpus=gpus[:1], foreign=older))
    assert wait.reason == "needs 1 GiB on a GPU of its own; cuda:0 has jobs of eve"
    (beside,) = decide([a_waiting(2, min_vram=GIB)], [], Machine(cpus=4, gpus=gpus, foreign=theirs))
    assert isinstance(beside, Start)


def test_nothing_starts_on_a_card_that_another_launcher_shares_with_nobody() -> None:
    theirs = (ForeignReservation(user="bob", device="alone:GPU-0", amount=1),)
    machine = Machine(cpus=4, gpus=(a_gpu(0),), foreign=theirs)
    for job in (a_waiting(1, min_vram=GIB), a_waiting(1, gpus=1, device="cuda")):
        (wait,) = decide([job], [], machine)
        assert "cuda:0 is promised to bob, who shares it with nobody" in wait.reason
        assert refusal(job, machine) is None


def test_cores_and_memory_that_other_homes_have_promised_are_not_given_away() -> None:
    theirs = (
        ForeignReservation(user="another home of ann", device="cores:ff", amount=3),
        ForeignReservation(user="bob", device="cores:f0", amount=4),
        ForeignReservation(user="bob", device="memory", amount=6 * GIB),
    )
    machine = Machine(cpus=8, cores=0xFF, ram=8 * GIB, ram_free=8 * GIB, foreign=theirs)
    start, cores, memory = decide(
        [a_waiting(1), a_waiting(2), a_waiting(3, ram=3 * GIB)], [], machine
    )
    assert isinstance(start, Start)
    assert as_read(cores) == Wait(
        job=2,
        reason="needs 1 core, 0 of 8 free; "
        "7 of 8 cores are promised to jobs of another home of ann, bob",
    )
    assert "0 of 8 free" in memory.reason
    (memory,) = decide([a_waiting(3, ram=3 * GIB)], [], machine)
    assert memory.reason == (
        "needs 3 GiB of memory, 2 GiB are not promised to others; 6 GiB are promised to jobs of bob"
    )
    # cores that we may not use are none of our business
    (start,) = decide([a_waiting(1, cpus=4)], [], machine._replace(cpus=4, cores=0xF00))
    assert isinstance(start, Start)


def test_more_of_ours_than_the_rules_say_are_never_on_a_card() -> None:
    machine = Machine(cpus=4, gpus=(a_gpu(),), rules=Rules(max_per_gpu=2))
    decisions = decide([a_waiting(job, min_vram=GIB) for job in (1, 2, 3)], [], machine)
    assert as_read(decisions[2]) == Wait(
        job=3, reason="needs 1 GiB; cuda:0 runs jobs 1, 2, at most 2 at once"
    )


@pytest.mark.parametrize(
    ("visible", "chosen"),
    [
        (("1",), "GPU-bee"),
        (("GPU-b",), "GPU-bee"),
        (("GPU-cat", "0"), "GPU-cat"),
        (("2", "-1", "0"), "GPU-cat"),
        (("-1",), ""),
        (("NoDevFiles",), ""),
        ((), ""),
        (("7", "1"), "GPU-bee"),
    ],
)
def test_a_job_gets_only_a_card_that_its_owner_lets_it_see(
    visible: tuple[str, ...], chosen: str
) -> None:
    gpus = tuple(
        a_gpu(at, uuid=f"GPU-{name}", used=at) for at, name in enumerate(("ant", "bee", "cat"))
    )
    busy = [on_a_card("GPU-ant", job=7, exclusive=True)]
    machine = Machine(cpus=4, gpus=gpus)
    waiting = a_waiting(1, device="cuda", min_vram=GIB, visible=visible)
    (decision,) = decide([waiting], busy, machine)
    if chosen:
        assert isinstance(decision, Start)
        assert decision.devices == (chosen,)
    else:
        assert decision.reason == (
            f"needs a GPU, and CUDA_VISIBLE_DEVICES={','.join(visible)}, with which it was queued, "
            "shows none"
        )


@pytest.mark.parametrize(
    ("gpus", "wish", "reason"),
    [
        (
            (a_gpu(used=None),),
            {"device": "cuda:0"},
            "needs a GPU that it shares with no other job; cuda:0 does not say how much memory is used",
        ),
        (
            (a_gpu(fault="fell off the bus"),),
            {"min_vram": GIB},
            "needs 1 GiB; cuda:0 fell off the bus",
        ),
        (
            (a_gpu(),),
            {"device": "cuda:3"},
            "needs cuda:3, and this machine has no such GPU, but cuda:0",
        ),
        (
            (a_gpu(),),
            {"device": "cuda:0", "gpus": 2},
            "needs 2 GPUs, and that is one",
        ),
        (
            (a_gpu(used=38),),
            {"min_vram": 4 * GIB},
            "needs 4 GiB; cuda:0 has 2 GiB free",
        ),
        (
            (a_gpu(used=8),),
            {"accelerated": True},
            "needs a GPU that it shares with no other job; cuda:0 has 8 GiB in use by others",
        ),
        ((), {"device": "cuda:0"}, "needs a GPU, and this machine has none"),
        (
            (a_gpu(total=24),),
            {"min_vram": 25 * GIB},
            "needs 25 GiB, and can never fit: cuda:0 has 24 GiB for it",
        ),
        (
            (a_gpu(0, total=24), a_gpu(1, total=40)),
            {"min_vram": 30 * GIB, "gpus": 2},
            "needs 30 GiB on each of 2 GPUs, and can never fit: 1 of its 2 GPUs has so much",
        ),
        (
            tuple(a_gpu(at, total=4 + at, used=3) for at in range(6)),
            {"min_vram": 7 * GIB},
            "needs 7 GiB; cuda:3 has 4 GiB free; cuda:4 has 5 GiB free; cuda:5 has 6 GiB free; and 3 more",
        ),
    ],
)
def test_a_job_that_waits_for_a_gpu_says_what_is_in_its_way(
    gpus: tuple[GpuSnapshot, ...], wish: dict[str, Any], reason: str
) -> None:
    wait, other = decide([a_waiting(1, **wish), a_waiting(2)], [], Machine(cpus=2, gpus=gpus))
    assert as_read(wait) == Wait(job=1, reason=reason)
    assert isinstance(other, Start)


def test_the_reason_counts_all_that_is_promised_and_names_to_whom() -> None:
    machine = Machine(
        cpus=4,
        gpus=(a_gpu(total=24, used=9),),
        rules=Rules(reserve=2 * GIB, max_per_gpu=9),
        foreign=(
            ForeignReservation(user="ada", device="GPU-0", amount=3 * GIB),
            ForeignReservation(user="bob", device="GPU-0", amount=1 * GIB),
            ForeignReservation(user="ada", device="GPU-0", amount=1 * GIB),
            ForeignReservation(user="ada", device="GPU-1", amount=9 * GIB),
        ),
    )
    running = [
        on_a_card("GPU-0", job=7, reservation=5 * GIB, used={"GPU-0": 4 * GIB}),
        on_a_card("GPU-0", job=8, reservation=2 * GIB, used={"GPU-0": 3 * GIB}),
        on_a_card("GPU-0", job=9, reservation=4 * GIB),
    ]
    # 24 - 2 of others - (5 + 3 + 4) of ours - 5 promised - 2 kept
    (wait,) = decide([a_waiting(1, min_vram=4 * GIB)], running, machine)
    assert wait.reason == (
        "needs 4 GiB; cuda:0 has 15 GiB free, 5 GiB of it promised to jobs 7, 9, "
        "4 GiB of it promised to ada, 1 GiB of it promised to bob, 2 GiB kept for others"
    )
    (start,) = decide([a_waiting(1, min_vram=3 * GIB)], running, machine)
    assert start.reason == "on cuda:0: gets 3 GiB of 3 GiB free"


def test_the_reserve_is_left_to_others_and_is_told_where_a_job_can_never_fit() -> None:
    machine = Machine(cpus=4, gpus=(a_gpu(total=24),), rules=Rules(reserve=4 * GIB))
    fits, hopeless = decide(
        [a_waiting(1, min_vram=20 * GIB), a_waiting(2, min_vram=21 * GIB)], [], machine
    )
    assert isinstance(fits, Start)
    assert hopeless.reason == (
        "needs 21 GiB, and can never fit: cuda:0 has 20 GiB for it, 4 GiB are kept for others"
    )


def test_a_card_is_taken_only_after_others_left_it_alone_for_a_while() -> None:
    rules = Rules(idle_s=600)
    machine = Machine(cpus=4, gpus=(a_gpu(),), rules=rules, idle={"GPU-0": 120.0})
    (wait,) = decide([a_waiting(1, min_vram=GIB)], [], machine)
    assert wait.reason == (
        "needs 1 GiB; cuda:0 is known to be unused by others for 2 m, and is taken after 10 m"
    )
    idle = Machine(cpus=4, gpus=(a_gpu(),), rules=rules, idle={"GPU-0": 600.0})
    assert isinstance(decide([a_waiting(1, min_vram=GIB)], [], idle)[0], Start)


def test_a_card_that_the_owner_of_the_queue_keeps_back_is_never_taken() -> None:
    machine = Machine(cpus=4, gpus=(a_gpu(0), a_gpu(1)), rules=Rules(devices=("1",)))
    first, second = decide([a_waiting(job, accelerated=True) for job in (1, 2)], [], machine)
    assert isinstance(first, Start)
    assert first.devices == ("GPU-1",)
    assert "cuda:0 is not among the devices of config.toml" in second.reason


def test_jobs_of_a_card_that_failed_are_moved() -> None:
    gpus = (a_gpu(0, fault="fell off the bus"), a_gpu(1))
    devices = {1: "GPU-1", 2: "GPU-1,GPU-0", 3: "cpu"}
    claims = [a_claim(job=job, device=device) for job, device in devices.items()]
    assert evacuated(claims, gpus) == {2: "cuda:0 fell off the bus"}


# --- the first job that waits


def test_a_job_passes_the_first_one_only_where_that_is_not_delayed() -> None:
    machine = Machine(cpus=8, gpus=(a_gpu(total=24),), rules=Rules(max_per_gpu=9))
    running = [on_a_card("GPU-0", job=7, reservation=12 * GIB, ends=1060.0)]
    waiting = [
        a_waiting(1, min_vram=16 * GIB),
        a_waiting(2, min_vram=9 * GIB),  # nobody knows how long
        a_waiting(3, min_vram=9 * GIB, seconds=61.0),
        a_waiting(4, min_vram=3 * GIB),  # beside both
        a_waiting(5, min_vram=9 * GIB, seconds=60.0),
    ]
    first, *others = decide(waiting, running, machine, 1000.0)
    assert first.reason == (
        "needs 16 GiB; cuda:0 has 24 GiB free, 12 GiB of it promised to job 7; "
        "there will be room on cuda:0 in about 1 m"
    )
    told = "would delay job 1, which is first and gets cuda:0 in about 1 m"
    assert as_read(others[0]) == Wait(job=2, reason=told)
    assert as_read(others[1]) == Wait(job=3, reason=told)
    assert [isinstance(one, Start) for one in others[2:]] == [True, True]


def test_where_nobody_knows_when_the_place_is_free_only_what_fits_beside_passes() -> None:
    machine = Machine(cpus=8, gpus=(a_gpu(total=24),))
    running = [on_a_card("GPU-0", job=7, reservation=12 * GIB)]
    waiting = [
        a_waiting(1, min_vram=16 * GIB),
        a_waiting(2, min_vram=9 * GIB, seconds=1.0),
        a_waiting(3, min_vram=8 * GIB),
    ]
    _, short, beside = decide(waiting, running, machine)
    assert as_read(short) == Wait(job=2, reason="would delay job 1, which is first and gets cuda:0")
    assert isinstance(beside, Start)


def test_the_last_place_on_the_card_of_the_first_job_is_kept() -> None:
    machine = Machine(cpus=4, gpus=(a_gpu(total=24),), rules=Rules(max_per_gpu=2))
    running = [on_a_card("GPU-0", job=7, reservation=GIB), Running(job=8, cpus=2, ends=60.0)]
    waiting = [a_waiting(1, cpus=3, min_vram=GIB), a_waiting(2, min_vram=GIB)]
    told = "would delay job 1, which is first and gets cuda:0 in about 1 m"
    assert as_read(decide(waiting, running, machine)[1]) == Wait(job=2, reason=told)
    roomy = machine._replace(cpus=5, rules=Rules(max_per_gpu=3))
    assert isinstance(decide(waiting, running, roomy)[1], Start)


def test_main_memory_is_kept_for_the_first_job_too() -> None:
    machine = Machine(cpus=8, ram=16 * GIB, ram_free=10 * GIB)
    running = [Running(job=7, cpus=1, ram=6 * GIB, ends=60.0)]
    waiting = [
        a_waiting(1, ram=12 * GIB),
        a_waiting(2, ram=5 * GIB),
        a_waiting(3, ram=5 * GIB, seconds=60.0),
        a_waiting(4, ram=4 * GIB),
    ]
    first, second, third, fourth = decide(waiting, running, machine)
    assert first.reason.startswith("needs 12 GiB of memory, 10 GiB are")
    assert second.reason == "would delay job 1, which is first and gets 1 core in about 1 m"
    assert isinstance(third, Start)
    assert isinstance(fourth, Start)


def test_another_card_is_taken_so_that_the_first_job_keeps_its_place() -> None:
    gpus = (a_gpu(0, total=24), a_gpu(1, total=24))
    machine = Machine(cpus=8, gpus=gpus, rules=Rules(max_per_gpu=9))
    running = [
        on_a_card("GPU-0", job=7, reservation=12 * GIB, ends=60.0),
        on_a_card("GPU-1", job=8, reservation=10 * GIB, ends=90.0),
        on_a_card("GPU-1", job=9, reservation=1 * GIB, ends=90.0),
    ]
    waiting = [a_waiting(1, min_vram=20 * GIB), a_waiting(2, min_vram=6 * GIB)]
    _, start = decide(waiting, running, machine)
    assert isinstance(start, Start)
    assert start.devices == ("GPU-1",)


def test_a_policy_without_running_jobs_sees_the_machine_itself() -> None:
    machine = Machine(cpus=2, gpus=(a_gpu(),))
    policy = Policy(machine)
    waiting = [a_waiting(1, min_vram=GIB)]
    assert policy.decide(waiting, 0.0) == decide(waiting, [], machine)
