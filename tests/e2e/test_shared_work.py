"""A job that does what others repeat, in real processes: it fails, is killed, is cancelled."""

import json
import os
import signal
from pathlib import Path

import pytest

from launcher.states import State
from launcher.store.queue import Store
from tests.build import until
from tests.e2e.conftest import TOYLAB, Project

SHARING = Path(__file__).parents[1] / "launcher" / "sharing_toys.py"
TASK = """
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
    text = TASK.replace("NAME", name).replace("FAILS", fails).replace("SLEEPS", str(sleeps_s))
    return project.write(f"{name}.yaml", text)


def worker(project: Project, job: int) -> int:
    """Return the process of a job's first attempt, which it reports as its progress; 0: not yet."""
    file = project.home.attempts / f"{job}-1" / "progress.jsonl"
    lines = file.read_text().splitlines() if file.exists() else []
    return int(json.loads(lines[-1])["step"]) if lines else 0


def test_those_who_share_work_start_after_its_end_whether_it_is_done_or_not(
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
