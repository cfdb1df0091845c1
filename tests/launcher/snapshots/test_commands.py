"""Snapshots in the commands: queued by `add`, `run` and functions, retried, shown, and deleted by `clean`."""

import importlib
import json
import sys
import time
from pathlib import Path

import pytest

from launcher.api import submit, wait
from launcher.provenance.snapshots import copies
from launcher.queue.home.daemon_control import wake
from launcher.queue.home.paths import Home
from launcher.queue.home.scheduler_start import ensure_scheduler
from launcher.queue.jobs.states import State
from launcher.queue.scheduler.code_recording import CodeHelper
from launcher.queue.store.queue import Store
from launcher.queue.store.queued_code import open_code_recording
from tests.launcher.conftest import Launcher
from tests.launcher.snapshots.projects import commit, git, write

SCRIPT = """
import sys
from pathlib import Path
with open("out.csv", "a") as file:
    file.write("old\\n")
sys.exit(Path("fails").exists())
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with a script, as the current folder."""
    folder = tmp_path / "project"
    write(folder, {"train.py": SCRIPT, "lab/__init__.py": "", "lab/words.py": 'WORD = "old"\n'})
    commit(folder)
    monkeypatch.chdir(folder)
    return folder


def change(project: Path) -> None:
    for name in ("train.py", "lab/words.py"):
        path = project / name
        path.write_text(path.read_text().replace("old", "new"))


def finish(home: Home, store: Store, *jobs: int) -> list[State]:
    """Release jobs, and return their states after their ends."""
    store.job_control.release(jobs, time.time())
    wake(home)
    ensure_scheduler(home)
    wait([*jobs], timeout=60, progress=False)
    return [row.state for row in store.read.jobs_by_id(jobs)]


def key_of(home: Home) -> str:
    (copy,) = home.snapshots.iterdir()
    return copy.name


def test_retry_runs_the_same_copy_and_says_so_or_takes_the_present_code(
    home: Home, store: Store, project: Path, launcher: Launcher
) -> None:
    (project / "fails").touch()
    launcher.well("add", "--hold", "--snapshot", "--", sys.executable, "train.py")
    change(project)
    assert finish(home, store, 1) == [State.FAILED]
    (project / "fails").unlink()
    first = key_of(home)
    again = launcher.well("retry", "1")
    assert (
        f"note: 1 job runs the code of snapshot {first}. "
        "To run the present code: launcher retry 1 --snapshot"
    ) in again.err
    assert finish(home, store, 1) == [State.DONE]
    present = launcher.well("retry", "1", "--force", "--snapshot")
    assert "note: 1 job runs" not in present.err
    assert finish(home, store, 1) == [State.DONE]
    assert (project / "out.csv").read_text().split() == ["old", "old", "new"]
    shown = launcher.well("show", "1").out
    assert first not in shown
    assert str(home.snapshots) in shown
    assert "was changed" not in shown
    assert f"{sys.executable} train.py" in launcher.well("show", "1", "--command").out


def test_commit_and_uncommitted_files_are_those_of_the_queueing(
    home: Home, store: Store, project: Path, launcher: Launcher
) -> None:
    write(project, {"train.py": "import lab.words, lab.new\n", "lab/new.py": "x = 1\n"})
    first = git(project, "rev-parse", "HEAD").strip()
    launcher.well("add", "--hold", "--snapshot", "--", sys.executable, "train.py")
    write(project, {"lab/words.py": "later = 1\n", "lab/new.py": "x = 2\n"})
    git(project, "add", "train.py", "lab/new.py")
    git(project, "commit", "--quiet", "-m", "second")

    def record_code() -> dict[str, object]:
        with open_code_recording(home.database) as recording:
            CodeHelper(recording).serve(())
        return dict(json.loads(launcher.well("show", "1", "--json").out)["code"])

    recorded = record_code()
    assert recorded["commit"] == first
    assert recorded["uncommitted"] == ["train.py", "lab/new.py"]
    launcher.well("cancel", "1", "--yes")
    launcher.well("retry", "1")
    assert record_code() == recorded
    launcher.well("cancel", "1", "--yes")
    launcher.well("retry", "1", "--snapshot")
    recorded = record_code()
    assert recorded["commit"] == git(project, "rev-parse", "HEAD").strip()
    assert recorded["uncommitted"] == ["lab/words.py"]


