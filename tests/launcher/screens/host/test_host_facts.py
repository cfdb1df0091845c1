"""What the kernel's files say of the machine."""

import pytest

from launcher.screens.host import CpuTime, cpu_time, group_use, load_of
from tests.screens import a_host

STAT = """\
cpu  100 10 40 800 50 0 0 0 30 0
cpu0 50 5 20 400 25 0 0 0 15 0
cpu1 50 5 20 400 25 0 0 0 15 0
intr 12345
"""


def test_waiting_for_a_disk_is_no_work_and_a_guest_is_not_counted_twice() -> None:
    assert cpu_time(STAT) == CpuTime(busy=150, total=1000, cores=2)


@pytest.mark.parametrize("text", ["", "cpu", "cpu  1 2 x 4 5", "intr 1"])
def test_what_cannot_be_read_is_not_known(text: str) -> None:
    assert cpu_time(text) is None


def test_work_is_measured_in_cores() -> None:
    before = CpuTime(busy=100, total=1000, cores=4)
    assert CpuTime(busy=200, total=1200, cores=4).since(before) == 2.0
    assert CpuTime(busy=90, total=1200, cores=4).since(before) == 0.0
    assert before.since(before) is None


def test_the_load_is_that_of_one_minute() -> None:
    assert load_of("3.25 1.00 0.50 2/345 6789\n") == 3.25
    assert load_of("") is None


def test_memory_that_can_be_reclaimed_is_not_in_use() -> None:
    assert group_use("1000\n", "anon 1\ninactive_file 300\n") == 700
    assert group_use("1000\n", "inactive_file 1\ntotal_inactive_file 400\n") == 600
    assert group_use("max\n", "") is None


def test_the_work_of_others_is_what_is_not_ours() -> None:
    assert a_host(busy=7.0, ours=5.0).others == 2.0
    assert a_host(busy=7.0, ours=None).others is None
