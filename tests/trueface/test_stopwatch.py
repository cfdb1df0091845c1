import subprocess
import sys

import pytest
import torch

from trueface.stopwatch import now


def test_the_clock_starts_no_gpu() -> None:
    program = (
        "import torch; from trueface.stopwatch import now; first = now();"
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
