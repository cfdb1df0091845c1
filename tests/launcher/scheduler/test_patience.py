"""A job that waits for cores of other homes is passed by ours behind it, and not for ever."""

import itertools

from launcher.gpu.snapshot import ForeignReservation, core_resource
from launcher.scheduler.policy.backfill import KEPT_S, PASSED_S, Insistence
from launcher.scheduler.policy.decide import decide
from launcher.scheduler.policy.model import Machine, Running, Start, Wait, Waiting
from tests.build import GIB, a_waiting, as_read

TWO = 0b11
BUSY = Machine(
    cpus=2,
    cores=TWO,
    foreign=(ForeignReservation(user="ada", device=core_resource(TWO), amount=1),),
)
LASTS_S = 20.0


def test_a_large_job_is_passed_for_a_while_and_then_not_until_ours_are_gone_and_a_while_more() -> (
    None
):
    patience, big, running = Insistence(), a_waiting(1, cpus=2), list[tuple[float, Running]]()
    started: list[float] = []
    step, number = 1.0, 2
    for second in range(int(2 * (PASSED_S + KEPT_S + LASTS_S))):
        now = second * step
        running = [(end, one) for end, one in running if end > now]
        waiting = patience.entered([big, a_waiting(number)], now)
        decisions = decide(waiting, [one for _, one in running], BUSY)
        patience.note(decisions, now)
        assert isinstance(decisions[0], Wait)
        assert "1 of 2 cores are promised to jobs of ada" in decisions[0].reason
        if isinstance(decisions[1], Start):
            started.append(now)
            running.append((now + LASTS_S, Running(job=number, cpus=1)))
            number += 1
    gaps = [later - before for before, later in itertools.pairwise(started)]
    # our core was free for it once in each round, for so long and no longer
    assert max(gaps) >= KEPT_S
    assert max(gaps) <= KEPT_S + LASTS_S + 2
    assert len([gap for gap in gaps if gap > LASTS_S]) == 2


def test_a_job_that_insists_starts_as_soon_as_others_leave() -> None:
    big, small = (
        Waiting(job=1, resources=a_waiting(1, cpus=2).resources, insists=True),
        a_waiting(2),
    )
    first, second = decide([big, small], [], BUSY)
    assert as_read(first) == Wait(
        job=1,
        reason="needs 2 cores, 1 of 2 free; 1 of 2 cores are promised to jobs of ada",
        for_others=True,
    )
    assert as_read(second) == Wait(
        job=2, reason="would delay job 1, which is first and gets 2 cores"
    )
    first, _ = decide([big, small], [], Machine(cpus=2, cores=TWO))
    assert isinstance(first, Start)


def test_memory_that_nobody_promised_is_not_kept_for_anybody() -> None:
    """It is in use by programs that are none of a launcher's, which may run for ever."""
    machine = Machine(cpus=2, ram=8 * GIB, ram_free=GIB)
    large = Waiting(job=1, resources=a_waiting(1, ram=4 * GIB).resources, insists=True)
    first, second = decide([large, a_waiting(2, ram=GIB // 2)], [], machine)
    assert isinstance(first, Wait)
    assert not first.for_others
    assert isinstance(second, Start)
