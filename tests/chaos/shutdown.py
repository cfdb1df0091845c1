"""SIGTERM to everything, as at a reboot: python -m tests.chaos.shutdown [--rounds 200] [--seed 1].

In each round all processes of a queue get SIGTERM one after another, in every order, with and
without a pause between two of them. Then the queue starts again. No job may fail because of it.
"""

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click

from benchmarks.measured import record
from launcher.queue.home.daemon_control import scheduler_pid, wake
from launcher.queue.home.paths import Attempt, Home, make_home
from launcher.queue.home.scheduler_start import ensure_scheduler
from launcher.queue.jobs.job import CPU, Resources, Terms
from launcher.queue.jobs.states import ENDED_STATES, State
from launcher.queue.store.queue import Store
from launcher.queue.workers.attempt_journal import read_recorded_outcome
from launcher.system.processes import Identity, identity_from_record, is_alive
from tests.build import a_spec, end_everything, enqueue, job_row, lines_of, on_record, shell
from tests.chaos.census import Role, census, send_exactly
from tests.chaos.commands import LAUNCHER
from tests.chaos.outside import facts

FOR_EVER = "echo ready; while :; do sleep 1000 & wait; done"
PROGRAMS = {  # reactions of a program to SIGTERM
    "dies": "echo ready; exec sleep 1000",
    "ends-with-0": f"trap 'exit 0' TERM; {FOR_EVER}",
    "ends-with-1": f"trap 'exit 1' TERM; {FOR_EVER}",
    "saves": f"trap 'sleep 0.3; exit 143' TERM; {FOR_EVER}",
}
ORDERS = ("frozen supervisors", "programs", "supervisors", "scheduler", "by chance")
GAPS_S = (0.0, 0.001, 0.02)  # between two signals
FROZEN_S = 0.1
GRACE_S = 20.0
DEADLINE_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Toll:
    """Effect of the rounds on the jobs."""

    rounds: int
    failed: tuple[str, ...]  # a line for each job
    endings: Counter[str]  # of attempts
    status: str  # output of `launcher status` at the end

    @property
    def line(self) -> str:
        """All of it in one line."""
        endings = ", ".join(f"{n} {ending}" for ending, n in self.endings.most_common())
        return f"shutdown: {self.rounds} rounds, {len(self.failed)} failed; attempts: {endings}"


def shut_down(place: Path, *, rounds: int, seed: int) -> Toll:
    """Run the rounds in an empty folder.

    Raises:
        TimeoutError: the queue does not go on.
    """
    home, chance = Home(place / "home"), random.Random(seed)
    make_home(home)
    store = Store(home, durable=False)
    jobs: dict[str, int] = {}
    try:
        for number in range(rounds):
            for name in PROGRAMS:
                if name not in jobs or job_row(store, jobs[name]).state in ENDED_STATES:
                    jobs[name] = _add(store, name, number)
            _round(home, store, list(jobs.values()), ORDERS[number % len(ORDERS)], chance)
        return _judged(home, rounds)
    finally:
        store.close()
        end_everything(home)


def _round(home: Home, store: Store, jobs: list[int], order: str, chance: random.Random) -> None:
    """Let all jobs run, signal everything, and have what became of it taken in."""
    ensure_scheduler(home)
    wake(home)
    attempts = [_running(home, store, job) for job in jobs]
    frozen = _of(home, Role.SUPERVISOR) if order.startswith("frozen") else []
    for who in frozen:
        send_exactly(who, signal.SIGSTOP)
    gap_s = chance.choice(GAPS_S)
    for who in _in_order(home, attempts, order, chance):
        send_exactly(who, signal.SIGTERM)
        time.sleep(gap_s)
    if frozen:
        time.sleep(FROZEN_S)
    for who in frozen:
        send_exactly(who, signal.SIGCONT)
    _until(lambda: scheduler_pid(home) is None, "the scheduler has left")
    _until(lambda: all(map(read_recorded_outcome, attempts)), "all attempts have ended")
    ensure_scheduler(home)
    _until(lambda: all(_taken_in(store, one) for one in attempts), "all ends are taken in")


