"""Memory of a job: check its GPU, limit and report GPU memory of torch, tune the C library's allocator.

A network that runs on the CPU allocates maps of megabytes for every few images. By default glibc returns
each one to the system, and each page of the next one is a page fault and must be zeroed.
"""

import contextlib
import ctypes
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import torch

from launcher.api import Job
from trueface.runtime.errors import JobError

EVERY_S = 0.5  # torch takes some 100 µs to count its memory
VISIBLE = "CUDA_VISIBLE_DEVICES"
# constants of <malloc.h>
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3

KEPT = 512 << 20  # bytes of freed memory that a process keeps
LARGEST = 32 << 20  # bytes of a block that is taken from them: the most that glibc allows


class Cuda(Protocol):
    """The part of torch.cuda that is needed here."""

    def get_device_properties(self, device: int, /) -> Any:
        """Return the properties of a GPU: `total_memory` in bytes, and `uuid`."""

    def set_per_process_memory_fraction(self, fraction: float, device: int, /) -> None:
        """Limit the allocator to a fraction of a GPU's memory, from 0 to 1."""

    def memory_reserved(self, device: int, /) -> int:
        """Return the bytes that the allocator has reserved on a GPU."""

    def max_memory_reserved(self, device: int, /) -> int:
        """Return the most that it ever had."""


def cap_job_memory(
    job: Job,
    environ: Mapping[str, str],
    cuda: Cuda = torch.cuda,
    clock: Callable[[], float] = time.monotonic,
) -> Job:
    """Confirm a job's GPU and keep its allocator within the job's share from now on.

    Returns the job with a progress function that goes on doing so: the share changes when a
    neighbour comes or leaves. On the CPU it is the job as it was.

    Args:
        job: about to begin; CUDA may have been touched already.
        environ: contains the UUID of the reserved GPU.
        cuda: torch's.
        clock: in seconds.

    Raises:
        JobError: CUDA uses another GPU than the reserved one.
    """
    kind, _, number = job.device.partition(":")
    if kind != "cuda":
        return job
    device = int(number or 0)
    uuid = confirm_device(device, environ, cuda)
    keeper = _AllocatorCap(job, device, uuid, cuda, clock)
    keeper.update_cap()

    def progress(*, step: int, total: int | None = None, **metrics: float | str) -> None:
        job.progress(step=step, total=total, **metrics)
        keeper.update_cap(last=step == total)

    return replace(job, progress=progress)


def confirm_device(device: int, environ: Mapping[str, str], cuda: Cuda = torch.cuda) -> str | None:
    """Return the UUID of a GPU from CUDA, or None if CUDA does not report it.

    Only a GPU that was reserved by UUID is compared. A GPU reserved by number and a MIG instance are
    not, and nothing is compared if no GPU was reserved.

    Raises:
        JobError: it is another GPU than the reserved one, or torch cannot use it.
    """
    names = environ.get(VISIBLE, "").split(",")
    named = names[device].strip() if device < len(names) else ""
    try:
        device_uuid = getattr(cuda.get_device_properties(device), "uuid", None)
    except (AssertionError, RuntimeError) as error:  # torch without CUDA, or for a newer driver
        reason = str(error).partition("\n")[0].partition(". ")[0]
        raise JobError(
            f"torch cannot use GPU {named or device} of this job ({reason}). Install a torch that is built "
            "for CUDA and for this driver, or set resources: {device: cpu}"
        ) from error
    if device_uuid is None or named.startswith("MIG-"):
        return None
    uuid = f"GPU-{str(device_uuid).removeprefix('GPU-')}"
    # CUDA takes the beginning of a UUID for all of it
    if named.startswith("GPU-") and not uuid.casefold().startswith(named.casefold()):
        raise JobError(
            f"CUDA selected GPU {uuid}, but {named} is reserved for this job ({VISIBLE}). Nothing was "
            "computed."
        )
    return uuid


class _AllocatorCap:
    """The cap that torch was given last: torch is called only when it changes."""

    def __init__(
        self,
        job: Job,
        device: int,
        uuid: str | None,
        cuda: Cuda,
        clock: Callable[[], float],
    ) -> None:
        self._share, self._device, self._uuid = job.share, device, uuid
        self._cuda, self._clock = cuda, clock
        self._total = int(cuda.get_device_properties(device).total_memory)
        self._cap: int | None = None  # torch's own state at its start: all that it gets
        self._next = -math.inf

    def update_cap(self, *, last: bool = False) -> None:
        """Update torch's cap, and report its memory use."""
        now = self._clock()
        if now < self._next and not last:
            return
        self._next = now + EVERY_S
        reserved = self._cuda.memory_reserved(self._device)
        cap = self._share.vram_limit().allocator
        if cap is not None:
            cap = min(max(cap, reserved), self._total)  # reserved memory cannot be revoked
        if cap != self._cap:
            self._cap = cap
            fraction = 1.0 if cap is None else cap / self._total
            self._cuda.set_per_process_memory_fraction(fraction, self._device)
        self._share.report(
            reserved_bytes=reserved,
            peak=self._cuda.max_memory_reserved(self._device),
            uuid=self._uuid,
            last=last,
        )


_OWN = Path("/proc/self")  # Linux only; elsewhere nothing is known


def reset_peak_memory(device: str) -> None:
    """Reset the peak of the memory usage."""
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(torch.device(device))
        return
    with contextlib.suppress(OSError):
        (_OWN / "clear_refs").write_text("5")  # proc(5): resets VmHWM


def peak_memory_bytes(device: str) -> int | None:
    """Return the most bytes since `reset_peak_memory`; of a CPU all that the process had, libraries included."""
    if device.startswith("cuda"):
        return int(torch.cuda.max_memory_allocated(torch.device(device)))
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in (_OWN / "status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024  # kB, as proc(5) has it
    return None


def keep_freed_memory() -> None:
    """Let this process use freed memory again; without glibc nothing happens."""
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(MMAP_THRESHOLD, LARGEST)
        mallopt(TRIM_THRESHOLD, KEPT)
