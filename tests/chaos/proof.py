"""The proof itself: queue jobs, kill all that serves them again and again, then judge."""

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from launcher.queue.home.paths import Home
from launcher.system.files import write_json
from tests.chaos.audit import Findings, audit
from tests.chaos.census import census
from tests.chaos.commands import People, delays_file, keep_going, surroundings
from tests.chaos.killer import Killer
from tests.chaos.outside import facts, still_open
from tests.chaos.program import lines_of, make_program, read_stamps
from tests.chaos.recipe import LONG_SHARE, Recipe, vram_limits

PORTION = 40  # most jobs that one command queues
DELAY_S = 0.5  # longest way of a supervisor to its right to start
MOST_OPEN = 150  # no more is queued while so many wait
SETTLE_S = 50.0  # for the remaining jobs after the last kill
TIRED_S = 60.0  # time from the last queued job to the end of the kills
NO_DELAY = (
    "no supervisor was delayed: there were too few jobs, or tests/chaos/site knows a process or a file of the"
    " launcher by a name that it no longer has"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Result of a proof."""

    jobs: int
    kills: int
    delays: int  # supervisors that lost time on their way to their right to start
    seconds: float
    findings: Findings
    complaints: tuple[str, ...]
    strikes: Mapping[str, int]  # kills by what they aimed at
    endings: Mapping[str, int]  # attempts by how they ended

    @property
    def faults(self) -> tuple[str, ...]:
        """Faults, one line each."""
        if self.delays:
            return self.findings.lines
        return (NO_DELAY, *self.findings.lines)

    @property
    def line(self) -> str:
        """The report in one line."""
        found = self.findings
        return (
            f"chaos: {self.jobs} jobs, {self.kills} kills, {self.delays} delays,"
            f" {len(found.lost)} lost, {len(found.doubled)} doubled, {len(found.overlaps)} overlaps,"
            f" {len(found.unexplained)} unexplained, {self.seconds:.0f} s"
        )


def prove(
    place: Path,
    *,
    jobs: int,
    seconds: float,
    seed: int,
    guard: bool,
    long_share: float = LONG_SHARE,
) -> Report:
    """Run a proof in an empty folder.

    Args:
        place: Folder for the queue folder, the program and its records.
        jobs: at least so many.
        seconds: new jobs are queued for at least so long.
        seed: of all that is drawn here; what happens when is the machine's choice.
        guard: False: `started` is not created exclusively, and the proof must fail.
        long_share: of the jobs that last so long that the next scheduler meets them alive.
    """
    home = Home(place / "home")
    program = make_program(place)
    environment = surroundings(home, guard=guard, delay_s=DELAY_S)
    people = People(home, place, environment, random.Random(f"people {seed}"))
    killer = Killer(home, program, random.Random(f"killer {seed}"), Event())
    drawn = vram_limits(random.Random(seed), PORTION, long_share)
    began = time.monotonic()
    try:
        recipes = _torment(people, killer, drawn, jobs=jobs, until=began + seconds)
        people.wait(SETTLE_S)
        found = facts(home)
    finally:
        end_all(home, program)
    kills, delays = [*killer.kills, *people.kills], delays_file(home)
    return Report(
        jobs=len(found),
        kills=len(kills),
        delays=len(delays.read_bytes()) if delays.exists() else 0,
        seconds=time.monotonic() - began,
        findings=audit(
            found,
            read_stamps(lines_of(place)),
            kills,
            promised=people.promised | people.torn,
            once={one.name for one in recipes if one.once},
        ),
        complaints=(*people.complaints, *_errors(home)),
        strikes=Counter(kill.strike for kill in kills),
        endings=Counter(one.ending for fact in found.values() for one in fact.attempts),
    )


def _errors(home: Home) -> set[str]:
    """Return what exceptions of our own processes end with in the scheduler's log."""
    errors: set[str] = set()
    inside = False
    for line in home.scheduler_log.read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith("Traceback "):
            inside = True
        elif inside and not line.startswith(" "):
            errors.add(f"in the scheduler's log: {line}")
            inside = False
    return errors


def _torment(
    people: People, killer: Killer, drawn: Iterator[list[Recipe]], *, jobs: int, until: float
) -> list[Recipe]:
    """Queue jobs while all that serves them is killed; return them when they have ended."""
    with ThreadPoolExecutor() as threads:
        busy = [
            threads.submit(killer.strike_on),
            threads.submit(keep_going, people, killer.resting),
        ]
        try:
            recipes = _queue(people, drawn, jobs=jobs, until=until)
            _until(lambda: not still_open(people.home), TIRED_S)
        finally:
            killer.resting.set()
    for one in busy:
        one.result()  # a killer that failed has proved nothing
    return recipes


def _queue(
    people: People, drawn: Iterator[list[Recipe]], *, jobs: int, until: float
) -> list[Recipe]:
    """Queue portions until there are enough jobs and the time is over; return them all."""
    recipes: list[Recipe] = []
    while len(recipes) < jobs or time.monotonic() < until:
        vram_limit = next(drawn)
        if time.monotonic() >= until:
            vram_limit = vram_limit[: jobs - len(recipes)]
        recipes += vram_limit
        people.queue(vram_limit)
        _until(lambda: still_open(people.home) <= MOST_OPEN, TIRED_S)
    return recipes


def _until(condition: Callable[[], bool], timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)


def end_all(home: Home, program: Path) -> None:
    """Kill all that lives of a home, and let nobody restart it."""
    if home.folder.exists():
        write_json(home.stop_record, {"schema": 1, "now": False, "at": 0.0})
    while found := census(home.folder, program):
        for one in found:
            one.kill()
        time.sleep(0.01)
