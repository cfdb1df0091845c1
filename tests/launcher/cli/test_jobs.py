"""Which jobs a pattern, a state or a tag names."""

import shlex
import subprocess
from collections.abc import Sequence

import pytest

from launcher.frontends.cli.job_selection import only_job, select
from launcher.queue.home.paths import Home
from launcher.queue.jobs.states import Done, Failed, State
from launcher.queue.store.queue import Store
from launcher.system.errors import UsageError
from tests.build import claimed, enqueue, finished, job_row
from tests.launcher.conftest import Launcher
from tests.terminal import COMMAND

NAMES = ("train/a", "train/ab", "train/c", "test/[x]", "12")


@pytest.fixture
def filled_store(store: Store) -> Store:
    """A queue with a few jobs in two runs."""
    enqueue(store, *NAMES, run="quick")
    enqueue(store, "train/a", run="quicker")
    return store


@pytest.mark.parametrize(
    ("patterns", "numbers"),
    [
        (["2"], [2]),
        (["5"], [5]),
        (["train/a"], [1, 6]),
        (["train/"], [1, 2, 3, 6]),
        (["train/*b"], [2]),
        (["train/a*"], [1, 2, 6]),
        (["test/[x]"], [4]),
        (["*"], [1, 2, 3, 4, 5, 6]),
        (["run:quick"], [1, 2, 3, 4, 5]),
        (["run:quicker"], [6]),
        (["run:quick*"], [1, 2, 3, 4, 5, 6]),
        (["run:*er"], [6]),
        (["3", "train/a", "1"], [1, 3, 6]),
        ([], []),
    ],
)
def test_patterns_select_jobs(
    filled_store: Store, patterns: Sequence[str], numbers: list[int]
) -> None:
    assert [job.id for job in select(filled_store, patterns)] == numbers


def test_dependency_on_a_name_means_its_newest_job(filled_store: Store, launcher: Launcher) -> None:
    patterns = {
        "train/a": [6],
        "1": [1],
        "train/": [1, 2, 3, 6],
        "train/*": [1, 2, 3, 6],
        "run:quick*": [1, 2, 3, 4, 5, 6],
    }
    for job, (pattern, numbers) in enumerate(patterns.items(), 7):
        assert [row.id for row in select(filled_store, [pattern], newest=True)] == numbers
        launcher.well("add", "--hold", "--after", pattern, "--", "true")
        assert [row.id for row in filled_store.read.dependencies_of(job)] == numbers


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("trian/c", "no job matches 'trian/c'. Did you mean 'train/c'?"),
        ("Train/", "Did you mean 'train/"),
        ("run:quik", "run 'quik' does not exist. Did you mean run:quick?"),
        ("run:zzz*", "run 'zzz*' does not exist (known: quick, quicker)"),
        ("run:", "run '' does not exist"),
        ("7", "job 7 does not exist. List all jobs: launcher status --all"),
        ("9" * 30, "job 999"),
        ("9" * 5000, "job 999"),
        ("²", "no job matches '²'"),
        ("٣", "no job matches '٣'"),
        ("", "no job matches ''"),
        ("\udcff", "no job matches '\\udcff'"),
        ("zzz*", "no job matches 'zzz*'"),
    ],
)
def test_pattern_without_a_match_is_an_error(
    filled_store: Store, pattern: str, message: str
) -> None:
    with pytest.raises(UsageError) as caught:
        select(filled_store, ["1", pattern])
    assert message in str(caught.value)


def test_single_job_is_the_newest_of_its_name(filled_store: Store) -> None:
    assert only_job(filled_store, "train/a").id == 6
    assert only_job(filled_store, "train/c").id == 3
    with pytest.raises(UsageError, match=r"matches 3 jobs: train/a, train/ab\. Name one"):
        only_job(filled_store, "train/a*")


@pytest.fixture
def three(store: Store) -> Store:
    """A queue with a failed job, a held one and one that is done."""
    bad, held, good = enqueue(store, *(f"command/{n}" for n in ("bad", "kept", "good")))
    finished(store, bad, Failed(at=2.0, error="no"))
    finished(store, good)
    store.job_control.hold([held], 1.0)
    return store


