"""The number of processes of a job, and one rank: its place, its failure reports, and its copy of the job."""

import logging
import pickle
import signal
from dataclasses import fields, replace
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any

import pytest
import torch

from launcher.api import Job, JobError, MachineError, VramLimit, Words
from launcher.queue.workers.exit_outcome import _CHILD_KILLED
from launcher.queue.workers.shortage import find_oom_in_exception
from tests.trueface.jobs.test_kinds import CLEAN, a_draft
from trueface.cli.classic.train import ClassicJob
from trueface.jobs import rules as training_rules
from trueface.jobs import setup
from trueface.jobs.kinds import TRAIN
from trueface.jobs.ranks import coordinator, rank
from trueface.jobs.ranks.coordinator import FIELDS_PER_RANK, cause_of, job_of
from trueface.jobs.ranks.rank import Channel, Failure, Forwarding, RankWork, job_of_rank, obey
from trueface.runtime.errors import BadImageError, DataError
from trueface.training.objectives import registry
from trueface.training.objectives.registry import ObjectiveSpec


def a_job(device: str = "cpu", **facts: Any) -> Job:
    return Job(
        name="train/m", kind="train", run="r", run_folder=Path("r"), folder=Path(),
        attempt_folder=Path("a"), attempt=1, device=device, **{"cpus": 8, **facts},
    )  # fmt: skip


def refusals(gpus: int = 1, **settings: Any) -> list[str]:
    return list(TRAIN.refusals(a_draft(TRAIN, settings, model=CLEAN, gpus=gpus), ()))


def test_training_uses_one_process_per_gpu_by_default() -> None:
    assert setup.process_count(a_job("cuda:0", gpus=2), 0) == 2
    assert setup.process_count(a_job("cuda:0"), 0) == 1
    assert setup.process_count(a_job(gpus=4), 0) == 1, "GPUs mean nothing on the CPU"
    assert setup.process_count(a_job(), 2) == 2


def test_each_rank_has_own_gpu_and_share_of_cores() -> None:
    places = coordinator.rank_places(a_job("cuda:0", gpus=3), 3, "meeting")
    assert [place.device for place in places] == ["cuda:0", "cuda:1", "cuda:2"]
    assert [place.cpus for place in places] == [2, 2, 2]
    assert places[0].backend == "nccl"
    assert [place.cpus for place in coordinator.rank_places(a_job(cpus=1), 2, "m")] == [1, 1]
    assert coordinator.rank_places(a_job(), 2, "m")[1].device == "cpu"
    assert coordinator.rank_places(a_job(), 2, "m")[1].backend == "gloo"


def test_training_runs_on_several_gpus_or_processes() -> None:
    assert refusals(gpus=2) == refusals(gpus=2, processes=2) == refusals(processes=3) == []


@pytest.mark.parametrize(
    ("gpus", "settings", "reason"),
    [
        (2, {"processes": 4}, "processes: 4 with gpus: 2. A training has one process per GPU"),
        (2, {"processes": 1}, "processes: 1 with gpus: 2"),
        (2, {"freeze": True}, "it trains only the last layer"),
        (1, {"processes": 2, "freeze": True}, "would not be faster. Leave out processes."),
        (2, {"compile": True}, "compile: true works only in one process"),
        (
            2,
            {"model": "capsule"},
            "model capsule draws random numbers for the images of each process",
        ),
        (1, {"processes": 2, "model": "recce"}, "as one does. Leave out processes."),
        (4, {"batch_size": 3}, "batch_size: 3 is too small for 4 processes"),
    ],
)
def test_settings_unsupported_by_several_processes_are_rejected_at_planning(
    gpus: int, settings: dict[str, Any], reason: str
) -> None:
    (refusal,) = refusals(gpus, **settings)
    assert refusal.startswith(CLEAN)
    assert reason in refusal


def test_gpu_processes_need_one_gpu_each() -> None:
    draft = a_draft(TRAIN, {"processes": 2}, model=CLEAN, device="cuda")
    assert "processes: 2 with gpus: 1" in next(iter(TRAIN.refusals(draft, ())))
    assert TRAIN.refusals(replace(draft, device="auto"), ()) == ()


def test_objective_that_is_not_a_mean_over_images_is_rejected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    specs = {"bce": ObjectiveSpec(name="bce", summary="", binary=True)}
    monkeypatch.setattr(training_rules, "objectives", lambda: specs)
    assert "bce is not declared as a mean over images" in refusals(gpus=2)[0]
    assert refusals() == []
    assert all(registry.objectives()[name].mean for name in ("bce", "ce"))


def test_each_objective_that_compares_images_of_a_batch_is_rejected() -> None:
    for name, spec in registry.objectives().items():
        said = any("declared as a mean over images" in each for each in refusals(2, objective=name))
        assert said is not spec.mean, name


def test_number_of_processes_is_not_part_of_the_job_hash() -> None:
    settings = {"model": "slim18", "lr": 0.1, "processes": 2}
    assert TRAIN.settings.decisive(settings) == {"model": "slim18", "lr": 0.1}


def test_command_line_of_multi_gpu_training_contains_processes() -> None:
    words = list(TRAIN.argv(a_draft(TRAIN, model=CLEAN, data=CLEAN, gpus=2)))
    assert words[words.index("--processes") + 1] == "2"
    assert "--processes" not in TRAIN.argv(a_draft(TRAIN, model=CLEAN, data=CLEAN))


