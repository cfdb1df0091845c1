"""Proofs in short, and that they can fail: queues that are killed, power cuts, jobs on clusters."""

import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from launcher.queue.home.paths import Home
from launcher.queue.jobs.states import State
from tests.build import until
from tests.chaos.audit import Findings, audit, jobs_of
from tests.chaos.commands import delays_file, surroundings
from tests.chaos.killer import Kill
from tests.chaos.outside import Fact, Tried
from tests.chaos.program import Ran
from tests.chaos.proof import NO_DELAY, Report, prove
from tests.chaos.recipe import Recipe, foretold
from tests.clusters.judge import Verdict, judge
from tests.launcher.pilots.late_files import LateFiles
from tests.powercut.disk import Disk
from tests.powercut.proof import prove as prove_cuts
from tests.powercut.proof import record
from tests.powercut.recording import Operation

JOBS = 40


SEED = 7


@pytest.mark.night
def test_repeatedly_killed_queue_loses_no_job_and_runs_none_twice(
    tmp_path: Path,
) -> None:
    report = prove(tmp_path, jobs=JOBS, seconds=0, seed=SEED, guard=True)

    assert report.faults == ()
    assert report.jobs >= JOBS
    assert report.kills >= 5


@pytest.mark.parametrize(("delays", "faults"), [(0, (NO_DELAY,)), (1, ())])
def test_audit_without_delays_fails(delays: int, faults: tuple[str, ...]) -> None:
    report = Report(
        jobs=1,
        kills=1,
        delays=delays,
        seconds=1.0,
        findings=Findings(lost=(), doubled=(), overlaps=(), unexplained=()),
        complaints=(),
        strikes={},
        endings={},
    )

    assert report.faults == faults
    assert f"{delays} delays" in report.line


@pytest.mark.parametrize(
    ("process", "file", "delays"),
    [
        ("launcher.queue.workers.fork_server", "started", 1),
        ("launcher.queue.workers.fork_server", "another", 0),
        ("launcher.scheduler", "started", 0),
    ],
)
def test_supervisor_start_claim_is_delayed_and_counted(
    tmp_path: Path, process: str, file: str, delays: int
) -> None:
    (tmp_path / "spec.json").touch()
    home = Home(tmp_path / "home")
    environment = surroundings(home, guard=True, delay_s=0.001) | {"CHAOS_DELAYED": "1"}
    link = "import os; os.link('spec.json', os.environ['NAME'])"

    subprocess.run(
        [sys.executable, "-c", link, process],
        cwd=tmp_path,
        env={**environment, "NAME": file},
        check=True,
    )

    assert (tmp_path / file).exists()
    assert delays_file(home).exists() == bool(delays)


def make_fact(*endings: str, state: str = "done", dones: int | None = None) -> Fact:
    attempts = tuple(
        Tried(number=number, ending=ending, at=100.0 * number + 9 if ending else None)
        for number, ending in enumerate(endings, start=1)
    )
    done = endings.count("done") if dones is None else dones
    return Fact(name="j", state=state, reason="", dones=done, attempts=attempts)


def make_run(number: int, start: float, end: float | None = None, *, done: bool = True) -> Ran:
    return Ran(
        job="j", number=number, pid=10 + number, start=start, end=end, done=done and end is not None
    )


def run_audit(fact: Fact | None, *runs: Ran, kills: tuple[Kill, ...] = ()) -> Findings:
    return audit({} if fact is None else {"j": fact}, runs, kills, promised={"j"})


def test_job_lost_once_and_then_done_is_valid() -> None:
    kill = Kill(pid=11, at=104.0, strike="program")

    found = run_audit(
        make_fact("lost", "done"), make_run(1, 101.0), make_run(2, 105.0, 106.0), kills=(kill,)
    )

    assert found.lines == ()


