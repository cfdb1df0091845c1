"""Read-only access to a queue."""

import json
import os
import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from launcher import __version__
from launcher.frontends.screens.snapshots import QueueSnapshotReader
from launcher.queue.home.paths import Home
from launcher.queue.home.scheduler_start import ensure_scheduler
from launcher.queue.jobs.job import Terms
from launcher.queue.jobs.states import Done, Failed, Lost, NeverStarted, Outcome, State, Stopped
from launcher.queue.store import recovery
from launcher.queue.store.opening import WAL_LIMIT_BYTES
from launcher.queue.store.queue import Store
from launcher.queue.store.readonly import connect_readonly
from launcher.system.errors import StoreError
from launcher.system.text import sanitize_terminal
from tests.build import a_context, a_spec, an_attempt, claimed, enqueue, in_state
from tests.launcher.conftest import Launcher
from tests.launcher.queued import DONE, FAILED, VOID, end, one, put
from tests.terminal import in_a_terminal

STEERING = "\x1b]0;title\x07\x1b[2J\x9b31m"


Record = Callable[..., Any]


@pytest.fixture
def record(launcher: Launcher) -> Record:
    """The JSON output of a command."""
    return lambda *words: json.loads(launcher(*words, "--json").out)


def jobs_of(store: Store, count: int, ended: int, outcome: type[Done | Failed] = Done) -> list[int]:
    """Queue so many jobs, of which the first have ended, one after another."""
    jobs = put(store, map(str, range(count)))
    for job in jobs[:ended]:
        end(store, job, FAILED if outcome is Failed else DONE, now=float(job))
    return jobs


# --- looking


def test_reader_of_a_closed_database_adds_no_files_and_cannot_write(
    home: Home, store: Store
) -> None:
    put(store, "a")
    store.close()
    before = sorted(path.name for path in home.folder.iterdir())
    with closing(connect_readonly(home.database, 1.0)) as connection:
        assert connection.execute("SELECT count(*) FROM jobs").fetchone() == (1,)
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            connection.execute("DELETE FROM jobs")
    assert sorted(path.name for path in home.folder.iterdir()) == before
    with pytest.raises(sqlite3.OperationalError, match="unable to open"):
        connect_readonly(home.folder / "missing.sqlite", 1.0)


def test_only_status_accepts_a_missing_queue(launcher: Launcher, home: Home) -> None:
    answer = launcher("status")
    assert (answer.code, answer.out, answer.err) == (
        0,
        "",
        f"no jobs: the queue folder {home.folder} is new\n",
    )
    assert launcher("status", "--json").code == 0
    for verb in ("show", "logs", "cancel"):
        answer = launcher(verb, "1")
        assert answer.code == 2
        assert "there is no queue in" in answer.err
    assert not home.exists()


def test_status_in_a_pipe_prints_one_line_per_job(launcher: Launcher, store: Store) -> None:
    put(store, "ab")
    lines = launcher("status").out.splitlines()
    assert [line.split("\t")[:4] for line in lines] == [
        ["1", "test", "command/a", "queued"],
        ["2", "test", "command/b", "queued"],
    ]


def test_status_json_contains_all_fields(record: Record, home: Home, store: Store) -> None:
    enqueue(store, a_spec())
    absent = record("status")
    assert absent["schema"] == 1
    assert absent["home"] == str(home.folder)
    assert absent["warning"] is None
    assert absent["scheduler"] == {"pid": None, "state": "absent", "since": None, "version": None}
    assert absent["counts"]["queued"] == 1
    assert absent["jobs"][0]["name"] == "command/1"
    pid = ensure_scheduler(home)
    scheduler = record("status")["scheduler"]
    assert (scheduler["pid"], scheduler["state"]) == (pid, "running")
    assert scheduler["version"] == __version__
    datetime.fromisoformat(scheduler["since"])


