"""Checks of `launcher doctor` for GPUs: driver, torch, devices, visibility for jobs, other users."""

import ast
import contextlib
import json
import sys
from collections import Counter
from collections.abc import Sequence
from importlib.machinery import PathFinder
from pathlib import Path
from typing import NamedTuple

import pynvml

from launcher.frontends.cli.findings import Finding, ok, trouble, unknown, warning
from launcher.queue.gpu.nvml import QUERY_ERRORS, Nvml
from launcher.queue.gpu.snapshot import ONE_PROCESS, PROHIBITED, GpuSnapshot
from launcher.queue.scheduler.policy.gpu_slot import is_visible
from launcher.queue.store.lanes import visible_devices
from launcher.system.errors import pluralize
from launcher.system.parallel_calls import read_program_output, run_questions_with_timeout
from launcher.system.units import format_bytes, format_seconds

_PICK = "for the command see https://pytorch.org/get-started/locally"
DRIVER_S = 10.0  # a driver takes seconds to wake sleeping GPUs
TORCH_S = 120.0  # seconds; importing torch takes long from a cold disk
_NVIDIA, _DISPLAY = "0x10de", "0x03"  # PCI: the vendor, and the device class
_TRIAL = """
import json, torch
result = {"works": torch.cuda.is_available(), "said": "torch sees no GPU"}
if result["works"]:
    try:
        total = float(torch.ones(1000, device="cuda").sum())
        result = {"works": total == 1000.0, "said": torch.cuda.get_device_name()}
    except Exception as error:
        result = {"works": False, "said": str(error).partition("\\n")[0]}
print(json.dumps(result))
"""


class Driver(NamedTuple):
    """NVIDIA's driver and the GPUs that it lists."""

    absent: str = ""  # why the driver is not available
    loaded: bool = False  # whether the kernel has loaded the driver
    cards: int = 0  # number of NVIDIA's GPUs according to the kernel
    silent: str = ""  # why the driver did not respond
    version: str | None = None
    cuda: tuple[int, int] | None = None  # the newest CUDA version that the driver supports
    gpus: tuple[GpuSnapshot, ...] = ()


class Torch(NamedTuple):
    """The torch that jobs of this Python import."""

    version: str | None = None  # None: none is installed
    cuda: str | None = None  # CUDA version for which torch was built
    other: str = ""  # another GPU platform for which torch was built
    tried: str = ""  # the outcome of a computation on a GPU; empty: not tried
    works: bool | None = None  # whether the computation succeeded


def query_driver(patience_s: float = DRIVER_S) -> Driver:
    """Query NVIDIA's driver; a hanging one is abandoned after a timeout."""
    late = Driver(silent=f"no answer for {format_seconds(patience_s)}")
    return run_questions_with_timeout({"driver": _query_driver_safely}, patience_s).get(
        "driver", late
    )


def _query_driver_safely() -> Driver:
    try:
        return _query_nvml(Nvml())
    except Exception as error:  # noqa: BLE001  # any error is a finding
        return Driver(silent=f"{type(error).__name__}: {error}")


