"""Two processes run one job: their messages, equal results, and their end. Trainings in them, also after a crash.

All tests are in one module, as they share the fork server, which imports torch for seconds.
"""

import contextlib
import csv
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from launcher.api import Job, JobError, Json, Share
from tests.build import DEADLINE_S
from tests.trueface.jobs import build
from tests.trueface.jobs.build import SIDE, write_images, write_lists
from tests.trueface.jobs.ranks.test_world import a_job
from trueface.jobs import training as training_job
from trueface.jobs.ranks import coordinator
from trueface.models import checkpoint
from trueface.models.detectors import build_detector
from trueface.runtime import logs, paths

ROOT = Path(__file__).parents[4]
SCENES = "tests.trueface.jobs.ranks.scenes"
GRADIENTS = "tests.trueface.jobs.ranks.gradients"


def run(scene: str, job: Job | None = None, module: str = SCENES) -> Any:
    return coordinator.run(job or a_job(), f"{module}:{scene}", 2)


def test_step_of_two_ranks_equals_step_of_one_process() -> None:
    for rank in run("compare", module=GRADIENTS)["ranks"]:
        for name, facts in rank.items():
            assert facts["gradients"] < 1e-9, name
            assert facts["statistics"] < 1e-9, name
            assert facts["images"][0] == facts["images"][1], name


def test_out_of_memory_in_a_rank_fails_the_job_as_out_of_memory() -> None:
    with pytest.raises(torch.OutOfMemoryError, match=r"rank 1 of 2 \(cpu\): CUDA out of memory"):
        run("out_of_memory")


def test_killed_rank_fails_the_job_and_is_named() -> None:
    run("talk")  # from here on torch is imported
    begun = time.monotonic()
    with pytest.raises(JobError, match=r"rank 1 of 2 .* is killed by signal: Killed"):
        run("die")
    assert time.monotonic() - begun < DEADLINE_S, "the ranks must not wait for it, half an hour"


@pytest.mark.skipif(torch.cuda.is_available(), reason="torch can use the GPU of this machine")
def test_rank_with_unusable_gpu_reports_it() -> None:
    with pytest.raises(JobError, match=r"torch cannot use GPU [01] of this job"):
        run("talk", a_job("cuda:0", gpus=2))


def test_ranks_stop_together_and_ignore_direct_signals() -> None:
    stop, pids = threading.Event(), []

    def halt(*, step: int, **_: object) -> None:
        pids.append(step)
        stop.set()

    with pytest.raises(JobError, match=r"^stopped$"):
        run("hang", replace(a_job(), progress=halt, stop=stop))
    assert not psutil.pid_exists(pids[0])


# a script as people write them, without a guard: ranks must not run it again
SCRIPT = """
from pathlib import Path
from launcher.api import Job
from trueface.jobs.ranks import coordinator
coordinator.PRELOADED = "{scenes}"  # the fork server imports only what these jobs need
job = Job(name="train/m", kind="train", run="r", run_folder=Path("r"), folder=Path(), cpus=2,
          attempt_folder=Path("a"), attempt=1, device="cpu",
          progress=lambda **facts: print("step", flush=True))
try:
    print(coordinator.run(job, "{scenes}:hang", 2), flush=True)
except KeyboardInterrupt:
    print("interrupted", flush=True)
print(coordinator.run(job, "{scenes}:stuck", 2), flush=True)
"""


