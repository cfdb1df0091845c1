"""The code of queued jobs: noted by commands, recorded and compared by the scheduler's helper, shown on screens."""

import contextlib
import json
import os
import shlex
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import pytest

from launcher.api import submit
from launcher.frontends.screens.code_notes import (
    code_change_notes,
    code_record,
    different_code_notes,
)
from launcher.provenance.file_digests import CHANGED_DIGEST
from launcher.queue.home.daemon_control import scheduler_pid
from launcher.queue.home.paths import Home
from launcher.queue.jobs.states import State
from launcher.queue.scheduler.code_recording import CodeHelper, FileState, code_changes
from launcher.queue.store.queue import NewJob, Store
from launcher.queue.store.queued_code import (
    CodeChange,
    CodeRecording,
    code_roots,
    describe_code,
    has_unrecorded_code,
    open_code_recording,
)
from launcher.queue.store.rows import JobRow
from launcher.system.files import write_json
from tests.build import a_context, a_spec, claimed, finished, gone, job_row, until
from tests.launcher.conftest import Launcher

TRAIN = "import helper\nprint('launcher: acc=0.5')\n"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A script that imports a module, and a file of configuration."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "train.py").write_text(TRAIN)
    (folder / "helper.py").write_text("x = 1\n")
    (folder / "c.yaml").write_text("a: 1\n")
    age(folder)
    return folder


def age(folder: Path, seconds: float = 60.0) -> None:
    """Let all files of a folder be older."""
    for path in folder.rglob("*"):
        os.utime(path, (time.time() - seconds,) * 2)


@pytest.fixture
def recording(home: Home, store: Store) -> Iterator[CodeRecording]:
    """The helper's connection."""
    assert store.is_current()
    with open_code_recording(home.database) as opened:
        yield opened


def queue(store: Store, folder: Path, *lines: str, at: float | None = None) -> list[JobRow]:
    """Queue programs with one command."""
    context = a_context(folder)
    specs = [a_spec(*line.split(), name=f"command/{line}{at or ''}") for line in lines]
    code = describe_code(specs, context, time.time() if at is None else at)
    with store.database.writing():
        run = store.ensure_run(folder, "test")
        jobs = store.insert_new(run, context, [*map(NewJob, specs)], time.time(), code=code)
    return store.read.jobs_by_id(jobs)


def notes(store: Store, *jobs: JobRow) -> list[str]:
    """Return what is said of each job."""
    rows = store.read.jobs_by_id(job.id for job in jobs)
    found = code_change_notes(store, rows)
    return [found.get(row.id, "") for row in rows]


def start(store: Store, helper: CodeHelper, *jobs: JobRow) -> None:
    """Start jobs now, as the scheduler does, and compare their code."""
    claims = [claimed(store, job.id, time.time()) for job in jobs]
    helper.serve(claim.code for claim in claims if claim.code is not None)


def change(path: Path, text: str = "changed = 1\n") -> None:
    path.write_text(text)
    time.sleep(0.01)  # the clock of file systems has steps of some milliseconds


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("train.py", "train.py was changed after this job was queued"),
        ("helper.py", "helper.py was changed after this job was queued"),
        ("c.yaml", "c.yaml was changed after this job was queued"),
        ("other.py", ""),
    ],
)
def test_edited_file_of_a_waiting_job_is_named(
    store: Store, project: Path, recording: CodeRecording, name: str, expected: str
) -> None:
    helper = CodeHelper(recording)
    (job,) = queue(store, project, "python train.py --config c.yaml --out result.json")
    helper.serve(())
    change(project / name)
    assert notes(store, job) == [""]  # it may be changed back before the start
    start(store, helper, job)
    assert notes(store, job) == [expected]


