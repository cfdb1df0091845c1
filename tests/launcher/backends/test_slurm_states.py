"""The arguments of sbatch, and the output of sbatch, squeue and sinfo."""

import math
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from launcher.queue.backends.pilot_folder import PilotFolder, PilotSpec
from launcher.queue.backends.protocol import AllocationEndCause, AllocationState, Observation
from launcher.queue.backends.settings import BackendSettings
from launcher.queue.backends.slurm_batches import (
    batch_script,
    group_into_batches,
    is_permanent_error,
    parse_estimated_start,
    sbatch_arguments,
    sbatch_options,
)
from launcher.queue.backends.slurm_states import (
    format_array_ranges,
    live_elements,
    observe_rows,
    parse_squeue,
    silent_node_timeout_s,
    silent_nodes,
    split_token,
    unsure_nodes,
)

# --- what squeue and sinfo print, as what became of pilots


TOKEN = "launcher-ab12"


def seen(text: str, token: str = TOKEN) -> Observation:
    return observe_rows(parse_squeue(text), [token])[token]


def line(state: str = "RUNNING", *, name: str = TOKEN, reason: str = "None", **more: str) -> str:
    fields = {"job": "7", "index": "N/A", "start": "N/A", "end": "N/A", "node": "n1"} | more
    first = "|".join([fields["job"], state, fields["index"], fields["start"], fields["end"]])
    return f"{first}|{fields['node']}|{reason}|{name}\n"


def test_waiting_pilot_has_a_reason_and_an_estimated_start() -> None:
    text = line("PENDING", node="", reason="Resources", start="1795380663")
    assert seen(text) == Observation(
        stage=AllocationState.WAITING, reason="Resources", starts_at=1795380663.0
    )


def test_running_pilot_has_a_node_and_an_end_time() -> None:
    text = line(start="1795373463", end="1795375263")
    assert seen(text) == Observation(stage=AllocationState.RUNNING, node="n1", ends_at=1795375263.0)


@pytest.mark.parametrize("when", ["N/A", "NONE", "Unknown", "", "-5", "nan", "9" * 30, "²"])
def test_invalid_time_is_unknown(when: str) -> None:
    assert seen(line("PENDING", start=when)).starts_at is None


@pytest.mark.parametrize(
    ("state", "cause"),
    [
        ("COMPLETED", AllocationEndCause.COMPLETED),
        ("PREEMPTED", AllocationEndCause.PREEMPTED),
        ("NODE_FAIL", AllocationEndCause.NODE_FAILED),
        ("BOOT_FAIL", AllocationEndCause.NODE_FAILED),
        ("REVOKED", AllocationEndCause.NODE_FAILED),
        ("TIMEOUT", AllocationEndCause.TIME_LIMIT),
        ("DEADLINE", AllocationEndCause.TIME_LIMIT),
        ("OUT_OF_MEMORY", AllocationEndCause.MEMORY),
        ("CANCELLED", AllocationEndCause.CANCELLED),
        ("FAILED", AllocationEndCause.FAILED),
    ],
)
def test_end_has_the_cause_that_slurm_reports(state: str, cause: AllocationEndCause) -> None:
    observation = seen(line(state, reason="NonZeroExitCode"))
    assert (observation.stage, observation.cause) == (AllocationState.ENDED, cause)
    assert observation.reason == "NonZeroExitCode"


@pytest.mark.parametrize("state", ["COMPLETING", "STOPPED", "SUSPENDED", "HOVERING"])
def test_nonfinal_state_with_a_node_is_running(state: str) -> None:
    observation = seen(line(state))
    assert (observation.stage, observation.reason) == (AllocationState.RUNNING, state.lower())


