import subprocess
import sys

import pytest
import torch

from trueface.runtime.timer import now


def test_timer_does_not_initialise_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    for name in ("_lazy_init", "current_device", "memory_reserved", "synchronize"):
        monkeypatch.setattr(torch.cuda, name, lambda *_: pytest.fail("the GPU is initialised"))
    first = now()
    assert now() >= first


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_timer_waits_for_pending_gpu_work() -> None:
    some = torch.randn(4096, 4096, device="cuda")
    for _ in range(40):
        some = some @ some / 64
    done = torch.cuda.Event()  # type: ignore[no-untyped-call]  # torch has no types for it
    done.record()
    now()
    assert done.query()  # type: ignore[no-untyped-call]  # torch has no types for it


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="no second CUDA device")
def test_timer_allocates_no_memory_on_an_idle_gpu() -> None:
    program = (
        "import torch; from trueface.runtime.timer import now; torch.ones(1, device='cuda:0'); now();"
        "print(torch.cuda.memory_reserved(1), torch._C._cuda_hasPrimaryContext(1))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["0", "False"]
