"""A look at a queue that changes nothing of it, and a log that does not grow for ever."""

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from launcher.errors import StoreError
from launcher.screens.snapshots import Queue
from launcher.store import recovery
from launcher.store.migration_steps import STEPS
from launcher.store.opening import LOG_BYTES
from launcher.store.queue import Store
from launcher.system.paths import Home
from tests.build import a_context, a_spec, enqueue
from tests.launcher.conftest import Launcher
from tests.old_home import queue_sql

TASK = "name: t\ncommand:\n- {name: a, argv: ['true']}\n"


def everything(home: Home) -> dict[str, bytes | None]:
    """Return what lies in a home, byte for byte; SQLite's index of its log aside."""
    return {
        str(path.relative_to(home.folder)): path.read_bytes() if path.is_file() else None
        for path in home.folder.rglob("*")
        if not path.name.endswith("-shm")
    }


@pytest.mark.parametrize("schema", range(1, len(STEPS) + 1))
def test_a_dry_run_on_a_queue_of_each_schema_works_and_changes_no_byte(
    launcher: Launcher, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, schema: int
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.yaml").write_text(TASK)
    with closing(sqlite3.connect(home.database)) as connection:
        connection.executescript(queue_sql(schema))
    before = everything(home)
    answer = launcher("run", "t.yaml", "--dry-run")
    assert answer.code == 0, answer
    assert "nothing was queued (dry run)" in answer.out
    assert everything(home) == before


def test_a_dry_run_gives_no_job_a_lane_and_sets_none_aside(
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


def test_who_only_reads_cannot_write(home: Home, store: Store) -> None:
    (job,) = enqueue(store, a_spec())
    reading = Store(home, reading=True)
    assert [row.id for row in reading.read.jobs()] == [job]
    with pytest.raises(StoreError, match="readonly"):
        reading.steering.hold([job], 1.0)
    reading.close()


@pytest.fixture
def read_only(home: Home, store: Store) -> Iterator[Home]:
    """A home with a job, on a file system that is mounted read-only then."""
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


def test_of_a_home_that_cannot_be_written_each_command_names_the_cause(
    launcher: Launcher, read_only: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.yaml").write_text(TASK)
    cause = "its file system is mounted read-only; mend that, or set LAUNCHER_HOME to a folder"
    for words in ("status", "add -- true", "cancel 1", "run t.yaml --detach"):
        answer = launcher(*words.split())
        assert (answer.code, cause in answer.err) == (3, True), answer
    told = launcher("doctor").out
    assert f"home\ttrouble\t{read_only.folder} cannot be written" in told
    assert launcher("run", "t.yaml", "--dry-run").code == 0


def test_a_home_that_is_gone_is_no_lack_of_rights(home: Home) -> None:
    error = sqlite3.OperationalError("unable to open database file")
    error.sqlite_errorcode = sqlite3.SQLITE_CANTOPEN
    shutil.rmtree(home.folder, ignore_errors=True)
    assert "unable to open database file" in str(recovery.trouble(home.database, error))


def test_a_log_that_a_reader_let_grow_is_cut_off_when_he_is_gone(home: Home, store: Store) -> None:
    enqueue(store, a_spec())
    with closing(sqlite3.connect(home.database, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM jobs").fetchone()
        for number in range(24):
            with store.writing():
                store.context(a_context(environment={"N": str(number), "X": "x" * (1 << 20)}))
        assert home.database_log.stat().st_size > LOG_BYTES
    for number in range(3):
        enqueue(store, a_spec(name=f"command/after-{number}"))
    assert home.database_log.stat().st_size <= LOG_BYTES


READING = """
import sqlite3, sys
reader = sqlite3.connect(sys.argv[1], isolation_level=None)
reader.execute("BEGIN")
reader.execute("SELECT count(*) FROM jobs").fetchone()
print("reads", flush=True)
sys.stdin.read()
"""


def test_a_log_that_has_grown_names_who_reads_without_an_end(
    home: Home, store: Store, launcher: Launcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recovery, "MOST_LOG_BYTES", 2 << 20)
    enqueue(store, a_spec())
    argv = [sys.executable, "-c", READING, str(home.database)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as reader:
        assert reader.stdout is not None
        reader.stdout.readline()
        assert recovery.grown_log(home) == ""
        for number in range(3):
            with store.writing():
                store.context(a_context(environment={"N": str(number), "X": "x" * (1 << 20)}))
        said = f"as others read the queue; if that goes on, `kill {reader.pid}` ends it"
        assert said in recovery.grown_log(home)
        assert said in str(Queue(home, store).look().warnings)
        assert f"`kill {reader.pid}` ends it" in launcher("doctor").out
        reader.communicate()
    assert recovery.grown_log(home).endswith("begins anew as soon as nobody reads it")
