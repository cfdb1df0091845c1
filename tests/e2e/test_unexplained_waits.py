"""A card that nobody uses and that is not free: what is said of it, and that no job waits there for ever."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.machine import Machine, a_machine
from tests.nvml.standin import GIB, Devices

PATIENCE_S = 1.0


@pytest.fixture
def machine(tmp_path: Path, gpus: Devices) -> Iterator[Machine]:
    """A machine with a card of which an ended program has kept 3 GiB, and an impatient scheduler."""
    gpus.add(24 * GIB, used=3 * GIB)
    with a_machine(tmp_path, gpus) as machine:
        machine.serve(patience_s=PATIENCE_S)
        yield machine


def test_a_job_that_wants_a_card_for_itself_is_tried_there(machine: Machine, gpus: Devices) -> None:
    job = machine.hold(1, gpus=1)
    assert job.cards
    text = machine.told(job.job)
    assert "tried alone on cuda:0 with 21 GiB free: it waited for 1 s without a cause" in text
    assert "cuda:0 has 3 GiB in use by others" in text
    job.let_go()
    machine.until_state(job.job, "done")


def test_what_does_not_fit_is_named_everywhere_and_starts_when_there_is_room(
    machine: Machine, gpus: Devices
) -> None:
    job = machine.hold(1, gpus=1, vram="22GiB")
    reason = machine.until_told(job.job, "nothing explains that for 1 s or longer")
    assert "needs 22 GiB; cuda:0 has 21 GiB free" in reason
    assert "3 GiB of cuda:0 are in use, and the driver lists no process there" in reason
    for words in (("show", str(job.job)), ("status",), ("doctor",)):
        assert "nothing explains that" in " ".join(machine.call(*words).stdout.split())
    assert not job.started
    (card,) = machine.seen()
    gpus.set(card, used=0)
    assert job.cards == [card]
    log = (machine.project.folder / "scheduler.out").read_text()
    assert "unexplained wait: job=1 needs 22 GiB" in log
    job.let_go()
