"""`launcher add --from`, `--sweep`, `--input` and `--output`: many jobs at once, and what follows from their files."""

import io
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from launcher.queue.home.paths import Home
from launcher.queue.jobs.states import Failed, State
from launcher.queue.store import job_queries
from launcher.queue.store.job_names import newest_by_superseded
from launcher.queue.store.queue import Store
from tests.build import enqueue, finished, in_state, job_row
from tests.launcher.conftest import Launcher
from tests.terminal import in_a_terminal, piped

COPY = ("add", "--name", "copy", "--input", "in.txt", "--output", "out.txt")


CP = ("--", "cp", "in.txt", "out.txt")


LAST = ("add", "--name", "last", "--input", "out.txt", "--output", "last.txt")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    (folder / "in.txt").write_text("one")
    (folder / "sub").mkdir()
    (folder / "link").symlink_to("in.txt")
    return folder


@pytest.fixture
def linked(here: Path) -> Path:
    """A folder that is also reached by the link `data`."""
    (here / "scratch").mkdir()
    (here / "data").symlink_to("scratch")
    return here / "scratch"


@pytest.mark.parametrize("name", ["data/y.csv", "scratch/y.csv", "data/*.csv", "data/", "y.csv"])
def test_input_in_a_linked_folder_waits_for_its_producer(
    launcher: Launcher, store: Store, linked: Path, name: str
) -> None:
    (linked / "y.csv").write_text("old")
    Path("y.csv").symlink_to("data/y.csv")  # a link to the file itself
    output = str(linked / "y.csv")
    launcher.well("add", "--hold", "--name", "mk", "--output", output, "--", "touch", output)
    launcher.well("add", "--hold", "--input", name, "--", "ls", name)
    assert store.read.dependency_names(2) == ["command/mk"]


def test_program_done_with_the_same_files_is_reported_and_not_queued(
    launcher: Launcher, store: Store, here: Path
) -> None:
    launcher(*COPY, *CP)
    launcher.well("wait")
    refused = (
        "not queued: job 1 made the same outputs with the same command and files. "
        "To run it again: launcher retry 1 --force\n"
    )
    unnamed = ("add", "--output", "out.txt", "--input", "in.txt", *CP)
    for change, words, is_queued, why in (
        ("", (*COPY, *CP), False, ""),
        ("", unnamed, False, ""),  # whatever its name
        ("echo two >in.txt", (*COPY, *CP), True, "in.txt changed"),
        ("rm out.txt", (*COPY, *CP), True, "out.txt is missing"),
        ("echo by hand >out.txt", (*COPY, *CP), True, "out.txt changed"),
        ("rm *.txt; echo two >in.txt", (*COPY, *CP), True, "out.txt is missing, in.txt changed"),
        ("", (*COPY, "--", "cp", "-v", "in.txt", "out.txt"), True, ""),
        ("", ("add", "--output", "out.txt", *CP), True, ""),  # its inputs were others
        ("", ("add", *CP), True, ""),
    ):
        for name in ("in.txt", "out.txt"):
            (here / name).write_text("one")  # the same content at another time
        subprocess.run(["sh", "-c", change], check=True)
        reason = f"since job 1 made the same outputs: {why}\n" if why else refused * (not is_queued)
        dry = launcher.well("add", "--dry-run", *words[1:])
        count = "1 job" if is_queued else "0 jobs"
        assert dry.err == f"{reason}{count}; nothing was queued (dry run)\n"
        assert (len(dry.out.splitlines()), len(store.read.jobs())) == (is_queued, 1)
        if not is_queued:
            answer = launcher.well(*words)
            assert (answer.out, answer.err) == ("1\tcommand/copy\n", refused)
            assert len(store.read.jobs()) == 1
    (here / "in.txt").write_text("two")
    launcher.well("add", "--hold", *COPY[1:], *CP)
    assert len(store.read.jobs()) == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--output", "../out", "--", "x"), "--output ../out is outside of the project"),
        (("--output", "sub", "--", "x"), "--output sub is a folder. Add / to its name if"),
        (("--output", "./", "--", "x"), "--output ./ is the folder of the project. Name a folder"),
        (("--output", "n" * 238, "--", "x"), "has a name of more than 237 bytes. Shorten it"),
        (("--output", "link", "--", "x"), "--output link is a link. Name the file it points to"),
        (("--input", "sub", "--", "x"), "--input sub is a folder"),
        (("--input", "no", "--", "x"), "--input no does not exist, and no waiting or running job"),
        (("--output", "held", "--", "x"), "--output held is made by job 1 command/held (held)"),
        (("--output", "o", "--sweep", "x=1,2", "--", "x", "{x}"), "two of these programs would"),
        (("--output", "o{y}", "--sweep", "x=1,2", "--", "x", "{x}"), "{y}"),
        (("--output", "o", "--from", "in.txt"), "--output cannot be combined with --from"),
        (
            ("--name", "held", "--", "x"),
            "the name 'command/held' is used by job 1 (held). Write another --name. To free the name: "
            "launcher cancel 1. To run that job again after it ended: launcher retry 1",
        ),
        (("--after", "help", "--", "x"), "no job matches 'help'"),
        (("--group", "none", "--", "x"), "group 'none' does not exist"),
    ],
)
def test_invalid_request_is_refused_with_and_without_dry_run(
    launcher: Launcher, store: Store, words: tuple[str, ...], message: str
) -> None:
    launcher("add", "--hold", "--name", "held", "--output", "held", "--", "x")
    for form in ((), ("--dry-run",)):
        assert message in launcher.refused("add", *form, *words)
    assert len(store.read.jobs()) == 1