@pytest.mark.parametrize(
    ("fact", "runs", "where"),
    [
        (None, [], "lost"),
        (make_fact(state="queued"), [], "lost"),
        (make_fact("done"), [], "lost"),
        (make_fact("done"), [make_run(1, 101.0, 102.0, done=False)], "lost"),
        (
            make_fact("done", "done"),
            [make_run(1, 101.0, 102.0), make_run(2, 201.0, 202.0)],
            "doubled",
        ),
        (make_fact("done", dones=2), [make_run(1, 101.0, 102.0)], "doubled"),
        (
            make_fact("failed", "done"),
            [make_run(1, 101.0, 203.0), make_run(2, 202.0, 204.0)],
            "overlaps",
        ),
        (make_fact("lost", "done"), [make_run(1, 101.0), make_run(2, 108.0, 204.0)], "overlaps"),
        (
            make_fact("void", "done"),
            [make_run(1, 101.0, 102.0), make_run(2, 202.0, 204.0)],
            "unexplained",
        ),
        (make_fact("void", "done"), [make_run(2, 202.0, 204.0)], "unexplained"),
        (make_fact("done"), [make_run(1, 101.0, 102.0), make_run(1, 103.0, 104.0)], "unexplained"),
        (make_fact("done"), [make_run(0, 101.0, 102.0), make_run(0, 103.0, 104.0)], "unexplained"),
    ],
)
def test_audit_detects_each_fault(fact: Fact | None, runs: list[Ran], where: str) -> None:
    found = run_audit(fact, *runs)

    assert found.lines
    assert getattr(found, where) == found.lines
    assert jobs_of(found.lines) == ["j"]


def test_lost_job_with_rerun_never_must_not_run_again() -> None:
    facts = {"j": make_fact("lost", "done")}
    runs = [make_run(1, 101.0), make_run(2, 205.0, 206.0)]

    assert audit(facts, runs, (), promised={"j"}).lines == ()
    assert len(audit(facts, runs, (), promised={"j"}, once={"j"}).unexplained) == 1


def test_killed_program_counts_as_running_until_the_kill() -> None:
    first, second = make_run(1, 101.0), make_run(2, 105.0, 106.0)

    early = run_audit(
        make_fact("lost", "done"), first, second, kills=(Kill(pid=11, at=104.9, strike="some"),)
    )
    late = run_audit(
        make_fact("lost", "done"), first, second, kills=(Kill(pid=11, at=105.1, strike="some"),)
    )

    assert early.overlaps == ()
    assert len(late.overlaps) == 1


def test_recipe_predicts_states_after_failures_dependencies_and_holds() -> None:
    recipes = [
        Recipe(name="fails", exit_code=3, retries=2),
        Recipe(name="recovers", failures=1, retries=1),
        Recipe(name="below", needs=("recovers", "fails"), held=True),
        Recipe(name="held", held=True),
        Recipe(name="behind", needs=("held",)),
        Recipe(name="freed", held=True),
    ]

    assert foretold(recipes, frozenset({"freed"})) == {
        "fails": State.FAILED,
        "recovers": State.DONE,
        "below": State.SKIPPED,
        "held": State.HELD,
        "behind": State.QUEUED,
        "freed": State.DONE,
    }


# --- The proof of tests/powercut in small, and that it can fail; the whole one: make powercut


CUT_JOBS, CUTS = 12, 60  # with fewer jobs none takes the place of another


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("recorded")


@pytest.fixture(scope="module")
def operations(place: Path) -> Sequence[Operation]:
    if shutil.which("cc") is None:
        pytest.skip("recording needs a C compiler")
    return record(place, CUT_JOBS)


def test_power_cut_keeps_jobs_reported_as_queued_or_done(
    operations: Sequence[Operation], place: Path
) -> None:
    report = prove_cuts(place, operations, cuts=CUTS, restarts=1, seed=SEED)
    assert report.findings == ()


def test_power_cut_without_syncs_loses_jobs(operations: Sequence[Operation], place: Path) -> None:
    report = prove_cuts(place, operations, cuts=40, restarts=0, seed=SEED, syncs=False)
    assert report.findings


