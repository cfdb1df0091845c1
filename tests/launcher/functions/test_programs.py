"""`submit_program`: programs as jobs, with the options of `launcher add`."""

import sys
from pathlib import Path
from typing import Any, assert_type

import pytest

from launcher.api import (
    Future,
    ProgramError,
    ProgramResult,
    UsageError,
    future,
    submit,
    submit_many,
    submit_program,
)
from launcher.queue.jobs.job import Resources, Terms
from launcher.queue.jobs.states import Done
from launcher.queue.store.queue import Store
from launcher.system.files import Json
from tests.build import DEADLINE_S, finished
from tests.launcher.conftest import Launcher

pytestmark = pytest.mark.usefixtures("one_queue", "queue")
REPORTS = [sys.executable, "-c", "print('launcher: acc=0.5')"]


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_result_of_a_program_is_its_exit_code_and_its_numbers() -> None:
    answer = submit_program(REPORTS, cpus=1)
    assert answer.result(DEADLINE_S) == ProgramResult(exit_code=0, numbers={"acc": 0.5})
    assert future(answer.job).result(DEADLINE_S) == answer.result()
    failed = submit_program([sys.executable, "-c", "print('acc=0.25'); raise SystemExit(3)"])
    with pytest.raises(ProgramError, match="ended with exit code 3") as caught:
        failed.result(DEADLINE_S)
    assert caught.value.result == ProgramResult(exit_code=3, numbers={"acc": 0.25})
    killed = submit_program(["sh", "-c", "kill -9 $$"])
    error = killed.exception(DEADLINE_S)
    assert isinstance(error, ProgramError)
    assert error.result == ProgramResult(exit_code=-9, numbers={})


def test_source_and_faults_are_no_numbers(store: Store) -> None:
    answer = submit_program(["true"], hold=True)
    result: dict[str, Json] = {"acc": 0.5, "read_from": "log", "number_faults": ["no header"]}
    store.job_control.release([answer.job], 1.0)
    finished(store, answer.job, Done(at=2.0, result=result))
    assert future(answer.job).result(DEADLINE_S).numbers == {"acc": 0.5}


def test_options_of_a_program_are_those_of_add(store: Store, launcher: Launcher) -> None:
    words = ["add", "--hold", "--cpus", "2", "--ram", "1GiB", "--time-limit", "8h", "--note", "n"]
    words += ["--run", "study", "--tag", "b", "--tag", "a", "--env", "A=1", "--cwd", ".", "--name"]
    launcher.well(*words, "typed", "--", "true", "{job_folder}")
    submit_program(
        ["true", "{job_folder}"],
        hold=True,
        cpus=2,
        ram="1GiB",
        time_limit="8h",
        note="n",
        run="study",
        tag=["b", "a"],
        env={"A": "1"},
        cwd=".",
        name="called",
    )
    typed, called = store.read.jobs()[-2:]
    assert (called.name, called.run, called.state) == ("command/called", "study", "held")
    assert called.spec == typed.spec._replace(name=called.name)
    assert called.spec.resources == Resources(cpus=2, ram=1 << 30, device="cpu")
    assert called.spec.terms == Terms(time_limit_s=28800.0, note="n")
    assert {*store.job_control.tags_of([typed.id, called.id])[called.id]} == {"a", "b"}


def test_sweep_queues_a_program_with_each_combination(store: Store) -> None:
    by_values = submit_program(
        ["echo", "{lr}", "{amp}"], sweep={"lr": [0.1, 1]}, sweep_flag="amp", hold=True
    )
    as_typed = submit_program(["echo", "{lr}"], sweep=["lr=0.1,1"], hold=True)
    jobs = store.read.jobs_by_id(answer.job for answer in (*by_values, *as_typed))
    lines = [" ".join(job.spec.argv).strip() for job in jobs]
    assert lines == [
        *("echo 0.1 --amp", "echo 0.1", "echo 1 --amp", "echo 1"),
        *("echo 0.1", "echo 1"),
    ]
    assert [job.params["lr"] for job in jobs] == [0.1, 0.1, 1, 1, 0.1, 1]


