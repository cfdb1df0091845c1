"""What the store says of runs, of what is new, and of what is ready."""

import time
from collections import Counter
from pathlib import Path

import pytest

from launcher.accounts import Account
from launcher.job import Terms
from launcher.job_options.notifications import AS_CONFIGURED, Event, RunNotify
from launcher.states import Done, Failed, OutOfMemory, ReasonCode, Shortage, State
from launcher.store import runs as module
from launcher.store.feed import MOST_FAILURES, RunNewsReader
from launcher.store.queue import Store
from launcher.store.runs import FirstJobs, jobs_before, open_runs
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


# --- news


@pytest.fixture
def reader(store: Store) -> RunNewsReader:
    return RunNewsReader(store.database)


def test_what_happened_after_an_event_is_told_by_run(store: Store, reader: RunNewsReader) -> None:
    assert reader.since(0) == (0, [])
    first, second = enqueue(store, a_spec(name="a"), a_spec(name="b"), run="one")
    before = reader.newest()
    (third,) = enqueue(store, a_spec(name="a"), run="two")
    now = time.time()
    for job, outcome in (
        (first, Done(at=now)),
        (second, Failed(at=now, error="boom")),
        (third, OutOfMemory(at=now, error="too large", shortage=Shortage("gpu"))),
    ):
        store.scheduling.finish(claimed(store, job), outcome, outputs={}, now=now)
    upto, (first_run, second_run) = reader.since(before)
    assert upto == reader.newest()
    assert (first_run.name, first_run.root, first_run.open) == ("one", "/nowhere", 0)
    assert (first_run.after, first_run.happened) == (before, (Event.FIRST_FAILURE,))
    assert first_run.totals == {State.DONE: 1, State.FAILED: 1}
    assert second_run.happened == (Event.OUT_OF_MEMORY, Event.FIRST_FAILURE)
    found = [(*reader.failures(run.id, before)[0][:2],) for run in (first_run, second_run)]
    assert found == [(second, "b"), (third, "a")]
    assert reader.since(upto) == (upto, [])
    assert reader.ended_since(first_run.id, now) == {State.DONE: 1, State.FAILED: 1}
    assert reader.ended_since(first_run.id, now + 1) == {}


def test_of_many_failures_the_first_is_told_and_so_many_for_too_little_memory(
    store: Store, reader: RunNewsReader
) -> None:
    many = enqueue(store, *(a_spec(name=f"m{number}") for number in range(30)), run="many")
    (single,) = enqueue(store, a_spec(name="single"), run="single")
    for number, job in enumerate((*many, single)):
        short = OutOfMemory(at=2.0, error="too large", shortage=Shortage("gpu"))
        end = short if 5 <= number < 25 else Failed(at=2.0, error="boom")
        store.scheduling.finish(claimed(store, job), end, outputs={}, now=2.0)
    _, (first, second) = reader.since(0)
    assert first.happened == (Event.OUT_OF_MEMORY, Event.FIRST_FAILURE)
    assert second.happened == (Event.FIRST_FAILURE,)
    told = reader.failures(first.id, 0)
    assert [each.job for each in told] == [many[0], *many[5 : 5 + MOST_FAILURES]]
    assert [each.alike for each in told] == [10] + [20] * MOST_FAILURES
    codes = {each.reason.code for each in told[1:]}
    assert (told[0].reason.code, codes) == (ReasonCode.FAILED, {ReasonCode.OUT_OF_MEMORY})
    assert [each.job for each in reader.failures(second.id, 0)] == [single]
    assert reader.failures(first.id, reader.newest()) == ()


def test_what_a_run_says_of_its_messages_is_kept(store: Store, reader: RunNewsReader) -> None:
    enqueue(store, a_spec(), run="loud")
    enqueue(store, a_spec(), run="silent")
    wanted = RunNotify(events=(Event.RUN_ENDED,), to=("mail",))
    with store.writing():
        store.set_notify(store.run(Path("/nowhere"), "silent"), wanted)
    assert [run.notify for run in reader.since(0)[1]] == [AS_CONFIGURED, wanted]
    with store.writing():
        store.set_notify(store.run(Path("/nowhere"), "silent"), AS_CONFIGURED)
    assert [run.notify for run in reader.since(0)[1]] == [AS_CONFIGURED] * 2


def test_who_begins_to_listen_hears_of_the_last_minutes(
    store: Store, reader: RunNewsReader
) -> None:
    enqueue(store, a_spec(name="a"))
    assert reader.beginning(time.time()) == 0
    assert reader.beginning(time.time() + 3600) == reader.newest()


