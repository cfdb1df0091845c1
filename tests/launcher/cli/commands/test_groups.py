"""Groups: the pattern group:NAME, and pausing a group."""

import os
import signal
from pathlib import Path

from launcher.queue.home.daemon_control import scheduler_pid
from launcher.queue.home.paths import Home
from launcher.queue.jobs.states import State
from launcher.queue.store.queue import Store
from tests.build import in_state, job_row, until
from tests.launcher.conftest import Launcher
from tests.launcher.queued import until_done, waits_for


def test_pattern_selects_the_jobs_of_a_group_in_any_state(launcher: Launcher) -> None:
    for name in ("gg", "other"):
        launcher.well("group", name, "--limit", "1")
    launcher.well("add", "--group", "gg", "--name", "done", "--wait", "--", "true")
    launcher.well("add", "--hold", "--group", "gg", "--name", "ing", "--", "true")
    launcher.well("add", "--hold", "--group", "other", "--name", "else", "--", "true")
    launcher.well("add", "--hold", "--name", "none", "--", "true")

    def names(pattern: str) -> list[str]:
        return [job["name"] for job in launcher.json("status", pattern)["jobs"]]

    assert sorted(names("group:gg")) == ["command/done", "command/ing"]
    assert sorted(names("group:*")) == ["command/done", "command/else", "command/ing"]
    launcher.well("cancel", "group:other")
    launcher.well("group", "gg", "--no-limit")
    assert sorted(names("group:gg")) == ["command/done", "command/ing"]
    error = launcher.refused("status", "group:ohter")
    assert error.startswith("error: group 'ohter' does not exist")
    assert "group:other" in error
    launcher.well("group", "new", "--limit", "1")
    assert "group 'new' has no jobs." in launcher.refused("cancel", "group:new")


def test_no_job_of_a_paused_group_starts_until_it_is_resumed(
    launcher: Launcher, home: Home, store: Store, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    launcher.well("group", "gg", "--limit", "2")
    launcher.well("add", "--group", "gg", "--", *waits_for(gate))
    launcher.well("wait", "1", "--for", "running")
    paused = launcher.well("group", "gg", "--pause")
    assert paused.out == "gg\tpaused\n"
    assert "1 running job continues. To pause too: launcher pause group:gg" in paused.err
    launcher.well("add", "--group", "gg", "--", "true")
    assert launcher.well("add", "--wait", "--", "true").err == ""
    note = "note: group 'gg' is paused. To start its jobs: launcher group gg --resume\n"
    assert note in launcher("wait", "2", "--timeout", "0.1s").err
    assert in_state(store, 2, State.QUEUED)
    until(lambda: "waiting for group 'gg': it is paused" in launcher("show", "2").out, "it says so")

    pid = scheduler_pid(home)  # the database has the pause
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    until(lambda: scheduler_pid(home) != pid, "it is dead")
    gate.touch()
    launcher.well("wait", "1")
    launcher.well("add", "--wait", "--", "true")
    assert in_state(store, 2, State.QUEUED)
    assert launcher.well("group", "gg").out == "gg\t2\t0\t1\tpaused\n"
    (record,) = launcher.json("group")["groups"]
    assert record["paused"].endswith("Z")

    assert launcher.well("group", "gg", "--resume").out == "gg\tresumed\n"
    until_done(store, 2)
    assert launcher.well("group", "gg").out == "gg\t2\t0\t0\n"


def test_pause_is_kept_if_the_limit_changes(launcher: Launcher, store: Store) -> None:
    launcher.well("group", "gg", "--limit", "1")
    assert launcher.well("group", "gg", "--pause", "--dry-run").out == "gg\twould be paused\n"
    assert launcher.json("group")["groups"][0]["paused"] is None
    assert launcher.well("group", "gg", "--resume").out == "gg\tnot paused\n"
    launcher.well("group", "gg", "--pause")
    launcher.well("group", "gg", "--limit", "3")
    assert launcher.well("group", "gg", "--pause").out == "gg\tpaused already\n"
    assert "group 'gg' is paused. Resume it first" in launcher.refused("group", "gg", "--no-limit")
    launcher.well("add", "--group", "gg", "--", "true")
    launcher.well("add", "--wait", "--", "true")
    assert job_row(store, 1).state is State.QUEUED
