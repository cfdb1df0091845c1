"""The reader of the machine's state: the kernel's files, the disks of the queue, and the usage of running jobs.

The work and memory of a job are those of its attempt's supervisor and of all its descendants. Cheap values
are read each time, the others in a thread and less often.
"""

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from os import sysconf
from pathlib import Path
from typing import NamedTuple

from launcher.frontends.screens.host import HOME, RUNS, DiskUsage, Host
from launcher.queue.gpu.resources import ForeignReservation, shares_cores
from launcher.queue.store.rows import Claim
from launcher.system import memory
from launcher.system.background_query import BackgroundQuery
from launcher.system.files import read_bytes
from launcher.system.process_trees import descendants
from launcher.system.processes import core_mask, usable_cores

_IDLE, _IOWAIT = 3, 4  # fields of a line of /proc/stat. Source: proc_stat(5)
_GUEST = 8  # first of the columns that `user` and `nice` already contain
_TIMES = slice(11, 15)  # utime, stime, cutime, cstime after the name. Source: proc_pid_stat(5)
LEAST_PAUSE_S = 2.0  # seconds between two measurements of jobs
SHARE = 0.01  # share of time that measurements may take; jobs may have very many processes
PATIENCE_S = 10.0  # longest time of a measurement
_LEAST_TICKS = 25  # per core, below which no work is reported; a quarter of a second
_USAGE = ("memory.current", "memory.usage_in_bytes")  # files of a control group, version 2 and 1


class CpuTime(NamedTuple):
    """The time of all cores together since the machine was started, in ticks."""

    busy: int
    total: int
    cores: int

    def measure_since(self, earlier_times: "CpuTime") -> float | None:
        """Return the cores' worth of work since an earlier moment, or None if no time has passed."""
        passed = self.total - earlier_times.total
        if passed <= 0:
            return None
        share = min(max(0, self.busy - earlier_times.busy), passed) / passed
        return share * self.cores


def cpu_time(stat: str) -> CpuTime | None:
    """Return the times of all cores in /proc/stat, or None if it has none."""
    rows = [line.split() for line in stat.splitlines() if line.startswith("cpu")]
    every = next((row[1:] for row in rows if row[0] == "cpu"), [])
    if len(every) <= _IOWAIT or not all(word.isdigit() for word in every):
        return None
    ticks = [int(word) for word in every[:_GUEST]]
    total = sum(ticks)
    cores = sum(row[0] != "cpu" for row in rows)
    return CpuTime(busy=total - ticks[_IDLE] - ticks[_IOWAIT], total=total, cores=max(1, cores))


def load_of(loadavg: str) -> float | None:
    """Return the load over one minute in /proc/loadavg, or None if it has none."""
    word = next(iter(loadavg.split()), "")
    return float(word) if word.replace(".", "", 1).isdecimal() else None


def group_memory_use(current: str, stat: str) -> int | None:
    """Return the bytes of a memory group that cannot be reclaimed, or None if they are unknown.

    Args:
        current: its memory.current, or memory.usage_in_bytes of version 1.
        stat: its memory.stat.
    """
    if not current.strip().isdigit():
        return None
    rows = (line.split() for line in stat.splitlines())
    fields = {row[0]: int(row[1]) for row in rows if len(row) == 2 and row[1].isdigit()}
    cache = fields.get("total_inactive_file", fields.get("inactive_file", 0))
    return max(0, int(current) - cache)


class ProcessTimes(NamedTuple):
    """The CPU time and memory of process trees."""

    ticks: Mapping[int, int] = {}  # PID of the root → CPU time of the whole tree
    resident: int = 0  # bytes that are not shared with other processes

    def measure_since(self, earlier_times: "ProcessTimes", span_s: float) -> float | None:
        """Return the cores' worth of work since an earlier moment; a tree that is new does not count.

        The time of a child that has ended is added to its parent's, so the sum of a tree only grows.
        """
        if span_s <= 0:
            return None
        grown = (
            max(0, ticks - earlier_times.ticks[root])
            for root, ticks in self.ticks.items()
            if root in earlier_times.ticks
        )
        return sum(grown) / sysconf("SC_CLK_TCK") / span_s


def process_times(roots: Iterable[int]) -> ProcessTimes:
    """Return the CPU time of the trees below these pids; a tree that is gone counts for nothing."""
    ticks, pages = {}, 0
    for root in roots:
        tree = [root, *descendants(root)]
        proc = [Path("/proc", str(pid)) for pid in tree]
        times = [time for pid in proc if (time := tree_ticks(_text(pid / "stat"))) is not None]
        if times:
            ticks[root] = sum(times)
        pages += sum(own_pages(_text(pid / "statm")) for pid in proc)
    return ProcessTimes(ticks=ticks, resident=pages * sysconf("SC_PAGE_SIZE"))


def tree_ticks(stat: str) -> int | None:
    """Return the time of a process and of its children that have ended, from its stat."""
    words = stat.rpartition(")")[2].split()[_TIMES]
    return sum(map(int, words)) if len(words) == 4 else None


def own_pages(statm: str) -> int:
    """Return how many pages a process has to itself, from its statm. Source: proc_pid_statm(5)."""
    words = statm.split()
    return max(0, int(words[1]) - int(words[2])) if len(words) > 2 else 0


class HostMeasurement(NamedTuple):
    """Values measured in a thread, because a disk may not respond, and there may be many processes."""

    ours: float | None = None
    memory_ours: int | None = None
    disks: tuple[DiskUsage, ...] = ()


