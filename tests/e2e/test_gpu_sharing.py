"""Jobs that share a card: what is learned of them there, and MPS, by a program that stands in for it."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.gpu.mps_support import PROGRAM
from launcher.system.processes import identity
from tests.build import until
from tests.e2e.machine import Machine, Program, a_machine
from tests.nvml.standin import TAKE, Devices

STANDIN = Path(__file__).parents[1] / "mps"
# as HOLDING, and says through which folders it would reach MPS
CLIENT = f"""
{TAKE} echo "$CUDA_VISIBLE_DEVICES/$CUDA_MPS_PIPE_DIRECTORY" >"$2.tmp" && mv "$2.tmp" "$2"
read line <"$3" || true
"""


@pytest.fixture
def machine(gpus: Devices) -> Iterator[Machine]:
    """A machine with one card, whose owner wants MPS; its path is short, as sockets allow few characters."""
    gpus.add(used=0)
    with (
        tempfile.TemporaryDirectory(prefix="mps-") as place,
        a_machine(Path(place), gpus) as machine,
    ):
        machine.configure("[sharing]\nmps = true\n")
        yield machine


def pipes(said: Path) -> str:
    """Return the folder of MPS that a program was given, '' where it was given none."""
    until(said.exists, "it runs")
    return said.read_text().partition("/")[2].strip()


def daemons(folder: str) -> list[int]:
    """Return the daemons that live with their pipes in a folder."""
    pids = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
                variables = (entry / "environ").read_bytes().split(b"\0")
            except OSError:
                continue
            serves = f"CUDA_MPS_PIPE_DIRECTORY={folder}".encode() in variables
            if serves and b"-f" in words and identity(int(entry.name)) is not None:
                pids.append(int(entry.name))
    return pids


def test_jobs_that_may_share_a_card_are_clients_of_its_daemon_which_survives_a_scheduler(
    machine: Machine,
) -> None:
    machine.project.environment["PATH"] = f"{STANDIN}:{os.environ['PATH']}"
    machine.serve()
    first = machine.hold(1, gpus=1, vram="1GiB", script=CLIENT)
    second = machine.hold(1, gpus=1, vram="1GiB", script=CLIENT)
    folder = pipes(first.said)
    assert folder.startswith(str(machine.project.home.mps))
    assert pipes(second.said) == folder
    (daemon,) = daemons(folder)

    machine.kill_scheduler()
    machine.serve()
    third = machine.hold(1, gpus=1, vram="1GiB", script=CLIENT)
    first.let_go()
    assert pipes(third.said) == folder
    assert daemons(folder) == [daemon]

    second.let_go()
    third.let_go()
    until(lambda: not daemons(folder), "the daemon has quit")


def test_without_the_program_of_mps_jobs_run_as_ever_and_it_is_told_why(
    machine: Machine,
) -> None:
    machine.serve()
    job = machine.hold(1, gpus=1, vram="1GiB", script=CLIENT)
    assert pipes(job.said) == ""
    warnings = machine.call("gpus").stderr
    assert f"note: [sharing] mps = true, and {PROGRAM} is not on PATH" in warnings
    assert "jobs run without it: " in machine.call("doctor").stdout
    job.let_go()


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
    machine.configure("")
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
