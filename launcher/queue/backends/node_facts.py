"""Facts of a pilot about its node: its resources there, and the reasons if it cannot work."""

import os
import socket
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from launcher import __version__
from launcher.queue.backends.node_gpus import WrongGpus, resolve_visible_gpus
from launcher.queue.backends.pilot_folder import PilotFolder, PilotSpec
from launcher.queue.backends.pilot_messages import Registered
from launcher.queue.gpu.monitor import query_gpus_once
from launcher.queue.gpu.nvml import Nvml
from launcher.queue.gpu.snapshot import GpuSnapshot
from launcher.system import memory
from launcher.system.errors import MachineError, pluralize
from launcher.system.processes import boot_id
from launcher.system.waiting import wait_until

PATHS_TIMEOUT_S = 35.0  # a network file system may hide a new name for 30 s
PATHS_POLL_S = 0.25
DRIVER_TIMEOUT_S = 60.0  # the first query wakes sleeping GPUs
_LATEST_END = 1 << 40
# variables that engines set in the environment of their jobs; an old Slurm does not set the end time
# the engine's name for the node has precedence
_NODE_VARIABLES = ("SLURMD_NODENAME", "LAUNCHER_NODE")
_JOB, _ELEMENT = "SLURM_JOB_ID", ("SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID")
_END_TIME_VARIABLES = ("SLURM_JOB_END_TIME",)  # seconds since 1970
_LIMITED_JOB_VARIABLES = (_JOB,)  # a process with this variable has a time limit


class NodeFacts(NamedTuple):
    """Facts that a pilot collects before it serves."""

    registration: Registered
    probe: Nvml | None  # None: the node has no GPUs


def read_node_facts(
    folder: PilotFolder, spec: PilotSpec, environ: Mapping[str, str], start_time: float
) -> NodeFacts:
    """Return the facts about the node of a pilot.

    Args:
        folder: folder of the pilot.
        spec: its specification.
        environ: its environment, with the variables of its engine.
        start_time: start of the pilot, in seconds since 1970.
    """
    troubles = [*_find_mismatches(folder, spec)]
    troubles += [
        f"{socket.gethostname()} does not see {path}" for path in _find_invisible_paths(spec.paths)
    ]
    probe, gpus = None, tuple[GpuSnapshot, ...]()
    if spec.gpus:
        probe = Nvml()
        try:
            gpus = _allocated_gpus(spec.gpus, probe, environ.get("CUDA_VISIBLE_DEVICES"))
        except (WrongGpus, MachineError) as error:
            troubles.append(f"{socket.gethostname()}: {error}")
    until = _end_time(spec, environ, start_time)
    hello = Registered(
        version=__version__,
        python=sys.executable,
        host=socket.gethostname(),
        node=next(filter(None, map(environ.get, _NODE_VARIABLES)), ""),
        job=_engine_job_number(environ),
        pid=os.getpid(),
        boot=boot_id(),
        cpus=_usable_cpus(spec.cpus),
        ram=min(spec.memory or memory.usable_bytes(), memory.usable_bytes()),
        began=start_time,
        until=until,
        limited=until is None and any(name in environ for name in _LIMITED_JOB_VARIABLES),
        troubles=tuple(troubles),
        gpus=gpus,
    )
    return NodeFacts(registration=hello, probe=probe)


def _find_mismatches(folder: PilotFolder, spec: PilotSpec) -> Iterable[str]:
    if spec.version != __version__:
        yield (
            f"{sys.executable} on {socket.gethostname()} has launcher {__version__}, but the queue runs "
            f"{spec.version} (set another interpreter with `python` in [backends.{spec.backend}])"
        )
    if spec.token != folder.token:
        yield f"{folder.folder} belongs to another pilot, {spec.token}"


def _find_invisible_paths(
    paths: Iterable[str], *, sleep: Callable[[float], None] = time.sleep
) -> list[str]:
    """Return the paths that are not there, given the time that a network file system may need."""
    missing = [*paths]

    def are_visible() -> bool:
        missing[:] = [path for path in missing if not _is_visible(path)]
        return not missing

    wait_until(are_visible, PATHS_TIMEOUT_S, PATHS_POLL_S, sleep=sleep)
    return missing


def _is_visible(path: str) -> bool:
    try:
        return Path(path).exists()
    except (OSError, ValueError):  # a folder above the path may not be entered
        return False


def _allocated_gpus(
    requested_gpus: int, probe: Nvml, visible: str | None
) -> tuple[GpuSnapshot, ...]:
    """Return the GPUs that the engine gave.

    Raises:
        WrongGpus: they are fewer than the pilot requests, or the driver does not list them.
        MachineError: the driver does not respond.
    """
    listed = query_gpus_once(probe.snapshot, timeout_s=DRIVER_TIMEOUT_S)
    gpus = resolve_visible_gpus(visible, listed)
    if len(gpus) < requested_gpus:
        asked = f"{pluralize(requested_gpus, 'GPU')} requested, {len(gpus) or 'none'} received"
        given = "is not set" if visible is None else f"is '{visible}'"
        why = f"; {probe.absent}" if probe.absent else ""
        raise WrongGpus(f"{asked}: CUDA_VISIBLE_DEVICES {given}{why}")
    return gpus


def _engine_job_number(environ: Mapping[str, str]) -> str:
    """Return the engine's number of the pilot: 12, or 12_3 of an array."""
    array, element = map(environ.get, _ELEMENT)
    return f"{array}_{element}" if array and element else environ.get(_JOB, "")


def _usable_cpus(requested_cpus: int) -> int:
    """Return how many cores may be used: the requested number, limited to the cores that we may use."""
    allowed = len(os.sched_getaffinity(0))
    return min(requested_cpus, allowed) if allowed < (os.cpu_count() or 1) else requested_cpus


def _end_time(spec: PilotSpec, environ: Mapping[str, str], start_time: float) -> float | None:
    """Return when the engine ends the pilot, if known."""
    for text in filter(None, map(environ.get, _END_TIME_VARIABLES)):
        if text.isdecimal() and 0 < int(text) < _LATEST_END:
            return float(text)
    return None if spec.time_s is None else start_time + spec.time_s
