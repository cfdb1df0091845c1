"""Programs through a real queue: their files, sweeps, thousands of them, and work that jobs share."""

import csv
import json
import os
import resource
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from launcher.queue.gpu.monitor import recorded_program
from launcher.queue.home.daemon_control import scheduler_pid
from launcher.queue.jobs.states import State
from launcher.queue.store.queue import Store
from launcher.system.process_trees import descendants, send_signal
from tests.build import job_row, lines_of, supervisor_of, until
from tests.e2e.conftest import TOYLAB, Project, reading
from tests.forked import BIN

TASK = """\
name: files
command:
  - {name: last, argv: [cp, middle.txt, "{run_folder}/last.txt"], inputs: [middle.txt], outputs: ["{run_folder}/last.txt"]}
  - {name: first, argv: [sh, first.sh, in.txt], inputs: [in.txt], outputs: [middle.txt]}
  - {name: own, argv: [cp, in.txt, "{job_folder}/copy"], outputs: ["{job_folder}/copy"]}
"""


def planned_jobs(project: Project, file: str, *words: str) -> dict[str, str]:
    """Return what a dry run would run, each with the reason."""
    shown = project.call("launcher", "run", file, "--dry-run", "--json", *words)
    jobs = json.loads(shown.stdout)["jobs"]
    return {job["name"]: job["reason"] for job in jobs if job["state"] != "cached"}


def test_previous_output_is_restored_after_program_and_supervisor_were_killed(
    project: Project,
) -> None:
    output = project.folder / "made.txt"
    project.write("made.txt", "old")
    project.write("make.sh", "echo part >made.txt; exec sleep 60\n")
    entry = "{name: t, argv: [sh, make.sh], outputs: [made.txt]}"
    project.write("x.yaml", f"name: x\ncommand: [{entry}]\n")
    assert project.call("launcher", "run", "x.yaml", "--detach").returncode == 0
    attempt = project.home.attempt(1, 1)
    until(lambda: lines_of(output) == ["part"], "it writes")
    supervisor = supervisor_of(attempt)
    program = descendants(supervisor)
    project.call("launcher", "stop")  # nothing of it shall run again
    os.kill(supervisor, signal.SIGKILL)
    for pid in program:
        send_signal(pid, signal.SIGKILL)

    def is_over() -> bool:
        with reading(project.home) as store:
            return job_row(store, 1).state is not State.RUNNING

    until(is_over, "its end is taken in")
    assert output.read_text() == "old"
    assert [path.name for path in Path(project.folder).glob(".*")] == []


# --- Sweeps of a program, from a file and from the prompt: really queued, killed in the middle, gone on with


FILE = """\
name: grid
command:
  - name: fit
    argv: [sh, -c, '{program}']
    matrix: {{lr: {rates}, seed: [1, 2]}}
"""


# each says once that it ran, and stays until it may go
WAITS = "echo {lr} {seed} >> ran; echo launcher: acc={lr}; while [ ! -e go ]; do sleep 0.05; done; cat {job_folder}/params.json >> told"


def executed_commands(project: Project) -> list[str]:
    file = project.folder / "ran"
    return sorted(file.read_text().splitlines()) if file.exists() else []


def written(project: Project, *rates: str) -> None:
    text = FILE.format(program=WAITS, rates=f"[{', '.join(rates)}]")
    (project.folder / "sweep.yaml").write_text(text)


def kill_scheduler(project: Project) -> None:
    """Kill it when jobs of it run, and not all of them have begun."""
    until(lambda: executed_commands(project), "a job runs")
    pid = scheduler_pid(project.home)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    assert len(executed_commands(project)) < 6
    (project.folder / "go").touch()


def pairs(*rates: str) -> list[str]:
    return sorted(f"{lr} {seed}" for lr in rates for seed in (1, 2))


def test_killed_sweep_continues_and_runs_each_combination_once(project: Project) -> None:
    written(project, "0.1", "0.01", "0.5")
    assert project.call("launcher", "run", "sweep.yaml", "--detach").returncode == 0
    kill_scheduler(project)
    assert project.call("launcher", "start").returncode == 0
    assert project.call("launcher", "wait", "run:grid").returncode == 0
    assert executed_commands(project) == pairs("0.1", "0.01", "0.5")
    with reading(project.home) as store:
        rows = store.read.jobs_of(project.folder, "grid")
    lines = (project.folder / "told").read_text().replace("}", "}\n").splitlines()
    values = [json.loads(line) for line in lines if line.strip()]
    assert sorted(map(str, values)) == sorted(
        str(row.spec.settings["params"]) for row in rows.values()
    )


def test_second_run_runs_nothing_and_an_added_value_only_its_jobs(project: Project) -> None:
    (project.folder / "go").touch()
    written(project, "0.1", "0.01")
    for rates in (("0.1", "0.01"), ("0.1", "0.01"), ("0.3", "0.1", "0.01"), ("0.3",)):
        written(project, *rates)
        answer = project.call("launcher", "run", "sweep.yaml")
        assert answer.returncode == 0, answer.stderr
        every = {"0.1", "0.01", *rates} | ({"0.3"} if len(rates) == 1 else set())
        assert executed_commands(project) == pairs(*every)


