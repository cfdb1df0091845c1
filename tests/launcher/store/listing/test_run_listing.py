from pathlib import Path

from launcher.states import State
from launcher.store.listings import Listing
from launcher.store.queue import Store
from tests.build import a_spec, claimed, enqueue
from tests.launcher.web.made_runs import done


def queued(store: Store, *runs: str) -> None:
    for run in runs:
        enqueue(store, a_spec(name="command/1"), a_spec(name="command/2"), run=run)


def test_runs_are_listed_page_by_page_in_both_directions(store: Store) -> None:
    queued(store, *(f"night{number}" for number in range(1, 7)))
    listing = Listing(store.database)
    assert listing.runs(3) == ([6, 5, 4], False, True), "there are older ones"
    assert listing.runs(2, before=5, among=[1, 4, 6]) == ([4, 1], True, False)
    assert listing.runs(3, before=4).numbers == [3, 2, 1]
    assert listing.runs(3, after=3).numbers == [6, 5, 4]
    assert listing.runs(9, among=[2, 5]).numbers == [5, 2]
    assert listing.runs(9, among=[]).numbers == []
    assert listing.runs(9, after=2, among=[2, 5]).numbers == [5]


def test_a_run_says_how_far_it_is_and_since_when(store: Store) -> None:
    queued(store, "night")
    (waiting,) = Listing(store.database).run_records([1])
    assert (waiting.started, waiting.ended, waiting.jobs, waiting.open) == (None, None, 2, 2)
    claimed(store, 1, now=7.0)
    done(store, a_spec(name="command/3"), run="night", root=Path("/nowhere"))
    (record,) = Listing(store.database).run_records([1, 77])
    assert record.counts == {State.RUNNING: 1, State.QUEUED: 1, State.DONE: 1}
    assert (record.jobs, record.open) == (3, 2)
    assert (record.started, record.ended) == (1.0, 2.0)
    assert (record.name, record.root, record.share) == ("night", "/nowhere", 1.0)


def test_records_come_in_the_order_that_was_asked_for(store: Store) -> None:
    queued(store, "a", "b", "c")
    records = Listing(store.database).run_records([2, 3, 1])
    assert [record.name for record in records] == ["b", "c", "a"]


def test_the_newest_run_of_a_name_is_found_wherever_its_results_lie(store: Store) -> None:
    for root in ("/one", "/two"):
        enqueue(store, a_spec(name="command/1"), run="night", root=Path(root))
    listing = Listing(store.database)
    assert listing.run_named("night") == 2
    assert listing.run_named("nigh") is None
    assert listing.run_names() == {1: "night", 2: "night"}


def test_jobs_of_a_run_are_listed_by_state(store: Store) -> None:
    queued(store, "night", "day")
    claimed(store, 3)
    listing = Listing(store.database)
    assert listing.job_numbers(2) == [3, 4]
    assert listing.in_state(2, State.RUNNING, 9) == [3]
    assert listing.in_state(1, State.QUEUED, 1) == [2]
    assert listing.first_job(2) == 3
    assert listing.first_job(77) is None
