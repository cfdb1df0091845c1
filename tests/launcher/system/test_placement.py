"""Where jobs may run: cores, memory and GPUs, and what other homes promise of them."""

import json
import math
import os
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.provenance.snapshots.attempts import STARTUP_FOLDER
from launcher.queue.gpu.own_reservations import Reservation
from launcher.queue.gpu.reservations import ReservationBoard
from launcher.queue.gpu.resources import MEMORY, ForeignReservation, core_resource_name
from launcher.queue.scheduler.policy.decide import decide
from launcher.queue.scheduler.policy.model import Machine, Start
from launcher.system.config import WatchedConfig, read_table
from launcher.system.config_tables import Fault
from launcher.system.environment import (
    RECORD_VARIABLE,
    attempt_environment,
    owners_environment,
)
from launcher.system.gpu_sharing import SHARING, SharingRules, read_rules
from launcher.system.memory import ProcessGroups, read_process_groups
from tests.build import GIB, a_waiting

PLACE = {"CUDA_VISIBLE_DEVICES": "", "LAUNCHER_CPUS": "2", "LAUNCHER_JOB": "7"}
THREADS = {"OMP_NUM_THREADS": "2"}
NAMES = st.sampled_from(["PATH", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "HOME"])
OWNERS = st.dictionaries(NAMES, st.text(st.characters(codec="utf-8"), max_size=4))


@given(OWNERS)
def test_job_queued_by_a_job_has_the_environment_of_its_owner(owner: dict[str, str]) -> None:
    inside = attempt_environment(owner, PLACE, unless_set=THREADS)
    assert inside.items() >= PLACE.items()
    assert owners_environment(inside) == owner
    # and a job of a job, too
    again = attempt_environment(owners_environment(inside), PLACE, unless_set=THREADS)
    assert owners_environment(again) == owner


def test_variable_set_by_the_job_itself_is_a_request() -> None:
    inside = attempt_environment({"OMP_NUM_THREADS": "8"}, PLACE, unless_set=THREADS)
    changed = inside | {"CUDA_VISIBLE_DEVICES": "1", "OMP_NUM_THREADS": "3", "MINE": "x"}
    assert owners_environment(changed) == {
        "CUDA_VISIBLE_DEVICES": "1",
        "OMP_NUM_THREADS": "3",
        "MINE": "x",
    }


def test_job_queued_by_a_job_does_not_follow_its_snapshot() -> None:
    for before in ({}, {"PYTHONPATH": "/own"}):
        path = {"PYTHONPATH": ":".join((STARTUP_FOLDER, *before.values()))}
        inside = attempt_environment(
            before, {**path, "LAUNCHER_SNAPSHOT": "/home/snapshots/1"}, unless_set={}
        )
        assert owners_environment(inside) == before
        changed = inside | {"PYTHONPATH": f"/mine:{path['PYTHONPATH']}"}
        assert owners_environment(changed) == {"PYTHONPATH": ":".join(("/mine", *before.values()))}
    assert owners_environment({"LAUNCHER_SNAPSHOT": "off"}) == {"LAUNCHER_SNAPSHOT": "off"}


def test_unreadable_record_changes_nothing_else() -> None:
    for record in ("", "{", "[" * 9999, "[1]", json.dumps({"PATH": 3, "X": ["a"]})):
        assert owners_environment({"PATH": "/bin", RECORD_VARIABLE: record}) == {"PATH": "/bin"}


# --- gpu sharing


