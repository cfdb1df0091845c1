"""Jobs that wait for others, and jobs that wait for their retry."""

import itertools

from launcher.gpu.snapshot import ForeignReservation, core_resource
from launcher.job import Terms
from launcher.scheduler.admission import Pauses
from launcher.scheduler.policy.backfill import KEPT_S, PASSED_S, Insistence
from launcher.scheduler.policy.decide import decide
from launcher.scheduler.policy.model import Machine, Running, Start, Wait, Waiting
from launcher.scheduler.turn import TurnResult
from launcher.states import Failed
from launcher.store.queue import Store
from tests.build import GIB, a_spec, a_waiting, as_read, claimed, enqueue

# --- A job that waits for cores of other homes is passed by ours behind it, and not for ever


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


# --- pauses of waiting jobs over the turns of a scheduler, on a real queue


def paused_job(store: Store, *, failed_at: float, backoff_s: float) -> int:
    """Queue a job that failed once and waits for its retry."""
    (job,) = enqueue(store, a_spec(terms=Terms(retries=1, backoff_s=backoff_s)))
    failed = Failed(at=failed_at, error="no network")
    store.scheduling.finish(claimed(store, job), failed, outputs={}, now=failed_at)
    return job


def ready(store: Store) -> list[int]:
    return [job.id for job in store.scheduling.ready(10)]


def look_again_s(pauses: Pauses, now: float) -> float:
    """End the pauses whose time has come; return after how many seconds to look again."""
    result = TurnResult()
    pauses.end(now, result)
    return result.look_again_s


def test_the_next_look_is_when_the_next_pause_ends(store: Store) -> None:
    job, pauses = paused_job(store, failed_at=100.0, backoff_s=10.0), Pauses(store.scheduling)
    assert look_again_s(pauses, 108.0) == 2.0
    assert ready(store) == []
    assert look_again_s(pauses, 110.0) > 2.0
    assert ready(store) == [job]


def test_a_pause_that_begins_is_seen_after_it_was_read_anew(store: Store) -> None:
    pauses = Pauses(store.scheduling)
    nothing_to_end = look_again_s(pauses, 100.0)
    job = paused_job(store, failed_at=100.0, backoff_s=1.0)
    assert look_again_s(pauses, 100.5) == nothing_to_end
    pauses.read()
    assert look_again_s(pauses, 100.5) == 0.5
    look_again_s(pauses, 101.0)
    assert ready(store) == [job]


def test_a_clock_that_was_set_back_ends_the_pauses_that_began_before_it(store: Store) -> None:
    job, pauses = paused_job(store, failed_at=10_000.0, backoff_s=3.0), Pauses(store.scheduling)
    assert look_again_s(pauses, 10_001.0) == 2.0
    look_again_s(pauses, 5_000.0)
    assert ready(store) == [job]