@contextlib.contextmanager
def script(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Run a script that does two jobs in two processes each, in a session of its own.

    Its folder contains files with the names of modules that the ranks import.
    """
    for name in ("launcher.py", "queue.py"):
        (folder / name).write_text("raise ValueError('not this one')")
    (folder / "script.py").write_text(SCRIPT.format(scenes=SCENES))
    with subprocess.Popen(
        [sys.executable, "-P", "script.py"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as job:
        try:
            yield job
        finally:
            job.kill()


def test_ranks_end_with_ctrl_c_which_is_no_success_and_with_the_main_process(
    tmp_path: Path,
) -> None:
    with script(tmp_path) as job:
        assert job.stdout is not None
        assert job.stdout.readline() == "step\n"
        main = psutil.Process(job.pid)
        others = main.children(recursive=True)
        assert len(others) == 4, "a fork server with two ranks, and what multiprocessing tracks"
        ranks = [process for process in others if process.ppid() != job.pid]
        assert len(ranks) == 2
        os.killpg(job.pid, signal.SIGINT)
        assert job.stdout.readline() == "interrupted\n"
        assert psutil.wait_procs(ranks, timeout=20)[1] == []
        assert job.stdout.readline() == "step\n"
        others = main.children(recursive=True)
        assert len(others) == 4
        job.kill()
        assert psutil.wait_procs(others, timeout=20)[1] == []


def test_coordinator_waits_for_ending_fork_server(monkeypatch: pytest.MonkeyPatch) -> None:
    start, refused = coordinator._start, [ConnectionRefusedError] * 3

    def begin(*given: Any, **options: Any) -> Any:
        if refused:
            raise refused.pop()
        return start(*given, **options)

    monkeypatch.setattr(coordinator, "_start", begin)
    assert len(run("talk")["ranks"]) == 2


def test_memory_of_all_ranks_is_reported_per_gpu() -> None:
    reports: list[dict[str, Any]] = []

    class RecordingShare(Share):
        def report(self, **facts: Any) -> None:
            reports.append(facts)

    ranks = []
    for number, (uuid, reserved) in enumerate((("GPU-a", 5), ("GPU-b", 7))):
        memory = {"reserved": reserved, "peak": 9 - number, "context": None, "uuid": uuid}
        place = coordinator.rank_places(a_job(), 2, "m")[number]
        ranks.append(
            coordinator.Rank(place=place, process=BaseProcess(), channel=None, memory=memory)
        )
    coordinator.Coordinator(replace(a_job(), share=RecordingShare()), ranks)._report(last=True)
    assert reports == [
        {"reserved_bytes": 7, "peak": 9, "cards": {"GPU-a": 5, "GPU-b": 7}, "last": True}
    ]


TRAIN, VAL = 11, 5  # images of a folder in both lists
DATA = "gan2:pre&real:pre"
BAD = 3  # number of fakes that are cut off
SETTINGS = {
    "data_root": "data", "split_path": "splits", "model": "slim18", "weights": "none",
    "num_epochs": 2, "lr": 1e-3, "batch_size": 6, "resize_size": SIDE, "dropout": 0.2, "ema": 0.5,
}  # fmt: skip


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 21 images to learn from: batches of 6, 6, 6 and 3, one image cut off."""
    root = tmp_path_factory.mktemp("lab")
    keys = write_images(root, TRAIN + VAL)
    bad = root / f"data/PreSocial/Fake/{keys[BAD]}.png"
    bad.write_bytes(bad.read_bytes()[:60])
    train = [key for key in keys if int(key[-5:]) < TRAIN]
    val = [key for key in keys if int(key[-5:]) >= TRAIN]
    write_lists(root / "splits", train=train[:-1], val=val, test=[])
    return root


def training(lab: Path, run: str, *, cpus: int = 2, **settings: Any) -> Job:
    given = {**SETTINGS, **settings}
    return build.a_job(lab, "train", DATA, run=run, cpus=cpus, data=DATA, settings=given)


def folder(lab: Path, run: str) -> Path:
    return lab / "runs" / run / DATA


def history(lab: Path, run: str) -> list[dict[str, str]]:
    return list(csv.DictReader(paths.history(folder(lab, run)).read_text().splitlines()))


def weights(lab: Path, run: str) -> Mapping[str, torch.Tensor]:
    return checkpoint.load(paths.checkpoint(folder(lab, run))).state


def moved(first: Mapping[str, torch.Tensor], second: Mapping[str, torch.Tensor]) -> float:
    """Return the distance of two sets of weights."""
    learned = [name for name in first if name.endswith(("weight", "bias"))]
    squares = [(first[name].double() - second[name].double()).square().sum() for name in learned]
    return float(torch.stack(squares).sum().sqrt())


@pytest.fixture(scope="module")
def alone(lab: Path) -> Mapping[str, Json]:
    return training_job.train(training(lab, "alone", cpus=1))


@pytest.fixture(scope="module")
def shared(lab: Path) -> Mapping[str, Json]:
    return training_job.train(training(lab, "shared", processes=2))


def test_two_processes_train_same_weights_as_one(
    lab: Path, alone: Mapping[str, Json], shared: Mapping[str, Json]
) -> None:
    for name in ("images", "bad_images", "samples_read", "epochs", "best_epoch"):
        assert shared[name] == alone[name], name
    assert alone["bad_images"] == 1
    assert alone["samples_read"] == 2 * (2 * TRAIN - 2)
    for one, two in zip(history(lab, "alone"), history(lab, "shared"), strict=True):
        assert one["accuracy"] == two["accuracy"]
        assert one["val_accuracy"] == two["val_accuracy"]
        for name in ("loss", "val_loss"):
            assert float(two[name]) == pytest.approx(float(one[name]), rel=1e-3), name
    # Adam makes steps of the noise in gradients that are 0: two threads differ as much from one
    start = build_detector("slim18", weights="none", seed=42).network.state_dict()
    whole = moved(weights(lab, "alone"), start)
    assert moved(weights(lab, "alone"), weights(lab, "shared")) < 0.1 * whole


def test_bad_images_of_all_processes_are_listed(lab: Path, shared: Mapping[str, Json]) -> None:
    del shared
    rows = paths.bad_images(folder(lab, "shared"), "train").read_text().splitlines()
    assert len(rows) == 2
    assert f"{BAD:05}.png" in rows[1]


def test_provenance_records_processes_and_gradient_backend(
    lab: Path, alone: Mapping[str, Json], shared: Mapping[str, Json]
) -> None:
    del alone, shared
    for run, facts in (("alone", (1, None, 1)), ("shared", (2, "gloo", 1))):
        provenance = json.loads(paths.provenance(folder(lab, run)).read_text())
        assert (provenance["world_size"], provenance["backend"], provenance["threads"]) == facts


class KillOne(logging.Handler):
    """Kills one of the ranks when the log says that the first epoch is over."""

    def emit(self, record: logging.LogRecord) -> None:
        if "epoch=1 " in record.getMessage():
            ranks = [child for child in psutil.Process().children(recursive=True) if is_rank(child)]
            ranks[-1].kill()


def is_rank(process: psutil.Process) -> bool:
    """Return whether this is a running process of the training (not ended and not a zombie)."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return (
            "multiprocessing.forkserver" in " ".join(process.cmdline()) and not process.children()
        )
    return False


def test_training_with_killed_process_resumes_bit_identically(
    lab: Path, shared: Mapping[str, Json], caplog: pytest.LogCaptureFixture
) -> None:
    killer = KillOne()
    logger = logging.getLogger(logs.ROOT)
    logger.addHandler(killer)
    try:
        with (
            caplog.at_level(logging.INFO, logs.ROOT),
            pytest.raises(JobError, match=r"rank . of 2 \(cpu\): its process is killed"),
        ):
            training_job.train(training(lab, "killed", processes=2))
    finally:
        logger.removeHandler(killer)
    assert paths.resume(folder(lab, "killed")).exists()
    with caplog.at_level(logging.INFO, logs.ROOT):
        result = training_job.train(training(lab, "killed", processes=2))
    assert "resumes after epoch 1, with the same result, bit by bit" in caplog.text
    assert result["loss"] == shared["loss"]
    assert moved(weights(lab, "killed"), weights(lab, "shared")) == 0
    assert not paths.resume(folder(lab, "killed")).exists()


def test_stop_ends_both_processes_and_one_process_can_resume(
    lab: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stop = threading.Event()
    interruptible = partial(replace, stop=stop, progress=lambda **_: stop.set())
    with pytest.raises(JobError, match=r"stopped in epoch \d+ of 50"):
        training_job.train(interruptible(training(lab, "stopped", num_epochs=50, processes=2)))
    assert paths.resume(folder(lab, "stopped")).exists()
    assert paths.last_checkpoint(folder(lab, "stopped")).exists()
    with (
        caplog.at_level(logging.INFO, logs.ROOT),
        pytest.raises(JobError, match="stopped in epoch"),
    ):
        training_job.train(interruptible(training(lab, "stopped", num_epochs=50)))
    assert (
        "with a result that is not the same bit by bit: threads 2 instead of 1; world_size 1 instead of 2"
        in caplog.text
    )


def test_killed_fork_server_fails_the_training_and_next_one_starts_a_new_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # as this is the last test, the new server imports only what it needs
    monkeypatch.setattr(coordinator, "PRELOADED", "trueface.jobs.ranks.rank")

    def kill(*, step: int, **_: object) -> None:
        psutil.Process(step).parent().kill()  # type: ignore[union-attr]  # it has one

    with pytest.raises(JobError, match="the process that started the ranks of this training"):
        run("hang", replace(a_job(), progress=kill))
    assert len(run("talk")["ranks"]) == 2
