"""`python -m benchmarks.filling` runs the same jobs with and without a queue, and judges what it measured."""

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from benchmarks.filling import jobs, measurements
from benchmarks.filling.fixed import Impossible, best_fixed
from benchmarks.filling.machine import TOTAL, Job, Maker
from benchmarks.filling.result import Result, Target, draw
from benchmarks.filling.workloads import WORKLOADS
from tests.forked import BIN
from tests.nvml.standin import GIB

ROOT = Path(__file__).parents[2]
LOAD = {"gib": 1, "percent": 5, "seconds": 0.2}


@pytest.fixture(scope="module")
def maker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Maker]:
    try:
        yield Maker(BIN / "launcher", tmp_path_factory.mktemp("machines"))
    except FileNotFoundError as error:
        pytest.skip(str(error))


def test_queue_time_is_compared_with_the_best_fixed_number_of_jobs(maker: Maker) -> None:
    result = measurements.compare(maker, "few", [Job(LOAD)] * 3, Target(most=100), numbers=(1, 2))

    assert (result.faults, result.out_of_memory) == ([], 0)
    assert result.seconds is not None
    assert result.ratio is not None
    assert result.busy_s == pytest.approx(3 * 0.2 * 0.05, abs=0.02)
    assert result.most in {1, 2, 3}


def test_number_of_jobs_that_runs_out_of_memory_is_not_the_best(maker: Maker) -> None:
    large = LOAD | {"gib": 30, "seconds": 1}

    with ThreadPoolExecutor(1) as pool:
        declared = pool.submit(best_fixed, maker, [Job(large, vram_gib=40)] * 4, numbers=(4,))
        assert best_fixed(maker, [Job(large)] * 4, numbers=(4, 2)).number == 2
        with pytest.raises(Impossible):
            best_fixed(maker, [Job(large | {"gib": 90})], numbers=(1,))
        assert declared.result().number == 4


@pytest.mark.parametrize(
    ("changes", "holds"),
    [
        ({}, True),
        ({"seconds": 14.0}, False),
        ({"seconds": None}, False),
        ({"faults": ["2 failed"]}, False),
        ({"target": Target(most=12, in_seconds=True)}, True),
        ({"target": Target(most=11, in_seconds=True)}, False),
        ({"target": None, "base_s": None}, True),
    ],
)
def test_target_holds_if_it_is_met_without_other_faults(
    changes: dict[str, Any], holds: bool
) -> None:
    usual: dict[str, Any] = {"seconds": 12.0, "base_s": 10.0, "target": Target(most=1.3)}

    result = Result(workload="one", base="2 at a time", **usual | changes)

    assert result.holds is holds
    assert ("yes" if holds else "no") in draw([result]).splitlines()[1].split()


def test_study_with_another_seed_differs_only_in_the_seed() -> None:
    first, second = jobs.study(20), jobs.study(20, seed=2)

    assert [{**job.load, "words": ()} for job in first] == [
        {**job.load, "words": ()} for job in second
    ]
    assert all(a.load["words"] != b.load["words"] for a, b in zip(first, second, strict=True))


def test_two_late_programs_fit_on_one_gpu() -> None:
    (need,) = {(job.load["gib"] + 0.6) * GIB for job in jobs.late()}
    assert 2 * need <= TOTAL < 3 * need


def test_unknown_workload_error_lists_all_workloads() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.filling", "--only", "nothing"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 2
    assert all(name in done.stderr for name in WORKLOADS)


def test_result_is_written_as_json() -> None:
    result = Result(workload="one", seconds=3.0, base_s=2.0, target=Target(most=1.3))

    record = json.loads(json.dumps(result.record()))

    assert (record["ratio"], record["holds"]) == (1.5, False)
    assert record["target"] == {"most": 1.3, "in_seconds": False}
