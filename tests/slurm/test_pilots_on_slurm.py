"""Pilots on a real Slurm: submitted, observed, cancelled, and after a crash of its controller.

The pilot is a few lines of bash that run until their folder says `leave`.
"""

import contextlib
import os
import secrets
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from launcher.queue.backends.pilot_folder import PilotFolder, PilotSpec, make_pilot_folder
from launcher.queue.backends.protocol import (
    AllocationEndCause,
    AllocationState,
    EngineError,
    Observation,
    SubmissionRefused,
)
from launcher.queue.backends.settings import BackendSettings
from launcher.queue.backends.slurm import Slurm as Backend
from launcher.queue.backends.slurm_commands import SlurmCommands
from tests.build import gone, until
from tests.slurm.cluster import Slurm, a_slurm
from tests.slurm.conftest import slurm_or_skip

pytestmark = pytest.mark.night

STARTS_WITHIN_S = 60.0  # Slurm's own part of a start takes a second; a busy machine needs more
PILOT = r"""#!/bin/bash
folder=$4
trap 'echo drained >> "$folder/from"; exit 0' USR1
env > "$folder/environment.part" && mv "$folder/environment.part" "$folder/environment"
(
    echo $BASHPID > "$folder/frozen.part" && mv "$folder/frozen.part" "$folder/frozen"
    kill -STOP $BASHPID
) &
until grep -q leave "$folder/to"; do sleep 0.05; done
echo bye >> "$folder/from"
kill -KILL %1
"""


@dataclass(kw_only=True)
class Bench:
    """Pilots below a folder, and the Slurm that they run on."""

    folder: Path
    slurm: Slurm
    settings: BackendSettings
    pilots: list[PilotFolder] = field(default_factory=list)

    @property
    def backend(self) -> Backend:
        """An engine that knows nothing yet, as after a restart."""
        return Backend(self.settings, SlurmCommands({**os.environ, **self.slurm.environment}))

    def pilot(
        self, token: str = "", *, cpus: int = 1, **spec: float
    ) -> tuple[PilotFolder, PilotSpec]:
        """Make the folder of a pilot."""
        token = token or f"launcher-{secrets.token_hex(10)}"
        made = PilotSpec(token=token, backend="slurm", version="1", cpus=cpus, **spec)  # type: ignore[arg-type]
        pilot = PilotFolder(self.folder / token)
        make_pilot_folder(pilot, made)
        self.pilots.append(pilot)
        return pilot, made

    def submitted(self, **spec: float) -> PilotFolder:
        """Submit a pilot and return its folder."""
        pilot, made = self.pilot(**spec)  # type: ignore[arg-type]
        self.backend.submit([(pilot, made)])
        return pilot

    def running(self, **spec: float) -> PilotFolder:
        """Submit a pilot and wait until it is up."""
        pilot = self.submitted(**spec)
        until((pilot.folder / "frozen").exists, "the pilot is up", STARTS_WITHIN_S)
        return pilot

    def seen(self, pilot: PilotFolder) -> Observation:
        """Return what Slurm says of a pilot."""
        return self.backend.observe([pilot.token])[pilot.token]

    def await_stage(self, pilot: PilotFolder, *stages: AllocationState) -> Observation:
        """Wait until Slurm says that a pilot is so far."""
        until(
            lambda: self.seen(pilot).stage in stages,
            f"it is {' or '.join(stages)}",
            STARTS_WITHIN_S,
        )
        return self.seen(pilot)

    def end(self) -> None:
        """Cancel all pilots, whatever a test left; a Slurm that was broken ends its processes itself."""
        with contextlib.suppress(EngineError):
            self.backend.cancel([pilot.token for pilot in self.pilots])


Benches = Callable[[Slurm], Bench]


@pytest.fixture
def bench_on(tmp_path: Path) -> Iterator[Benches]:
    """Yield a function that returns a bench on a Slurm. All its processes are ended after the test."""
    program = tmp_path / "pilot"
    program.write_text(PILOT)
    program.chmod(0o755)
    settings = BackendSettings(name="slurm", kind="slurm", python=str(program))
    with contextlib.ExitStack() as opened:

        def make(slurm: Slurm) -> Bench:
            bench = Bench(folder=tmp_path / "pilots", slurm=slurm, settings=settings)
            opened.callback(bench.end)
            return bench

        yield make