def test_edited_program_must_be_able_to_run_the_copy(project: Path, launcher: Launcher) -> None:
    launcher.well("add", "--hold", "--snapshot", "--", sys.executable, "train.py")
    change = f'argv=["{sys.executable}", "-I", "train.py"]'
    assert "with -I Python does not read" in launcher.refused("edit", "1", "--set", change)
    launcher.well("edit", "1", "--set", f'argv=["{sys.executable}", "train.py", "x"]')


def test_clean_deletes_the_copies_of_deleted_jobs(
    home: Home, store: Store, project: Path, launcher: Launcher
) -> None:
    launcher.well("add", "--hold", "--snapshot", "--", sys.executable, "train.py")
    launcher.well("add", "--hold", "--snapshot", "--", sys.executable, "train.py", "--again")
    launcher.well("cancel", "1", "2", "--yes")
    launcher.well("clean", "1", "--yes")
    copy = home.snapshots / key_of(home)
    (copy / "project/written.csv").touch()
    answer = launcher.well("clean", "2", "--yes")
    assert f"kept: {copy} contains project/written.csv, which a program wrote" in answer.err
    (copy / "project/written.csv").unlink()
    launcher.well("clean", "--older", "0s", "--yes")
    assert [*home.snapshots.iterdir()] == []
    assert (project / "train.py").exists()


def test_command_that_is_refused_for_another_reason_leaves_no_copy(
    home: Home, project: Path, launcher: Launcher
) -> None:
    words = ("--name", "x", "--hold", "--", sys.executable, "train.py")
    launcher.well("add", *words)
    assert "the name 'command/x' is used" in launcher.refused("add", "--snapshot", *words)
    assert not home.snapshots.exists()


def test_dry_runs_name_the_snapshot(
    home: Home, project: Path, launcher: Launcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("--", sys.executable, "train.py")
    answer = launcher.well("add", "--snapshot", "--dry-run", *words)
    assert f"of {project} (3 files, " in answer.err
    (project / "t.yaml").write_text(
        f"name: t\ncommand: [{{name: a, argv: [{sys.executable}, train.py]}}]\n"
    )
    plan = launcher.well("run", "t.yaml", "--snapshot", "--dry-run").out
    key = json.loads(launcher("run", "t.yaml", "--snapshot", "--dry-run", "--json").out)["snapshot"]
    assert f"Snapshot: {key} of {project} (4 files, " in " ".join(plan.split())
    assert "launcher run t.yaml --snapshot" in plan
    assert not home.snapshots.exists()
    (project / "t.yaml").write_text("name: t\ncommand: [{name: a, argv: [python, -I, x.py]}]\n")
    plan = launcher("run", "t.yaml", "--snapshot", "--dry-run").out
    told = " ".join(plan.split())
    assert f"launcher run refuses this file: cannot take a snapshot of {project}" in told
    assert "with -I Python does not read the snapshot. Remove the option" in told
    assert "with -I Python" in launcher("run", "t.yaml", "--snapshot", "--detach").err
    assert not home.snapshots.exists()
    write(project, {"run.sh": "", "large.bin": "x" * 2000})
    (tmp_path / "config.toml").write_text('snapshot_file_limit = "1KiB"\n')
    monkeypatch.setenv("LAUNCHER_CONFIG", str(tmp_path / "config.toml"))
    answer = launcher.well("add", "--snapshot", "--dry-run", "--", "sh", "run.sh")
    assert "note: run.sh itself is read when the job starts." in answer.err
    text = "PYTHONPATH=. python train.py"
    lost = launcher.well("add", "--snapshot", "--dry-run", "--", "sh", "-c", text).err
    assert "note: sh replaces PYTHONPATH, and Python does not find the snapshot then." in lost
    assert (
        "note: the snapshot leaves out 1 file that the jobs read in the working folder: "
        "large.bin (2.0 KiB). The limit is snapshot_file_limit = 1 KiB in config.toml"
    ) in answer.err


def test_job_of_a_task_file_runs_its_old_code(
    home: Home, store: Store, project: Path, launcher: Launcher
) -> None:
    entries = [
        {"name": "wait", "argv": [sys.executable, "wait.py"]},
        {"name": "a", "argv": [sys.executable, "train.py"], "after": "wait"},
    ]
    (project / "t.yaml").write_text(json.dumps({"name": "t", "command": entries}))
    write(
        project,
        {
            "wait.py": "import time\nfrom pathlib import Path\nwhile not Path('go').exists(): time.sleep(.01)\n"
        },
    )
    launcher.well("run", "t.yaml", "--snapshot", "--detach")
    change(project)
    (project / "go").touch()
    assert finish(home, store, 1, 2) == [State.DONE, State.DONE]
    assert (project / "out.csv").read_text() == "old\n"


def test_function_has_the_modules_of_its_copy(
    home: Home, store: Store, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(project))
    write(
        project,
        {
            "lab/call.py": "def call():\n    from lab import words\n    import pathlib, subprocess, sys\n"
            "    code = 'import lab.words; print(lab.words.WORD)'\n"
            "    beside = pathlib.Path(__file__).parent / 'words.py'\n"
            "    child = subprocess.check_output([sys.executable, '-P', '-c', code], text=True)\n"
            "    return words.WORD, child, 'old' in beside.read_text(), __file__\n"
        },
    )
    call = importlib.import_module("lab.call").call
    try:
        monkeypatch.setenv("PYTHONPATH", str(project))
        future = submit(call, hold=True, snapshot=True)
        change(project)
        assert finish(home, store, future.job) == [State.DONE]
        assert future.result() == ("old", "old\n", True, str(project / "lab/call.py"))
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == "lab"]:
            del sys.modules[name]