class HostReader:
    """Returns the machine as it is; between two looks it remembers how much its cores had done."""

    def __init__(
        self,
        home: Path,
        *,
        measures: bool = False,
        root: Path = Path("/"),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Look at nothing yet.

        Args:
            home: the queue's folder.
            measures: look at jobs' processes and at the disks of runs, too, in a thread.
            root: where /proc and /sys are.
            clock: returns the time in seconds.
        """
        self._home, self._measures, self._root, self._clock = home, measures, root, clock
        self._cpu: CpuTime | None = None
        self._busy: float | None = None
        self._measured = HostMeasurement()
        self._times: tuple[float, ProcessTimes] | None = None
        self._query = BackgroundQuery[None]("host", expected_error=(), clock=clock)
        self._next = 0.0

    def read(
        self,
        claims: Sequence[Claim],
        runs: Sequence[Path] = (),
        *,
        foreign: Sequence[ForeignReservation] = (),
    ) -> Host:
        """Return the machine as of now.

        Args:
            claims: the attempts that run on this machine.
            runs: folders in which runs write.
            foreign: reservations of other queues of this machine.
        """
        stat = cpu_time(self._text("proc/stat"))
        self._update_busy(stat)
        if self._measures:
            self._start_measurement([claim.pid for claim in claims if claim.pid > 0], runs)
        measured = HostMeasurement() if self._is_overdue() else self._measured
        busy, ours = self._busy, measured.ours
        total, used = self._memory()
        home = disk_of(HOME, self._home)
        return Host(
            cores=stat.cores if stat else os.cpu_count() or 1,
            usable=usable_cores(),
            reserved=sum(claim.cpus for claim in claims),
            busy=busy,
            # both are means, over different spans
            ours=ours if busy is None or ours is None else min(ours, busy),
            load=load_of(self._text("proc/loadavg")),
            memory=total,
            memory_used=used,
            memory_ours=measured.memory_ours,
            disks=(*([home] if home else []), *measured.disks),
            reserved_elsewhere=cores_reserved_elsewhere(foreign),
        )

    def _update_busy(self, stat: CpuTime | None) -> None:
        """Work out how busy the cores were since the last look; looks close together share an answer."""
        before = self._cpu
        if stat is None or before is None:
            self._cpu, self._busy = stat, None
        elif abs(stat.total - before.total) >= _LEAST_TICKS * stat.cores:
            self._cpu, self._busy = stat, stat.measure_since(before)

    def _memory(self) -> tuple[int, int]:
        """Return the bytes that we can use, and how many of them are in use."""
        group = memory.limiting_group(self._root)
        if group is not None:
            current = next((text for name in _USAGE if (text := _text(group / name))), "")
            used = group_memory_use(current, _text(group / "memory.stat"))
            if used is not None:
                return memory.usable_bytes(self._root), used
        there = memory.installed_bytes(self._root)
        return there, max(0, there - memory.available_bytes(self._root))

    def _start_measurement(self, pids: Sequence[int], runs: Sequence[Path]) -> None:
        if self._clock() >= self._next:
            self._query.begin(partial(self._measure, pids, runs))

    def _is_overdue(self) -> bool:
        """Return whether the last measurement is outdated because a disk does not respond."""
        return self._query.elapsed_s > PATIENCE_S

    def _measure(self, pids: Sequence[int], runs: Sequence[Path]) -> None:
        began, spent = self._clock(), time.thread_time()
        times = process_times(pids)
        before, self._times = self._times, (began, times)
        ours = None if before is None else times.measure_since(before[1], began - before[0])
        self._measured = self._measured._replace(ours=ours, memory_ours=times.resident)
        self._next = began + max(LEAST_PAUSE_S, (time.thread_time() - spent) / SHARE)
        # disks are measured last, because this call may not return
        self._measured = self._measured._replace(disks=disks_of(runs, other_folder=self._home))

    def _text(self, name: str) -> str:
        return _text(self._root / name)


def cores_reserved_elsewhere(foreign: Iterable[ForeignReservation]) -> int:
    """Return how many of the cores that we may use other queues of the machine have reserved."""
    mask = core_mask()
    return sum(each.amount for each in foreign if shares_cores(each.device, mask))


def disks_of(runs: Sequence[Path], *, other_folder: Path) -> tuple[DiskUsage, ...]:
    """Return the disk with the least free space that runs write to, except that of the queue folder."""
    by_device: Mapping[int, Path] = {
        device: folder for folder in runs if (device := _device(folder)) is not None
    }
    disks = [
        disk
        for device, folder in by_device.items()
        if device != _device(other_folder) and (disk := disk_of(RUNS, folder)) is not None
    ]
    return (min(disks, key=lambda disk: (disk.files != 0, disk.free)),) if disks else ()


def disk_of(use: str, folder: Path) -> DiskUsage | None:
    """Return the disk that contains a folder, or will contain it, or None if it is unknown."""
    for there in (folder, *folder.parents):
        try:
            status = os.statvfs(there)
        except OSError:
            continue
        size = status.f_frsize
        return DiskUsage(
            use=use,
            free=status.f_bavail * size,
            total=status.f_blocks * size,
            files=status.f_favail if status.f_files else None,
        )
    return None


def _device(folder: Path) -> int | None:
    for there in (folder, *folder.parents):
        try:
            return there.stat().st_dev
        except OSError:
            continue
    return None


def _text(path: Path) -> str:
    try:
        return read_bytes(path).decode(errors="replace")
    except OSError:
        return ""