@pytest.fixture
def bench(bench_on: Benches, slurm: Slurm) -> Bench:
    """A bench on the Slurm that tests share."""
    return bench_on(slurm)


def leave(pilots: Collection[PilotFolder]) -> None:
    for pilot in pilots:
        pilot.commands_file.write_text("leave\n")


def test_pilot_runs_on_a_node_until_it_exits(bench: Bench) -> None:
    pilot = bench.running(time_s=1800.0)
    observation = bench.seen(pilot)
    assert (observation.stage, observation.node) == (AllocationState.RUNNING, "n1")
    assert observation.ends_at is not None
    leave([pilot])
    observation = bench.await_stage(pilot, AllocationState.ENDED)
    assert (observation.cause, observation.node_answers) == (AllocationEndCause.COMPLETED, True)
    assert pilot.messages_file.read_text() == "bye\n"


def test_pilot_gets_its_gpus_and_little_of_the_environment(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("API_KEY", "secret")
    monkeypatch.setenv("SLURM_JOB_NAME", "an enclosing job")
    pilot = bench.running(gpus=2, cpus=2, memory=300 << 20)
    text = (pilot.folder / "environment").read_text()
    lines = text.splitlines()
    assert {"CUDA_VISIBLE_DEVICES=0,1", "SLURMD_NODENAME=n1", "SLURM_CPUS_PER_TASK=2"} <= set(lines)
    assert {"SLURM_MEM_PER_NODE=300", f"PWD={pilot.folder}"} <= set(lines)
    assert "secret" not in text
    assert "an enclosing job" not in text


def test_pilot_itself_gets_the_signal_before_its_end(bench: Bench) -> None:
    pilot = bench.running()
    bench.slurm.ask("scancel", "--batch", "--signal=USR1", f"--name={pilot.token}")
    assert bench.await_stage(pilot, AllocationState.ENDED).cause is AllocationEndCause.COMPLETED
    assert pilot.messages_file.read_text() == "drained\n"


def test_cancelled_pilot_ends_with_everything_that_runs_in_it(bench: Bench) -> None:
    pilot, neighbour = bench.running(), bench.running()
    frozen = int((pilot.folder / "frozen").read_text())
    assert not gone(frozen)
    bench.backend.cancel([pilot.token])
    assert bench.await_stage(pilot, AllocationState.ENDED).cause in {
        AllocationEndCause.CANCELLED,
        AllocationEndCause.FAILED,
    }
    until(lambda: gone(frozen), "the frozen process is gone")
    assert bench.seen(neighbour).stage is AllocationState.RUNNING


def test_cancelling_a_pilot_unknown_to_slurm_does_nothing(bench: Bench) -> None:
    bench.backend.cancel(["launcher-unknown", "launcher-unknown_7"])
    seen = bench.backend.observe(["launcher-unknown"])
    assert seen["launcher-unknown"].stage is AllocationState.UNKNOWN


def test_job_of_the_user_with_a_pilots_name_as_prefix_is_left_alone(bench: Bench) -> None:
    pilot, foreign = bench.pilot(), bench.pilot()
    longer = PilotFolder(bench.folder / f"{pilot[0].token}x")
    longer.folder.mkdir()
    bench.slurm.ask(
        "sbatch", f"--job-name={longer.token}", "--output=/dev/null", stdin="#!/bin/sh\nsleep 600\n"
    )
    bench.pilots.append(longer)
    assert bench.seen(pilot[0]).stage is AllocationState.UNKNOWN
    bench.backend.cancel([pilot[0].token, foreign[0].token])
    assert bench.seen(longer).stage in {AllocationState.WAITING, AllocationState.RUNNING}


def test_numbered_pilots_are_elements_of_one_array(bench: Bench) -> None:
    name = f"launcher-{secrets.token_hex(10)}"
    made = [bench.pilot(f"{name}_{number}") for number in range(20)]  # more than there is room for
    bench.backend.submit(made)
    pilots = [pilot for pilot, _ in made]
    jobs = bench.slurm.ask("squeue", "-h", f"--name={name}", "-o", "%F", "--array").split()
    assert len(jobs) == 20
    assert len(set(jobs)) == 1
    until((pilots[0].folder / "frozen").exists, "the first is up", STARTS_WITHIN_S)
    bench.backend.cancel([pilots[0].token, pilots[18].token, pilots[19].token])
    for number in (0, 18, 19):
        # Slurm forgets elements that had not begun
        bench.await_stage(pilots[number], AllocationState.ENDED, AllocationState.UNKNOWN)
    until((pilots[1].folder / "frozen").exists, "the second is up", STARTS_WITHIN_S)
    leave(pilots[:18])
    assert (
        bench.await_stage(pilots[17], AllocationState.ENDED).cause is AllocationEndCause.COMPLETED
    )
    assert pilots[17].messages_file.read_text() == "bye\n"
    assert pilots[18].messages_file.read_text() == ""


def test_output_of_a_failing_prologue_is_collected(bench: Bench) -> None:
    bench.settings = BackendSettings(
        name="slurm", kind="slurm", prologue="echo 'no module cuda/99' >&2\nexit 3"
    )
    pilot = bench.submitted()
    observation = bench.await_stage(pilot, AllocationState.ENDED)
    assert (observation.cause, observation.reason) == (AllocationEndCause.FAILED, "NonZeroExitCode")
    assert "no module cuda/99" in bench.backend.collect(pilot)


def test_interpreter_missing_on_the_node_is_named(bench: Bench) -> None:
    bench.settings = BackendSettings(name="slurm", kind="slurm", python="/no/such/python")
    pilot = bench.submitted()
    bench.await_stage(pilot, AllocationState.ENDED)
    assert "/no/such/python" in bench.backend.collect(pilot)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"partition": "gpus"},
            "invalid partition specified: gpus.*its partitions: main, urgent, short",
        ),
        ({"constraint": "h100"}, "Invalid feature specification"),
        ({"gpu_type": "h100"}, "Requested node configuration is not available"),
        ({"options": ("--frobnicate",)}, "unrecognized option '--frobnicate'"),
    ],
)
def test_refusal_of_slurm_is_reported_in_its_words(
    bench: Bench, changes: dict[str, str], message: str
) -> None:
    bench.settings = BackendSettings(name="slurm", kind="slurm", **changes)  # type: ignore[arg-type]
    pilot = bench.pilot(gpus=1)
    with pytest.raises(SubmissionRefused, match=message):
        bench.backend.submit([pilot])
    estimate = bench.backend.estimate(pilot[1])
    assert not estimate.possible


