"""A queue to look at."""

import time

import pytest

from launcher.frontends.screens import job_changes
from launcher.queue.home.paths import Home
from launcher.queue.jobs.states import Failed
from launcher.queue.store.queue import Store
from tests.build import a_spec, claimed, enqueue
from tests.top import report


@pytest.fixture
def jobs(home: Home, store: Store, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Two running jobs, one of which has reported its progress, two waiting jobs, and a failed one.

    A scheduler would find that nothing of the first two runs, so that none is started.
    """
    monkeypatch.setattr(job_changes, "ensure_scheduler", lambda _: None)
    names = ("train/a", "train/b", "train/c", "test/c", "train/d")
    jobs = enqueue(
        store,
        *(a_spec(name=name, settings={"lr": 0.1}) for name in names),
        needs={"test/c": ["train/c"]},
    )
    for job in (jobs[0], jobs[1]):
        home.attempt(job, 1).folder.mkdir(parents=True)
        claimed(store, job, time.time())
    failed = Failed(at=time.time(), error="KeyError: 'lr'", exit_code=1)
    claim = claimed(store, jobs[4], time.time())
    store.transitions.finish_attempt(claim, failed, outputs={}, now=time.time())
    attempt = home.attempt(jobs[0], 1)
    attempt.log.write_text("".join(f"epoch {number}\n" for number in range(1, 101)))
    report(home, jobs[0], *range(1, 31))
    return jobs
