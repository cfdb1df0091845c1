"""`make gpu` says that it cannot measure without a GPU, and is ready for one."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from benchmarks.filling.at_once import Started, run_at_once
from benchmarks.gpu.bench import GIB, ROWS, Bench, rows_in
from benchmarks.gpu.command import SECONDS
from benchmarks.gpu.measurements import (
    decoding,
    defaults,
    equality,
    filling,
    memory,
    networks,
    nvml,
    sharing,
    small,
    waiting,
)
from benchmarks.gpu.measurements.nvml_questions import QUESTIONS
from benchmarks.gpu.measurements.queue import Usage
from benchmarks.gpu.parts import LIGHT, PARTS
from benchmarks.gpu.report import Report, Result, Row, State
from benchmarks.measured import Measurement
from tests.build import gone
from tests.nvml.standin import Devices, asked_here
from trueface.evaluation.inference import evaluate

ROOT = Path(__file__).parents[2]
WORDS = "not measured on a GPU"


def call(*words: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words], cwd=ROOT, env=os.environ | more, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip


@pytest.fixture
def bench(tmp_path: Path, gpus: Devices) -> Iterator[Bench]:
    """The surroundings of a part in a rehearsal."""
    folder = tmp_path / "part"
    folder.mkdir()
    gpus.add()
    with asked_here(gpus):
        yield Bench(folder=str(folder), until=time.monotonic() + 60, device="cpu", rehearsal=True)


@pytest.mark.skipif(shutil.which("nvidia-smi") is not None, reason="there is a GPU")
@pytest.mark.parametrize("words", [["-m"], ["-S", "-m"]], ids=["installed", "without packages"])
def test_missing_gpu_is_reported_and_nothing_is_measured(words: list[str]) -> None:
    done = call(*words, "benchmarks.gpu")

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{WORDS}: libnvidia-ml.so.1")
    assert not (ROOT / "benchmarks" / "gpu-report.json").exists()


@pytest.mark.skipif(shutil.which("nvidia-smi") is not None, reason="there is a GPU")
def test_torch_without_gpu_access_is_an_error_without_report(tmp_path: Path, gpus: Devices) -> None:
    gpus.add()

    done = call("-m", "benchmarks.gpu", "--out", str(tmp_path), **gpus.environment)

    assert done.returncode == 1
    assert f"{WORDS}: torch" in done.stdout
    assert "install a build for CUDA" in done.stdout
    assert not list(tmp_path.glob("*.json"))


def test_missing_packages_are_named_with_the_install_command(gpus: Devices) -> None:
    done = call("-S", "-m", "benchmarks.gpu", **gpus.environment)

    assert done.returncode == 1
    assert f"{WORDS}: {sys.executable} lacks PIL, click" in done.stdout


def test_failed_parts_are_reported_and_the_others_run(tmp_path: Path) -> None:
    done = call("-m", "tests.benchmarks.odd_parts", str(tmp_path))

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == list(range(1, 9)), "written after each"
    assert done.stdout.startswith("skipped  unable: no part for it\n"), "said at once"
    report: dict[str, Any] = json.loads((tmp_path / "report.json").read_text())
    ended = {part["part"]: (part["state"], part["why"]) for part in report["parts"]}
    hung = ended.pop("hangs")
    assert ended == {
        "unable": ("skipped", "no part for it"),
        "leaves": ("done", ""),
        "dies": ("failed", f"its process died; its log is {tmp_path}/dies/log"),
        "raises": ("failed", "ValueError: of what is broken"),
        "refuses": ("skipped", "nothing to measure with"),
        "refutes": ("failed", "not as expected: expected"),
        "late": ("skipped", ended["late"][1]),
    }
    assert hung[0] == "failed"
    assert "it usually takes 240 s" in ended["late"][1]
    rows = {part["part"]: [row["what"] for row in part["rows"]] for part in report["parts"]}
    assert rows["dies"] == rows["hangs"] == ["before"], "what was measured is kept"
    assert gone(int((tmp_path / "left").read_text())), "nothing outlives its part"
    assert "| before | 1.5 GiB | beside it: 2 |" in (tmp_path / "report.md").read_text()


def test_driver_and_simulated_driver_are_compared_by_field(bench: Bench) -> None:
    nvml.measure(bench)

    rows = {row.what: row for row in rows_in(bench.path)}
    assert set(QUESTIONS) <= set(rows)
    assert [row for row in rows.values() if row.holds is False] == []
    assert rows["power"].beside == {"limit": 150.0}


def test_difference_between_driver_and_simulated_driver_is_reported(
    bench: Bench, gpus: Devices
) -> None:
    not_supported = 3
    gpus.refuse("nvmlDeviceGetRetiredPagesPendingStatus", not_supported)
    gpus.refuse("nvmlDeviceGetComputeRunningProcesses_v3", not_supported)

    nvml.measure(bench)

    rows = {row.what: row for row in rows_in(bench.path)}
    assert rows["retired pages pending"].holds is None, "the launcher can do without"
    assert "takes it as unknown" in rows["retired pages pending"].note
    assert rows["computing processes (version 3)"].holds is False


def test_decoder_part_runs_as_a_rehearsal(bench: Bench) -> None:
    decoding.measure(bench)

    speed, difference = rows_in(bench.path)
    assert isinstance(speed.measured, float)
    assert set(speed.beside) == {"one_core", "pillow_on_one_core", "cores"}
    assert difference.measured == 0


@pytest.mark.parametrize(
    ("part", "names"),
    [
        (
            defaults,
            [
                "slim18, 16 px, fp32: CUDA graph alone",
                "slim18, 16 px, fp32: loader alone",
                "slim18, 16 px, fp32: training",
                "slim18, 16 px, fp32: training, share of loader or CUDA graph",
            ],
        ),
        (small, ["slim18, 16 px, fp32, batch 4: allocator, most"] * 2),
    ],
    ids=["defaults", "small"],
)
def test_part_without_a_queue_runs_as_a_rehearsal(
    bench: Bench, part: ModuleType, names: list[str]
) -> None:
    part.measure(bench)

    rows = [row for row in rows_in(bench.path) if "bf16" not in row.what]
    assert [row.what for row in rows] == names
    assert all(isinstance(row.measured, float) for row in rows)
    assert [row for row in rows if row.holds is False] == []


def test_test_that_differs_from_a_plain_loop_is_reported(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    equality.measure(bench)
    assert failed_checks(bench) == []

    def different(*values: Any, **more: Any) -> Any:
        scored = evaluate(*values, **more)
        return scored.with_margin(scored.margin + 1e-4)

    monkeypatch.setattr(equality, "evaluate", different)
    (bench.path / "again").mkdir()
    again = replace(bench, folder=str(bench.path / "again"))
    equality.measure(again)
    assert failed_checks(again) == ["a test and a plain loop: largest difference of a logit"]


def test_training_that_does_not_fit_into_a_small_gpu_is_reported(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def loop(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    monkeypatch.setattr(networks.Case, "loop", loop)
    small.measure(bench)

    assert len(failed_checks(bench)) == 3
    assert {row.note for row in rows_in(bench.path)} == {"CUDA out of memory"}


def test_speed_of_a_feed_counts_from_its_first_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks, "now", count().__next__)
    batch = networks.Case(
        bench=Bench(folder="", until=0, rehearsal=True, device="cpu"), side=8, precision="fp32"
    ).batch()
    for first, images in ((3, 2 * 4), (0, 5 * 4), (9, 5 * 4)):
        timed = networks.TimedFeed(networks.Repeated(batch, 5), first)
        assert sum(len(each.labels) for each in timed(0)) == len(timed) == 20
        assert timed.speed() == images, first


def test_last_batch_of_a_repeated_feed_can_be_smaller() -> None:
    case = networks.Case(
        bench=Bench(folder="", until=0, rehearsal=True, device="cpu"), side=8, precision="fp32"
    )
    feed = networks.Repeated(case.batch(), 2, 3)

    assert [len(batch.labels) for batch in feed(0)] == [4, 4, 3]
    assert len(feed) == 11


def a_training(**changes: Any) -> dict[str, Any]:
    attempt = {"vram": 8 * GIB, "peak": 3 * GIB, "outcome": {"ending": "done"}}
    return {"state": "done", "attempts": [attempt | changes]}


def failed_checks(bench: Bench) -> list[str]:
    return [row.what for row in rows_in(bench.path) if row.holds is False]


@pytest.mark.parametrize(
    ("usage", "wrong"),
    [
        ({}, []),
        ({"beyond": GIB}, ["seed 1: allocator, most"]),
        ({"limit": None}, ["seed 1: limit of its allocator"]),
        ({"uuid": "GPU-2"}, ["seed 1: UUID read back from CUDA"]),
        ({"reserved": 4 * GIB}, ["seed 1: peak in the queue's records"]),
    ],
    ids=["as expected", "above its limit", "without a limit", "another card", "a lost peak"],
)
def test_training_on_a_shared_gpu_is_checked_against_measured_usage(
    tmp_path: Path, usage: dict[str, Any], wrong: list[str]
) -> None:
    bench = Bench(folder=str(tmp_path), until=0)
    usual: dict[str, Any] = {
        "limit": 7 * GIB,
        "reserved": 2 * GIB,
        "driver": 3 * GIB,
        "uuid": "GPU-1",
    }

    sharing.rows(bench, "seed 1", a_training(), Usage(**usual | usage), "GPU-1")

    assert failed_checks(bench) == wrong


def test_greedy_training_must_be_limited_and_finish_with_a_larger_request(
    tmp_path: Path,
) -> None:
    shortage = {"ending": "out-of-memory", "held": GIB, "wanted": GIB, "cap": GIB // 2}
    first = {"vram": GIB, "peak": None, "outcome": shortage}
    record = a_training()
    record["attempts"].insert(0, first)
    for number, (given, usage) in enumerate(
        [(record, Usage(limit=GIB // 2)), (a_training(), Usage(beyond=GIB))]
    ):
        (tmp_path / str(number)).mkdir()
        bench = Bench(folder=str(tmp_path / str(number)), until=0)
        memory.greedy_rows(bench, given, usage, unharmed=True)

        assert len(failed_checks(bench)) == 4 * number


def test_waiting_share_counts_long_gaps_between_kernels() -> None:
    kernels = [(40.0, 60.0), (0.0, 20.0), (10.0, 21.0), (62.0, 100.0), (200.0, 210.0)]

    assert waiting.waiting(kernels, 10) == pytest.approx((19 + 100) / 210)
    assert waiting.waiting(kernels, 1) == pytest.approx((19 + 2 + 100) / 210)
    assert waiting.waiting([(5.0, 9.0)], 1) == 0


def test_truncated_row_is_skipped(tmp_path: Path) -> None:
    bench = Bench(folder=str(tmp_path), until=0)
    bench.row("whole", 1)
    with (tmp_path / ROWS).open("a") as file:
        file.write('{"what": "cu')

    assert [row.what for row in rows_in(tmp_path)] == ["whole"]


def test_report_has_one_table_per_part() -> None:
    row = Row(what="a | b", measured=1234.5, unit="images/s", beside={"x": None}, holds=False)
    report = Report(
        machine={"GPU": "H100"},
        results=[
            Result(part="a", title="A", state=State.DONE, rows=[row]),
            Result(part="b", title="B", state=State.SKIPPED, why="no data"),
        ],
    )

    text = report.markdown()

    assert "GPU H100." in text
    assert "| a \\| b | 1,234 images/s |  |  | **no** |  |" in text
    assert "## B\n\nSkipped: no data\n" in text
    assert not report.failed


def test_report_names_targets_of_the_page_of_measurements() -> None:
    rows = [
        Row(what="share", measured=0.9),
        Row(what="wait", measured=30.0, unit="%"),
        Row(what="graph", measured=2e-6, beside={"two_kernels": 3e-6}),
        Row(what="absent", measured=None),
    ]
    known = {
        "a, share": Measurement("s", "0.1", target="at least 0.8"),
        "a, wait": Measurement("w", "0.1", "%", target="at most 5"),
        "a, graph": Measurement("g", "1", target="at most 1 × two kernels"),
        "a, absent": Measurement("a", "1", target="at most 3"),
        "b, other": Measurement("o", "1", target="at most 3"),
    }
    result = Result(part="a", title="A", state=State.DONE, rows=rows)

    text = Report(machine={}, results=[result], known=known).markdown()

    assert "| share | 0.9 |  | at least 0.8 ✓ |" in text
    assert "| wait | 30 % |  | at most 5 % ✗ |" in text
    assert "| graph | 2e-06 | two kernels: 3e-06 | at most 1 × two kernels ✓ |" in text
    assert "| absent | – |  | at most 3 |" in text


def test_all_parts_exist_and_fit_into_nine_minutes() -> None:
    assert set(LIGHT) < set(PARTS)
    for part in PARTS.values():
        path = ROOT / f"{part.module.replace('.', '/')}.py"
        assert "def measure(bench: Bench) -> None:" in path.read_text()
    assert sum(part.usual_s for part in PARTS.values() if not part.on_request) < 9 * 60
    assert all(part.usual_s < SECONDS for part in PARTS.values())


def test_filling_programs_use_their_share_of_the_gpu() -> None:
    work = filling.commands(filling.WORKLOADS["late"], 80 * GIB, product_s=0.001)

    program, *others = work
    count, delay, rounds, products, pause = map(float, program[3:8])
    assert (count, delay) == (30 * GIB, 6)
    assert rounds * (products * 0.001 + pause) == pytest.approx(4)
    assert products * 0.001 / (products * 0.001 + pause) == pytest.approx(0.2)
    assert len({program, *others}) == 4


def test_a_fixed_number_of_programs_runs_at_a_time() -> None:
    seen: list[int] = []

    def start(seconds: str, running: Sequence[Started]) -> Started:
        seen.append(len(running))
        return Started(subprocess.Popen(["sleep", seconds]))

    fixed = run_at_once(["0.1"] * 4, 2, start)

    assert fixed is not None
    assert fixed.number == 2
    assert seen[0] == 0
    assert max(seen) == 1
    assert run_at_once(["0.1", "of what is wrong"], 2, start) is None, "one fails"
    assert run_at_once(["60"], 2, start, lambda seconds: seconds > 0.1) is None, "it takes too long"


@pytest.mark.night
@pytest.mark.parametrize("part", PARTS)
def test_part_runs_as_a_rehearsal(part: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", part, "--rehearse"],
        cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout
    assert f"done     {part}" in done.stdout


def test_measurement_page_contains_values_that_meet_expectations() -> None:
    rows = [
        Row(what="load", measured=1044.2, unit="images/s", beside={"network_alone": 1100}),
        Row(what="absent", measured=None),
        Row(what="refuted", measured=3, holds=False),
    ]
    report = Report(
        machine={},
        results=[
            Result(part=part, title=part, state=State.DONE, rows=rows)
            for part in ("training", "filling")
        ],
    )
    values = ("1,044", "network alone: 1,100")
    assert report.values(only="gpu") == {"training, load": values}
    assert report.values(only="filling") == {"filling, load": values}
