"""The jobs of a proof: each writes its output into its run, and stamps its start and its end into one file."""

import os
import sys
import time
from pathlib import Path

from launcher.queue.home.paths import find_home, make_home
from launcher.queue.jobs.context import Context
from launcher.queue.jobs.job import Resources, Spec, Terms
from launcher.queue.store.client import wake_or_start_scheduler
from launcher.queue.store.queue import NewJob, Store

KIND, RUN, MODULE = "work", "proof", "clusterlab"
# stamps are not sent to the launcher, so they also count bodies that it has lost
SOURCE = """
import os
import time

from launcher.api import JobError, write_atomic


def stamp(job, what, number):
    line = f"{what} {job.model} {number} {os.getpid()} {time.time_ns()}\\n".encode()
    file = os.open(job.settings["stamps"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(file, line)
    finally:
        os.close(file)


def work(job):
    number = int(job.attempt_folder.name.rpartition("-")[2])
    stamp(job, "start", number)
    job.outputs[0].parent.mkdir(parents=True, exist_ok=True)
    write_atomic(job.outputs[0], f"{number} begun")
    if job.stop.wait(job.settings["seconds"]):
        stamp(job, "failed", number)
        raise JobError("stopped")
    write_atomic(job.outputs[0], str(number))
    stamp(job, "done", number)
    return {"attempt": number}
"""


def make_laboratory(project: Path) -> None:
    """Make a project whose jobs these are."""
    project.mkdir()
    (project / f"{MODULE}.py").write_text(SOURCE, encoding="ascii")


def output_of(project: Path, model: str) -> Path:
    """Return what the job of a model leaves: a text that is the number of its attempt."""
    return project / "runs" / RUN / model / "attempt.txt"


def spec_of(project: Path, model: str, seconds: float, on: str) -> Spec:
    """Return the job of a model.

    Args:
        project: where its runs lie.
        model: its name.
        seconds: so long it takes.
        on: the backend that runs it.
    """
    return Spec(
        name=f"{KIND}/{model}",
        kind=KIND,
        role="plain",
        run=RUN,
        root=str(project),
        entry=f"{MODULE}:work",
        model=model,
        outputs=(str(output_of(project, model)),),
        settings={"seconds": seconds, "stamps": str(project / "stamps")},
        resources=Resources(device="cpu"),
        terms=Terms(on=(on,)),
    )


def names(count: int) -> list[str]:
    """Return the models of so many jobs."""
    return [f"m{number:04}:pre" for number in range(1, count + 1)]


def main(project: Path, count: int, seconds: float, on: str) -> None:
    """Queue jobs in one transaction, and see that a scheduler lives."""
    home = find_home(os.environ)
    make_home(home)
    context = Context(
        folder=str(project),
        umask=0o022,
        interpreter=sys.executable,
        environment={"PATH": os.environ["PATH"], "PYTHONPATH": str(project)},
        affinity=(),
    )
    store = Store(home)
    with store.database.writing():
        jobs = [NewJob(spec=spec_of(project, model, seconds, on)) for model in names(count)]
        store.insert_new(store.ensure_run(project, RUN), context, jobs, time.time())
    store.close()
    wake_or_start_scheduler(home)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), sys.argv[4])
