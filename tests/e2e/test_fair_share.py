"""Two users with a queue each on the same GPUs: nobody waits for the whole queue of the other."""

import os
import secrets
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


def queue_many(
    person: Machine, count: int, *, argv: tuple[str, ...] = (), **resources: object
) -> list[int]:
    """Queue short jobs in one transaction, and wake the scheduler."""
    asked = Resources(**resources)  # type: ignore[arg-type]  # as the test says
    argv = argv or shell(QUICK, str(GIB))
    name = secrets.token_hex(4)
    specs = [a_spec(*argv, name=f"command/{name}-{n}", resources=asked) for n in range(count)]
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


SPAN = (
    f"{TAKE} b=$(date +%s%N); sleep 0.1; "
    'echo "$CUDA_VISIBLE_DEVICES $b $(date +%s%N)" >"$2/.$$" && mv "$2/.$$" "$2/$$.$3"'
)


def test_exclusive_jobs_and_jobs_of_other_users_are_on_no_card_at_the_same_time(
    people: tuple[Machine, Machine], gpus: Devices, tmp_path: Path
) -> None:
    one, other = people
    for _ in range(2):
        gpus.add(24 * GIB, used=0)
    spans = tmp_path / "spans"
    spans.mkdir()
    spans.chmod(0o1777)
    count = 6

    def queue(person: Machine, whose: str, **resources: object) -> list[int]:
        argv = shell(SPAN, str(GIB // 4), str(spans), whose)
        return queue_many(person, count, argv=argv, device="cuda", **resources)

    queue(one, "exclusive", exclusive=True, min_vram=GIB)
    queue(one, "unknown-exclusive", exclusive=True)
    words = shell(SPAN, str(GIB // 4), str(spans), "theirs")
    for vram in (("--vram=0.5GiB",), ()):
        for _ in range(3):
            other.call("add", "--gpus=1", *vram, "--", *words)
    until(lambda: len([*spans.glob("[0-9]*")]) >= 2 * count + 6, "all are done")

    seen = [(file.suffix, *file.read_text().split()) for file in spans.glob("[0-9]*")]
    for kind, card, begin, end in seen:
        beside = [
            other_kind
            for other_kind, other_card, other_begin, other_end in seen
            if other_card == card and other_begin < end and begin < other_end
        ]
        assert kind == ".theirs" or len(beside) == 1, "it shared its card"
