"""Snakemake workflows in the queue."""

import signal
import subprocess
import sys
import time
from typing import Any

import pytest

pytest.importorskip("snakemake", reason="snakemake is not installed")

from launcher.frontends.plugins.snakemake.requests import job_request, mistyped_resources
from launcher.queue.jobs.job import Resources
from launcher.queue.store.rows import JobRow
from tests.build import until
from tests.e2e.conftest import Project, reading
from tests.launcher.plugins.conftest import DEADLINE_S, page_block, run_peer_suite

SNAKEMAKE = (sys.executable, "-m", "snakemake", "--executor", "launcher", "--jobs", "2")
WORKFLOW = """ # prose: ok, a workflow
rule flaky:
    output: "flaky.txt"
    resources: mem_mb=lambda wildcards, attempt: 100 * attempt
    shell: "echo tried; test -e second || (touch second; false); touch {output}"

rule slow:
    output: "slow-{part}.txt"
    shell: "sleep 300"
"""


def workflow(project: Project, name: str, text: str, *words: str) -> list[str]:
    """Write a workflow into a folder of a project; return the command that runs it."""
    project.write(f"{name}/Snakefile", text)
    return [*SNAKEMAKE, "--directory", name, "--snakefile", f"{name}/Snakefile", *words]


def jobs_of(project: Project, rule: str) -> list[JobRow]:
    """Return the jobs of a rule, in the order in which they were queued."""
    with reading(project.home) as store:
        return [row for row in store.read.jobs() if row.name.startswith(f"command/{rule}-")]


def run(project: Project, words: list[str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        words, cwd=project.folder, env=project.environment, capture_output=True, text=True,
        timeout=DEADLINE_S, check=False,
    )  # fmt: skip


def test_example_of_the_page_runs_with_its_resources(tool_project: Project) -> None:
    text = page_block("snakemake.md", "plain", "PARTS")
    command = page_block("snakemake.md", "plain", "snakemake").splitlines()[0].split()
    assert command == ["snakemake", *SNAKEMAKE[3:6], "4"]
    words = workflow(tool_project, "whole", text, "--launcher-run", "tables")
    ended = run(tool_project, words)
    assert ended.returncode == 0, ended.stderr
    assert (tool_project.folder / "whole" / "all.txt").read_text() == "a\nb\n"
    first, second = jobs_of(tool_project, "count")
    assert {first.owner_note, second.owner_note} == {"count part=a", "count part=b"}
    assert (first.run, first.kind, str(first.state)) == ("tables", "command", "done")
    assert first.spec.resources == Resources(device="cpu", cpus=1, ram=200_000_000)
    assert first.spec.terms.time_limit_s == 600
    assert len(jobs_of(tool_project, "join")) == 1


def test_failed_job_is_reported_with_its_log_and_tried_again(tool_project: Project) -> None:
    words = workflow(tool_project, "again", WORKFLOW, "--retries", "1", "flaky.txt")
    ended = run(tool_project, words)
    assert ended.returncode == 0, ended.stderr
    first, second = jobs_of(tool_project, "flaky")
    assert [str(first.state), str(second.state)] == ["failed", "done"]
    assert [row.spec.resources.ram for row in (first, second)] == [100_000_000, 200_000_000]
    assert f"{first.name} failed: ended with exit code 1" in ended.stderr
    assert f"log: {first.attempt_in(tool_project.home).log}" in ended.stderr


def test_cancelled_workflow_cancels_its_jobs(tool_project: Project) -> None:
    words = workflow(tool_project, "long", WORKFLOW, "slow-a.txt", "slow-b.txt")
    with (
        subprocess.Popen(
            words, cwd=tool_project.folder, env=tool_project.environment,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        ) as process,
    ):  # fmt: skip

        def states() -> list[str]:
            return [str(row.state) for row in jobs_of(tool_project, "slow")]

        until(lambda: states().count("running") == 2, "both jobs run")
        time.sleep(1.0)  # until Snakemake waits for them
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=DEADLINE_S)
        until(lambda: states() == ["cancelled", "cancelled"], "the jobs are cancelled")


def test_one_test_of_snakemakes_own_suite_passes(tool_project: Project) -> None:
    tested = run_peer_suite(tool_project, "snakemake_suite.py", "-k", "test_simple_workflow")
    assert "1 passed" in tested.stdout, tested.stdout


@pytest.mark.parametrize(
    ("resources", "options"),
    [
        ({}, {"cpus": 2}),
        ({"mem_mb": 500}, {"cpus": 2, "ram": 500_000_000}),
        ({"runtime": 90}, {"cpus": 2, "time_limit": 5400}),
        ({"gpu": 1, "vram": "10GiB"}, {"cpus": 2, "gpus": 1, "vram": "10GiB"}),
        ({"vram": 1024}, {"cpus": 2, "vram": 2**30}),
        ({"vram": "1024"}, {"cpus": 2, "vram": 2**30}),
        ({"exclusive": "true", "on": "slurm"}, {"cpus": 2, "exclusive": "true", "on": "slurm"}),
        ({"tmpdir": "/tmp", "disk_mb": 5, "licences": 1}, {"cpus": 2}),
    ],
)
def test_resources_of_a_rule_are_options_of_its_job(
    resources: dict[str, Any], options: dict[str, Any]
) -> None:
    assert job_request(2, resources) == options


def test_resource_that_is_almost_an_option_is_named_with_it() -> None:
    resources = {"vran": 1, "mem_mb": 1, "mem_mib": 1, "tmpdir": "/tmp", "licences": 1}
    assert [*mistyped_resources(resources)] == [("vran", "vram")]
