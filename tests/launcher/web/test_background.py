import threading
from collections.abc import Iterator
from contextlib import contextmanager

from launcher.errors import MachineError
from launcher.web.view import LONGEST_PAUSE_S, MOST_KEPT, SHARE, Background
from tests.build import DEADLINE_S, until


class Reads:
    """Reads runs when it is let, and notes which."""

    def __init__(self) -> None:
        self.calls: list[int] = []
        self.let = threading.Event()
        self.let.set()
        self.now = 0.0
        self.takes_s = 0.0

    def clock(self) -> float:
        return self.now

    def __call__(self, run: int) -> str:
        assert self.let.wait(DEADLINE_S)
        self.calls.append(run)
        self.now += self.takes_s
        return f"read {len(self.calls)} times"


@contextmanager
def reader(reads: Reads, patience_s: float = DEADLINE_S) -> Iterator[Background[int, str]]:
    made = Background(reads, patience_s=patience_s, clock=reads.clock, cost=reads.clock)
    try:
        yield made
    finally:
        reads.let.set()
        made.close()


def text(runs: Background[int, str], mark: str, run: int = 1) -> str:
    return runs.look(run, mark).data or ""


def test_what_is_read_quickly_is_there_at_once_and_is_kept() -> None:
    reads = Reads()
    with reader(reads) as runs:
        assert text(runs, "a") == text(runs, "a") == "read 1 times"
        assert not runs.look(1, "a").pending


def test_what_takes_long_is_pending_until_it_is_there() -> None:
    reads = Reads()
    reads.let.clear()
    with reader(reads, patience_s=0.0) as runs:
        look = runs.look(1, "a")
        assert (look.data, look.pending) == (None, True)
        assert runs.look(1, "b").data is None
        reads.let.set()
        until(lambda: text(runs, "b"), "the run is read")
        assert reads.calls[0] == 1


def test_a_queue_that_has_changed_is_read_again_while_the_old_is_shown() -> None:
    reads = Reads()
    with reader(reads) as runs:
        assert text(runs, "a") == "read 1 times"
        reads.let.clear()
        look = runs.look(1, "b")
        assert look.pending
        assert look.data == "read 1 times"
        reads.let.set()
        until(lambda: text(runs, "b") == "read 2 times", "the run is read again")


def test_what_costs_much_is_read_again_seldom() -> None:
    reads = Reads()
    reads.takes_s = 2.0
    with reader(reads) as runs:
        assert text(runs, "a") == "read 1 times"
        look = runs.look(1, "b")
        assert not look.pending
        reads.now += 2.0 / SHARE
        until(lambda: text(runs, "b") == "read 2 times", "the run is read again")


def test_runs_that_nobody_looks_at_are_forgotten() -> None:
    reads = Reads()
    with reader(reads) as runs:
        for run in range(MOST_KEPT + 1):
            text(runs, "a", run)
        text(runs, "a", 1)
        assert reads.calls.count(1) == 1
        text(runs, "a", 0)
        assert reads.calls.count(0) == 2


def test_what_took_very_long_is_not_put_off_for_hours() -> None:
    reads = Reads()
    reads.takes_s = 1000.0
    with reader(reads) as runs:
        assert text(runs, "a") == "read 1 times"
        reads.now += LONGEST_PAUSE_S
        until(lambda: text(runs, "b") == "read 2 times", "the run is read again")


def test_what_cannot_be_read_is_said_and_read_another_time() -> None:
    broken = True

    def read(run: int) -> str:
        if broken:
            raise MachineError(f"cannot read {run}")
        return "sound"

    runs = Background(read, patience_s=DEADLINE_S)
    try:
        look = runs.look(1, "a")
        assert (look.data, look.trouble) == (None, "cannot read 1")
        broken = False
        until(lambda: runs.look(1, "b").data == "sound", "it is read again")
        assert runs.look(1, "b").trouble == ""
    finally:
        runs.close()


def test_the_end_does_not_wait_for_what_takes_for_ever() -> None:
    let, reading = threading.Event(), threading.Event()

    def read(run: int) -> str:
        reading.set()
        let.wait()
        return "late"

    runs = Background(read, patience_s=0.0)
    try:
        assert runs.look(1, "a").pending
        assert reading.wait(DEADLINE_S)
        runs.close()
        assert runs.look(1, "a").data is None
    finally:
        let.set()
