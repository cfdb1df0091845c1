"""Looking at this machine, and at one that is made of files."""

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

from launcher.screens.host import (
    PATIENCE_S,
    HostReader,
    disk_of,
    disks_of,
    own_pages,
    times_of,
    tree_ticks,
)
from launcher.store.rows import Claim
from launcher.system.processes import boot_id
from tests.build import until
from tests.launcher.screens.host.test_host_facts import STAT


def a_machine(root: Path, stat: str) -> None:
    (root / "proc/self").mkdir(parents=True, exist_ok=True)
    (root / "proc/stat").write_text(stat)
    (root / "proc/loadavg").write_text("3.25 1.00 0.50 2/345 6789\n")
    (root / "proc/meminfo").write_text("MemTotal: 1000 kB\nMemAvailable: 400 kB\n")


def test_a_machine_is_read_from_its_files(tmp_path: Path) -> None:
    a_machine(tmp_path, STAT)
    reader = HostReader(tmp_path, root=tmp_path)
    host = reader.look([])
    assert (host.cores, host.busy, host.load) == (2, None, 3.25)
    assert (host.memory, host.memory_used) == (1000 << 10, 600 << 10)
    assert [disk.use for disk in host.disks] == ["home"]
    a_machine(tmp_path, STAT.replace("cpu  100 10 40 800", "cpu  150 10 40 850"))
    assert reader.look([]).busy == 1.0


def test_looks_close_together_share_how_busy_the_cores_are(tmp_path: Path) -> None:
    a_machine(tmp_path, STAT)
    reader = HostReader(tmp_path, root=tmp_path)
    reader.look([])
    a_machine(tmp_path, STAT.replace("cpu  100 10 40 800", "cpu  150 10 40 850"))
    assert reader.look([]).busy == 1.0
    a_machine(tmp_path, STAT.replace("cpu  100 10 40 800", "cpu  154 10 40 850"))  # for 20 ms
    assert reader.look([]).busy == 1.0
    a_machine(tmp_path, STAT.replace("cpu  100 10 40 800", "cpu  250 10 40 850"))
    assert reader.look([]).busy == 2.0


def test_in_a_group_with_a_limit_its_own_memory_counts(tmp_path: Path) -> None:
    a_machine(tmp_path, STAT)
    group = tmp_path / "sys/fs/cgroup/jobs"
    group.mkdir(parents=True)
    (tmp_path / "sys/fs/cgroup/cgroup.controllers").write_text("memory\n")
    (tmp_path / "proc/self/cgroup").write_text("0::/jobs\n")
    (group / "memory.max").write_text("500000\n")
    (group / "memory.current").write_text("300000\n")
    (group / "memory.stat").write_text("inactive_file 100000\n")
    host = HostReader(tmp_path, root=tmp_path).look([])
    assert (host.memory, host.memory_used) == (500_000, 200_000)


def test_where_nothing_can_be_read_there_is_a_machine_all_the_same(tmp_path: Path) -> None:
    host = HostReader(tmp_path / "not/there", root=tmp_path / "none").look([])
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
        before = times_of([parent.pid])
        until(
            lambda: (times_of([parent.pid]).since(before, 1.0) or 0.0) > 0.3, "its child has worked"
        )
        assert times_of([parent.pid]).resident > 1 << 20
    finally:
        os.killpg(parent.pid, 9)
        parent.wait()
    assert times_of([parent.pid]).ticks == {}


def test_a_tree_that_is_new_is_not_counted_before_it_was_seen_once() -> None:
    before, now = times_of([]), times_of([os.getpid()])
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
        until(lambda: (reader.look([claim]).ours or 0.0) > 0.0, "it was seen at work")
        host = reader.look([claim])
        assert host.promised == 3
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
        until(lambda: reader.look([], [Stuck(tmp_path)]).memory_ours is not None, "it measures")
        now[0] += PATIENCE_S + 1
        host = reader.look([], [Stuck(tmp_path)])
        assert host.memory_ours is None
        assert host.memory > 0
    finally:
        answers.set()
