"""The daemons of NVIDIA's MPS, against a program that stands in for nvidia-cuda-mps-control."""

import contextlib
import os
import signal
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from launcher.gpu.mps import AGAIN_S, KEPT_S, LOG, PIPE, QUIT_S, START_S, Mps, Service
from launcher.gpu.mps_support import PROGRAM, hindrances, too_deep, unsupported
from launcher.gpu.snapshot import GpuProcess, GpuSnapshot
from launcher.system.processes import identity
from tests.build import Clock, a_gpu, until

STANDIN = Path(__file__).parents[2] / "mps" / PROGRAM
ME = "ada"


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short path, whatever pytest's own are like: sockets allow few characters."""
    with tempfile.TemporaryDirectory(prefix="mps-") as path:
        yield Path(path)


@pytest.fixture
def behaviour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "behaviour"
    folder.mkdir()
    monkeypatch.setenv("STANDIN_MPS", str(folder))
    return folder


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def mps(folder: Path, clock: Clock, behaviour: Path) -> Iterator[Mps]:
    assert behaviour.exists()
    services = Mps(folder / "mps", find=lambda: str(STANDIN), clock=clock)
    yield services
    end(services)


def end(services: Mps) -> None:
    for pid in services.pids:
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def settled(mps: Mps, gpu: GpuSnapshot) -> Service:
    """Ask until it is known whether a card is served."""
    answers = [Service(starting=True)]

    def known() -> bool:
        answers.append(mps.serve(gpu))
        return not answers[-1].starting

    until(known, "the daemon has made its pipe")
    return answers[-1]


def gone(mps: Mps, pid: int, *, kept: tuple[str, ...] = ()) -> None:
    def quits() -> bool:
        mps.keep(kept)
        return pid not in mps.pids and identity(pid) is None

    until(quits, "the daemon has quit")


def test_a_daemon_serves_one_card_in_folders_that_only_its_owner_reads(mps: Mps) -> None:
    gpu = a_gpu()
    assert mps.serve(gpu).starting
    folders = settled(mps, gpu).folders
    assert folders is not None
    assert mps.folders(gpu.uuid) == folders
    pipe, log = map(Path, folders)
    assert (log / "control.log").read_text() == f"{gpu.uuid}\n"
    for folder in (pipe, log, pipe.parent, pipe.parent.parent):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert settled(mps, gpu).folders == folders
    assert len(mps.pids) == 1


def test_each_card_has_a_daemon_of_its_own(mps: Mps) -> None:
    first, second = settled(mps, a_gpu(0)), settled(mps, a_gpu(1))
    assert first.folders != second.folders
    assert len(mps.pids) == 2


def test_a_daemon_quits_some_time_after_the_last_job_has_left_its_card(
    mps: Mps, clock: Clock
) -> None:
    gpu = a_gpu()
    settled(mps, gpu)
    (pid,) = mps.pids
    mps.keep({gpu.uuid})
    settling = [mps.settling]
    mps.keep(())
    settling.append(mps.settling)
    assert settling == [False, True]
    assert mps.folders(gpu.uuid) is not None  # the next job may come at once
    clock.now += KEPT_S
    mps.keep({gpu.uuid})
    assert mps.folders(gpu.uuid) is not None
    mps.keep(())
    assert mps.folders(gpu.uuid) is None
    gone(mps, pid)
    assert not mps.settling
    assert settled(mps, gpu).folders is not None  # and another one is started


def test_a_daemon_that_does_not_quit_is_killed(mps: Mps, clock: Clock, behaviour: Path) -> None:
    (behaviour / "stubborn").touch()
    settled(mps, a_gpu())
    (pid,) = mps.pids
    clock.now += KEPT_S
    mps.keep(())
    clock.now += QUIT_S + 1
    gone(mps, pid)


def test_a_scheduler_that_leaves_lets_daemons_quit_whose_cards_are_empty(mps: Mps) -> None:
    empty, busy = a_gpu(0), a_gpu(1)
    settled(mps, empty)
    settled(mps, busy)
    mps.leave({busy.uuid})
    assert len(mps.pids) == 1
    assert mps.folders(busy.uuid) is not None


def test_the_next_scheduler_finds_what_one_left_that_was_killed(
    mps: Mps, folder: Path, clock: Clock
) -> None:
    gpu = a_gpu()
    folders = settled(mps, gpu).folders
    (pid,) = mps.pids
    successor = Mps(folder / "mps", find=lambda: str(STANDIN), clock=clock)
    successor.adopt()
    assert successor.pids == [pid]
    assert successor.folders(gpu.uuid) == folders
    gone(successor, pid)  # it serves nobody


def test_what_is_left_in_the_folder_of_a_dead_daemon_is_no_daemon(
    mps: Mps, folder: Path, clock: Clock
) -> None:
    gpu = a_gpu()
    folders = settled(mps, gpu).folders
    assert folders is not None
    (pid,) = mps.pids
    os.kill(pid, signal.SIGKILL)
    until(lambda: mps.folders(gpu.uuid) is None, "it is seen to be dead")
    (folder / "mps" / "other").mkdir()
    (folder / "mps" / "other" / "card.json").write_text("[")
    successor = Mps(folder / "mps", find=lambda: str(STANDIN), clock=clock)
    successor.adopt()
    assert successor.pids == []
    assert settled(successor, gpu).folders == folders  # though its pipe lies there
    end(successor)


