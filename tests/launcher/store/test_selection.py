import pytest

from launcher.cli.jobs import select
from launcher.errors import UsageError
from launcher.screens.snapshots import Queue
from launcher.store.listings import JobFilter, Listing
from launcher.store.queue import Store
from launcher.system.paths import Home
from tests.build import a_spec, enqueue

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
