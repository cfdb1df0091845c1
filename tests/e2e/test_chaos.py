"""All of a queue is killed again and again while it works; the proof in short, and what it sees."""

import subprocess
import sys
from pathlib import Path

import pytest

from launcher.states import State
from launcher.system.paths import Home
from tests.chaos.audit import Findings, audit, jobs_of
from tests.chaos.commands import delays_file, surroundings
from tests.chaos.killer import Kill
from tests.chaos.outside import Fact, Tried
from tests.chaos.program import Ran
from tests.chaos.proof import NO_DELAY, Report, prove
from tests.chaos.recipe import Recipe, foretold

JOBS = 40
SEED = 7


@pytest.mark.night
def test_a_queue_that_is_killed_again_and_again_loses_nothing_and_runs_nothing_twice(
    tmp_path: Path,
) -> None:
    report = prove(tmp_path, jobs=JOBS, seconds=0, seed=SEED, guard=True)

    assert report.faults == ()
    assert report.jobs >= JOBS
    assert report.kills >= 5


@pytest.mark.parametrize(("delays", "faults"), [(0, (NO_DELAY,)), (1, ())])
def test_a_proof_that_delayed_nothing_has_failed(delays: int, faults: tuple[str, ...]) -> None:
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
        ("launcher.workers.fork_server", "started", 1),
        ("launcher.workers.fork_server", "another", 0),
        ("launcher.scheduler", "started", 0),
    ],
)
def test_the_supervisor_that_claims_its_right_to_start_is_delayed_and_counted(
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


def a_fact(*endings: str, state: str = "done", dones: int | None = None) -> Fact:
    attempts = tuple(
        Tried(number=number, ending=ending, at=100.0 * number + 9 if ending else None)
        for number, ending in enumerate(endings, start=1)
    )
    done = endings.count("done") if dones is None else dones
    return Fact(name="j", state=state, reason="", dones=done, attempts=attempts)


def ran(number: int, start: float, end: float | None = None, *, done: bool = True) -> Ran:
    return Ran(
        job="j", number=number, pid=10 + number, start=start, end=end, done=done and end is not None
    )


def judged(fact: Fact | None, *runs: Ran, kills: tuple[Kill, ...] = ()) -> Findings:
    return audit({} if fact is None else {"j": fact}, runs, kills, promised={"j"})


def test_a_job_that_was_lost_once_and_then_done_is_as_it_should_be() -> None:
    kill = Kill(pid=11, at=104.0, strike="program")

    found = judged(a_fact("lost", "done"), ran(1, 101.0), ran(2, 105.0, 106.0), kills=(kill,))

    assert found.lines == ()


@pytest.mark.parametrize(
    ("fact", "runs", "where"),
    [
        (None, [], "lost"),
        (a_fact(state="queued"), [], "lost"),
        (a_fact("done"), [], "lost"),
        (a_fact("done"), [ran(1, 101.0, 102.0, done=False)], "lost"),
        (a_fact("done", "done"), [ran(1, 101.0, 102.0), ran(2, 201.0, 202.0)], "doubled"),
        (a_fact("done", dones=2), [ran(1, 101.0, 102.0)], "doubled"),
        (a_fact("failed", "done"), [ran(1, 101.0, 203.0), ran(2, 202.0, 204.0)], "overlaps"),
        (a_fact("lost", "done"), [ran(1, 101.0), ran(2, 108.0, 204.0)], "overlaps"),
        (a_fact("void", "done"), [ran(1, 101.0, 102.0), ran(2, 202.0, 204.0)], "unexplained"),
        (a_fact("void", "done"), [ran(2, 202.0, 204.0)], "unexplained"),
        (a_fact("done"), [ran(1, 101.0, 102.0), ran(1, 103.0, 104.0)], "unexplained"),
        (a_fact("done"), [ran(0, 101.0, 102.0), ran(0, 103.0, 104.0)], "unexplained"),
    ],
)
def test_the_proof_sees_each_fault(fact: Fact | None, runs: list[Ran], where: str) -> None:
    found = judged(fact, *runs)

    assert found.lines
    assert getattr(found, where) == found.lines
    assert jobs_of(found.lines) == ["j"]


def test_a_job_that_is_never_to_run_again_must_not_when_it_was_lost() -> None:
    facts = {"j": a_fact("lost", "done")}
    runs = [ran(1, 101.0), ran(2, 205.0, 206.0)]

    assert audit(facts, runs, (), promised={"j"}).lines == ()
    assert len(audit(facts, runs, (), promised={"j"}, once={"j"}).unexplained) == 1


def test_a_killed_program_is_taken_to_have_lived_until_it_was_killed() -> None:
    first, second = ran(1, 101.0), ran(2, 105.0, 106.0)

    early = judged(
        a_fact("lost", "done"), first, second, kills=(Kill(pid=11, at=104.9, strike="some"),)
    )
    late = judged(
        a_fact("lost", "done"), first, second, kills=(Kill(pid=11, at=105.1, strike="some"),)
    )

    assert early.overlaps == ()
    assert len(late.overlaps) == 1


def test_a_recipe_foretells_what_comes_of_failures_needs_and_holds() -> None:
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