def test_values_are_filled_into_the_names_of_files_and_shared_files_are_warned_of(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = submit_program(
        ["echo", "{lr}"],
        sweep={"lr": [0.1, 1]},
        hold=True,
        metrics="{lr}/m.csv",
        tensorboard="runs",
    )
    jobs = store.read.jobs_by_id(answer.job for answer in answers)
    assert [job.spec.terms.metrics for job in jobs] == ["0.1/m.csv", "1/m.csv"]
    assert capsys.readouterr().err == (
        "warning: 2 jobs name the same folder of event files runs. Its numbers may not count if they run at the same "
        "time. Let the program write into {job_folder}, and add tensorboard='{job_folder}/runs'\n"
    )


def test_functions_and_programs_share_a_run(launcher: Launcher) -> None:
    program = submit_program(REPORTS, run="mixed", cpus=1)
    function = submit(lambda: {"acc": 0.75}, run="mixed", after=[program], cpus=1)
    many = submit_many(abs, [-1], run="mixed", cpus=1)
    assert function.result(DEADLINE_S) == {"acc": 0.75}
    assert many[0].result(DEADLINE_S) == 1
    rows = launcher.well("results", "mixed").out
    assert "0.5" in rows
    assert "0.75" in rows
    with pytest.raises(UsageError, match="run 'functions' is for Python functions"):
        submit_program(["true"], run="functions")


def test_program_whose_outputs_are_up_to_date_is_not_queued(store: Store) -> None:
    made = submit_program(["touch", "made"], output="made")
    made.result(DEADLINE_S)
    again = submit_program(["touch", "made"], output="made")
    assert again.job == made.job
    assert again.result(DEADLINE_S) == ProgramResult(0, {})
    read = submit_program(["cat", "made"], input=[Path("made")], after=made)
    read.result(DEADLINE_S)
    assert store.read.dependency_names(read.job) == [made.name]


@pytest.mark.parametrize(
    ("words", "options", "said"),
    [
        ("echo hi", {}, "words: expected a list of texts"),
        ([], {}, "words: expected a list of texts"),
        (["echo", 1], {}, "words: expected a list of texts"),
        (["echo"], {"nmae": "x"}, "unknown option 'nmae'.*'name'"),
        (["echo"], {"cpus": "x"}, "cpus: expected a whole number"),
        (["echo"], {"tag": 3}, "tag: expected a text or a list of texts"),
        (["echo"], {"tag": "a b"}, "is not a valid tag"),
        (["echo"], {"share": 0}, "share: expected a number from 0.001"),
        (["echo"], {"run": "a/b"}, "run: 'a/b' contains"),
        (["echo"], {"after": 999_999}, "after: job 999999 does not exist"),
        (["echo"], {"after": "first"}, "after: expected futures"),
        (["echo"], {"sweep": {"a": ["x,y"]}}, "'x,y' cannot be a value of a sweep"),
        (["echo"], {"cwd": "absent"}, "absent does not exist"),
        (["echo"], {"ram": 16}, "ram: 16 means 16 bytes. Write '16GiB', or 16 \\* 2\\*\\*30"),
        (["echo"], {"gpus": 1, "vram": 2.5}, "vram: 2.5 means 2.5 bytes"),
        (["echo"], {"env": {"LAUNCHER_JOB": "1"}}, "launcher sets this variable"),
        (["echo"], {"group": "absent"}, "group 'absent' does not exist"),
    ],
)
def test_invalid_program_or_option_is_refused(
    store: Store, words: Any, options: dict[str, Any], said: str
) -> None:
    before = len(store.read.jobs())
    with pytest.raises(UsageError, match=said):
        submit_program(words, **options)
    assert len(store.read.jobs()) == before


def test_types_of_programs_are_known_where_mypy_reads_a_script() -> None:
    assert_type(submit_program(["true"], hold=True, note="x"), Future[ProgramResult])
    many = submit_program(["true", "{a}"], sweep={"a": [1]}, hold=True, cpus=1)
    assert_type(many, list[Future[ProgramResult]])
    flags = submit_program(["true", "{a}"], sweep_flag="a", hold=True)
    assert_type(flags, list[Future[ProgramResult]])
