"""Two users with a queue each on the same GPUs: nobody waits for the whole queue of the other."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.job import Resources
from launcher.store.queue import Store
from launcher.system.daemon_control import wake
from tests.build import a_context, a_spec, enqueue, shell, until
from tests.e2e.machine import Machine, two_people
from tests.nvml.standin import GIB, TAKE, Devices

QUICK = f"{TAKE} sleep 0.5"
MANY = 60  # jobs of which a test sees a few


@pytest.fixture
def people(tmp_path: Path, gpus: Devices) -> Iterator[tuple[Machine, Machine]]:
    """Two users with a queue each."""
    with two_people(tmp_path, gpus) as both:
        yield both


def queue_many(person: Machine, count: int, **resources: object) -> list[int]:
    """Queue short jobs in one transaction, and wake the scheduler."""
    asked = Resources(**resources)  # type: ignore[arg-type]  # as the test says
    argv = shell(QUICK, str(GIB))
    specs = [a_spec(*argv, name=f"command/{n}", resources=asked) for n in range(count)]
    store = Store(person.project.home)
    try:
        environment = {**os.environ, **person.project.environment}
        jobs = enqueue(store, *specs, context=a_context("/", environment=environment))
    finally:
        store.close()
    wake(person.project.home)
    return jobs


def test_a_few_jobs_of_one_user_do_not_wait_for_the_whole_queue_of_another(
    people: tuple[Machine, Machine], gpus: Devices
) -> None:
    one, other = people
    for _ in range(2):
        gpus.add(24 * GIB, used=0)
    many = queue_many(one, MANY, device="cuda", min_vram=20 * GIB)
    until(lambda: one.state(many[2]) == "done", "the first user's queue runs")

    few = [other.add(*shell(QUICK, str(GIB)), gpus=1, vram="20GiB") for _ in range(3)]

    until(lambda: all(other.state(job) == "done" for job in few), "the few are done")
    assert one.state(many[-1]) == "queued", "they waited for the whole queue"