# --- ready


READY = ("state", "waits", "priority", "run", "lane")


def runs_of(store: Store, each: int = 2) -> dict[str, int]:
    """How many jobs of each run are looked at."""
    return dict(Counter(job.account.name for job in store.scheduling.ready(each)))


def test_a_run_hides_no_other_and_a_lane_hides_none_in_it(store: Store) -> None:
    sweep = enqueue(store, *(a_spec(name=f"command/{n}") for n in range(50)), run="sweep")
    other = enqueue(store, *(a_spec(name=f"command/o{n}", cpus=2) for n in range(5)), run="sweep")
    quick = enqueue(store, *(a_spec(name=f"command/{n}") for n in range(3)), run="quick")
    looked = [job.id for job in store.scheduling.ready(2)]
    assert looked == [*sweep[:2], *other[:2], *quick[:2]]


def test_of_each_priority_the_first_are_looked_at(store: Store) -> None:
    plain = enqueue(store, *(a_spec(name=f"command/{n}") for n in range(5)))
    (urgent,) = enqueue(store, a_spec(name="command/urgent", priority=1))
    ready = store.scheduling.ready(1)
    assert [(job.id, job.priority) for job in ready] == [(urgent, 1), (plain[0], 0)]


def test_a_job_comes_with_the_account_of_its_run(store: Store) -> None:
    first, _ = enqueue(store, a_spec(name="command/a"), a_spec(name="command/b"))
    store.steering.share("test", 3.0)
    claimed(store, first, 1.0)
    (ready,) = store.scheduling.ready(5)
    assert (ready.account.name, ready.account.share) == ("test", 3.0)
    assert ready.flow == (0, ready.account.run, ready.lane_id)
    (claim,) = store.scheduling.claims()
    assert claim.run == ready.account.run == job_row(store, first).run_id


@pytest.mark.parametrize("share", [0.0, -1.0, float("inf")])
def test_a_share_that_makes_no_sense_in_a_damaged_row_counts_as_one(
    store: Store, share: float
) -> None:
    enqueue(store, a_spec())
    store.database.execute("UPDATE runs SET share = ?1, vtime = -1, used = ?1", (share,))
    (ready,) = store.scheduling.ready(1)
    assert ready.account.share == 1.0
    assert ready.account.vtime == ready.account.used == 0.0


def test_of_very_many_runs_those_whose_turn_comes_and_by_turns_the_others_are_looked_at(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_RUNS", 3)
    monkeypatch.setattr(module, "MOST_OTHERS", 2)
    for n in range(10):
        enqueue(store, a_spec(name=f"command/{n}"), run=f"run{n}")
    store.database.execute("UPDATE runs SET vtime = 10 - id")
    soonest = {"run9", "run8", "run7"}
    looks = [set(runs_of(store)) for _ in range(4)]
    assert all(soonest < look and len(look) == 5 for look in looks)
    assert set.union(*looks) == {f"run{n}" for n in range(10)}


def test_where_there_are_very_many_flows_fewer_jobs_of_each_are_looked_at(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_JOBS", 30)
    for run in "abcd":
        enqueue(store, *(a_spec(name=f"command/{n}") for n in range(20)), run=run)
    first_jobs = FirstJobs(store.database.execute)
    assert [len(flow.jobs) for flow in first_jobs.flows(20)] == [20] * 4
    assert [len(flow.jobs) for flow in first_jobs.flows(20)] == [7] * 4


def test_what_is_looked_at_is_found_by_one_index_without_sorting(store: Store) -> None:
    questions = {
        module._PRIORITIES: (),
        module._RUNS: (0,),
        module._NEXT_LANE: (0, 1, -1, 8),
    }
    for question, values in questions.items():
        plan = [
            row["detail"]
            for row in store.database.execute(f"EXPLAIN QUERY PLAN {question}", values)
        ]
        steps = [step for step in plan if "jobs" in step]
        assert steps
        assert all("USING COVERING INDEX jobs_ready" in step for step in steps), plan
        assert not any("TEMP B-TREE" in step for step in plan), plan


def test_a_limit_of_a_group_holds_for_all_runs(store: Store) -> None:
    night = Terms(group="night")
    store.steering.limit("night", 1)
    for run in "ab":
        enqueue(store, a_spec(terms=night), run=run)
    assert {job.lane_id for job in store.scheduling.ready(1)} == {
        store.scheduling.ready(1)[0].lane_id
    }
