"""Reads the GPUs in a separate thread, so that a hanging driver does not block the scheduler; finds the job of a process."""

import logging
import threading
import time
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import replace
from math import inf
from typing import NamedTuple, TypeVar

from launcher.queue.gpu.snapshot import GpuSnapshot
from launcher.queue.home.paths import Attempt
from launcher.system.background_query import BackgroundQuery
from launcher.system.errors import MachineError
from launcher.system.files import read_bytes
from launcher.system.processes import Identity, identity_lines, read_identity

POLL_S = 1.0  # seconds between two readings; the driver is not queried more often
MEASURING_S = 0.25  # seconds between two readings while a new attempt is measured
AFTER_CHANGE_S = (
    0.05  # seconds until the next reading after another user's scheduler published a change
)
DRIVER_TIMEOUT_S = 5.0  # seconds; a reading takes milliseconds, the first one, which wakes sleeping GPUs, takes seconds
LONGEST_GAP_S = (
    60.0  # seconds; after a longer gap between readings earlier users of a GPU are unknown
)
QUIET_UTILISATION = 0.05  # fraction of its time: a screen that is drawn on takes a few percent
DRIVER_BYTES = 1 << 30  # the driver itself uses some hundred MiB of an idle GPU

logger = logging.getLogger(__name__)


class GpuSample(NamedTuple):
    """The newest reading of the GPUs."""

    gpus: tuple[GpuSnapshot, ...]
    at: float  # when the reading began, on the clock of the poller
    query_s: float = 0.0
    idle: Mapping[str, float] = {}  # UUID → seconds since a process of another user used it


NO_SAMPLE = GpuSample(gpus=(), at=-inf)  # before the first reading