def test_table_configures_gpu_sharing() -> None:
    faults: list[Fault] = []
    table = {"reserve": "2GiB", "max-per-gpu": 3, "idle": "10m", "devices": [0, "GPU-8f", "1"]}
    assert read_rules(table, faults) == SharingRules(
        reserve=2 * GIB, max_per_gpu=3, idle_s=600.0, devices=("0", "GPU-8f", "1")
    )
    assert read_rules({}, faults) == SharingRules()
    adaptive = {"unknown": 0.25, "adaptive": False}
    assert read_rules(adaptive, faults) == SharingRules(unknown=0.25, adaptive=False)
    assert read_rules({"unknown": 1, "adaptive": True}, faults) == SharingRules(unknown=1.0)
    assert read_rules({"devices": []}, faults) == SharingRules(devices=())
    assert read_rules({"devices": 2, "max_per_gpu": 1}, faults).devices == ("2",)
    assert faults == []


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("reserve", 2),
        ("reserve", "much"),
        ("reserve", "-1GiB"),
        ("max_per_gpu", 0),
        ("max_per_gpu", "2"),
        ("max_per_gpu", True),
        ("unknown", 0),
        ("unknown", -0.1),
        ("unknown", 1.01),
        ("unknown", math.nan),
        ("unknown", math.inf),
        ("unknown", "0.5"),
        ("unknown", True),
        ("unknown", "4GiB"),
        ("adaptive", 0),
        ("adaptive", 1),
        ("adaptive", "no"),
        ("adaptive", []),
        ("idle", 10),
        ("idle", "soon"),
        ("devices", [-1]),
        ("devices", ["cuda:0"]),
        ("devices", [True]),
        ("devices", [1.5]),
    ],
)
def test_invalid_setting_is_named_and_the_others_apply(key: str, value: object) -> None:
    faults: list[Fault] = []
    other = {"idle": "1m"} if key != "idle" else {"max_per_gpu": 2}
    rules = read_rules({key: value, **other}, faults)
    ((where, told),) = faults
    assert where == ("sharing", key)
    assert told.startswith(f"sharing.{key}: expected ")
    assert rules in {SharingRules(idle_s=60.0), SharingRules(max_per_gpu=2)}


@pytest.mark.parametrize(
    ("rules", "most"),
    [
        (SharingRules(), None),
        (SharingRules(max_per_gpu=3), 3),
        (SharingRules(adaptive=False), 1),
        (SharingRules(adaptive=False, max_per_gpu=3), 3),
    ],
)
def test_fixed_number_of_jobs_shares_a_gpu_without_adaptation(
    rules: SharingRules, most: int | None
) -> None:
    assert rules.max_jobs_per_gpu == most


@pytest.mark.parametrize(
    ("rules", "total", "amount"),
    [
        (SharingRules(), 80, 10),
        (SharingRules(unknown=0.5), 80, 40),
        (SharingRules(unknown=1.0), 80, 80),
        (SharingRules(), 8, 2),  # a CUDA context and a small network need so much
        (SharingRules(unknown=0.001), 80, 2),
        (SharingRules(), 1, 1),
    ],
)
def test_part_of_a_gpu_is_reserved_for_a_job_without_similar_measurements(
    rules: SharingRules, total: int, amount: int
) -> None:
    assert rules.unknown_bytes(total * GIB) == amount * GIB


def test_unknown_key_or_missing_table_is_reported() -> None:
    faults: list[Fault] = []
    assert read_rules({"reserved": "2GiB"}, faults) == SharingRules()
    assert read_rules(3, faults) == SharingRules()
    (first, why), (second, expected) = faults
    assert (first, second) == (("sharing", "reserved"), ("sharing",))
    assert "Did you mean 'reserve'?" in why
    assert expected == "sharing: expected a table, such as [sharing]"


def test_changed_file_applies_from_the_next_read_and_a_broken_one_is_ignored(
    tmp_path: Path,
) -> None:
    file = tmp_path / "config.toml"
    warned: list[str] = []

    def write(text: str) -> None:
        file.write_text(text)
        os.utime(file, (0, len(text)))  # two writes may fall into one tick of a clock

    write("")
    environ = {"LAUNCHER_CONFIG": str(file)}
    rules = WatchedConfig(environ, partial(read_table, SHARING), warned.append, SharingRules())
    assert rules() == SharingRules()
    write("[sharing]\nmax_per_gpu = 2\n")
    assert rules() == SharingRules(max_per_gpu=2)
    assert rules() == SharingRules(max_per_gpu=2)
    write("[sharing]\nmax_per_gpu = true\n")
    assert rules() == SharingRules(max_per_gpu=2)
    assert rules() == SharingRules(max_per_gpu=2)
    (told,) = warned
    assert "config.toml:2: sharing.max_per_gpu: expected a whole number of jobs" in told
    write("[sharing]\nmax_per_gpu = 3\n\n")
    assert rules() == SharingRules(max_per_gpu=3)


