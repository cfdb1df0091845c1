"""What an attempt on a node has made is moved into its run, or its job is not done."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from launcher.gpu.reservations import ReservationBoard
from launcher.gpu.snapshot import GpuSnapshot
from launcher.job import Spec
from launcher.scheduler import endings
from launcher.scheduler.endings import Endings
from launcher.scheduler.gpus.gpu_state import Accelerators
from launcher.scheduler.policy.model import Machine
from launcher.staging.acceptance import hand_over
from launcher.staging.view import STAGES, Wanted, make, take_left
from launcher.states import Done, Failed, Outcome
from launcher.store.queue import Store
from launcher.store.rows import PILOT
from launcher.system.paths import Home
from tests.build import a_claim, a_spec, enqueue

MODEL = "a:pre"
Take = Callable[[Outcome], Outcome | None]


# a worker says itself that it has made something; a program that names its folder has always made that
of_both = pytest.mark.parametrize("spec", ["job", "program"], indirect=True)


@pytest.fixture
def spec(tmp_path: Path, request: pytest.FixtureRequest) -> Spec:
    (tmp_path / "project").mkdir()
    root = str(tmp_path / "project")
    if getattr(request, "param", "job") == "program":
        return a_spec("train", "{job_folder}", root=root)
    return a_spec(argv=(), entry="m:f", root=root, model=MODEL)


@pytest.fixture
def done(spec: Spec) -> Done:
    return Done(at=1.0, made=True if spec.entry else None)


@pytest.fixture
def take(home: Home, store: Store, tmp_path: Path, spec: Spec) -> Take:
    """Take in the end of attempt 1-1; returns how it counts, None where that is put off."""
    gpus = Accelerators(
        home,
        tuple[GpuSnapshot, ...],
        lambda: None,
        board=ReservationBoard(tmp_path / "board", home.folder),
    )
    endings = Endings(home, store.scheduling, gpus)
    (job,) = enqueue(store, spec)
    claim = a_claim(spec, job=job, boot=f"{PILOT}lp-1")

    def once(outcome: Outcome) -> Outcome | None:
        if not len(endings):
            endings.add(claim, outcome)
        for ended in endings._open:
            ended.again_at = 0.0
        due = endings.due(lambda _: Machine(cpus=1))
        return due[0].outcome if due else None

    return once


def make_something(home: Home, spec: Spec) -> None:
    """Do what a worker on a node does that has made a file."""
    attempt = home.attempt(1, 1)
    attempt.folder.mkdir(parents=True)
    view = make(attempt, spec.run_folder, Wanted(models=frozenset({MODEL})), job=1, number=1)
    (view.own / MODEL).mkdir()
    (view.own / MODEL / "best.pt").write_text("new")
    assert hand_over(attempt, spec.run_folder)


def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endings, "LONG_PATIENCE_S", 0.0)
    monkeypatch.setattr(endings, "MOVE_PATIENCE_S", 0.0)


@of_both
def test_what_a_node_has_made_is_waited_for_until_it_is_seen(
    home: Home, spec: Spec, take: Take, done: Done
) -> None:
    make_something(home, spec)
    link = home.attempt(1, 1).folder / "runs"
    target = link.readlink()
    link.unlink()  # as a network file system does that has not seen it yet
    assert take(done) is None
    link.symlink_to(target)
    assert take(done) == done
    assert (spec.run_folder / MODEL / "best.pt").read_text() == "new"


@of_both
def test_a_job_whose_results_are_never_seen_is_not_done(
    home: Home, spec: Spec, take: Take, done: Done, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient(monkeypatch)
    make_something(home, spec)
    (home.attempt(1, 1).folder / "runs").unlink()
    outcome = take(done)
    assert isinstance(outcome, Failed)
    assert f"{home.attempt(1, 1).folder}/runs is not seen" in outcome.error
    assert "launcher retry" in outcome.error


def test_a_job_that_has_made_nothing_is_done_at_once(take: Take) -> None:
    assert take(Done(at=1.0, made=False)) == Done(at=1.0, made=False)


@of_both
def test_what_cannot_be_moved_is_left_to_the_next_attempt(
    home: Home, spec: Spec, take: Take, done: Done, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient(monkeypatch)
    make_something(home, spec)
    rename = os.rename

    def full(path: str, place: str) -> None:
        if "/.attempts/" not in place and place.endswith(MODEL):
            raise OSError(errno.ENOSPC, "No space left on device")
        rename(path, place)

    with monkeypatch.context() as patched:
        patched.setattr(os, "rename", full)
        outcome = take(done)
    assert isinstance(outcome, Failed)
    assert "No space left on device; what it made is kept" in outcome.error
    assert not (spec.run_folder / MODEL).exists()
    left = take_left(home, 1, 2, spec.run_folder)
    assert (spec.run_folder / STAGES / f"{left}.left" / "test" / MODEL / "best.pt").exists()