def _query_nvml(probe: Nvml) -> Driver:
    gpus = probe.snapshot()
    if probe.absent:
        return read_pci_gpus()._replace(absent=probe.absent)
    found = Driver(gpus=gpus)
    with contextlib.suppress(*QUERY_ERRORS):
        found = found._replace(version=str(pynvml.nvmlSystemGetDriverVersion()))
    with contextlib.suppress(*QUERY_ERRORS):
        major, rest = divmod(int(pynvml.nvmlSystemGetCudaDriverVersion()), 1000)
        found = found._replace(cuda=(major, rest % 100 // 10))
    return found


def read_pci_gpus(root: Path = Path("/")) -> Driver:
    """Return whether the kernel has NVIDIA's driver, and the number of NVIDIA's GPUs."""
    count = 0
    for device in (root / "sys/bus/pci/devices").glob("*"):
        with contextlib.suppress(OSError):
            vendor = (device / "vendor").read_text(encoding="ascii").strip()
            kind = (device / "class").read_text(encoding="ascii").strip()
            count += vendor == _NVIDIA and kind.startswith(_DISPLAY)
    return Driver(loaded=(root / "proc/driver/nvidia/version").exists(), cards=count)


def find_torch(path: list[str] | None = None) -> Torch:
    """Return the torch that a program of this Python would import, without importing it.

    Args:
        path: Search path; None for the path of Python.
    """
    spec = PathFinder.find_spec("torch", path)
    if spec is None or spec.origin is None:
        return Torch()
    constants: dict[str, str] = {}
    with contextlib.suppress(OSError, SyntaxError, ValueError):
        text = Path(spec.origin).with_name("version.py").read_text(encoding="utf-8")
        for line in ast.parse(text).body:
            match line:
                case (
                    ast.Assign(targets=[ast.Name(id=name)], value=ast.Constant(value=str(value)))
                    | ast.AnnAssign(target=ast.Name(id=name), value=ast.Constant(value=str(value)))
                ):
                    constants[name] = value
    others = {"hip": "AMD's GPUs (ROCm)", "xpu": "Intel's GPUs"}
    return Torch(
        version=constants.get("__version__", "(unknown version)"),
        cuda=constants.get("cuda"),
        other=next((vendor for name, vendor in others.items() if constants.get(name)), ""),
    )


def try_torch(torch: Torch, patience_s: float = TORCH_S) -> Torch:
    """Test a computation of torch on a GPU in a separate process."""
    output = read_program_output((sys.executable, "-c", _TRIAL), patience_s)
    result = None
    with contextlib.suppress(ValueError, IndexError):
        result = json.loads(output.splitlines()[-1])
    match result:
        case {"works": bool(works), "said": str(words)}:
            tried = f"a computation on {words} succeeded" if works else words
            return torch._replace(works=works, tried=tried)
    return torch._replace(works=False, tried=f"the test did not finish: {output.strip()[-200:]}")


def judge_driver(driver: Driver) -> Finding:
    """Check whether programs can ask NVIDIA's driver, and whether it lists GPUs."""
    if driver.silent:
        return trouble(
            f"the NVIDIA driver does not respond: {driver.silent}",
            "check nvidia-smi and the kernel log (dmesg); a reboot may help",
        )
    if "reboot" in driver.absent:
        return trouble(driver.absent, "reboot, or load the kernel module of the new driver")
    if driver.absent and driver.loaded:
        return warning(
            f"the kernel module of the NVIDIA driver is loaded, but programs cannot use it: {driver.absent}",
            "in a container, start it with GPUs (docker run --gpus all); otherwise install the libraries of "
            "the driver",
        )
    if driver.absent and driver.cards:
        return warning(
            f"{pluralize(driver.cards, 'NVIDIA GPU')} installed but not usable: {driver.absent}",
            "install the NVIDIA driver and reboot",
        )
    if driver.absent:
        return unknown(f"no GPU found: {driver.absent}; jobs run on the CPU")
    summary = f"NVIDIA driver {driver.version}" if driver.version else "the NVIDIA driver answers"
    if driver.cuda:
        summary += f", supports CUDA up to {version_text(driver.cuda)}"
    if driver.gpus:
        return ok(summary)
    return warning(
        f"{summary}, but lists no GPU; jobs run on the CPU",
        "in a container, start it with GPUs (docker run --gpus all); otherwise check nvidia-smi",
    )


def judge_cuda(torch: Torch, driver: Driver) -> Finding:
    """Check whether the driver supports the CUDA version for which torch was built."""
    if torch.version is None:
        summary = "torch is not installed in the Python of this command"
        advice = "install it for the Python of your jobs: pip install torch torchvision"
        return warning(summary, advice) if driver.gpus else unknown(summary)
    name = f"torch {torch.version}"
    if torch.works is False:
        return trouble(
            f"{name} cannot compute on a GPU: {torch.tried}",
            f"install a torch that fits the driver; {_PICK}",
        )
    if torch.cuda is None:
        summary = f"{name} is built {f'for {torch.other}' if torch.other else 'for the CPU only'}"
        if not driver.gpus:
            return ok(summary)
        advice = f"install a torch built for CUDA; {_PICK}"
        return warning(f"{summary}: jobs cannot use NVIDIA GPUs", advice)
    summary = f"{name} is built for CUDA {torch.cuda}"
    if not driver.gpus:
        return ok(f"{summary}; jobs run on the CPU, as there is no GPU")
    major = torch.cuda.partition(".")[0]
    if driver.cuda is None or not major.isdigit():
        return unknown(f"{summary}; the driver does not report its CUDA version")
    if int(major) > driver.cuda[0]:
        return trouble(
            f"{summary}, but the driver supports CUDA only up to {version_text(driver.cuda)}",
            f"update the driver, or install a torch built for CUDA {driver.cuda[0]}; {_PICK}",
        )
    tried = f"; {torch.tried}" if torch.works else ""
    # CUDA 11 and later: a driver supports every program of its major version
    return ok(f"{summary}, which the driver supports{tried}")


def judge_gpus(gpus: Sequence[GpuSnapshot]) -> Finding | None:
    """Check whether jobs can start on the GPUs and share them; without GPUs there is no finding."""
    if not gpus:
        return None
    bad = [f"{gpu.label} {gpu.fault}" for gpu in gpus if gpu.fault]
    modes = {(gpu.index, gpu.compute_mode) for gpu in gpus if not gpu.fault}
    closed = sorted(index for index, mode in modes if mode == PROHIBITED)
    if bad or closed:
        advice = "no job starts there; " + (
            "see dmesg; a reset or reboot may help"
            if bad
            else "an administrator can change the compute mode: nvidia-smi -c DEFAULT"
        )
        healthy = len({gpu.uuid for gpu in gpus if not gpu.fault and gpu.index not in closed})
        prohibited = (f"cuda:{index} prohibits computing (compute mode)" for index in closed)
        problems = "; ".join([*bad, *prohibited])
        told = warning if healthy else trouble
        return told(f"{problems}; {healthy} of {len(gpus)} GPUs usable", advice)
    if alone := sorted(index for index, mode in modes if mode in ONE_PROCESS):
        which = ", ".join(f"cuda:{index}" for index in alone)
        return warning(
            f"{which} allows one process at a time (compute mode): jobs cannot share the GPU",
            "an administrator can change the compute mode: nvidia-smi -c DEFAULT",
        )
    if blind := [gpu.label for gpu in gpus if gpu.used is None and not gpu.fault]:
        return warning(
            f"the driver does not report the used memory of {', '.join(blind)}",
            "no job starts there until it does; see nvidia-smi",
        )
    if odd := [f"{gpu.label}: {text}" for gpu in gpus for text in gpu.warnings]:
        return warning("; ".join(odd), "report it to the administrator of this machine")
    named = Counter(gpu.name for gpu in gpus)
    summary = ", ".join(f"{number} × {name}" for name, number in named.items())
    parts = sum(gpu.mig is not None for gpu in gpus)
    summary = f"{summary} ({pluralize(parts, 'MIG instance')})" if parts else summary
    if unified := [gpu.label for gpu in gpus if gpu.shares_host_memory]:
        summary += f"; the memory of {', '.join(unified)} is the main memory of the machine"
    return ok(summary)


def judge_visible(gpus: Sequence[GpuSnapshot], visible: str | None, order: str | None) -> Finding:
    """Check which GPUs this shell shows to its jobs.

    Args:
        gpus: All GPUs.
        visible: CUDA_VISIBLE_DEVICES, None if it is not set.
        order: CUDA_DEVICE_ORDER, None if it is not set.
    """
    if visible is None:
        summary = "CUDA_VISIBLE_DEVICES is not set: jobs may use every GPU"
        names = {gpu.name for gpu in gpus if gpu.mig is None}
        if len(names) > 1 and order != "PCI_BUS_ID":
            return ok(
                f"{summary}; programs outside the queue number these GPUs by speed",
                "for the same numbers everywhere: export CUDA_DEVICE_ORDER=PCI_BUS_ID",
            )
        return ok(summary)
    wanted = visible_devices({"CUDA_VISIBLE_DEVICES": visible}) or ()
    if not gpus:
        return ok(f"CUDA_VISIBLE_DEVICES={visible}, but there is no GPU")
    if not wanted or wanted[0] == "-1":
        return warning(
            "CUDA_VISIBLE_DEVICES hides every GPU from jobs queued in this shell",
            "unset CUDA_VISIBLE_DEVICES, unless it is intended",
        )
    lost = [word for word in wanted if not any(is_visible(gpu, (word,)) for gpu in gpus)]
    if lost:
        labels = ", ".join(gpu.number.removeprefix("cuda:") for gpu in gpus)
        return warning(
            f"CUDA_VISIBLE_DEVICES={visible} names GPUs that do not exist: {', '.join(lost)}",
            f"unset CUDA_VISIBLE_DEVICES, or choose from {labels}",
        )
    shown = ", ".join(gpu.label for gpu in gpus if is_visible(gpu, wanted))
    return ok(f"CUDA_VISIBLE_DEVICES={visible}: jobs from this shell use {shown}")


def judge_others(gpus: Sequence[GpuSnapshot], user: str) -> Finding | None:
    """Report other users of the GPUs."""
    if not gpus:
        return None
    taken: dict[str, Counter[str]] = {}  # user → GPU label → bytes
    for gpu in gpus:
        for process in gpu.processes or ():
            if process.user != user:
                labels = taken.setdefault(process.user or "an unknown user", Counter())
                labels[gpu.label] += process.used or 0
    if taken:
        usage = [
            f"{who} {f'{format_bytes(labels.total())} ' if labels.total() else ''}on {', '.join(labels)}"
            for who, labels in taken.items()
        ]
        idle = sum(gpu.processes == () for gpu in gpus)
        summary = f"{'; '.join(usage)}; {pluralize(idle, 'GPU')} unused"
        return ok(summary, "jobs avoid these GPUs; list the processes: launcher gpus")
    if blind := [gpu.label for gpu in gpus if gpu.processes is None and not gpu.fault]:
        return unknown(f"the driver does not report the processes on {', '.join(blind)}")
    return ok("no other user uses the GPUs now")


def version_text(version: tuple[int, ...]) -> str:
    """Return a version as text."""
    return ".".join(map(str, version))
