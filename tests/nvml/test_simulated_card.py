"""Simulated programs use the cards of the stand-in as real ones use real cards."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pynvml
import pytest

from tests.build import until
from tests.nvml.simulated_card import (
    NOT_SUPPORTED,
    Programs,
    SimulatedCards,
)
from tests.nvml.standin import GIB, Devices, asked_here


@pytest.fixture
def cards(gpus: Devices, simulated_programs: Programs) -> Iterator[SimulatedCards]:
    """Two simulated cards of 80 GiB, which this process's own NVML bindings ask, too."""
    for _ in range(2):
        gpus.add(80 * GIB, used=0)
    with SimulatedCards(gpus, simulated_programs, cores=16) as cards, asked_here(gpus):
        yield cards


def handle(place: int = 0) -> object:
    return pynvml.nvmlDeviceGetHandleByIndex(place)


def used(place: int = 0) -> int:
    return int(pynvml.nvmlDeviceGetMemoryInfo(handle(place)).used)


def samples(place: int = 0) -> dict[int, int]:
    try:
        found = pynvml.nvmlDeviceGetProcessUtilization(handle(place), 0)
    except pynvml.NVMLError_NotFound:
        return {}
    return {sample.pid: sample.smUtil for sample in found}


def uuid(gpus: Devices, place: int = 0) -> str:
    return gpus.cards[place].uuid


def end(*processes: subprocess.Popen[bytes]) -> None:
    for process in processes:
        process.kill()
        process.wait()


def test_program_uses_context_then_memory_then_nothing(
    cards: SimulatedCards, gpus: Devices
) -> None:
    context = round(0.6 * GIB)
    argv = cards.program(gib=2, percent=5, seconds=0.2, delay=0.2)
    with cards.start(argv, uuid(gpus)) as process:
        until(lambda: used() == context, "it has a context")
        until(lambda: used() == context + 2 * GIB, "it has its memory")
    assert (process.returncode, used()) == (0, 0)
    assert [run.outcome for run in cards.runs()] == ["done"]


def test_a_killed_program_holds_nothing(cards: SimulatedCards, gpus: Devices) -> None:
    process = cards.start(cards.program(gib=1, percent=5, seconds=60), uuid(gpus))
    until(lambda: used() > GIB, "it has its memory")
    process.kill()
    until(lambda: used() == 0, "it holds nothing, also before it is waited for")
    process.wait()
    assert (cards.usage().killed, cards.runs()) == (1, [])


def test_utilization_above_the_whole_gpu_is_scaled_and_slows_all_work(
    cards: SimulatedCards, gpus: Devices
) -> None:
    argv = cards.program(gib=1, percent=100, seconds=0.5)
    long = [cards.start(cards.program(gib=1, percent=100, seconds=60), uuid(gpus)) for _ in "ab"]
    until(lambda: len(samples()) == 2, "both work")
    assert samples() == {process.pid: 50 for process in long}
    assert pynvml.nvmlDeviceGetUtilizationRates(handle()).gpu == 100
    assert samples(1) == {}
    slowed, alone = (cards.start(argv, uuid(gpus, place)) for place in (0, 1))
    slowed.wait()
    alone.wait()
    end(*long)
    assert [run.pid for run in cards.runs()] == [alone.pid, slowed.pid]


def test_program_above_the_gpu_memory_ends_with_the_message_of_torch(
    cards: SimulatedCards, gpus: Devices
) -> None:
    holding = cards.start(cards.program(gib=70, percent=5, seconds=60), uuid(gpus))
    until(lambda: used() > 70 * GIB, "most of the card is taken")
    argv = cards.program(gib=1, percent=5, seconds=60, grow=20, grow_after=0.1)
    own = {"CUDA_VISIBLE_DEVICES": uuid(gpus)}
    failed = subprocess.run(
        argv, env=os.environ | gpus.environment | own, capture_output=True, text=True, check=False
    )
    end(holding)
    assert failed.returncode == 1
    assert (
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 GiB." in failed.stderr
    )
    assert "80.00 GiB of which 7.80 GiB is free." in failed.stderr
    assert [run.outcome for run in cards.runs()] == ["out-of-memory"]


def test_a_program_on_two_cards_uses_both_and_reports_its_steps(
    cards: SimulatedCards, gpus: Devices
) -> None:
    argv = cards.program(gib=3, percent=40, seconds=0.3, steps=2)
    own = {"CUDA_VISIBLE_DEVICES": ",".join(card.uuid for card in gpus.cards)}
    with subprocess.Popen(
        argv, env=os.environ | gpus.environment | own, stdout=subprocess.PIPE, text=True
    ) as process:
        until(lambda: samples() == samples(1) == {process.pid: 40}, "it works on both")
        assert used() == used(1) > 3 * GIB
        assert process.stdout is not None
        printed = process.stdout.read()
    assert printed == "launcher: step=1 total=2\nlauncher: step=2 total=2\n"


def test_driver_may_report_memory_without_utilization(cards: SimulatedCards, gpus: Devices) -> None:
    gpus.refuse("nvmlDeviceGetProcessUtilization", NOT_SUPPORTED)
    process = cards.start(cards.program(gib=1, percent=30, seconds=60), uuid(gpus))
    until(lambda: pynvml.nvmlDeviceGetUtilizationRates(handle()).gpu == 30, "it works")
    with pytest.raises(pynvml.NVMLError_NotSupported):
        samples()
    end(process)


def test_program_without_a_gpu_fails_as_torch_does(cards: SimulatedCards) -> None:
    process = cards.start(cards.program(gib=1, percent=5, seconds=1))
    assert process.wait() == 1


@pytest.mark.parametrize("count", [1, 16])
def test_process_uses_the_configured_number_of_cores(
    gpus: Devices, simulated_programs: Programs, count: int, tmp_path: Path
) -> None:
    gpus.add()
    with SimulatedCards(gpus, simulated_programs, cores=count) as cards:
        found = subprocess.run(
            [sys.executable, "-c", "import os; print(len(os.sched_getaffinity(0)))"],
            env=os.environ | cards.environment,
            capture_output=True,
            text=True,
            check=True,
        )
    assert found.stdout == f"{count}\n"
