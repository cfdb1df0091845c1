"""Judges a proof. Compares the queue's record of each job with stamps and outputs of its bodies (pure)."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.chaos.outside import Fact
from tests.chaos.program import Ran


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The result of a proof. Each complaint is one line."""

    jobs: int
    done: int
    attempts: int
    ended_twice: int  # jobs of which two bodies came to their end; only one was accepted
    lost: tuple[str, ...] = ()
    accepted_twice: tuple[str, ...] = ()
    foreign_files: tuple[str, ...] = ()  # in the run's folder, not of an accepted attempt
    overlaps: int = 0  # bodies of one job that ran at the same time

    @property
    def complaints(self) -> tuple[str, ...]:
        """All that must not be."""
        return (*self.lost, *self.accepted_twice, *self.foreign_files)


def judge(
    names: Sequence[str],
    facts: Mapping[str, Fact],
    bodies: Sequence[Ran],
    files: Mapping[str, str],
    outputs: Mapping[str, str],
) -> Verdict:
    """Compare.

    Args:
        names: of all jobs that were queued.
        facts: the jobs of the database, when nothing goes on any more.
        bodies: every body that stamped its start.
        files: all files below the run's folder, with their texts.
        outputs: job → the file that it leaves, whose text is the number of an attempt.
    """
    ends = Counter(body.job for body in bodies if body.done)
    lost, twice, expected = [], [], {}
    for name in names:
        fact = facts.get(name)
        if fact is None or fact.state != "done" or not ends[name]:
            state = "not in the queue" if fact is None else f"{fact.state} ({fact.reason})"
            lost.append(f"{name}: {state}, {ends[name]} bodies came to their end")
            continue
        accepted = [attempt.number for attempt in fact.attempts if attempt.ending == "done"]
        if len(accepted) != 1 or fact.dones != 1:
            twice.append(f"{name}: attempts {accepted} done, became done {fact.dones} times")
        expected[outputs[name]] = str(accepted[-1]) if accepted else "none"
    wrong = [
        f"{path}: is {files.get(path, 'missing')!r}, accepted was {expected.get(path, 'nothing')!r}"
        for path in sorted({*files, *expected})
        if files.get(path) != expected.get(path)
    ]
    return Verdict(
        jobs=len(names),
        done=sum(fact.state == "done" for fact in facts.values()),
        attempts=sum(len(fact.attempts) for fact in facts.values()),
        ended_twice=sum(count > 1 for count in ends.values()),
        lost=tuple(lost),
        accepted_twice=tuple(twice),
        foreign_files=tuple(wrong),
        overlaps=_overlaps(bodies),
    )


def _overlaps(bodies: Sequence[Ran]) -> int:
    """Count bodies that began before an earlier one of their job had ended; of a killed one no end is known."""
    latest: dict[str, float] = {}
    count = 0
    for body in sorted(bodies, key=lambda body: body.start):
        count += body.start < latest.get(body.job, 0.0)
        if body.end is not None:
            latest[body.job] = max(latest.get(body.job, 0.0), body.end)
    return count