def test_exit_code_of_status_can_report_a_failed_job(launcher: Launcher, store: Store) -> None:
    job = one(store)
    assert launcher("status", "--exit-status").code == 0
    end(store, job, FAILED)
    assert launcher("status").code == 0
    assert launcher("status", "--exit-status").code == 1


def test_show_requires_one_job(launcher: Launcher, store: Store) -> None:
    enqueue(store, a_spec(name="train/a"), a_spec(name="train/b"))
    answer = launcher("show", "train/*")
    assert answer.code == 2
    assert "matches 2 jobs: train/a, train/b. Name one of them." in answer.err


def test_show_prints_the_events_of_a_job(record: Record, launcher: Launcher, store: Store) -> None:
    (job,) = enqueue(store, a_spec("python", "x.py", "--lr", "0.1"))
    failure = Failed(at=2.0, error="ended with exit code 3: no data", exit_code=3)
    end(store, job, failure)
    said = launcher("show", "1").out
    assert "command/1  (test, job 1)\nfailed: ended with exit code 3: no data" in said
    assert "python x.py --lr 0.1" in said
    for word in ("queued", "running", "fits", "after 1 s"):
        assert word in said
    told = record("show", "1")
    assert told["schema"] == 1
    assert told["attempts"][0]["outcome"]["exit_code"] == 3
    assert [event["state"] for event in told["events"]] == ["queued", "running", "failed"]
    assert "environment" not in json.dumps(told)


def test_texts_and_names_of_jobs_cannot_control_the_terminal(
    launcher: Launcher, home: Home, store: Store
) -> None:
    name = f"command/{STEERING}"
    (job,) = enqueue(store, a_spec(STEERING, name=name, settings={STEERING: STEERING}))
    attempt = an_attempt(home, a_spec(name=name), job=job)
    attempt.log.write_text(f"{STEERING}\n")
    failure = Failed(at=2.0, error=f"{STEERING} said {STEERING}")
    end(store, job, failure)
    (other,) = enqueue(store, a_spec(name=f"{name}2"))
    for words in (
        ("status",),
        ("show", "1"),
        ("logs", "2"),
        ("show", "command*"),
        ("show", f"{name}3"),
        ("cancel", "-n", "*"),
        ("cancel", "2"),
        ("wait", "1", "2"),
        ("add", "--name", f"{STEERING}3", "--", "true"),
        ("add", "--name", f"{STEERING}3", "--", "true"),
    ):
        answer = launcher(*words)
        said = (answer.out + answer.err).replace("\n", "").replace("\t", "")
        assert said, words
        assert said.isprintable(), words
    assert in_state(store, other, State.CANCELLED)
    for words in (("status",), ("logs", "1"), ("show", "1")):
        drawn = in_a_terminal(*words, columns=100)
        assert "title" in drawn
        assert drawn.replace("\n", "").isprintable(), words


def test_status_fits_the_width_of_the_terminal(home: Home, store: Store) -> None:
    enqueue(store, *(a_spec(name=f"command/{'long' * 30}{number}") for number in range(3)))
    drawn = in_a_terminal("status", columns=60)
    assert "3 queued" in drawn
    assert drawn.count("○ command/long") == 3
    assert "WAITING" in drawn
    assert [line for line in drawn.splitlines()[1:] if len(line) > 60] == []


def test_status_without_a_pattern_lists_relevant_jobs(
    record: Record, launcher: Launcher, store: Store
) -> None:
    jobs = jobs_of(store, 70, 20, Failed)
    claimed(store, jobs[60])
    listed = [int(line.split("\t")[0]) for line in launcher("status").out.splitlines()]
    assert listed == [jobs[60], *jobs[10:20], *jobs[20:60]]
    assert len(launcher("status", "*").out.splitlines()) == 70
    drawn = in_a_terminal("status", columns=100)
    assert "9 more jobs wait. List all jobs: launcher status --all" in drawn
    claimed(store, jobs[69])
    records = record("status")["jobs"]
    assert [one["id"] for one in records] == [*jobs[10:20], jobs[60], jobs[69], *jobs[20:60]]


