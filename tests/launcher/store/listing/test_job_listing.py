from launcher.states import State
from launcher.store.listings import JobFilter, Listing
from launcher.store.queue import Store
from tests.build import a_spec, claimed, enqueue

EVERY = JobFilter()


def queued(store: Store, *names: str, run: str = "test") -> list[int]:
    return enqueue(store, *(a_spec(name=name) for name in names), run=run)


def test_jobs_are_listed_page_by_page_in_both_directions(store: Store) -> None:
    queued(store, *(f"command/{number}" for number in range(1, 11)))
    listing = Listing(store.database)
    assert listing.jobs(EVERY, 4) == ([10, 9, 8, 7], False, True), "there are older ones"
    assert listing.jobs(EVERY, 4, before=7).numbers == [6, 5, 4, 3]
    assert listing.jobs(EVERY, 4, after=6).numbers == [10, 9, 8, 7]
    assert listing.jobs(EVERY, 4, after=2).numbers == [6, 5, 4, 3]
    assert listing.jobs(EVERY, 4, after=10).numbers == []


def test_jobs_are_filtered_by_state(store: Store) -> None:
    queued(store, *(f"command/{number}" for number in range(1, 5)))
    claimed(store, 2)
    store.steering.hold([3], 1.0)
    listing = Listing(store.database)
    assert listing.jobs(JobFilter(states=frozenset({State.RUNNING})), 9).numbers == [2]
    waiting = frozenset({State.QUEUED, State.HELD})
    assert listing.jobs(JobFilter(states=waiting), 9).numbers == [4, 3, 1]


def test_jobs_are_filtered_by_a_part_of_a_name_a_glob_a_run_or_a_number(store: Store) -> None:
    queued(store, "train/gan2", "test/gan2", "train/vit")
    queued(store, "command/prep", run="forest")
    listing = Listing(store.database)
    assert listing.jobs(JobFilter(text="gan2"), 9).numbers == [2, 1]
    assert listing.jobs(JobFilter(text="train/*"), 9).numbers == [3, 1]
    assert listing.jobs(JobFilter(text="fores"), 9).numbers == [4]
    assert listing.jobs(JobFilter(text="3"), 9).numbers == [3]
    assert listing.jobs(JobFilter(text="pr*"), 9).numbers == [4], "a command's kind may be left out"
    assert listing.jobs(JobFilter(text="nothing"), 9) == ([], False, False)
    held = JobFilter(text="gan2", states=frozenset({State.QUEUED}))
    assert listing.jobs(held, 9, before=2).numbers == [1]


def test_jobs_are_filtered_by_a_tag_or_a_glob_of_tags(store: Store) -> None:
    queued(store, "train/gan2", "test/gan2", "train/vit", "command/tag:paper")
    store.steering.change_tags([1, 3], ["paper"], [])
    store.steering.change_tags([2], ["abl-1"], [])
    listing = Listing(store.database)
    assert listing.jobs(JobFilter(text="tag:paper"), 9).numbers == [3, 1]
    assert listing.jobs(JobFilter(text="tag:[ap]*"), 9).numbers == [3, 2, 1]
    assert listing.jobs(JobFilter(text="tag:pap"), 9).numbers == []
    claimed(store, 1)
    running = JobFilter(text="tag:paper", states=frozenset({State.RUNNING}))
    assert listing.jobs(running, 9).numbers == [1]


def test_the_jobs_of_a_run_are_listed_by_its_whole_name(store: Store) -> None:
    queued(store, "train/gan2", run="night")
    queued(store, "train/gan2", run="night2")
    queued(store, "test/night", run="day")
    listing = Listing(store.database)
    assert listing.jobs(JobFilter(text="night"), 9).numbers == [3, 2, 1]
    assert listing.jobs(JobFilter(text="run:night"), 9).numbers == [1]
    assert listing.jobs(JobFilter(text="run:nobody"), 9).numbers == []
    done = JobFilter(text="run:night", states=frozenset({State.DONE}))
    assert listing.jobs(done, 9).numbers == []