def changes(*lines: tuple[object, ...]) -> Disk:
    """Return a disk after changes: what, path, other, inode, offset, data."""
    disk = Disk("/disk")
    for what, path, other, inode, offset, data in lines:
        disk.apply(
            Operation(
                str(what),
                str(path),
                str(other),
                int(str(inode)),
                int(str(offset)),
                bytes(str(data), "ascii"),
            )
        )
    return disk


def test_simulated_disk_keeps_only_synced_data() -> None:
    disk = changes(
        ("m", "/disk/home", "", 1, 0, ""),
        ("c", "/disk/home/a", "", 2, 0, ""),
        ("w", "", "", 2, 0, "old"),
        ("s", "", "", 2, 0, ""),
        ("l", "/disk/home/a", "/disk/home/b", 0, 0, ""),
        ("s", "", "", 1, 0, ""),
        ("w", "", "", 2, 0, "new!"),
        ("r", "/disk/home/b", "/disk/home/c", 0, 0, ""),
    )
    assert disk.after_a_cut(lambda: False) == {"home": {"a": b"old", "b": b"old"}}
    assert disk.after_a_cut(lambda: True) == {"home": {"a": b"new!", "c": b"new!"}}


# --- What the proofs on clusters see: each thing that must not be is found where it is


OUTPUT = "runs/proof/a/attempt.txt"


def a_job_of(*endings: str, state: str = "done", dones: int = 1) -> Fact:
    attempts = tuple(
        Tried(number=number, ending=ending, at=None) for number, ending in enumerate(endings, 1)
    )
    return Fact(name="a", state=state, reason="", dones=dones, attempts=attempts)


def body(number: int, start: float, end: float | None = None) -> Ran:
    return Ran(job="a", number=number, pid=number, start=start, end=end, done=end is not None)


def judge_node_run(fact: Fact | None, *bodies: Ran, files: Mapping[str, str]) -> Verdict:
    return judge(["a"], {} if fact is None else {"a": fact}, bodies, files, {"a": OUTPUT})


def test_job_lost_with_its_node_and_then_done_is_valid() -> None:
    verdict = judge_node_run(
        a_job_of("lost", "done"), body(1, 1), body(2, 5, 6), files={OUTPUT: "2"}
    )
    assert verdict.complaints == ()
    assert (verdict.jobs, verdict.done, verdict.attempts, verdict.ended_twice) == (1, 1, 2, 0)


def test_waiting_or_unfinished_job_counts_as_lost() -> None:
    assert judge_node_run(a_job_of("lost", state="queued"), body(1, 1), files={}).lost
    assert judge_node_run(a_job_of("done"), body(1, 1), files={OUTPUT: "1"}).lost
    assert judge_node_run(None, files={}).lost


def test_two_accepted_attempts_are_detected() -> None:
    bodies = (body(1, 1, 7), body(2, 5, 6))
    fact = a_job_of("done", "done", dones=2)
    verdict = judge_node_run(fact, *bodies, files={OUTPUT: "2"})
    assert verdict.accepted_twice
    assert (verdict.ended_twice, verdict.overlaps) == (1, 1)


def test_output_of_an_unaccepted_attempt_is_detected() -> None:
    fact, bodies = a_job_of("lost", "done"), (body(1, 1, 9), body(2, 5, 6))
    assert judge_node_run(fact, *bodies, files={OUTPUT: "1"}).foreign_files
    assert judge_node_run(
        fact, *bodies, files={OUTPUT: "2", "runs/proof/a/more": "1"}
    ).foreign_files
    assert judge_node_run(fact, *bodies, files={}).foreign_files
    assert not judge_node_run(fact, *bodies, files={OUTPUT: "2"}).foreign_files


def test_delayed_links_appear_as_links(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    with LateFiles(here, there, 0.0):
        (there / "runs").symlink_to("/somewhere/else")
        until((here / "runs").is_symlink, "the link is seen")
    assert (here / "runs").readlink() == Path("/somewhere/else")
