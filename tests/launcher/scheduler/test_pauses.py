"""Pauses of waiting jobs over the turns of a scheduler, on a real queue."""

from launcher.job import Terms
from launcher.scheduler.admission import Pauses
from launcher.scheduler.turn import TurnResult
from launcher.states import Failed
from launcher.store.queue import Store
from tests.build import a_spec, claimed, enqueue


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
