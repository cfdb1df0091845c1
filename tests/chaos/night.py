"""A night in small: python -m tests.chaos.night [--jobs 300] [--seed 1].

The jobs have failures, dependencies, priorities and holds. All processes of the queue are killed and restarted five
times. At the end each job must be in the state that its recipe predicts.
"""

import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from launcher.queue.home.paths import Home
from launcher.queue.jobs.states import State
from tests.chaos.audit import Findings, audit
from tests.chaos.census import Role, census, send_exactly
from tests.chaos.commands import People, surroundings
from tests.chaos.killer import Kill
from tests.chaos.outside import Fact, facts
from tests.chaos.program import lines_of, make_program, read_stamps
from tests.chaos.proof import end_all
from tests.chaos.recipe import foretold, night

DEATHS = 5
DEADLINE_S = 300.0
LOOK_S = 5.0
GOES_ON_S = 0.5  # longest wait of the command that brings the queue back
RELEASED = 0.7  # the share of held jobs that somebody releases


@dataclass(frozen=True, slots=True, kw_only=True)
class Morning:
    """What is found at the end of a night."""

    status: str  # output of `launcher status`
    states: Mapping[str, int]
    deaths: int
    wrong: tuple[str, ...]


def sleep_through(place: Path, *, jobs: int, seed: int) -> Morning:
    """Run a night in an empty folder."""
    chance = random.Random(seed)
    recipes = night(chance, jobs)
    home = Home(place / "home")
    program = make_program(place)
    environment = surroundings(home, guard=True, delay_s=0)
    people = People(home, place, environment, chance, killed_share=0)
    held = [one.name for one in recipes if one.held]
    released = frozenset(one for one in held if chance.random() < RELEASED)
    deadline = time.monotonic() + DEADLINE_S
    try:
        people.queue(recipes)
        rest = sorted(released)
        for death in range(1, DEATHS + 1):
            _until_ended(home, jobs * death // (DEATHS + 2), people, deadline)
            people.kills += kill_everything(home, program)
            people.wait(GOES_ON_S)
            now, rest = rest[: jobs // 50], rest[jobs // 50 :]
            _release(people, now if death < DEATHS else [*now, *rest])
        expected = foretold(recipes, released)
        ends = sum(state not in {State.HELD, State.QUEUED} for state in expected.values())
        _until_ended(home, ends, people, deadline)
        status = people.say("status")
        found = facts(home)
        runs = read_stamps(lines_of(place))
    finally:
        end_all(home, program)
    findings = audit(found, runs, people.kills, promised=[one.name for one in recipes])
    return Morning(
        status=status,
        states=Counter(fact.state for fact in found.values()),
        deaths=DEATHS,
        wrong=(*_against(expected, found), *_faults(findings), *people.complaints),
    )


def kill_everything(home: Home, program: Path) -> list[Kill]:
    """Kill all at one instant: frozen first, so that nobody records another's death."""
    order = [Role.SCHEDULER, Role.FORK_SERVER, Role.SUPERVISOR, Role.PROGRAM]
    kills: list[Kill] = []
    while found := sorted(census(home.folder, program), key=lambda one: order.index(one.role)):
        frozen = 0
        while len(found) > frozen:  # the frozen bring forth nothing more
            for one in found:
                send_exactly(one.who, signal.SIGSTOP)
            frozen = len(found)
            found = census(home.folder, program)
        for one in found:
            at = one.kill()
            if at is not None:
                kills.append(Kill(pid=one.who.pid, at=at, strike="everything"))
        time.sleep(0.01)
    return kills


def _release(people: People, names: Sequence[str]) -> None:
    if names:
        people.say("release", *(f"command/{name}" for name in names))


def _until_ended(home: Home, count: int, people: People, deadline: float) -> None:
    """Wait until this number of jobs has ended. After the deadline the audit reports missing jobs."""
    looked = time.monotonic()
    while _ended(facts(home)) < count and time.monotonic() < deadline:
        time.sleep(0.1)
        if time.monotonic() - looked > LOOK_S:
            people.wait(0.5)  # as a person would look whether it goes on
            looked = time.monotonic()


def _ended(found: Mapping[str, Fact]) -> int:
    return sum(fact.state not in {"held", "queued", "running"} for fact in found.values())


def _against(expected: Mapping[str, State], found: Mapping[str, Fact]) -> list[str]:
    return [
        f"{name}: should be {state} and is {found[name].state} ({found[name].reason})"
        for name, state in expected.items()
        if name in found and found[name].state != state
    ]


def _faults(findings: Findings) -> tuple[str, ...]:
    """Return the findings of an audit, except jobs that wait as predicted."""
    missing = tuple(line for line in findings.lost if ": still " not in line)
    return (*missing, *findings.doubled, *findings.overlaps, *findings.unexplained)


@click.command()
@click.option("--jobs", type=click.IntRange(min=20), default=300, show_default=True)
@click.option("--seed", type=int, default=1, show_default=True)
def main(jobs: int, seed: int) -> None:
    """Let a queue work through a night in which all of it dies five times."""
    with tempfile.TemporaryDirectory(prefix="night-") as place:
        morning = sleep_through(Path(place), jobs=jobs, seed=seed)
    click.echo(morning.status.rstrip())
    for line in morning.wrong:
        click.echo(line, err=True)
    states = ", ".join(f"{n} {state}" for state, n in sorted(morning.states.items()))
    click.echo(f"night: {jobs} jobs, killed {morning.deaths} times: {states};", nl=False)
    click.echo(f" {len(morning.wrong)} not as foretold")
    sys.exit(1 if morning.wrong else 0)


if __name__ == "__main__":
    main()
