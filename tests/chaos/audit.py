"""Audit of a proof: compares the database with the records of each job's processes. It is pure."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from tests.chaos.killer import Kill
from tests.chaos.outside import OPEN, Fact
from tests.chaos.program import Ran

# endings that let a job run again
EXCUSES = frozenset({"lost", "failed", "out-of-memory", "stopped"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """Faults, one line each, which begins with the job's name."""

    lost: tuple[str, ...]
    doubled: tuple[str, ...]
    overlaps: tuple[str, ...]
    unexplained: tuple[str, ...]

    @property
    def lines(self) -> tuple[str, ...]:
        """All of it."""
        return (*self.lost, *self.doubled, *self.overlaps, *self.unexplained)


def audit(
    facts: Mapping[str, Fact],
    runs: Iterable[Ran],
    kills: Iterable[Kill],
    *,
    promised: Collection[str],
    once: Collection[str] = (),
) -> Findings:
    """Compare.

    Args:
        facts: the jobs of the database, when nothing goes on any more.
        runs: every process that stamped its start.
        kills: Processes that the proof killed, with times.
        promised: jobs of which a command said that they are queued.
        once: jobs that never run again after a lost attempt.
    """
    killed = list(kills)
    ran: dict[str, list[Ran]] = {}
    for run in sorted(runs, key=lambda run: run.start):
        ran.setdefault(run.job, []).append(run)
    deaths: dict[int, list[float]] = {}
    for kill in killed:
        deaths.setdefault(kill.pid, []).append(kill.at)
    lost = [f"{job}: is not in the queue" for job in sorted(promised) if job not in facts]
    doubled: list[str] = []
    overlaps: list[str] = []
    unexplained = [f"{job}: ran and was never queued" for job in ran if job not in facts]
    for job, fact in facts.items():
        own = ran.get(job, [])
        lost += _lost(fact, own)
        doubled += _doubled(fact)
        overlaps += _overlaps(fact, own, deaths)
        unexplained += _unexplained(fact, own)
        unexplained += _restless(fact, len(killed))
        unexplained += _once_more(fact, own) if job in once else []
    return Findings(
        lost=tuple(lost),
        doubled=tuple(doubled),
        overlaps=tuple(overlaps),
        unexplained=tuple(unexplained),
    )


def _lost(fact: Fact, runs: Sequence[Ran]) -> list[str]:
    if fact.state in OPEN:
        return [f"{fact.name}: still {fact.state} ({fact.reason})"]
    if fact.state == "done" and not any(run.done for run in runs):
        return [f"{fact.name}: done, and its program never came to its end"]
    return []


def _doubled(fact: Fact) -> list[str]:
    outcomes = sum(one.ending == "done" for one in fact.attempts)
    if max(outcomes, fact.dones) <= 1:
        return []
    return [f"{fact.name}: {outcomes} attempts were done, and it became done {fact.dones} times"]


def _overlaps(fact: Fact, runs: Sequence[Ran], deaths: Mapping[int, Sequence[float]]) -> list[str]:
    found = []
    latest: Ran | None = None  # whoever of those before lived longest
    until = 0.0
    for run in runs:
        if latest is not None and run.start < until:
            found.append(
                f"{fact.name}: pid {run.pid} (attempt {run.number}) began"
                f" {(until - run.start) * 1000:.1f} ms before the end"
                f" of pid {latest.pid} (attempt {latest.number})"
            )
        end = _lived_until(run, fact, deaths)
        if latest is None or end > until:
            latest, until = run, end
    return found


def _lived_until(run: Ran, fact: Fact, deaths: Mapping[int, Sequence[float]]) -> float:
    """Return an instant at which a process certainly lived or only just had died.

    The result is its own end stamp if it exists. A killed process has no end stamp. It lived when the
    test or the launcher killed it, and the launcher records an end only after detecting it. The
    earliest known time is used, so that no false overlap is found.
    """
    if run.end is not None:
        return run.end
    recorded = [one.at for one in fact.attempts if one.number == run.number and one.at is not None]
    known = [at for at in [*deaths.get(run.pid, ()), *recorded] if at >= run.start]
    return min(known, default=run.start)


def _unexplained(fact: Fact, runs: Sequence[Ran]) -> list[str]:
    """Find processes beyond the one that each attempt may have had; a void attempt had none."""
    room = Counter({one.number: 1 for one in fact.attempts if one.ending in EXCUSES | {"done", ""}})
    found = []
    for run in (one for one in runs if one.number):
        if room[run.number]:
            room[run.number] -= 1
        else:
            endings = {one.number: one.ending for one in fact.attempts}
            ending = endings.get(run.number, "unknown")
            found.append(
                f"{fact.name}: pid {run.pid} ran in attempt {run.number}, which is {ending}"
            )
    left = room.total()
    for run in (one for one in runs if not one.number):
        left -= 1
        if left < 0:
            found.append(f"{fact.name}: pid {run.pid} ran, and no attempt explains it")
    return found


def _restless(fact: Fact, kills: int) -> list[str]:
    """Find a job that was claimed in vain again and again: only a death makes an attempt void."""
    voids = sum(one.ending == "void" for one in fact.attempts)
    return [f"{fact.name}: {voids} of its attempts are void"] if voids > kills else []


def _once_more(fact: Fact, runs: Sequence[Ran]) -> list[str]:
    """Find what ran again although it may not once it was lost."""
    lost = min((one.number for one in fact.attempts if one.ending == "lost"), default=None)
    if lost is None or all(run.number <= lost for run in runs):
        return []
    return [f"{fact.name}: ran again after it was lost in attempt {lost}"]


def jobs_of(lines: Iterable[str]) -> list[str]:
    """Return the names of the jobs that findings are about."""
    return [job for job, _ in groupby(line.partition(":")[0] for line in lines)]
