import re
from collections import Counter
from collections.abc import Sequence
from copy import deepcopy
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings

from launcher.queue.gpu.resources import ForeignReservation
from launcher.queue.gpu.snapshot import GpuSnapshot
from launcher.queue.jobs.job import CPU
from launcher.queue.scheduler.gpus.eviction import Eviction, jobs_on_failed_gpus
from launcher.queue.scheduler.policy.decide import MachineScheduler, decide
from launcher.queue.scheduler.policy.inventory import permanent_refusal
from launcher.queue.scheduler.policy.model import Machine, Running, Start, Wait, Waiting
from launcher.system.gpu_sharing import SharingRules
from tests.build import GIB, a_claim, a_gpu, a_waiting, without_reason_data
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
    r"waiting for job (?P<job>\d+), which is first and will get (?P<where>.+?)( in about|$)"
)
Situation = tuple[list[Waiting], list[Running], Machine]
quickly = settings(max_examples=80, deadline=None)


def on_a_card(*uuids: str, job: int = 100, **changes: Any) -> Running:
    return Running(cpus=1, job=job, devices=uuids, **changes)


# --- what holds for every decision


@settings(max_examples=400, deadline=None)
@given(situations())
def test_every_job_has_one_decision_and_nothing_is_reserved_twice(situation: Situation) -> None:
    waiting, running, machine = situation
    before = deepcopy(situation)
    decisions = decide(waiting, running, machine)
    assert situation == before
    assert decide(waiting, running, machine) == decisions
    assert [each.job for each in decisions] == [each.job for each in waiting]
    assert all(each.reason for each in decisions)
    new = [
        (job, start)
        for job, start in zip(waiting, decisions, strict=True)
        if isinstance(start, Start)
    ]
    # cores, main memory, and none that is in use
    assert sum(each.cpus for each in running) + sum(start.cpus for _, start in new) <= machine.cpus
    assert all(start.cpus >= 1 for _, start in new)
    ram = sum(job.resources.ram or 0 for job, _ in new)
    assert ram == 0 or ram + sum(each.ram for each in running) <= machine.ram
    assert ram <= machine.ram_free
    at_once = Counter(each.group for each in running) + Counter(job.group for job, _ in new)
    assert all(at_once[group] <= limit for group, limit in machine.limits.items())
    # if no job starts on a GPU, other users may have allocated memory reserved for ours
    fresh = {uuid for _, start in new for uuid in start.devices}
    whole = after(waiting, decisions, running, machine)
    for gpu in machine.gpus:
        ours = [each for each in whole if gpu.uuid in each.devices]
        if gpu.uuid in fresh and all(each.vram is not None for each in ours):
            assert taken(gpu, whole, machine) <= gpu.total
        assert len(ours) <= (machine.rules.max_per_gpu or len(ours))
        assert len(ours) <= 1 or not any(each.exclusive for each in ours)
    for job, start in new:
        _check_permitted_devices(job, start, running, machine)


def _check_permitted_devices(
    job: Waiting, start: Start, running: list[Running], machine: Machine
) -> None:
    """Check its GPUs: all of them or none."""
    gpus = {gpu.uuid: gpu for gpu in machine.gpus}
    if not start.devices:
        assert job.resources.device in {"auto", "cpu"}
        return
    assert job.resources.device != CPU
    assert len(set(start.devices)) == len(start.devices) == job.resources.gpus
    assert set(start.devices) <= {gpu.uuid for gpu in may_have(job, machine)}
    assert (start.vram, start.exclusive) == (job.vram, job.exclusive)
    if job.exclusive:
        assert all(quiet(gpus[uuid], running, machine) for uuid in start.devices)


@settings(max_examples=100, deadline=None)
@given(situations())
def test_no_gpu_is_idle_while_a_job_fits_unless_the_first_would_wait_longer(
    situation: Situation,
) -> None:
    _check_that_nothing_is_idle(*situation)


