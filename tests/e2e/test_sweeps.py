"""Sweeps of a program, from a file and from the prompt: really queued, killed in the middle, gone on with."""

import csv
import json
import os
import signal
import sys

import pytest

from launcher.system.daemon_control import scheduler_pid
from tests.build import until
from tests.e2e.conftest import Project, reading

FILE = """\
name: grid
command:
  - name: fit
    argv: [sh, -c, '{program}']
    matrix: {{lr: {rates}, seed: [1, 2]}}
"""
# each says once that it ran, and stays until it may go
WAITS = "echo {lr} {seed} >> ran; echo launcher: acc={lr}; while [ ! -e go ]; do sleep 0.05; done; cat {job_folder}/params.json >> told"


def ran(project: Project) -> list[str]:
    file = project.folder / "ran"
    return sorted(file.read_text().splitlines()) if file.exists() else []


def written(project: Project, *rates: str) -> None:
    text = FILE.format(program=WAITS, rates=f"[{', '.join(rates)}]")
    (project.folder / "sweep.yaml").write_text(text)


def kill_scheduler(project: Project) -> None:
    """Kill it when jobs of it run, and not all of them have begun."""
    until(lambda: ran(project), "a job runs")
    pid = scheduler_pid(project.home)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    assert len(ran(project)) < 6
    (project.folder / "go").touch()


def pairs(*rates: str) -> list[str]:
    return sorted(f"{lr} {seed}" for lr in rates for seed in (1, 2))


@pytest.mark.parametrize("way", ["file", "prompt"])
def test_a_sweep_that_was_killed_goes_on_and_runs_each_combination_once(
    project: Project, way: str
) -> None:
    written(project, "0.1", "0.01", "0.5")
    sweep = ("--sweep", "lr=0.1,0.01,0.5", "--sweep", "seed=1,2")
    words: tuple[str, ...]
    if way == "file":
        run, words = "grid", ("run", "sweep.yaml", "--detach")
    else:
        run, words = (
            "mine",
            ("add", "--run", "mine", "--name", "fit", *sweep, "--", "sh", "-c", WAITS),
        )
    started = project.call("launcher", *words)
    assert started.returncode == 0, started.stderr
    kill_scheduler(project)
    assert project.call("launcher", "start").returncode == 0
    assert project.call("launcher", "wait", f"run:{run}").returncode == 0
    assert ran(project) == pairs("0.1", "0.01", "0.5")
    with reading(project.home) as store:
        rows = store.read.jobs_of(project.folder, run)
    lines = (project.folder / "told").read_text().replace("}", "}\n").splitlines()
    values = [json.loads(line) for line in lines if line.strip()]
    assert sorted(map(str, values)) == sorted(
        str(row.spec.settings["params"]) for row in rows.values()
    )


def test_a_second_run_runs_nothing_and_a_value_that_is_added_its_own_jobs(project: Project) -> None:
    (project.folder / "go").touch()
    written(project, "0.1", "0.01")
    for rates in (("0.1", "0.01"), ("0.1", "0.01"), ("0.3", "0.1", "0.01"), ("0.3",)):
        written(project, *rates)
        answer = project.call("launcher", "run", "sweep.yaml")
        assert answer.returncode == 0, answer.stderr
        every = {"0.1", "0.01", *rates} | ({"0.3"} if len(rates) == 1 else set())
        assert ran(project) == pairs(*every)


def test_what_ran_under_values_that_a_file_has_no_more_is_marked_until_it_has_them_again(
    project: Project,
) -> None:
    (project.folder / "go").touch()
    for rates, removed in ((("0.1", "0.5"), []), (("0.5",), ["0.1"]), (("0.1",), ["0.5"])):
        written(project, *rates)
        assert project.call("launcher", "run", "sweep.yaml").returncode == 0
        table = project.call("launcher", "results", "grid", "--format", "csv").stdout
        rows = list(csv.DictReader(table.splitlines()))
        marked = sorted(f"{row['lr']} {row['seed']}" for row in rows if row.get("removed") == "yes")
        assert (len(rows), marked) == (4, pairs(*removed))
    (project.folder / "sweep.yaml").write_text(
        "name: grid\ncommand: [{name: other, argv: ['true']}]\n"
    )
    assert project.call("launcher", "run", "sweep.yaml").returncode == 0
    table = project.call("launcher", "results", "grid", "--format", "csv").stdout
    assert [row["removed"] for row in csv.DictReader(table.splitlines())] == ["yes"] * 4


SCRIPT = """\
import json, os, sys
values = json.loads(os.environ["LAUNCHER_PARAMS"])
for step in (1, 2):
    acc = round(1 - values["lr"] * 2 + values["seed"] / 100 - (2 - step) / 10, 4)
    print(f"launcher: step={step} acc={acc} loss={round(1 - acc, 4)}")
"""
SIX = ("--sweep", "lr=0.1,0.01,0.2", "--sweep", "seed=1,2", "--name", "fit")


def test_results_of_six_programs_of_ones_own_are_read_in_every_form(project: Project) -> None:
    (project.folder / "train.py").write_text(SCRIPT)
    words = ("add", "--run", "mine", *SIX, "--", sys.executable, "train.py", "{sweep}")
    assert project.call("launcher", *words).returncode == 0
    assert project.call("launcher", "wait", "run:mine").returncode == 0

    def answer(*words: str) -> list[dict[str, str]]:
        ended = project.call("launcher", *words, "--format", "csv")
        assert ended.returncode == 0, ended.stderr
        return list(csv.DictReader(ended.stdout.splitlines()))

    rows = answer("results", "mine")
    assert {(row["lr"], row["seed"], row["acc"]) for row in rows} == {
        ("0.1", "1", "0.81"), ("0.1", "2", "0.82"), ("0.01", "1", "0.99"), ("0.01", "2", "1.0"),
        ("0.2", "1", "0.61"), ("0.2", "2", "0.62"),
    }  # fmt: skip
    (best,) = answer("results", "mine", "--best", "acc")
    assert (best["job"], best["lr"], best["seed"]) == ("command/fit@lr=0.01,seed=2", "0.01", "2")
    over = answer("results", "mine", "--over", "seed")
    assert {(row["lr"], row["acc"], row["count"]) for row in over} == {
        ("0.1", "0.815", "2"), ("0.01", "0.995", "2"), ("0.2", "0.615", "2"),
    }  # fmt: skip
    asked = "SELECT lr, seed, acc FROM results WHERE run = 'mine' ORDER BY acc DESC LIMIT 1"
    assert answer("query", asked) == [{"lr": "0.01", "seed": "2", "acc": "1.0"}]
    asked = "SELECT model, value FROM best WHERE metric = 'loss'"
    assert answer("query", asked) == [{"model": "command/fit@lr=0.01,seed=2", "value": "0.0"}]
