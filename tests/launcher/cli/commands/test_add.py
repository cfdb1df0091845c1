import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from launcher.job import Resources, Terms
from launcher.states import Failed, State
from launcher.store.queue import Store
from launcher.system.daemon_control import scheduler_pid
from launcher.system.files import write_json
from launcher.system.paths import Home
from launcher.system.processes import cores
from tests.build import a_spec, claimed, enqueue, in_state, job_row, lines_of, shell, until
from tests.launcher.conftest import Launcher
from tests.terminal import COMMAND


def test_a_program_is_queued_as_it_is_typed(
    launcher: Launcher, home: Home, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLOUR", "blue")
    script = 'echo "$1|$2|$COLOUR" > out; umask >> out'
    before = os.umask(0o037)
    try:
        answer = launcher(
            "add", "--name", "mine", "--priority", "3", "--", *shell(script, "a b", "-n")
        )
    finally:
        os.umask(before)
    assert (answer.code, answer.out) == (0, "1\tcommand/mine\n")
    assert launcher("wait").code == 0
    assert lines_of(tmp_path / "out") == ["a b|-n|blue", "0037"]
    row = job_row(store, 1)
    assert (row.state, row.priority, row.run) == (State.DONE, 3, "add")


def test_programs_are_put_into_a_run_of_their_own_wherever_they_are_added(
    launcher: Launcher, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("first", "second"):
        (tmp_path / folder).mkdir()
        monkeypatch.chdir(tmp_path / folder)
        assert launcher("add", "--run", "night", "--share", "2", "--hold", "--", "true").code == 0
    launcher("add", "--hold", "--", "true")
    assert [line.split("\t")[1] for line in launcher("status", "run:night").out.splitlines()] == [
        "night", "night",
    ]  # fmt: skip
    assert {row.spec.root for row in store.read.of_run("night")} == {str(tmp_path / "first")}
    assert launcher("share", "night").out.split()[:2] == ["night", "2"]
    launcher("cancel", "run:night", "--yes")
    assert [row.state for row in store.read.jobs()] == [State.CANCELLED] * 2 + [State.HELD]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("of-file", "'of-file' is a run of a task file in /data: give another --run"),
        ("calls", "'calls' is a run of functions of Python in /data: give another --run"),
        ("a/b", "--run names a folder; 'a/b' would lead outside its folder"),
        ("..", "--run names a folder; '..' would lead outside its folder"),
        ("", "--run names a folder; '' is empty"),
        ("-n", "--run names a folder; '-n' begins with '-'"),
        ("x" * 101, "is longer than 100 bytes"),
    ],
)
def test_a_run_of_others_or_of_no_name_is_refused(
    launcher: Launcher, store: Store, name: str, said: str
) -> None:
    enqueue(store, a_spec(hash="0f"), run="of-file", root=Path("/data"))
    enqueue(store, a_spec(kind="function"), run="calls", root=Path("/data"))
    answer = launcher("add", "--run", name, "--", "true")
    assert answer.code == 2
    assert said in answer.err
    assert len(store.read.jobs()) == 2


def test_a_task_file_with_the_name_of_a_run_of_programs_is_refused(
    launcher: Launcher, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "night.yaml").write_text("name: night\ncommand: [{argv: ['true']}]\n")
    launcher("add", "--run", "night", "--", "true")
    assert launcher("wait").code == 0
    for words in ((), ("--dry-run",)):
        answer = launcher("run", "night.yaml", *words)
        assert (answer.code, len(store.read.jobs())) == (2, 1)
        assert "'night' is a run of programs that `launcher add --run` queued" in answer.err
        assert "launcher clean run:night" in answer.err
    assert launcher("clean", "run:night", "--yes").code == 0
    assert launcher("run", "night.yaml").code == 0


