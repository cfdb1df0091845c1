"""Jobs that were queued again under their names, as `launcher add`, `retry` and task files do it."""

from launcher.queue.home.paths import Home
from launcher.queue.jobs.job import Spec
from launcher.queue.jobs.states import Done, Failed, Outcome
from launcher.queue.store.job_names import superseded_name
from launcher.queue.store.queue import Store
from launcher.queue.workers.attempt_spec import attempt_spec_text
from launcher.system.files import Json
from tests.build import a_spec, claimed, enqueue, finished

RUN = "fix"
FAILED = Failed(at=2.0, error="no")


def a_seed(seed: int, *, name: str = "s", **params: Json) -> Spec:
    """Return a program of a sweep over seeds."""
    settings = {"params": {**params, "seed": seed}}
    return a_spec("python", "t.py", name=f"command/{name}@seed={seed}", settings=settings)


def add(store: Store, spec: Spec, outcome: Outcome | None = None) -> int:
    """Queue a program under its name, which an ended job loses; end it with the outcome, and return its number."""
    run = store.read.find_run("/nowhere", RUN)
    if holder := store.read.find_job(run, spec.name):
        with store.database.writing():
            store.job_control.rename_ended(holder.id, superseded_name(spec.name, holder.id))
    (job,) = enqueue(store, spec, run=RUN)
    if outcome is not None:
        finished(store, job, outcome)
    return job


def done(store: Store, home: Home, spec: Spec, accuracy: float) -> int:
    """Queue a program under its name, finish it with a result, and return its number."""
    job = add(store, spec)
    claim = claimed(store, job)
    attempt = home.attempt(job, claim.number)
    attempt.folder.mkdir(parents=True)
    order = attempt_spec_text(
        job=job,
        attempt_number=claim.number,
        device="cpu",
        cpus=1,
        spec_text=claim.spec_text,
        context_text="{}",
    )
    attempt.spec.write_text(order)
    store.transitions.finish_attempt(
        claim, Done(at=2.0, result={"acc": accuracy}), outputs={}, now=2.0
    )
    return job