def test_running_job_is_listed_with_its_run_time(home: Home, store: Store) -> None:
    jobs = put(store, "ab")
    claimed(store, jobs[0], now=time.time() - 3600.0)
    drawn = in_a_terminal("status", columns=100)
    assert "● command/a   1  cpu  fits   1 h     –" in drawn
    assert "1 running · 1 queued" in drawn
    listed = in_a_terminal("status", "*", columns=100)
    assert "● running  1  test  command/a  1 h  fits" in listed


def test_groups_are_shown_in_a_terminal(home: Home, store: Store) -> None:
    store.job_control.set_group_limit("downloads", 2)
    job = one(store, group="downloads")
    claimed(store, job)
    assert "groups: downloads 1 of 2" in in_a_terminal("status")


def test_show_prints_dependencies_and_dependents(
    record: Record, launcher: Launcher, store: Store
) -> None:
    a, *_ = put(store, "abcd", needs={"c": "ab", "d": "c"})
    end(store, a)
    said = launcher("show", "3").out
    assert "queued: waiting for command/b\n" in said
    assert "needs\n  2  queued  command/b\n  1  done    command/a\n" in said
    assert "1 open job needs it: command/d\n" in said
    assert "2 open jobs need it: command/c, command/d\n" in launcher("show", "2").out
    assert "need it" not in launcher("show", "4").out
    told = record("show", "2")
    assert (told["needs"], told["needed_by"]) == ([], ["command/c", "command/d"])


def test_show_prints_settings_that_differ_from_defaults(launcher: Launcher) -> None:
    words = ("--ram", "64MiB", "--retries", "3", "--time-limit", "8h", "--rerun", "never")
    launcher("add", "--hold", "--priority", "5", *words, "--", "true")
    said = launcher("show", "1").out
    facts = dict(line.split("  ", 1) for line in said.splitlines() if "  " in line)
    terms = {
        key: value.strip()
        for key, value in facts.items()
        if key in {"priority", "ram", "retries", "time limit", "rerun"}
    }
    assert terms == {
        "priority": "5",
        "ram": "64 MiB",
        "retries": "3",
        "time limit": "8 h",
        "rerun": "never",
    }
    for usual in ("grace", "backoff", "warn", "group"):
        assert usual not in facts


def test_show_ends_with_the_log_of_what_failed(
    launcher: Launcher, home: Home, store: Store
) -> None:
    lines = [f"line {number}{STEERING}" for number in range(30)]
    job = one(store)
    attempt = an_attempt(home, a_spec(), job=job)
    attempt.log.write_text("\n".join(lines) + "\n")
    failure = Failed(at=2.0, error="ended with exit code 3: x", exit_code=3)
    end(store, job, failure)
    said = launcher("show", "1").out
    assert "cpu  failed: ended with exit code 3: x  after 1 s  1 core reserved\n" in said
    tail = said.partition("end of the log of attempt 1\n")[2].partition("\n\n")[0]
    assert tail.splitlines() == [f"  {sanitize_terminal(line)}" for line in lines[-10:]]
    attempt.log.unlink()
    assert "end of the log" not in launcher("show", "1").out


@pytest.mark.parametrize(
    ("outcome", "sentence"),
    [
        (Lost(at=2.0, why="power cut"), "lost: power cut"),
        (Stopped(at=2.0), "stopped on request"),
        (NeverStarted(at=2.0), "not started"),
        (Done(at=2.0), "done"),
        (Failed(at=2.0, error="no\nat all"), "failed: no  "),
        (None, "runs  "),
    ],
)
def test_show_prints_the_end_of_an_attempt_as_a_sentence(
    launcher: Launcher, store: Store, outcome: Outcome | None, sentence: str
) -> None:
    claim = claimed(store, one(store))
    if outcome:
        end(store, claim, outcome)
    assert f"cpu  {sentence}" in launcher("show", "1").out