@pytest.mark.parametrize(
    ("argv", "warned"),
    [
        (("echo", "a", "&&", "echo"), "no shell runs, so '&&' is an argument of the program"),
        (("sort", ">", "out"), "no shell runs, so '>' is an argument of the program; write sh -c"),
        (("echo a b",), "no program 'echo a b' is on PATH; take the quotes away: launcher add -- echo a b"),
        (("echo a", "b c"), "take the quotes away: launcher add -- echo a 'b c'"),
        (("no such", "x"), "it fails unless it is there by then; `launcher cancel 1` takes it out"),
        (("sh", "-c", "echo a && echo b"), ""),
        (("/usr/bin/find", ".", "-exec", "true", ";"), ""),
        (("expr", "1", "<", "2"), ""),
    ],
)  # fmt: skip
def test_what_was_meant_for_a_shell_is_queued_with_a_warning(
    launcher: Launcher, store: Store, argv: Sequence[str], warned: str
) -> None:
    answer = launcher("add", "--hold", "--", *argv)
    assert (answer.code, job_row(store, 1).spec.argv) == (0, tuple(argv))
    assert answer.err.startswith("warning: ") == bool(warned)
    assert warned in answer.err


def test_options_after_the_program_are_its_own(launcher: Launcher, store: Store) -> None:
    launcher("add", "printf", "%s", "--help")
    assert job_row(store, 1).spec.argv == ("printf", "%s", "--help")


@pytest.mark.parametrize("state", [State.HELD, State.QUEUED, State.RUNNING])
def test_a_name_belongs_to_one_job_that_has_not_ended(
    launcher: Launcher, store: Store, state: State
) -> None:
    waits = {State.HELD: ("--hold",), State.QUEUED: ("--not-before", "+1h")}
    launcher("add", "--name", "twin", *waits.get(state, ()), "--", "sleep", "300")
    until(lambda: in_state(store, 1, state), f"it is {state}")
    answer = launcher("add", "--name", "twin", "--", "false")
    assert answer.code == 2
    assert f"'command/twin' is job 1, which is {state}: give another --name" in answer.err
    assert "launcher cancel 1" in answer.err
    assert "launcher retry 1" in answer.err
    assert len(store.read.jobs()) == 1
    launcher("cancel", "1", "--yes")
    until(lambda: in_state(store, 1, State.CANCELLED), "it has ended")
    assert launcher("add", "--name", "twin", "--hold", "--", "false").code == 0


def test_the_name_of_a_job_that_has_ended_is_given_to_the_next_one(
    launcher: Launcher, store: Store
) -> None:
    for night in (1, 2, 3):
        answer = launcher("add", "--name", "prep", "--", "echo", f"night {night}")
        assert (answer.code, answer.out) == (0, f"{night}\tcommand/prep\n")
        older = f"job {night - 1} (done) is called command/prep@{night - 1} from now on\n"
        assert answer.err == ("" if night == 1 else older)
        assert launcher("wait", "prep").code == 0
    assert launcher("logs", "prep").out.strip() == "night 3"
    assert launcher("logs", "1").out.strip() == launcher("logs", "prep@1").out.strip() == "night 1"
    assert json.loads(launcher("show", "prep@2", "--json").out)["name"] == "command/prep@2"
    assert "command/prep@2" in launcher("history").out + launcher("status").out
    launcher("add", "--name", "train", "--after", "prep", "--hold", "--", "true")
    (train,) = store.read.named("train")
    assert (train.waits, store.read.needs_of(train.id)) == (0, ["command/prep"])
    assert launcher("retry", "1", "--force").code == 0
    assert launcher("wait", "1").code == 0
    assert [job_row(store, number).name for number in (1, 2, 3)] == [
        "command/prep@1", "command/prep@2", "command/prep",
    ]  # fmt: skip


