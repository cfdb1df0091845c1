"""The cost of a step does not grow with history, counted in instructions of SQLite's virtual machine."""

from collections.abc import Callable
from typing import NamedTuple

import pytest

from launcher.queue.home.paths import Home, make_home
from launcher.queue.jobs.job import PROGRAM, Terms
from launcher.queue.jobs.states import OPEN_STATES, Failed, State
from launcher.queue.store.failure_limits import hold_siblings
from launcher.queue.store.queue import NewJob, Store
from tests.build import a_context, a_reason, a_spec, claimed

FEW, MANY = 100, 3000
SLACK = 1.5  # an index of more rows has a level more


class Step(NamedTuple):
    """A step of a queue, after a history of so many rows."""

    prepare: Callable[[Store, int], object]
    run: Callable[[Store], object]


def insert(store: Store, jobs: list[NewJob]) -> list[int]:
    with store.database.writing():
        run = store.ensure_run(store.home.folder, "test")
        return store.insert_new(run, a_context(), jobs, 1.0)


def make_lanes(store: Store, number: int) -> None:
    with store.database.writing():
        store.database.executemany(
            "INSERT INTO lanes (key) VALUES (?)", [(str(lane),) for lane in range(number)]
        )


def make_siblings(store: Store, number: int) -> None:
    """Queue the jobs of a sweep, all of them done except one."""
    spec = a_spec()._replace(terms=Terms(max_failures=50))
    jobs = [NewJob(spec._replace(name=f"command/{job}")) for job in range(number)]
    first, *others = insert(store, jobs)
    with store.database.writing():
        for job in others:
            claimed(store, job)
            store.database.execute("UPDATE jobs SET state = 'done', ended = 2 WHERE id = ?", (job,))
    claimed(store, first)


def make_released(store: Store, number: int) -> None:
    """Let a sweep reach its limit, release its jobs, and let all of them be done except one."""
    make_siblings(store, number)
    with store.database.writing():
        store.database.execute("UPDATE jobs SET state = 'failed' WHERE id BETWEEN 2 AND 60")
        store.database.execute(
            "INSERT INTO events (at, job, state, reason_code, reason)"
            " SELECT 2.5, id, 'queued', 'released', '' FROM jobs"
        )


def make_collector(store: Store, number: int) -> None:
    """Queue a job that waits for the ends of all others."""
    spec = a_spec()._replace(terms=Terms(max_failures=0))
    names = [f"command/{job}" for job in range(number)]
    jobs = insert(store, [NewJob(spec._replace(name=name)) for name in names])
    insert(store, [NewJob(a_spec(name="command/last"), after_any=jobs)])
    claimed(store, jobs[0])


def make_outputs(store: Store, number: int) -> None:
    """Leave done programs with outputs."""
    specs = [
        a_spec(name=f"command/{job}", kind=PROGRAM, outputs=(f"/{job}.csv",))
        for job in range(number)
    ]
    insert(store, [NewJob(spec, state=State.DONE) for spec in specs])


def find_maker(store: Store) -> None:
    ((path, (job,)),) = store.read.programs_by_output(paths=["/3.csv", "/none.csv"]).items()
    assert (path, job.name) == ("/3.csv", "command/3")


def end_first(store: Store) -> None:
    (claim,) = store.claims.open_claims()
    failed = Failed(at=2.0, error="no")
    store.transitions.finish_attempt(claim, failed, outputs={}, now=3.0)


def count_failure(store: Store) -> None:
    claim = store.claims.open_claims()[0]
    assert hold_siblings(store.database, claim, 3.0) == []


STEPS = {
    "reasons of lanes": Step(
        make_lanes, lambda store: store.ready_jobs.record_lane_reasons({1: a_reason("x")})
    ),
    "failures of a sweep": Step(make_siblings, count_failure),
    "failures of a released sweep": Step(make_released, count_failure),
    "an end for which a collector waits": Step(make_collector, end_first),
    "outputs of open programs": Step(
        make_outputs, lambda store: store.read.programs_by_output(OPEN_STATES)
    ),
    "programs with an output": Step(make_outputs, find_maker),
    "folders of outputs": Step(make_outputs, lambda store: store.read.output_folders()),
}


def count_instructions(home: Home, step: Step, number: int) -> int:
    """Return how many instructions SQLite executes for a step after a history."""
    make_home(home)
    store, counts = Store(home, durable=False), [0]

    def count() -> None:
        counts[0] += 1

    step.prepare(store, number)
    store.database.set_progress_handler(count, 1)
    step.run(store)
    store.close()
    return counts[0]


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_cost_of_a_step_does_not_grow_with_history(home: Home, step: Step) -> None:
    few, many = (
        count_instructions(Home(home.folder / str(number)), step, number) for number in (FEW, MANY)
    )
    assert 0 < many < SLACK * few