def _in_order(
    home: Home, attempts: list[Attempt], order: str, chance: random.Random
) -> list[Identity]:
    """Return all processes of the queue in the order in which they are signalled."""
    groups = {
        "programs": [who for one in attempts if (who := _program(one))],
        "supervisors": _of(home, Role.SUPERVISOR),
        "scheduler": _of(home, Role.SCHEDULER) + _of(home, Role.FORK_SERVER),
    }
    if order not in groups:
        everybody = [who for group in groups.values() for who in group]
        return chance.sample(everybody, len(everybody))
    first, *rest = sorted(groups, key=lambda name: (name != order, chance.random()))
    return [who for name in (first, *rest) for who in groups[name]]


def _running(home: Home, store: Store, job: int) -> Attempt:
    """Wait until a job's program runs and has set its trap."""
    _until(lambda: job_row(store, job).state is State.RUNNING, f"job {job} runs")
    attempt = home.attempt(job, job_row(store, job).attempts)
    _until(lambda: "ready" in lines_of(attempt.log), f"the program of job {job} is ready")
    _until(lambda: _program(attempt), f"the program of job {job} is on record")
    return attempt


def _program(attempt: Attempt) -> Identity | None:
    lines = on_record(attempt)
    who = identity_from_record(json.loads(lines[1])) if len(lines) > 1 else None
    return who if who is not None and is_alive(who) else None


def _of(home: Home, role: Role) -> list[Identity]:
    return [one.who for one in census(home.folder, Path(os.devnull)) if one.role is role]


def _taken_in(store: Store, attempt: Attempt) -> bool:
    job, _, number = attempt.folder.name.partition("-")
    rows = store.read.attempts([int(job)])
    return any(row.number == int(number) and row.outcome for row in rows)


def _add(store: Store, name: str, number: int) -> int:
    spec = a_spec(
        *shell(PROGRAMS[name]),
        name=f"command/{name}-{number}",
        resources=Resources(cpus=0, device=CPU),  # all of them run at once on any machine
        terms=Terms(grace_s=GRACE_S),
    )
    (job,) = enqueue(store, spec, run="shutdown")
    return job


def _judged(home: Home, rounds: int) -> Toll:
    found = facts(home)
    return Toll(
        rounds=rounds,
        failed=tuple(
            f"{one.name}: {one.reason}" for one in found.values() if one.state == State.FAILED
        ),
        endings=Counter(one.ending for fact in found.values() for one in fact.attempts),
        status=subprocess.run(
            [LAUNCHER, "status"],
            env={**os.environ, "LAUNCHER_HOME": str(home.folder)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout,
    )


def _until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {DEADLINE_S:g} s in vain until {what}")
        time.sleep(0.005)


@click.command()
@click.option("--rounds", type=click.IntRange(min=1), default=200, show_default=True)
@click.option("--seed", type=int, default=1, show_default=True)
def main(rounds: int, seed: int) -> None:
    """Shut a queue down again and again, and count the jobs that failed of it."""
    with tempfile.TemporaryDirectory(prefix="shutdown-") as place:
        toll = shut_down(Path(place), rounds=rounds, seed=seed)
    click.echo(toll.status.rstrip())
    for line in toll.failed:
        click.echo(line, err=True)
    click.echo(toll.line)
    counts = {"attempts": toll.endings.total(), "failed jobs": len(toll.failed)}
    counts |= {f"attempts {ending}": toll.endings[ending] for ending in ("done", "stopped")}
    values = {f"{rounds:,} rounds, {what}": (f"{count:,}", "") for what, count in counts.items()}
    record("reliability", values)
    sys.exit(1 if toll.failed else 0)


if __name__ == "__main__":
    main()
