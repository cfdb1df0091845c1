"""Whether MPS can serve a GPU: NVIDIA's service through which jobs that share a card run on it at once, not in turns."""

import shutil
from collections.abc import Callable
from pathlib import Path

from launcher.gpu.snapshot import GpuSnapshot

PROGRAM = "nvidia-cuda-mps-control"
_SHORT_NAME = "nvidia-cuda-mps"  # of its processes, as the kernel cuts it off
_MOST_PATH = 107  # bytes of a socket's path; MPS makes some in its folder
_LONGEST_NAME = "control_privileged"
_MODES = {1: "exclusive thread", 2: "prohibited", 3: "exclusive process"}  # NVML's compute modes


def find_program(find: Callable[[str], str | None] = shutil.which) -> str | None:
    """Return where the program is that controls MPS, None where it is not on PATH."""
    return find(PROGRAM)


def unsupported(gpu: GpuSnapshot, user: str) -> str:
    """Return why MPS cannot serve a GPU as it is now; '' where it can.

    Args:
        gpu: as it was seen.
        user: who we are; a daemon of ours is no hindrance.
    """
    if gpu.fault:
        return gpu.fault
    if gpu.mig is not None or gpu.uuid.startswith("MIG-"):
        return "is an instance of a divided card (MIG): instances run jobs at once anyhow"
    if not gpu.uuid.startswith("GPU-"):
        return "has no UUID by which CUDA could be told to use it"
    if gpu.compute_mode in _MODES:
        return (
            f"is in compute mode {_MODES[gpu.compute_mode]}; "
            f"an administrator can change that: nvidia-smi -i {gpu.index} -c DEFAULT"
        )
    for process in gpu.processes or ():
        is_mps = (process.command or "").startswith(_SHORT_NAME)
        if is_mps and process.user is not None and process.user != user:
            return f"is served by an MPS daemon of {process.user} already"
    return ""


def too_deep(folder: Path) -> str:
    """Return why MPS cannot have its pipes in a folder; '' where it can."""
    length = len(bytes(folder / _LONGEST_NAME))
    if length <= _MOST_PATH:
        return ""
    return (
        f"the home's path is too long for the sockets of MPS by {length - _MOST_PATH} bytes: "
        f"{folder}; choose a shorter one (LAUNCHER_HOME)"
    )
