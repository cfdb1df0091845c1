"""`launcher add`: folder, variables and tags of a program, and waiting for its end."""

import signal
from collections.abc import Sequence
from pathlib import Path

import pytest

from launcher.frontends.cli.await_jobs import await_jobs
from launcher.queue.home.paths import Home
from launcher.queue.jobs.states import State
from launcher.queue.store.queue import Store
from launcher.system.processes import identity
from tests.build import in_state, job_row, program_of, shell
from tests.launcher.conftest import Launcher
from tests.terminal import piped

SHOWS = shell('echo "$PWD $MARK"')


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which everything is typed, with a folder in it."""
    (tmp_path / "here/below").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def test_program_starts_in_its_folder_with_its_variables(
    launcher: Launcher, folder: Path, store: Store
) -> None:
    options = ("--cwd", "below", "--env", "MARK=a=b $x", "--tag", "one", "--tag", "two")
    words = (*options, "--output", "made.txt", "--", *shell('echo "$PWD $MARK" | tee made.txt'))
    assert launcher.well("add", "--wait", *words).out == "1\tcommand/1\n"
    assert launcher.well("logs", "1").out == f"{folder}/below a=b $x\n"
    assert store.job_control.tags_of([1]) == {1: ["one", "two"]}
    assert launcher.well("show", "1", "--command").out == (
        f"cd {folder}/below && env 'MARK=a=b $x' /bin/sh -c 'echo \"$PWD $MARK\" | tee made.txt' sh\n"
    )
    assert job_row(store, 1).spec.outputs == (f"{folder}/below/made.txt",)
    assert "not queued: job 1 made the same outputs" in launcher.well("add", *words).err
    launcher.well("add", "--hold", "--env", "OTHER=1", *words)
    assert job_row(store, 2).state is State.HELD


def test_sweep_replaces_names_in_folder_and_variables(launcher: Launcher, folder: Path) -> None:
    for name in "ab":
        (folder / name).mkdir()
    words = ("--sweep", "part=a,b", "--cwd", "{part}", "--env", "MARK=is-{part}")
    launcher.well("add", *words, "--wait", "--", *SHOWS)
    printed = [launcher.well("logs", job).out for job in "12"]
    assert printed == [f"{folder}/a is-a\n", f"{folder}/b is-b\n"]
    error = launcher.refused("add", "--sweep", "part=a,b", "--env", "M={prt}", "--", "x", "{part}")
    assert "1 | --sweep part=a,b --env 'M={prt}' -- x '{part}'" in error
    assert "^^^^^ did you mean 'part'?" in error
    error = launcher.refused(
        "add", "--sweep", "part=a,b", "--metrics", "{prt}", "--", "x", "{part}"
    )
    assert "metrics: no value is named 'prt'" in error
    assert "^^^^^ did you mean 'part'?" in error


METRICS_ADVICE = "Its numbers may not count if they run at the same time. Let the program write into {job_folder}, and add "


@pytest.mark.parametrize(
    ("words", "warning"),
    [
        (("--metrics", "m{n}.csv"), ""),
        (("--metrics", "{job_folder}/m.csv"), ""),
        (("--metrics", "m.csv", "--cwd", "{n}"), ""),
        (("--metrics", "m.csv"), "2 jobs name the same metrics file m.csv"),
        (("--metrics", "./m.csv"), "2 jobs name the same metrics file ./m.csv"),
        (("--tensorboard", "{run_folder}/r"), "2 jobs name the same folder of event files {run_folder}/r"),
    ],
)  # fmt: skip
def test_file_of_numbers_that_several_jobs_name_is_warned_of(
    launcher: Launcher, folder: Path, words: Sequence[str], warning: str
) -> None:
    for name in "12":
        (folder / name).mkdir()
    sweep = ("add", "--hold", "--sweep", "n=1,2", *words)
    option, _, file = words[0], words[1], words[1].rpartition("/")[2]
    advice = f"{METRICS_ADVICE}{option} '{{job_folder}}/{file}'\n"
    wanted = f"warning: {warning}. {advice}" if warning else ""
    assert launcher.well(*sweep, "--dry-run", "--", "true", "{n}").err.startswith(wanted)
    assert launcher.well(*sweep, "--", "true", "{n}").err == wanted
    if warning:
        answer = launcher.well("add", "--hold", *words, "--", "true")
        more = warning.replace("2 jobs", "3 jobs")
        assert answer.err == f"warning: {more}, also jobs 1, 2 of the queue. {advice}"


@pytest.mark.parametrize(
    ("word", "message"),
    [
        (
            "LAUNCHER_JOB=5",
            "--env LAUNCHER_JOB: launcher sets this variable for each job. Use another",
        ),
        (
            "CUDA_VISIBLE_DEVICES=0",
            "launcher sets this variable for each job. Reserve GPUs with --gpus.",
        ),
    ],
)
def test_variable_that_each_job_gets_is_refused(
    launcher: Launcher, word: str, message: str
) -> None:
    assert message in launcher.refused("add", "--env", word, "--", "true")


def test_replaced_job_gets_the_tags_as_well(launcher: Launcher, store: Store) -> None:
    launcher.well("add", "--hold", "--name", "x", "--tag", "old", "--", "true")
    launcher.well("add", "--hold", "--name", "x", "--replace", "--tag", "new", "--", "false")
    assert store.job_control.tags_of([1]) == {1: ["new", "old"]}


@pytest.mark.parametrize(
    ("option", "printed"), [("--wait", "1\tcommand/1\n"), ("--follow", "said\nlast\n")]
)
def test_exit_code_is_1_if_a_job_is_not_done(
    launcher: Launcher, store: Store, option: str, printed: str
) -> None:
    answer = launcher("add", option, "--", *shell("echo said; echo last; exit 3"))
    assert (answer.code, answer.out) == (1, printed)
    assert ("1\tcommand/1\n" in answer.err) == (option == "--follow")
    assert "failed: command/1: ended with exit code 3" in answer.err
    assert "  launcher logs 1 · launcher show 1\n" in answer.err
    skipped = launcher("add", option, "--after", "1", "--", "true")
    assert (skipped.code, job_row(store, 2).state) == (1, State.SKIPPED)
    assert "skipped" in skipped.err


def test_output_of_jobs_that_ended_before_the_following_is_printed(
    launcher: Launcher, home: Home, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    launcher.well("add", "--", *shell("echo quick"))
    launcher(
        "add", "--wait", "--retries", "1", "--backoff", "0s", "--", *shell("echo twice; exit 1")
    )
    launcher.well("wait", "1")
    capsys.readouterr()
    assert await_jobs(home, store, [1], first_event=0, follow=True) == 0
    assert capsys.readouterr().out == "quick\n"
    assert await_jobs(home, store, [2], first_event=0, follow=True) == 1
    assert capsys.readouterr().out == "twice\ntwice\n"
    assert await_jobs(home, store, [1, 2], first_event=0, follow=True) == 1
    assert sorted(capsys.readouterr().out.splitlines()) == [
        "command/1\tquick",
        "command/2\ttwice",
        "command/2\ttwice",
    ]


def test_following_ends_when_the_rest_is_held_because_others_failed(launcher: Launcher) -> None:
    launcher.well("group", "one", "--limit", "1")
    words = ("--max-failures", "1", "--group", "one", "--sweep", "x=1..4")
    answer = launcher("add", "--follow", *words, "--", *shell("echo {x}; exit 1"))
    assert (answer.code, answer.out) == (1, "command/1\t1\n")
    held = "3 jobs are held after 1 failure (most recent: ended with exit code 1: 1). To continue: "
    assert held in answer.err
    again = launcher.well("logs", "-f", "run:add")
    assert again.out == answer.out
    assert f"note: {held}" in again.err


def test_job_that_is_cancelled_before_its_start_ends_the_waiting(
    launcher: Launcher, home: Home, store: Store
) -> None:
    launcher.well("add", "--hold", "--", "true")
    words = ("add", "--follow", "--after-any", "1", "--", "true")
    with piped(*words, code=1) as waiting:
        waiting.err.readline()
        launcher.well("cancel", "2")
        said = waiting.err.read()
    assert "cancelled: command/2: cancelled by its owner" in said


@pytest.mark.parametrize(
    ("words", "back"), [(("--wait",), "launcher wait 1"), (("--follow",), "launcher logs 1 -f")]
)
def test_interrupt_leaves_the_job_running_and_prints_how_to_come_back(
    home: Home, store: Store, words: Sequence[str], back: str
) -> None:
    command = ("add", *words, "--", *shell("echo begun; exec sleep 60"))
    with piped(*command, code=130) as waiting:
        program = program_of(home.attempt(1, 1))
        waiting.out.readline()  # the job, or what it printed
        waiting.process.send_signal(signal.SIGINT)
        said = waiting.err.read()
    assert f"1 job continues. To come back: {back}. To cancel: launcher cancel 1\n" in said
    assert "Traceback" not in said
    assert identity(program) is not None
    assert in_state(store, 1, State.RUNNING)


def test_stopped_queue_ends_the_waiting(launcher: Launcher, store: Store) -> None:
    launcher.well("add", "--hold", "--", "true")
    launcher.well("stop")
    answer = launcher("add", "--wait", "--", "true")
    assert answer.code == 3
    assert "the queue is stopped, so these jobs wait. To start jobs again" in answer.err
    assert job_row(store, 2).state is State.QUEUED


def test_dry_run_prints_the_folder_and_the_variables(launcher: Launcher) -> None:
    answer = launcher.well(
        "add", "--dry-run", "--wait", "--cwd", "below", "--env", "A=b c", "--", "x"
    )
    assert answer.out == "command/…\tenv -C below 'A=b c' x\n"
