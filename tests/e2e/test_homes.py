"""Several homes on one machine: together they promise no more than it has."""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from launcher.system import memory
from launcher.system.processes import login
from tests.build import lines_of, shell, until
from tests.e2e.machine import Machine, Program, a_machine
from tests.nvml.standin import Devices

CORES = 2
# says in $1 that it runs; ends, and says so, as soon as somebody opens the pipe $2
WORKS = 'echo start >>"$1"; touch "$3"; read line <"$2"; echo end >>"$1"'


@pytest.fixture
def homes(tmp_path: Path, gpus: Devices) -> Iterator[tuple[Machine, Machine]]:
    """Two homes of one user on a machine of few cores."""
    claims, places = tmp_path / "claims", [tmp_path / "one", tmp_path / "other"]
    for folder in (claims, *places):
        folder.mkdir()
    with ExitStack() as stack:
        one, other = (
            stack.enter_context(a_machine(place, gpus, claims=claims)) for place in places
        )
        for home in (one, other):
            home.serve(CORES)
        yield one, other


def at_once(journal: Path) -> list[int]:
    """Return how many programs ran after each of their starts and ends."""
    steps = [1 if line == "start" else -1 for line in lines_of(journal)]
    return [sum(steps[: number + 1]) for number in range(len(steps))]


def works(home: Machine, journal: Path, ram: str = "0GiB") -> Program:
    """Queue a program that runs until it is let go."""
    said, gate = home.places()
    job = home.add(*shell(WORKS, str(journal), str(gate), str(said)), ram=ram)
    return Program(job=job, said=said, gate=gate)


def test_two_homes_never_run_more_jobs_than_the_machine_has_cores(
    homes: tuple[Machine, Machine], tmp_path: Path
) -> None:
    journal = tmp_path / "journal"
    queued = [(home, works(home, journal)) for _ in range(3) for home in homes]
    until(lambda: at_once(journal)[-1:] == [CORES], "all cores are busy")
    home, waiting = next(one for one in queued if not one[1].started)
    me = login(os.geteuid())
    home.until_told(waiting.job, f"of {CORES} cores are promised to jobs of another home of {me}")

    left = list(queued)
    while left:
        until(lambda: any(program.started for _, program in left), "one more runs")
        home, program = next(one for one in left if one[1].started)
        program.let_go()
        home.until_state(program.job, "done")
        left.remove((home, program))

    assert max(at_once(journal)) == CORES
    assert lines_of(journal).count("start") == len(queued)


def test_two_homes_never_promise_more_main_memory_than_the_machine_has(
    homes: tuple[Machine, Machine], tmp_path: Path
) -> None:
    one, other = homes
    total = memory.total() >> 20  # not all of which is unused while other tests run
    journal = tmp_path / "journal"
    first = works(one, journal, ram=f"{round(total * 0.55)}MiB")
    until(lambda: first.started, "the first runs")
    second = works(other, journal, ram=f"{round(total * 0.5)}MiB")
    other.until_told(second.job, "of memory", "are promised to jobs of another home of")
    assert not second.started
    first.let_go()
    until(lambda: second.started, "its memory was given back")
    second.let_go()
    other.until_state(second.job, "done")


def test_where_promises_cannot_be_told_jobs_start_and_the_screen_says_so(
    homes: tuple[Machine, Machine], tmp_path: Path
) -> None:
    one, _ = homes
    (tmp_path / "claims").rmdir()
    first = works(one, tmp_path / "journal")
    until(lambda: first.started, "it starts all the same")
    told = "warning: other launchers may give the same cores and GPU memory away"
    until(lambda: told in " ".join(one.call("top", "--once").stdout.split()), "the screen says so")
    (tmp_path / "claims").mkdir()
    first.let_go()
    until(lambda: told not in " ".join(one.call("top", "--once").stdout.split()), "it is over")
