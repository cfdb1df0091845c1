"""The most memory that a piece of work took: of the GPU, or of this process on a CPU."""

import contextlib
from pathlib import Path

import torch

_OWN = Path("/proc/self")  # Linux only; elsewhere nothing is known


def begin(device: str) -> None:
    """Forget what was the most so far."""
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(torch.device(device))
        return
    with contextlib.suppress(OSError):
        (_OWN / "clear_refs").write_text("5")  # proc(5): resets VmHWM


def end(device: str) -> int | None:
    """Return the most bytes since `begin`; of a CPU all that the process had, libraries included."""
    if device.startswith("cuda"):
        return int(torch.cuda.max_memory_allocated(torch.device(device)))
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in (_OWN / "status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024  # kB, as proc(5) has it
    return None
