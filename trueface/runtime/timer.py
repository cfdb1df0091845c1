"""Clock of a computation, which waits until all queued work of a GPU is done.

Kernels are queued and run by themselves. Whoever looks at the clock without waiting for them bills
their time to whatever waits next: a measurement, or the next method.
"""

import time

import torch


def now() -> float:
    """Return seconds on a monotonic clock, after synchronizing every GPU in use."""
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]  # torch has no types for it
        current = torch.cuda.current_device()
        for device in range(torch.cuda.device_count()):
            # synchronising a GPU allocates memory on it, so GPUs without memory of this process are skipped
            if device == current or torch.cuda.memory_reserved(device) > 0:
                torch.cuda.synchronize(device)
    return time.monotonic()
