"""Whether MPS can serve a GPU: NVIDIA's service through which jobs that share a card run on it at once, not in turns."""

import os
import pwd
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from launcher.gpu.snapshot import GpuSnapshot
from launcher.system.files import read_json

PROGRAM = "nvidia-cuda-mps-control"
MISSING = f"{PROGRAM} is not on PATH; it comes with NVIDIA's driver"
TROUBLES = "troubles.json"  # in the home's folder for MPS: UUID → why its card was not served
_SHORT_NAME = "nvidia-cuda-mps"  # of its processes, as the kernel cuts it off
_MOST_PATH = 107  # bytes of a socket's path; MPS makes some in its folder
_LONGEST_NAME = "control_privileged"
_MODES = {1: "exclusive thread", 2: "prohibited", 3: "exclusive process"}  # NVML's compute modes


def find_program(find: Callable[[str], str | None] = shutil.which) -> str | None:
    """Return where the program is that controls MPS, None where it is not on PATH."""
    return find(PROGRAM)


def ourselves() -> str:
    """Return who we are, as a GPU's processes are named: by login, or by number where there is none."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


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


def hindrances(
    gpus: Iterable[GpuSnapshot],
    folder: Path,
    user: str,
    find: Callable[[], str | None] = find_program,
) -> tuple[str, ...]:
    """Return why MPS does not serve GPUs, in words; none where it can, and nobody had trouble with it.

    Args:
        gpus: as they are.
        folder: of the home, for MPS.
        user: who asks.
        find: returns where the program is, None where there is none.
    """
    if find() is None:
        return (MISSING,)
    tried = read_json(folder / TROUBLES) or {}
    troubles = []
    for gpu in gpus:
        why = unsupported(gpu, user)
        met = tried.get(gpu.uuid)
        if why:
            troubles.append(f"{gpu.label} {why}")
        elif isinstance(met, str):
            troubles.append(met)
    return tuple(troubles)


def too_deep(folder: Path) -> str:
    """Return why MPS cannot have its pipes in a folder; '' where it can."""
    length = len(bytes(folder / _LONGEST_NAME))
    if length <= _MOST_PATH:
        return ""
    return (
        f"the home's path is too long for the sockets of MPS by {length - _MOST_PATH} bytes: "
        f"{folder}; choose a shorter one (LAUNCHER_HOME)"
    )