def test_a_job_starts_after_the_end_of_another_even_if_that_fails(
    launcher: Launcher, store: Store
) -> None:
    launcher("add", "--name", "bad", "--hold", "--", "false")
    launcher("add", "--name", "clean-up", "--after-any", "bad", "--", "echo", "cleaned")
    launcher("add", "--name", "publish", "--after", "bad", "--", "true")
    shown = launcher("show", "bad").out
    assert "1 open job needs it: command/publish" in shown
    assert "1 open job starts after its end, done or not: command/clean-up" in shown
    assert "after command/bad" in launcher("status").out
    record = json.loads(launcher("show", "clean-up", "--json").out)
    assert (record["needs"], record["after_any"]) == ([], ["command/bad"])
    launcher("release", "bad")
    assert launcher("wait").code == 1
    assert [row.state for row in store.read.jobs()] == [State.FAILED, State.DONE, State.SKIPPED]
    assert launcher("logs", "clean-up").out.strip() == "cleaned"
    assert "starts after the end of\n  1  failed  command/bad" in launcher("show", "clean-up").out
    assert launcher("add", "--after-any", "nothing", "--", "true").code == 2


def test_a_name_that_an_older_job_would_get_may_be_taken(launcher: Launcher, store: Store) -> None:
    for name in ("prep@1", "prep"):
        launcher("add", "--name", name, "--", "true")
    assert launcher("wait").code == 0
    launcher("add", "--name", "prep", "--", "true")
    assert launcher("wait").code == 0
    assert {row.id: row.name for row in store.read.jobs()} == {
        1: "command/prep@1", 2: "command/prep@2", 3: "command/prep",
    }  # fmt: skip
    answer = launcher("add", "--name", "prep@1", "--", "true")
    assert (answer.code, job_row(store, 1).name) == (2, "command/prep@1")
    assert "'command/prep@1' stays the name of job 1: so an older job is called" in answer.err


def test_a_name_may_be_given_with_what_stands_before_every_name(launcher: Launcher) -> None:
    assert launcher("add", "--name", "command/prep", "--", "true").out == "1\tcommand/prep\n"