def test_waiting_program_with_the_same_output_is_replaced(
    launcher: Launcher, store: Store, here: Path
) -> None:
    launcher(*COPY, "--hold", *CP)
    launcher(*LAST, "--hold", "--", "cp", "out.txt", "last.txt")
    launcher.well(*COPY, "--hold", "--replace", "--", "cp", "-v", "in.txt", "out.txt")
    row = job_row(store, 1)
    assert (row.spec.argv[1], row.spec.outputs) == ("-v", (str(here / "out.txt"),))
    assert store.read.dependency_names(2) == ["command/copy"]


def test_output_can_be_in_the_folder_of_its_attempt(
    launcher: Launcher, store: Store, here: Path
) -> None:
    file = "{job_folder}/made"
    add = ("add", "--hold", "--run", "mine", "--name", "a", "--output", file)
    launcher.well(*add, "--", "touch", file)
    assert job_row(store, 1).spec.outputs == (str(here / "runs/mine/jobs/1/made"),)


def test_changed_code_is_reported_before_a_job_is_queued(
    launcher: Launcher, store: Store, here: Path
) -> None:
    (here / "s.sh").write_text("true")
    (here / "e.yaml").write_text("name: e\ncommand: [{name: e, argv: [sh, s.sh]}]\n")
    launcher.well("run", "--detach", "e.yaml")
    launcher.well("wait")
    (here / "s.sh").write_text("exit 0")
    planned = launcher.well("run", "--dry-run", "--accept-code", "e.yaml").out
    assert "other code (s.sh). Its results are kept\n" in planned
    lines = launcher.well("run", "--detach", "e.yaml").err.splitlines()
    assert lines[-2:] == [
        "1 job was done with other code (s.sh), with the same settings and inputs, and runs again. "
        "To keep the results: --accept-code",
        "e: 1 job, 1 queued",
    ]


@pytest.mark.parametrize(
    ("files", "refused"),
    [
        (("a",), ""),  # it joins its own jobs
        (("b",), "command/b would make {}/out.txt, which command/a of {}/runs/a also makes"),
        (("c", "d"), "command/d would make {}/other.txt, which command/c of {}/runs/c also makes"),
    ],
)
def test_task_file_programs_with_the_same_output_are_refused(
    launcher: Launcher, store: Store, here: Path, files: tuple[str, ...], refused: str
) -> None:
    for name, output in (("a", "out"), ("b", "out"), ("c", "other"), ("d", "other")):
        entry = f"{{name: {name}, argv: ['true'], outputs: [{output}.txt], resources: {{not_before: +1h}}}}"
        (here / f"{name}.yaml").write_text(f"name: {name}\ncommand: [{entry}]\n")
    launcher.well("run", "--detach", "a.yaml")
    answer = launcher("run", "--detach", *(f"{name}.yaml" for name in files))
    assert answer.code == (2 if refused else 0)
    assert refused.format(here, here) in answer.err
    assert len(store.read.jobs()) == 1


