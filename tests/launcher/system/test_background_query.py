"""Queries in threads, of which some fail, hang or return late."""

import threading
from collections.abc import Callable
from typing import NoReturn

import pytest

from launcher.system.background_query import BackgroundQuery
from tests.build import DEADLINE_S

HANGS_S = 3600.0


class Clock:
    """A clock that is set by hand."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def fail() -> NoReturn:
    raise ValueError("no driver")


def run(query: BackgroundQuery[int], work: Callable[[], int]) -> None:
    assert query.begin(work)
    query.join(DEADLINE_S)
    assert not query.is_running


def test_answer_and_error_are_those_of_the_last_query() -> None:
    clock, wakes = Clock(), list[int]()
    query = BackgroundQuery[int]("query", lambda: wakes.append(1), clock=clock)
    assert (query.answer, query.error, query.finished_at) == (None, None, None)
    run(query, lambda: 1)
    assert (query.answer, query.error, query.finished_at) == (1, None, 100.0)
    clock.now = 200.0
    run(query, fail)
    assert (query.answer, repr(query.error)) == (1, "ValueError('no driver')")
    assert query.finished_at == 200.0
    run(query, lambda: 2)
    assert (query.answer, query.error) == (2, None)
    assert len(wakes) == 3


def test_query_that_hangs_has_an_age_and_no_second_one_begins() -> None:
    clock, answered = Clock(), threading.Event()
    query = BackgroundQuery[bool]("query", clock=clock)
    assert query.elapsed_s == 0.0
    assert query.begin(lambda: answered.wait(DEADLINE_S))
    clock.now += HANGS_S
    assert query.elapsed_s == HANGS_S
    assert not query.begin(lambda: False)
    answered.set()
    query.join(DEADLINE_S)
    assert (query.answer, query.elapsed_s) == (True, 0.0)


def test_late_answer_of_an_abandoned_query_is_ignored() -> None:
    answered = threading.Event()
    query = BackgroundQuery[bool]("query")
    query.begin(lambda: answered.wait(DEADLINE_S))
    late = query.abandon()
    assert late is not None
    assert not query.is_running
    assert query.begin(lambda: False)
    query.join(DEADLINE_S)
    answered.set()
    late.join(DEADLINE_S)
    assert query.answer is False


def test_unexpected_error_is_recorded_and_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    raised = list[object]()
    monkeypatch.setattr(threading, "excepthook", lambda args: raised.append(args.exc_value))
    query = BackgroundQuery[int]("query", expected_error=OSError)
    run(query, fail)
    assert raised == [query.error]
