"""How long a simulated job is passed by others: as long as in the real queue."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from launcher.scheduler.policy.disciplines import QueueLengths, queue_length
from launcher.scheduler.policy.model import Machine, Waiting, forecast_of
from launcher.simulate.queue import Foresight, Knowledge, Memory, Patience
from launcher.simulate.trace import TraceJob
from tests.build import a_waiting
from tests.launcher.simulate.worlds import a_fleet, a_job, live, replayed

JOBS = (a_job(0, 100.0, gpus=2), a_job(1, 60.0), a_job(2, 40.0))
LEFT_S = 20.0  # GPU-seconds of what runs


@pytest.fixture
def patience() -> Patience:
    """Nobody waits on a machine with two GPUs."""
    return Patience(Knowledge(Foresight.KNOWN, Memory.KNOWN), 2, learns=True)


def given(
    patience: Patience, jobs: Sequence[TraceJob], left_s: float, now: float
) -> dict[int, float]:
    """Until when others may pass each of some new jobs."""
    patience.give(jobs, left_s, now)
    return {job.index: patience.until(job.index) for job in jobs}


def test_jobs_that_come_at_once_are_passed_equally_long_by_the_whole_queue(
    patience: Patience,
) -> None:
    assert given(patience, JOBS, LEFT_S, 0.0) == dict.fromkeys(
        (0, 1, 2), 1.5 * (200 + 60 + 40 + LEFT_S) / 2
    )


def test_a_later_job_is_passed_as_long_as_the_queue_is_with_it(patience: Patience) -> None:
    assert len(given(patience, JOBS, LEFT_S, 0.0)) == 3
    patience.leave(1)
    patience.leave(2)
    later = given(patience, [a_job(3, 100.0, at=50.0)], 0.0, 50.0)
    assert later == {3: 50 + 1.5 * (200 + 100) / 2}


def test_the_real_queue_passes_the_same_jobs_as_long(patience: Patience) -> None:
    machine = Machine(cpus=2)  # a core of two stands for a GPU of two

    def real(job: TraceJob) -> Waiting:
        known = a_waiting(job.index, cpus=job.gpus)._replace(forecast=forecast_of([job.seconds]))
        return known._replace(since=0.0)

    line = [real(job) for job in JOBS]
    lengths = QueueLengths()
    lengths.note(0.0, queue_length([(job, 1) for job in line], [], machine, 0.0))
    until = {job.job: job.patient_until for job in lengths.patient(line)}
    assert until == given(patience, JOBS, 0.0, 0.0)


def test_of_jobs_that_came_at_once_the_shortest_gets_the_place_as_in_the_real_queue() -> None:
    begun = [a_job(n, 300.0 * (n + 1), group=f"{n}") for n in range(3)]  # no two end together
    wide = [a_job(3, 5000.0, gpus=2, group="long"), a_job(4, 50.0, gpus=3, group="short")]
    others = [a_job(5 + n, 9000.0, at=250.0 + 300.0 * n, group="others") for n in range(6)]
    spans = replayed([*begun, *wide, *others], live(a_fleet(3), most=1), 3)
    assert spans[4].start == 9900, "its place is kept since the others have passed it once"
    assert spans[3].start == 9950, "it does not take that place before, though two GPUs were free"


def test_a_job_that_comes_again_is_passed_as_long_as_the_queue_is_then(patience: Patience) -> None:
    job = a_job(0, 100.0)
    assert given(patience, [job], 0.0, 0.0) == {0: 75.0}
    patience.leave(0)
    again = replace(job, submitted=80.0)
    assert given(patience, [again], 100.0, 80.0) == {0: 80 + 150.0}
    assert patience.overdue(100.0) is None
    assert patience.overdue(231.0) == 0
