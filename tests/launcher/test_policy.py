from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launcher.gpu import GpuSnapshot
from launcher.policy import CPU, Machine, Running, Start, Wait, Waiting, decide
from launcher.specs import Resources
from tests.build import a_waiting

GIB = 1 << 30
quickly = settings(max_examples=50, deadline=None)


def a_gpu(index: int = 0, *, total: int = 40 * GIB, used: int | None = 0) -> GpuSnapshot:
    return GpuSnapshot(uuid=f"GPU-{index}", index=index, name="A100", total=total, used=used)


resources = st.builds(
    Resources,
    cpus=st.integers(1, 12),
    min_vram=st.none() | st.integers(0, 60 * GIB),
    device=st.sampled_from(["auto", "cpu", "cuda:0", "cuda:1", "cuda:7"]),
    accelerated=st.booleans(),
    ram=st.none() | st.integers(0, 40 * GIB),
)
asked = st.tuples(resources, st.sampled_from(["", "wide", "narrow", "shut"]))
queues = st.lists(asked, max_size=12).map(
    lambda found: [
        Waiting(job=number, resources=one, group=group)
        for number, (one, group) in enumerate(found, 1)
    ]
)
machines = st.builds(
    lambda cpus, used, ram_free: Machine(
        cpus=cpus,
        ram=32 * GIB,
        ram_free=ram_free,
        gpus=tuple(a_gpu(index, used=one) for index, one in enumerate(used)),
        limits={"narrow": 1, "wide": 3, "shut": 0},
    ),
    st.integers(1, 8),
    st.lists(st.none() | st.integers(0, 40 * GIB), max_size=3),
    st.integers(0, 32 * GIB),
)


@st.composite
def situations(draw: st.DrawFn) -> tuple[list[Waiting], list[Running], Machine]:
    """A queue, what earlier decisions started on the machine, and the machine."""
    machine = draw(machines)
    before = draw(queues)
    running = [
        Running(device=start.device, cpus=start.cpus, ram=one.resources.ram or 0, group=one.group)
        for one, start in zip(before, decide(before, [], machine), strict=True)
        if isinstance(start, Start)
    ]
    return draw(queues), running, machine


@quickly
@given(situations())
def test_every_job_gets_one_decision_with_a_reason_in_its_turn(
    situation: tuple[list[Waiting], list[Running], Machine],
) -> None:
    waiting, running, machine = situation
    decisions = decide(waiting, running, machine)
    assert [one.job for one in decisions] == [one.job for one in waiting]
    assert all(one.reason for one in decisions)


@quickly
@given(situations())
def test_no_more_cores_are_promised_than_there_are(
    situation: tuple[list[Waiting], list[Running], Machine],
) -> None:
    waiting, running, machine = situation
    starts = [one for one in decide(waiting, running, machine) if isinstance(one, Start)]
    promised = sum(one.cpus for one in running) + sum(one.cpus for one in starts)
    assert promised <= machine.cpus
    assert all(one.cpus >= 1 for one in starts)


@quickly
@given(situations())
def test_no_more_memory_is_promised_than_there_is_and_none_that_is_in_use(
    situation: tuple[list[Waiting], list[Running], Machine],
) -> None:
    waiting, running, machine = situation
    decisions = decide(waiting, running, machine)
    new = sum(
        one.resources.ram or 0
        for one, decision in zip(waiting, decisions, strict=True)
        if isinstance(decision, Start)
    )
    assert new + sum(one.ram for one in running) <= machine.ram
    assert new <= machine.ram_free


@quickly
@given(situations())
def test_no_group_runs_more_jobs_than_its_limit(
    situation: tuple[list[Waiting], list[Running], Machine],
) -> None:
    waiting, running, machine = situation
    decisions = decide(waiting, running, machine)
    at_once = Counter(one.group for one in running)
    at_once += Counter(
        one.group
        for one, decision in zip(waiting, decisions, strict=True)
        if isinstance(decision, Start)
    )
    assert all(at_once[group] <= limit for group, limit in machine.limits.items())


@quickly
@given(situations())
def test_a_gpu_never_runs_two_jobs(
    situation: tuple[list[Waiting], list[Running], Machine],
) -> None:
    waiting, running, machine = situation
    starts = [one for one in decide(waiting, running, machine) if isinstance(one, Start)]
    users = Counter([one.device for one in running] + [one.device for one in starts])
    del users[CPU]
    assert all(count == 1 for count in users.values())
    assert set(users) <= {gpu.uuid for gpu in machine.gpus}


@quickly
@given(situations())
def test_a_job_gets_the_memory_and_the_card_that_it_asked_for(
    situation: tuple[list[Waiting], list[Running], Machine],
) -> None:
    waiting, running, machine = situation
    asked = {one.job: one.resources for one in waiting}
    cards = {gpu.uuid: gpu for gpu in machine.gpus}
    for start in decide(waiting, running, machine):
        if not isinstance(start, Start):
            continue
        wish = asked[start.job]
        if start.device == CPU:
            assert wish.device in {"auto", "cpu"}
            continue
        card = cards[start.device]
        assert wish.device in {"auto", f"cuda:{card.index}"}
        assert card.used is not None
        assert card.total - card.used >= (wish.min_vram or 0)


@quickly
@given(situations())
def test_the_first_job_that_waits_for_cores_is_never_overtaken(
    situation: tuple[list[Waiting], list[Running], Machine],
) -> None:
    waiting, running, machine = situation
    free = machine.cpus - sum(one.cpus for one in running)
    blocked, kept = False, 0
    for one, decision in zip(waiting, decide(waiting, running, machine), strict=True):
        if blocked:
            assert isinstance(decision, Wait)
        elif isinstance(decision, Start):
            free -= decision.cpus
        elif decision.reason.startswith("needs") and "core" in decision.reason:
            assert min(one.resources.cpus, machine.cpus) > free - kept
            blocked = True
        elif "promised to others" in decision.reason:
            kept += min(one.resources.cpus, machine.cpus)