# --- `launcher add --from`: a job of each line, all or none


def add_from_stdin(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    """Let a text be the standard input."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


def test_each_line_of_a_file_becomes_a_job(launcher: Launcher, store: Store) -> None:
    Path("jobs.txt").write_text("# two\ntrue 'a b'\n\nsleep 0\n")
    answer = launcher.well(
        "add",
        "--from",
        "jobs.txt",
        "--hold",
        "--cpus",
        "2",
        "--priority",
        "3",
        "--retries",
        "1",
        "--share",
        "2.5",
        *("--cwd", "sub", "--env", "MARK=m", "--tag", "t"),
    )
    assert (answer.out, answer.err) == ("1\tcommand/1\n2\tcommand/2\n", "")
    rows = [job_row(store, number) for number in (1, 2)]
    assert [row.spec.argv for row in rows] == [("true", "a b"), ("sleep", "0")]
    for row in rows:
        assert (row.state, row.priority, row.run, row.share) == (State.HELD, 3, "add", 2.5)
        assert (row.spec.resources.cpus, row.spec.terms.retries) == (2, 1)
        assert (row.spec.settings["cwd"], row.spec.settings["env"]) == ("sub", {"MARK": "m"})
    assert store.job_control.tags_of([1, 2]) == {1: ["t"], 2: ["t"]}
    assert rows[0].spec.signature != rows[1].spec.signature


def test_jobs_with_one_name_are_numbered_and_replace_ended_ones(
    launcher: Launcher, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    renamed = "note: renamed 2 ended jobs: command/prep-1@1 to command/prep-2@2\n"
    for first, warning in ((1, ""), (3, renamed)):
        add_from_stdin(monkeypatch, b"true\ntrue\n")
        answer = launcher("add", "--from", "-", "--name", "prep")
        assert answer.out == f"{first}\tcommand/prep-1\n{first + 1}\tcommand/prep-2\n"
        assert answer.err == warning
        launcher.well("wait")
    add_from_stdin(monkeypatch, b"true\ntrue\ntrue\n")
    launcher("add", "--hold", "--name", "prep-3", "--", "true")
    assert "the name 'command/prep-3' is used by job 5 (held)" in launcher.refused(
        "add", "--from", "-", "--name", "prep"
    )
    assert len(store.read.jobs()) == 5
    assert job_row(store, 4).name == "command/prep-2", "nothing of the transaction is kept"


@pytest.mark.parametrize(
    ("first", "second", "replaced"),
    [
        (("--sweep", "seed=1,2"), ("--sweep", "seed=1,2"), 2),
        (("--sweep", "seed=1,2"), ("--sweep", "seed=2,3"), 1),
        (("--sweep", "seed=1,2", "--env", "A=1"), ("--sweep", "seed=1,2", "--env", "A=2"), 0),
        (("--sweep", "seed=1,2", "--input", "in.txt"), ("--sweep", "seed=1,2"), 0),
        (("--sweep", "seed=1,2", "--cwd", "sub"), ("--sweep", "seed=1,2"), 0),
        (("--sweep", "seed=1,2"), ("--sweep", "seed=1,2", "--run", "other"), 0),
        (("--sweep", "seed=1,2", "--name", "own"), ("--sweep", "seed=1,2"), 0),
        (("--sweep", "seed=1,2"), ("--sweep", "seed=1,2", "--name", "own"), 2),
        (("--sweep", "seed=1,2", "--name", "own"), ("--sweep", "seed=1,2", "--name", "new"), 0),
        (("--sweep", "seed=1,2"), ("--sweep", "seed=1,2", "--cpus", "2"), 2),
        (("--sweep", "seed=1"), (), 0),  # a single job is a row of its own
        ((), ("--sweep", "seed=1"), 0),
        ((), (), 0),
    ],
)
def test_only_equal_jobs_of_sweeps_replace_each_other(
    launcher: Launcher,
    home: Home,
    store: Store,
    first: Sequence[str],
    second: Sequence[str],
    replaced: int,
) -> None:
    home.stop_record.write_text("{}")  # nothing starts
    told = ""
    for options in (first, second):
        word = "{seed}" if "--sweep" in options else "1"
        told = launcher.well("add", *options, "--", "true", "--seed", word).err
        for job in store.read.open_jobs():
            finished(store, job.id)
    assert len(newest_by_superseded(store.database.execute, store.read.jobs())) == replaced
    assert ("2 older jobs with equal commands" in told) == (replaced == 2)


def test_equal_lines_of_a_file_are_rows_of_their_own_until_the_file_is_queued_again(
    launcher: Launcher, store: Store, here: Path
) -> None:
    (here / "jobs.txt").write_text("true x\ntrue y\ntrue x\n")
    for number in range(3):
        launcher.well("add", "--from", "jobs.txt")
        launcher.well("wait")
        superseded = newest_by_superseded(store.database.execute, store.read.jobs())
        newest = 3 * number
        assert superseded == {at: newest + (at - 1) % 3 + 1 for at in range(1, newest + 1)}


def test_equal_jobs_that_wait_keep_their_names(launcher: Launcher, store: Store) -> None:
    words = ("add", "--hold", "--sweep", "seed=1,2", "--", "true", "{seed}")
    launcher.well(*words)
    assert "warning: jobs between 1 and 2 wait with equal commands" in launcher.well(*words).err
    assert [row.name for row in store.read.jobs()] == [f"command/{n}" for n in range(1, 5)]


def test_files_added_concurrently_get_distinct_numbers(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_queries, "JOBS_PER_BATCH", 300)  # all are read in three parts
    Path("jobs.txt").write_text("true\n" * 200)
    with ExitStack() as adding:
        words = ("add", "--hold", "--from", "jobs.txt")
        processes = [adding.enter_context(piped(*words)) for _ in range(4)]
        lines = [process.out.read().splitlines() for process in processes]
    rows = store.read.jobs()
    assert [row.name for row in rows] == [f"command/{number}" for number in range(1, 801)]
    printed = {int(line.split("\t")[0]): line.split("\t")[1] for part in lines for line in part}
    assert printed == {row.id: row.name for row in rows}


def test_number_equal_to_another_job_name_gets_a_suffix(
    launcher: Launcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    launcher("add", "--hold", "--name", "command/3", "--", "true")
    add_from_stdin(monkeypatch, b"true\ntrue\n")
    assert launcher("add", "--from", "-", "--hold").out == "2\tcommand/2\n3\tcommand/3'\n"


def test_jobs_after_a_failed_job_are_skipped_with_one_message(
    launcher: Launcher, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    (failed,) = enqueue(store, "train/a")
    finished(store, failed, Failed(at=2.0, error="no"))
    add_from_stdin(monkeypatch, b"true\ntrue\n")
    answer = launcher("add", "--after", "train/a", "--from", "-")
    assert answer.out == "2\tcommand/2\n3\tcommand/3\n"
    assert answer.err == "skipped all jobs: job 1 train/a failed\n"
    assert in_state(store, 3, State.SKIPPED)


def test_invalid_line_is_shown_and_no_job_is_queued(launcher: Launcher, home: Home) -> None:
    Path("jobs.txt").write_text("true\necho 'a b\n")
    answer = launcher.refused("add", "--from", "jobs.txt")
    assert "--> jobs.txt:2:6\n" in answer
    assert answer.endswith("\n1 error in jobs.txt; nothing was queued\n")
    assert not home.database.exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--from", ""],
            "error: --from: empty file name. Write a file name, or - for standard input.\n",
        ),
        (["--from", "."], "error: --from: cannot read .: Is a directory\n"),
        (["--from", "a.txt", "--name", ""], "--name is empty"),
        (["--from", "a.txt", "--after", "nothing"], "no job matches 'nothing'"),
        (["--from", "a.txt", "--cpus", "9999"], "this machine can never run it"),
        (["--from", "a.txt", "--group", "nobody"], "group 'nobody' does not exist"),
    ],
)
def test_invalid_options_with_from_are_refused(
    launcher: Launcher, store: Store, words: Sequence[str], message: str
) -> None:
    Path("a.txt").write_text("true\n")
    assert message in launcher.refused("add", *words)
    assert store.read.jobs() == []


def test_first_missing_program_is_reported_with_its_line(launcher: Launcher, store: Store) -> None:
    Path("jobs.txt").write_text("true\nnosuchprogram 1\nnosuchprogram 2\n./other\n")
    answer = launcher.well("add", "--hold", "--from", "jobs.txt")
    assert answer.err == (
        "warning[missing-program]: 'nosuchprogram' is not in PATH\n"
        " --> jobs.txt:2:1\n"
        "  |\n"
        "2 | nosuchprogram 1\n"
        "  | ^^^^^^^^^^^^^\n"
        "  = the jobs will fail unless this is fixed before they start\n"
        "  = also './other' (line 4)\n"
    )
    assert len(store.read.jobs()) == 4


def test_line_starting_with_a_variable_suggests_env(launcher: Launcher) -> None:
    Path("jobs.txt").write_text("SEED=1 echo 'a b'\n")
    answer = launcher.well("add", "--hold", "--from", "jobs.txt")
    assert "'SEED=1' is not in PATH" in answer.err
    assert "  = Set variables with env: env SEED=1 echo 'a b'\n" in answer.err


def test_terminal_shows_count_and_numbers_of_queued_jobs(home: Home) -> None:
    Path("jobs.txt").write_text("true\n" * 1200)
    drawn = in_a_terminal("add", "--hold", "--from", "jobs.txt", "--name", "seed")
    assert drawn == "1,200 jobs held: 1 to 1200 (command/seed-1 to command/seed-1200)\n"
    assert home.exists()


def test_terminal_input_shows_how_to_end_it(store: Store) -> None:
    drawn = in_a_terminal("add", "--hold", "--from", "-", typed="true a\n\x04")
    assert "reading commands, one per line; Ctrl-D ends the input\n" in drawn
    assert drawn.endswith("1 job held: command/1\n")
    assert job_row(store, 1).spec.argv == ("true", "a")


# --- `launcher add --sweep`: a job of each combination of values, all or none


GRID = ("add", "--name", "grid", "--sweep", "lr=0.1,1e-2", "--sweep", "seed=1..3")


GO = ("--", "sh", "-c", "echo {lr} {seed} $LAUNCHER_PARAMS")


def test_each_combination_becomes_a_job_with_its_values(launcher: Launcher, store: Store) -> None:
    answer = launcher(*GRID, "--cpus", "2", "--run", "mine", *GO)
    pairs = [(lr, seed) for lr in ("0.1", "0.01") for seed in (1, 2, 3)]
    names = [f"command/grid@lr={lr},seed={seed}" for lr, seed in pairs]
    assert answer.out == "".join(f"{number}\t{name}\n" for number, name in enumerate(names, 1))
    launcher.well("wait")
    row = job_row(store, 4)
    assert (row.name, row.run, row.spec.resources.cpus) == (names[3], "mine", 2)
    assert row.spec.settings["params"] == {"lr": 0.01, "seed": 1}
    assert launcher("logs", "4").out == '1e-2 1 {"lr": 0.01, "seed": 1}\n'


def test_existing_job_name_is_reused_after_its_end_or_refused(
    launcher: Launcher, store: Store
) -> None:
    launcher("add", "--name", "grid", "--sweep", "lr=0.1", "--", "true", "{lr}")
    launcher.well("wait")
    answer = launcher("add", "--hold", "--name", "grid", "--sweep", "lr=0.1,2", "--", "a", "{lr}")
    assert answer.err.startswith("note: renamed the finished job 1 to command/grid@lr=0.1@1\n")
    assert "the name 'command/grid@lr=0.1' is used by job 2 (held)" in launcher.refused(
        "add", "--name", "grid", "--sweep", "lr=1,0.1", "--", "true", "{lr}"
    )
    assert len(store.read.jobs()) == 3, "all or none"


def test_unnamed_combinations_are_numbered(launcher: Launcher, store: Store) -> None:
    answer = launcher("add", "--hold", "--sweep", "a=x,y", "--", "true", "{sweep}", "{{b}}", "null")
    assert answer.out == "1\tcommand/1\n2\tcommand/2\n"
    assert job_row(store, 2).spec.argv == ("true", "--a=y", "{b}", "null")
    assert job_row(store, 2).state is State.HELD
    launcher("add", "--hold", "--", "awk", "{print $1} {sweep}")
    assert job_row(store, 3).spec.argv == ("awk", "{print $1} {sweep}")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--sweep", "lr=1", "--", "go", "{lt}"), "no value is named 'lt'"),
        (("--sweep", "lr", "--", "go", "{lr}"), "expected NAME=VALUE,VALUE,…"),
        (("--sweep", "lr=1,,2", "--", "go", "{lr}"), "expected NAME=VALUE,VALUE,…"),
        (("--sweep", "lr=3..1", "--", "go", "{lr}"), "write the smaller number first: 1..3"),
        (("--sweep", "lr=0.1..0.5", "--", "go", "{lr}"), "add a step: lr=0.1..0.5..0.1"),
        (("--sweep", "lr=1e-4..1e-1", "--", "go", "{lr}"), "1e-4..1e-1 has no step"),
        (("--sweep", "lr=1..3..0", "--", "go", "{lr}"), "step of 1..3..0 is not greater than"),
        (("--sweep", "lr=1..3..-1", "--", "go", "{lr}"), "step of 1..3..-1 is not greater than"),
        (("--sweep", "lr=1...3", "--", "go", "{lr}"), "1...3 is not a range"),
        (("--sweep", "lr=1...3", "--", "go", "{lr}"), "write lr=1..3"),
        (("--sweep", "lr=1..=3", "--", "go", "{lr}"), "write lr=1..3"),
        (("--sweep", "lr=1:3", "--", "go", "{lr}"), "write lr=1..3"),
        (("--sweep", "lr=0.1:0.5:0.1", "--", "go", "{lr}"), "write lr=0.1..0.5..0.1"),
        (("--sweep", "lr=0.1, 0.01", "--", "go", "{lr}"), "remove the space: 0.01"),
        (("--sweep", "lr=0.1,", "0.01", "--", "go", "{lr}"), "without spaces"),
        (("--sweep", "lr=1 2", "--", "go", "{lr}"), "separate values by commas: lr=1,2"),
        (("--sweep", "lr=[1,2]", "--", "go", "{lr}"), "remove the brackets: 1"),
        (("--sweep", "lr=1..", "--", "go", "{lr}"), "1.. is not a range"),
        (("--sweep", "lr=..3", "--", "go", "{lr}"), "..3 is not a range"),
        (("--sweep", "lr=a..b", "--", "go", "{lr}"), "a..b is not a range"),
        (("--sweep", "lr=1..3..1..1", "--", "go", "{lr}"), "1..3..1..1 is not a range"),
        (("--sweep", "lr=a;b", "--", "go", "{lr}"), "'a;b' cannot be part of a job name"),
        (("--sweep", "lr=1..1e9", "--", "go", "{lr}"), "write a larger step"),
        (("--sweep", "lr=0..1..1e-9", "--", "go", "{lr}"), "1,000,000,001 values"),
        (("--sweep", "lr=0..1e20..1e-20", "--", "go", "{lr}"), "1e+40 values"),
        (("--sweep-flag", "--amp", "--", "go", "{amp}"), "write amp"),
        (("--sweep-flag", "amp,x", "--", "go", "{amp}"), "expected a name of letters"),
        (("--sweep-flag", "amp=1", "--", "go", "{amp}"), "for example lr"),
        (("--sweep-flag", "", "--", "go", "{amp}"), "expected a name of letters"),
        (("--sweep-flag", "sweep", "--", "go", "{sweep}"), "the name {sweep} is reserved"),
        (("--sweep-flag", "amp", "--", "go"), "no argument uses amp"),
        (("--sweep-flag", "amp", "--", "{amp}", "go"), "a flag and cannot be the program"),
        (("--sweep-flag", "a", "--sweep-flag", "a", "--", "go", "{a}"), "'a' is given twice"),
        (("--sweep-flag", "a", "--sweep", "a=1", "--", "go", "{a}"), "'a' is given twice"),
        (("--sweep-flag", "a", "--from", "x.txt"), "--sweep-flag cannot be combined with --from"),
        (
            ("--sweep-flag", "a", "--replace", "--name", "x", "--", "go", "{a}"),
            "cannot be combined with --sweep-flag",
        ),
        (("--sweep", "lr=1", "--sweep", "lr=2", "--", "go", "{lr}"), "'lr' is given twice"),
        (("--sweep", "lr=a:b", "--", "go", "{lr}"), "'a:b' cannot be part of a job name"),
        (("--sweep", "lr=a b", "--", "go", "{lr}"), "'a b' cannot be part of a job name"),
        (("--sweep", "lr=a\nb", "--", "go", "{lr}"), "cannot be part of a job name"),
        (("--sweep", "lr=1,1.0", "--", "go", "{lr}"), "lr has this value twice"),
        (("--sweep", "l r=1", "--", "go", "{l r}"), "a name of letters, digits"),
        (("--sweep", "a=1..10001", "--", "go", "{a}"), "10,001 values"),
        (
            ("--sweep", "a=1..101", "--sweep", "b=1..100", "--", "go", "{sweep}"),
            "10,100 combinations",
        ),
        (("--sweep", "a=1", "--name", "x{b}", "--", "go", "{a}"), "no value is named 'b'"),
        (("--sweep", "a=1", "--from", "x.txt"), "--sweep cannot be combined with --from"),
        (
            ("--sweep", "a=1", "--replace", "--name", "x", "--", "go", "{a}"),
            "cannot be combined with --sweep",
        ),
        (("--sweep", "a=1"), "missing PROGRAM"),
    ],
)
def test_invalid_sweep_is_refused(
    launcher: Launcher, home: Home, words: tuple[str, ...], message: str
) -> None:
    Path("x.txt").write_text("go\n")
    assert message in launcher.refused("add", *words)
    assert not home.database.exists()


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("0.1..0.5..0.1", "0.1 0.2 0.3 0.4 0.5"),
        ("0..1..0.25", "0 0.25 0.5 0.75 1"),
        ("1..10..4", "1 5 9"),
        ("100..300..100", "100 200 300"),
        ("1e-4..3e-4..1e-4", "0.0001 0.0002 0.0003"),
        ("-1..1..0.5,7", "-1 -0.5 0 0.5 1 7"),
        ("2..2", "2"),
        ("on,off,null", "on off null"),
    ],
)
def test_range_with_a_step_gives_each_number_exactly(
    launcher: Launcher, home: Home, text: str, values: str
) -> None:
    answer = launcher.well("add", "--dry-run", "--sweep", f"x={text}", "--", "go", "{x}")
    assert not home.database.exists()
    assert [line.split("\t")[1] for line in answer.out.splitlines()] == [
        f"go {value}" for value in values.split()
    ]


def test_single_value_that_looks_like_a_range_is_queued_with_a_warning(
    launcher: Launcher, store: Store
) -> None:
    answer = launcher.well("add", "--hold", "--sweep", "seed=1-3", "--", "echo", "{seed}")
    assert "matrix: 1-3 is one value, not a range" in answer.err
    assert "write seed=1..3" in answer.err
    assert [row.spec.argv for row in store.read.jobs()] == [("echo", "1-3")]
    for text in ("1-3,5-9", "3-1", "1..3", "v1-3"):  # several values, or no range
        sweep = ("add", "--dry-run", "--sweep", f"seed={text}", "--", "echo", "{seed}")
        assert "warning" not in launcher.well(*sweep).err, text


def test_swept_flag_is_an_argument_or_nothing(launcher: Launcher, store: Store) -> None:
    sweep = ("--name", "f", "--sweep", "lr=1", "--sweep-flag", "amp")
    launcher.well("add", "--hold", *sweep, "--", "true", "{amp}", "{sweep}", "m={amp}")
    assert [row.spec.argv for row in store.read.jobs()] == [
        ("true", "--amp", "--lr=1", "--amp", "m=true"),
        ("true", "--lr=1", "m=false"),
    ]
    assert [row.name for row in store.read.jobs()] == [
        "command/f@lr=1,amp=true",
        "command/f@lr=1,amp=false",
    ]
    assert [row.spec.params["amp"] for row in store.read.jobs()] == [True, False]


def test_mistake_is_marked_in_the_command_line(launcher: Launcher) -> None:
    answer = launcher("add", "--sweep", "lr=1,2", "--name", "t", "--", "go", "a {hiden}")
    assert answer.err == (
        "error[braces]: no value is named 'hiden'\n"
        " --> launcher add:1:34\n"
        "  |\n"
        "1 | --sweep lr=1,2 --name t -- go 'a {hiden}'\n"
        "  |                                  ^^^^^^^ write {{ or }} for a brace in the text\n"
        "  = known: lr\n"
        "\n1 error in launcher add; nothing was queued\n"
    )
