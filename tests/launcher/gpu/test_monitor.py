"""Readings of the GPU monitor, owners of processes, and gpus.json."""

import json
import os
import subprocess
import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.queue.gpu.gpus_file import (
    GpuStatus,
    read_gpu_status,
    read_known_attempts,
    write_gpu_status,
)
from launcher.queue.gpu.monitor import (
    AFTER_CHANGE_S,
    DRIVER_BYTES,
    DRIVER_TIMEOUT_S,
    LONGEST_GAP_S,
    MEASURING_S,
    POLL_S,
    GpuPoller,
    GpuSample,
    find_owner,
    is_unused_by_others,
    parent_pid,
)
from launcher.queue.gpu.nvml_faults import (
    APPLICATION_XIDS,
    XID_FAULTS,
    XID_WARNINGS,
    fault_of,
    warning_of,
)
from launcher.queue.gpu.snapshot import GpuProcess, GpuSnapshot, gpu_record, read_gpu
from launcher.queue.home.paths import Home
from tests.build import DEADLINE_S
from tests.nvml.standin import GIB

# --- the monitor reports the driver's values and never waits for a hanging reading


STRANGER, OWN = 9921, 4711


def a_gpu(**changes: object) -> GpuSnapshot:
    """An unused GPU."""
    values: dict[str, object] = {
        "uuid": "GPU-1",
        "index": 0,
        "name": "A10",
        "total": 24 * GIB,
        "used": GIB // 2,
        "processes": (),
        "utilisation": 0.0,
    }
    return GpuSnapshot(**values | changes)  # type: ignore[arg-type]  # checked by the class


def a_process(pid: int, used: int | None = GIB) -> GpuProcess:
    return GpuProcess(pid=pid, used=used)


class MonitorHarness:
    """A lookout over what a test says; time stands still."""

    def __init__(self, *gpus: GpuSnapshot) -> None:
        self.gpus = list(gpus)
        self.now = 100.0
        self.readings = 0
        self.woken = threading.Semaphore(0)
        self.answer = threading.Event()
        self.answer.set()
        self.lookout = GpuPoller(
            self.read_gpus,
            self.woken.release,
            own_pids=lambda: {OWN},
            clock=lambda: self.now,
        )

    def read_gpus(self) -> list[GpuSnapshot]:
        assert self.answer.wait(DEADLINE_S)
        self.readings += 1
        return self.gpus

    def wake(self) -> None:
        """Wait until a reading has ended."""
        assert self.woken.acquire(timeout=DEADLINE_S)

    def take_sample(self, *gpus: GpuSnapshot, later: float = POLL_S) -> GpuSample:
        """Request a reading after some time, and return it."""
        self.gpus = list(gpus) or self.gpus
        self.now += later
        self.lookout.request_sample()
        self.wake()
        sight = self.lookout.latest_sample()
        assert sight is not None
        return sight


def test_monitor_starts_no_thread_before_the_first_request() -> None:
    before = threading.active_count()

    post = MonitorHarness(a_gpu())

    assert post.lookout.latest_sample() is None
    assert threading.active_count() == before


def test_requested_reading_is_taken_and_its_end_is_signalled() -> None:
    post = MonitorHarness(a_gpu())

    sight = post.take_sample()

    assert (sight.gpus, sight.at) == ((a_gpu(),), post.now)


def test_driver_is_read_at_most_once_a_second() -> None:
    post = MonitorHarness(a_gpu())
    post.take_sample()

    post.now += POLL_S / 2
    post.lookout.request_sample()
    post.take_sample(later=POLL_S / 2)

    assert post.readings == 2


def test_change_makes_the_next_reading_earlier() -> None:
    post = MonitorHarness(a_gpu())
    post.take_sample()

    assert not post.lookout.request_sample(after_change=True), (
        "the newest look is from this instant"
    )
    post.now += 2 * AFTER_CHANGE_S
    assert not post.lookout.request_sample()
    assert post.lookout.request_sample(after_change=True)
    post.wake()

    assert post.readings == 2