def test_status_and_show_need_no_heavy_imports(home: Home, store: Store) -> None:
    enqueue(store, a_spec())
    script = (
        "import sys\nfrom launcher.frontends.cli.main import main\n"
        "try:\n    main(['status'])\nexcept SystemExit:\n    pass\n"
        "print(sorted({'pydantic', 'rich', 'yaml', 'torch', 'psutil'} & set(sys.modules)))"
    )
    said = subprocess.check_output([sys.executable, "-c", script], text=True)
    assert said.splitlines()[-1] == "[]"


def test_status_json_describes_the_machine(record: Record, home: Home, store: Store) -> None:
    enqueue(store, a_spec())
    host = record("status")["host"]
    assert host["cores"] == os.cpu_count()
    assert 0 < host["memory_used"] < host["memory"]
    (disk,) = host["disks"]
    assert disk["use"] == "home"
    assert 0 < disk["free"] <= disk["total"] == shutil.disk_usage(home.folder).total
    assert host["promised"] == 0
    claimed(store, 1)
    assert record("status")["host"]["promised"] == 1


def test_jobs_that_status_leaves_out_are_counted(
    record: Record, launcher: Launcher, store: Store
) -> None:
    jobs = jobs_of(store, 70, 20)
    told = "… and 10 more that wait and 10 more that ended. List all jobs: launcher status --all\n"
    assert launcher("status").err == told
    answer = record("status")
    assert answer["truncated"] is True
    assert answer["left_out"] == {"waiting": 10, "ended": 10}
    assert len(answer["jobs"]) == 50
    whole = launcher("status", "--all")
    assert [int(line.split("\t")[0]) for line in whole.out.splitlines()] == jobs
    assert whole.err == ""
    answer = record("status", "--all")
    assert (answer["truncated"], len(answer["jobs"])) == (False, 70)
    launcher("clean", "--keep", "1", "--yes")
    assert launcher("status", "command/2?").err == "", "all that match are listed"


def test_empty_queue_has_no_jobs(launcher: Launcher, store: Store) -> None:
    answer = launcher("status", "--all")
    assert (answer.code, answer.out, answer.err) == (0, "", "")


def test_job_record_contains_its_request_and_its_last_attempt(
    record: Record, home: Home, store: Store
) -> None:
    terms = Terms(group="night", retries=2, time_limit_s=60.0)
    spec = a_spec(name="train/a", cpus=3, terms=terms, priority=4)
    first, _ = enqueue(store, spec, a_spec(name="train/b"), needs={"train/b": ["train/a"]})
    claim = claimed(store, first, now=100.0)
    failed = Failed(at=110.0, error="KeyError: 'lr'", exit_code=7)
    end(store, claim, failed, now=110.0)
    a, b = record("status", "--all")["jobs"]
    told = {
        "id": first,
        "state": "queued",
        "priority": 4,
        "group": "night",
        "cpus": 3,
        "gpus": 0,
        "time_limit": 60.0,
        "retries": 2,
        "failures": 1,
        "attempt": 1,
        "started": "1970-01-01T00:01:40Z",
        "seconds": 10.0,
        "device": "cpu",
        "ending": "failed",
        "exit_code": 7,
        "log": str(home.attempt(first, 1).log),
    }
    assert told.items() <= a.items()
    assert a["reason"].endswith("KeyError: 'lr'")
    assert (b["attempt"], b["started"], b["log"], b["waits_for"]) == (0, None, None, 1)
    assert a.keys() == b.keys()
    (shown,) = record("status", "train/b")["jobs"]
    assert shown == b


