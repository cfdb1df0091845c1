"""What a pilot is on its node: what it has there, and why it can do nothing where that is so."""

import os
import socket
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from launcher import __version__
from launcher.backends.node_gpus import WrongGpus, resolve
from launcher.backends.pilot_folder import PilotFolder, PilotSpec
from launcher.backends.pilot_messages import Hello
from launcher.errors import MachineError, counted
from launcher.gpu.monitor import look_once
from launcher.gpu.nvml import Nvml
from launcher.gpu.snapshot import GpuSnapshot
from launcher.system import memory
from launcher.system.processes import boot_id

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