def test_new_attempt_makes_readings_more_frequent() -> None:
    post = MonitorHarness(a_gpu())
    post.take_sample()

    post.now += MEASURING_S / 2
    assert not post.lookout.request_sample(is_measuring=True)
    post.now += MEASURING_S
    assert not post.lookout.request_sample()
    assert post.lookout.request_sample(is_measuring=True)
    post.wake()

    assert post.readings == 2


def test_request_during_a_reading_starts_no_second_reading() -> None:
    post = MonitorHarness(a_gpu())
    post.answer.clear()

    post.lookout.request_sample()
    post.now += DRIVER_TIMEOUT_S * 2
    post.lookout.request_sample()
    assert post.lookout.latest_sample() is None
    post.answer.set()
    post.wake()

    assert post.readings == 1


def test_silent_driver_leaves_memory_unknown_and_is_no_fault() -> None:
    post = MonitorHarness(a_gpu(), a_gpu(uuid="GPU-2", warnings=("hot",)))
    first = post.take_sample()
    post.answer.clear()
    post.now += POLL_S
    post.lookout.request_sample()

    post.now += DRIVER_TIMEOUT_S
    assert post.lookout.latest_sample() == first, "a look may take a while"
    post.now += 7
    late = post.lookout.latest_sample()

    assert late is not None
    told = "the driver has not answered for 12 s"
    assert late.gpus == (
        a_gpu(used=None, warnings=(told,)),
        a_gpu(uuid="GPU-2", used=None, warnings=("hot", told)),
    )
    assert set(late.idle.values()) == {0.0}
    post.answer.set()
    post.wake()
    assert post.take_sample().gpus == first.gpus


def test_failed_reading_is_reported_and_repeated_after_a_second() -> None:
    post, now = MonitorHarness(a_gpu()), [100.0]
    looks: list[float] = []
    woken = threading.Semaphore(0)

    def take_reading() -> Sequence[GpuSnapshot]:
        looks.append(now[0])
        if len(looks) == 1:
            raise ValueError("no such card")
        return post.read_gpus()

    lookout = GpuPoller(take_reading, woken.release, clock=lambda: now[0])

    lookout.request_sample()
    assert woken.acquire(timeout=DEADLINE_S)
    assert (lookout.latest_sample(), lookout.error) == (None, "ValueError: no such card")
    lookout.request_sample()  # too soon
    now[0] += POLL_S
    lookout.request_sample()
    assert woken.acquire(timeout=DEADLINE_S)

    assert looks == [100.0, 100.0 + POLL_S]
    assert lookout.latest_sample() is not None
    assert lookout.error == ""


# --- users of a GPU


def test_gpu_without_other_users_is_idle_from_the_first_reading() -> None:
    post = MonitorHarness(a_gpu())

    assert post.take_sample().idle == {"GPU-1": 0.0}
    assert post.take_sample(later=30).idle == {"GPU-1": 30.0}
    assert post.take_sample(a_gpu(processes=(a_process(OWN),), used=GIB), later=10).idle == {
        "GPU-1": 40.0
    }


def test_process_of_another_user_restarts_the_idle_time() -> None:
    post = MonitorHarness(a_gpu())
    post.take_sample()

    assert post.take_sample(a_gpu(processes=(a_process(STRANGER),)), later=30).idle == {
        "GPU-1": 0.0
    }
    assert post.take_sample(a_gpu(), later=5).idle == {"GPU-1": 0.0}
    assert post.take_sample(later=5).idle == {"GPU-1": 5.0}


def test_long_gap_between_readings_resets_the_idle_time() -> None:
    post = MonitorHarness(a_gpu())
    post.take_sample()

    assert post.take_sample(later=LONGEST_GAP_S + 1).idle == {"GPU-1": 0.0}


def test_missing_gpu_is_not_counted() -> None:
    post = MonitorHarness(a_gpu())
    post.take_sample()

    assert post.take_sample(a_gpu(uuid="GPU-2"), later=30).idle == {"GPU-2": 0.0}