def test_the_next_scheduler_begins_without_the_troubles_of_the_one_before(
    mps: Mps, folder: Path, clock: Clock, behaviour: Path
) -> None:
    gpu = a_gpu()
    (behaviour / "fails").write_text("no permission\n")
    assert settled(mps, gpu).trouble
    (behaviour / "fails").unlink()
    assert hindrances([gpu], folder / "mps", ME, lambda: str(STANDIN))
    (folder / "mps" / "unreadable" / "card.json").mkdir(parents=True)
    successor = Mps(folder / "mps", find=lambda: str(STANDIN), clock=clock)
    successor.adopt()
    assert successor.pids == []
    assert hindrances([gpu], folder / "mps", ME, lambda: str(STANDIN)) == ()


def test_where_a_daemon_has_quit_just_now_the_next_job_gets_another_one(
    mps: Mps, clock: Clock
) -> None:
    gpu = a_gpu()
    settled(mps, gpu)
    (pid,) = mps.pids
    clock.now += KEPT_S
    mps.keep(())
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, 0)
    assert mps.serve(gpu).starting
    assert settled(mps, gpu).folders is not None


def test_a_daemon_that_dies_serves_nobody_and_is_tried_again_later(mps: Mps, clock: Clock) -> None:
    gpu = a_gpu()
    settled(mps, gpu)
    os.kill(mps.pids[0], signal.SIGKILL)
    until(lambda: mps.serve(gpu).trouble, "it is seen to be dead")
    assert mps.serve(gpu).trouble == "the MPS daemon of cuda:0 has ended"
    assert mps.troubles() == {gpu.uuid: "the MPS daemon of cuda:0 has ended"}
    assert mps.folders(gpu.uuid) is None
    clock.now += AGAIN_S
    assert settled(mps, gpu).folders is not None
    assert mps.troubles() == {}


def test_a_daemon_that_cannot_start_is_refused_with_its_own_words(
    mps: Mps, behaviour: Path
) -> None:
    (behaviour / "fails").write_text("Failed to start: no permission\n")
    trouble = settled(mps, a_gpu()).trouble
    assert trouble == "the MPS daemon of cuda:0 has ended: Failed to start: no permission"


def test_a_daemon_that_makes_no_pipe_is_not_waited_for(
    mps: Mps, clock: Clock, behaviour: Path
) -> None:
    (behaviour / "silent").touch()
    gpu = a_gpu()
    assert mps.serve(gpu).starting
    (pid,) = mps.pids
    clock.now += START_S + 1
    assert mps.serve(gpu).trouble == "the MPS daemon of cuda:0 does not come up"
    gone(mps, pid)


def test_without_the_program_nothing_is_started(folder: Path) -> None:
    mps = Mps(folder / "mps", find=lambda: None)
    trouble = mps.serve(a_gpu()).trouble
    assert trouble == f"{PROGRAM} is not on PATH; it comes with NVIDIA's driver"
    assert not (folder / "mps").exists()


def test_a_program_that_cannot_be_run_is_refused(folder: Path) -> None:
    mps = Mps(folder / "mps", find=lambda: str(folder / "nothing"))
    assert "cannot be started" in mps.serve(a_gpu()).trouble


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({}, ""),
        ({"compute_mode": 0}, ""),
        ({"compute_mode": 3}, "is in compute mode exclusive process; an administrator"),
        ({"compute_mode": 2}, "is in compute mode prohibited"),
        ({"mig": 1}, "is an instance of a divided card"),
        ({"uuid": "#0"}, "has no UUID"),
        ({"fault": "has fallen off the bus"}, "has fallen off the bus"),
        (
            {"processes": (GpuProcess(pid=1, user="bob", command="nvidia-cuda-mps"),)},
            "is served by an MPS daemon of bob already",
        ),
        ({"processes": (GpuProcess(pid=1, user=ME, command="nvidia-cuda-mps"),)}, ""),
        ({"processes": (GpuProcess(pid=1, user="bob", command="python"),)}, ""),
    ],
)
def test_a_card_that_mps_cannot_serve_is_refused_with_the_reason(
    changes: dict[str, Any], why: str
) -> None:
    reason = unsupported(a_gpu(**changes), ME)
    assert reason.startswith(why)
    assert bool(reason) == bool(why)


def test_a_home_too_deep_for_sockets_is_refused(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 100)
    deep.mkdir()
    mps = Mps(deep / "mps", find=lambda: str(STANDIN))
    assert "the home's path is too long for the sockets of MPS by" in mps.serve(a_gpu()).trouble
    assert too_deep(Path("/short")) == ""


def test_the_names_that_programs_read_are_those_of_cuda() -> None:
    assert (PIPE, LOG) == ("CUDA_MPS_PIPE_DIRECTORY", "CUDA_MPS_LOG_DIRECTORY")
