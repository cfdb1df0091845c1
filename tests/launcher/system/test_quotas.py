"""Cores and memory that other homes promise come off the machine, and off our quota where they share it."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from launcher.gpu.reservations import Reservation, ReservationBoard
from launcher.gpu.snapshot import MEMORY, ForeignReservation, core_resource
from launcher.scheduler.policy.decide import decide
from launcher.scheduler.policy.model import Machine, Start
from launcher.system.memory import Quotas, of_this_process
from tests.build import GIB, a_waiting

ALL = (1 << 64) - 1


@st.composite
def shared_machines(draw: st.DrawFn) -> Machine:
    """Machines of which we have a quota, and others who share it or do not."""
    there = draw(st.integers(1, 12))
    mask = (1 << there) - 1
    ram_there = draw(st.integers(1, 12)) * GIB
    promises = st.lists(
        st.builds(
            ForeignReservation,
            user=st.sampled_from(["ada", "bob"]),
            device=st.sampled_from([core_resource(mask), MEMORY]),
            amount=st.integers(1, 8),
            inside=st.booleans(),
        ),
        max_size=4,
    )
    foreign = tuple(
        ForeignReservation(
            user=one.user,
            device=one.device,
            amount=one.amount * (GIB if one.device == MEMORY else 1),
            inside=one.inside,
        )
        for one in draw(promises)
    )
    ram = draw(st.integers(GIB, ram_there))
    return Machine(
        cpus=draw(st.integers(1, there)),
        cores=mask,
        ram=ram,
        ram_there=ram_there,
        ram_free=ram_there,
        foreign=foreign,
    )


def promised(machine: Machine, *, memory: bool, inside: bool) -> int:
    return sum(
        one.amount
        for one in machine.foreign
        if (one.device == MEMORY) is memory and one.inside >= inside
    )


@given(shared_machines(), st.lists(st.integers(1, 3), max_size=6))
def test_neither_the_machine_nor_a_quota_is_given_away_twice(
    machine: Machine, sizes: list[int]
) -> None:
    jobs = [a_waiting(n, cpus=size, ram=size * GIB // 2) for n, size in enumerate(sizes)]
    asked = {one.job: one.resources for one in jobs}
    started = [one for one in decide(jobs, [], machine) if isinstance(one, Start)]
    cores = sum(one.cpus for one in started)
    memory = sum(asked[one.job].ram or 0 for one in started)
    if started:
        assert cores + promised(machine, memory=False, inside=True) <= machine.cpus
        assert cores + promised(machine, memory=False, inside=False) <= machine.cores.bit_count()
        assert memory + promised(machine, memory=True, inside=True) <= machine.ram
        assert memory + promised(machine, memory=True, inside=False) <= machine.ram_there


@given(shared_machines())
def test_a_small_job_waits_only_where_a_core_is_really_missing(machine: Machine) -> None:
    (decision,) = decide([a_waiting(1)], [], machine)
    ours = machine.cpus - promised(machine, memory=False, inside=True)
    anybodys = machine.cores.bit_count() - promised(machine, memory=False, inside=False)
    assert isinstance(decision, Start) == (min(ours, anybodys) >= 1)


def test_promises_of_those_who_do_not_share_our_quota_come_off_the_machine() -> None:
    def wait(quota: int, amount: int, *, inside: bool) -> str:
        theirs = ForeignReservation(
            user="ada", device=core_resource(ALL), amount=amount, inside=inside
        )
        (one,) = decide([a_waiting(1)], [], Machine(cpus=quota, cores=ALL, foreign=(theirs,)))
        return "" if isinstance(one, Start) else one.reason

    assert wait(4, 60, inside=False) == ""
    assert wait(4, 64, inside=False) == (
        "needs 1 core, 0 of 4 free; 64 of 64 cores are promised to jobs of ada"
    )
    assert wait(4, 4, inside=True) == (
        "needs 1 core, 0 of 4 free; 4 of 4 cores are promised to jobs of ada"
    )
    memory = ForeignReservation(user="ada", device=MEMORY, amount=100 * GIB)
    limited = Machine(
        cpus=4, ram=8 * GIB, ram_there=512 * GIB, ram_free=300 * GIB, foreign=(memory,)
    )
    assert isinstance(decide([a_waiting(1, ram=GIB)], [], limited)[0], Start)


def test_a_home_tells_its_groups_and_others_see_whether_these_limit_them(tmp_path: Path) -> None:
    box = Quotas(within=frozenset({"1:1", "1:7"}), cores="1:7", memory="1:1")
    below = Quotas(within=frozenset({"1:1", "1:7", "1:9"}), cores="1:9")
    ours = ReservationBoard(tmp_path, Path("/a"), quotas=box)
    reservations = [
        Reservation(device=device, amount=2, used=None, job=1)
        for device in (core_resource(3), MEMORY, "GPU-1")
    ]

    def inside(other: Quotas | None) -> dict[str, bool]:
        publisher = ReservationBoard(tmp_path, Path("/b"), quotas=other)
        assert publisher.publish(reservations)
        told = {one.device: one.inside for one in ours.others()}
        publisher.clear()
        return told

    assert inside(below) == {"GPU-1": False, MEMORY: True, core_resource(3): True}
    beside = Quotas(within=frozenset({"1:1", "1:8"}), cores="1:8")
    assert inside(beside) == {"GPU-1": False, MEMORY: True, core_resource(3): False}
    assert not any(inside(None).values())  # as a file of an earlier version


def test_the_group_whose_memory_limit_is_ours_is_found(tmp_path: Path) -> None:
    box = tmp_path / "sys/fs/cgroup/box"
    (box / "inner").mkdir(parents=True)
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/meminfo").write_text("MemTotal: 4096 kB\n")
    (tmp_path / "proc/self/cgroup").write_text("0::/box/inner\n")
    (box.parent / "cgroup.controllers").write_text("memory\n")
    (box.parent / "cpu.max").write_text("max 100000\n")
    (box / "inner/memory.max").write_text("max\n")
    (box / "memory.max").write_text("1048576\n")

    def name(folder: Path) -> str:
        return f"{folder.stat().st_dev}:{folder.stat().st_ino}"

    quotas = of_this_process(tmp_path)
    assert quotas.memory == name(box)
    assert quotas.cores == name(box.parent)
    assert quotas.within == {name(box / "inner"), name(box), name(box.parent)}
    (box / "memory.max").write_text("max\n")
    assert of_this_process(tmp_path).memory == ""
