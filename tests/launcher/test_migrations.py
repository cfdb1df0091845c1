import os
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest

from launcher.errors import StoreError
from launcher.paths import Home
from launcher.store.backups import KEPT, back_up, backups
from launcher.store.migrations import migrate, schema_of
from launcher.store.steps import APPLICATION_ID, STEPS, Step


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
    steps = (first, noting("b"), noting("c"))
    children = []
    for _ in range(6):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                with closing(open_(database)) as connection:
                    migrate(connection, database, steps)
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


def test_a_database_of_a_newer_launcher_is_refused(database: Path) -> None:
    with closing(open_(database)) as connection:
        migrate(connection, database, (first, noting("b")))
        with pytest.raises(StoreError, match="newer launcher"):
            migrate(connection, database, (first,))


@pytest.mark.parametrize(
    "made", ["CREATE TABLE theirs (x)", "PRAGMA user_version = 1", "PRAGMA application_id = 7"]
)
def test_another_programs_database_is_refused(home: Home, made: str) -> None:
    with closing(open_(home.database)) as connection:
        connection.execute(made)
        with pytest.raises(StoreError, match="another program's"):
            migrate(connection, home.database, (first,))


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