class GpuPoller:
    """Runs a probe when it is asked to, and keeps its last result."""

    def __init__(
        self,
        query: Callable[[], Sequence[GpuSnapshot]],
        wake: Callable[[], None],
        *,
        own_pids: Callable[[], Container[int]] = frozenset,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Read the GPUs through `query`. No thread runs before the first `request_sample`.

        Args:
            query: Returns every GPU as it is now. It may block forever.
            wake: Called in the thread of the poller after each reading.
            own_pids: Returns the pids of our own processes. Called in the thread of the poller.
            clock: Returns the time in seconds.
        """
        self._query, self._own_pids, self._clock = query, own_pids, clock
        self._readings = BackgroundQuery[GpuSample]("gpus", wake, clock=clock)
        # UUID → time since which no process of another user was seen there
        self._quiet_since: dict[str, float] = {}

    @property
    def error(self) -> str:
        """Why the newest reading failed; empty: it did not."""
        error = self._readings.error
        return "" if error is None else f"{type(error).__name__}: {error}"

    def request_sample(self, *, after_change: bool = False, is_measuring: bool = False) -> bool:
        """Request a reading unless one is in progress or the newest is fresh. Return whether one begins.

        Args:
            after_change: A change was published that only a new reading can show.
            is_measuring: A new attempt waits for its measurement.
        """
        pause_s = AFTER_CHANGE_S if after_change else MEASURING_S if is_measuring else POLL_S
        finished_at = self._readings.finished_at
        if finished_at is not None and self._clock() - finished_at < pause_s:
            return False
        return self._readings.begin(self._read)

    def latest_sample(self) -> GpuSample | None:
        """Return the newest reading, None before the first one.

        While a reading is overdue, the memory in use is unknown. The GPUs do not count as faulty.
        """
        newest, elapsed_s = self._readings.answer, self._readings.elapsed_s
        if newest is None or elapsed_s <= DRIVER_TIMEOUT_S:
            return newest
        silence = f"the driver has not answered for {elapsed_s:.0f} s"
        gpus = tuple(
            replace(gpu, used=None, warnings=(*gpu.warnings, silence)) for gpu in newest.gpus
        )
        return newest._replace(gpus=gpus, idle=dict.fromkeys(newest.idle, 0.0))

    def is_overdue(self) -> bool:
        """Whether a reading takes so long that the state of the GPUs counts as unknown."""
        return self._readings.elapsed_s > DRIVER_TIMEOUT_S

    def _read(self) -> GpuSample:
        try:
            began = self._clock()
            return self._build_sample(tuple(self._query()), self._own_pids(), began)
        except Exception as error:
            logger.warning("look trouble=%r", f"{type(error).__name__}: {error}")
            raise

    def _build_sample(
        self, gpus: tuple[GpuSnapshot, ...], own_pids: Container[int], now: float
    ) -> GpuSample:
        latest = self._readings.answer
        blind = latest is None or now - latest.at > LONGEST_GAP_S
        quiet = {} if blind else self._quiet_since
        self._quiet_since = {
            gpu.uuid: quiet.get(gpu.uuid, now) for gpu in gpus if is_unused_by_others(gpu, own_pids)
        }
        idle = {gpu.uuid: now - self._quiet_since.get(gpu.uuid, now) for gpu in gpus}
        return GpuSample(gpus=gpus, at=now, query_s=self._clock() - now, idle=idle)


def is_unused_by_others(gpu: GpuSnapshot, own_pids: Container[int] = ()) -> bool:
    """Whether no process of another user seems to use a GPU now. False if that is unknown.

    Args:
        gpu: The GPU as it is now.
        own_pids: Pids of our own processes.
    """
    if gpu.fault or gpu.used is None:
        return False
    if gpu.processes is None:  # an old driver
        quiet = gpu.utilisation is not None and gpu.utilisation < QUIET_UTILISATION
        return quiet and (gpu.shares_host_memory or gpu.used <= DRIVER_BYTES)
    if any(process.pid not in own_pids for process in gpu.processes):
        return False
    if not gpu.processes and gpu.utilisation is not None and gpu.utilisation >= QUIET_UTILISATION:
        return False  # inside a container the processes of others are not listed, their usage is
    used = [process.used for process in gpu.processes]
    return (
        gpu.shares_host_memory or None in used or gpu.used - sum(filter(None, used)) <= DRIVER_BYTES
    )


def query_gpus_once(
    query: Callable[[], Sequence[GpuSnapshot]], *, timeout_s: float = DRIVER_TIMEOUT_S
) -> tuple[GpuSnapshot, ...]:
    """Read the GPUs once.

    Args:
        query: Queries the driver.
        timeout_s: Longest time for the driver in seconds.

    Raises:
        MachineError: The driver does not respond.
    """
    seen = threading.Event()
    lookout = GpuPoller(query, seen.set)  # a driver that hangs cannot be interrupted
    lookout.request_sample()
    answered = seen.wait(timeout_s)
    if lookout.error:
        raise MachineError(f"cannot read the state of the GPUs: {lookout.error}")
    if not answered or (sight := lookout.latest_sample()) is None:
        raise MachineError(
            f"the GPU driver has not responded for {timeout_s:.3g} s. "
            "Run nvidia-smi, or read the kernel log: dmesg"
        )
    return sight.gpus


class OwnProcesses:
    """The pids of our own processes, found by whose they descend from; it may be asked in any thread."""

    def __init__(self) -> None:
        """Begin with none."""
        # pid of a supervisor or an unsupervised program → job; replaced as a whole, never changed
        self.jobs_by_root_pid: Mapping[int, int] = {}

    def __contains__(self, pid: object) -> bool:
        return isinstance(pid, int) and self.job_of_pid(pid) is not None

    def job_of_pid(self, pid: int) -> int | None:
        """Return the job that a process belongs to, None when it is none of ours."""
        return find_owner(pid, parent_pid, self.jobs_by_root_pid)


Owner = TypeVar("Owner")  # the key of a job or of an attempt: any type
_PARENT = 1  # index in /proc/<pid>/stat, counted from its third field


def find_owner(
    pid: int, parents: Callable[[int], int | None], supervisors: Mapping[int, Owner]
) -> Owner | None:
    """Return the job to which a process belongs, None when it is none of ours.

    Args:
        pid: the process; it may have ended, or be of another container.
        parents: returns a process's parent, None when it is not known.
        supervisors: the job of each supervisor, by the supervisor's pid.
    """
    seen = set()  # a pid may be reused during the loop and lead to a cycle
    climbing: int | None = pid
    while climbing is not None and climbing > 0 and climbing not in seen:
        if climbing in supervisors:
            return supervisors[climbing]
        seen.add(climbing)
        climbing = parents(climbing)
    return None


def parent_pid(pid: int) -> int | None:
    """Return the pid of a living process's parent, None if there is no such process."""
    try:
        stat = read_bytes(f"/proc/{pid}/stat")
    except OSError:
        return None
    fields = stat[stat.rindex(b")") + 2 :].split()  # a program's name may hold anything
    return int(fields[_PARENT])


def recorded_program(attempt: Attempt) -> Identity | None:
    """Return the program of an attempt as far as it is on record now, whatever still lives."""
    try:
        lines = identity_lines(read_bytes(attempt.started))
    except OSError:
        return None
    return read_identity(lines[1]) if len(lines) > 1 else None
