"""Two processes run one job: their messages, equal results, and their end."""

import contextlib
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from launcher.api import Job, JobError, Share
from tests.build import DEADLINE_S
from tests.trueface.jobs.ranks.test_world import a_job
from trueface.jobs.ranks import coordinator
from trueface.runtime import logs

ROOT = Path(__file__).parents[4]
SCENES = "tests.trueface.jobs.ranks.scenes"


def run(scene: str, job: Job | None = None) -> Any:
    return coordinator.run(job or a_job(), f"{SCENES}:{scene}", 2)


def test_ranks_receive_the_job_and_rank_zero_reports_progress_and_log(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCENE", "told")
    reports: list[dict[str, Any]] = []
    job = replace(a_job(), progress=lambda **facts: reports.append(facts))
    with caplog.at_level(logging.INFO, logs.ROOT):
        result = run("talk", job)
    same = "cpu", "train/m", "r", "told", multiprocessing.get_start_method()
    assert result["ranks"] == [[rank, 4, *same] for rank in range(2)]
    assert reports == [{"step": 3, "total": 7, "loss": 0.5}]
    assert [r.getMessage() for r in caplog.records if r.name == "trueface.scenes"] == ["rank 0"]


def test_step_of_two_ranks_equals_step_of_one_process() -> None:
    for rank in run("gradients")["ranks"]:
        for name, facts in rank.items():
            assert facts["gradients"] < 1e-4, name
            assert facts["statistics"] < 1e-4, name
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
from dataclasses import replace
from tests.trueface.jobs.ranks.test_world import a_job
from trueface.jobs.ranks import coordinator
job = replace(a_job(), progress=lambda **facts: print("step", flush=True))
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


def test_killed_fork_server_fails_the_training_and_next_one_starts_a_new_server() -> None:
    def kill(*, step: int, **_: object) -> None:
        psutil.Process(step).parent().kill()  # type: ignore[union-attr]  # it has one

    with pytest.raises(JobError, match="the process that started the ranks of this training"):
        run("hang", replace(a_job(), progress=kill))
    assert len(run("talk")["ranks"]) == 2


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
    assert reports == [{"reserved": 7, "peak": 9, "cards": {"GPU-a": 5, "GPU-b": 7}, "last": True}]
