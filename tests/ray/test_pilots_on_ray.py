"""Pilots on a real Ray cluster wait, run and end; a killed actor or raylet leaves no process of them."""

import os
import signal
from pathlib import Path

import pytest

from launcher.queue.backends.pilot_messages import AttemptStarted, Drain, Registered
from launcher.queue.backends.pilot_processes import find_pids
from launcher.queue.backends.protocol import AllocationEndCause, AllocationState, EngineError
from launcher.queue.backends.ray import Ray
from launcher.queue.backends.settings import BackendSettings
from launcher.queue.jobs.states import Done
from launcher.queue.workers.attempt_journal import read_recorded_outcome
from tests.build import a_spec, gone, program_of, shell, until
from tests.launcher.pilots.desk import Desk, a_pilot
from tests.ray.cluster import STARTS_WITHIN_S, RayCluster
from tests.ray.conftest import UUIDS, Bench, await_stage, seen

pytestmark = pytest.mark.slow

WAITS = 'until [ -e "$1" ]; do sleep 0.02; done'


def nothing_lives(pilot: Desk) -> bool:
    return not find_pids(pilot.folder, None)


def variables(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return dict(line.decode().split("=", 1) for line in lines if b"=" in line)


def test_pilot_runs_its_attempts_and_exits(bench: Bench) -> None:
    engine = bench.engine()
    pilot = bench.running(engine)
    observation = seen(engine, pilot)
    assert observation.stage is AllocationState.RUNNING
    assert observation.node
    pilot.run(spec=a_spec(*shell("exit 0")))
    assert isinstance(pilot.outcome(), Done)
    engine.close()  # as when the scheduler ends
    engine = bench.engine()
    assert seen(engine, pilot).stage is AllocationState.RUNNING
    pilot.send(Drain())
    observation = await_stage(engine, pilot, AllocationState.ENDED)
    assert observation.cause is AllocationEndCause.COMPLETED
    assert observation.node_answers
    assert seen(bench.engine(), pilot).cause is AllocationEndCause.COMPLETED


@pytest.mark.night
def test_pilot_without_room_waits_and_outlives_its_submitter(bench: Bench) -> None:
    engine = bench.engine()
    pilot = bench.submitted(engine, cpus=64)
    engine.close()
    engine = bench.engine()
    observation = seen(engine, pilot)
    assert observation.stage is AllocationState.WAITING
    assert "no node of the cluster has 1 CPU" not in observation.reason
    engine.cancel([pilot.folder.token])
    assert await_stage(engine, pilot, AllocationState.ENDED).cause is AllocationEndCause.CANCELLED
    assert pilot.read() == []


@pytest.mark.night
def test_pilot_submitted_twice_runs_once(bench: Bench) -> None:
    engine = bench.engine()
    pilot = bench.running(engine)
    spec = a_pilot("launcher", backend="ray", cpus=1)
    engine.submit([(pilot.folder, spec)])
    bench.engine().submit([(pilot.folder, spec)])
    assert seen(engine, pilot).stage is AllocationState.RUNNING
    assert len(pilot.of_kind(Registered)) == 1


@pytest.mark.night
def test_unknown_pilot_is_unknown(bench: Bench) -> None:
    engine = bench.engine()
    engine.cancel(["launcher-nobody"])
    assert engine.observe(["launcher-nobody"])["launcher-nobody"].stage is AllocationState.UNKNOWN


@pytest.mark.night
def test_cancelled_pilot_ends_with_everything_that_runs_in_it(bench: Bench, tmp_path: Path) -> None:
    engine = bench.engine()
    pilot = bench.running(engine)
    stubborn = f"trap '' TERM; {WAITS}"
    attempt = pilot.run(spec=a_spec(*shell(stubborn, str(tmp_path / "never"))))
    until(lambda: pilot.of_kind(AttemptStarted), "it runs")
    program = program_of(attempt)
    engine.cancel([pilot.folder.token])
    assert await_stage(engine, pilot, AllocationState.ENDED).cause is AllocationEndCause.CANCELLED
    until(lambda: gone(program) and nothing_lives(pilot), "nothing of it lives", STARTS_WITHIN_S)


@pytest.mark.night
def test_pilots_have_the_gpus_that_ray_gave_them(bench: Bench) -> None:
    engine = bench.engine(gpus=1)
    pilots = [bench.running(engine, gpus=1) for _ in range(2)]
    hellos = [pilot.of_kind(Registered)[0] for pilot in pilots]
    assert sorted(gpu.uuid for hello in hellos for gpu in hello.gpus) == UUIDS
    assert [len(hello.gpus) for hello in hellos] == [1, 1]
    waiting = bench.submitted(engine, gpus=1)
    assert seen(engine, waiting).reason == "no node has 1 CPU, 1 GPU, 1 on-n1 free"
    pilots[0].send(Drain())
    await_stage(engine, waiting, AllocationState.RUNNING)
    until(waiting.read, "it speaks", STARTS_WITHIN_S)
    assert waiting.of_kind(Registered)[0].gpus[0].uuid == hellos[0].gpus[0].uuid


@pytest.mark.night
def test_pilot_that_cannot_serve_reports_the_reason(bench: Bench) -> None:
    engine = bench.engine()
    pilot = bench.running(engine, version="0.0.1")
    assert "has launcher" in pilot.of_kind(Registered)[0].troubles[0]
    observation = await_stage(engine, pilot, AllocationState.ENDED)
    assert (observation.cause, observation.reason) == (AllocationEndCause.FAILED, "exit code 3")
    assert "cannot serve" in engine.collect(pilot.folder)


@pytest.mark.night
def test_programs_have_no_variables_of_ray(bench: Bench) -> None:
    pilot = bench.running(bench.engine())
    own = variables(pilot.of_kind(Registered)[0].pid)
    assert not [name for name in own if name.startswith(("RAY_", "LAUNCHER_"))]


@pytest.mark.night
def test_output_of_a_failing_prologue_is_collected(bench: Bench) -> None:
    engine = bench.engine(prologue="echo 'no module cuda/99' >&2\nexit 5")
    pilot = bench.submitted(engine)
    observation = await_stage(engine, pilot, AllocationState.ENDED)
    assert (observation.cause, observation.reason) == (AllocationEndCause.FAILED, "exit code 5")
    assert "no module cuda/99" in engine.collect(pilot.folder)


@pytest.mark.night
def test_folder_that_the_node_does_not_see_is_named(bench: Bench, tmp_path: Path) -> None:
    engine = bench.engine(paths={str(bench.folder): str(tmp_path / "elsewhere")})
    observation = await_stage(engine, bench.submitted(engine), AllocationState.ENDED)
    assert observation.cause is AllocationEndCause.FAILED
    assert "elsewhere" in observation.reason


@pytest.mark.night
def test_estimate_creates_nothing(bench: Bench) -> None:
    engine = bench.engine()
    assert engine.estimate(a_pilot(cpus=1)).possible
    refused = engine.estimate(a_pilot(cpus=64))
    assert not refused.possible
    assert "no node of the cluster has 64 CPU" in refused.why


@pytest.mark.night
def test_programs_end_on_a_node_whose_raylet_is_killed(
    bench: Bench, cluster: RayCluster, tmp_path: Path
) -> None:
    cluster.add("dying", cpus=1)
    engine = bench.engine("dying")
    pilot = bench.running(engine)
    pilot.run(spec=a_spec(*shell(WAITS, str(tmp_path / "never"))))
    until(lambda: pilot.of_kind(AttemptStarted), "it runs")
    cluster.kill("dying")
    observation = await_stage(engine, pilot, AllocationState.ENDED)
    assert observation.cause is AllocationEndCause.NODE_FAILED
    assert observation.node_answers  # another raylet of the same machine
    assert "node" in observation.reason
    until(lambda: nothing_lives(pilot), "nothing of it lives", STARTS_WITHIN_S)


@pytest.mark.night
def test_killed_pilot_keeps_its_gpus_until_its_programs_have_ended(
    bench: Bench, tmp_path: Path
) -> None:
    engine, go = bench.engine(), tmp_path / "go"
    pilot = bench.running(engine)
    attempt = pilot.run(spec=a_spec(*shell(WAITS, str(go))))
    until(lambda: pilot.of_kind(AttemptStarted), "it runs")
    program = program_of(attempt)
    os.kill(pilot.of_kind(Registered)[0].pid, signal.SIGKILL)
    assert seen(engine, pilot).stage is AllocationState.RUNNING
    assert not gone(program)
    go.touch()
    assert await_stage(engine, pilot, AllocationState.ENDED).cause is AllocationEndCause.FAILED
    assert isinstance(read_recorded_outcome(attempt), Done)
    assert nothing_lives(pilot)


@pytest.mark.night
def test_hanging_process_is_replaced(bench: Bench) -> None:
    engine = bench.engine()
    pilot = bench.running(engine)
    hanging = Ray(engine._settings, patience_s=0.0)
    bench.engines.insert(0, hanging)  # the last one ends the pilots
    with pytest.raises(EngineError, match="Ray did not respond within"):
        seen(hanging, pilot)
    assert seen(engine, pilot).stage is AllocationState.RUNNING


@pytest.mark.night
def test_without_a_cluster_all_states_are_unknown(cluster: RayCluster) -> None:  # Ray is there
    engine = Ray(BackendSettings(name="ray", kind="ray", address="127.0.0.1:1"), patience_s=120.0)
    try:
        with pytest.raises(EngineError, match=r"127\.0\.0\.1:1"):
            engine.observe(["launcher-anybody"])
    finally:
        engine.close()
