"""Queue a portion of jobs in one transaction: python -m tests.chaos.enqueue FILE.

FILE holds {"folder": …, "jobs": […]} as JSON; the home is the environment's. It works like a
command, and may be killed at any time.
"""

import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from launcher.queue.home.daemon_control import wake
from launcher.queue.home.paths import find_home, make_home
from launcher.queue.home.scheduler_start import ensure_scheduler
from launcher.queue.jobs.context import current_context
from launcher.queue.jobs.job import Resources, Spec, Terms
from launcher.queue.jobs.states import State
from launcher.queue.store.queue import NewJob, Store
from tests.chaos.program import argv
from tests.chaos.recipe import BACKOFF_S, Recipe

KIND = "command"


def write_portion(file: Path, folder: Path, recipes: Sequence[Recipe]) -> None:
    """Write what `main` reads."""
    record = {"folder": str(folder), "jobs": [asdict(one) for one in recipes]}
    file.write_text(json.dumps(record), encoding="utf-8")


def spec_of(recipe: Recipe, folder: Path, run: str) -> Spec:
    """Return the job that a recipe describes."""
    return Spec(
        name=f"{KIND}/{recipe.name}",
        kind=KIND,
        role="plain",
        run=run,
        root=str(folder),
        argv=argv(
            folder,
            recipe.name,
            sleep_ms=recipe.sleep_ms,
            exit_code=recipe.exit_code,
            failures=recipe.failures,
        ),
        resources=Resources(device="cpu"),
        terms=Terms(
            retries=recipe.retries,
            backoff_s=BACKOFF_S,
            rerun="never" if recipe.once else "again",
        ),
        priority=recipe.priority,
    )


def queue(store: Store, folder: Path, recipes: Sequence[Recipe], run: str) -> None:
    """Queue all of them or none."""
    with store.database.writing():
        first = store.next_job_number()
        numbers = {recipe.name: first + index for index, recipe in enumerate(recipes)}
        jobs = [
            NewJob(
                spec=spec_of(recipe, folder, run),
                state=State.HELD if recipe.held else State.QUEUED,
                dependencies=tuple(numbers[need] for need in recipe.needs),
            )
            for recipe in recipes
        ]
        store.insert_new(
            store.ensure_run(folder, run), current_context(os.environ), jobs, time.time()
        )


def main(words: Sequence[str]) -> int:
    """Queue what a file describes, and see that a scheduler lives."""
    file = Path(words[0])
    record = json.loads(file.read_text(encoding="utf-8"))
    recipes = [Recipe(**{**one, "needs": tuple(one["needs"])}) for one in record["jobs"]]
    home = find_home(os.environ)
    make_home(home)
    store = Store(home)
    queue(store, Path(record["folder"]), recipes, file.stem)
    store.close()
    ensure_scheduler(home)
    wake(home)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
