"""Numbers that cannot be: each costs a sentence, and nothing starts or hangs because of it."""

from dataclasses import replace
from math import inf, nan
from typing import Any

import pytest

from launcher.gpu.snapshot import GpuSnapshot
from launcher.scheduler.policy.decide import decide
from launcher.scheduler.policy.model import Machine, Running, Start, Wait, forecast_of
from launcher.scheduler.policy.watchdog import PATIENCE_S, Watchdog
from tests.build import GIB, a_gpu, a_waiting

MACHINE = Machine(cpus=4, ram=8 * GIB, ram_free=8 * GIB)
SOUND = a_gpu(1, total=24)
ODD: dict[str, Any] = {
    "used": [-GIB, nan, inf, 25 * GIB, None],
    "total": [0, -1],
}


@pytest.mark.parametrize(
    "gpu",
    [replace(a_gpu(total=24), **{name: value}) for name, values in ODD.items() for value in values],
    ids=lambda gpu: f"{gpu.used} of {gpu.total}",
)
def test_a_card_that_says_what_cannot_be_takes_nothing_and_says_why(gpu: GpuSnapshot) -> None:
    for job in (a_waiting(1, device="cuda"), a_waiting(1, device="cuda", min_vram=GIB)):
        (wait,) = decide([job], [], MACHINE._replace(gpus=(gpu,)))
        assert isinstance(wait, Wait)
        assert "cuda:0 " in wait.reason
        assert any(word in wait.reason for word in ("does not say", "which cannot be", "never fit"))
        (start,) = decide([job], [], MACHINE._replace(gpus=(gpu, SOUND)))
        assert isinstance(start, Start)
        assert start.devices == ("GPU-1",)


@pytest.mark.parametrize("used", [nan, -5.0])
def test_a_use_that_cannot_be_is_no_sign_that_nobody_works_there(used: float) -> None:
    gpu = replace(a_gpu(total=24, used=3, processes=()), utilisation=used)
    machine, job, dog = MACHINE._replace(gpus=(gpu,)), a_waiting(1, device="cuda"), Watchdog()
    for now in (0.0, PATIENCE_S):
        decisions = decide([job], [], machine)
        assert not dog.review([job], decisions, [], machine, now).news


@pytest.mark.parametrize("seconds", [nan, inf, -inf, -3.0])
def test_a_duration_that_cannot_be_teaches_nothing(seconds: float) -> None:
    assert forecast_of([seconds, 60.0]) == forecast_of([60.0])
    forecast = forecast_of([seconds], limit=seconds)
    run = Running(
        job=9,
        cpus=1,
        devices=("GPU-1",),
        reservation=20 * GIB,
        since=0.0,
        ends=forecast.end(0.0, 0.0),
        forecast=forecast,
    )
    (wait,) = decide(
        [a_waiting(1, device="cuda", min_vram=8 * GIB)], [run], MACHINE._replace(gpus=(SOUND,)), 5.0
    )
    assert isinstance(wait, Wait)
    assert "20 GiB of it promised to job 9" in wait.reason
