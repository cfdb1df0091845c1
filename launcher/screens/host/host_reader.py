"""Looks at the machine: what costs nothing at each look, the rest beside it and not too often."""

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from launcher.screens.host.host_facts import (
    HOME,
    RUNS,
    CpuTime,
    Disk,
    Host,
    cpu_time,
    group_use,
    load_of,
)
from launcher.screens.host.process_times import ProcessTimes, times_of
from launcher.store.rows import Claim
from launcher.system import memory
from launcher.system.files import read_bytes
from launcher.system.processes import cores

LEAST_PAUSE_S = 2.0  # between two measurements of jobs
SHARE = 0.01  # of its time that measuring may take: jobs may have very many processes
PATIENCE_S = 10.0  # for a measurement
_LEAST_TICKS = 25  # of each core, for which its work is told: a quarter of a second
_USAGE = ("memory.current", "memory.usage_in_bytes")  # of a group, version 2 and 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What is measured beside the screen: a disk may not answer, and processes may be many."""

    ours: float | None = None
    memory_ours: int | None = None
    disks: tuple[Disk, ...] = ()


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
            clock: tells the time in seconds.
        """
        self._home, self._measures, self._root, self._clock = home, measures, root, clock
        self._cpu: CpuTime | None = None
        self._busy: float | None = None
        self._measured = Measured()
        self._times: tuple[float, ProcessTimes] | None = None
        self._thread: threading.Thread | None = None
        self._since = self._next = 0.0

    def look(self, claims: Sequence[Claim], runs: Sequence[Path] = ()) -> Host:
        """Return the machine as of now.

        Args:
            claims: the attempts that run on this machine.
            runs: folders in which runs write.
        """
        stat = cpu_time(self._text("proc/stat"))
        self._note_work(stat)
        if self._measures:
            self._measure_beside([claim.pid for claim in claims if claim.pid > 0], runs)
        measured = Measured() if self._is_overdue() else self._measured
        busy, ours = self._busy, measured.ours
        total, used = self._memory()
        home = disk_of(HOME, self._home)
        return Host(
            cores=stat.cores if stat else os.cpu_count() or 1,
            usable=cores(),
            promised=sum(claim.cpus for claim in claims),
            busy=busy,
            # both are means, over different spans
            ours=ours if busy is None or ours is None else min(ours, busy),
            load=load_of(self._text("proc/loadavg")),
            memory=total,
            memory_used=used,
            memory_ours=measured.memory_ours,
            disks=(*([home] if home else []), *measured.disks),
        )

    def _note_work(self, stat: CpuTime | None) -> None:
        """Work out how busy the cores were since the last look; looks close together share an answer."""
        before = self._cpu
        if stat is None or before is None:
            self._cpu, self._busy = stat, None
        elif abs(stat.total - before.total) >= _LEAST_TICKS * stat.cores:
            self._cpu, self._busy = stat, stat.since(before)

    def _memory(self) -> tuple[int, int]:
        """Return the bytes that we can use, and how many of them are in use."""
        group = memory.limiting(self._root)
        if group is not None:
            current = next((text for name in _USAGE if (text := _text(group / name))), "")
            used = group_use(current, _text(group / "memory.stat"))
            if used is not None:
                return memory.total(self._root), used
        there = memory.there(self._root)
        return there, max(0, there - memory.available(self._root))

    def _measure_beside(self, pids: Sequence[int], runs: Sequence[Path]) -> None:
        under_way = self._thread is not None and self._thread.is_alive()
        if under_way or self._clock() < self._next:
            return
        self._since = self._clock()
        self._thread = threading.Thread(
            target=self._measure, args=(pids, runs), name="host", daemon=True
        )
        self._thread.start()

    def _is_overdue(self) -> bool:
        """Tell whether what was measured last is no longer how it is: a disk does not answer."""
        under_way = self._thread is not None and self._thread.is_alive()
        return under_way and self._clock() - self._since > PATIENCE_S

    def _measure(self, pids: Sequence[int], runs: Sequence[Path]) -> None:
        began, spent = self._clock(), time.thread_time()
        times = times_of(pids)
        before, self._times = self._times, (began, times)
        ours = None if before is None else times.since(before[1], began - before[0])
        self._measured = replace(self._measured, ours=ours, memory_ours=times.resident)
        pause_s = max(LEAST_PAUSE_S, (time.thread_time() - spent) / SHARE)
        self._next = began + pause_s
        # the last, as it may not return
        self._measured = replace(self._measured, disks=disks_of(runs, beside=self._home))

    def _text(self, name: str) -> str:
        return _text(self._root / name)


def disks_of(runs: Sequence[Path], *, beside: Path) -> tuple[Disk, ...]:
    """Return the disk with the least room of those that runs write to and the home does not lie on."""
    by_device: Mapping[int, Path] = {
        device: folder for folder in runs if (device := _device(folder)) is not None
    }
    disks = [
        disk
        for device, folder in by_device.items()
        if device != _device(beside) and (disk := disk_of(RUNS, folder)) is not None
    ]
    return (min(disks, key=lambda disk: disk.free),) if disks else ()


def disk_of(use: str, folder: Path) -> Disk | None:
    """Return the disk that a folder lies on, or will lie on; None where nobody knows."""
    for there in (folder, *folder.parents):
        try:
            status = os.statvfs(there)
        except OSError:
            continue
        size = status.f_frsize
        return Disk(use=use, free=status.f_bavail * size, total=status.f_blocks * size)
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
