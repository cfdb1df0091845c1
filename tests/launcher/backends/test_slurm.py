"""Slurm's programs that fail, hang, or print anything: stand-ins for them in PATH."""

import subprocess
import sys
import time
from collections.abc import Callable
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
from launcher.queue.backends.slurm import Slurm
from launcher.queue.backends.slurm_commands import SlurmCommands
from tests.build import gone, until

TOKEN = "launcher-ab12"
LEAVE = """
import sys, threading, time
from pathlib import Path
from launcher.queue.backends.slurm import SlurmCommands
folder, program = Path(sys.argv[1]), sys.argv[2]
commands = SlurmCommands({"PATH": f"{folder}/bin:/usr/bin:/bin"})
threading.Thread(target=commands.run, args=(program,), daemon=True).start()
while not (folder / "pid").exists():
    time.sleep(0.01)
"""
PATIENT_S, IMPATIENT_S = 60.0, 0.3
Stub = Callable[..., Slurm]


@pytest.fixture
def stub(tmp_path: Path) -> Stub:
    """A Slurm whose programs do what their scripts say; each call is added to `calls`."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (tmp_path / "calls").touch()

    def make(
        patience_s: float = PATIENT_S, clock: Callable[[], float] = time.monotonic, **scripts: str
    ) -> Slurm:
        for name, text in scripts.items():
            program = programs / name
            text = text.replace("$CALLS", str(tmp_path / "calls"))
            called = f'echo {name} "$@" >> {tmp_path}/calls\n'
            program.write_text(f"#!/bin/bash\n{called}{text}\n")
            program.chmod(0o755)
        environ = {"PATH": f"{programs}:/usr/bin:/bin", "SECRET": "x", "SBATCH_PARTITION": "x"}
        settings = BackendSettings(name="cluster", kind="slurm", partition="gpu")
        return Slurm(settings, SlurmCommands(environ, patience_s), clock)

    return make


@pytest.fixture
def calls(tmp_path: Path) -> Callable[[], list[str]]:
    """Return the calls, each with its arguments."""
    return lambda: (tmp_path / "calls").read_text().splitlines()


def a_pilot(folder: Path, token: str = TOKEN) -> tuple[PilotFolder, PilotSpec]:
    pilot = PilotFolder(folder / "pilots" / token)
    spec = PilotSpec(token=token, backend="cluster", version="1", cpus=1)
    make_pilot_folder(pilot, spec)
    return pilot, spec


def seen(slurm: Slurm, node: str = "") -> Observation:
    """Return the observation of our pilot, which may have reported its node."""
    return slurm.observe([TOKEN], {TOKEN: node} if node else {})[TOKEN]


def row(state: str, token: str = TOKEN, node: str = "n1") -> str:
    return f"7|{state}|N/A|N/A|N/A|{node}|None|{token}"


def test_hanging_squeue_is_killed_and_is_an_error(stub: Stub, tmp_path: Path) -> None:
    slurm = stub(IMPATIENT_S, squeue=f"sleep 1000 & echo $! > {tmp_path}/pid; wait")
    with pytest.raises(EngineError, match="squeue did not respond within"):
        slurm.observe([TOKEN])
    if (tmp_path / "pid").exists():  # a busy machine may not have come so far
        pid = int((tmp_path / "pid").read_text())
        until(lambda: gone(pid), "what squeue had started has ended")


def leave(folder: Path, program: str) -> int:
    """End a process that has a program of Slurm's under way; return that program's pid."""
    subprocess.run([sys.executable, "-c", LEAVE, str(folder), program], check=True, timeout=60)
    return int((folder / "pid").read_text())


def test_running_squeue_ends_with_the_scheduler(stub: Stub, tmp_path: Path) -> None:
    # its input ends only when its end is seen to
    stub(squeue=f"cat; echo $$ > {tmp_path}/new; mv {tmp_path}/new {tmp_path}/pid; exec sleep 1000")
    pid = leave(tmp_path, "squeue")
    until(lambda: gone(pid), "squeue has ended")


def test_running_sbatch_continues_when_the_scheduler_ends(stub: Stub, tmp_path: Path) -> None:
    stub(
        sbatch=f"echo $$ > {tmp_path}/new; mv {tmp_path}/new {tmp_path}/pid\n"
        f"until test -e {tmp_path}/go; do sleep .01; done; touch {tmp_path}/submitted"
    )
    leave(tmp_path, "sbatch")
    (tmp_path / "go").touch()
    until((tmp_path / "submitted").exists, "it has submitted")


@pytest.mark.parametrize(
    ("printed", "said"),
    [
        ("echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1",
         "squeue failed: .*Unable to contact slurm controller"),
        *((f"printf '{row('RUNNING')}\\n{garbage}\\n'", "cannot parse the output of squeue")
          for garbage in ("Segmentation fault", "7|RUNNING", "\\x00\\xff\\xfe", "{}")),
    ],
)  # fmt: skip
def test_failing_squeue_or_invalid_output_is_an_error(stub: Stub, printed: str, said: str) -> None:
    with pytest.raises(EngineError, match=said):
        stub(squeue=printed).observe([TOKEN])


def test_missing_programs_are_an_error(stub: Stub) -> None:
    with pytest.raises(
        EngineError, match=r"cannot run squeue-of-nobody.*client programs on this host"
    ):
        stub()._commands.run("squeue-of-nobody")


def test_squeue_is_called_once_for_all_pilots(stub: Stub, calls: Callable[[], list[str]]) -> None:
    slurm = stub(squeue=f"echo '{row('RUNNING')}'; echo '{row('PENDING', 'launcher-cd', '')}'")
    seen = slurm.observe([TOKEN, "launcher-cd", "launcher-ef"])
    stages = {token: observation.stage for token, observation in seen.items()}
    assert stages == {
        TOKEN: AllocationState.RUNNING,
        "launcher-cd": AllocationState.WAITING,
        "launcher-ef": AllocationState.UNKNOWN,
    }
    (call,) = calls()
    assert "--name=launcher-ab12,launcher-cd,launcher-ef" in call


def test_nothing_is_called_without_pilots(stub: Stub, calls: Callable[[], list[str]]) -> None:
    assert stub(squeue="exit 1").observe([]) == {}
    assert calls() == []


def test_many_names_do_not_exceed_the_argument_length(stub: Stub) -> None:
    slurm = stub(squeue=f"echo '{row('RUNNING')}'; echo '{row('RUNNING', 'foreign')}'")
    tokens = [TOKEN, *(f"launcher-{number:020}" for number in range(10_000))]
    assert slurm.observe(tokens)[TOKEN].stage is AllocationState.RUNNING


@pytest.mark.parametrize("state", ["NODE_FAIL", "FAILED", "CANCELLED", "PREEMPTED"])
def test_ended_pilot_has_known_node_availability(stub: Stub, state: str) -> None:
    slurm = stub(squeue=f"echo '{row(state)}'", sinfo="echo 'n1|down*'")
    assert not seen(slurm).node_answers
    slurm = stub(sinfo="echo 'n1|idle'", scontrol=OTHERS)
    assert seen(slurm).node_answers


@pytest.mark.parametrize(
    ("state", "node", "tracking", "emptied"),
    [
        ("FAILED", "idle", "CGROUPS", True),
        ("CANCELLED", "idle", "CGROUPS", True),
        ("CANCELLED", "idle", "OTHERS", False),
        ("NODE_FAIL", "idle", "CGROUPS", False),  # it did not wait for the node
        ("CANCELLED", "down*", "CGROUPS", False),
        ("RUNNING", "idle", "CGROUPS", False),
        ("COMPLETING", "idle", "CGROUPS", False),
    ],
)
def test_slurm_end_is_final_only_with_control_groups(
    stub: Stub, state: str, node: str, tracking: str, emptied: bool
) -> None:
    shown = {"CGROUPS": CGROUPS, "OTHERS": OTHERS}[tracking]
    slurm = stub(squeue=f"echo '{row(state)}'", sinfo=f"echo 'n1|{node}'", scontrol=shown)
    assert seen(slurm, "n1").emptied is emptied


def test_downed_node_answers_unless_slurm_marks_it_in_time(stub: Stub) -> None:
    at = [0.0]
    shown = f"{OTHERS}; echo 'SlurmdTimeout           = 100 sec'"
    down = "echo 'n1|down'"
    slurm = stub(
        clock=lambda: at[0], squeue=f"echo '{row('NODE_FAIL')}'", sinfo=down, scontrol=shown
    )
    assert not seen(slurm).node_answers
    at[0] = 350.0
    assert not seen(slurm).node_answers
    at[0] = 370.0
    assert seen(slurm).node_answers


def test_node_of_a_pilot_restarted_elsewhere_is_its_own(stub: Stub) -> None:
    slurm = stub(squeue=f"echo '{row('FAILED')}'", sinfo="echo 'n7|down*'")
    assert seen(slurm, "n7") == Observation(
        stage=AllocationState.UNKNOWN,
        cause=AllocationEndCause.UNKNOWN,
        node="n7",
        node_answers=False,
    )


def test_node_of_a_forgotten_pilot_is_the_one_it_was_last_seen_on(stub: Stub) -> None:
    slurm = stub(squeue="", sinfo="echo 'n1|down*'")
    assert seen(slurm, "n1") == Observation(
        stage=AllocationState.UNKNOWN,
        cause=AllocationEndCause.UNKNOWN,
        node="n1",
        node_answers=False,
    )


@pytest.mark.parametrize("script", ["exit 1", "echo error"])
def test_failing_sinfo_leaves_an_end_unknown(stub: Stub, script: str) -> None:
    slurm = stub(squeue=f"echo '{row('NODE_FAIL')}'", sinfo=script)
    with pytest.raises(EngineError, match="sinfo"):
        slurm.observe([TOKEN])


def test_refused_partition_is_reported_with_slurms_message(stub: Stub, tmp_path: Path) -> None:
    refusal = "sbatch: error: invalid partition specified: gpu\nsbatch: error: Batch job submission failed: Invalid partition name specified"
    slurm = stub(sbatch=f"echo '{refusal}' >&2; exit 1", sinfo="echo main; echo short")
    with pytest.raises(
        SubmissionRefused,
        match=r"\[backends.cluster\]: invalid partition specified: gpu; .*Invalid partition name specified; its partitions: main, short",
    ):
        slurm.submit([a_pilot(tmp_path)])


def test_unreachable_controller_is_not_a_permanent_refusal(stub: Stub, tmp_path: Path) -> None:
    away = "sbatch: error: Batch job submission failed: Unable to contact slurm controller"
    slurm = stub(sbatch=f"echo '{away}' >&2; exit 1")
    with pytest.raises(EngineError, match="Unable to contact") as raised:
        slurm.submit([a_pilot(tmp_path)])
    assert not isinstance(raised.value, SubmissionRefused)


def test_after_an_accepted_pilot_an_error_does_not_claim_that_none_was_accepted(
    stub: Stub, tmp_path: Path
) -> None:
    second = "[ $(wc -l < $CALLS) = 1 ] || { echo 'sbatch: error: invalid qos' >&2; exit 1; }"
    slurm = stub(sbatch=second)
    with pytest.raises(EngineError, match="invalid qos") as raised:
        slurm.submit([a_pilot(tmp_path), a_pilot(tmp_path, "launcher-cd")])
    assert not isinstance(raised.value, SubmissionRefused)


def test_slow_sbatch_is_abandoned(stub: Stub, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="sbatch did not respond within"):
        stub(IMPATIENT_S, sbatch="sleep 1000").submit([a_pilot(tmp_path)])


def test_variables_of_the_shell_do_not_reach_a_pilot(stub: Stub, tmp_path: Path) -> None:
    slurm = stub(sbatch=f"env > {tmp_path}/environment")
    slurm.submit([a_pilot(tmp_path)])
    environment = (tmp_path / "environment").read_text()
    assert "PATH=" in environment
    assert "SECRET" not in environment
    assert "SBATCH" not in environment


def test_slurm_message_cannot_control_a_terminal(stub: Stub, tmp_path: Path) -> None:
    slurm = stub(sbatch="printf 'sbatch: error: \\x1b[2Jbad\\n' >&2; exit 1")
    with pytest.raises(EngineError, match=r"\\x1b\[2Jbad"):
        slurm.submit([a_pilot(tmp_path)])


CGROUPS = "echo 'ProctrackType           = proctrack/cgroup'"
OTHERS = "echo 'ProctrackType           = proctrack/linuxproc'"


def test_pilot_is_killed_before_it_is_cancelled_where_slurm_tracks_by_cgroups(
    stub: Stub, calls: Callable[[], list[str]], tmp_path: Path
) -> None:
    ended = tmp_path / "ended"
    running = f"[ -e {ended} ] || {{ touch {ended}; echo '{row('COMPLETING')}'; }}"
    # the first call fails, as it does while a pilot waits
    stub(scontrol=CGROUPS, squeue=running, scancel="[ $1 = --me ]").cancel([TOKEN])
    assert [call for call in calls() if "scancel" in call] == [
        f"scancel --batch --signal=KILL --me --name={TOKEN}",
        f"scancel --me --name={TOKEN}",
    ]
    assert sum("squeue" in call for call in calls()) == 2  # until it does not run any more


def test_many_pilots_are_killed_before_their_ends_are_awaited(
    stub: Stub, calls: Callable[[], list[str]]
) -> None:
    tokens = [f"launcher-{number:02}" for number in range(12)]
    rows = "; ".join(f"echo '{row('RUNNING', token)}'" for token in tokens)
    # they end a moment after the last of them was killed
    running = f"[ $(grep -c squeue $CALLS) -gt 2 ] || {{ {rows}; }}"
    stub(scontrol=CGROUPS, squeue=running, scancel="").cancel(tokens)
    assert sum("squeue" in call for call in calls()) == 3
    assert sum("KILL" in call for call in calls()) == 12


def test_pilot_is_cancelled_by_slurm_alone_elsewhere(
    stub: Stub, calls: Callable[[], list[str]]
) -> None:
    stub(scontrol=OTHERS, scancel="").cancel([TOKEN, "launcher-cd"])
    assert calls() == [
        "scontrol show config",
        f"scancel --me --name={TOKEN}",
        "scancel --me --name=launcher-cd",
    ]


def element(index: int, state: str, node: str = "") -> str:
    return f"9_{index}|{state}|{index}|N/A|N/A|{node}|None|{TOKEN}"


@pytest.mark.parametrize("tracking", [CGROUPS, OTHERS])
def test_array_elements_are_cancelled_by_number_and_without_a_filter_option(
    stub: Stub, calls: Callable[[], list[str]], tracking: str
) -> None:
    rows = [element(3, "PENDING"), element(4, "RUNNING", "n1"), element(5, "PENDING")]
    rows += [element(6, "PENDING"), element(7, "COMPLETED", "n1")]
    ended = element(4, "FAILED", "n1")
    listed = "; ".join(f"echo '{row}'" for row in rows)
    # killed jobs are seen to have ended
    printed = f"if grep -q KILL $CALLS; then echo '{ended}'; else {listed}; fi"
    slurm = stub(scontrol=tracking, squeue=printed, scancel="")
    slurm.cancel([f"{TOKEN}_{number}" for number in (3, 4, 5, 7)])
    cancelled = [call for call in calls() if "scancel" in call]
    killed = ["scancel --batch --signal=KILL 9_4"] if tracking == CGROUPS else []
    assert cancelled == [*killed, "scancel 9_[3-5]"]


def test_failing_scancel_is_to_be_retried(stub: Stub) -> None:
    with pytest.raises(EngineError, match="scancel failed"):
        stub(scontrol=OTHERS, scancel="exit 1").cancel([TOKEN])


def test_log_of_a_pilot_is_shown_without_terminal_codes(stub: Stub, tmp_path: Path) -> None:
    pilot, _ = a_pilot(tmp_path)
    slurm = stub()
    assert f"check that the node sees the pilot's folder {pilot.folder}" in slurm.collect(pilot)
    pilot.log.write_text("first\n" * 50 + "module: \x1b[2Jnot there\n")
    assert slurm.collect(pilot).splitlines()[-1] == "module: \\x1b[2Jnot there"
    pilot.log.unlink()
    assert "no output" in slurm.collect(pilot)


def test_estimate_is_the_start_that_slurm_expects(stub: Stub) -> None:
    spec = PilotSpec(token=TOKEN, backend="cluster", version="1", cpus=1)
    slurm = stub(sbatch="echo 'sbatch: Job 1 to start at 1795373460 using 1 processors' >&2")
    estimate = slurm.estimate(spec)
    assert (estimate.possible, estimate.starts_at) == (True, 1795373460.0)
    refused = "allocation failure: Requested node configuration is not available"
    estimate = stub(sbatch=f"echo '{refused}' >&2; exit 1").estimate(spec)
    assert not estimate.possible
    assert "Requested node configuration is not available" in estimate.why
    with pytest.raises(EngineError):
        stub(sbatch="exit 1").estimate(spec)
