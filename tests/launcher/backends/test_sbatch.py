"""What sbatch is asked, and what its refusals mean."""

import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from launcher.backends.channel import PilotFolder, PilotSpec
from launcher.backends.settings import BackendSettings
from launcher.backends.slurm import (
    arguments,
    batches,
    estimated_start,
    for_good,
    script,
    submission,
)

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
    (batch,) = batches([pilot])
    return submission(settings(**changes), batch)


def script_of(pilot: tuple[PilotFolder, PilotSpec], **changes: object) -> str:
    (batch,) = batches([pilot])
    return script(settings(**changes), batch)


def test_all_that_the_configuration_names_is_asked() -> None:
    words = arguments(
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
    assert words[:2] == ["--nice=100", "--mem=1M"]  # of two, Slurm takes the later


def test_what_the_configuration_does_not_name_is_left_to_slurm() -> None:
    words = arguments(settings(), asked(cpus=1))
    for option in ("partition", "account", "qos", "gres", "mem", "time", "exclusive"):
        assert not any(word.startswith(f"--{option}") for word in words)


@pytest.mark.parametrize(("time_s", "warning_s"), [(30.0, 15), (240.0, 60), (86_400.0, 120)])
def test_a_short_pilot_is_warned_later(time_s: float, warning_s: int) -> None:
    words = arguments(settings(), asked(cpus=1, time_s=time_s))
    assert f"--signal=B:USR1@{warning_s}" in words


def test_a_pilot_is_named_by_its_token_and_writes_into_its_folder() -> None:
    words = words_of(pilot("launcher-ab"), paths={"/shared": "/nfs/of 100%"})
    assert "--job-name=launcher-ab" in words
    assert "--chdir=/nfs/of 100%/pilots/launcher-ab" in words
    assert "--output=/nfs/of 100%%/pilots/launcher-ab/engine.log" in words
    assert not any(word.startswith("--array") for word in words)


def test_numbered_tokens_of_one_submission_are_one_array() -> None:
    pilots = [pilot(f"launcher-ab_{number}") for number in (0, 1, 2, 5, 7, 8)]
    alone, many = batches([*pilots, pilot("launcher-cd")])
    assert (alone.name, alone.elements) == ("launcher-cd", ())
    assert "--array=0-2,5,7-8" in submission(settings(), many)
    assert "--output=/shared/pilots/launcher-ab_%a/engine.log" in submission(settings(), many)


def test_the_script_becomes_the_pilot() -> None:
    text = script_of(pilot("launcher-ab"), wrap=("apptainer", "exec", "--nv", "my lab.sif"))
    last = shlex.split(text.splitlines()[-1])
    wrapped = ["exec", "apptainer", "exec", "--nv", "my lab.sif"]
    folder = "/shared/pilots/launcher-ab"
    assert last == [*wrapped, sys.executable, "-P", "-m", "launcher.pilots", folder]
    assert text.startswith("#!/bin/bash\n")


def test_an_interpreter_is_where_the_nodes_see_it() -> None:
    folder = str(Path(sys.executable).parent)
    mapped = script_of(pilot("launcher-ab"), paths={folder: "/nodes/bin"})
    assert f"exec /nodes/bin/{Path(sys.executable).name} -P" in mapped
    assert "exec /opt/python -P" in script_of(pilot("launcher-ab"), python="/opt/python")


def run_script(text: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash"], input=text, env=environment, capture_output=True, text=True, check=False
    )


def test_the_prologue_runs_in_a_login_shell_before_the_pilot() -> None:
    text = script_of(
        pilot("launcher-ab"), prologue="word='of the site'\nexport word", wrap=("/bin/echo",)
    )
    assert text.startswith("#!/bin/bash -l\n")
    done = run_script(text.replace("exec ", 'echo "$word"\nexec '))
    assert done.stdout.splitlines()[0] == "of the site"
    assert done.stdout.splitlines()[1].endswith("launcher.pilots /shared/pilots/launcher-ab")


def test_an_element_finds_its_own_folder() -> None:
    text = script_of(pilot("launcher-ab_7", parent="/with space"), wrap=("/bin/echo",))
    done = run_script(text, SLURM_ARRAY_TASK_ID="7")
    assert done.stdout.endswith("launcher.pilots /with space/launcher-ab_7\n")


def test_a_pilot_that_slurm_starts_again_does_nothing() -> None:
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
def test_what_the_configuration_must_mend_is_refused_for_good(complaint: str) -> None:
    assert for_good(complaint)


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
def test_what_passes_by_itself_is_not_refused_for_good(complaint: str) -> None:
    assert not for_good(complaint)


def test_the_estimated_start_is_read() -> None:
    printed = "sbatch: Job 1 to start at 1795373460 using 1 processors on nodes n1"
    assert estimated_start(printed) == 1795373460.0
    assert estimated_start("sbatch: Job 1 to start at N/A") is None


def test_a_script_asks_slurm_nothing(tmp_path: Path) -> None:
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
