"""Jobs that share a card: what is learned of them there."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.build import until
from tests.e2e.machine import Machine, Program, a_machine
from tests.nvml.standin import Devices


@pytest.fixture
def machine(gpus: Devices, tmp_path: Path) -> Iterator[Machine]:
    """A machine with one card."""
    gpus.add(used=0)
    with a_machine(tmp_path, gpus) as machine:
        yield machine


def test_mps_of_a_file_of_earlier_days_is_accepted_with_a_note(machine: Machine) -> None:
    machine.configure("[sharing]\nmps = true\n")
    note = "config.toml:2: sharing.mps has no effect any more"
    assert note in machine.call("gpus").stderr
    answer = machine.call("config")
    assert note in answer.stderr
    assert "sharing.mps" not in answer.stdout


# as HOLDING, and keeps its cards busy for $4 percent of the time
BUSY = """
for card in $(echo "$CUDA_VISIBLE_DEVICES" | tr , ' '); do echo "$card $1 $4"; done \
> "$STANDIN_TAKEN/.$$" && mv "$STANDIN_TAKEN/.$$" "$STANDIN_TAKEN/$$"
echo "$CUDA_VISIBLE_DEVICES" >"$2.tmp" && mv "$2.tmp" "$2"
read line <"$3" || true
"""


def test_jobs_that_were_seen_to_fill_a_card_are_not_put_together_again(machine: Machine) -> None:
    calls = machine.project.folder / "calls"
    machine.project.environment["STANDIN_CALLS"] = str(calls)
    machine.serve()

    def looks() -> int:
        return calls.read_text().count("nvmlDeviceGetComputeMode")

    def busy() -> Program:
        return machine.hold(1, gpus=1, vram="1GiB", script=BUSY, words=("97",))

    teacher = busy()
    until(lambda: teacher.started, "it runs")
    enough = looks() + 6  # a second apart, or more
    until(lambda: looks() >= enough, "the scheduler has seen how busy it keeps the card")
    teacher.let_go()
    machine.until_state(teacher.job, "done")

    first, second = busy(), busy()

    assert first.cards
    machine.until_told(
        second.job, f"cuda:0 runs job {first.job} (uses 97 % of it)", "both would end later"
    )
    assert not second.started
    first.let_go()
    assert second.cards
