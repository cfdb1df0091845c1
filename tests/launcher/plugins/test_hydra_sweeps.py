"""Hydra sweeps in the queue."""

import os
import signal
import subprocess
import sys
import time
from typing import Any

import pytest

pytest.importorskip("hydra", reason="hydra is not installed")

from hydra.core.object_type import ObjectType
from hydra_plugins.launcher_queue import (
    LauncherOptions,
    QueueLauncher,
)

from launcher.frontends.plugins.hydra.options import read_options
from launcher.queue.job_options.registry import job_options
from launcher.system.errors import UsageError
from tests.build import until
from tests.e2e.conftest import Project, reading
from tests.launcher.plugins.conftest import DEADLINE_S, page_block, run_peer_suite

APP = """
import time
import hydra

@hydra.main(version_base=None)
def fit(config):
    print("started", flush=True)
    if config.get("kind") == "bad":
        raise ValueError("no such kind")
    time.sleep(config.get("sleep", 0))

fit()
"""


def sweep(project: Project, *words: str) -> "subprocess.CompletedProcess[str]":
    """Run a script of a project as a sweep."""
    return project.call("python", *words, timeout_s=DEADLINE_S)


def test_example_of_the_page_runs_and_its_overrides_are_parameters(tool_project: Project) -> None:
    tool_project.write("sweep.py", page_block("hydra.md", "python", "# sweep.py"))
    lines = page_block("hydra.md", "sh", "python sweep.py").splitlines()
    swept = sweep(tool_project, *lines[0].split()[1:])
    assert swept.returncode == 0, swept.stderr
    assert "Launching 4 jobs in the queue" in swept.stdout
    rows = tool_project.call(*lines[1].split()).stdout.splitlines()
    assert rows[0].split() == ["job", "lr", "seed", "loss"]
    assert rows[1].split() == ["function/sweep#1", "0.5", "1", "0.51"]
    means = tool_project.call(*lines[2].split()).stdout.splitlines()
    assert [line.split("\t")[:2] for line in means] == [
        ["lr", "count"],
        ["0.5", "2"],
        ["0.25", "2"],
    ]


def test_failure_of_a_job_is_that_of_the_sweep_and_the_other_jobs_end(
    tool_project: Project,
) -> None:
    tool_project.write("fit.py", APP)
    swept = sweep(
        tool_project, "fit.py", "-m", "+kind=bad,good", "hydra/launcher=launcher",
        "hydra.launcher.name=kinds", "hydra.launcher.max_workers=1",
    )  # fmt: skip
    assert swept.returncode == 1
    assert "Error executing job with overrides: ['+kind=bad']" in swept.stderr
    assert "ValueError: no such kind" in swept.stderr
    with reading(tool_project.home) as store:
        states = [row.state for row in store.read.jobs() if "kinds" in row.name]
    assert states == ["failed", "done"]


@pytest.mark.parametrize(
    ("option", "state"),
    [pytest.param("continue", "running", marks=pytest.mark.night), ("cancel", "cancelled")],
)
def test_ctrl_c_continues_or_cancels_the_jobs(
    tool_project: Project, option: str, state: str
) -> None:
    tool_project.write("fit.py", APP)
    words = [
        sys.executable, "fit.py", "-m", "+sleep=60,61", "hydra/launcher=launcher",
        f"hydra.launcher.on_interrupt={option}", f"hydra.launcher.name=long-{option}",
        "hydra.launcher.grace=1s",
    ]  # fmt: skip
    with (
        subprocess.Popen(
            words, cwd=tool_project.folder, env=tool_project.environment,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        ) as process,
    ):  # fmt: skip

        def states() -> list[str]:
            with reading(tool_project.home) as store:
                rows = [row for row in store.read.jobs() if f"long-{option}" in row.name]
            return [str(row.state) for row in rows]

        until(lambda: "running" in states(), "a job runs")
        time.sleep(1.0)  # until it waits for the jobs
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=DEADLINE_S)
        assert process.returncode == 130, err
        assert "Traceback" not in err
        note = "note: 2 jobs continue" if option == "continue" else "note: cancelled 2 jobs"
        assert note in err
        until(lambda: state in states(), "the option holds")
        tool_project.call("launcher", "cancel", "run:functions", "--yes")


def test_one_test_of_hydras_own_suite_passes(tool_project: Project) -> None:
    tested = run_peer_suite(tool_project, "hydra_suite.py", "-k", "test_sweep_2_optimizers")
    assert "1 passed" in tested.stdout, tested.stdout


def test_config_has_each_job_option_and_no_option_imports_the_queue_early() -> None:
    source = LauncherOptions("launcher", "launcher://")
    (name,) = source.list("hydra/launcher", ObjectType.CONFIG)
    config = source.load_config(f"hydra/launcher/{name}").config
    assert config["_target_"] == f"hydra_plugins.launcher_queue.{QueueLauncher.__name__}"
    assert set(config) >= {*job_options(), "run", "max_workers", "on_interrupt"}
    lines = [
        "import sys",
        "from hydra.core.plugins import Plugins",
        "times = Plugins.instance().get_stats().modules_import_time",
        "print(times['hydra_plugins.launcher_queue'])",
        "print([name for name in sys.modules if name.startswith('launcher')])",
    ]
    code = "\n".join(lines)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    printed = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert printed.stdout.split()[1:] == ["[]"], printed.stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"gpuss": 1},
            r"unknown option 'hydra.launcher.gpuss'.*Did you mean 'hydra.launcher.gpus'",
        ),
        ({"on_interrupt": "stop"}, "hydra.launcher.on_interrupt: expected continue or cancel"),
        ({"max_workers": 0}, "hydra.launcher.max_workers: expected a whole number"),
    ],
)
def test_wrong_option_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_options(options)
