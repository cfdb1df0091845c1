"""Calls to an engine: beside the scheduler, one at a time, and not waited for for ever."""

import threading
from collections.abc import Iterator
from typing import NoReturn, cast

import pytest

from launcher.backends.protocol import HUNG_S, MOST_HUNG, Backend, EngineCalls, EngineError
from tests.launcher.scheduler.remote.toy_cluster import PATIENCE_S, ToyClock


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
        desk.ask()
        desk.wait()
        desk.calls.take_in()
    assert desk.made == 1
    desk.calls.renew()
    desk.ask()
    desk.wait()
    desk.calls.take_in()
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
    desk.ask(error)
    desk.wait()
    desk.calls.take_in()
    assert desk.errors == [text]
    desk.ask()
    desk.wait()
    desk.calls.take_in()
    assert desk.answers == ["answer"]


def test_an_engine_that_cannot_be_made_is_made_again_by_the_next_call(desk: Desk) -> None:
    def broken() -> NoReturn:
        raise ModuleNotFoundError("No module named 'ray'")

    desk.calls._make = broken
    desk.ask()
    desk.wait()
    desk.calls.take_in()
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