def test_jobs_of_a_sweep_share_one_record_and_differ_by_their_starts(
    store: Store, project: Path, recording: CodeRecording
) -> None:
    helper = CodeHelper(recording)
    jobs = queue(store, project, *(f"python train.py --lr {n}" for n in range(4)))
    helper.serve(())
    finished_at_start = jobs[:2]
    start(store, helper, *finished_at_start)
    change(project / "train.py")
    change(project / "helper.py")
    start(store, helper, *jobs[2:])
    note = "train.py and 1 more file were changed after this job was queued"
    assert notes(store, *jobs) == ["", "", note, note]
    assert len({job.code for job in jobs}) == 1
    (count,) = store.database.execute("SELECT count(*) FROM code_records").fetchone()
    assert count == 1
    (different,) = different_code_notes(store, store.read.jobs_by_id(job.id for job in jobs))
    assert different.startswith(
        f"2 of 4 jobs ran another version of train.py and 1 more file than job {jobs[-1].id}, which"
    )


def test_file_that_was_edited_after_the_start_does_not_count(
    store: Store, project: Path, recording: CodeRecording
) -> None:
    helper = CodeHelper(recording)
    before, after = queue(store, project, "python train.py 1", "python train.py 2")
    helper.serve(())
    claimed(store, before.id, time.time())
    time.sleep(0.01)
    change(project / "helper.py")
    start(store, helper, after)  # compared for both jobs only now
    assert notes(store, before, after) == ["", "helper.py was changed after this job was queued"]


def test_file_that_is_newer_than_the_queueing_counts_as_changed(
    store: Store, project: Path, recording: CodeRecording
) -> None:
    (job,) = queue(store, project, "python train.py")
    change(project / "helper.py")
    helper = CodeHelper(recording)
    helper.serve(())
    start(store, helper, job)
    assert notes(store, job) == ["helper.py was changed after this job was queued"]


def test_edit_that_was_taken_back_before_the_start_does_not_count(
    store: Store, project: Path, recording: CodeRecording
) -> None:
    helper = CodeHelper(recording)
    jobs = queue(store, project, *(f"python train.py {n}" for n in range(3)))
    helper.serve(())
    change(project / "train.py")
    start(store, helper, jobs[0])
    change(project / "train.py", TRAIN)
    start(store, helper, jobs[1])
    (project / "helper.py").unlink()
    start(store, helper, jobs[2])
    assert notes(store, *jobs) == [
        "train.py was changed after this job was queued",
        "",
        "helper.py was deleted after this job was queued",
    ]


def test_retried_job_counts_as_queued_when_it_was_retried(
    store: Store, project: Path, recording: CodeRecording
) -> None:
    helper = CodeHelper(recording)
    (job,) = queue(store, project, "python train.py")
    helper.serve(())
    change(project / "train.py")
    finished(store, job.id)
    store.job_control.retry([job.id], time.time())
    helper.serve(())
    start(store, helper, job)
    assert notes(store, job) == [""]
    assert job_row(store, job.id).code != job.code


def test_jobs_of_two_commands_that_ran_different_code_are_noted(
    store: Store, project: Path, recording: CodeRecording
) -> None:
    helper = CodeHelper(recording)
    first = queue(store, project, "python train.py 1")
    start(store, helper, *first)
    helper.serve(())
    assert different_code_notes(store, store.read.jobs_by_id([first[0].id])) == []
    change(project / "helper.py")
    second = queue(store, project, "python train.py 2")
    helper.serve(())
    start(store, helper, *second)
    both = store.read.jobs_by_id(job.id for job in (*first, *second))
    assert notes(store, *both) == ["", ""]
    (note,) = different_code_notes(store, both)
    assert note.startswith("1 of 2 jobs ran another version of helper.py than job 2, which")


def test_limit_of_modules_is_recorded(
    store: Store, project: Path, recording: CodeRecording
) -> None:
    (job,) = queue(store, project, "python train.py")
    CodeHelper(recording, most_modules=1).serve(())
    record = code_record(store, job)
    assert record is not None
    assert (record["files"], record["complete"]) == (1, False)