@pytest.mark.parametrize(
    ("program", "why"),
    [
        ("nosuchprogram", "no program 'nosuchprogram' is on PATH"),
        ("./nosuch.sh", "there is no program './nosuch.sh'"),
        ("./script.sh", "'./script.sh' cannot be executed; chmod +x makes a script a program"),
        ("./folder", "'./folder' cannot be executed"),
    ],
)
def test_a_program_that_is_not_found_is_queued_with_a_warning(
    program: str,
    why: str,
    launcher: Launcher,
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("script.sh").write_text("#!/bin/sh\n")
    Path("folder").mkdir()
    answer = launcher("add", "--hold", "--", program, "1")
    assert (answer.code, answer.out) == (0, "1\tcommand/1\n")
    assert answer.err.startswith(f"warning: {why}")
    assert "`launcher cancel 1` takes it out" in answer.err
    Path("night.yaml").write_text(
        f"name: night\ncommand: [{{name: a, argv: [{program}]}}, {{name: b, argv: [{program}, 2]}}]\n"
    )
    told = launcher("run", "night.yaml", "--dry-run")
    assert (told.code, told.err.count(why)) == (0, 1)
    assert "command/a fails unless it is there when that starts" in told.err
    assert launcher("add", "--hold", "--", "sh", "-c", "true").err == ""


@pytest.mark.parametrize(
    "words", [(), ("--cpus", "0", "--", "true"), ("--cpus", "x", "true"), ("--cpu", "2", "true")]
)
def test_what_cannot_be_queued_is_refused(
    launcher: Launcher, store: Store, words: Sequence[str]
) -> None:
    assert launcher("add", *words).code == 2
    assert store.read.jobs() == []


def test_a_name_that_is_no_text_is_refused(launcher: Launcher, store: Store) -> None:
    answer = launcher("add", "--name", os.fsdecode(b"caf\xe9"), "--", "true")
    assert answer.code == 2
    assert "is no UTF-8 text" in answer.err
    assert store.read.jobs() == []


def test_many_who_queue_at_once_lose_nothing(home: Home, store: Store) -> None:
    clients = [
        subprocess.Popen([*COMMAND, "add", "--", "true"], stdout=subprocess.DEVNULL)
        for _ in range(5)
    ]
    assert [client.wait() for client in clients] == [0] * 5
    jobs = store.read.jobs()
    assert len({job.name for job in jobs}) == 5
    until(lambda: store.read.counts().get(State.DONE) == 5, "all are done")


# --- terms


def test_the_terms_are_kept_with_the_job(launcher: Launcher, store: Store) -> None:
    launcher("group", "downloads", "--limit", "2")
    answer = launcher(
        *("add", "--hold", "--cpus", "2", "--ram", "64MiB", "--time-limit", "8h", "--warn", "5m"),
        *("--signal", "usr1", "--retries", "3", "--backoff", "1m", "--grace", "2m"),
        *("--group", "downloads", "--rerun", "never", "--not-before", "+2h", "--", "true"),
    )
    assert answer.code == 0, answer.err
    row = job_row(store, 1)
    assert row.state is State.HELD
    assert row.spec.resources == Resources(cpus=2, device="cpu", ram=64 << 20)
    assert row.spec.terms == Terms(
        group="downloads",
        not_before=row.starts_at,
        retries=3,
        backoff_s=60.0,
        time_limit_s=28_800.0,
        warn_s=300.0,
        warn_signal="SIGUSR1",
        rerun="never",
        grace_s=120.0,
    )
    assert row.starts_at is not None
    assert row.starts_at - row.submitted == pytest.approx(7200.0, abs=60.0)
    assert store.read.groups()[0].name == "downloads"


def test_without_options_the_terms_are_the_usual_ones(launcher: Launcher, store: Store) -> None:
    launcher("add", "--", "true")
    assert job_row(store, 1).spec.terms == Terms()
    assert job_row(store, 1).spec.resources == Resources(device="cpu")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--ram", "999TiB"), "needs 999 TiB of memory, this machine has "),
        (("--cpus", "9999"), f"needs 9999 cores, and {cores()} may be used on this machine"),
    ],
)
def test_what_the_machine_can_never_give_is_refused_and_not_queued(
    launcher: Launcher, store: Store, words: tuple[str, ...], message: str
) -> None:
    answer = launcher("add", *words, "--", "true")
    assert answer.code == 2
    assert f"error: this machine can never run it: {message}" in answer.err
    assert store.read.jobs() == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--ram", "8"), "'8' has no unit: write 8MiB or 8GiB"),
        (("--ram", "x"), "expected an amount of memory such as 16GiB, got 'x'"),
        (("--cpus", "0"), "expected a whole number from 1 to 100,000, got '0'"),
        (("--time-limit", "8"), "'8' has no unit"),
        (("--time-limit", "0s"), "expected more than 0s"),
        (("--time-limit", "99999d"), "expected at most 87,600h, got '99999d'"),
        (("--warn", "5m"), "--warn counts back from --time-limit: say that, too"),
        (("--time-limit", "5m", "--warn", "5m"), "expected a time shorter than --time-limit"),
        (("--signal", "USR1"), "--signal: SIGUSR1 is sent by --warn"),
        (("--signal", "KILL"), "such as SIGUSR1, got 'KILL'"),
        (("--signal", "SIGNAL"), "such as SIGUSR1, got 'SIGNAL'"),
        (("--retries", "-1"), "expected a whole number from 0 to 1,000, got '-1'"),
        (("--retries", "1001"), "expected a whole number from 0 to 1,000, got '1001'"),
        (("--backoff", "2h"), "expected at most 1h, got '2h'"),
        (("--grace", "soon"), "expected a time such as 30d, 8h, 1h30m or 41s, got 'soon'"),
        (("--not-before", "tomorrow"), "such as 18:00, 2026-12-24T18:00 or +2h30m, got 'tomorrow'"),
        (("--not-before", "2001-01-01"), "'2001-01-01' is over already"),
        (("--rerun", "maybe"), "'maybe' is not one of 'again', 'never'"),
        (("--priority", "9999999999999999999"), "expected a whole number from -2,147,483,647 to"),
        (("--after", "command/9"), "no job is called 'command/9'"),
    ],
)
def test_a_wrong_value_is_named_with_what_was_expected(
    launcher: Launcher, store: Store, words: tuple[str, ...], message: str
) -> None:
    answer = launcher("add", *words, "--", "true")
    assert answer.code == 2
    assert message in answer.err
    assert words[-2] in answer.err or words[-1] in answer.err
    assert store.read.jobs() == []


