import threading
from collections.abc import Iterator
from contextlib import contextmanager

from launcher.errors import MachineError
from launcher.system.paths import Home
from launcher.web.runs.background import MOST_KEPT, SHARE, RunReader
from launcher.web.runs.run_data import RunData
from tests.build import DEADLINE_S, until


class Reads:
    """Reads runs when it is let, and notes which."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, ...]] = []
        self.let = threading.Event()
        self.let.set()
        self.now = 0.0
        self.takes_s = 0.0

    def __call__(self, home: Home, runs: tuple[int, ...]) -> RunData:
        assert self.let.wait(DEADLINE_S)
        self.calls.append(runs)
        self.now += self.takes_s
        return RunData(trouble=f"read {len(self.calls)} times")


@contextmanager
def reader(home: Home, reads: Reads, patience_s: float = DEADLINE_S) -> Iterator[RunReader]:
    made = RunReader(home, read=reads, patience_s=patience_s, clock=lambda: reads.now)
    try:
        yield made
    finally:
        reads.let.set()
        made.close()


def text(runs: RunReader, mark: object, run: int = 1) -> str:
    data = runs.look((run,), mark).data
    return "" if data is None else data.trouble


def test_what_is_read_quickly_is_there_at_once_and_is_kept(home: Home) -> None:
    reads = Reads()
    with reader(home, reads) as runs:
        assert text(runs, "a") == text(runs, "a") == "read 1 times"
        assert not runs.look((1,), "a").pending


def test_what_takes_long_is_pending_until_it_is_there(home: Home) -> None:
    reads = Reads()
    reads.let.clear()
    with reader(home, reads, patience_s=0.0) as runs:
        look = runs.look((1,), "a")
        assert (look.data, look.pending) == (None, True)
        assert runs.look((1,), "b").data is None
        reads.let.set()
        until(lambda: text(runs, "b"), "the run is read")
        assert reads.calls[0] == (1,)


def test_a_queue_that_has_changed_is_read_again_while_the_old_is_shown(home: Home) -> None:
    reads = Reads()
    with reader(home, reads) as runs:
        assert text(runs, "a") == "read 1 times"
        reads.let.clear()
        look = runs.look((1,), "b")
        assert look.pending
        assert look.data is not None
        assert look.data.trouble == "read 1 times"
        reads.let.set()
        until(lambda: text(runs, "b") == "read 2 times", "the run is read again")


def test_what_costs_much_is_read_again_seldom(home: Home) -> None:
    reads = Reads()
    reads.takes_s = 2.0
    with reader(home, reads) as runs:
        assert text(runs, "a") == "read 1 times"
        look = runs.look((1,), "b")
        assert not look.pending
        reads.now += 2.0 / SHARE
        until(lambda: text(runs, "b") == "read 2 times", "the run is read again")


def test_runs_that_nobody_looks_at_are_forgotten(home: Home) -> None:
    reads = Reads()
    with reader(home, reads) as runs:
        for run in range(MOST_KEPT + 1):
            text(runs, "a", run)
        text(runs, "a", 1)
        assert reads.calls.count((1,)) == 1
        text(runs, "a", 0)
        assert reads.calls.count((0,)) == 2


def test_a_queue_that_cannot_be_read_is_said(home: Home) -> None:
    def fail(home: Home, runs: tuple[int, ...]) -> RunData:
        raise MachineError(f"cannot read {home.folder.name} {runs}")

    runs = RunReader(home, read=fail, patience_s=DEADLINE_S)
    try:
        assert text(runs, "a") == "cannot read home (1,)"
    finally:
        runs.close()