@pytest.mark.parametrize(
    "words", [("status",), ("status", "--json"), ("show", "1"), ("top", "--once")]
)
@pytest.mark.parametrize("inside", ["", "below"])
def test_queue_folder_that_is_a_file_is_refused_by_each_command(
    launcher: Launcher,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    words: tuple[str, ...],
    inside: str,
) -> None:
    file = tmp_path / "file"
    file.write_text("")
    monkeypatch.setenv("LAUNCHER_HOME", str(file / inside))
    answer = launcher(*words)
    assert (answer.code, answer.out) == (3, "")
    assert str(file) in answer.err
    assert "Set LAUNCHER_HOME" in answer.err


def test_command_line_printed_by_show_can_be_pasted(launcher: Launcher, store: Store) -> None:
    words = ("sh", "-c", "echo 'a  b' > \"$1\"", "two words", "*")
    enqueue(store, a_spec(*words, settings={"argv": [*words]}))  # as a task file's program
    (said,) = [line for line in launcher("show", "1").out.splitlines() if "argv" in line]
    assert tuple(shlex.split(said.removeprefix("argv").strip())) == words


def test_show_prints_one_time_and_its_meaning(
    record: Record, launcher: Launcher, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = one(store)
    end(store, job)
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Asia/Kolkata")
        time.tzset()
        said = launcher("show", "1").out
    time.tzset()
    begun = record("show", "1")["attempts"][0]["claimed"]
    assert "in local time (UTC+05:30)" in said
    assert re.findall(r"\dT\d\d:|\d\dZ", said) == []
    there = datetime.fromtimestamp(begun, timezone(timedelta(hours=5, minutes=30)))
    assert there.strftime("  1  %Y-%m-%d %H:%M:%S  cpu") in said


def test_times_of_summer_and_winter_have_their_own_zones_in_show(
    launcher: Launcher, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    winter, summer = (datetime(2026, month, 1, tzinfo=UTC).timestamp() for month in (1, 7))
    job = one(store)
    store.job_control.hold([job], winter)
    store.job_control.release([job], summer)
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Europe/Berlin")
        time.tzset()
        said = launcher("show", "1").out
    time.tzset()
    assert "events, in local time\n" in said
    assert "2026-01-01 01:00:00 UTC+01:00  held" in said
    assert "2026-07-01 02:00:00 UTC+02:00  queued  released" in said


def test_show_prints_a_folder_only_if_it_exists(
    launcher: Launcher, home: Home, store: Store, tmp_path: Path
) -> None:
    spec = a_spec(entry="m:f", argv=(), root=str(tmp_path), run="tour")
    (job, _) = enqueue(store, spec, a_spec(name="command/2"))
    folder = tmp_path / "runs" / "tour"
    assert f"{folder} (not there yet)\n" in launcher("show", "1").out
    assert "folder" not in launcher("show", "2").out
    folder.mkdir(parents=True)
    assert f"{folder}\n" in launcher("show", "1").out
    end(store, job, VOID)
    assert f"{home.attempt(job, 1).log} (not there yet)\n" in launcher("show", "1").out


def test_show_counts_the_events_that_it_leaves_out(launcher: Launcher, store: Store) -> None:
    job = one(store)
    for turn in range(8):
        store.job_control.hold([job], float(turn))
        store.job_control.release([job], float(turn))
    said = launcher("show", "1").out
    assert f"  … and 5 earlier events. List all: launcher show {job} --json\n" in said
    assert said.partition("--json\n")[2].count("\n") == 12


# --- reading a queue changes nothing, and the log does not grow forever


TASK = "name: t\ncommand:\n- {name: a, argv: ['true']}\n"


def everything(home: Home) -> dict[str, bytes | None]:
    """Return the contents of a queue folder byte for byte, except SQLite's index of its log."""
    return {
        str(path.relative_to(home.folder)): path.read_bytes() if path.is_file() else None
        for path in home.folder.rglob("*")
        if not path.name.endswith("-shm")
    }


def test_dry_run_assigns_no_lane_and_fails_no_job(
    launcher: Launcher,
    home: Home,
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.yaml").write_text(TASK)
    enqueue(store, a_spec(), a_spec(name="command/2"))
    store.database.execute("UPDATE jobs SET lane = 0 WHERE id = 1")
    store.database.execute("UPDATE lanes SET key = '{'")
    before = everything(home)
    assert launcher("run", "t.yaml", "--dry-run").code == 0
    assert everything(home) == before


def test_read_only_connection_cannot_write(home: Home, store: Store) -> None:
    job = one(store)
    reading = Store(home, reading=True)
    assert [row.id for row in reading.read.jobs()] == [job]
    with pytest.raises(StoreError, match="readonly"):
        reading.job_control.hold([job], 1.0)
    reading.close()


@pytest.fixture
def read_only(home: Home, store: Store) -> Iterator[Home]:
    """A queue folder with a job, on a file system that is then mounted read-only."""
    enqueue(store, a_spec())
    store.close()
    folder = str(home.folder)
    if subprocess.run(["mount", "--bind", folder, folder], check=False).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", folder], check=True)
        yield home
    finally:
        subprocess.run(["umount", folder], check=True)


def test_each_command_reports_why_a_queue_folder_cannot_be_written(
    launcher: Launcher, read_only: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.yaml").write_text(TASK)
    cause = (
        "its file system is mounted read-only. Fix that, or set LAUNCHER_HOME to a writable folder"
    )
    for words in ("status", "add -- true", "cancel 1", "run t.yaml --detach"):
        answer = launcher(*words.split())
        assert (answer.code, cause in answer.err) == (3, True), answer
    told = launcher("doctor").out
    assert f"queue folder\ttrouble\t{read_only.folder} cannot be written" in told
    assert launcher("run", "t.yaml", "--dry-run").code == 0


def test_missing_queue_folder_is_not_reported_as_a_permission_error(home: Home) -> None:
    error = sqlite3.OperationalError("unable to open database file")
    error.sqlite_errorcode = sqlite3.SQLITE_CANTOPEN
    shutil.rmtree(home.folder, ignore_errors=True)
    assert "does not exist any more. If its folder was moved" in str(
        recovery.queue_database_error(home.database, error)
    )


def test_wal_that_grew_during_a_read_is_truncated_afterwards(home: Home, store: Store) -> None:
    enqueue(store, a_spec())
    with closing(sqlite3.connect(home.database, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM jobs").fetchone()
        for number in range(24):
            with store.database.writing():
                store.ensure_context(
                    a_context(environment={"N": str(number), "X": "x" * (1 << 20)})
                )
        assert home.database_log.stat().st_size > WAL_LIMIT_BYTES
    for number in range(3):
        enqueue(store, a_spec(name=f"command/after-{number}"))
    assert home.database_log.stat().st_size <= WAL_LIMIT_BYTES


READING = """
import sqlite3, sys
reader = sqlite3.connect(sys.argv[1], isolation_level=None)
reader.execute("BEGIN")
reader.execute("SELECT count(*) FROM jobs").fetchone()
print("reads", flush=True)
sys.stdin.read()
"""


def test_large_wal_is_reported_with_the_process_that_keeps_reading(
    home: Home, store: Store, launcher: Launcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recovery, "MOST_LOG_BYTES", 2 << 20)
    enqueue(store, a_spec())
    argv = [sys.executable, "-c", READING, str(home.database)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as reader:
        assert reader.stdout is not None
        reader.stdout.readline()
        assert recovery.describe_long_log(home) == ""
        for number in range(3):
            with store.database.writing():
                store.ensure_context(
                    a_context(environment={"N": str(number), "X": "x" * (1 << 20)})
                )
        said = f"because other processes read the queue. If this continues: kill {reader.pid}"
        assert said in recovery.describe_long_log(home)
        assert said in str(QueueSnapshotReader(home, store).read_snapshot().warnings)
        assert f"kill {reader.pid}" in launcher("doctor").out
        reader.communicate()
    assert recovery.describe_long_log(home).endswith(
        "It is emptied as soon as no process reads the queue"
    )
