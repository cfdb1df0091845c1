"""What a pilot is on its node: what it has there, why it can do nothing where that is so, and its GPUs.

Its GPUs are those that its engine names in CUDA_VISIBLE_DEVICES, as given.
"""

import os
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from launcher import __version__
from launcher.backends.channel import Hello, PilotFolder, PilotSpec
from launcher.errors import MachineError, counted
from launcher.gpu.monitor import Lookout, look_once, owner_of, parent_of
from launcher.gpu.nvml import Nvml
from launcher.gpu.snapshot import GpuSnapshot
from launcher.system import memory
from launcher.system.processes import boot_id

NOTICED = 64 << 20  # bytes in use that are more or less than before are told at once
_NO_GPUS = {"", "nodevfiles", "none", "void"}


class WrongGpus(Exception):
    """The engine's word and the driver's do not agree; says how."""


def resolve(visible: str | None, gpus: Sequence[GpuSnapshot]) -> tuple[GpuSnapshot, ...]:
    """Return the GPUs that CUDA_VISIBLE_DEVICES names, in its order.

    Args:
        visible: its text: indices, UUIDs of GPUs or MIG instances or beginnings of them; None: it is not set.
        gpus: all that the driver lists.

    Raises:
        WrongGpus: it names a device that the driver does not list.
    """
    if visible is None or visible.strip().lower() in _NO_GPUS:
        return ()
    chosen: dict[str, GpuSnapshot] = {}
    for word in (word.strip() for word in visible.split(",")):
        if word.startswith("-"):
            break  # CUDA, too, reads no further
        gpu = _named(word, gpus)
        if gpu is None:
            listed = ", ".join(f"{gpu.index} ({gpu.uuid})" for gpu in gpus) or "none"
            raise WrongGpus(
                f"CUDA_VISIBLE_DEVICES={visible}: no GPU {word!r}; the driver lists {listed}"
            )
        chosen[gpu.uuid] = gpu
    return tuple(chosen.values())


def _named(word: str, gpus: Sequence[GpuSnapshot]) -> GpuSnapshot | None:
    if word.isdecimal():  # of a divided card CUDA takes the first instance
        return next((gpu for gpu in gpus if gpu.index == int(word)), None)
    alike = [gpu for gpu in gpus if word and gpu.uuid.startswith(word)]
    return alike[0] if len(alike) == 1 else next((gpu for gpu in alike if gpu.uuid == word), None)


class NodeGpus:
    """What is on a pilot's GPUs; looked at in a thread of its own, as a driver may hang."""

    def __init__(
        self,
        gpus: Sequence[GpuSnapshot],
        snapshot: Callable[[], Sequence[GpuSnapshot]],
        wake: Callable[[], None],
    ) -> None:
        """Begin without having looked.

        Args:
            gpus: the pilot's, as they were at its hello; none: nothing is ever looked at.
            snapshot: returns all GPUs of the node as they are now.
            wake: called in another thread after a look.
        """
        self._uuids = frozenset(gpu.uuid for gpu in gpus)
        self._lookout = Lookout(
            lambda: [gpu for gpu in snapshot() if gpu.uuid in self._uuids], wake
        )
        self._peaks: dict[
            str, dict[str, int]
        ] = {}  # attempt → UUID → most bytes since the last beat
        self._seen_at = 0.0
        self._shown = self.gpus = tuple(gpus)  # in the last beat; at the newest look

    def __bool__(self) -> bool:
        return bool(self._uuids)

    def look(self, heads: Mapping[int, str]) -> None:
        """Have them looked at where the newest look is older than a second, and take in what that saw.

        Args:
            heads: pid of a supervisor → its attempt, of those that run on a GPU.
        """
        if not self._uuids:
            return
        self._lookout.ask()
        sight = self._lookout.sight()
        if sight is None:
            return
        self.gpus = tuple(replace(gpu, processes=None) for gpu in sight.gpus)
        if sight.at == self._seen_at:
            return
        self._seen_at = sight.at
        for gpu in sight.gpus:
            self._enter(gpu, heads)

    @property
    def changed(self) -> bool:
        """Whether the scheduler should learn at once what is there now."""
        before = {gpu.uuid: gpu for gpu in self._shown}
        return any(_differs(before.get(gpu.uuid), gpu) for gpu in self.gpus)

    def take_peaks(self) -> dict[str, dict[str, int]]:
        """Return the most that each attempt held since the last beat, by GPU; that beat is sent now."""
        peaks, self._peaks, self._shown = self._peaks, {}, self.gpus
        return peaks

    def _enter(self, gpu: GpuSnapshot, heads: Mapping[int, str]) -> None:
        """Add up what the processes of each attempt hold, where the driver tells."""
        held: Counter[str] = Counter()
        for process in gpu.processes or ():
            owner = owner_of(process.pid, parent_of, heads) if process.used else None
            if owner is not None and process.used:
                held[owner] += process.used
        for attempt, used in held.items():
            peaks = self._peaks.setdefault(attempt, {})
            peaks[gpu.uuid] = max(used, peaks.get(gpu.uuid, 0))


