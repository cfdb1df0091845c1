"""The whole queue through the installed commands, with a laboratory that is not trueface."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from launcher.queue.home.daemon_control import scheduler_pid
from launcher.system.process_trees import descendants
from tests.build import until
from tests.e2e.conftest import Project

TASK = """
name: toys
defaults: {sleep_s: SLEEP}
toyshapes: [{data_root: toys}]
toytrain:
  - {model: null, data: "dot:pre"}
  - {model: "dot:pre", data: "line:pre"}
  - {model: null, data: "dot:pre", poison: [50]}
toyunlearn:
  - {model: "dot:pre%50", method: METHOD}
autotest: ["real:pre", "dot:pre"]
"""
JOBS = 1 + 3 + 1 + 1 + 4 * 2


def a_task(project: Project, *, sleep_s: float = 0.0) -> str:
    method = "relabel"
    text = TASK.replace("SLEEP", str(sleep_s)).replace("METHOD", method)
    return project.write("toys.yaml", text)


def states(project: Project) -> dict[str, str]:
    said = project.call("launcher", "status", "run:toys", "--json")
    return {job["name"]: job["state"] for job in json.loads(said.stdout)["jobs"]}


def is_queued(project: Project) -> bool:
    """Return whether the queue has the run. The database exists before the run."""
    known = project.home.database.exists()
    return known and project.call("launcher", "status", "run:toys").returncode == 0


def test_dry_run_lists_all_jobs_in_order_and_writes_nothing(toys: Project) -> None:
    said = toys.call("launcher", "run", a_task(toys), "--dry-run", "--json")
    assert said.returncode == 0, said.stderr
    jobs = json.loads(said.stdout)["jobs"]
    assert len(jobs) == JOBS
    seen: set[str] = set()
    for job in jobs:
        assert set(job["needs"]) <= seen
        seen.add(job["name"])
    assert not toys.home.folder.exists()
    assert [path.name for path in toys.folder.iterdir()] == ["toys.yaml"]


def test_second_run_of_a_file_joins_the_first_without_duplicates(
    toys: Project,
) -> None:
    task = a_task(toys, sleep_s=0.2)
    with toys.start("launcher", "run", task) as first:
        until(lambda: is_queued(toys), "the first run is queued")
        second = toys.call("launcher", "run", task)
        first.communicate(timeout=60)
    assert (first.returncode, second.returncode) == (0, 0), second.stderr
    assert len(list(toys.home.attempts.iterdir())) == JOBS


def test_interrupted_view_does_not_stop_jobs(toys: Project) -> None:
    task = a_task(toys, sleep_s=0.2)
    with toys.start("launcher", "run", task) as run:
        until(lambda: is_queued(toys), "the run is queued")
        run.send_signal(signal.SIGINT)
        _, err = run.communicate(timeout=20)
    assert run.returncode == 130
    assert "jobs continue" in err
    assert toys.call("launcher", "wait").returncode == 0
    assert set(states(toys).values()) == {"done"}


def test_stopped_queue_ends_the_view_and_next_run_continues(toys: Project) -> None:
    task = a_task(toys, sleep_s=0.2)
    with toys.start("launcher", "run", task) as run:
        until(lambda: is_queued(toys), "the run is queued")
        assert toys.call("launcher", "stop", "--now").returncode == 0
        _, err = run.communicate(timeout=20)
    assert run.returncode == 3
    assert "the queue is stopped" in err
    assert toys.call("launcher", "run", task).returncode == 0
    assert set(states(toys).values()) == {"done"}


def test_every_job_is_done_once_although_all_processes_are_killed_repeatedly(
    toys: Project,
) -> None:
    task = a_task(toys, sleep_s=0.15)
    with toys.start("launcher", "run", task) as run:
        for _ in range(4):
            until(lambda: scheduler_pid(toys.home) is not None, "a scheduler lives")
            pid = scheduler_pid(toys.home)
            if pid is not None:
                for one in [pid, *descendants(pid)]:
                    try:
                        os.kill(one, signal.SIGKILL)
                    except ProcessLookupError:
                        continue
        _, err = run.communicate(timeout=120)
    assert run.returncode == 0, err
    assert set(states(toys).values()) == {"done"}


def test_failed_job_skips_dependents_and_error_suggests_next_step(
    toys: Project,
) -> None:
    task = a_task(toys)
    text = (toys.folder / task).read_text(encoding="utf-8")
    toys.write(task, text.replace('"line:pre"}', '"line:pre", fail: "no luck today"}'))
    said = toys.call("launcher", "run", task)
    assert said.returncode == 1
    assert "failed: toytrain/dot:pre#line:pre: no luck today" in said.stderr
    assert "skipped: 2 jobs" in said.stderr
    number = next(
        job["id"]
        for job in json.loads(toys.call("launcher", "status", "run:toys", "--json").stdout)["jobs"]
        if job["state"] == "failed"
    )
    assert "no luck today" in toys.call("launcher", "logs", str(number)).stdout
    toys.write(task, text)
    again = toys.call("launcher", "run", task)
    assert again.returncode == 0, again.stderr
    assert "3 queued" in again.stderr


def test_missing_task_file_is_named_in_the_error(toys: Project) -> None:
    said = toys.call("launcher", "run", "nowhere.yaml")
    assert said.returncode == 2
    assert "nowhere.yaml" in said.stderr


def test_edited_plugin_code_takes_effect_immediately(toys: Project) -> None:
    task = a_task(toys)
    toys.call("launcher", "run", task)
    lab = Path(toys.environment["PYTHONPATH"]) / "toylab.py"
    lab.write_text(lab.read_text(encoding="utf-8") + "\nEDITED = 1\n", encoding="utf-8")
    said = toys.call("launcher", "run", task)
    assert f"{JOBS} queued" in said.stderr


def test_commands_do_not_import_torch(toys: Project) -> None:
    probe = (
        "import sys, launcher.frontends.cli.main, launcher.frontends.cli.commands.run, launcher.scheduler, launcher.queue.workers.fork_server;"
        "print([m for m in ('torch', 'torchvision', 'numpy', 'sklearn') if m in sys.modules])"
    )
    said = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, check=True, cwd=toys.folder
    )
    assert said.stdout.strip() == "[]"