@pytest.mark.parametrize(
    ("words", "numbers"),
    [
        (["--failed"], ["1"]),
        (["--state", "failed"], ["1"]),
        (["--state", "done, held"], ["2", "3"]),
        (["--state", "running"], []),
        (["--all", "--state", "held"], ["2"]),
        (["good", "bad", "--failed"], ["1"]),
        (["good", "--failed"], []),
        (["--all"], ["1", "2", "3"]),
    ],
)
def test_jobs_are_listed_by_their_state(
    launcher: Launcher, three: Store, words: list[str], numbers: list[str]
) -> None:
    answer = launcher.well("status", *words)
    assert answer.err == ""
    assert [line.partition("\t")[0] for line in answer.out.splitlines()] == numbers
    record = launcher.json("status", *words)
    assert [str(job["id"]) for job in record["jobs"]] == numbers
    assert record["truncated"] is False
    assert launcher("status", *words, "--exit-status").code == ("1" in numbers)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--state", "broken"], "expected some of queued, held, running, done, failed"),
        (["--state", ""], "expected some of queued, held, running, done, failed"),
        (["--failed", "--state", "done"], "--failed cannot be combined with --state"),
        (["nobody", "--failed"], "no job matches 'nobody'"),
    ],
)
def test_unknown_state_is_named(
    launcher: Launcher, store: Store, words: list[str], message: str
) -> None:
    enqueue(store, "command/1")
    assert message in launcher.refused("status", *words)


@pytest.mark.parametrize("words", [(), ("--all",), ("run:test",)])
def test_list_in_a_pipe_begins_with_running_and_failed_jobs(
    launcher: Launcher, store: Store, words: tuple[str, ...]
) -> None:
    names = [f"command/{name}" for name in ("good", "bad", "wait", "run")]
    good, bad, waits, runs = enqueue(store, *names)
    finished(store, good)
    finished(store, bad, Failed(at=2.0, error="no"))
    claimed(store, runs)
    lines = launcher.well("status", *words, "--header").out.splitlines()
    assert [line.partition("\t")[0] for line in lines[:3]] == ["id", str(runs), str(bad)]
    assert {line.partition("\t")[0] for line in lines[3:]} == {str(good), str(waits)}


def test_failed_jobs_that_a_list_in_a_pipe_leaves_out_are_counted(
    launcher: Launcher, store: Store
) -> None:
    jobs = enqueue(store, *(f"command/{number}" for number in range(15)))
    for number, job in enumerate(jobs):
        state = Failed(at=number, error="no") if number in {0, 1, 14} else Done(at=number)
        finished(store, job, state)
    listed = launcher.well("status")
    assert listed.out.startswith(f"{jobs[14]}\t")
    assert listed.err == (
        "… and 5 more that ended, 2 of them failed. List all jobs: launcher status --all. "
        "List failed jobs: launcher status --failed\n"
    )
    assert launcher.well("status", "--failed").err == ""


def test_closed_pipe_ends_the_list_without_a_message(home: Home, store: Store) -> None:
    assert home.exists()
    enqueue(store, *(f"command/{'x' * 90}{number}" for number in range(2000)))
    read = f"{shlex.join([*COMMAND, 'status', '--all'])} | head -n 1"
    done = subprocess.run(["sh", "-c", read], capture_output=True, text=True, check=True)
    assert (done.stdout.count("\n"), done.stderr) == (1, "")


def test_missing_queue_has_no_failed_job(launcher: Launcher) -> None:
    assert launcher("status", "--failed").err.startswith("no jobs: the queue folder ")


@pytest.fixture
def waiting(store: Store) -> Store:
    """A queue of waiting jobs that nobody starts."""
    enqueue(store, *(f"command/{number}" for number in (1, 2, 3)))
    return store


def ids(launcher: Launcher, *patterns: str) -> list[int]:
    return [job["id"] for job in launcher.json("status", *patterns)["jobs"]]


def test_jobs_are_selected_by_their_tags(launcher: Launcher, waiting: Store) -> None:
    answer = launcher("tag", "1", "2", "+paper", "+ablation-2")
    assert answer.out.splitlines()[0] == "1\tcommand/1\ttags: ablation-2, paper"
    assert launcher("tag", "2", "-paper", "-never").out == "2\tcommand/2\ttags: ablation-2\n"
    assert ids(launcher, "tag:paper") == [1]
    assert ids(launcher, "tag:abl*") == [1, 2]
    launcher.well("hold", "tag:ablation-2")
    assert [job_row(waiting, number).state for number in (1, 2, 3)] == [
        *[State.HELD] * 2,
        State.QUEUED,
    ]


