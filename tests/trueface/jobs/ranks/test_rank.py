"""One rank in this process: how it tells that it failed, and the job as it gets it."""

import logging
import pickle
import signal
from dataclasses import fields, replace
from multiprocessing.connection import Connection, Pipe
from pathlib import Path

import pytest
import torch

from launcher.api import Job, JobError, MachineError, VramLimit, Words
from launcher.workers.exit_outcome import _CHILD_KILLED, read_error
from tests.trueface.jobs.ranks.test_world import a_job
from trueface.cli.classic_train import ClassicJob
from trueface.jobs.ranks import coordinator, rank
from trueface.jobs.ranks.coordinator import OWN, cause_of, job_of
from trueface.jobs.ranks.rank import Channel, Failure, Forwarding, RankWork, job_of_rank, obey
from trueface.runtime.errors import BadImageError, DataError

CUDA = (
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 23.69 GiB of which "
    "1.20 GiB is free. Process 7 has 22.00 GiB memory in use."
)


def raised(error: BaseException, name: str = "rank 1 of 2 (cuda:1)") -> Exception:
    failure: Failure = pickle.loads(pickle.dumps(Failure.of(error)))
    return failure.error(name)


def test_too_little_memory_stays_what_it_was_and_names_the_rank() -> None:
    error = raised(torch.OutOfMemoryError(CUDA))
    shortage = read_error(error)
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
def test_too_little_main_memory_is_seen_as_such(error: Exception) -> None:
    shortage = read_error(raised(error))
    assert shortage is not None
    assert shortage.where == "ram"


def test_an_error_of_the_laboratory_keeps_its_message_and_exit_code() -> None:
    assert str(raised(JobError("stopped in epoch 1 of 2"))) == "stopped in epoch 1 of 2"
    assert isinstance(raised(MachineError("the disk is full")), MachineError)
    for error in (DataError("no image"), BadImageError(signal.__file__, "cut off")):  # type: ignore[arg-type]  # a path
        assert raised(error).exit_code == error.exit_code  # type: ignore[attr-defined]  # an Error


def test_an_error_that_nobody_expected_says_its_type_and_its_rank(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(KeyError) as caught:
        dict[str, str]()["lr"]
    assert str(raised(caught.value, "rank 0 of 2 (cpu)")) == "rank 0 of 2 (cpu): KeyError: 'lr'"
    assert "Traceback" in capsys.readouterr().err


def test_a_rank_that_the_kernel_killed_is_told_in_the_words_that_the_launcher_looks_for() -> None:
    error = Failure.ended(-signal.SIGKILL).error("rank 1 of 2 (cpu)")
    assert _CHILD_KILLED in str(error)


def test_the_first_failure_is_the_cause_and_the_loss_of_another_rank_never_is() -> None:
    lost = Failure.of(RuntimeError("[/gloo/pair.cc:1] Connection closed by peer [127.0.0.1]:7"))
    killed = Failure.ended(-signal.SIGKILL)
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
        places=coordinator.places(job, 2, "m"), environment={}, start_method="fork",
    )  # fmt: skip
    return job_of_rank(work, work.places[number], Channel(theirs)), ours


def test_a_job_reaches_its_ranks_as_it_is() -> None:
    words = Words(subsets={"mine": ("A", "B-*")}, modifiers={})
    plain = replace(a_job(), words=words, outputs=(Path("/a/best.pt"),), settings={"lr": 0.1})
    own = {field.name: getattr(plain, field.name) for field in fields(plain)}
    for job in (plain, ClassicJob(**own, folders={"m": Path("/a/here")})):
        copy, _ = rank_job(job, 1)
        assert type(copy) is type(job)
        for name in {field.name for field in fields(job)} - OWN:
            assert getattr(copy, name) == getattr(job, name), name
        assert (copy.device, copy.cpus) == ("cpu", 4)


def test_a_rank_stops_and_takes_its_limit_as_it_is_told() -> None:
    job, _ = rank_job(a_job())
    obey(job, rank.LIMIT, VramLimit(cap=7, context=2))
    assert job.share.vram_limit() == VramLimit(cap=7, context=2)
    assert not job.stop.is_set()
    obey(job, rank.STOP, None)
    assert job.stop.is_set()


def test_a_rank_tells_its_memory_progress_and_log() -> None:
    job, reader = rank_job(a_job())
    job.progress(step=1, total=2, loss=0.5)
    job.share.report(reserved=1, peak=2, uuid="GPU-a", last=True)
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
