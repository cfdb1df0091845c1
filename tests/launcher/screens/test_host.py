"""The machine's own line: its values, and its text."""

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from launcher.frontends.screens import host_reader
from launcher.frontends.screens.host import DiskUsage, host_line
from launcher.frontends.screens.host_reader import (
    PATIENCE_S,
    CpuTime,
    HostReader,
    cpu_time,
    disk_of,
    disks_of,
    group_memory_use,
    load_of,
    own_pages,
    process_times,
    tree_ticks,
)
from launcher.queue.gpu.own_reservations import Reservation
from launcher.queue.gpu.reservations import ReservationBoard, quiet_board
from launcher.queue.gpu.resources import core_resource_name
from launcher.queue.store.rows import Claim
from launcher.system.processes import boot_id, core_mask
from launcher.system.terminal import in_ascii
from launcher.system.text_table import TextLine, TextStyle, width_of
from tests.build import GIB, until
from tests.screens import a_host


def a_machine(root: Path, stat: str) -> None:
    (root / "proc/self").mkdir(parents=True, exist_ok=True)
    (root / "proc/stat").write_text(stat)
    (root / "proc/loadavg").write_text("3.25 1.00 0.50 2/345 6789\n")
    (root / "proc/meminfo").write_text("MemTotal: 1000 kB\nMemAvailable: 400 kB\n")


def test_host_is_read_from_proc_files(tmp_path: Path) -> None:
    a_machine(tmp_path, STAT)
    reader = HostReader(tmp_path, root=tmp_path)
    host = reader.read([])
    assert (host.cores, host.busy, host.load) == (2, None, 3.25)
    assert (host.memory, host.memory_used) == (1000 << 10, 600 << 10)
    assert [disk.use for disk in host.disks] == ["home"]
    a_machine(tmp_path, STAT.replace("cpu  100 10 40 800", "cpu  150 10 40 850"))
    assert reader.read([]).busy == 1.0


def test_nearby_reads_share_one_cpu_usage_measurement(tmp_path: Path) -> None:
    a_machine(tmp_path, STAT)
    reader = HostReader(tmp_path, root=tmp_path)
    reader.read([])
    a_machine(tmp_path, STAT.replace("cpu  100 10 40 800", "cpu  150 10 40 850"))
    assert reader.read([]).busy == 1.0
    a_machine(tmp_path, STAT.replace("cpu  100 10 40 800", "cpu  154 10 40 850"))  # for 20 ms
    assert reader.read([]).busy == 1.0
    a_machine(tmp_path, STAT.replace("cpu  100 10 40 800", "cpu  250 10 40 850"))
    assert reader.read([]).busy == 2.0


def test_cgroup_memory_limit_replaces_machine_memory(tmp_path: Path) -> None:
    a_machine(tmp_path, STAT)
    group = tmp_path / "sys/fs/cgroup/jobs"
    group.mkdir(parents=True)
    (tmp_path / "sys/fs/cgroup/cgroup.controllers").write_text("memory\n")
    (tmp_path / "proc/self/cgroup").write_text("0::/jobs\n")
    (group / "memory.max").write_text("500000\n")
    (group / "memory.current").write_text("300000\n")
    (group / "memory.stat").write_text("inactive_file 100000\n")
    host = HostReader(tmp_path, root=tmp_path).read([])
    assert (host.memory, host.memory_used) == (500_000, 200_000)


def test_host_is_returned_if_no_file_is_readable(tmp_path: Path) -> None:
    host = HostReader(tmp_path / "not/there", root=tmp_path / "none").read([])
    assert (host.busy, host.load, host.memory) == (None, None, 0)
    assert host.cores >= 1
    assert [disk.use for disk in host.disks] == ["home"]