def test_damaged_note_gets_an_empty_record(
    store: Store, project: Path, recording: CodeRecording
) -> None:
    (job,) = queue(store, project, "python train.py")
    store.database.execute("UPDATE queued_code SET body = '{'")
    helper = CodeHelper(recording)
    start(store, helper, job)
    assert not has_unrecorded_code(store.database)
    assert notes(store, job) == [""]
    assert code_record(store, job_row(store, job.id)) is None


def test_job_of_a_plugin_package_has_its_listed_modules(
    store: Store, project: Path, recording: CodeRecording
) -> None:
    helper, context = CodeHelper(recording), a_context(project)
    modules = ({"": "all", "train": "1"}, {"": "all", "train": "1", "helper": "2"})
    specs = [
        a_spec(name=f"toy/{n}", kind="toy", entry="train:run", sources=sources)
        for n, sources in enumerate(modules)
    ]
    code = describe_code(specs, context, time.time())
    with store.database.writing():
        run = store.ensure_run(project, "test")
        numbers = store.insert_new(run, context, [*map(NewJob, specs)], time.time(), code=code)
    helper.serve(())
    change(project / "helper.py")
    jobs = store.read.jobs_by_id(numbers)
    start(store, helper, *jobs)
    assert notes(store, *jobs) == ["", "helper.py was changed after this job was queued"]


def test_program_without_files_of_code_has_no_note(store: Store, project: Path) -> None:
    (job,) = queue(store, project, "sleep 1")
    assert job.code is None


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("python -u train.py --lr 1", ["train.py"]),
        ("python -m pack.main --config c.yaml", ["pack.main", "c.yaml"]),
        ("torchrun --nproc 2 train.py --config=c.yaml", ["train.py", "c.yaml"]),
        ("bash run.sh config=c.yaml", ["run.sh", "c.yaml"]),
        ("python train.py --out a.json --log-file=b.yaml --save c.py", ["train.py"]),
        ("python {job_folder}/train.py data.csv", []),
        ("sh -c 'python train.py > a.log'", ["train.py"]),
    ],
)
def test_words_that_name_code_and_configuration(line: str, names: list[str]) -> None:
    found = code_roots(a_spec(*shlex.split(line)), "/p")
    assert [name.removeprefix("/p/") for name in found] == names


STATES = {"/a": FileState("1", changed=5.0), "/b": FileState("2", changed=7.0)}


@pytest.mark.parametrize(
    ("before", "known", "expected"),
    [
        ({}, {"/a": "1", "/b": "2"}, []),
        ({}, {"/a": "0", "/b": "2"}, [(5.0, {"/a": "1"})]),
        ({}, {"/a": "0", "/b": "0"}, [(5.0, {"/a": "1"}), (7.0, {"/a": "1", "/b": "2"})]),
        ({"/a": "1"}, {"/a": "0", "/b": "2"}, []),
        ({"/a": "3"}, {"/a": "1", "/b": "2"}, [(5.0, {})]),
        ({}, {"/a": CHANGED_DIGEST, "/b": "2"}, [(5.0, {"/a": "1"})]),
    ],
)
def test_changes_are_dated_by_their_files(
    before: Mapping[str, str], known: Mapping[str, str], expected: list[tuple[float, object]]
) -> None:
    found = code_changes(CodeChange(1, 1.0, before), known, STATES, 2.0, 9.0)
    assert [(each.at, each.files) for each in found] == expected


def test_time_of_a_change_is_between_two_comparisons() -> None:
    known, before = {"/a": "0", "/b": "0"}, CodeChange(1, 0.0, {})
    assert [each.at for each in code_changes(before, known, STATES, 6.0, 6.5)] == [6.0, 6.5]


# --- with a scheduler


def is_recorded(store: Store) -> bool:
    return not has_unrecorded_code(store.database)


