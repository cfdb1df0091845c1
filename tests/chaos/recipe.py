"""Random jobs of a proof, drawn from a seed, with the expected end of each."""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from launcher.queue.jobs.states import State

SHORT_MS, LONG_MS = (0, 50), (200, 1500)  # the long ones are met alive by the next scheduler
LONG_SHARE = 0.12
ALONE = 0.5  # the share of portions of a single job
BACKOFF_S = 0.05
CODE = 3  # exit code of a failing program


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """One job: what its program does and on which terms."""

    name: str
    sleep_ms: int = 0
    exit_code: int = 0
    failures: int = 0  # its first attempts fail, this many
    retries: int = 0
    needs: tuple[str, ...] = ()  # names of earlier recipes of the same portion
    priority: int = 0
    held: bool = False
    once: bool = False  # never again after a lost attempt


def vram_limits(chance: random.Random, size: int, long_share: float) -> Iterator[list[Recipe]]:
    """Yield portions of up to `size` jobs without end; needs stay within a portion."""
    number = 0
    while True:
        vram_limit: list[Recipe] = []
        for _ in range(1 if chance.random() < ALONE else chance.randint(2, size)):
            number += 1
            earlier = [one.name for one in vram_limit]
            vram_limit.append(_recipe(chance, f"j{number:05}", earlier, long_share))
        yield vram_limit


def _recipe(chance: random.Random, name: str, earlier: list[str], long_share: float) -> Recipe:
    drawn = chance.random()
    return Recipe(
        name=name,
        sleep_ms=_sleep_ms(chance, long_share),
        exit_code=CODE if drawn < 0.06 else 0,
        failures=1 if 0.06 <= drawn < 0.14 else 0,
        retries=2 if drawn >= 0.06 and chance.random() < 0.7 else 0,
        needs=tuple(chance.sample(earlier, min(len(earlier), chance.choice((0, 0, 0, 1, 2))))),
        priority=chance.choice((0, 0, 0, 5, -5)),
        once=chance.random() < 0.05,
    )


def _sleep_ms(chance: random.Random, long_share: float) -> int:
    return chance.randint(*(LONG_MS if chance.random() < long_share else SHORT_MS))


def night(chance: random.Random, jobs: int) -> list[Recipe]:
    """Return a night's jobs: failures, needs, priorities and holds, in one portion."""
    recipes: list[Recipe] = []
    for number in range(1, jobs + 1):
        drawn = chance.random()
        earlier = [one.name for one in recipes[-20:]]
        recipes.append(
            Recipe(
                name=f"n{number:05}",
                sleep_ms=_sleep_ms(chance, LONG_SHARE),
                exit_code=CODE if drawn < 0.05 else 0,
                failures=1 if 0.05 <= drawn < 0.15 else 0,
                retries=2 if drawn < 0.15 else 0,
                needs=tuple(chance.sample(earlier, min(len(earlier), chance.choice((0, 0, 1, 2))))),
                priority=chance.choice((0, 0, 10, -10)),
                held=chance.random() < 0.08,
            )
        )
    return recipes


def foretold(recipes: list[Recipe], released: frozenset[str]) -> dict[str, State]:
    """Return the state in which each job must be when nothing can go on any more.

    Args:
        recipes: each one's needs come before it.
        released: names of held jobs that somebody releases.
    """
    states: dict[str, State] = {}
    for one in recipes:
        before = {states[need] for need in one.needs}
        if before & {State.FAILED, State.SKIPPED}:
            states[one.name] = State.SKIPPED
        elif one.held and one.name not in released:
            states[one.name] = State.HELD
        elif before - {State.DONE}:  # waits for what waits for a person
            states[one.name] = State.QUEUED
        else:
            failed = one.exit_code != 0 or one.failures > one.retries
            states[one.name] = State.FAILED if failed else State.DONE
    return states