@pytest.mark.parametrize(
    ("changes", "unused"),
    [
        pytest.param({}, True, id="nobody's process"),
        pytest.param({"processes": (a_process(OWN),), "used": 2 * GIB}, True, id="only ours"),
        pytest.param({"processes": (a_process(OWN), a_process(STRANGER))}, False, id="a stranger"),
        pytest.param(
            {"processes": (a_process(OWN, None),), "used": 9 * GIB}, True, id="ours, size untold"
        ),
        pytest.param({"utilisation": 0.4}, False, id="nobody's process, busy"),
        pytest.param({"utilisation": None}, True, id="nobody's process on an instance"),
        pytest.param({"used": 9 * GIB}, False, id="memory of nobody, as in a container"),
        pytest.param(
            {"processes": (a_process(OWN),), "used": 9 * GIB}, False, id="more than we hold"
        ),
        pytest.param({"processes": None}, True, id="processes untold, nothing happens"),
        pytest.param({"processes": None, "utilisation": 0.4}, False, id="processes untold, busy"),
        pytest.param({"processes": None, "utilisation": None}, False, id="nothing is told"),
        pytest.param(
            {"processes": None, "used": DRIVER_BYTES + 1}, False, id="processes untold, memory used"
        ),
        pytest.param({"used": None}, False, id="memory untold"),
        pytest.param({"fault": "does not respond"}, False, id="faulty"),
    ],
)
def test_gpu_is_unused_only_if_its_processes_are_known(
    changes: dict[str, object], unused: bool
) -> None:
    assert is_unused_by_others(a_gpu(**changes), {OWN}) is unused


def test_returned_snapshot_is_independent_of_the_reader() -> None:
    post = MonitorHarness(a_gpu())
    sight = post.take_sample()

    post.gpus[0] = replace(a_gpu(), used=0)

    assert sight.gpus == (a_gpu(),)


# --- A process belongs to the job from whose supervisor it descends


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
def test_process_belongs_to_the_job_of_its_supervisor(pid: int, job: int | None) -> None:
    assert find_owner(pid, FAMILY.get, SUPERVISORS) == job


@given(st.dictionaries(st.integers(0, 9), st.integers(0, 9)), st.integers(0, 9))
def test_reused_pids_in_a_cycle_belong_to_no_job(parents: dict[int, int], pid: int) -> None:
    assert find_owner(pid, parents.get, {}) is None


def test_the_parent_of_a_living_process_is_known() -> None:
    child = subprocess.Popen(["/bin/sh", "-c", "read line"], stdin=subprocess.PIPE)

    assert parent_pid(child.pid) == os.getpid()
    assert find_owner(child.pid, parent_pid, {os.getpid(): 5}) == 5

    child.communicate()
    assert parent_pid(child.pid) is None


# --- an Xid is a fault of a GPU, worth a warning, or caused by a program


def test_xid_lists_are_disjoint() -> None:
    assert not XID_FAULTS.keys() & XID_WARNINGS.keys()
    assert not (XID_FAULTS.keys() | XID_WARNINGS.keys()) & APPLICATION_XIDS


@pytest.mark.parametrize(
    ("xid", "fault", "warning"),
    [
        (79, "has fallen off the bus (Xid 79)", ""),
        (4711, "", "the driver reports an error (Xid 4711)"),  # an unknown Xid
        *((xid, "", "") for xid in sorted(APPLICATION_XIDS)),
    ],
)
def test_xid_is_a_fault_a_warning_or_ignored(xid: int, fault: str, warning: str) -> None:
    assert (fault_of(xid), warning_of(xid)) == (fault, warning)


# --- gpus.json says again what the scheduler saw, and no other file is taken for one


