"""The scheduler's end of a pilot and of its engine."""

import threading
from collections.abc import Iterator
from math import inf
from pathlib import Path
from typing import NoReturn, cast

import pytest

from launcher.backends.channel import (
    Beat,
    Bye,
    Ended,
    Lease,
    Leave,
    Leaving,
    Run,
    Writer,
    news_line,
    order_line,
)
from launcher.backends.protocol import HUNG_S, MOST_HUNG, Backend, EngineCalls, EngineError
from launcher.states import Done
from tests.launcher.scheduler.remote.toy_cluster import HELLO, PATIENCE_S, Pilot, ToyClock

# --- the scheduler's end of a pilot, through the pilot's real files


@pytest.fixture
def pilot(tmp_path: Path) -> Pilot:
    return Pilot(tmp_path)


def test_pilot_serves_from_its_hello_until_it_says_bye(pilot: Pilot) -> None:
    link = pilot.link()
    link.read(1.0)
    assert link.silent_s(9.0) == inf
    pilot.tell(HELLO, Beat(number=1))
    link.read(2.0)
    served = [link.serves]
    assert link.silent_s(5.0) == 3.0
    pilot.tell(Bye(why="time limit"))
    link.read(3.0)
    assert [*served, link.serves] == [True, False]
    assert link.said_bye == "time limit"


def test_pilot_that_says_it_leaves_gets_no_work_though_it_is_there_still(pilot: Pilot) -> None:
    link = pilot.link()
    pilot.tell(HELLO, Beat(number=1))
    link.read(1.0)
    assert link.serves
    pilot.tell(Leaving(why="SIGTERM"), Beat(number=2))
    link.read(2.0)
    assert (link.serves, link.said_bye) == (False, None)


def test_pilot_with_troubles_gets_no_work(pilot: Pilot) -> None:
    link = pilot.link()
    pilot.tell(HELLO._replace(troubles=("/data is not seen",)))
    link.read(1.0)
    assert not link.serves


def test_pilot_that_was_told_to_leave_gets_no_work_from_the_next_scheduler_either(
    pilot: Pilot,
) -> None:
    pilot.tell(HELLO)
    pilot.link().send(Leave())
    link = pilot.link()
    link.read(1.0)
    link.sent()
    assert not link.serves


def test_end_is_kept_for_who_expects_it_and_others_are_left_out(pilot: Pilot) -> None:
    link = pilot.link()
    link.expect("1-1")
    pilot.tell(Ended(attempt="1-1", outcome=Done(at=1.0)), Ended(attempt="2-1"))
    link.read(1.0)
    assert link.ends.get("1-1") == Ended(attempt="1-1", outcome=Done(at=1.0))
    assert link.ends.get("2-1") is None
    link.forget("1-1")
    assert link.ends.get("1-1") is None


def test_next_scheduler_knows_what_was_sent_and_sends_only_the_rest(pilot: Pilot) -> None:
    pilot.link().start(["1-1", "2-1"])
    link = pilot.link()
    assert link.sent() == {"1-1", "2-1"}
    link.start(["2-1", "3-1"])
    assert pilot.orders() == [Run(attempt="1-1"), Run(attempt="2-1"), Run(attempt="3-1")]


def test_order_that_a_killed_scheduler_wrote_in_part_spoils_no_later_one(pilot: Pilot) -> None:
    Writer(pilot.folder.orders).append(order_line(Run(attempt="1-1"))[:-9])
    pilot.link().start(["2-1"])
    assert [order for order in pilot.orders() if order] == [Run(attempt="2-1")]


def test_orders_that_cannot_be_written_go_with_the_next_ones(pilot: Pilot) -> None:
    link = pilot.link()
    pilot.folder.orders.rename(pilot.folder.folder / "away")
    assert not link.start(["1-1"])
    assert link.unsent
    assert link.trouble
    (pilot.folder.folder / "away").rename(pilot.folder.orders)
    assert link.send()
    assert pilot.orders() == [Run(attempt="1-1")]


def test_attempt_is_asked_to_stop_once(pilot: Pilot) -> None:
    link = pilot.link()
    link.stop("1-1")
    link.stop("1-1")
    assert len(pilot.orders()) == 1


