"""The machine's own line: what is read of it, and how it is told."""

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from launcher.gpu.own_reservations import Reservation
from launcher.gpu.reservations import ReservationBoard, quiet_board
from launcher.gpu.resources import core_resource_name
from launcher.screens.host import DiskUsage, host_line
from launcher.screens.host_reader import (
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
from launcher.screens.terminal import in_ascii
from launcher.screens.text_table import TextLine, TextStyle, width_of
from launcher.store.rows import Claim
from launcher.system.processes import boot_id, core_mask
from tests.build import GIB, until
from tests.screens import a_host


def a_machine(root: Path, stat: str) -> None:
    (root / "proc/self").mkdir(parents=True, exist_ok=True)
    (root / "proc/stat").write_text(stat)
    (root / "proc/loadavg").write_text("3.25 1.00 0.50 2/345 6789\n")
    (root / "proc/meminfo").write_text("MemTotal: 1000 kB\nMemAvailable: 400 kB\n")


def test_a_machine_is_read_from_its_files(tmp_path: Path) -> None:
    a_machine(tmp_path, STAT)
    reader = HostReader(tmp_path, root=tmp_path)
    host = reader.read([])
    assert (host.cores, host.busy, host.load) == (2, None, 3.25)
    assert (host.memory, host.memory_used) == (1000 << 10, 600 << 10)
    assert [disk.use for disk in host.disks] == ["home"]
    a_machine(tmp_path, STAT.replace("cpu  100 10 40 800", "cpu  150 10 40 850"))
    assert reader.read([]).busy == 1.0


def test_looks_close_together_share_how_busy_the_cores_are(tmp_path: Path) -> None:
    a_machine(tmp_path, STAT)
    reader = HostReader(tmp_path, root=tmp_path)
    reader.read([])
    a_machine(tmp_path, STAT.replace("cpu  100 10 40 800", "cpu  150 10 40 850"))
    assert reader.read([]).busy == 1.0
    a_machine(tmp_path, STAT.replace("cpu  100 10 40 800", "cpu  154 10 40 850"))  # for 20 ms
    assert reader.read([]).busy == 1.0
    a_machine(tmp_path, STAT.replace("cpu  100 10 40 800", "cpu  250 10 40 850"))
    assert reader.read([]).busy == 2.0


def test_in_a_group_with_a_limit_its_own_memory_counts(tmp_path: Path) -> None:
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


def test_where_nothing_can_be_read_there_is_a_machine_all_the_same(tmp_path: Path) -> None:
    host = HostReader(tmp_path / "not/there", root=tmp_path / "none").read([])
    assert (host.busy, host.load, host.memory) == (None, None, 0)
    assert host.cores >= 1
    assert [disk.use for disk in host.disks] == ["home"]


def test_the_work_of_a_tree_of_processes_is_measured() -> None:
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
            lambda: (process_times([parent.pid]).since(before, 1.0) or 0.0) > 0.3,
            "its child has worked",
        )
        assert process_times([parent.pid]).resident > 1 << 20
    finally:
        os.killpg(parent.pid, 9)
        parent.wait()
    assert process_times([parent.pid]).ticks == {}


def test_a_tree_that_is_new_is_not_counted_before_it_was_seen_once() -> None:
    before, now = process_times([]), process_times([os.getpid()])
    assert now.since(before, 1.0) == 0.0
    assert now.since(before, 0.0) is None


def test_lines_that_cannot_be_read_count_for_nothing() -> None:
    assert tree_ticks("") is None
    assert tree_ticks("1 (a) b) S" + " 0" * 10 + " 1 2 3 4 5") == 10
    assert own_pages("") == 0
    assert own_pages("100 60 20 1 0 9 0") == 40


def test_a_disk_on_which_the_home_lies_is_told_of_once(tmp_path: Path) -> None:
    assert disks_of([tmp_path / "runs/none"], beside=tmp_path) == ()
    shm = Path("/dev/shm")  # another file system on every Linux
    if shm.is_dir() and shm.stat().st_dev != tmp_path.stat().st_dev:
        (disk,) = disks_of([shm / "runs", tmp_path], beside=tmp_path)
        assert disk.use == "runs"


def test_the_room_of_a_disk_is_what_its_user_may_write(tmp_path: Path) -> None:
    disk = disk_of("home", tmp_path / "not/yet")
    assert disk is not None
    assert disk.total == shutil.disk_usage(tmp_path).total


def test_the_work_of_running_jobs_is_measured_beside_the_screen(tmp_path: Path) -> None:
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


def test_a_disk_that_does_not_answer_leaves_nothing_old_on_the_screen(tmp_path: Path) -> None:
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
def test_what_is_less_needed_is_left_out_where_there_is_little_room(width: int, text: str) -> None:
    host = a_host(disks=(DiskUsage(use="home", free=120 * GIB, total=250 * GIB),))
    assert host_line(host, width).text == text


@pytest.mark.parametrize("width", [1, 20, 40, 79, 80, 81, 120, 200])
def test_it_fits_any_screen(width: int) -> None:
    line = host_line(a_host(), width)
    assert width_of(line.text) <= width
    assert in_ascii(line.text).isascii()


def test_before_any_work_is_measured_it_tells_what_is_promised() -> None:
    line = host_line(a_host(busy=None, ours=None, usable=8), 200)
    assert line.text.startswith("host: 6/16 cores reserved (8 usable) · load 8.3")


def test_cores_that_other_queues_have_reserved_are_counted() -> None:
    line = host_line(a_host(busy=None, ours=None, reserved_elsewhere=8), 200)
    assert line.text.startswith("host: 14/16 cores reserved (8 reserved by other queues)")


def test_a_reader_counts_the_cores_that_other_queues_have_reserved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAUNCHER_CLAIMS", str(tmp_path))
    for name, cores in (("ours", 5), ("other", 1)):
        board = ReservationBoard(tmp_path, tmp_path / name)
        assert board.publish([Reservation(core_resource_name(core_mask()), cores, None, job=1)])
    foreign = quiet_board(tmp_path / "ours").foreign_reservations()
    host = HostReader(tmp_path / "ours").read([], foreign=foreign)
    assert (host.reserved_elsewhere, host.record()["reserved_elsewhere"]) == (1, 1)


def test_what_runs_short_stands_out() -> None:
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
    assert tones(host_line(a_host(memory_used=63 * GIB), 200))["memory"] is TextStyle.BAD


# --- What the kernel's files say of the machine


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
    assert group_memory_use("1000\n", "anon 1\ninactive_file 300\n") == 700
    assert group_memory_use("1000\n", "inactive_file 1\ntotal_inactive_file 400\n") == 600
    assert group_memory_use("max\n", "") is None


def test_the_work_of_others_is_what_is_not_ours() -> None:
    assert a_host(busy=7.0, ours=5.0).others == 2.0
    assert a_host(busy=7.0, ours=None).others is None