def test_changed_copy_starts_no_job(
    home: Home, store: Store, project: Path, launcher: Launcher
) -> None:
    launcher.well("add", "--hold", "--snapshot", "--", sys.executable, "train.py")
    script = home.snapshots / key_of(home) / "project/train.py"
    script.unlink()
    script.write_text("x = 1\n")
    assert finish(home, store, 1) == [State.FAILED]
    reason = store.read.jobs_by_id([1])[0].reason
    assert f"train.py of its snapshot {key_of(home)} was changed by a program" in reason


def test_copy_is_made_by_one_of_two_commands(
    home: Home, project: Path, launcher: Launcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("add", "--hold", "--snapshot", "--", sys.executable, "train.py")
    launcher.well(*words)
    place = home.snapshots / key_of(home)
    aside = home.folder / "aside"
    place.rename(aside)

    def copy_slowly(top: str, source: object) -> None:
        if aside.exists():
            aside.rename(place)

    monkeypatch.setattr(copies, "_refuse_changed", copy_slowly)
    launcher.well(*words)
    assert key_of(home) == place.name


def test_job_that_does_not_follow_its_snapshot_is_named(
    home: Home, store: Store, project: Path, launcher: Launcher
) -> None:
    (project / ".gitignore").write_text("local.py\n")
    write(project, {"local.py": "", "more.py": "import local\nprint('loss=1')\n"})
    command = ("add", "--hold", "--snapshot")
    launcher.well(*command, "--", sys.executable, "more.py")
    launcher.well(*command, "--env", "LAUNCHER_SNAPSHOT=off", "--", sys.executable, "train.py")
    code = "import os; print(os.environ['LAUNCHER_COMMIT'])"
    launcher.well(*command, "--", sys.executable, "-c", code)
    change(project)
    assert finish(home, store, 1, 2, 3) == [State.DONE] * 3
    assert (project / "out.csv").read_text() == "new\n"
    assert "local.py was not in the snapshot" in " ".join(launcher.well("show", "1").out.split())
    assert "LAUNCHER_SNAPSHOT=off turned the snapshot off" in launcher.well("show", "2").out
    commit = json.loads(launcher.well("show", "3", "--json").out)["code"]["commit"]
    assert home.attempt(3, 1).log.read_text().strip() == commit
    note = "note: the snapshot did not hold everything in 2 of 3 jobs. Job 1: local.py was not"
    assert note in launcher.well("results", "add").err
