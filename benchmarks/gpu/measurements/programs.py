"""Programs that take memory of a GPU, in this process or as jobs in the queue.

`python -m benchmarks.gpu.measurements.programs hold BYTES GATE`     Hold memory until the file GATE exists.
`python -m benchmarks.gpu.measurements.programs grow BYTES`          Take memory step by step, then end.
`python -m benchmarks.gpu.measurements.programs fault`               Write to address 0 on the GPU, which causes an Xid.

In a rehearsal the memory is that of the simulated GPU.
"""

import contextlib
import ctypes
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

STEP = 512 << 20  # bytes that `grow` takes at a time
VISIBLE, TAKEN = "CUDA_VISIBLE_DEVICES", "STANDIN_TAKEN"
# as torch 2.8 says it; the simulated card has 24 GiB
TORCH = (
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 0.50 GiB. GPU 0 has a total"
    " capacity of 24.00 GiB of which 0.25 GiB is free. Including non-PyTorch memory, this process"
    " has {held:.2f} GiB memory in use. Of the allocated memory {held:.2f} GiB is allocated by"
    " PyTorch, and 0 bytes is reserved by PyTorch but unallocated."
)
FAULT = b"""
.version 6.0
.target sm_52
.address_size 64
.visible .entry fault() {
    .reg .b64 %address;
    .reg .b32 %value;
    mov.u64 %address, 0;
    mov.u32 %value, 1;
    st.global.u32 [%address], %value;
    ret;
}
\0"""


@contextlib.contextmanager
def taken(count: int, uuid: str = "") -> Iterator[None]:
    """Hold so many bytes of the card.

    Args:
        count: bytes.
        uuid: UUID of the simulated GPU. If empty, the GPU that is reserved for this program.
    """
    if TAKEN not in os.environ:
        import torch  # not in a rehearsal

        memory = torch.empty(count, dtype=torch.uint8, device="cuda").zero_()
        torch.cuda.synchronize()
        yield
        del memory
        torch.cuda.empty_cache()
        return
    file = Path(os.environ[TAKEN]) / str(os.getpid())
    file.write_text(f"{uuid or os.environ.get(VISIBLE, '')} {count}\n", encoding="ascii")
    try:
        yield
    finally:
        file.unlink()


def hold(count: int, gate: Path) -> None:
    """Hold memory until a file is there."""
    with taken(count):
        while not gate.exists():
            time.sleep(0.05)


def grow(count: int) -> None:
    """Take memory step by step, and end."""
    if TAKEN in os.environ:
        _grow_simulated(count)
        return
    import torch  # not in a rehearsal

    steps: list[Any] = []
    while len(steps) * STEP < count:
        steps.append(torch.empty(STEP, dtype=torch.uint8, device="cuda").zero_())
    torch.cuda.synchronize()
    time.sleep(2)  # a look of the scheduler's takes in the whole


def _grow_simulated(count: int) -> None:
    """Fail the first time, as on a card that is full."""
    mark = Path("grown")
    if mark.exists():
        with taken(count):
            time.sleep(1.5)
        return
    mark.touch()
    with taken(count // 2):
        time.sleep(1.5)
        print("Traceback (most recent call last):\n" + TORCH.format(held=count / 2 / (1 << 30)))
        sys.exit(1)


def fault() -> None:
    """Let a kernel write where it must not: the driver ends it, and reports an Xid."""
    cuda = ctypes.CDLL("libcuda.so.1")
    context, module, kernel = (ctypes.c_void_p() for _ in range(3))
    none = ctypes.c_void_p()
    codes = [
        cuda.cuInit(0),
        cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0),
        cuda.cuCtxSetCurrent(context),
        cuda.cuModuleLoadData(ctypes.byref(module), FAULT),
        cuda.cuModuleGetFunction(ctypes.byref(kernel), module, b"fault"),
        cuda.cuLaunchKernel(kernel, 1, 1, 1, 1, 1, 1, 0, none, none, none),
        cuda.cuCtxSynchronize(),
    ]
    print(codes)


def main() -> None:
    """Do what the command line says."""
    match sys.argv[1:]:
        case ["hold", count, gate]:
            hold(int(count), Path(gate))
        case ["grow", count]:
            grow(int(count))
        case ["fault"]:
            fault()
        case words:
            sys.exit(f"unknown: {words}")


if __name__ == "__main__":
    main()
