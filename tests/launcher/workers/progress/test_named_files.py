"""The files of numbers that jobs name, from the start of a program until after its end."""

import os
import time
from pathlib import Path
from typing import Any

import pytest

from launcher.queue.home.paths import Attempt, Home
from launcher.queue.jobs.job import Terms
from launcher.queue.workers.attempt_spec import read_attempt_spec
from launcher.queue.workers.exit_outcome import ExitContext, judge_exit
from launcher.queue.workers.progress.attempt_progress import (
    read_file_faults,
    read_last_metrics,
    read_newest_step,
    read_reported_steps,
    start_time,
)
from launcher.queue.workers.progress.file_registry import FOLDER, SILENT_S
from launcher.queue.workers.progress.named_files import (
    MOST_STEPS,
    begin_named_files,
    end_named_files,
    watch_named_files,
)
from tests.build import a_context, a_spec, an_attempt
from tests.launcher.workers.progress.event_writer import event, simple, write_events

FREE = {"val_acc": 0.5, "read_from": "metrics file"}


def begun(home: Home, folder: Path, job: int = 1, *, number: int = 1, **terms: Any) -> Attempt:
    """An attempt whose program starts."""
    folder.mkdir(exist_ok=True)
    spec = a_spec(name=f"command/{job}", terms=Terms(**terms))
    attempt = an_attempt(home, spec, job=job, number=number, context=a_context(folder))
    begin_named_files(read_attempt_spec(attempt.spec.read_bytes()), attempt)
    return attempt


def write(file: Path, value: float = 0.5) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"epoch,val_acc\n1,{value}\n")


def check(attempt: Attempt, *pids: int) -> None:
    watch = watch_named_files(attempt, lambda: pids, 0.0)
    assert watch is not None
    watch.check(watch.check_at)


def numbers_at_end(attempt: Attempt) -> dict[str, Any]:
    end_named_files(attempt)
    return {**read_last_metrics(attempt)}


def test_numbers_are_read_once_after_the_end(home: Home, tmp_path: Path) -> None:
    work = tmp_path / "work"
    attempt = begun(home, work, metrics="m.csv")
    begin = start_time(attempt)
    assert read_newest_step(attempt) is None
    write(work / "m.csv")
    check(attempt)
    assert str(read_newest_step(attempt)) == "1 val_acc=0.5"
    (work / "m.csv").write_text("epoch,val_acc\n1,0.5")  # it has ended well: the line is whole
    assert numbers_at_end(attempt) == FREE
    write(work / "m.csv", 0.99)
    assert numbers_at_end(attempt) == FREE
    assert [step.metrics for step in read_reported_steps(attempt)] == [{"val_acc": 0.5}]
    assert start_time(attempt) == begin


@pytest.mark.parametrize(
    ("text", "losses"),
    [
        ("epoch,loss\n1,0.25\n2,0.0312\n", [0.25, 0.0312]),
        ("epoch,loss\n1,0.25\n2,0.0", [0.25]),
        ('{"epoch": 1, "loss": 0.25}\n{"epoch": 2, "loss": 0.0', [0.25]),
        ('[{"epoch": 1, "loss": 0.25}, {"epoch": 2, "loss": 0.0312}]', [0.25, 0.0312]),
    ],
)
def test_line_that_a_killed_program_has_not_ended_is_no_point(
    home: Home, tmp_path: Path, text: str, losses: list[float]
) -> None:
    attempt = begun(home, tmp_path / "work", metrics="m")
    (tmp_path / "work" / "m").write_text(text)
    judge_exit(9, attempt, ExitContext(), 1000.0)
    assert [step.metrics["loss"] for step in read_reported_steps(attempt)] == losses


def test_file_that_was_not_written_has_no_numbers_later(home: Home, tmp_path: Path) -> None:
    work = tmp_path / "work"
    attempts = [
        begun(home, work, 1, metrics="m.csv"),
        begun(home, work, 2, tensorboard="runs"),
        begun(home, work, 3, metrics="lg/*/m.csv"),
    ]
    before = [numbers_at_end(attempt) for attempt in attempts]
    assert [each["number_faults"] for each in before] == [
        ["metrics file m.csv was not written"],
        ["event files in runs were not written: the folder does not exist"],
        ["no metrics file that matches lg/*/m.csv was written"],
    ]
    write(work / "m.csv")
    write(work / "lg" / "v0" / "m.csv")
    write_events(work / "runs" / "events.out.tfevents.1", event("loss", 1, simple(0.5)))
    assert [numbers_at_end(attempt) for attempt in attempts] == before
    assert [read_reported_steps(attempt) for attempt in attempts] == [[], [], []]


