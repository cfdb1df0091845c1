"""Gathers what a check looks at of GPUs: the driver, the cards, and torch beside them."""

import ast
import contextlib
import json
import sys
import threading
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

import pynvml

from launcher.cli.doctor.facts import Driver, Torch
from launcher.gpu.nvml import Nvml, Refused
from launcher.gpu.snapshot import GpuSnapshot
from launcher.system.processes import answer
from launcher.units import format_seconds

DRIVER_S = 10.0  # a driver takes seconds to wake cards that sleep
TORCH_S = 120.0  # its import alone takes many seconds from a cold disk
_NVIDIA, _DISPLAY = "0x10de", "0x03"  # PCI: the vendor, and the class of what may compute
_TRIAL = """
import json, torch
result = {"works": torch.cuda.is_available(), "said": "it sees no GPU"}
if result["works"]:
    try:
        total = float(torch.ones(1000, device="cuda").sum())
        result = {"works": total == 1000.0, "said": torch.cuda.get_device_name()}
    except Exception as error:
        result = {"works": False, "said": str(error).partition("\\n")[0]}
print(json.dumps(result))
"""


def ask_driver(patience_s: float = DRIVER_S) -> Driver:
    """Return what NVIDIA's driver says; one that hangs is left alone after a time."""
    answers: list[Driver] = []

    def ask() -> None:
        try:
            answers.append(_driver(Nvml()))
        except Exception as error:  # noqa: BLE001  # any error is a finding
            answers.append(Driver(silent=f"{type(error).__name__}: {error}"))

    # in a daemon thread, which does not delay the exit: a query may never return
    asking = threading.Thread(target=ask, name="driver", daemon=True)
    asking.start()
    asking.join(patience_s)
    return answers[0] if answers else Driver(silent=f"not for {format_seconds(patience_s)}")


def _driver(probe: Nvml) -> Driver:
    gpus = probe.snapshot()
    if probe.absent:
        return Driver(absent=probe.absent, **plugged_in())
    version: str | None = None
    cuda: int | None = None
    with contextlib.suppress(*Refused):
        version = str(pynvml.nvmlSystemGetDriverVersion())
    with contextlib.suppress(*Refused):
        cuda = int(pynvml.nvmlSystemGetCudaDriverVersion())
    return Driver(
        version=version,
        cuda=None if cuda is None else (cuda // 1000, cuda % 1000 // 10),
        gpus=gpus,
        modes=_modes(gpus),
    )


def plugged_in(root: Path = Path("/")) -> dict[str, Any]:
    """Return what the kernel tells of NVIDIA's cards: whether it has their driver, and how many."""
    count = 0
    for device in (root / "sys/bus/pci/devices").glob("*"):
        with contextlib.suppress(OSError):
            vendor = (device / "vendor").read_text(encoding="ascii").strip()
            kind = (device / "class").read_text(encoding="ascii").strip()
            count += vendor == _NVIDIA and kind.startswith(_DISPLAY)
    return {"loaded": (root / "proc/driver/nvidia/version").exists(), "cards": count}


def _modes(gpus: tuple[GpuSnapshot, ...]) -> dict[int, int]:
    modes: dict[int, int] = {}
    for index in {gpu.index for gpu in gpus if not gpu.fault}:
        with contextlib.suppress(*Refused):
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            modes[index] = int(pynvml.nvmlDeviceGetComputeMode(handle))
    return modes


def torch_here(path: list[str] | None = None) -> Torch:
    """Return which torch a program of this Python would import; it is not imported.

    Args:
        path: where it is looked for; None: where Python looks.
    """
    spec = PathFinder.find_spec("torch", path)
    if spec is None or spec.origin is None:
        return Torch()
    constants: dict[str, str] = {}
    with contextlib.suppress(OSError, SyntaxError, ValueError):
        text = Path(spec.origin).with_name("version.py").read_text(encoding="utf-8")
        for line in ast.parse(text).body:
            value = line.value if isinstance(line, ast.Assign | ast.AnnAssign) else None
            targets = (
                line.targets if isinstance(line, ast.Assign) else [getattr(line, "target", None)]
            )
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                constants |= {
                    target.id: value.value for target in targets if isinstance(target, ast.Name)
                }
    others = {"hip": "AMD's GPUs (ROCm)", "xpu": "Intel's GPUs"}
    other = next((vendor for name, vendor in others.items() if constants.get(name)), "")
    return Torch(
        version=constants.get("__version__", "of an unknown version"),
        cuda=constants.get("cuda"),
        other=other,
    )


def try_torch(torch: Torch, patience_s: float = TORCH_S) -> Torch:
    """Let torch compute on a GPU in a process of its own."""
    output = answer((sys.executable, "-c", _TRIAL), patience_s)
    result = None
    with contextlib.suppress(ValueError, IndexError):
        result = json.loads(output.splitlines()[-1])
    match result:
        case {"works": bool(works), "said": str(words)}:
            tried = f"it computed on {words}" if works else words
            return torch._replace(works=works, tried=tried)
    return torch._replace(works=False, tried=f"it did not come to its end: {output.strip()[-200:]}")
