"""Policies that are replayed in several processes."""

import pytest

from launcher.simulate.baselines import POLICIES, study
from launcher.simulate.machine import Workload, fit, read_fleet
from launcher.simulate.trace import TraceJob
from tests.launcher.simulate.worlds import GIB, assuming


def a_load() -> Workload:
    jobs = tuple(
        TraceJob(index=number, submitted=float(number), seconds=60.0, gpus=1, vram=8 * GIB)
        for number in range(12)
    )
    return fit(jobs, read_fleet("2x24GiB"))


def test_several_processes_come_to_the_same_as_this_one() -> None:
    load, world = a_load(), assuming(read_fleet("2x24GiB"))
    replayed: list[str] = []
    assert study(load, world) == study(load, world, replayed.append, processes=2)
    assert sorted(replayed) == sorted(POLICIES)


def test_what_a_process_raises_is_raised_here() -> None:
    world = assuming(read_fleet("2x24GiB"))
    with pytest.raises(KeyError, match="no such policy"):
        study(a_load(), world, policies=("fifo", "no such policy"), processes=2)