@quickly
@given(queues, machines)
def test_an_empty_machine_starts_the_first_job_that_needs_only_cores(
    waiting: list[Waiting], machine: Machine
) -> None:
    plain = [
        replace(one, group="", resources=replace(one.resources, ram=None))
        for one in waiting
        if one.resources.device == "cpu"
    ]
    if plain:
        assert isinstance(decide(plain, [], machine)[0], Start)


def test_a_job_that_asks_for_more_cores_than_there_are_gets_all_of_them() -> None:
    (start,) = decide([a_waiting(1, cpus=64)], [], Machine(cpus=4))
    assert start == Start(job=1, device=CPU, cpus=4, reason="on the CPU with 4 cores")


def test_a_job_behind_one_that_waits_for_cores_says_whom_it_waits_for() -> None:
    running = [Running(device=CPU, cpus=3)]
    waiting = [a_waiting(1, cpus=4), a_waiting(2, cpus=1)]
    assert decide(waiting, running, Machine(cpus=4)) == [
        Wait(job=1, reason="needs 4 cores, 1 of 4 free"),
        Wait(job=2, reason="waits behind job 1, which needs 4 cores"),
    ]


def test_a_job_that_waits_for_memory_has_its_share_kept_and_lets_others_pass() -> None:
    machine = Machine(cpus=5, ram=8 * GIB, ram_free=6 * GIB)
    running = [Running(device=CPU, cpus=1, ram=2 * GIB)]
    waiting = [
        a_waiting(1, cpus=2, ram=7 * GIB),
        a_waiting(2, cpus=2),
        a_waiting(3, cpus=1),
        a_waiting(4, ram=1 * GIB),
    ]
    first, second, third, fourth = decide(waiting, running, machine)
    assert first == Wait(job=1, reason="needs 7 GiB of memory, 6 GiB are not promised to others")
    assert isinstance(second, Start)
    assert third == Wait(job=3, reason="needs 1 core, 0 of 5 free"), "two are kept for the first"
    assert isinstance(fourth, Wait)


def test_nothing_is_kept_for_a_job_that_waits_for_memory_which_others_use() -> None:
    machine = Machine(cpus=2, ram=8 * GIB, ram_free=6 * GIB)
    wait, start = decide([a_waiting(1, cpus=2, ram=8 * GIB), a_waiting(2)], [], machine)
    assert wait == Wait(job=1, reason="needs 8 GiB of memory, 6 GiB are not in use")
    assert isinstance(start, Start)


def test_a_job_that_the_machine_can_never_hold_is_in_nobodys_way() -> None:
    machine = Machine(cpus=1, ram=8 * GIB, ram_free=8 * GIB)
    never, other = decide([a_waiting(1, ram=9 * GIB), a_waiting(2)], [], machine)
    assert never == Wait(job=1, reason="needs 9 GiB of memory, this machine has 8 GiB")
    assert isinstance(other, Start)


def test_a_full_group_says_so_and_is_in_nobodys_way() -> None:
    running = [Running(device=CPU, cpus=1, group="downloads")]
    waiting = [a_waiting(1, group="downloads"), a_waiting(2)]
    full, other = decide(waiting, running, Machine(cpus=2, limits={"downloads": 1}))
    assert full == Wait(job=1, reason="group 'downloads' runs 1 of at most 1")
    assert isinstance(other, Start)


def test_a_job_that_waits_for_a_gpu_lets_those_pass_that_need_none() -> None:
    waiting = [a_waiting(1, device="cuda:0"), a_waiting(2, device="cpu")]
    gpu_wait, start = decide(waiting, [], Machine(cpus=2))
    assert gpu_wait == Wait(job=1, reason="needs a GPU, and this machine has none")
    assert isinstance(start, Start)


@pytest.mark.parametrize(
    ("gpus", "wish", "reason"),
    [
        ((a_gpu(used=None),), {"device": "cuda:0"}, "does not say how much memory is used"),
        ((a_gpu(),), {"device": "cuda:3"}, "needs cuda:3, and this machine has no such GPU"),
        ((a_gpu(used=39 * GIB),), {"min_vram": 2 * GIB}, "needs 2 GiB: cuda:0 has 1 GiB free"),
        ((a_gpu(used=8 * GIB),), {"accelerated": True}, "cuda:0 has 8 GiB in use"),
        ((), {"device": "cuda:0"}, "needs a GPU, and this machine has none"),
    ],
)
def test_a_job_that_waits_for_a_gpu_says_what_is_in_its_way(
    gpus: tuple[GpuSnapshot, ...], wish: dict[str, Any], reason: str
) -> None:
    (decision,) = decide([a_waiting(1, **wish)], [], Machine(cpus=2, gpus=gpus))
    assert isinstance(decision, Wait)
    assert reason in decision.reason


def test_where_there_is_no_gpu_a_job_that_would_like_one_runs_on_the_cpu() -> None:
    (start,) = decide([a_waiting(1, accelerated=True)], [], Machine(cpus=2))
    assert isinstance(start, Start)
    assert start.device == CPU


def test_two_jobs_get_two_gpus() -> None:
    machine = Machine(cpus=4, gpus=(a_gpu(0), a_gpu(1)))
    decisions = decide([a_waiting(job, accelerated=True) for job in (1, 2, 3)], [], machine)
    assert [getattr(one, "device", None) for one in decisions] == ["GPU-0", "GPU-1", None]