def test_tags_are_listed_with_jobs_and_per_job(launcher: Launcher, waiting: Store) -> None:
    launcher.well("tag")
    launcher("tag", "1", "2", "+a")
    launcher("tag", "2", "+b")
    assert launcher("tag").out == "a\t2\nb\t1\n"
    assert launcher.json("tag", "2")["jobs"][0]["tags"] == ["a", "b"]
    assert launcher.json("show", "2")["tags"] == ["a", "b"]
    assert "tags    a, b" in launcher("show", "2").out
    waiting.job_control.cancel([2], 1.0)
    waiting.job_control.delete_jobs([2])
    assert launcher("tag").out == "a\t1\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("1", "+a b"), "'+a b' is not a valid tag"),
        (("1", "+"), "'+' is not a valid tag"),
        (("1", f"+{'x' * 65}"), "is not a valid tag"),
        (("1", "+a\x1b[2J"), "is not a valid tag"),
        (("+a",), "missing PATTERN. Name the jobs"),
        (("1", "+a", "-a"), "cannot be both added and removed"),
    ],
)
def test_invalid_tag_is_refused(
    launcher: Launcher, waiting: Store, words: tuple[str, ...], said: str
) -> None:
    assert said in launcher.refused("tag", *words)
    assert waiting.job_control.all_tags() == {}


def test_dry_run_sets_neither_tag_nor_note(launcher: Launcher, waiting: Store) -> None:
    assert "would get +a" in launcher("tag", "1", "+a", "--dry-run").out
    assert "would have note: x" in launcher("note", "1", "x", "--dry-run").out
    assert (waiting.job_control.all_tags(), job_row(waiting, 1).owner_note) == ({}, "")


def test_unknown_tag_is_refused_with_the_nearest(launcher: Launcher, waiting: Store) -> None:
    launcher("tag", "1", "+paper")
    assert "Did you mean tag:paper?" in launcher.refused("status", "tag:papre")


def test_note_is_shown_without_terminal_control_sequences(
    launcher: Launcher, waiting: Store
) -> None:
    assert launcher("note", "1", "table 3\n\x1b[2Jhidden").out == "1\tcommand/1\tnote: table 3\n"
    assert "note    table 3\\n\\x1b[2Jhidden" in launcher("show", "1").out
    record = launcher.json("status", "1")["jobs"][0]
    assert record["owner_note"] == "table 3\n\x1b[2Jhidden"
    assert launcher("note", "1", "").out == "1\tcommand/1\tno note\n"
    assert launcher("note", "1").out == "1\tcommand/1\t\n"
    assert launcher("note", "1", "x" * 10_001).code == 2


def test_a_tag_is_found_by_the_search_of_top(launcher: Launcher, waiting: Store) -> None:
    launcher("tag", "3", "+paper")
    assert waiting.read.search_numbers("tag:pap*", 10) == [3]
    assert waiting.read.search_numbers("paper", 10) == []


@pytest.mark.parametrize(
    ("command", "hint"),
    [
        ("tag 1 good", "To add the tag: launcher tag 1 +good"),
        ("tag 1 good better +best", "To add the tag: launcher tag 1 +good +better +best"),
        ("tag nosuch good", "no job matches 'nosuch'. List all jobs: launcher status --all\n"),
        ("share add=2", "To set its share: launcher share add 2"),
        ("share nosuch=2", "List the runs: launcher share"),
        ("group dl=2", "Create it: launcher group dl --limit 2"),
        ("edit 1 cpus=2", "unexpected extra argument (cpus=2). To set a value: --set cpus=2"),
        ("retry 1 lr=2", "no job matches 'lr=2'. To set a value: --set lr=2"),
        ("run lr=2", "task file 'lr=2' does not exist. To set a value: --set lr=2"),
        ("cancel lr=2", "no job matches 'lr=2'. List all jobs: launcher status --all\n"),
    ],
)
def test_value_in_the_form_of_another_command_is_refused_with_the_right_form(
    launcher: Launcher, command: str, hint: str
) -> None:
    launcher.well("add", "--hold", "--", "true")
    assert hint in launcher.refused(*command.split())


def test_notify_without_targets_says_so_in_a_pipe(launcher: Launcher) -> None:
    answer = launcher.well("notify")
    assert answer.out == ""
    assert (
        answer.err
        == "no message is sent. Add a table [notify.NAME] to config.toml (launcher help messages).\n"
    )
    assert launcher.json("notify")["targets"] == []