def test_results_of_removed_values_are_marked_until_the_values_return(
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


# --- Thousands of commands from a pipe: really queued, really run


LINES = 100_000


def add_from_pipe(project: Project, text: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [project.commands / "launcher", "add", *words, "--from", "-"],
        cwd=project.folder,
        env=project.environment,
        input=text,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.mark.night
def test_hundred_thousand_commands_are_one_transaction(project: Project) -> None:
    lines = "".join(f"true --seed {number} 'a b'\n" for number in range(LINES))
    refused = add_from_pipe(project, f"{lines}true 'a b\n", "--hold")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert f"--> <stdin>:{LINES + 1}:6\n" in refused.stderr
    assert not project.home.database.exists()
    added = add_from_pipe(project, lines, "--hold", "--name", "seed")
    assert (added.returncode, added.stderr) == (0, "")
    with reading(project.home) as store:
        assert store.read.counts()[State.HELD] == LINES
        (last,) = store.read.select_by_pattern(f"seed-{LINES}")
        assert last.id == LINES
        assert last.spec.argv == ("true", "--seed", str(LINES - 1), "a b")


# --- A job that does what others repeat, in real processes: it fails, is killed, is cancelled


SHARING = Path(__file__).parents[1] / "launcher" / "sharing_toys.py"


SHARED = """
name: NAME
defaults: {data_root: toys-NAME, frozen: true, share_fails: "FAILS", share_sleeps_s: SLEEPS}
toyshapes: [{}]  # each run makes its own: a set that another makes again is another one
toytrain:
  - {data: dot:pre, matrix: {lr: [0.1, 0.2]}}
"""


SHARE, TRAINING = "toyshare/dot:pre", "toytrain/dot:pre@lr=0.1"


ENDS = {
    "done": State.DONE, "failed": State.FAILED, "killed": State.FAILED, "cancelled": State.CANCELLED,
}  # fmt: skip


@pytest.fixture
def sharing(project: Project, tmp_path: Path) -> Project:
    """A project with a laboratory whose trainings share work."""
    site = tmp_path / "site"
    package = site / "toylab-1.0.dist-info"
    package.mkdir(parents=True)
    for file in (TOYLAB, SHARING):
        text = file.read_text(encoding="utf-8").replace("from tests.launcher.toylab", "from toylab")
        text = text.replace("from tests.launcher import toylab", "import toylab")
        (site / file.name).write_text(text, encoding="utf-8")
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: toylab\nVersion: 1.0\n")
    kinds = ("shapes", "train", "test", "share")
    points = "\n".join(f"toy{kind} = sharing_toys:{kind.upper()}" for kind in kinds)
    (package / "entry_points.txt").write_text(f"[launcher.kinds]\n{points}\n")
    project.environment["PYTHONPATH"] = str(site)
    return project


def a_task(project: Project, name: str, *, fails: str = "", sleeps_s: float = 0.0) -> str:
    text = SHARED.replace("NAME", name).replace("FAILS", fails).replace("SLEEPS", str(sleeps_s))
    return project.write(f"{name}.yaml", text)


def worker(project: Project, job: int) -> int:
    """Return the PID that a job's first attempt reports as its progress, 0 without a report."""
    file = project.home.attempts / f"{job}-1" / "progress.jsonl"
    lines = file.read_text().splitlines() if file.exists() else []
    return int(json.loads(lines[-1])["step"]) if lines else 0


def test_jobs_with_shared_work_start_after_its_end_even_if_it_failed(
    sharing: Project,
) -> None:
    tasks = [
        a_task(sharing, "done"),
        a_task(sharing, "failed", fails="no words"),
        a_task(sharing, "killed", sleeps_s=60),
        a_task(sharing, "cancelled", sleeps_s=60),
    ]
    answer = sharing.call("launcher", "run", *tasks, "--detach")
    assert answer.returncode == 0, answer.stderr
    store = Store(sharing.home, reading=True)

    def states(run: str) -> dict[str, State]:
        return {row.name: row.state for row in store.read.jobs() if row.run == run}

    shared = {row.run: row.id for row in store.read.jobs() if row.name == SHARE}
    until(lambda: worker(sharing, shared["killed"]), "the one to be killed runs")
    os.kill(worker(sharing, shared["killed"]), signal.SIGKILL)
    until(lambda: worker(sharing, shared["cancelled"]), "the one to be cancelled runs")
    waiting = next(
        row for row in store.read.jobs() if row.run == "cancelled" and row.name == TRAINING
    )
    assert (waiting.state, waiting.waits) == (State.QUEUED, 1)
    sharing.call("launcher", "cancel", str(shared["cancelled"]), "--yes")
    sharing.call("launcher", "wait")
    for run, end in ENDS.items():
        ended = states(run)
        assert (ended.pop(SHARE), set(ended.values())) == (end, {State.DONE}), run
    store.close()
    again = sharing.call("launcher", "run", "cancelled.yaml")
    assert "3 jobs, 0 queued, 3 done before" in again.stderr, "what is shared is not needed again"


def test_program_has_limits_and_niceness_of_the_queueing_shell(
    project: Project,
) -> None:
    look = "ulimit -S -n; ulimit -S -s; nice"
    first = 'ulimit -S -n 256; ulimit -S -s 16384; exec nice -n 5 "$@"'
    add = (str(BIN / "launcher"), "add")
    queued = [
        subprocess.run(
            ["sh", "-c", script, "sh", *add, "--", "sh", "-c", look],
            cwd=project.folder,
            env=project.environment,
            check=True,
            capture_output=True,
            text=True,
        ).stdout.split()[0]
        for script in (first, first, 'ulimit -S -n 200; exec "$@"')
    ]
    assert project.call("launcher", "wait", *queued).returncode == 0
    said = [project.call("launcher", "logs", job).stdout.split() for job in queued]
    here, nice = resource.getrlimit(resource.RLIMIT_STACK)[0], os.nice(0)
    stack = "unlimited" if here == resource.RLIM_INFINITY else f"{here // 1024}"
    assert said[:2] == [["256", "16384", f"{nice + 5}"]] * 2
    # the niceness of a scheduler can be lowered with privilege only
    assert said[2] == ["200", stack, f"{nice if os.geteuid() == 0 else nice + 5}"]
    findings = json.loads(project.call("launcher", "doctor", "--json").stdout)["findings"]
    (told,) = [finding["told"] for finding in findings if finding["name"] == "scheduler limits"]
    assert "open files 256" in told
    assert f"niceness {nice + 5}" in told
    with closing(sqlite3.connect(project.home.database)) as database:
        ((contexts,),) = database.execute("SELECT count(*) FROM contexts")
    assert contexts == 2


BURN_S = 0.1  # CPU time of each process
BURNS = f"""
import os, sys, time
from pathlib import Path
def burn():
    while time.process_time() < {BURN_S}:
        pass
if os.fork() == 0:
    burn()
    os._exit(0)
os.wait()
if os.fork() == 0:  # its child becomes the supervisor's
    if os.fork() == 0:
        burn()
        Path(sys.argv[1]).touch()
        while not Path(sys.argv[2]).exists():
            time.sleep(0.01)
    os._exit(0)
os.wait()
burn()
while not Path(sys.argv[2]).exists():
    time.sleep(0.01)
"""


def test_reserved_and_used_cores_of_a_program_are_shown(project: Project) -> None:
    orphan, gate = project.folder / "orphan", project.folder / "gate"
    added = project.call(
        "launcher",
        "add",
        "--name",
        "burns",
        "--",
        sys.executable,
        "-c",
        BURNS,
        str(orphan),
        str(gate),
    )
    assert added.returncode == 0, added.stderr

    def attempt() -> dict[str, Any]:
        record = json.loads(project.call("launcher", "show", "burns", "--json").stdout)
        return dict(record["attempts"][-1]) if record["attempts"] else {}

    # the program and its first child; its grandchild is not below it any more
    until(lambda: (attempt().get("cpu_s") or 0.0) >= 2 * BURN_S, "it is measured while it runs")
    running = attempt()
    assert running["outcome"] is None
    assert running["cpus"] == 1
    assert running["cpus_used"] > 0
    until(orphan.exists, "its grandchild has worked")
    gate.touch()
    assert project.call("launcher", "wait", "burns").returncode == 0

    done = attempt()
    assert done["cpu_s"] == done["outcome"]["cpu_s"] >= 3 * BURN_S
    seconds = done["ended"] - done["claimed"]
    assert done["cpus_used"] == pytest.approx(done["cpu_s"] / seconds)
    shown = project.call("launcher", "show", "burns").stdout
    assert f"  1 core reserved, {done['cpus_used']:.1f} used\n" in shown


def test_used_cores_are_unknown_without_a_record(project: Project) -> None:
    project.call("launcher", "add", "--name", "lost", "--rerun", "never", "--", "sleep", "60")
    job = project.home.attempt(1, 1)
    until(lambda: recorded_program(job) is not None, "it runs")
    send_signal(supervisor_of(job), signal.SIGKILL)
    until(lambda: "adopted" in project.home.scheduler_log.read_text(), "it is adopted")
    project.call("launcher", "cancel", "--now", "lost", "--yes")
    project.call("launcher", "wait", "lost")

    record = json.loads(project.call("launcher", "show", "lost", "--json").stdout)
    assert record["attempts"][-1]["cpu_s"] is None
    assert record["attempts"][-1]["cpus_used"] is None
    assert "  1 core reserved\n" in project.call("launcher", "show", "lost").stdout
