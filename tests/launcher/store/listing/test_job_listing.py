from launcher.states import State
from launcher.store.queue import Store
from launcher.store.screen_queries import JobFilter, JobListing
from tests.build import a_spec, claimed, enqueue

EVERY = JobFilter()


def queued(store: Store, *names: str, run: str = "test") -> list[int]:
    return enqueue(store, *(a_spec(name=name) for name in names), run=run)


def test_jobs_are_listed_page_by_page_in_both_directions(store: Store) -> None:
    queued(store, *(f"command/{number}" for number in range(1, 11)))
    listing = JobListing(store.database)
    assert listing.newest(EVERY, 4) == [10, 9, 8, 7]
    assert listing.newest(EVERY, 4, before=7) == [6, 5, 4, 3]
    assert listing.next_newer(EVERY, 4, after=6) == [10, 9, 8, 7]
    assert listing.next_newer(EVERY, 4, after=2) == [6, 5, 4, 3]
    assert listing.next_newer(EVERY, 4, after=10) == []


def test_jobs_are_filtered_by_state(store: Store) -> None:
    queued(store, *(f"command/{number}" for number in range(1, 5)))
    claimed(store, 2)
    store.owning.hold([3], 1.0)
    listing = JobListing(store.database)
    assert listing.newest(JobFilter(states=frozenset({State.RUNNING})), 9) == [2]
    waiting = frozenset({State.QUEUED, State.HELD})
    assert listing.newest(JobFilter(states=waiting), 9) == [4, 3, 1]


def test_jobs_are_filtered_by_a_part_of_a_name_a_glob_a_run_or_a_number(store: Store) -> None:
    queued(store, "train/gan2", "test/gan2", "train/vit")
    queued(store, "command/prep", run="forest")
    listing = JobListing(store.database)
    assert listing.newest(JobFilter(text="gan2"), 9) == [2, 1]
    assert listing.newest(JobFilter(text="train/*"), 9) == [3, 1]
    assert listing.newest(JobFilter(text="fores"), 9) == [4]
    assert listing.newest(JobFilter(text="3"), 9) == [3]
    assert listing.newest(JobFilter(text="nothing"), 9) == []
    held = JobFilter(text="gan2", states=frozenset({State.QUEUED}))
    assert listing.newest(held, 9, before=2) == [1]


def test_jobs_are_filtered_by_a_tag_or_a_glob_of_tags(store: Store) -> None:
    queued(store, "train/gan2", "test/gan2", "train/vit", "command/tag:paper")
    store.steering.change_tags([1, 3], ["paper"], [])
    store.steering.change_tags([2], ["abl-1"], [])
    listing = JobListing(store.database)
    assert listing.newest(JobFilter(text="tag:paper"), 9) == [3, 1]
    assert listing.newest(JobFilter(text="tag:[ap]*"), 9) == [3, 2, 1]
    assert listing.newest(JobFilter(text="tag:pap"), 9) == []
    claimed(store, 1)
    running = JobFilter(text="tag:paper", states=frozenset({State.RUNNING}))
    assert listing.newest(running, 9) == [1]


def test_the_jobs_of_a_run_are_listed_by_its_whole_name(store: Store) -> None:
    queued(store, "train/gan2", run="night")
    queued(store, "train/gan2", run="night2")
    queued(store, "test/night", run="day")
    listing = JobListing(store.database)
    assert listing.newest(JobFilter(text="night"), 9) == [3, 2, 1]
    assert listing.newest(JobFilter(text="run:night"), 9) == [1]
    assert listing.newest(JobFilter(text="run:nobody"), 9) == []
    done = JobFilter(text="run:night", states=frozenset({State.DONE}))
    assert listing.newest(done, 9) == []
