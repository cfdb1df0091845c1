"""Lists in another order than the queue's."""

import pytest

from launcher.job import Resources
from launcher.screens.dashboard.overview_page import ORDERS, sorted_screen
from launcher.screens.queue_view import screen_lines
from launcher.screens.snapshots import Queue, Screen
from launcher.states import State
from launcher.store.queue import Store
from launcher.system.paths import Home
from tests.build import a_spec, enqueue
from tests.screens import a_busy_screen, a_line
from tests.top import Person, on_the_queue


def running(screen: Screen) -> list[int]:
    return [work.id for work in screen.running]


def test_running_jobs_are_sorted_and_what_is_not_known_stays_last() -> None:
    screen = a_busy_screen()
    assert running(sorted_screen(screen, "memory")) == [42, 41, 43]
    assert running(sorted_screen(screen, "memory", reverse=True)) == [41, 42, 43]
    assert running(sorted_screen(screen, "time")) == [41, 42, 43]
    assert running(sorted_screen(screen, "time", reverse=True)) == [43, 42, 41]
    assert running(sorted_screen(screen, "name"))[0] == 43


def test_waiting_jobs_are_sorted_by_how_long_they_wait() -> None:
    jobs = tuple(
        a_line(n, f"train/{n}", State.QUEUED, since=at) for n, at in ((1, 30.0), (2, 10.0))
    )
    screen = a_busy_screen()._replace(waiting=jobs)
    assert [job.id for job in sorted_screen(screen, "wait").waiting] == [2, 1]


def test_waiting_jobs_are_sorted_by_the_memory_that_they_ask_for(home: Home, store: Store) -> None:
    asked = [(1, "cpu"), (4, "auto"), (None, "cuda"), (2, "auto"), (8, "auto")]
    specs = [
        a_spec(name=f"train/{n}", resources=Resources(min_vram=gib and gib << 30, device=device))
        for n, (gib, device) in enumerate(asked)
    ]
    enqueue(store, *specs)
    screen = sorted_screen(Queue(home, store).look(), "memory")
    assert [job.id for job in screen.waiting] == [5, 2, 4, 1, 3], "what asks for none is last"
    assert screen.orders["waiting"] == "memory"


def test_a_list_without_an_order_stays_as_it_was_and_does_not_say_otherwise() -> None:
    screen = sorted_screen(a_busy_screen(), "wait")
    text = "\n".join(line.text for line in screen_lines(screen, 140))
    assert "WAITING by wait" in text
    assert "RUNNING by" not in text
    assert screen.running == a_busy_screen().running


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("reverse", [False, True])
def test_no_job_is_lost_in_any_order(order: str, reverse: bool) -> None:
    screen = a_busy_screen()._replace(found=a_busy_screen().waiting)
    other = sorted_screen(screen, order, reverse=reverse)
    assert sorted(running(other)) == sorted(running(screen))
    for name in ("waiting", "recent", "found"):
        assert {*map(repr, getattr(other, name))} == {*map(repr, getattr(screen, name))}


def test_s_changes_the_order_and_the_header_says_so(home: Home, store: Store) -> None:
    enqueue(store, *(a_spec(name=f"train/{name}", priority=n) for n, name in enumerate("bca")))

    async def story(person: Person) -> None:
        assert "train/a" in person.chosen, "the highest priority is first in the queue"
        await person.press("s")
        assert "WAITING by name" in person.text
        assert "train/a" in person.chosen
        await person.press("j")
        assert "train/b" in person.chosen
        await person.press("S")
        assert "WAITING by name, reversed" in person.text
        assert "train/c" in person.chosen
        await person.press(*"s" * (len(ORDERS) - 1))
        assert "WAITING  " in person.text

    on_the_queue(home, story)


def test_more_waiting_jobs_than_usual_are_sorted(home: Home, store: Store) -> None:
    enqueue(store, *(a_spec(name=f"train/{900 - number}") for number in range(600)))

    async def story(person: Person) -> None:
        assert "train/900" in person.chosen
        await person.press("s")
        await person.look()
        assert "train/401" in person.chosen, "the last of the first 500"
        await person.press("G")
        assert "100 more jobs wait and are not sorted in" in person.text

    on_the_queue(home, story)