def test_older_file_does_not_count(home: Home, tmp_path: Path) -> None:
    work = tmp_path / "work"
    for name in ("m.csv", "lg/v0/m.csv"):
        write(work / name)
        os.utime(work / name, (1.0, 1.0))
    plain, pattern = begun(home, work, metrics="m.csv"), begun(home, work, 2, metrics="lg/*/m.csv")
    faults = [numbers_at_end(attempt)["number_faults"] for attempt in (plain, pattern)]
    assert faults == [
        ["metrics file m.csv was not written: it is older than the job"],
        ["no metrics file that matches lg/*/m.csv was written: the files that match are older than the job"],
    ]  # fmt: skip


def test_jobs_beside_each_other_get_no_numbers_of_one_another(home: Home, tmp_path: Path) -> None:
    work = tmp_path / "work"
    one, two = (begun(home, work, job, metrics="lg/*/m.csv") for job in (1, 2))
    write(work / "lg" / "v0" / "m.csv", 0.1)
    write(work / "lg" / "v1" / "m.csv", 0.2)
    check(one)
    assert read_newest_step(one) is None
    why = "metrics file lg/v1/m.csv does not count: job {} may have written it. "
    advice = "Let the program write into {job_folder}, and add --metrics '{job_folder}/lg/*/m.csv'"
    assert read_file_faults(one) == (why.format("2 (command/2)") + advice,)
    assert numbers_at_end(one) == {"number_faults": [why.format("2 (command/2)") + advice]}
    # the first job has ended, but it ran when the file was written
    assert numbers_at_end(two) == {"number_faults": [why.format("1 (command/1)") + advice]}
    alone = begun(home, work, 3, metrics="lg/*/m.csv")
    write(work / "lg" / "v2" / "m.csv")
    assert numbers_at_end(alone) == FREE
    assert [*(home.folder / FOLDER).iterdir()] == []  # no entry is kept


def test_open_file_belongs_to_the_process_that_writes_it(home: Home, tmp_path: Path) -> None:
    work = tmp_path / "work"
    one, two = (begun(home, work, job, metrics="lg/*/m.csv") for job in (1, 2))
    for job in (1, 2):
        write(work / "lg" / f"v{job}" / "m.csv", job / 10)
    with (work / "lg" / "v1" / "m.csv").open("a"), (work / "lg" / "v2" / "m.csv").open():
        check(one, os.getpid())  # the second file is open for reading only
    assert str(read_newest_step(one)) == "1 val_acc=0.1"
    with (work / "lg" / "v2" / "m.csv").open("a"):
        check(two, os.getpid())
    check(one)
    assert numbers_at_end(one)["val_acc"] == 0.1
    assert numbers_at_end(two)["val_acc"] == 0.2


def test_event_files_of_other_jobs_do_not_count(home: Home, tmp_path: Path) -> None:
    work = tmp_path / "work"
    one, two = (begun(home, work, job, tensorboard="runs") for job in (1, 2))
    files = [work / "runs" / f"job{job}" / "events.out.tfevents.1" for job in (1, 2)]
    for job, file in enumerate(files, 1):
        write_events(file, event("loss", 3, simple(job / 2), at=1000.0))
    for attempt, file in zip((one, two), files, strict=True):
        with file.open("ab"):
            check(attempt, os.getpid())
    assert str(read_newest_step(one)) == "3 loss=0.5"
    source = {"read_from": "event files"}
    assert numbers_at_end(one) == {"loss": 0.5, **source}
    assert numbers_at_end(two) == {"loss": 1.0, **source}


def test_folder_of_the_job_needs_no_watch(home: Home, tmp_path: Path) -> None:
    work = tmp_path / "work"
    own = home.attempt(1, 1).folder / "runs" / "test" / "jobs" / "1"
    attempt = begun(home, work, metrics=f"{own}/*/m.csv")
    other = begun(home, work, 2, metrics="m.csv")
    assert watch_named_files(attempt, list, 0.0) is None
    write(own / "v0" / "m.csv")
    assert str(read_newest_step(attempt)) == "1 val_acc=0.5"
    assert numbers_at_end(attempt) == FREE
    assert read_file_faults(other) == ()


def test_fault_in_the_folder_of_the_job_has_its_placeholder(home: Home, tmp_path: Path) -> None:
    own = home.attempt(1, 1).folder / "runs" / "test" / "jobs" / "1"
    attempt = begun(home, tmp_path / "work", metrics=f"{own}/m.csv")
    own.mkdir(parents=True)
    (own / "m.csv").write_text("1,2\n")
    (fault,) = numbers_at_end(attempt)["number_faults"]
    assert fault.startswith("metrics file {job_folder}/m.csv has no header")


