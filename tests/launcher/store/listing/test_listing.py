"""Which jobs and runs are found and listed."""

from pathlib import Path

import pytest

from launcher.cli.jobs import select
from launcher.errors import UsageError
from launcher.screens.snapshots import Queue
from launcher.states import ENDED, State
from launcher.store.listings import JobFilter, Listing
from launcher.store.queue import Store
from launcher.system.paths import Home
from tests.build import a_spec, claimed, enqueue
from tests.launcher.queued import FAILED, end, put
from tests.launcher.web.made_runs import done

EVERY = JobFilter()


def queued(store: Store, *names: str, run: str = "test") -> list[int]:
    return enqueue(store, *(a_spec(name=name) for name in names), run=run)


def listed(store: Store, text: str, *states: State, **page: int) -> list[int]:
    wanted = JobFilter(text=text, states=frozenset(states)) if states else JobFilter(text=text)
    return Listing(store.database).jobs(wanted, 9, **page).numbers


def test_jobs_are_listed_page_by_page_in_both_directions(store: Store) -> None:
    put(store, map(str, range(1, 11)))
    listing = Listing(store.database)
    assert listing.jobs(EVERY, 4) == ([10, 9, 8, 7], False, True), "there are older ones"
    newest, older = [10, 9, 8, 7], [6, 5, 4, 3]
    assert listing.jobs(EVERY, 4, before=7).numbers == older
    after = [listing.jobs(EVERY, 4, after=number).numbers for number in (6, 2, 10)]
    assert after == [newest, older, []]


def test_jobs_are_filtered_by_state(store: Store) -> None:
    put(store, "1234")
    claimed(store, 2)
    store.steering.hold([3], 1.0)
    assert listed(store, "", State.RUNNING) == [2]
    assert listed(store, "", State.QUEUED, State.HELD) == [4, 3, 1]


def test_jobs_that_a_text_means_are_listed_by_state_and_page_by_page_too(store: Store) -> None:
    queued(store, "train/gan2", "test/gan2", "train/vit")
    queued(store, "command/prep", run="gan2")
    store.steering.change_tags([1, 3], ["gan2"], [])
    claimed(store, 1)
    assert listed(store, "gan2") == [4, 2, 1]  # in the name of a job or of its run
    assert listed(store, "gan2", State.QUEUED) == [4, 2]
    assert listed(store, "gan2", State.QUEUED, before=4) == [2]
    assert listed(store, "tag:gan2", State.RUNNING) == [1]
    assert listed(store, "run:gan2", State.DONE) == []
    assert listed(store, "pr*") == [4]  # a command's kind may be left out
    assert Listing(store.database).jobs(JobFilter(text="nothing"), 9) == ([], False, False)


# --- run listing


def queued_runs(store: Store, *runs: str) -> None:
    for run in runs:
        put(store, "12", run=run)


def test_runs_are_listed_page_by_page_in_both_directions(store: Store) -> None:
    queued_runs(store, *(f"night{number}" for number in range(1, 7)))
    listing = Listing(store.database)
    assert listing.runs(3) == ([6, 5, 4], False, True), "there are older ones"
    assert listing.runs(2, before=5, among=[1, 4, 6]) == ([4, 1], True, False)
    for page, numbers in (
        ({"before": 4}, [3, 2, 1]),
        ({"after": 3}, [6, 5, 4]),
        ({"among": [2, 5]}, [5, 2]),
        ({"among": []}, []),
        ({"after": 2, "among": [2, 5]}, [5]),
    ):
        assert listing.runs(3, **page).numbers == numbers


def test_a_run_says_how_far_it_is_and_since_when(store: Store) -> None:
    queued_runs(store, "night")
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
    queued_runs(store, "a", "b", "c")
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
    queued_runs(store, "night", "day")
    claimed(store, 3)
    listing = Listing(store.database)
    assert listing.job_numbers(2) == [3, 4]
    assert listing.in_state(2, State.RUNNING, 9) == [3]
    assert listing.in_state(1, State.QUEUED, 1) == [2]
    assert listing.first_job(2) == 3
    assert listing.first_job(77) is None


# --- job queries


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("train/a", ["train/a"]),
        ("train/", ["train/a", "train/ab", "train/[x]"]),
        ("train/a*", ["train/a", "train/ab"]),
        ("*a", ["train/a"]),
        ("train/[x]", ["train/[x]"]),
        ("train/ab?", []),
        ("Train/", []),
        ("", []),
        ("zzz", []),
    ],
)
def test_jobs_are_named_exactly_by_a_glob_or_by_how_they_begin(
    store: Store, pattern: str, names: list[str]
) -> None:
    enqueue(store, *(a_spec(name=name) for name in ("train/a", "train/ab", "test/b", "train/[x]")))
    assert [job.name for job in store.read.named(pattern)] == names


