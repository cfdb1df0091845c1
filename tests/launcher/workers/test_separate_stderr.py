"""Standard error in a file of its own: what programs write there, how they fail, and the commands that print it."""

from pathlib import Path

import pytest

from launcher.queue.home.paths import Home
from launcher.queue.jobs.states import Done, Failed, State
from launcher.queue.store.queue import Store
from launcher.queue.workers.fork_server_handles import ForkServer
from launcher.queue.workers.progress.attempt_progress import (
    read_attempt_progress,
    read_last_metrics,
)
from tests.build import a_context, a_spec, an_attempt, in_state, run_attempt, shell, until
from tests.launcher.conftest import Launcher

BOTH = "echo out; echo err >&2"


@pytest.mark.parametrize("limits", [{}, {"RLIMIT_NOFILE": 512}])
def test_streams_go_into_two_files_only_if_the_job_wants_that(
    fork_server: ForkServer, home: Home, limits: dict[str, int]
) -> None:
    context = a_context("/", limits=limits)
    spec = a_spec(*shell(BOTH))
    separate, outcome = run_attempt(
        fork_server, home, spec, job=1, context=context, stderr="separate"
    )
    together, _ = run_attempt(fork_server, home, spec, job=2, context=context)
    assert isinstance(outcome, Done)
    assert (separate.log.read_text(), separate.stderr.read_text()) == ("out\n", "err\n")
    assert together.log.read_text() == "out\nerr\n"
    assert not together.stderr.exists()


def test_failure_is_explained_by_standard_error(fork_server: ForkServer, home: Home) -> None:
    script = "echo ValueError: wrong image >&2; echo bye; exit 3"
    spec = a_spec(*shell(script))
    _, outcome = run_attempt(fork_server, home, spec, job=1, stderr="separate")
    assert isinstance(outcome, Failed)
    assert outcome.error == "ended with exit code 3: ValueError: wrong image"
    silent = a_spec(*shell("echo no such file; exit 3"))
    _, outcome = run_attempt(fork_server, home, silent, job=2, stderr="separate")
    assert isinstance(outcome, Failed)
    assert outcome.error == "ended with exit code 3: no such file"


def test_progress_and_numbers_are_read_from_both_files(home: Home) -> None:
    attempt = an_attempt(home, a_spec(), stderr="separate")
    attempt.stderr.write_text("\r 30%|###       | 3/10 [00:01<00:02,  3.00it/s, loss=0.3]")
    attempt.log.write_text("epoch 1\n")
    assert str(read_attempt_progress(attempt).step) == "3/10 loss=0.3"
    attempt.log.write_text("acc=0.9\n")
    assert read_last_metrics(attempt) == {"acc": 0.9, "loss": 0.3, "read_from": "log"}
    attempt.log.write_text("launcher: step=4 total=10 loss=0.2\n")
    assert str(read_attempt_progress(attempt).step) == "4/10 loss=0.2"
    attempt.log.write_text("")
    attempt.stderr.write_text("loading\n")
    assert read_attempt_progress(attempt).line == "loading"


def test_commands_print_standard_error_by_name(
    launcher: Launcher, home: Home, store: Store, tmp_path: Path
) -> None:
    words = ("--run", "two", "--stderr", "separate", "--name", "a")
    launcher.well("add", *words, "--", "sh", "-c", "echo out; echo err >&2; exit 3")
    launcher.well("add", "--run", "two", "--name", "b", "--", "sh", "-c", BOTH)
    until(lambda: in_state(store, 1, State.FAILED), "it has failed")
    until(lambda: in_state(store, 2, State.DONE), "it is done")
    assert launcher.well("logs", "1").out == "out\n"
    assert launcher.well("logs", "1", "--stderr").out == "err\n"
    assert launcher.well("logs", "1", "--stderr", "-f").out == "err\n"
    assert launcher.json("logs", "1", "--stderr")["text"] == "err\n"
    assert "  err" in launcher.well("show", "1").out
    assert launcher.refused("logs", "2", "--stderr") == (
        "error: job 2 has no separate standard error: it is in the log. Print it without --stderr. "
        "To separate it: launcher add --stderr separate\n"
    )
    several = launcher.well("logs", "run:two", "--stderr")
    assert "==> command/a (job 1, attempt 1) <==\nerr\n" in several.out
    assert "job 2 has no separate standard error" in several.err
    task = tmp_path / "task.yaml"
    task.write_text("name: t\ncommand: [{name: c, argv: [sh, -c, exit], stderr: separate}]\n")
    assert launcher.json("run", str(task), "--dry-run")["jobs"][0]["resources"]["stderr"] == (
        "separate"
    )


@pytest.mark.parametrize("value", ["file", "", "2"])
def test_unknown_place_of_standard_error_is_refused(launcher: Launcher, value: str) -> None:
    said = launcher.refused("add", "--stderr", value, "--", "true")
    assert "--stderr" in said
    assert "separate" in said
