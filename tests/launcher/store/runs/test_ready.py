from collections import Counter

import pytest

from launcher.job import Terms
from launcher.store import runs as module
from launcher.store.queue import Store
from launcher.store.runs import FirstJobs
from tests.build import a_spec, claimed, enqueue, job_row

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