def test_scheduler_records_and_compares_the_code_of_its_jobs(
    store: Store, project: Path, launcher: Launcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    (project / "other.py").write_text(TRAIN)
    run = ("add", "--run", "r", "--hold", "--cpus", "1", "--name")
    launcher.well(*run, "edited", "--", sys.executable, "train.py")
    launcher.well(*run, "same", "--", sys.executable, "other.py")
    launcher.well("add", "--run", "r", "--", sys.executable, "-c", "print('launcher: acc=0.25')")
    until(lambda: is_recorded(store), "the code is recorded")
    change(project / "train.py", "print('launcher: acc=0.75')\n")
    launcher.well("release", "command/edited", "command/same")
    launcher.well("wait", "command/edited", "--timeout", "60s")
    note = "train.py was changed after this job was queued"
    until(lambda: note in launcher.well("show", "command/edited").out, "show names the file")
    assert launcher.json("show", "command/edited")["code_note"] == note
    assert note in launcher.well("status", "--columns", "id,code").out
    assert "changed after" not in launcher.well("show", "command/same").out


def helpers_of(home: Home) -> list[int]:
    """Return the processes that record code for a queue."""
    words = [b"launcher.queue.scheduler.code_recording", os.fsencode(home.folder)]
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (folder / "cmdline").read_bytes().split(b"\0")[3:5] == words:
                found.append(int(folder.name))
    return found


def test_killed_helper_delays_no_job_and_ends_with_its_scheduler(
    store: Store, project: Path, launcher: Launcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    add = ("add", "--cpus", "1", "--wait", "--", sys.executable, "train.py")
    launcher.well(*add, "1")
    until(lambda: is_recorded(store), "the code is recorded")
    (helper,) = helpers_of(store.home)
    os.kill(helper, signal.SIGSTOP)  # as a disk that does not answer
    launcher.well(*add, "2")
    os.kill(helper, signal.SIGKILL)
    until(lambda: gone(helper), "the helper is gone")
    launcher.well(*add, "3")
    assert not is_recorded(store)
    scheduler = scheduler_pid(store.home)
    assert scheduler is not None
    os.kill(scheduler, signal.SIGKILL)
    launcher.well(*add, "4")  # another scheduler has another helper
    until(lambda: is_recorded(store), "the code is recorded")
    (helper,) = helpers_of(store.home)
    launcher.well("stop", "--now")
    until(lambda: not helpers_of(store.home), "the helper has ended with its scheduler")


def test_programs_of_a_task_file_share_a_record(
    store: Store,
    project: Path,
    recording: CodeRecording,
    launcher: Launcher,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(project)
    entry = {"name": "fit", "argv": ["python", "train.py", "{lr}"], "matrix": {"lr": [1, 2]}}
    (project / "r.yaml").write_text(json.dumps({"name": "r", "command": [entry]}))
    home = store.home
    write_json(home.stop_record, {"schema": 1, "now": False, "at": 0.0})  # nothing starts
    launcher.well("run", "r.yaml", "--detach")
    CodeHelper(recording).serve(())
    jobs = store.read.jobs_of_runs_named("r")
    found = [code_record(store, job) for job in jobs]
    assert [record and record["files"] for record in found] == [2, 2]
    assert len({job.code for job in jobs}) == 1


def test_function_has_a_record_of_its_module(
    store: Store, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "functions_of_a_test.py").write_text("import helper\ndef f():\n    return 1\n")
    age(project)
    monkeypatch.syspath_prepend(str(project))
    monkeypatch.chdir(project)
    import functions_of_a_test  # type: ignore[import-not-found]  # written by this test

    future = submit(partial(functions_of_a_test.f), hold=True)
    with open_code_recording(store.home.database) as recording:
        helper = CodeHelper(recording)
        helper.serve(())
        job = job_row(store, future.job)
        record = code_record(store, job)
        assert record is not None
        assert record["files"] == 2
        change(project / "helper.py")
        store.job_control.release([job.id], time.time())
        start(store, helper, job)
    assert notes(store, job) == ["helper.py was changed after this job was queued"]
    assert job_row(store, job.id).state is State.RUNNING