def _differs(before: GpuSnapshot | None, now: GpuSnapshot) -> bool:
    if before is None or before.fault != now.fault or before.warnings != now.warnings:
        return True
    if before.used is None or now.used is None:
        return before.used is not now.used
    return abs(before.used - now.used) >= NOTICED


PATHS_PATIENCE_S = 35.0  # a network file system may hide a new name for 30 s
LOOK_AGAIN_S = 0.25
DRIVER_PATIENCE_S = 60.0  # the first look wakes sleeping cards
_MOST_UNTIL = 1 << 40
# what engines put into the environment of what they start; an old Slurm does not tell a job of its end
_NODE = ("SLURMD_NODENAME", "LAUNCHER_NODE")  # what the engine calls it counts first
_JOB, _ELEMENT = "SLURM_JOB_ID", ("SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID")
_UNTIL = ("SLURM_JOB_END_TIME",)  # seconds since 1970
_LIMITED = (_JOB,)  # who has it is ended some time


class Facts(NamedTuple):
    """What a pilot found out before it serves."""

    hello: Hello
    probe: Nvml | None  # None: it has no GPUs


def find_out(
    folder: PilotFolder, spec: PilotSpec, environ: Mapping[str, str], began: float
) -> Facts:
    """Return what there is on the node for a pilot.

    Args:
        folder: its own.
        spec: what it is to be.
        environ: what its engine has set.
        began: when it began, in seconds since 1970.
    """
    troubles = [*_misfits(folder, spec)]
    troubles += [f"{socket.gethostname()} does not see {path}" for path in _unseen(spec.paths)]
    probe, gpus = None, tuple[GpuSnapshot, ...]()
    if spec.gpus:
        probe = Nvml()
        try:
            gpus = _gpus(spec.gpus, probe, environ.get("CUDA_VISIBLE_DEVICES"))
        except (WrongGpus, MachineError) as error:
            troubles.append(f"{socket.gethostname()}: {error}")
    until = _until(spec, environ, began)
    hello = Hello(
        version=__version__,
        python=sys.executable,
        host=socket.gethostname(),
        node=next(filter(None, map(environ.get, _NODE)), ""),
        job=_job(environ),
        pid=os.getpid(),
        boot=boot_id(),
        cpus=_cpus(spec.cpus),
        ram=min(spec.memory or memory.total(), memory.total()),
        began=began,
        until=until,
        limited=until is None and any(name in environ for name in _LIMITED),
        troubles=tuple(troubles),
        gpus=gpus,
    )
    return Facts(hello=hello, probe=probe)


def _misfits(folder: PilotFolder, spec: PilotSpec) -> Iterable[str]:
    if spec.version != __version__:
        yield (
            f"{sys.executable} on {socket.gethostname()} has launcher {__version__}, but the queue runs "
            f"{spec.version} (set another interpreter with `python` in [backends.{spec.backend}])"
        )
    if spec.token != folder.token:
        yield f"{folder.folder} belongs to another pilot, {spec.token}"


def _unseen(paths: Iterable[str], *, sleep: Callable[[float], None] = time.sleep) -> list[str]:
    """Return the paths that are not there, given the time that a network file system may need."""
    deadline = time.monotonic() + PATHS_PATIENCE_S
    missing = [path for path in paths if not _sees(path)]
    while missing and time.monotonic() < deadline:
        sleep(LOOK_AGAIN_S)
        missing = [path for path in missing if not _sees(path)]
    return missing


def _sees(path: str) -> bool:
    try:
        return Path(path).exists()
    except (OSError, ValueError):  # a folder above it may not be entered
        return False


def _gpus(wanted: int, probe: Nvml, visible: str | None) -> tuple[GpuSnapshot, ...]:
    """Return the GPUs that the engine gave.

    Raises:
        WrongGpus: they are fewer than the pilot asks for, or the driver does not know them.
        MachineError: the driver does not answer.
    """
    listed = look_once(probe.snapshot, patience_s=DRIVER_PATIENCE_S)
    gpus = resolve(visible, listed)
    if len(gpus) < wanted:
        asked = f"{counted(wanted, 'GPU')} requested, {len(gpus) or 'none'} received"
        given = "is not set" if visible is None else f"is '{visible}'"
        why = f"; {probe.absent}" if probe.absent else ""
        raise WrongGpus(f"{asked}: CUDA_VISIBLE_DEVICES {given}{why}")
    return gpus


def _job(environ: Mapping[str, str]) -> str:
    """Return the engine's number of the pilot: 12, or 12_3 of an array."""
    array, element = map(environ.get, _ELEMENT)
    return f"{array}_{element}" if array and element else environ.get(_JOB, "")


def _cpus(asked: int) -> int:
    """Return how many cores may be kept busy: as many as were asked for, but none that is closed to us."""
    allowed = len(os.sched_getaffinity(0))
    return min(asked, allowed) if allowed < (os.cpu_count() or 1) else asked


def _until(spec: PilotSpec, environ: Mapping[str, str], began: float) -> float | None:
    """Return when the engine ends the pilot, as far as that is known."""
    for text in filter(None, map(environ.get, _UNTIL)):
        if text.isdecimal() and 0 < int(text) < _MOST_UNTIL:
            return float(text)
    return None if spec.time_s is None else began + spec.time_s