def test_rows_that_were_there_before_belong_to_other_jobs(home: Home, tmp_path: Path) -> None:
    work, file = tmp_path / "work", tmp_path / "work" / "m.csv"
    work.mkdir()
    file.write_text("epoch,val_acc,other\n1,0.9,0.9\n")
    attempt = begun(home, work, metrics="m.csv")
    with file.open("a") as lines:
        lines.write("1,0.5,\n")
    assert numbers_at_end(attempt) == FREE
    again = begun(home, work, number=2, metrics="m.csv")  # goes on with its own rows
    with file.open("a") as lines:
        lines.write("2,0.75,\n")
    assert [step.metrics for step in read_reported_steps(again)] == []
    end_named_files(again)
    assert [step.metrics["val_acc"] for step in read_reported_steps(again)] == [0.5, 0.75]
    whole = begun(home, work, 2, metrics="m.csv")
    file.write_text("epoch,val_acc\n1,0.5\n")
    assert numbers_at_end(whole) == FREE


def test_job_whose_supervisor_died_does_not_count_for_ever(home: Home, tmp_path: Path) -> None:
    work = tmp_path / "work"
    dead = begun(home, work, metrics="m.csv")
    write(work / "m.csv", 0.1)
    check(dead)
    past = time.time() - 2 * SILENT_S
    os.utime(dead.number_files, (past, past))
    attempt = begun(home, work, 2, metrics="m.csv")
    write(work / "m.csv")
    assert numbers_at_end(attempt) == FREE
    assert read_newest_step(dead) is None  # the later content is another job's


def test_long_files_are_recorded_in_part_with_each_last_number(home: Home, tmp_path: Path) -> None:
    work = tmp_path / "work"
    attempt = begun(home, work, metrics="m.csv")
    rows = "".join(f"{step},{step},{'7' if step == 11 else ''}\n" for step in range(3 * MOST_STEPS))
    (work / "m.csv").write_text(f"step,loss,first\n{rows}")
    last = {"loss": 3 * MOST_STEPS - 1, "first": 7.0, "read_from": "metrics file"}
    assert numbers_at_end(attempt) == last
    assert MOST_STEPS <= len(read_reported_steps(attempt)) <= MOST_STEPS + 2


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("epoch,time,lr\n1,3.5,0.1\n", "contains only counters, times, sizes or learning rates"),
        ("1,2\n", "has no header: its first line contains numbers. Write the names of the columns into it"),
    ],
)  # fmt: skip
def test_fault_names_the_file(home: Home, tmp_path: Path, text: str, fault: str) -> None:
    attempt = begun(home, tmp_path / "work", metrics="*/m.csv")
    (tmp_path / "work" / "a").mkdir()
    (tmp_path / "work" / "a" / "m.csv").write_text(text)
    assert numbers_at_end(attempt) == {"number_faults": [f"metrics file a/m.csv {fault}"]}


def test_event_folder_without_numbers_has_a_fault(home: Home, tmp_path: Path) -> None:
    work = tmp_path / "work"
    empty, other, file = (begun(home, work, job, tensorboard=f"runs{job}") for job in (1, 2, 3))
    (work / "runs1").mkdir()
    write_events(work / "runs2" / "events.out.tfevents.1")
    (work / "runs3").write_text("")
    assert [numbers_at_end(each)["number_faults"] for each in (empty, other, file)] == [
        ["event files in runs1 were not written"],
        ["event files in runs2 contain no numbers"],
        ["event files in runs3 cannot be read: runs3 is not a folder"],
    ]


def test_values_of_two_writers_at_once_do_not_count(home: Home, tmp_path: Path) -> None:
    work = tmp_path / "work"
    attempt = begun(home, work, tensorboard="runs")
    for rank in (0, 1):  # each logs its own loss
        values = [
            event("loss", at, simple(rank + 0.5), at=1000.0 + at + rank / 8) for at in range(3)
        ]
        synced = event("acc", 2, simple(0.75), at=1003.0)
        write_events(work / "runs" / f"events.out.tfevents.{rank}", *values, synced)
    late = event("loss", 5, simple(9.0), at=2000.0)  # a resumed program, whose values are before it
    write_events(work / "runs" / "resumed" / "events.out.tfevents.1", event("f1", 1, simple(0.5)))
    write_events(
        work / "runs" / "resumed" / "events.out.tfevents.2",
        event("f1", 1, simple(0.25), at=1500.0),
        late,
    )
    assert numbers_at_end(attempt) == {
        "acc": 0.75,
        "resumed/f1": 0.25,
        "resumed/loss": 9.0,
        "read_from": "event files",
        "number_faults": [
            "event files in runs have several series of loss from the same time. Let each writer have a folder"
        ],
    }