@pytest.mark.parametrize("state", ["CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "HOVERING"])
def test_nonfinal_state_without_a_node_is_waiting(state: str) -> None:
    observation = seen(line(state, node=""))
    assert (observation.stage, observation.reason) == (AllocationState.WAITING, state.lower())


def test_pilot_in_no_line_is_unknown() -> None:
    assert seen("").stage is AllocationState.UNKNOWN


def test_job_with_our_name_as_a_prefix_is_not_ours() -> None:
    text = line(name=TOKEN + "x") + line(name=TOKEN[:-1]) + line(name="x|" + TOKEN + "|x")
    assert seen(text).stage is AllocationState.UNKNOWN


def test_job_number_is_ignored() -> None:
    text = line("COMPLETED", job="7", name="foreign") + line("PENDING", job="7", node="")
    assert seen(text).stage is AllocationState.WAITING


def test_living_one_of_two_jobs_with_the_same_name_counts() -> None:
    text = line("FAILED") + line("RUNNING") + line("PENDING", node="")
    assert seen(text).stage is AllocationState.RUNNING


def test_reason_may_contain_a_bar() -> None:
    assert seen(line("PENDING", node="", reason="a|b")).reason == "a|b"


@pytest.mark.parametrize(
    "text",
    [
        "slurm_load_jobs error: Unable to contact slurm controller\n",
        "7|RUNNING|N/A\n",
        "|||||||\n",
        "x7|RUNNING|N/A|1|1|n1|None|name\n",
        "<html>502|Bad|Gateway|a|b|c|d|e</html>\n",
        "\x00\x01\n",
    ],
)
def test_invalid_squeue_line_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a line of squeue"):
        parse_squeue(line() + text)


def test_array_element_is_identified_by_name_and_number() -> None:
    text = line("RUNNING", job="9_3", index="3") + line("PENDING", job="9_4", index="4", node="")
    assert seen(text, f"{TOKEN}_3").stage is AllocationState.RUNNING
    assert seen(text, f"{TOKEN}_4").stage is AllocationState.WAITING
    assert seen(text, f"{TOKEN}_5").stage is AllocationState.UNKNOWN


def test_elements_cancelled_before_they_began_share_one_line() -> None:
    text = line("RUNNING", job="9_3", index="3") + line("CANCELLED", job="9", node="")
    assert seen(text, f"{TOKEN}_3").stage is AllocationState.RUNNING
    assert seen(text, f"{TOKEN}_7").cause is AllocationEndCause.CANCELLED


def test_only_unfinished_elements_are_cancelled() -> None:
    text = (
        line("RUNNING", job="9_3", index="3")
        + line("PENDING", job="9_4", index="4", node="")
        + line("COMPLETED", job="9_5", index="5")
        + line("RUNNING", job="9_6", index="6")
        + line("RUNNING", job="11_3", index="3", name="foreign")
    )
    tokens = [f"{TOKEN}_{number}" for number in (3, 4, 5)]
    assert [row.job for row in live_elements(parse_squeue(text), tokens)] == ["9_3", "9_4"]


def test_elements_are_written_as_ranges() -> None:
    assert format_array_ranges([8, 0, 1, 2, 7, 5]) == "0-2,5,7-8"
    assert format_array_ranges([]) == ""


def test_token_without_a_number_is_a_separate_job() -> None:
    assert split_token("launcher-ab12") == ("launcher-ab12", "")
    assert split_token("launcher-ab12_07") == ("launcher-ab12", "07")


def test_node_with_an_asterisk_does_not_answer() -> None:
    text = "n1|idle\nn2|down*\nn2|down*\nn3|allocated*\nn4|powered_down\n"
    assert silent_nodes(text) == {"n2", "n3"}


def test_availability_of_a_node_set_down_by_an_administrator_is_unknown() -> None:
    text = "n1|down\nn2|down$\nn3|unknown\nn4|DOWN\nn5|draining\nn6|maint\nn7|down*\n"
    assert unsure_nodes(text) == {"n1", "n2", "n3", "n4"}
    assert silent_nodes(text) == {"n7"}


def test_down_node_answers_if_slurm_has_not_marked_it_for_long() -> None:
    assert (
        silent_node_timeout_s("SlurmctldTimeout = 9 sec\nSlurmdTimeout           = 300 sec\n")
        == 960.0
    )
    assert silent_node_timeout_s("SlurmdTimeout           = 0 sec\n") == math.inf
    assert silent_node_timeout_s("") == math.inf


@pytest.mark.parametrize("elsewhere", ["n2", ""])
def test_second_process_elsewhere_does_not_decide_the_state_of_the_pilot(
    elsewhere: str,
) -> None:
    rows = parse_squeue(line("FAILED", node=elsewhere, reason="NonZeroExitCode"))
    assert observe_rows(rows, [TOKEN], {TOKEN: "n1"})[TOKEN].stage is AllocationState.UNKNOWN
    assert observe_rows(rows, [TOKEN], {TOKEN: ""})[TOKEN].stage is AllocationState.ENDED


def test_requeued_job_is_not_an_end() -> None:
    rows = parse_squeue(line("PENDING", node=""))
    assert observe_rows(rows, [TOKEN], {TOKEN: "n1"})[TOKEN].stage is AllocationState.WAITING


def test_invalid_sinfo_line_is_refused() -> None:
    with pytest.raises(ValueError, match="not a line of sinfo"):
        silent_nodes("n1|idle\nslurm_load_node: error\n")


# --- what sbatch is asked, and what its refusals mean


GIB = 1 << 30


def asked(**shape: Any) -> PilotSpec:
    return PilotSpec(token="launcher-ab", backend="slurm", version="1", **shape)


def settings(**changes: object) -> BackendSettings:
    return BackendSettings(**{"name": "slurm", "kind": "slurm", **changes})  # type: ignore[arg-type]


def pilot(
    token: str, *, cpus: int = 2, parent: str = "/shared/pilots"
) -> tuple[PilotFolder, PilotSpec]:
    spec = PilotSpec(token=token, backend="slurm", version="1", cpus=cpus)
    return PilotFolder(Path(parent, token)), spec


def words_of(pilot: tuple[PilotFolder, PilotSpec], **changes: object) -> list[str]:
    (batch,) = group_into_batches([pilot])
    return sbatch_arguments(settings(**changes), batch)


def script_of(pilot: tuple[PilotFolder, PilotSpec], **changes: object) -> str:
    (batch,) = group_into_batches([pilot])
    return batch_script(settings(**changes), batch)


def test_all_configured_options_are_requested() -> None:
    words = sbatch_options(
        settings(
            gpu_type="a100",
            partition="gpu",
            account="lab",
            qos="long",
            constraint="a100&nvlink",
            reservation="course",
            exclusive=True,
            options=("--nice=100", "--mem=1M"),
        ),
        asked(cpus=8, gpus=2, memory=64 * GIB + 1, time_s=43_200.5),
    )
    assert {
        *("--partition=gpu", "--account=lab", "--qos=long", "--constraint=a100&nvlink"),
        *("--reservation=course", "--exclusive", "--cpus-per-task=8", "--gres=gpu:a100:2"),
        *("--mem=65537M", "--time=721", "--no-requeue", "--nodes=1", "--ntasks=1"),
        *("--signal=B:USR1@120", "--propagate=NONE"),
    } <= set(words)
    assert words[:2] == ["--nice=100", "--mem=1M"]  # Slurm takes the later one of two


def test_unconfigured_options_are_left_to_slurm() -> None:
    words = sbatch_options(settings(), asked(cpus=1))
    for option in ("partition", "account", "qos", "gres", "mem", "time", "exclusive"):
        assert not any(word.startswith(f"--{option}") for word in words)


@pytest.mark.parametrize(("time_s", "warning_s"), [(30.0, 15), (240.0, 60), (86_400.0, 120)])
def test_short_pilot_is_warned_later(time_s: float, warning_s: int) -> None:
    words = sbatch_options(settings(), asked(cpus=1, time_s=time_s))
    assert f"--signal=B:USR1@{warning_s}" in words


def test_pilot_is_named_by_its_token_and_writes_into_its_folder() -> None:
    words = words_of(pilot("launcher-ab"), paths={"/shared": "/nfs/of 100%"})
    assert "--job-name=launcher-ab" in words
    assert "--chdir=/nfs/of 100%/pilots/launcher-ab" in words
    assert "--output=/nfs/of 100%%/pilots/launcher-ab/engine.log" in words
    assert not any(word.startswith("--array") for word in words)


def test_numbered_tokens_of_one_submission_are_one_array() -> None:
    pilots = [pilot(f"launcher-ab_{number}") for number in (0, 1, 2, 5, 7, 8)]
    alone, many = group_into_batches([*pilots, pilot("launcher-cd")])
    assert (alone.name, alone.elements) == ("launcher-cd", ())
    assert "--array=0-2,5,7-8" in sbatch_arguments(settings(), many)
    assert "--output=/shared/pilots/launcher-ab_%a/engine.log" in sbatch_arguments(settings(), many)


def test_script_is_replaced_by_the_pilot() -> None:
    text = script_of(pilot("launcher-ab"), wrap=("apptainer", "exec", "--nv", "my lab.sif"))
    last = shlex.split(text.splitlines()[-1])
    wrapped = ["exec", "apptainer", "exec", "--nv", "my lab.sif"]
    folder = "/shared/pilots/launcher-ab"
    assert last == [*wrapped, sys.executable, "-P", "-m", "launcher.pilots", folder]
    assert text.startswith("#!/bin/bash\n")


def test_interpreter_path_is_the_one_that_nodes_see() -> None:
    folder = str(Path(sys.executable).parent)
    mapped = script_of(pilot("launcher-ab"), paths={folder: "/nodes/bin"})
    assert f"exec /nodes/bin/{Path(sys.executable).name} -P" in mapped
    assert "exec /opt/python -P" in script_of(pilot("launcher-ab"), python="/opt/python")


def run_script(text: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash"], input=text, env=environment, capture_output=True, text=True, check=False
    )


def test_prologue_runs_in_a_login_shell_before_the_pilot() -> None:
    text = script_of(
        pilot("launcher-ab"), prologue="word='of the site'\nexport word", wrap=("/bin/echo",)
    )
    assert text.startswith("#!/bin/bash -l\n")
    done = run_script(text.replace("exec ", 'echo "$word"\nexec '))
    assert done.stdout.splitlines()[0] == "of the site"
    assert done.stdout.splitlines()[1].endswith("launcher.pilots /shared/pilots/launcher-ab")


def test_array_element_finds_its_own_folder() -> None:
    text = script_of(pilot("launcher-ab_7", parent="/with space"), wrap=("/bin/echo",))
    done = run_script(text, SLURM_ARRAY_TASK_ID="7")
    assert done.stdout.endswith("launcher.pilots /with space/launcher-ab_7\n")


def test_pilot_restarted_by_slurm_does_nothing() -> None:
    text = script_of(pilot("launcher-ab"), wrap=("/bin/echo",))
    assert run_script(text, SLURM_RESTART_COUNT="0").stdout
    done = run_script(text, SLURM_RESTART_COUNT="1")
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize(
    "complaint",
    [
        "invalid partition specified: x; Batch job submission failed: Invalid partition name specified",
        "Batch job submission failed: Invalid account or account/partition combination specified",
        "Batch job submission failed: Invalid qos specification",
        "Batch job submission failed: Invalid feature specification",
        "Batch job submission failed: Requested node configuration is not available",
        "Memory specification can not be satisfied",
        "unrecognized option '--frob'",
        "allocation failure: User's group not permitted to use this partition",
    ],
)
def test_refusal_that_the_configuration_must_fix_is_permanent(complaint: str) -> None:
    assert is_permanent_error(complaint)


@pytest.mark.parametrize(
    "complaint",
    [
        "Batch job submission failed: Unable to contact slurm controller (connect failure)",
        "Batch job submission failed: Socket timed out on send/recv operation",
        "Batch job submission failed: Slurm temporarily unable to accept job, sleeping and retrying",
        "Batch job submission failed: Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)",
        "exit code 1",
    ],
)
def test_temporary_refusal_is_not_permanent(complaint: str) -> None:
    assert not is_permanent_error(complaint)


def test_estimated_start_is_read() -> None:
    printed = "sbatch: Job 1 to start at 1795373460 using 1 processors on nodes n1"
    assert parse_estimated_start(printed) == 1795373460.0
    assert parse_estimated_start("sbatch: Job 1 to start at N/A") is None


def test_script_calls_no_slurm_command(tmp_path: Path) -> None:
    """An array of a thousand would ask a thousand times at once."""
    called = tmp_path / "called"
    for name in ("squeue", "scontrol", "sinfo", "sacct"):
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\necho {name} >> {called}\n")
        program.chmod(0o755)
    text = script_of(pilot("launcher-ab"), wrap=("/bin/echo",), prologue="true")
    done = run_script(text, PATH=f"{tmp_path}:/usr/bin:/bin", SLURM_JOB_ID="7")
    assert done.stdout.endswith("launcher.pilots /shared/pilots/launcher-ab\n")
    assert not called.exists()
