"""What the proofs on clusters see: each thing that must not be is found where it is."""

from collections.abc import Mapping
from pathlib import Path

from tests.build import until
from tests.chaos.outside import Fact, Tried
from tests.chaos.program import Ran
from tests.clusters.judge import Verdict, judge
from tests.launcher.pilots.late_files import LateFiles

OUTPUT = "runs/proof/a/attempt.txt"


def a_fact(*endings: str, state: str = "done", dones: int = 1) -> Fact:
    attempts = tuple(
        Tried(number=number, ending=ending, at=None) for number, ending in enumerate(endings, 1)
    )
    return Fact(name="a", state=state, reason="", dones=dones, attempts=attempts)


def body(number: int, start: float, end: float | None = None) -> Ran:
    return Ran(job="a", number=number, pid=number, start=start, end=end, done=end is not None)


def judged(fact: Fact | None, *bodies: Ran, files: Mapping[str, str]) -> Verdict:
    return judge(["a"], {} if fact is None else {"a": fact}, bodies, files, {"a": OUTPUT})


def test_a_job_that_was_lost_with_its_node_and_then_done_is_as_it_should_be() -> None:
    verdict = judged(a_fact("lost", "done"), body(1, 1), body(2, 5, 6), files={OUTPUT: "2"})
    assert verdict.complaints == ()
    assert (verdict.jobs, verdict.done, verdict.attempts, verdict.ended_twice) == (1, 1, 2, 0)


def test_a_job_that_waits_or_never_came_to_its_end_is_lost() -> None:
    assert judged(a_fact("lost", state="queued"), body(1, 1), files={}).lost
    assert judged(a_fact("done"), body(1, 1), files={OUTPUT: "1"}).lost
    assert judged(None, files={}).lost


def test_two_accepted_attempts_are_seen() -> None:
    bodies = (body(1, 1, 7), body(2, 5, 6))
    fact = a_fact("done", "done", dones=2)
    verdict = judged(fact, *bodies, files={OUTPUT: "2"})
    assert verdict.accepted_twice
    assert (verdict.ended_twice, verdict.overlaps) == (1, 1)


def test_what_an_attempt_wrote_that_was_not_accepted_is_seen() -> None:
    fact, bodies = a_fact("lost", "done"), (body(1, 1, 9), body(2, 5, 6))
    assert judged(fact, *bodies, files={OUTPUT: "1"}).foreign_files
    assert judged(fact, *bodies, files={OUTPUT: "2", "runs/proof/a/more": "1"}).foreign_files
    assert judged(fact, *bodies, files={}).foreign_files
    assert not judged(fact, *bodies, files={OUTPUT: "2"}).foreign_files


def test_links_are_shown_late_as_links(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    with LateFiles(here, there, 0.0):
        (there / "runs").symlink_to("/somewhere/else")
        until((here / "runs").is_symlink, "the link is seen")
    assert (here / "runs").readlink() == Path("/somewhere/else")