def test_lease_is_answered_for_the_newest_beat_only_where_there_is_one(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    leased, free = Pilot(tmp_path / "a", lease_s=4.0), Pilot(tmp_path / "b")
    for pilot in (leased, free):
        pilot.tell(HELLO, Beat(number=1), Beat(number=2))
        pilot.link().read(1.0)
    assert leased.orders() == [Lease(beat=2)]
    assert free.orders() == []


def test_news_of_a_day_is_read_at_once(pilot: Pilot) -> None:
    link = pilot.link()
    pilot.tell(*(Beat(number=number) for number in range(1, 50_001)))
    link.read(1.0)
    assert link.beat == Beat(number=50_000)


def test_line_that_is_no_news_is_skipped(pilot: Pilot) -> None:
    link = pilot.link()
    Writer(pilot.folder.news).append(b"nonsense\n", b'{"say": "future"}\n', news_line(HELLO))
    assert link.read(1.0) == [HELLO]


# --- calls to an engine: beside the scheduler, one at a time, and not waited for for ever


class Desk:
    """Who asks: its answers and errors."""

    def __init__(self) -> None:
        self.clock = ToyClock()
        self.came = threading.Semaphore(0)
        self.made = 0
        self.answers: list[object] = []
        self.errors: list[str] = []
        self.calls = EngineCalls(self.make, self.came.release, self.clock)

    def make(self) -> Backend:
        self.made += 1
        return cast(Backend, object())

    def ask(self, answer: object = "answer", hold: threading.Event | None = None) -> None:
        def call(_: Backend) -> object:
            if hold is not None:
                hold.wait(PATIENCE_S)
            if isinstance(answer, Exception):
                raise answer
            return answer

        self.calls.begin(call, self.answers.append, lambda error: self.errors.append(str(error)))

    def asked(self, answer: object = "answer") -> None:
        """Ask, wait, and take the answer in."""
        self.ask(answer)
        self.wait()
        self.calls.take_in()

    def wait(self) -> None:
        assert self.came.acquire(timeout=PATIENCE_S)


@pytest.fixture
def desk() -> Iterator[Desk]:
    desk = Desk()
    yield desk
    desk.calls.renew()


def test_an_answer_is_taken_in_by_the_thread_that_asked(desk: Desk) -> None:
    assert not desk.calls.take_in()
    desk.ask()
    assert desk.calls.busy
    desk.wait()
    assert not desk.answers
    assert desk.calls.ready
    assert desk.calls.take_in()
    assert desk.answers == ["answer"]
    assert not desk.calls.busy


def test_the_engine_is_made_once(desk: Desk) -> None:
    for _ in range(3):
        desk.asked()
    assert desk.made == 1
    desk.calls.renew()
    desk.asked()
    assert desk.made == 2


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (EngineError("Socket timed out"), "Socket timed out"),
        (KeyError("a fault of ours"), "KeyError: 'a fault of ours'"),
    ],
)
def test_whatever_a_call_raises_is_an_error_of_the_engine(
    desk: Desk, error: Exception, text: str
) -> None:
    desk.asked(error)
    assert desk.errors == [text]
    desk.asked()
    assert desk.answers == ["answer"]


def test_an_engine_that_cannot_be_made_is_made_again_by_the_next_call(desk: Desk) -> None:
    def broken() -> NoReturn:
        raise ModuleNotFoundError("No module named 'ray'")

    desk.calls._make = broken
    desk.asked()
    assert desk.errors == ["ModuleNotFoundError: No module named 'ray'"]


def test_an_answer_that_comes_too_late_is_not_taken_in(desk: Desk) -> None:
    hold = threading.Event()
    desk.ask("late", hold)
    desk.clock.now += HUNG_S
    assert not desk.calls.take_in()
    desk.clock.now += 1
    assert desk.calls.take_in()
    assert desk.errors == [f"no answer for {HUNG_S:.0f} s"]
    desk.ask("next")
    desk.wait()
    hold.set()
    desk.wait()
    assert desk.calls.take_in()
    assert not desk.calls.take_in()
    assert desk.answers == ["next"]


def test_an_engine_that_always_hangs_takes_no_more_than_a_few_threads(desk: Desk) -> None:
    hold = threading.Event()
    for _ in range(MOST_HUNG):
        desk.ask("late", hold)
        desk.clock.now += HUNG_S + 1
        assert desk.calls.take_in()
    desk.ask("late", hold)
    desk.clock.now += 100 * HUNG_S
    assert not desk.calls.take_in()
    hold.set()
    for _ in range(MOST_HUNG + 1):
        desk.wait()
    assert desk.calls.take_in()
    assert desk.answers == ["late"]
