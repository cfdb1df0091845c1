"""Short builders of queued jobs and their outcomes, for tests of the store and the scheduler."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from launcher.queue.home.daemon_control import wake
from launcher.queue.home.paths import Home
from launcher.queue.home.scheduler_start import ensure_scheduler
from launcher.queue.jobs.job import Terms
from launcher.queue.jobs.states import Done, Failed, Lost, NeverStarted, Outcome, State, Stopped
from launcher.queue.store.queue import Store
from launcher.queue.store.rows import Claim
from tests.build import a_seat, a_spec, claimed, enqueue, in_state, shell, until

DONE, FAILED, STOPPED = Done(at=2.0), Failed(at=2.0, error="no"), Stopped(at=2.0)
LOST, VOID = Lost(at=2.0, why="?"), NeverStarted(at=2.0)


def put(
    store: Store,
    names: Iterable[str] = "1",
    /,
    *,
    run: str = "test",
    needs: dict[str, str] | None = None,
    after_any: dict[str, str] | None = None,
    **asked: Any,
) -> list[int]:
    """Queue commands with the same request. Dependencies are letters, as in `{"c": "ab"}`."""
    terms = {key: asked.pop(key) for key in Terms._fields if key in asked}
    changes = asked | ({"terms": Terms(**terms)} if terms else {})

    def whole(wanted: dict[str, str] | None) -> dict[str, list[str]]:
        return {
            f"command/{name}": [f"command/{each}" for each in those]
            for name, those in (wanted or {}).items()
        }

    specs = [a_spec(name=f"command/{name}", **changes) for name in names]
    return enqueue(store, *specs, run=run, needs=whole(needs), after_any=whole(after_any))


def one(store: Store, name: str = "1", **asked: Any) -> int:
    """Queue a command."""
    (job,) = put(store, [name], **asked)
    return job


def seated(store: Store, job: int, now: float = 1.0, **seat: Any) -> Claim:
    """Claim a job for a place with more than a core."""
    claim = store.claims.claim(job, a_seat(**seat), reason="fits", now=now)
    assert claim is not None
    return claim


def end(
    store: Store, job: int | Claim, outcome: Outcome = DONE, now: float = 3.0, **how: Any
) -> State | None:
    """Record the end of an attempt; a job is claimed first."""
    claim = claimed(store, job) if isinstance(job, int) else job
    return store.transitions.finish_attempt(claim, outcome, outputs={}, now=now, **how)


def ready(store: Store, each: int = 10) -> list[int]:
    """Return the jobs that could start, in their order."""
    return [job.id for job in store.ready_jobs.read_ready(each)]


def states(store: Store) -> str:
    """Return the states of all jobs."""
    return " ".join(job.state for job in store.read.jobs())


def serve(home: Home) -> int:
    """Start a scheduler if none is running, wake it, and return its pid."""
    pid = ensure_scheduler(home)
    wake(home)
    return pid


def until_in(store: Store, state: State, *jobs: int) -> None:
    """Wait until jobs are in a state."""
    until(lambda: all(in_state(store, job, state) for job in jobs), f"jobs {jobs} are {state}")


def until_done(store: Store, *jobs: int) -> None:
    """Wait until jobs are done."""
    until_in(store, State.DONE, *jobs)


def waits_for(gate: Path) -> tuple[str, ...]:
    """A program that ends when a file is there."""
    return shell('until [ -e "$1" ]; do sleep 0.01; done', str(gate))
