import subprocess
import sys

import pytest
import torch

from trueface.runtime.timer import now


def test_the_clock_starts_no_gpu() -> None:
    program = (
        "import torch; from trueface.runtime.timer import now; first = now();"
        "assert now() >= first; print(torch.cuda.is_initialized())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_clock_waits_for_what_the_gpu_was_asked() -> None:
    some = torch.randn(4096, 4096, device="cuda")
    for _ in range(40):
        some = some @ some / 64
    done = torch.cuda.Event()  # type: ignore[no-untyped-call]  # torch has no types for it
    done.record()
    now()
    assert done.query()  # type: ignore[no-untyped-call]  # torch has no types for it


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="no second CUDA device")
def test_the_clock_takes_no_memory_of_a_gpu_without_work() -> None:
    program = (
        "import torch; from trueface.runtime.timer import now; torch.ones(1, device='cuda:0'); now();"
        "print(torch.cuda.memory_reserved(1), torch._C._cuda_hasPrimaryContext(1))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["0", "False"]
