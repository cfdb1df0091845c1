import ast
import inspect
import json
import os
import sqlite3
import stat
import time
from contextlib import closing
from pathlib import Path

import pytest

from launcher.states import State
from launcher.store import migration_steps
from launcher.store.migration_steps import APPLICATION_ID, STEPS, Step
from launcher.store.opening import migrate, schema_of
from launcher.store.queue import Store
from launcher.store.recovery import KEPT, back_up, backups
from launcher.system.daemon_control import ensure_scheduler, wake
from launcher.system.paths import Home
from tests.build import in_state, job_row, until
from tests.old_home import queue_sql

CPU = {"cpus": 1, "min_vram": None, "device": "cpu", "accelerated": False, "ram": None}


def first(connection: sqlite3.Connection) -> None:
    connection.execute("CREATE TABLE notes (text TEXT NOT NULL) STRICT")
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")


def noting(text: str) -> Step:
    """A step that leaves a note."""

    def step(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO notes VALUES (?)", (text,))

    return step


def failing(connection: sqlite3.Connection) -> None:
    connection.execute("INSERT INTO notes VALUES ('half')")
    connection.execute("SELECT * FROM nowhere")


def open_(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None, timeout=20)


def notes(path: Path) -> list[str]:
    with closing(open_(path)) as connection:
        return [text for (text,) in connection.execute("SELECT text FROM notes ORDER BY rowid")]


@pytest.fixture
def database(home: Home) -> Path:
    """A database that has one step behind it."""
    with closing(open_(home.database)) as connection:
        migrate(connection, home.database, (first,))
        connection.execute("INSERT INTO notes VALUES ('kept')")
    return home.database


def test_a_new_database_takes_every_step_without_a_backup(home: Home) -> None:
    with closing(open_(home.database)) as connection:
        migrate(connection, home.database, (first, noting("b"), noting("c")))
        assert schema_of(connection, home.database, (first,) * 3) == 3
    assert notes(home.database) == ["b", "c"]
    assert backups(home.backups) == []


def test_an_old_database_is_copied_once_before_its_steps(home: Home, database: Path) -> None:
    with closing(open_(database)) as connection:
        migrate(connection, database, (first, noting("b"), noting("c")))
        migrate(connection, database, (first, noting("b"), noting("c")))
    assert notes(database) == ["kept", "b", "c"]
    (backup,) = backups(home.backups)
    assert notes(backup) == ["kept"]
    assert backup.name.startswith("queue-v1-")
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    assert stat.S_IMODE(home.backups.stat().st_mode) == 0o700


def test_a_failing_step_leaves_those_before_it_and_nothing_of_itself(
    home: Home, database: Path
) -> None:
    with closing(open_(database)) as connection:
        with pytest.raises(sqlite3.OperationalError, match="nowhere"):
            migrate(connection, database, (first, noting("b"), failing, noting("d")))
        assert schema_of(connection, database, (first,) * 4) == 2
        assert not connection.in_transaction
    assert notes(database) == ["kept", "b"]
    assert notes(backups(home.backups)[-1]) == ["kept"]


def test_nothing_is_changed_without_a_backup(home: Home, database: Path) -> None:
    home.backups.write_text("in the way")
    with closing(open_(database)) as connection:
        with pytest.raises(OSError, match="exists"):
            migrate(connection, database, (first, noting("b")))
        assert schema_of(connection, database, (first,) * 2) == 1
    assert notes(database) == ["kept"]


def test_several_processes_at_once_take_each_step_once(home: Home, database: Path) -> None:
    migrations = (first, noting("b"), noting("c"))
    children = []
    for _ in range(6):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                with closing(open_(database)) as connection:
                    migrate(connection, database, migrations)
                code = 0
            finally:
                os._exit(code)
        children.append(child)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert codes == [0] * 6
    assert notes(database) == ["kept", "b", "c"]
    assert notes(backups(home.backups)[0]) == ["kept"]


def test_only_the_newest_backups_are_kept(home: Home, database: Path) -> None:
    home.backups.mkdir()
    (home.backups / ".half.tmp").write_text("of a process that was killed")
    made = [back_up(database, home.backups, version) for version in range(6, 6 + KEPT + 3)]
    assert backups(home.backups) == made[-KEPT:]
    assert {path.name for path in home.backups.iterdir()} == {path.name for path in made[-KEPT:]}


def test_an_attempt_of_the_second_schema_keeps_its_gpu_for_itself(home: Home) -> None:
    with closing(sqlite3.connect(home.database, isolation_level=None)) as connection:
        migrate(connection, home.database, STEPS[:2])
        connection.execute(
            "INSERT INTO attempts (job, number, boot, device, cpus, claimed)"
            " VALUES (1, 1, 'b', 'GPU-1', 1, 0), (2, 1, 'b', 'cpu', 1, 0)"
        )
        migrate(connection, home.database, STEPS)
        found = connection.execute("SELECT lone FROM attempts ORDER BY job").fetchall()
    assert [lone for (lone,) in found] == [1, 0]


# --- queues as launchers of their day wrote them


def written(home: Home, schema: int) -> None:
    """Put a queue there that a launcher of its schema wrote."""
    with closing(open_(home.database)) as connection:
        connection.executescript(queue_sql(schema))


def test_a_step_knows_the_data_of_its_day_by_itself() -> None:
    tree = ast.parse(inspect.getsource(migration_steps))
    imported = {
        name
        for node in ast.walk(tree)
        for name in (
            [one.name for one in node.names]
            if isinstance(node, ast.Import)
            else [node.module or "."]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert imported
    assert not [name for name in imported if name.partition(".")[0] in {"launcher", "trueface", ""}]


def test_the_second_step_gives_the_jobs_of_the_first_schema_these_lanes(home: Home) -> None:
    written(home, 1)
    with closing(open_(home.database)) as connection:
        connection.execute(
            "INSERT INTO contexts VALUES (2, 'd2', ?)",
            (
                json.dumps(
                    {
                        "folder": "/",
                        "umask": 18,
                        "interpreter": "/usr/bin/python3",
                        "environment": {"PYTHONPATH": "/lib", "CUDA_VISIBLE_DEVICES": "0, 1"},
                        "affinity": [0],
                    }
                ),
            ),
        )
        worker = {
            "name": "train/a",
            "kind": "train",
            "role": "train",
            "run": "r",
            "root": "/",
            "entry": "lab:train",
            "preload": ["torch"],
            "resources": {"accelerated": True},
        }
        connection.execute(
            "INSERT INTO jobs (run, name, kind, state, priority, hash, spec, context, submitted)"
            " VALUES (1, 'train/a', 'train', 'queued', 2, '', ?, 2, 1000000.0),"
            " (1, 'odd', 'train', 'queued', 0, '', '{', 2, 1000000.0)",
            (json.dumps(worker),),
        )
        migrate(connection, home.database, STEPS[:2])
        lanes = dict(connection.execute("SELECT name, key FROM jobs JOIN lanes ON lanes.id = lane"))
        ranks = dict(connection.execute("SELECT name, rank FROM jobs"))
    assert json.loads(lanes["command/ok"]) == {
        "group": "",
        "resources": CPU | {"gpus": 1, "exclusive": False},
        "breed": ["", [], ""],
    }
    assert json.loads(lanes["train/a"]) == {
        "group": "",
        "resources": CPU | {"device": "auto", "accelerated": True, "gpus": 1, "exclusive": False},
        "breed": ["/usr/bin/python3", ["torch", "launcher.kinds"], "/lib"],
        "visible": ["0", "1"],
    }
    assert "odd" not in lanes  # it does not start, and the scheduler says why
    assert ranks["train/a"] == 1000000.0 - 2 * 86400


@pytest.mark.parametrize("schema", [1, 2])  # later ones: tests/e2e/test_old_home.py
def test_a_queue_of_the_first_schemas_opens_with_all_its_jobs_and_goes_on(
    home: Home, schema: int
) -> None:
    written(home, schema)
    with closing(open_(home.database)) as connection:
        before = connection.execute("SELECT name, state, spec FROM jobs ORDER BY id").fetchall()
        attempts = connection.execute("SELECT job, number, outcome FROM attempts").fetchall()
    store = Store(home, durable=False)
    ask = store.database.execute
    assert [tuple(row) for row in ask("SELECT name, state, spec FROM jobs ORDER BY id")] == before
    assert [tuple(row) for row in ask("SELECT job, number, outcome FROM attempts")] == attempts
    assert [tuple(row) for row in ask("PRAGMA foreign_key_check")] == []
    assert ask("PRAGMA integrity_check").fetchone()[0] == "ok"
    (backup,) = backups(home.backups)
    with closing(open_(backup)) as connection:
        assert [*connection.execute("PRAGMA user_version")] == [(schema,)]
        assert (
            connection.execute("SELECT name, state, spec FROM jobs ORDER BY id").fetchall()
            == before
        )
    assert all(row.spec.argv for row in store.read.jobs())
    assert all(store.scheduling.lane_of(row.id) for row in store.read.jobs())
    names = {row.name: row.id for row in store.read.jobs()}
    if schema > 1:
        store.steering.release([names["command/grouped"]], time.time())
        ensure_scheduler(home)
        wake(home)
        below = names["command/below"]
        until(
            lambda: in_state(store, below, State.DONE), "what was held, and what needs it, is done"
        )
        assert job_row(store, names["command/later"]).waits == 1
        assert job_row(store, names["command/grouped"]).spec.terms.retries == 2
    store.close()