def test_cpu_usage_of_a_process_tree_is_measured() -> None:
    spin = "while True: pass"
    words = [
        sys.executable,
        "-c",
        f"import subprocess, sys; subprocess.run([sys.executable, '-c', {spin!r}])",
    ]
    parent = subprocess.Popen(words, start_new_session=True)
    try:
        before = process_times([parent.pid])
        until(
            lambda: (process_times([parent.pid]).measure_since(before, 1.0) or 0.0) > 0.3,
            "its child has worked",
        )
        assert process_times([parent.pid]).resident > 1 << 20
    finally:
        os.killpg(parent.pid, 9)
        parent.wait()
    assert process_times([parent.pid]).ticks == {}


def test_new_process_tree_counts_from_its_second_measurement() -> None:
    before, now = process_times([]), process_times([os.getpid()])
    assert now.measure_since(before, 1.0) == 0.0
    assert now.measure_since(before, 0.0) is None


def test_invalid_lines_are_ignored() -> None:
    assert tree_ticks("") is None
    assert tree_ticks("1 (a) b) S" + " 0" * 10 + " 1 2 3 4 5") == 10
    assert own_pages("") == 0
    assert own_pages("100 60 20 1 0 9 0") == 40


def test_disk_shared_by_queue_folder_and_runs_is_shown_once(tmp_path: Path) -> None:
    assert disks_of([tmp_path / "runs/none"], other_folder=tmp_path) == ()
    shm = Path("/dev/shm")  # another file system on every Linux
    if shm.is_dir() and shm.stat().st_dev != tmp_path.stat().st_dev:
        (disk,) = disks_of([shm / "runs", tmp_path], other_folder=tmp_path)
        assert disk.use == "runs"


def test_free_disk_space_is_what_the_user_may_write(tmp_path: Path) -> None:
    disk = disk_of("home", tmp_path / "not/yet")
    assert disk is not None
    assert disk.total == shutil.disk_usage(tmp_path).total


def test_cpu_usage_of_jobs_is_measured_in_the_background(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host_reader, "LEAST_PAUSE_S", 0.1)
    job = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        reader = HostReader(tmp_path, measures=True)
        claim = Claim(
            job=1, number=1, boot=boot_id(), device="cpu", cpus=3, pid=job.pid, start_ticks=1,
            spec_text="", context_text="",
        )  # fmt: skip
        until(lambda: (reader.read([claim]).ours or 0.0) > 0.0, "it was seen at work")
        host = reader.read([claim])
        assert host.reserved == 3
        assert host.memory_ours is not None
        assert host.memory_ours > 1 << 20
        assert host.busy is None or host.ours is None or host.ours <= host.busy
    finally:
        job.kill()
        job.wait()


def test_hanging_disk_shows_no_outdated_value(tmp_path: Path) -> None:
    now = [0.0]
    answers = threading.Event()

    class Stuck(type(tmp_path)):  # type: ignore[misc]  # the class of this machine's paths
        """A folder on a server that is gone."""

        def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
            answers.wait()
            return Path(str(self)).stat(follow_symlinks=follow_symlinks)

    reader = HostReader(tmp_path, measures=True, clock=lambda: now[0])
    try:
        until(lambda: reader.read([], [Stuck(tmp_path)]).memory_ours is not None, "it measures")
        now[0] += PATIENCE_S + 1
        host = reader.read([], [Stuck(tmp_path)])
        assert host.memory_ours is None
        assert host.memory > 0
    finally:
        answers.set()


# --- The machine in one line


def tones(line: TextLine) -> dict[str, TextStyle]:
    return {span.text.split()[0]: span.style for span in line.spans}


@pytest.mark.parametrize(
    ("width", "text"),
    [
        (
            120,
            "host: 7.4/16 cores (5.1 ours, 2.3 others') · load 8.3 · memory 21/64 GiB (12 ours)"
            " · disk 120 GiB free",
        ),
        (80, "host: 7.4/16 cores · load 8.3 · memory 21/64 GiB · disk 120 GiB free"),
        (60, "host: 7.4/16 cores · memory 21/64 GiB · disk 120 GiB free"),
    ],
)
def test_less_important_parts_are_left_out_on_narrow_screens(width: int, text: str) -> None:
    host = a_host(disks=(DiskUsage(use="home", free=120 * GIB, total=250 * GIB),))
    assert host_line(host, width).text == text