@settings(max_examples=150, deadline=None)
@given(tight_situations())
def test_nothing_is_idle_if_everything_is_scarce(situation: Situation) -> None:
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
            continue  # a later test checks when another job of the same group may pass
        at = earliest(first, devices, whole, then)
        for place in places:
            there = placed(asked[one.job], place, machine, 0.0)
            if at >= LATE:  # unknown: the newest job is not known to end earlier
                there = there._replace(ends=None)
            beside = then._replace(ram_free=then.ram_free - there.ram)
            assert earliest(first, devices, [*whole, there], beside) > at, one.reason


@quickly
@given(queues(), machines(sound=True))
def test_empty_machine_starts_the_first_feasible_job(
    waiting: list[Waiting], machine: Machine
) -> None:
    able = [one for one in waiting if places_of(one, [], machine)]
    if able:
        (decision,) = decide(able[:1], [], machine)
        assert isinstance(decision, Start)


@quickly
@given(queues(), machines())
def test_infeasible_job_does_not_fit_an_empty_machine(
    waiting: list[Waiting], machine: Machine
) -> None:
    for one in waiting:
        if never := permanent_refusal(one, machine):
            assert not places_of(one, [], machine)
            (wait,) = decide([one], [], machine)
            assert without_reason_data(wait) == Wait(job=one.job, reason=never.text)


# --- what is decided of each: whether it starts, and on what; or what is in its way


class Case(NamedTuple):
    """A machine, its waiting and running jobs, and the expected text for each waiting one."""

    machine: Machine
    waiting: Sequence[Waiting]
    expected: Sequence[str]
    running: Sequence[Running] = ()
    now: float = 0.0


def decision_texts(case: Case) -> list[str]:
    """The decision for each job: `+` and its place, or why it waits, with `*` if it waits for others."""
    decisions = decide(case.waiting, case.running, case.machine, case.now)
    return [
        f"+{each.reason}"
        if isinstance(each, Start)
        else f"{each.reason}{'*' * each.blocked_by_others}"
        for each in decisions
    ]


def foreign_reservation(user: str, device: str, amount: int) -> ForeignReservation:
    return ForeignReservation(user=user, device=device, amount=amount)


