"""The memory share of a GPU, with a stand-in for torch.cuda. Needs and measures no GPU."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import ANY

import pytest
import torch

from launcher.api import Job, JobError, Share, read_json, write_json
from launcher.queue.jobs.states import OomReport
from launcher.queue.workers.shortage import find_oom_in_exception
from trueface.runtime.memory import Cuda, cap_job_memory, confirm_device

MIB = 1 << 20
UUID = "8932f937-d72c-4106-c12f-20bd9faed9f6"
OTHER = "11111111-d72c-4106-c12f-20bd9faed9f6"


@dataclass
class Card:
    """One GPU as torch.cuda sees it."""

    uuid: str | None = UUID
    total: int = 1000 * MIB
    reserved: int = 0
    fractions: list[float] = field(default_factory=list)

    def get_device_properties(self, device: int, /) -> Any:
        facts: dict[str, object] = {"total_memory": self.total}
        return SimpleNamespace(**facts if self.uuid is None else {**facts, "uuid": self.uuid})

    def set_per_process_memory_fraction(self, fraction: float, device: int, /) -> None:
        self.fractions.append(fraction)

    def memory_reserved(self, device: int, /) -> int:
        return self.reserved

    def max_memory_reserved(self, device: int, /) -> int:
        return self.reserved + MIB


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        self.now += 10.0  # the time between two checks is always long enough
        return self.now


def a_job(folder: Path, device: str = "cuda:0") -> Job:
    return Job(
        name="train/m", kind="train", run="r", run_folder=folder, folder=folder,
        attempt_folder=folder, attempt=1, device=device, cpus=1, share=Share(folder, clock=Clock()),
    )  # fmt: skip


def share(folder: Path, cap: int | None, context: int = 0) -> None:
    write_json(folder / "share.json", {"schema": 1, "cap": cap, "context": context})


def memory_report(folder: Path) -> dict[str, Any]:
    return read_json(folder / "memory.json") or {}


def test_torch_cuda_module_satisfies_the_protocol() -> None:
    cuda: Cuda = torch.cuda
    assert all(hasattr(cuda, name) for name in vars(Cuda) if not name.startswith("_"))


def test_no_limit_is_set_on_cpu_or_without_launcher(tmp_path: Path) -> None:
    job, card = a_job(tmp_path, "cpu"), Card()
    cap_job_memory(replace(a_job(tmp_path), share=Share()), {}, card)
    assert list(tmp_path.iterdir()) == []
    share(tmp_path, 100 * MIB)
    assert cap_job_memory(job, {}, card) is job
    assert not card.fractions
    assert not (tmp_path / "memory.json").exists()


@pytest.mark.parametrize(
    ("cap", "context", "fraction"),
    [(600 * MIB, 100 * MIB, 0.5), (5000 * MIB, 0, 1.0)],
    ids=["without the context", "beyond the card"],
)
def test_shared_gpu_is_limited_to_the_share(
    tmp_path: Path, cap: int, context: int, fraction: float
) -> None:
    share(tmp_path, cap, context)
    card = Card()
    cap_job_memory(a_job(tmp_path), {}, card)
    assert card.fractions == [fraction]


def test_exclusive_gpu_is_not_limited(tmp_path: Path) -> None:
    share(tmp_path, None)
    card = Card(reserved=20 * MIB)
    cap_job_memory(a_job(tmp_path), {}, card)
    assert not card.fractions
    report = memory_report(tmp_path)
    assert (report["reserved"], report["peak"]) == (20 * MIB, 21 * MIB)
    assert report["uuid"] == f"GPU-{UUID}"
    assert report["context"] is None


def test_changed_share_is_applied_when_the_job_reports_progress(tmp_path: Path) -> None:
    steps: list[dict[str, object]] = []
    job = replace(a_job(tmp_path), progress=lambda **facts: steps.append(facts))
    card = Card()
    held = cap_job_memory(job, {}, card)

    def fractions_after(cap: int | None) -> list[float]:
        share(tmp_path, cap)
        held.progress(step=4, total=4, loss=0.5)  # the last step is never left out
        return card.fractions

    assert fractions_after(500 * MIB) == [0.5]
    assert fractions_after(500 * MIB) == [0.5]
    assert fractions_after(250 * MIB) == [0.5, 0.25]
    assert fractions_after(None) == [0.5, 0.25, 1.0]
    assert steps[0] == {"step": 4, "total": 4, "loss": 0.5}


def test_limit_is_never_below_usage_and_falls_with_it(tmp_path: Path) -> None:
    share(tmp_path, 100 * MIB)
    card = Card(reserved=300 * MIB)
    held = cap_job_memory(a_job(tmp_path), {}, card)
    assert card.fractions == [0.3]
    card.reserved = 50 * MIB
    held.progress(step=1, total=1)
    assert card.fractions == [0.3, 0.1]


def test_torch_is_not_queried_between_two_checks(tmp_path: Path) -> None:
    card, now = Card(), [0.0]
    held = cap_job_memory(a_job(tmp_path), {}, card, clock=lambda: now[0])
    share(tmp_path, 500 * MIB)
    now[0] = 0.4
    held.progress(step=1, total=9)
    assert not card.fractions
    now[0] = 0.5
    held.progress(step=2, total=9)
    assert card.fractions == [0.5]


def test_torch_message_of_main_memory_exhaustion_is_recognised() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 46, dtype=torch.uint8)
    assert find_oom_in_exception(caught.value) == OomReport(
        where="ram", wanted=1 << 46, message=ANY
    )


def test_torch_exception_of_gpu_memory_exhaustion_is_recognised() -> None:
    found = find_oom_in_exception(
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    )
    assert found == OomReport(where="gpu", wanted=2 << 30, message=ANY)


@pytest.mark.parametrize(
    "visible", [f"GPU-{UUID}", "GPU-8932F937", f"GPU-{UUID},GPU-{OTHER}", "0", "", f"MIG-{OTHER}"]
)
def test_reserved_or_unnamed_gpu_is_confirmed(visible: str) -> None:
    named = None if visible.startswith("MIG-") else f"GPU-{UUID}"
    assert confirm_device(0, {"CUDA_VISIBLE_DEVICES": visible}, Card()) == named


def test_gpu_is_confirmed_without_reservation_or_uuid() -> None:
    assert confirm_device(0, {}, Card(uuid=f"GPU-{UUID}")) == f"GPU-{UUID}"
    assert confirm_device(0, {"CUDA_VISIBLE_DEVICES": f"GPU-{OTHER}"}, Card(uuid=None)) is None


@pytest.mark.parametrize(
    ("device", "visible"),
    [("cuda:0", f"GPU-{OTHER}"), ("cuda:1", f"GPU-{UUID},GPU-{OTHER}"), ("cuda", "GPU-1111")],
)
def test_gpu_other_than_the_reserved_one_is_rejected_and_both_are_named(
    tmp_path: Path, device: str, visible: str
) -> None:
    card = Card()
    with pytest.raises(JobError) as caught:
        cap_job_memory(a_job(tmp_path, device), {"CUDA_VISIBLE_DEVICES": visible}, card)
    assert f"GPU-{UUID}" in str(caught.value)
    assert visible.split(",")[-1] in str(caught.value)
    assert not (tmp_path / "memory.json").exists()


def test_error_of_unusable_gpu_contains_advice(tmp_path: Path) -> None:
    class WithoutCuda(Card):
        def get_device_properties(self, device: int, /) -> Any:
            raise AssertionError("Torch not compiled with CUDA enabled")

    with pytest.raises(JobError, match="torch cannot use GPU GPU-77 of this job"):
        cap_job_memory(a_job(tmp_path), {"CUDA_VISIBLE_DEVICES": "GPU-77"}, WithoutCuda())
