import pytest

from launcher.states import ENDED, Done, Failed, State
from launcher.store.queue import Store
from launcher.system.paths import Home
from tests.build import a_spec, claimed, enqueue


def done(store: Store, job: int, now: float) -> None:
    store.scheduling.finish(claimed(store, job), Done(at=now), outputs={}, now=now)


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
    a, b, c = enqueue(store, *(a_spec(name=f"command/{letter}") for letter in "abc"))
    for job, now in ((c, 10.0), (a, 20.0), (b, 30.0)):
        done(store, job, now)
    assert [job.id for job in store.read.ended_lately(2)] == [a, b]


def test_what_ended_before_a_time_is_told_by_state(store: Store) -> None:
    a, b, c = enqueue(store, *(a_spec(name=f"command/{letter}") for letter in "abc"))
    done(store, a, 10.0)
    done(store, b, 20.0)
    failed = Failed(at=5.0, error="no")
    store.scheduling.finish(claimed(store, c), failed, outputs={}, now=5.0)
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
    enqueue(store, a_spec(name="command/a"), a_spec(name="command/b"))
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