def test_waiting_jobs_are_listed_as_they_would_start(store: Store) -> None:
    a, b, c, d, e = enqueue(
        store,
        a_spec(name="command/a"),
        a_spec(name="command/b", priority=5, cpus=2),
        a_spec(name="command/c"),
        a_spec(name="command/d", priority=9),
        a_spec(name="command/e", priority=1),
        needs={"command/d": ["command/a"]},
    )
    store.steering.hold([c], 1.0)
    assert [job.id for job in store.read.waiting(10)] == [b, e, a, d, c]
    assert [job.id for job in store.read.waiting(2)] == [b, e]
    assert store.read.waiting(0) == []


def test_the_jobs_that_ended_last_come_in_the_order_of_their_ends(store: Store) -> None:
    a, b, c = put(store, "abc")
    for job, now in ((c, 10.0), (a, 20.0), (b, 30.0)):
        end(store, job, now=now)
    assert [job.id for job in store.read.ended_lately(2)] == [a, b]


def test_what_ended_before_a_time_is_told_by_state(store: Store) -> None:
    a, b, c = put(store, "abc")
    end(store, a, now=10.0)
    end(store, b, now=20.0)
    end(store, c, FAILED, now=5.0)
    assert {job.id for job in store.read.ended_before(15.0, ENDED)} == {a, c}
    assert [job.id for job in store.read.ended_before(15.0, [State.FAILED])] == [c]


def test_what_needs_a_job_is_found_however_far_away(store: Store) -> None:
    a, b, c, _ = enqueue(
        store,
        *(a_spec(name=f"command/{letter}") for letter in "abcd"),
        needs={"command/b": ["command/a"], "command/c": ["command/b"]},
    )
    assert [job.id for job in store.read.dependants_of([a])] == [b, c]
    assert [job.id for job in store.read.dependants_of([a, b])] == [c]
    assert store.read.dependants_of([]) == []


def test_names_come_from_the_newest_jobs_first(store: Store) -> None:
    put(store, "ab")
    assert store.read.names() == ["command/b", "command/a"]


def test_a_job_that_is_queued_while_it_is_looked_for_is_found(home: Home, store: Store) -> None:
    asked: list[str] = []
    other = Store(home, durable=False)

    def queue_it_between(query: str) -> None:
        asked.append(query)
        if len(asked) == 2:
            enqueue(other, a_spec(name="command/1"))

    store.database.set_trace_callback(queue_it_between)
    assert [job.name for job in store.read.named("command/1")] == ["command/1"]
    other.close()


# --- selection


NAMES = ("command/grid-1", "command/grid-2", "command/grid-20", "train/grid", "train/[x]", "12")


@pytest.fixture
def filled(store: Store) -> Store:
    """A queue with jobs of two runs, one of them tagged."""
    enqueue(store, *(a_spec(name=name) for name in NAMES), run="night")
    enqueue(store, a_spec(name="train/grid"), run="nights")
    store.steering.change_tags([2, 7], ["paper"], [])
    return store


def sought(home: Home, store: Store, text: str) -> tuple[set[int], set[int]]:
    """Return the jobs that `top` and the page list for a text."""
    found = Queue(home, store).look(sought=text).found or ()
    listed = Listing(store.database).jobs(JobFilter(text=text), 100).numbers
    return {job.id for job in found}, set(listed)


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("grid*", {1, 2, 3}),
        ("grid-?", {1, 2}),
        ("grid-2", {2}),
        ("grid-", {1, 2, 3}),
        ("command/grid-2", {2}),
        ("*/grid", {4, 7}),
        ("train/", {4, 5, 7}),
        ("train/[x]", {5}),
        ("3", {3}),
        ("run:night", {1, 2, 3, 4, 5, 6}),
        ("run:night*", {1, 2, 3, 4, 5, 6, 7}),
        ("run:[!n]*", set()),
        ("tag:paper", {2, 7}),
        ("tag:p*", {2, 7}),
        ("tag:pap", set()),
        ("9", set()),
        ("\udcff", set()),
        ("train/gird", set()),
    ],
)
def test_a_text_means_the_same_jobs_to_commands_to_top_and_to_the_page(
    home: Home, filled: Store, text: str, numbers: set[int]
) -> None:
    if numbers:
        assert {job.id for job in select(filled, [text])} == numbers
    else:
        with pytest.raises(UsageError, match=r"there is no|no job"):
            select(filled, [text])
    assert sought(home, filled, text) == (numbers, numbers)


def test_what_means_no_job_is_sought_within_names_of_jobs_and_runs(
    home: Home, filled: Store
) -> None:
    assert sought(home, filled, "rid-2") == ({2, 3}, {2, 3})
    assert sought(home, filled, "ights") == ({7}, {7})
    assert sought(home, filled, "*hts") == ({7}, {7})