def test_estimate_submits_nothing(bench: Bench) -> None:
    pilot, spec = bench.pilot(gpus=1)
    estimate = bench.backend.estimate(spec)
    assert estimate.possible
    assert estimate.starts_at is not None
    assert bench.seen(pilot).stage is AllocationState.UNKNOWN


def test_reused_job_number_does_not_match_a_pilot(three_nodes: Slurm, bench_on: Benches) -> None:
    bench = bench_on(three_nodes)
    pilot = bench.running()
    before = three_nodes.ask("squeue", "-h", f"--name={pilot.token}", "-o", "%i").strip()
    three_nodes.kill("slurmctld")
    three_nodes.forget()  # as a crash before the state was saved does
    three_nodes.start_controller()
    three_nodes.await_nodes()
    foreign, _ = bench.pilot()
    number = three_nodes.ask(
        *("sbatch", "--parsable", f"--job-name={foreign.token}", "--output=/dev/null"),
        stdin="#!/bin/sh\nsleep 600\n",
    )
    assert number.strip() == before
    assert bench.seen(pilot).stage is AllocationState.UNKNOWN
    bench.backend.cancel([pilot.token])
    assert bench.seen(foreign).stage in {AllocationState.WAITING, AllocationState.RUNNING}


def test_dead_node_is_known_to_answer_again_or_not(tmp_path: Path, bench_on: Benches) -> None:
    slurm_or_skip()
    with a_slurm(tmp_path / "slurm") as slurm:
        bench = bench_on(slurm)
        pilot = bench.running()
        slurm.await_answers_for(2)  # not before: a pilot ends with its slow node
        backend = bench.backend
        slurm.kill("n1")
        until(
            lambda: backend.observe([pilot.token])[pilot.token].stage is AllocationState.ENDED,
            "Slurm notices",
            STARTS_WITHIN_S,
        )
        observation = backend.observe([pilot.token])[pilot.token]
        assert (observation.cause, observation.node) == (AllocationEndCause.NODE_FAILED, "n1")
        assert not observation.node_answers
        slurm.start_node("n1")
        until(
            lambda: backend.observe([pilot.token])[pilot.token].node_answers,
            "the node answers",
            STARTS_WITHIN_S,
        )
        bench.pilots.clear()  # they end with their Slurm