CUDA = (
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 23.69 GiB of which "
    "1.20 GiB is free. Process 7 has 22.00 GiB memory in use."
)


def error_in_main_process(error: BaseException, name: str = "rank 1 of 2 (cuda:1)") -> Exception:
    failure: Failure = pickle.loads(pickle.dumps(Failure.from_exception(error)))
    return failure.error(name)


def test_out_of_memory_error_keeps_its_type_and_names_the_rank() -> None:
    error = error_in_main_process(torch.OutOfMemoryError(CUDA))
    shortage = find_oom_in_exception(error)
    assert isinstance(error, torch.OutOfMemoryError)
    assert shortage is not None
    assert (shortage.where, shortage.wanted) == ("gpu", 2 << 30)
    assert "rank 1 of 2 (cuda:1)" in shortage.message


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    ],
)
def test_main_memory_exhaustion_is_recognised(error: Exception) -> None:
    shortage = find_oom_in_exception(error_in_main_process(error))
    assert shortage is not None
    assert shortage.where == "ram"


def test_lab_error_keeps_message_and_exit_code() -> None:
    assert (
        str(error_in_main_process(JobError("stopped in epoch 1 of 2"))) == "stopped in epoch 1 of 2"
    )
    assert isinstance(error_in_main_process(MachineError("the disk is full")), MachineError)
    for error in (DataError("no image"), BadImageError(signal.__file__, "cut off")):  # type: ignore[arg-type]  # a path
        assert error_in_main_process(error).exit_code == error.exit_code  # type: ignore[attr-defined]  # an Error


def test_unexpected_error_names_type_and_rank(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(KeyError) as caught:
        dict[str, str]()["lr"]
    assert (
        str(error_in_main_process(caught.value, "rank 0 of 2 (cpu)"))
        == "rank 0 of 2 (cpu): KeyError: 'lr'"
    )
    assert "Traceback" in capsys.readouterr().err


def test_rank_killed_by_kernel_is_reported_in_words_that_launcher_recognises() -> None:
    error = Failure.from_exit_code(-signal.SIGKILL).error("rank 1 of 2 (cpu)")
    assert _CHILD_KILLED in str(error)


def test_first_failure_is_the_cause_and_lost_peer_never_is() -> None:
    lost = Failure.from_exception(
        RuntimeError("[/gloo/pair.cc:1] Connection closed by peer [127.0.0.1]:7")
    )
    killed = Failure.from_exit_code(-signal.SIGKILL)
    later = Failure(killed.at + 2, JobError, "ValueError: no")
    assert "rank 1: its process" in str(
        cause_of([(lost, "rank 0"), (killed, "rank 1"), (later, "r")])
    )
    assert "rank 0: RuntimeError" in str(cause_of([(lost, "rank 0")]))


def rank_job(job: Job, number: int = 0) -> tuple[Job, Connection]:
    """Return a job as one of two ranks gets it, and what its job's own process reads of it."""
    ours, theirs = Pipe()
    work = RankWork(
        entry="", job_of=pickle.loads(pickle.dumps(job_of(job))), channels=(),
        places=coordinator.rank_places(job, 2, "m"), environment={}, start_method="fork",
    )  # fmt: skip
    return job_of_rank(work, work.places[number], Channel(theirs)), ours


def test_ranks_receive_the_job_unchanged() -> None:
    words = Words(subsets={"mine": ("A", "B-*")}, modifiers={})
    plain = replace(a_job(), words=words, outputs=(Path("/a/best.pt"),), settings={"lr": 0.1})
    own = {field.name: getattr(plain, field.name) for field in fields(plain)}
    for job in (plain, ClassicJob(**own, folders={"m": Path("/a/here")})):
        copy, _ = rank_job(job, 1)
        assert type(copy) is type(job)
        for name in {field.name for field in fields(job)} - FIELDS_PER_RANK:
            assert getattr(copy, name) == getattr(job, name), name
        assert (copy.device, copy.cpus) == ("cpu", 4)


def test_rank_obeys_stop_and_memory_limit_messages() -> None:
    job, _ = rank_job(a_job())
    obey(job, rank.LIMIT, VramLimit(cap=7, context=2))
    assert job.share.vram_limit() == VramLimit(cap=7, context=2)
    assert not job.stop.is_set()
    obey(job, rank.STOP, None)
    assert job.stop.is_set()


def test_rank_sends_memory_progress_and_log() -> None:
    job, reader = rank_job(a_job())
    job.progress(step=1, total=2, loss=0.5)
    job.share.report(reserved_bytes=1, peak=2, uuid="GPU-a", last=True)
    assert [reader.recv() for _ in range(2)] == [
        ("progress", {"step": 1, "total": 2, "loss": 0.5}),
        ("memory", {"reserved": 1, "peak": 2, "context": None, "uuid": "GPU-a", "last": True}),
    ]
    ours, theirs = Pipe()
    Forwarding(Channel(theirs)).emit(
        logging.makeLogRecord({"name": "n", "levelno": 20, "msg": "m"})
    )
    assert ours.recv() == ("log", ("n", 20, "m"))
    second, reader = rank_job(a_job(), 1)
    second.progress(step=1)
    assert not reader.poll()
