"""A process belongs to the job from whose supervisor it descends."""

import os
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.gpu.monitor import owner_of, parent_of

FAMILY = {10: 1, 11: 10, 12: 11, 20: 1, 21: 20, 30: 2}
SUPERVISORS = {10: 7, 20: 8}


@pytest.mark.parametrize(
    ("pid", "job"),
    [
        pytest.param(10, 7, id="a supervisor's own"),
        pytest.param(12, 7, id="a grandchild's"),
        pytest.param(21, 8, id="a child's of another job"),
        pytest.param(30, None, id="a stranger's"),
        pytest.param(4_000_000, None, id="of a process that is nowhere"),
        pytest.param(1, None, id="init's"),
        pytest.param(0, None, id="the kernel's"),
    ],
)
def test_a_process_is_its_supervisors_jobs(pid: int, job: int | None) -> None:
    assert owner_of(pid, FAMILY.get, SUPERVISORS) == job


@given(st.dictionaries(st.integers(0, 9), st.integers(0, 9)), st.integers(0, 9))
def test_pids_that_were_given_anew_and_lead_in_a_circle_are_nobodys(
    parents: dict[int, int], pid: int
) -> None:
    assert owner_of(pid, parents.get, {}) is None


def test_the_parent_of_a_living_process_is_known() -> None:
    child = subprocess.Popen(["/bin/sh", "-c", "read line"], stdin=subprocess.PIPE)

    assert parent_of(child.pid) == os.getpid()
    assert owner_of(child.pid, parent_of, {os.getpid(): 5}) == 5

    child.communicate()
    assert parent_of(child.pid) is None