AMOUNTS = st.none() | st.integers(0, 1 << 50)
SHARES = st.none() | st.floats(0, 1)
TEXTS = st.text(max_size=20)
PROCESSES = st.builds(
    GpuProcess,
    pid=st.integers(1, 1 << 22),
    used=AMOUNTS,
    user=st.none() | TEXTS,
    command=st.none() | TEXTS,
    sm=SHARES,
)
GPUS = st.builds(
    GpuSnapshot,
    uuid=TEXTS,
    index=st.integers(0, 15),
    name=TEXTS,
    total=st.integers(0, 1 << 50),
    used=AMOUNTS,
    mig=st.none() | st.integers(0, 6),
    fault=TEXTS,
    warnings=st.lists(TEXTS, max_size=2).map(tuple),
    processes=st.none() | st.lists(PROCESSES, max_size=3).map(tuple),
    utilisation=SHARES,
    reports_load=st.booleans(),
    power_w=SHARES,
    power_limit_w=SHARES,
    temperature_c=st.none() | st.integers(-40, 120),
    ecc_uncorrected=AMOUNTS,
)
PLAIN: dict[str, Any] = {"uuid": "GPU-1", "index": 0, "name": "A10", "total": 24, "used": None}


@given(GPUS)
def test_gpu_record_round_trip(gpu: GpuSnapshot) -> None:
    assert read_gpu(json.loads(json.dumps(gpu_record(gpu)))) == gpu


def test_gpus_file_has_the_snapshot_with_its_time_and_fault(home: Home) -> None:
    assert read_gpu_status(home) is None
    look = GpuStatus(at=3.5, gpus=(GpuSnapshot(**PLAIN),), error="nobody can write there")
    write_gpu_status(home, look)
    assert read_gpu_status(home) == look
    assert read_known_attempts(home) == []


def test_measurements_of_attempts_are_written_and_read_by_the_next_scheduler(
    home: Home,
) -> None:
    assert read_known_attempts(home) == []
    look = GpuStatus(at=3.5, gpus=(GpuSnapshot(**PLAIN),), error="")
    write_gpu_status(home, look, [{"job": 1, "number": 2, "used": GIB}])
    assert read_known_attempts(home) == [{"job": 1, "number": 2, "used": GIB}]
    assert read_gpu_status(home) == look


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"attempts": 7}', '{"attempts": null}'])
def test_damaged_measurements_of_attempts_count_as_none(home: Home, text: str) -> None:
    home.gpus.parent.mkdir(parents=True, exist_ok=True)
    home.gpus.write_text(text)
    assert read_known_attempts(home) == []


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ("A10", "a GPU has no 'uuid'"),
        ({"uuid": "GPU-1"}, "a GPU has no 'index'"),
        (PLAIN | {"uuid": None}, "'uuid' of a GPU has the wrong type: 'None'"),
        (PLAIN | {"used": "much"}, "'used' of a GPU has the wrong type: 'much'"),
        (PLAIN | {"used": True}, "'used' of a GPU has the wrong type: 'True'"),
        (PLAIN | {"reports_load": 1}, "'reports_load' of a GPU has the wrong type: '1'"),
        (PLAIN | {"reports_load": None}, "'reports_load' of a GPU has the wrong type: 'None'"),
        (PLAIN | {"used": -5}, "'used' of a GPU cannot be -5"),
        (PLAIN | {"total": -1}, "'total' of a GPU cannot be -1"),
        (PLAIN | {"total": 10**400}, "'total' of a GPU cannot be 1000"),
        (PLAIN | {"utilisation": float("nan")}, "'utilisation' of a GPU cannot be nan"),
        (PLAIN | {"power_w": float("inf")}, "'power_w' of a GPU cannot be inf"),
        (PLAIN | {"processes": [7]}, "a process of a GPU has no 'pid'"),
        (PLAIN | {"processes": [{"used": 7}]}, "pid"),
        (PLAIN | {"warnings": [7]}, "'warnings' of a GPU is not a list of strings"),
    ],
)
def test_invalid_gpu_record_is_reported_and_its_file_is_rejected(
    record: object, said: str, home: Home
) -> None:
    with pytest.raises(ValueError, match=said):
        read_gpu(record)
    home.gpus.write_text(json.dumps({"schema": 1, "at": 1, "gpus": [record]}))
    assert read_gpu_status(home) is None


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff\xfe\n", b"[]", b'{"schema": 2, "at": 1, "gpus": []}', b"[" * 100_000],
)
def test_file_with_other_content_lists_no_gpu(content: bytes, home: Home) -> None:
    home.gpus.write_bytes(content)
    assert read_gpu_status(home) is None
