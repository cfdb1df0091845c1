"""Questions to a database: every way to write is refused by SQLite itself."""

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from launcher.experiments.results.database_questions import run_query
from launcher.system.errors import MachineError, UsageError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "d.sqlite"
    connection = sqlite3.connect(path)
    connection.executescript(
        "CREATE TABLE jobs (id INTEGER PRIMARY KEY, name TEXT, lr REAL);"
        "INSERT INTO jobs VALUES (1, 'a', 0.1), (2, 'b', NULL);"
        "CREATE VIEW names AS SELECT name FROM jobs;"
        "CREATE VIRTUAL TABLE jobs_fts USING fts5 (name, content='jobs', content_rowid='id');"
        "INSERT INTO jobs_fts (rowid, name) SELECT id, name FROM jobs;"
        "CREATE TABLE epochs (job INTEGER, epoch INTEGER);"
    )
    connection.close()
    return path


@pytest.mark.parametrize(
    ("sql", "rows"),
    [
        ("SELECT id, name, lr FROM jobs", [(1, "a", 0.1), (2, "b", None)]),
        ("WITH few AS (SELECT * FROM names) SELECT count(*) FROM few;", [(2,)]),
        ("VALUES (1), (2)", [(1,), (2,)]),
        ("SELECT rowid FROM jobs_fts WHERE jobs_fts MATCH 'b'", [(2,)]),
        ("SELECT name FROM pragma_table_info('jobs') LIMIT 1", [("id",)]),
        ("PRAGMA table_info(names)", [(0, "name", "TEXT", 0, None, 0)]),
        ("SELECT value FROM json_each('[1, 2]')", [(1,), (2,)]),
        (
            "WITH RECURSIVE n(x) AS (SELECT 1 UNION SELECT x + 1 FROM n WHERE x < 3) SELECT max(x) FROM n",
            [(3,)],
        ),
    ],
)
def test_read_only_query_is_answered(path: Path, sql: str, rows: list[tuple[object, ...]]) -> None:
    assert run_query(path, sql, limit_s=20)[1] == rows


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE TABLE x (y)", "CREATE TEMP TABLE x (y)", "CREATE VIEW x AS SELECT 1",
        "CREATE VIRTUAL TABLE x USING fts5 (y)", "INSERT INTO jobs (name) VALUES ('c')",
        "INSERT INTO jobs_fts (jobs_fts) VALUES ('rebuild')", "UPDATE jobs SET name = 'c'",
        "DELETE FROM jobs", "DELETE FROM jobs RETURNING id", "REPLACE INTO jobs VALUES (1, 'x', 1)",
        "WITH x AS (SELECT 1) DELETE FROM jobs", "DROP TABLE jobs", "ALTER TABLE jobs ADD COLUMN z",
        "CREATE INDEX i ON jobs (name)", "REINDEX", "ANALYZE", "VACUUM", "VACUUM INTO '{folder}/copy'",
        "ATTACH '{folder}/other' AS other", "DETACH main", "BEGIN", "BEGIN IMMEDIATE", "COMMIT", "SAVEPOINT s",
        "PRAGMA user_version = 7", "PRAGMA journal_mode = WAL", "PRAGMA query_only = OFF",
        "PRAGMA writable_schema = ON", "PRAGMA wal_checkpoint", "PRAGMA temp_store_directory = '{folder}'",
        "PRAGMA optimize", "PRAGMA integrity_check",
        "SELECT load_extension('x')", "SELECT fts3_tokenizer('simple')", "EXPLAIN DELETE FROM jobs",
        "UPDATE sqlite_master SET sql = ''",
        "SELECT * FROM pragma_journal_mode",
    ],
)  # fmt: skip
def test_writing_query_is_refused(path: Path, sql: str) -> None:
    before = path.read_bytes()
    with pytest.raises(UsageError, match="launcher query is read-only"):
        run_query(path, sql.format(folder=path.parent), limit_s=20)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELECT 1; SELECT 2", "more than one statement"),
        ("SELECT 1; DROP TABLE jobs", "more than one statement"),
        ("", "the query is empty"),
        ("-- nothing", "read-only"),
        ("SELEC 1", 'near "SELEC": syntax error'),
        ("SELECT nam FROM jobs", "no such column: nam. Did you mean 'name'?"),
        ("SELECT jobs.nam FROM jobs", "Did you mean 'name'?"),
        ("SELECT job FROM Names", "no such column: job. Columns of names: name"),
        (
            "SELECT n.job FROM names AS n, jobs",
            "n.job. Columns of jobs: id, name, lr. Columns of names: name",
        ),
        ("SELECT loss FROM epochs", "loss. Columns of epochs (no rows yet): job, epoch"),
        ("SELECT loss", "no such column: loss (known: epoch, id, job, lr, name)"),
        ("SELECT job", "no such column: job (known: epoch, id, job, lr, name)"),
        ("SELECT * FROM job", "no such table: job. Did you mean 'jobs'?"),
        ("SELECT '\ud800'", "surrogates not allowed"),
        ("SELECT 1 \0 FROM jobs", "null character"),
        ("SELECT zeroblob(200000000)", "larger than 64 MiB"),
        ("SELECT ?", "Incorrect number of bindings"),
    ],
)
def test_invalid_query_is_explained(path: Path, sql: str, message: str) -> None:
    with pytest.raises(UsageError) as error:
        run_query(path, sql, limit_s=20)
    assert message in str(error.value)


@pytest.mark.parametrize(
    "sql",
    [
        "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n",
        "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT x FROM n WHERE x < 0",
    ],
)
def test_endless_query_is_interrupted(path: Path, sql: str) -> None:
    with pytest.raises(UsageError, match="did not end within"):
        run_query(path, sql, limit_s=0.05)


def test_missing_or_invalid_database_file_is_named(path: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.sqlite does not exist"):
        run_query(tmp_path / "none.sqlite", "SELECT 1", limit_s=20)
    assert not (tmp_path / "none.sqlite").exists()
    with pytest.raises(UsageError, match="is not a file"):
        run_query(tmp_path, "SELECT 1", limit_s=20)
    path.write_text("a text, and no database " * 100)
    with pytest.raises(UsageError, match="is not a SQLite database"):
        run_query(path, "SELECT 1", limit_s=20)


KILLED = """
import os, signal, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA cache_size = 1")
connection.execute("BEGIN IMMEDIATE")
connection.execute("UPDATE jobs SET name = hex(zeroblob(100000))")
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_database_of_a_killed_writer_has_a_message_with_the_remedy(path: Path) -> None:
    subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
    with pytest.raises(
        MachineError,
        match=r"was killed while writing it\. Write it again: launcher results RUN --db",
    ):
        run_query(path, "SELECT 1", limit_s=20)