# --- cores and memory that other homes promise come off the machine, and off our quota where they share it


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
            device=st.sampled_from([core_resource_name(mask), MEMORY]),
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
        installed_ram=ram_there,
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
def test_neither_machine_nor_quota_is_reserved_twice(machine: Machine, sizes: list[int]) -> None:
    jobs = [a_waiting(n, cpus=size, ram=size * GIB // 2) for n, size in enumerate(sizes)]
    asked = {one.job: one.resources for one in jobs}
    started = [one for one in decide(jobs, [], machine) if isinstance(one, Start)]
    cores = sum(one.cpus for one in started)
    memory = sum(asked[one.job].ram or 0 for one in started)
    if started:
        assert cores + promised(machine, memory=False, inside=True) <= machine.cpus
        assert cores + promised(machine, memory=False, inside=False) <= machine.cores.bit_count()
        assert memory + promised(machine, memory=True, inside=True) <= machine.ram
        assert memory + promised(machine, memory=True, inside=False) <= machine.installed_ram


def test_reservations_outside_our_quota_are_subtracted_from_the_machine() -> None:
    def wait(quota: int, amount: int, *, inside: bool) -> str:
        theirs = ForeignReservation(
            user="ada", device=core_resource_name(ALL), amount=amount, inside=inside
        )
        (one,) = decide([a_waiting(1)], [], Machine(cpus=quota, cores=ALL, foreign=(theirs,)))
        return "" if isinstance(one, Start) else one.reason

    assert wait(4, 60, inside=False) == ""
    assert wait(4, 64, inside=False) == (
        "waiting for 1 CPU core: 0 of 4 free; 64 of 64 reserved by another queue of user ada"
    )
    assert wait(4, 4, inside=True) == (
        "waiting for 1 CPU core: 0 of 4 free; 4 of 4 reserved by another queue of user ada"
    )
    memory = ForeignReservation(user="ada", device=MEMORY, amount=100 * GIB)
    limited = Machine(
        cpus=4, ram=8 * GIB, installed_ram=512 * GIB, ram_free=300 * GIB, foreign=(memory,)
    )
    assert isinstance(decide([a_waiting(1, ram=GIB)], [], limited)[0], Start)


def test_home_publishes_its_cgroups_and_others_compare_limits(tmp_path: Path) -> None:
    box = ProcessGroups(
        groups=frozenset({"1:1", "1:7"}), cpu_limit_group="1:7", memory_limit_group="1:1"
    )
    below = ProcessGroups(groups=frozenset({"1:1", "1:7", "1:9"}), cpu_limit_group="1:9")
    ours = ReservationBoard(tmp_path, Path("/a"), quotas=box)
    reservations = [
        Reservation(device=device, amount=2, used=None, job=1)
        for device in (core_resource_name(3), MEMORY, "GPU-1")
    ]

    def inside(other: ProcessGroups | None) -> dict[str, bool]:
        publisher = ReservationBoard(tmp_path, Path("/b"), quotas=other)
        assert publisher.publish(reservations)
        told = {one.device: one.inside for one in ours.foreign_reservations()}
        publisher.clear()
        return told

    assert inside(below) == {"GPU-1": False, MEMORY: True, core_resource_name(3): True}
    beside = ProcessGroups(groups=frozenset({"1:1", "1:8"}), cpu_limit_group="1:8")
    assert inside(beside) == {"GPU-1": False, MEMORY: True, core_resource_name(3): False}
    assert not any(inside(None).values())


def test_cgroup_with_our_memory_limit_is_found(tmp_path: Path) -> None:
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

    quotas = read_process_groups(tmp_path)
    assert quotas.memory_limit_group == name(box)
    assert quotas.cpu_limit_group == name(box.parent)
    assert quotas.groups == {name(box / "inner"), name(box), name(box.parent)}
    (box / "memory.max").write_text("max\n")
    assert read_process_groups(tmp_path).memory_limit_group == ""