@pytest.mark.parametrize("width", [1, 20, 40, 79, 80, 81, 120, 200])
def test_host_line_fits_any_width(width: int) -> None:
    line = host_line(a_host(), width)
    assert width_of(line.text) <= width
    assert in_ascii(line.text).isascii()


def test_reserved_cores_are_shown_before_usage_is_measured() -> None:
    line = host_line(a_host(busy=None, ours=None, usable=8), 200)
    assert line.text.startswith("host: 6/16 cores reserved (8 usable) · load 8.3")


def test_cores_reserved_by_other_queues_are_counted() -> None:
    line = host_line(a_host(busy=None, ours=None, reserved_elsewhere=8), 200)
    assert line.text.startswith("host: 14/16 cores reserved (8 reserved by other queues)")


def test_reader_counts_cores_reserved_by_other_queues(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAUNCHER_CLAIMS", str(tmp_path))
    for name, cores in (("ours", 5), ("other", 1)):
        board = ReservationBoard(tmp_path, tmp_path / name)
        assert board.publish([Reservation(core_resource_name(core_mask()), cores, None, job=1)])
    foreign = quiet_board(tmp_path / "ours").foreign_reservations()
    host = HostReader(tmp_path / "ours").read([], foreign=foreign)
    assert (host.reserved_elsewhere, host.to_json()["reserved_elsewhere"]) == (1, 1)


def test_scarce_resources_are_highlighted() -> None:
    plenty = tones(host_line(a_host(), 200))
    assert {plenty[word] for word in ("load", "memory", "disk", "runs")} == {TextStyle.PLAIN}
    short = a_host(
        load=40.0,
        memory_used=60 * GIB,
        disks=(
            DiskUsage(use="home", free=4 * GIB, total=250 * GIB),
            DiskUsage(use="runs", free=GIB // 2, total=8 * GIB),
        ),
    )
    tone_of = tones(host_line(short, 200))
    assert {tone_of[word] for word in ("load", "memory", "disk")} == {TextStyle.WARN}
    assert tone_of["runs"] is TextStyle.BAD
    full = a_host(disks=(DiskUsage(use="home", free=4 << 20, total=8 << 20, files=0),))
    assert host_line(full, 200).text.endswith("· disk: no inodes free")
    assert tones(host_line(a_host(memory_used=63 * GIB), 200))["memory"] is TextStyle.BAD


# --- What the kernel's files say of the machine


STAT = """\
cpu  100 10 40 800 50 0 0 0 30 0
cpu0 50 5 20 400 25 0 0 0 15 0
cpu1 50 5 20 400 25 0 0 0 15 0
intr 12345
"""


def test_io_wait_is_idle_and_guest_time_counts_once() -> None:
    assert cpu_time(STAT) == CpuTime(busy=150, total=1000, cores=2)


@pytest.mark.parametrize("text", ["", "cpu", "cpu  1 2 x 4 5", "intr 1"])
def test_unreadable_values_are_none(text: str) -> None:
    assert cpu_time(text) is None


def test_cpu_usage_is_measured_in_cores() -> None:
    before = CpuTime(busy=100, total=1000, cores=4)
    assert CpuTime(busy=200, total=1200, cores=4).measure_since(before) == 2.0
    assert CpuTime(busy=90, total=1200, cores=4).measure_since(before) == 0.0
    assert before.measure_since(before) is None


def test_load_is_the_one_minute_average() -> None:
    assert load_of("3.25 1.00 0.50 2/345 6789\n") == 3.25
    assert load_of("") is None


def test_reclaimable_memory_is_not_in_use() -> None:
    assert group_memory_use("1000\n", "anon 1\ninactive_file 300\n") == 700
    assert group_memory_use("1000\n", "inactive_file 1\ntotal_inactive_file 400\n") == 600
    assert group_memory_use("max\n", "") is None


def test_usage_by_others_is_total_minus_own() -> None:
    assert a_host(busy=7.0, ours=5.0).others == 2.0
    assert a_host(busy=7.0, ours=None).others is None
