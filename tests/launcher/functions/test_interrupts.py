"""Ctrl-C while functions are submitted: the queue and the files of calls stay in step."""

import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import pytest

from launcher.api import future, submit, submit_many
from launcher.functions.calls import FOLDER
from launcher.store.queue import Store
from launcher.system.paths import Home
from tests.build import DEADLINE_S

pytestmark = pytest.mark.usefixtures("queue")


def interrupted_at(called: str, callers: set[str], work: Callable[[], object]) -> None:
    """Do some work, and interrupt it as Ctrl-C does where one function calls another."""

    def look(frame: FrameType, event: str, _: object) -> None:
        caller = frame.f_back
        if event != "call" or frame.f_code.co_name != called or caller is None:
            return
        if caller.f_code.co_name in callers:
            sys.setprofile(None)
            signal.raise_signal(signal.SIGINT)

    sys.setprofile(look)
    try:
        with pytest.raises(KeyboardInterrupt):
            work()
    finally:
        sys.setprofile(None)


def test_an_interrupt_after_the_jobs_are_queued_leaves_them_their_calls(store: Store) -> None:
    interrupted_at("jobs_by_id", {"_submit_calls"}, lambda: submit(pow, 2, 5))
    (row,) = store.read.jobs_open()
    assert future(row.id).result(DEADLINE_S) == 32


def test_no_call_leaves_no_file(home: Home) -> None:
    assert submit_many(pow, [], []) == []
    assert [*Path(home.folder, FOLDER).iterdir()] == []
