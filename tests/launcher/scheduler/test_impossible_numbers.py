"""Numbers of programs, and numbers that cannot be."""

from dataclasses import replace
from math import inf, nan
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.gpu.snapshot import GpuSnapshot
from launcher.job import numbers_of, program_signature
from launcher.scheduler.policy.decide import decide
from launcher.scheduler.policy.model import Machine, Running, Start, Wait, forecast_of
from launcher.scheduler.policy.vram_request import (
    MANY,
    UNTRIED,
    Evidence,
    evidence,
    vram_request_of,
)
from launcher.scheduler.policy.watchdog import PATIENCE_S, Watchdog
from launcher.store.usage import Run, Usage, margin_of
from tests.build import GIB, a_gpu, a_waiting

# --- numbers that cannot be: each costs a sentence, and nothing starts or hangs because of it


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


# --- A sweep shares its cards once its numbers were seen to cost nothing; a larger batch inherits nothing


def a_run(peak: float, *numbers: object) -> Run:
    return Run(round(peak * GIB), tuple(map(str, numbers)))


def request(runs: list[Run], *numbers: object) -> int | None:
    """What a program with these numbers is promised after these runs, the oldest first."""
    usage = Usage(peaks=tuple(run.peak for run in runs), runs=tuple(runs))
    return vram_request_of(None, 0, usage, exact=False, numbers=tuple(map(str, numbers)))[0]


def test_one_run_says_nothing_of_the_same_program_with_another_number() -> None:
    runs = [a_run(4, 4)]
    assert request(runs, 7) is None
    assert request(runs, 4) == 4 * GIB + margin_of(4 * GIB)
    assert request(runs, "4.0") == request(runs, 4)
    usage = Usage(peaks=(4 * GIB,), runs=tuple(runs))
    assert vram_request_of(None, 0, usage, exact=False, numbers=("7",)) == (None, UNTRIED)
    assert vram_request_of(None, 6 * GIB, usage, exact=False, numbers=("7",))[0] == 6 * GIB


def test_a_sweep_over_seeds_is_alone_twice_and_each_run_that_agrees_halves_the_doubt() -> None:
    runs = [a_run(4, 0.1, 1), a_run(4, 0.1, 2)]
    beyond = []
    for seed in range(3, 10):
        claim = request(runs, 0.1, seed)
        assert claim is not None
        beyond.append(claim - 4 * GIB - margin_of(4 * GIB))
        runs.append(a_run(4, 0.1, seed))
    assert beyond[:3] == [2 * GIB, GIB, GIB // 2]
    assert beyond == sorted(beyond, reverse=True)
    assert request(runs, 0.2, 3) is None  # another learning rate was never tried


def test_a_sweep_over_batch_sizes_never_inherits_the_promise_of_a_smaller_one() -> None:
    runs: list[Run] = []
    for exponent in range(6):
        size = 2**exponent
        assert request(runs, size) is None
        runs.append(a_run(3 + size / 2, size))
    for size, least in ((24, 11), (5, 5.5), (1, 3.5)):
        claim = request(runs, size)
        assert claim is not None
        assert claim >= least * GIB


def test_of_a_grid_those_with_the_same_batch_size_tell_what_the_next_seed_takes() -> None:
    runs = [
        a_run(3 + batch, batch, seed)
        for batch in (2, 4)
        for seed in (1, 2, 3)
        if (batch, seed) < (4, 3)
    ]
    assert request(runs, 4, 3) == 7 * GIB + margin_of(7 * GIB)
    assert request(runs, 2, 1) == 5 * GIB + margin_of(5 * GIB)
    assert request(runs, 8, 1) is None


def test_the_order_of_a_grid_does_not_matter() -> None:
    runs: list[Run] = []
    alone = []
    for seed in (1, 2, 3, 4):
        for batch in (2, 4):
            if request(runs, batch, seed) is None:
                alone.append((batch, seed))
            runs.append(a_run(3 + batch, batch, seed))
    assert alone == [(2, 1), (4, 1), (2, 2)]


def test_numbers_drawn_at_random_are_trusted_within_what_was_tried() -> None:
    runs = [
        a_run(2 + batch / 10 + width / 100, batch, width)
        for batch, width in [(10, 80), (40, 10), (25, 55), (30, 20), (15, 70), (35, 60), (12, 33)]
    ]
    assert request(runs, 20, 40) is None
    runs.append(a_run(2 + 2.8 + 0.15, 28, 15))
    assert len(runs) == MANY
    claim = request(runs, 20, 40)
    most, least = max(run.peak for run in runs), min(run.peak for run in runs)
    assert claim == most + margin_of(most) + most - least
    assert request(runs, 41, 40) is None


def test_what_agreed_once_and_then_did_not_is_not_trusted_any_more() -> None:
    runs = [a_run(4, 1), a_run(4, 2)]
    assert request(runs, 64) is not None
    runs.append(a_run(9, 64))
    assert request(runs, 128) is None
    odd_one = [a_run(4, 1), a_run(4, 9), a_run(8, 5)]  # what it takes does not grow with the number
    assert request(odd_one, 10) is None


def test_runs_of_unknown_numbers_teach_nothing_of_memory() -> None:
    runs = [Run(4 * GIB), Run(4 * GIB, ()), Run(4 * GIB, ("x", "1"))]
    assert request(runs, 1) is None
    assert evidence((), (Run(GIB, ()),)) == Evidence((GIB,))


@given(st.data())
def test_whoever_ran_with_the_same_numbers_is_believed(data: st.DataObject) -> None:
    numbers = st.sampled_from(["1", "2", "1e400", "-3", "0.5", "nan", "x"])
    lists = st.tuples(numbers, numbers)
    runs = data.draw(st.lists(st.builds(Run, st.integers(1, 80 * GIB), lists), max_size=12))
    wanted = data.draw(lists)
    proof = evidence(wanted, tuple(runs))
    same = [run.peak for run in runs if run.numbers == wanted]
    if same:
        assert proof is not None
        assert max(proof.peaks) >= max(same[-8:])
    if proof is not None:
        assert set(proof.peaks) <= {run.peak for run in runs}
        assert proof.beyond >= 0


def test_the_numbers_of_files_do_not_count_and_their_signature_leaves_them_out_all_the_same() -> (
    None
):
    words = ("train.py", "--lr=0.1", "--out=runs/7", "resnet18", "/data/part-3 --scale 3/4")
    assert numbers_of(words) == ("0.1", "3", "4")
    other = ("train.py", "--lr=0.1", "--out=runs/8", "resnet18", "/data/part-4 --scale 3/4")
    assert program_signature(words) == program_signature(other)