FIVE = Machine(cpus=5, ram=8 * GIB, ram_free=6 * GIB)
TWO = Machine(cpus=2, ram=8 * GIB, ram_free=6 * GIB, gpus=(a_gpu(),))
WIDE: dict[str, Any] = {"cpus": 2, "ram": 8 * GIB}
ONE = Machine(cpus=8, gpus=(a_gpu(total=24),))
CARDS = Machine(cpus=4, gpus=(a_gpu(0), a_gpu(1), a_gpu(2)))
DIVIDED = (a_gpu(0), a_gpu(1, mig=0, uuid="MIG-a"), a_gpu(1, mig=1, uuid="MIG-b"))
ALONE = a_waiting(1, vram=4 * GIB, exclusive=True)
SHARED = a_waiting(1, vram=GIB, exclusive=True)
MOST = SharingRules(max_per_gpu=9)
BOB = foreign_reservation("bob", "jobs:GPU-0", 2)
# a launcher that does not publish its number of jobs publishes their reservations
EVE = foreign_reservation("eve", "GPU-0", GIB)
THEIRS = (
    foreign_reservation("another queue of user ann", "cores:ff", 3),
    foreign_reservation("bob", "cores:f0", 4),
    foreign_reservation("bob", "memory", 6 * GIB),
)
OTHERS = Machine(cpus=8, cores=0xFF, ram=8 * GIB, ram_free=8 * GIB, foreign=THEIRS)
CROWDED = Machine(
    cpus=4,
    gpus=(a_gpu(total=24, used=9),),
    rules=SharingRules(reserve=2 * GIB, max_per_gpu=9),
    foreign=(
        foreign_reservation("ada", "GPU-0", 3 * GIB),
        foreign_reservation("bob", "GPU-0", 1 * GIB),
        foreign_reservation("ada", "GPU-0", 1 * GIB),
        foreign_reservation("ada", "GPU-1", 9 * GIB),
    ),
)
CROWD = [
    on_a_card("GPU-0", job=7, vram=5 * GIB, used={"GPU-0": 4 * GIB}),
    on_a_card("GPU-0", job=8, vram=2 * GIB, used={"GPU-0": 3 * GIB}),
    on_a_card("GPU-0", job=9, vram=4 * GIB),
]
HALF = [on_a_card("GPU-0", job=7, vram=12 * GIB)]
LAST = [on_a_card("GPU-0", job=7, vram=GIB), Running(job=8, cpus=2, ends=60.0)]
IN_A_MINUTE = "waiting for job 1, which is first and will get cuda:0 in about 1 m"
UNUSED = SharingRules(idle_s=600)
CASES = {
    "who asks for more cores than there are gets all of them": Case(
        Machine(cpus=4), [a_waiting(1, cpus=64)], ["+on the CPU with 4 cores"]
    ),
    "behind one that waits for cores it is said whom it would delay": Case(
        Machine(cpus=4),
        [a_waiting(1, cpus=4), a_waiting(2)],
        [
            "waiting for 4 CPU cores: 1 of 4 free",
            "waiting for job 1, which is first and will get 4 CPU cores",
        ],
        [Running(cpus=3, job=9)],
    ),
    "room that is nearly there is announced within a second": Case(
        Machine(cpus=4),
        [a_waiting(1, cpus=4)],
        ["waiting for 4 CPU cores: 1 of 4 free; 4 CPU cores will be free within a second"],
        [Running(cpus=3, job=9, ends=1000.3)],
        1000.0,
    ),
    "a short job passes one that waits for cores when it ends in time": Case(
        Machine(cpus=4),
        [a_waiting(1, cpus=4), a_waiting(2, seconds=61.0), a_waiting(3, seconds=60.0)],
        [
            "waiting for 4 CPU cores: 1 of 4 free; 4 CPU cores will be free in about 1 m",
            "waiting for job 1, which is first and will get 4 CPU cores in about 1 m",
            "+on the CPU with 1 core",
        ],
        [Running(cpus=3, job=9, ends=1060.0)],
        1000.0,
    ),
    "who waits for main memory has its share kept and lets others pass": Case(
        FIVE,
        [
            a_waiting(1, cpus=2, ram=7 * GIB),
            a_waiting(2, cpus=2),
            a_waiting(3, ram=1 * GIB),
            a_waiting(4, ram=1),
            a_waiting(5, cpus=2),
        ],
        [
            "waiting for 7 GiB of main memory: 6 GiB not reserved",
            "+on the CPU with 2 cores",
            "+on the CPU with 1 core",  # there is room for both
            "waiting for job 1, which is first and will get 2 CPU cores",
            "waiting for 2 CPU cores: 1 of 5 free",
        ],
        [Running(cpus=1, ram=2 * GIB)],
    ),
    "nothing is kept of main memory that others use": Case(
        TWO,
        [a_waiting(1, **WIDE), a_waiting(2)],
        ["waiting for 8 GiB of main memory: 6 GiB free", "+on the CPU with 1 core"],
    ),
    "nor of cards for who waits for it": Case(
        TWO,
        [a_waiting(1, device="cuda", **WIDE), a_waiting(2, device="cuda")],
        [
            "waiting for 8 GiB of main memory: 6 GiB free",
            "+on cuda:0: reserved 5 GiB at first (no similar job has been measured), 40 GiB were free",
        ],
    ),
    "what the machine can never hold is in nobody's way": Case(
        Machine(cpus=1, ram=8 * GIB, ram_free=8 * GIB),
        [a_waiting(1, ram=9 * GIB), a_waiting(2)],
        ["waiting for 9 GiB of main memory: this machine has 8 GiB", "+on the CPU with 1 core"],
    ),
    "a full group says so and is in nobody's way": Case(
        Machine(cpus=2, limits={"downloads": 1}),
        [a_waiting(1, group="downloads"), a_waiting(2)],
        ["waiting for group 'downloads': it runs 1 job, its limit is 1", "+on the CPU with 1 core"],
        [Running(cpus=1, group="downloads")],
    ),
    "the last place in the group of the first is kept too": Case(
        Machine(cpus=4, gpus=(a_gpu(),), limits={"wide": 2}),
        [
            a_waiting(1, group="wide", device="cuda"),
            a_waiting(2, group="wide", device="cpu"),
            a_waiting(3, group="wide", device="cpu", seconds=1.0),
            a_waiting(4, device="cpu"),
        ],
        [
            "waiting for 5 GiB of GPU memory (no similar job has been measured): cuda:0 runs job 100 exclusively; cuda:0 will have room in about 1 m",
            "+on the CPU with 1 core",  # there is a place for both
            IN_A_MINUTE,  # with the group full, the first would lose its place on the GPU
            "+on the CPU with 1 core",
        ],
        [on_a_card("GPU-0", exclusive=True, ends=60.0)],
    ),
    "where there is no GPU who would like one runs on the CPU": Case(
        Machine(cpus=2), [a_waiting(1, accelerated=True)], ["+on the CPU with 1 core"]
    ),
    "who would like a GPU and may see none runs on the CPU": Case(
        Machine(cpus=2, gpus=(a_gpu(),)),
        [a_waiting(1, accelerated=True, visible=())],
        ["+on the CPU with 1 core"],
    ),
    "the first of its kind is measured before the next one starts beside it": Case(
        Machine(cpus=4, gpus=(a_gpu(0), a_gpu(1))),
        [a_waiting(job, accelerated=True) for job in (1, 2, 3)],
        [
            "+on cuda:0: reserved 5 GiB at first (no similar job has been measured), 40 GiB were free",
            "+on cuda:1: reserved 5 GiB at first (no similar job has been measured), 40 GiB were free",
            "waiting for 5 GiB of GPU memory (no similar job has been measured): job 1, the first similar job, is being measured on cuda:0; job 2, the first similar job, is being measured on cuda:1",
        ],
    ),
    "jobs share a card as far as their claims fit": Case(
        ONE,
        [a_waiting(job, vram=10 * GIB) for job in (1, 2, 3)],
        [
            "+on cuda:0: reserved 10 GiB, 24 GiB were free",
            "+on cuda:0: reserved 10 GiB, 14 GiB were free",
            "waiting for 10 GiB of GPU memory: cuda:0 has 24 GiB free, of which 20 GiB is reserved for jobs 1, 2",
        ],
    ),
    "the emptiest card comes first of those the smallest": Case(
        Machine(cpus=8, gpus=(a_gpu(0, total=40), a_gpu(1, total=12), a_gpu(2, total=24))),
        [a_waiting(job, vram=11 * GIB) for job in (1, 2, 3, 4)],
        [
            "+on cuda:1: reserved 11 GiB, 12 GiB were free",
            "+on cuda:2: reserved 11 GiB, 24 GiB were free",
            "+on cuda:0: reserved 11 GiB, 40 GiB were free",
            "+on cuda:2: reserved 11 GiB, 13 GiB were free",
        ],
    ),
    "what a job takes beyond its promise counts": Case(
        Machine(cpus=4, gpus=(a_gpu(total=24, used=14),)),
        [a_waiting(1, vram=11 * GIB)],
        ["waiting for 11 GiB of GPU memory: cuda:0 has 10 GiB free"],
        [on_a_card("GPU-0", job=7, vram=8 * GIB, used={"GPU-0": 14 * GIB})],
    ),
    "several GPUs are had together or not at all": Case(
        CARDS,
        [a_waiting(1, gpus=2, vram=20 * GIB), a_waiting(2, gpus=3, vram=20 * GIB)],
        [
            "+on cuda:0, cuda:2: reserved 20 GiB, 40 GiB were free",
            "waiting for 3 GPUs with 20 GiB each: cuda:0 has 40 GiB free, of which 20 GiB is reserved for job 1; "
            "cuda:1 has 40 GiB free, of which 30 GiB is reserved for job 7; "
            "cuda:2 has 40 GiB free, of which 20 GiB is reserved for job 1",
        ],
        [on_a_card("GPU-1", job=7, vram=30 * GIB)],
    ),
    "a job with GPU numbers never starts beside instances of a divided card": Case(
        Machine(cpus=4, gpus=DIVIDED),
        [
            a_waiting(1, device="cuda", vram=GIB, gpu_ids="numbers"),
            a_waiting(2, device="cuda", vram=GIB),
        ],
        [
            "waiting for a GPU: gpu_ids=numbers does not work on a machine with MIG instances. "
            "Use gpu_ids=uuids",
            "+on cuda:0: reserved 1 GiB, 40 GiB were free",
        ],
    ),
    "a job on several GPUs never gets an instance of a divided card": Case(
        Machine(cpus=4, gpus=DIVIDED),
        [a_waiting(1, gpus=2, vram=GIB), a_waiting(2, device="cuda:1:1", vram=GIB)],
        [
            "waiting for 2 GPUs: this machine has 1 that are not divided",
            "+on cuda:1:1: reserved 1 GiB, 40 GiB were free",
        ],
    ),
    "an exclusive job gets a card for itself and keeps others away": Case(
        Machine(cpus=4, gpus=(a_gpu(0),)),
        [ALONE, a_waiting(2, vram=GIB)],
        [
            "+on cuda:0 exclusively: reserved 4 GiB, 40 GiB were free",
            "waiting for 1 GiB of GPU memory: cuda:0 runs job 1 exclusively",
        ],
    ),
    "an exclusive job does not come to another": Case(
        Machine(cpus=4, gpus=(a_gpu(0),)),
        [ALONE],
        ["waiting for 4 GiB on an empty GPU (--exclusive): cuda:0 runs job 7"],
        [on_a_card("GPU-0", job=7, vram=GIB)],
    ),
    # all memory reserved for its job is in use, and little: only its presence is published
    "an exclusive job takes a card on which others have none": Case(
        CARDS._replace(foreign=(BOB,)),
        [SHARED, a_waiting(2, vram=GIB)],
        [
            "+on cuda:1 exclusively: reserved 1 GiB, 40 GiB were free",
            "+on cuda:0: reserved 1 GiB, 40 GiB were free",
        ],
    ),
    "an exclusive job shares no card with others": Case(
        Machine(cpus=4, gpus=(a_gpu(0),), foreign=(BOB,)),
        [SHARED],
        ["waiting for 1 GiB on an empty GPU (--exclusive): cuda:0 is used by bob"],
    ),
    "nor with a queue that reserved memory only": Case(
        Machine(cpus=4, gpus=(a_gpu(0),), foreign=(EVE,)),
        [SHARED],
        ["waiting for 1 GiB on an empty GPU (--exclusive): cuda:0 is used by eve"],
    ),
    "nothing starts on a card that another launcher shares with nobody": Case(
        Machine(cpus=4, gpus=(a_gpu(0),), foreign=(foreign_reservation("bob", "alone:GPU-0", 1),)),
        [a_waiting(1, vram=GIB), a_waiting(2, gpus=1, device="cuda")],
        [
            "waiting for 1 GiB of GPU memory: cuda:0 is reserved exclusively by another queue of user bob",
            "waiting for 5 GiB of GPU memory (no similar job has been measured): cuda:0 is reserved exclusively by another queue of user bob",
        ],
    ),
    "cores that other homes have promised are not given away": Case(
        OTHERS,
        [a_waiting(1), a_waiting(2), a_waiting(3, ram=3 * GIB)],
        [
            "+on the CPU with 1 core",
            "waiting for 1 CPU core: 0 of 8 free; 7 of 8 reserved by another queue of user ann, another queue of user bob",
            "waiting for 1 CPU core: 0 of 8 free; 7 of 8 reserved by another queue of user ann, another queue of user bob",
        ],
    ),
    "nor memory": Case(
        OTHERS,
        [a_waiting(3, ram=3 * GIB)],
        [
            "waiting for 3 GiB of main memory: 2 GiB not reserved; 6 GiB reserved by another queue of user bob*"
        ],
    ),
    "cores that we may not use are none of our business": Case(
        OTHERS._replace(cpus=4, cores=0xF00), [a_waiting(1, cpus=4)], ["+on the CPU with 4 cores"]
    ),
    "more of ours than the rules say are never on a card": Case(
        Machine(cpus=4, gpus=(a_gpu(),), rules=SharingRules(max_per_gpu=2)),
        [a_waiting(job, vram=GIB) for job in (1, 2, 3)],
        [
            "+on cuda:0: reserved 1 GiB, 40 GiB were free",
            "+on cuda:0: reserved 1 GiB, 39 GiB were free",
            "waiting for 1 GiB of GPU memory: cuda:0 runs jobs 1, 2, its limit is 2 jobs",
        ],
    ),
    # 24 - 2 of others - (5 + 3 + 4) of ours - 5 reserved - 2 reserve
    "all that is promised is counted and to whom": Case(
        CROWDED,
        [a_waiting(1, vram=4 * GIB)],
        [
            "waiting for 4 GiB of GPU memory: cuda:0 has 15 GiB free, of which 5 GiB is reserved for jobs 7, 9, 4 GiB is reserved by another queue of user ada, 1 GiB is reserved by another queue of user bob and 2 GiB is reserved for other users"
        ],
        CROWD,
    ),
    "what is left of it is had": Case(
        CROWDED,
        [a_waiting(1, vram=3 * GIB)],
        ["+on cuda:0: reserved 3 GiB, 3 GiB were free"],
        CROWD,
    ),
    "the reserve is left to others and is told where a job can never fit": Case(
        Machine(cpus=4, gpus=(a_gpu(total=24),), rules=SharingRules(reserve=4 * GIB)),
        [a_waiting(1, vram=20 * GIB), a_waiting(2, vram=21 * GIB)],
        [
            "+on cuda:0: reserved 20 GiB, 20 GiB were free",
            "waiting for 21 GiB of GPU memory: cuda:0 has at most 20 GiB for it (4 GiB is reserved for other users)",
        ],
    ),
    "a card is not taken soon after others used it": Case(
        Machine(cpus=4, gpus=(a_gpu(),), rules=UNUSED, idle={"GPU-0": 120.0}),
        [a_waiting(1, vram=GIB)],
        [
            "waiting for 1 GiB of GPU memory: cuda:0 has been unused by others for 2 m of the required 10 m"
        ],
    ),
    "a card is taken after others left it alone for a while": Case(
        Machine(cpus=4, gpus=(a_gpu(),), rules=UNUSED, idle={"GPU-0": 600.0}),
        [a_waiting(1, vram=GIB)],
        ["+on cuda:0: reserved 1 GiB, 40 GiB were free"],
    ),
    "a card that the owner of the queue keeps back is never taken": Case(
        Machine(cpus=4, gpus=(a_gpu(0), a_gpu(1)), rules=SharingRules(devices=("1",))),
        [a_waiting(job, accelerated=True) for job in (1, 2)],
        [
            "+on cuda:1: reserved 5 GiB at first (no similar job has been measured), 40 GiB were free",
            "waiting for 5 GiB of GPU memory (no similar job has been measured): cuda:0 is not in [sharing] devices of config.toml; job 1, the first similar job, is being measured on cuda:1",
        ],
    ),
    "a job passes the first one only where that is not delayed": Case(
        ONE._replace(rules=MOST),
        [
            a_waiting(1, vram=16 * GIB),
            a_waiting(2, vram=9 * GIB),  # a job of unknown duration
            a_waiting(3, vram=9 * GIB, seconds=61.0),
            a_waiting(4, vram=3 * GIB),  # fits with both
            a_waiting(5, vram=9 * GIB, seconds=60.0),
        ],
        [
            "waiting for 16 GiB of GPU memory: cuda:0 has 24 GiB free, of which 12 GiB is reserved for job 7; cuda:0 will have room in about 1 m",
            IN_A_MINUTE,
            IN_A_MINUTE,
            "+on cuda:0: reserved 3 GiB, 12 GiB were free",
            "+on cuda:0: reserved 9 GiB, 9 GiB were free",
        ],
        [HALF[0]._replace(ends=1060.0)],
        1000.0,
    ),
    "where nobody knows when the place is free only what fits beside passes": Case(
        ONE,
        [
            a_waiting(1, vram=16 * GIB),
            a_waiting(2, vram=9 * GIB, seconds=1.0),
            a_waiting(3, vram=8 * GIB),
        ],
        [
            "waiting for 16 GiB of GPU memory: cuda:0 has 24 GiB free, of which 12 GiB is reserved for job 7",
            "waiting for job 1, which is first and will get cuda:0",
            "+on cuda:0: reserved 8 GiB, 12 GiB were free",
        ],
        HALF,
    ),
    "the last place on the card of the first job is kept": Case(
        Machine(cpus=4, gpus=ONE.gpus, rules=SharingRules(max_per_gpu=2)),
        [a_waiting(1, cpus=3, vram=GIB), a_waiting(2, vram=GIB)],
        ["waiting for 3 CPU cores: 1 of 4 free; cuda:0 will have room in about 1 m", IN_A_MINUTE],
        LAST,
    ),
    "where there are two of them one is had": Case(
        Machine(cpus=5, gpus=ONE.gpus, rules=SharingRules(max_per_gpu=3)),
        [a_waiting(1, cpus=3, vram=GIB), a_waiting(2, vram=GIB)],
        [
            "waiting for 3 CPU cores: 2 of 5 free; cuda:0 will have room in about 1 m",
            "+on cuda:0: reserved 1 GiB, 23 GiB were free",
        ],
        LAST,
    ),
    "main memory is kept for the first job too": Case(
        Machine(cpus=8, ram=16 * GIB, ram_free=10 * GIB),
        [
            a_waiting(1, ram=12 * GIB),
            a_waiting(2, ram=5 * GIB),
            a_waiting(3, ram=5 * GIB, seconds=60.0),
            a_waiting(4, ram=4 * GIB),
        ],
        [
            "waiting for 12 GiB of main memory: 10 GiB not reserved; 1 CPU core will be free in about 1 m",
            "waiting for job 1, which is first and will get 1 CPU core in about 1 m",
            "+on the CPU with 1 core",
            "+on the CPU with 1 core",
        ],
        [Running(job=7, cpus=1, ram=6 * GIB, ends=60.0)],
    ),
    "another card is taken so that the first job keeps its place": Case(
        Machine(cpus=8, gpus=(a_gpu(0, total=24), a_gpu(1, total=24)), rules=MOST),
        [a_waiting(1, vram=20 * GIB), a_waiting(2, vram=6 * GIB)],
        [
            "waiting for 20 GiB of GPU memory: cuda:0 has 24 GiB free, of which 12 GiB is reserved for job 7; cuda:1 has 24 GiB free, of which 11 GiB is reserved for jobs 8, 9; cuda:0 will have room in about 1 m",
            "+on cuda:1: reserved 6 GiB, 13 GiB were free",
        ],
        [
            on_a_card("GPU-0", job=7, vram=12 * GIB, ends=60.0),
            on_a_card("GPU-1", job=8, vram=10 * GIB, ends=90.0),
            on_a_card("GPU-1", job=9, vram=1 * GIB, ends=90.0),
        ],
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_each_job_starts_or_has_a_reason(case: Case) -> None:
    assert decision_texts(case) == [*case.expected]


def test_cores_for_the_first_waiting_job_are_not_taken_piecemeal() -> None:
    # the old jobs of unknown duration end one by one; each time a small one would fit
    running = [Running(cpus=2, job=8), Running(cpus=2, job=9)]
    machine = Machine(cpus=4)
    first = a_waiting(1, cpus=3)
    for _ in range(3):
        (small,) = decide([first, a_waiting(2)], running[1:], machine)[1:]
        if isinstance(small, Start):
            running = [*running, Running(cpus=1, job=2)]
    waiting, running = [first, a_waiting(3)], running[2:]
    assert isinstance(decide(waiting, running, machine)[0], Start)


BEE, CAT = (
    "+on cuda:1: reserved 1 GiB, 39 GiB were free",
    "+on cuda:2: reserved 1 GiB, 38 GiB were free",
)
BEASTS = tuple(
    a_gpu(at, uuid=f"GPU-{name}", used=at) for at, name in enumerate(("ant", "bee", "cat"))
)


@pytest.mark.parametrize(
    ("visible", "said"),
    [
        (("1",), BEE),
        (("GPU-b",), BEE),
        (("GPU-cat", "0"), CAT),
        (("2", "-1", "0"), CAT),
        (("-1",), ""),
        (("NoDevFiles",), ""),
        ((), ""),
        (("7", "1"), BEE),
    ],
)
def test_job_gets_only_visible_gpus(visible: tuple[str, ...], said: str) -> None:
    waiting = a_waiting(1, device="cuda", vram=GIB, visible=visible)
    busy = [on_a_card("GPU-ant", job=7, exclusive=True)]
    none = (
        f"waiting for a GPU: CUDA_VISIBLE_DEVICES={','.join(visible)}, set when it was queued, "
        "shows none"
    )
    assert decision_texts(Case(Machine(cpus=4, gpus=BEASTS), [waiting], [], busy)) == [said or none]


@pytest.mark.parametrize(
    ("gpus", "wish", "reason"),
    [
        (
            (a_gpu(used=None),),
            {"device": "cuda:0"},
            "waiting for 5 GiB of GPU memory (no similar job has been measured): cuda:0 does not report its used memory",
        ),
        (
            (a_gpu(fault="fell off the bus"),),
            {"vram": GIB},
            "waiting for 1 GiB of GPU memory: cuda:0 fell off the bus",
        ),
        (
            (a_gpu(),),
            {"device": "cuda:3"},
            "waiting for cuda:3: this machine has only cuda:0",
        ),
        (
            (a_gpu(),),
            {"device": "cuda:0", "gpus": 2},
            "waiting for 2 GPUs: cuda:0 is one GPU",
        ),
        (
            (a_gpu(used=38),),
            {"vram": 4 * GIB},
            "waiting for 4 GiB of GPU memory: cuda:0 has 2 GiB free",
        ),
        (
            (a_gpu(used=8),),
            {"exclusive": True, "device": "cuda"},
            "waiting for an empty GPU (--exclusive): cuda:0 has 8 GiB in use by other users",
        ),
        ((), {"device": "cuda:0"}, "waiting for a GPU: none found"),
        (
            (a_gpu(total=24),),
            {"vram": 25 * GIB},
            "waiting for 25 GiB of GPU memory: cuda:0 has at most 24 GiB for it",
        ),
        (
            (a_gpu(0, total=24), a_gpu(1, total=40)),
            {"vram": 30 * GIB, "gpus": 2},
            "waiting for 30 GiB of GPU memory on each of 2 GPUs: only 1 of its 2 GPUs have that much",
        ),
        (
            tuple(a_gpu(at, total=4 + at, used=3) for at in range(6)),
            {"vram": 7 * GIB},
            "waiting for 7 GiB of GPU memory: cuda:3 has 4 GiB free; cuda:4 has 5 GiB free; cuda:5 has 6 GiB free; and 3 more GPUs",
        ),
    ],
)
def test_reason_of_a_job_waiting_for_a_gpu_names_the_obstacle(
    gpus: tuple[GpuSnapshot, ...], wish: dict[str, Any], reason: str
) -> None:
    case = Case(Machine(cpus=2, gpus=gpus), [a_waiting(1, **wish), a_waiting(2)], [])
    assert decision_texts(case) == [reason, "+on the CPU with 1 core"]


def test_jobs_of_a_failed_gpu_are_evicted() -> None:
    gpus = (a_gpu(0, fault="fell off the bus"), a_gpu(1))
    devices = {1: "GPU-1", 2: "GPU-1,GPU-0", 3: "cpu"}
    claims = [a_claim(job=job, device=device) for job, device in devices.items()]
    assert jobs_on_failed_gpus(claims, gpus) == {2: Eviction("cuda:0 fell off the bus")}


def test_a_policy_without_running_jobs_sees_the_machine_itself() -> None:
    machine = Machine(cpus=2, gpus=(a_gpu(),))
    policy = MachineScheduler(machine)
    waiting = [a_waiting(1, vram=GIB)]
    assert policy.decide(waiting, 0.0) == decide(waiting, [], machine)