def test_a_group_that_nobody_made_is_an_error_that_tells_how(
    launcher: Launcher, store: Store
) -> None:
    launcher("group", "downloads", "--limit", "2")
    answer = launcher("add", "--group", "download", "--", "true")
    assert answer.code == 2
    assert "there is no group 'download'; did you mean 'downloads'?" in answer.err
    assert "`launcher group download --limit N`" in answer.err
    assert store.read.jobs() == []


def test_a_job_comes_after_those_that_it_names(launcher: Launcher, store: Store) -> None:
    for name in ("a", "b", "c"):
        launcher("add", "--hold", "--name", name, "--", "true")
    launcher("add", "--after", "1", "--after", "command/[bc]", "--after", "command/a", "--", "true")
    assert store.read.needs_of(4) == ["command/a", "command/b", "command/c"]
    assert job_row(store, 4).waits == 3


def test_a_job_after_one_that_failed_is_skipped_and_that_is_said(
    launcher: Launcher, store: Store
) -> None:
    (failed,) = enqueue(store, a_spec(name="train/a"))
    store.scheduling.finish(claimed(store, failed), Failed(at=2.0, error="no"), outputs={}, now=2.0)
    answer = launcher("add", "--after", "train/a", "--", "true")
    assert answer.out == "2\tcommand/2\n"
    assert answer.err == "skipped: needs train/a, which failed\n"
    assert in_state(store, 2, State.SKIPPED)


def test_a_number_that_somebody_took_as_a_name_is_no_trouble(
    launcher: Launcher, store: Store
) -> None:
    launcher("add", "--hold", "--name", "2", "--", "true")
    assert launcher("add", "--hold", "--", "true").out == "2\tcommand/2'\n"


def test_a_job_that_is_added_waits_in_a_stopped_queue_until_somebody_starts_that(
    launcher: Launcher, home: Home, store: Store
) -> None:
    write_json(home.stop, {"schema": 1, "now": False, "at": time.time()})
    answer = launcher("add", "--", "true")
    assert answer.code == 0
    assert re.search(r"the queue is stopped since .* `launcher start` goes on", answer.err)
    assert home.stop.exists()
    assert scheduler_pid(home) is None
    assert in_state(store, 1, State.QUEUED)
    assert launcher("start").err == "the queue goes on\n"
    assert launcher("wait", "1").code == 0
    assert launcher("start").err == "the queue was not stopped\n"


def test_who_runs_something_again_in_a_stopped_queue_is_told_that_it_goes_on(
    launcher: Launcher, home: Home, store: Store
) -> None:
    (job,) = enqueue(store, a_spec())
    failed = Failed(at=2.0, error="no")
    store.scheduling.finish(claimed(store, job), failed, outputs={}, now=2.0)
    write_json(home.stop, {"schema": 1, "now": False, "at": 0.0})
    answer = launcher("retry", str(job))
    assert "the queue was stopped, and goes on now" in answer.err
    assert not home.stop.exists()


def test_queueing_needs_no_heavy_imports(home: Home) -> None:
    script = (
        "import sys\nfrom launcher.cli.main import main\n"
        "try:\n    main(['add', '--hold', '--', 'true'])\nexcept SystemExit:\n    pass\n"
        "print(sorted({'launcher.planning', 'pydantic', 'rich', 'torch'} & set(sys.modules)))"
    )
    output = subprocess.check_output([sys.executable, "-c", script], text=True)
    assert output.splitlines() == ["1\tcommand/1", "[]"]
