import pytest

from launcher.accounts import Account
from launcher.states import Done, Failed, State
from launcher.store.queue import Store
from launcher.store.runs import jobs_before, open_runs
from launcher.store.usage import Measured
from tests.build import a_seat, a_spec, claimed, enqueue, job_row


def accounts(store: Store) -> dict[str, Account]:
    return {each.name: each for each, _, _ in open_runs(store.database.execute)}


@pytest.fixture
def two_runs(store: Store) -> tuple[int, int]:
    """Two runs of two jobs each; the first jobs."""
    (a, _) = enqueue(store, a_spec(name="command/1"), a_spec(name="command/2"), run="a")
    (b, _) = enqueue(store, a_spec(name="command/1"), a_spec(name="command/2"), run="b")
    return a, b


def test_a_run_is_charged_for_what_its_attempts_had_for_its_share(
    store: Store, two_runs: tuple[int, int]
) -> None:
    a, b = two_runs
    store.steering.share("b", 4.0)
    for job in (a, b):
        seat = a_seat(device="GPU-1,GPU-2", cpus=2)
        claim = store.scheduling.claim(job, seat, reason="", now=100.0)
        assert claim is not None
        store.scheduling.finish(claim, Done(at=110.0), outputs={}, now=111.0)
    recorded = accounts(store)
    assert (recorded["a"].vtime, recorded["a"].used, recorded["a"].at) == (20.0, 20.0, 110.0)
    assert (recorded["b"].vtime, recorded["b"].used) == (5.0, 20.0)


def test_a_failed_attempt_counts_and_one_that_ended_before_it_began_does_not(
    store: Store, two_runs: tuple[int, int]
) -> None:
    a, b = two_runs
    failed, back = claimed(store, a, 100.0), claimed(store, b, 100.0)
    store.scheduling.finish(failed, Failed(at=116.0, error="x"), outputs={}, now=116.0)
    store.scheduling.finish(back, Done(at=50.0), outputs={}, now=50.0)
    assert accounts(store)["a"].vtime == 1.0  # a core is a sixteenth of a card
    assert accounts(store)["b"] == Account(run=accounts(store)["b"].run, name="b")


@pytest.mark.parametrize(
    ("ended", "elapsed_s", "vtime"),
    [(1e9, 32.0, 2.0), (50.0, 32.0, 2.0), (1e9, None, 0.0), (116.0, 1e9, 1.0)],
)
def test_a_clock_that_is_set_charges_no_run_for_years(
    store: Store,
    two_runs: tuple[int, int],
    ended: float,
    elapsed_s: float | None,
    vtime: float,
) -> None:
    claim = claimed(store, two_runs[0], 100.0)
    measured = Measured(elapsed_s=elapsed_s)
    store.scheduling.finish(claim, Done(at=ended), outputs={}, now=ended, measured=measured)
    assert accounts(store)["a"].vtime == vtime


def test_an_end_is_charged_once(store: Store, two_runs: tuple[int, int]) -> None:
    claim = claimed(store, two_runs[0], 100.0)
    for _ in range(2):
        store.scheduling.finish(claim, Done(at=116.0), outputs={}, now=116.0)
    assert accounts(store)["a"].vtime == 1.0


def test_runs_with_open_jobs_are_listed_with_how_many_run_and_wait(
    store: Store, two_runs: tuple[int, int]
) -> None:
    claimed(store, two_runs[0])
    enqueue(store, a_spec(), run="over")
    store.steering.cancel([job.id for job in store.read.of_run("over")], 1.0)
    listed = [
        (each.name, running, waiting)
        for each, running, waiting in open_runs(store.database.execute)
    ]
    assert listed == [("a", 1, 1), ("b", 0, 2)]


def test_how_many_jobs_of_its_run_come_before_one(store: Store) -> None:
    jobs = enqueue(
        store,
        *(a_spec(name=f"command/{n}", cpus=1 + n % 2) for n in range(6)),
        a_spec(name="command/urgent", priority=1),
    )
    enqueue(store, a_spec(priority=9), run="other")

    def before(job: int) -> int:
        return jobs_before(store.database.execute, job_row(store, job), {0, 1})

    assert [before(job) for job in jobs] == [1, 2, 3, 4, 5, 6, 0]
    store.steering.cancel([jobs[0]], 1.0)
    assert before(jobs[1]) == 1


def test_a_share_stays_with_the_run_when_more_jobs_come(store: Store) -> None:
    enqueue(store, a_spec(name="command/1"), run="a")
    store.steering.share("a", 2.5)
    (job,) = enqueue(store, a_spec(name="command/2"), run="a")
    assert job_row(store, job).share == 2.5
    assert job_row(store, job).state is State.QUEUED
