"""Queues of development versions: every command refuses them in a sentence and changes nothing."""

import lzma
import sqlite3
import stat
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from launcher.frontends.cli.queue_checks import judge_queue, read_queue_health
from launcher.queue.home.daemon_control import start_scheduler
from launcher.queue.home.paths import SCHEMA, Home
from launcher.queue.store.completion_queries import open_completion_queries
from launcher.queue.store.opening import open_database, open_database_readonly
from launcher.queue.store.schema import KNOWN_SCHEMA
from launcher.system.errors import StoreError
from tests.build import until
from tests.launcher.conftest import Launcher

DUMPS = Path(__file__).parents[2] / "data/homes"
DUMPED_SCHEMAS = (1, 2, 12)
TASK = "name: t\ncommand:\n- {name: a, argv: ['true']}\n"
COMMANDS = """
add -- true
add --from commands.txt
add --dry-run -- true
run t.yaml
run t.yaml --dry-run
status
status --json
top --once
web
show 1
logs 1
wait 1
cancel 1
retry 1
touch 1
edit 1
hold 1
release 1
pause 1
resume 1
priority 1 2
group g --limit 2
tag x 1
note 1 text
results
results r --db r.sqlite
query SELECT+1
history
start
stop
stop --now
share r 2
clean --older 0s
simulate t.yaml --gpus 1x24GiB
service install
"""


def put_up(home: Home, schema: int, *, log: bool) -> None:
    """Put the queue of a schema there, with a write-ahead log as after a power cut if `log` is set."""
    text = lzma.decompress((DUMPS / f"schema-{schema}.sql.xz").read_bytes()).decode()
    with closing(sqlite3.connect(home.database)) as database:
        database.executescript(text)
        left = b""
        if log:
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("UPDATE jobs SET note = 'logged'" if schema > 8 else "ANALYZE")
            database.commit()
            left = Path(f"{home.database}-wal").read_bytes()
    if log:
        Path(f"{home.database}-wal").write_bytes(left)


def snapshot(home: Home) -> dict[str, tuple[int, int, bytes]]:
    """Return mode, time of the last change and content of each file and folder of a home."""
    return {
        str(path.relative_to(home.folder.parent)): (
            path.stat().st_mode,
            path.stat().st_mtime_ns,
            path.read_bytes() if path.is_file() else b"",
        )
        for path in (home.folder, *home.folder.rglob("*"))
    }


def refusal(home: Home, schema: int) -> str:
    return (
        f"{home.database} was written by a development version (schema {schema}). "
        "Finish its jobs with that version, or set LAUNCHER_HOME to another folder."
    )


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the commands, with their files."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.yaml").write_text(TASK)
    (tmp_path / "commands.txt").write_text("true\n")
    return tmp_path


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("schema", DUMPED_SCHEMAS)
def test_development_home_is_refused_by_each_command_and_not_changed(
    launcher: Launcher, home: Home, folder: Path, schema: int, log: bool
) -> None:
    put_up(home, schema, log=log)
    home.folder.chmod(0o755)
    home.database.chmod(0o644)
    before = snapshot(home)
    said = {
        line: launcher(*(word.replace("+", " ") for word in line.split()))
        for line in COMMANDS.strip().splitlines()
    }
    assert {line: answer.code for line, answer in said.items() if answer.code != 3} == {}
    assert {
        line for line, answer in said.items() if refusal(home, schema) not in answer.err
    } == set()
    assert snapshot(home) == before


def test_development_home_is_refused_in_a_folder_without_write_permission(
    launcher: Launcher, home: Home
) -> None:
    put_up(home, 12, log=False)
    home.folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
    before = snapshot(home)
    assert refusal(home, 12) in launcher("status").err
    assert snapshot(home) == before


def test_schema_before_the_current_one_is_refused_and_the_next_one_is_newer(home: Home) -> None:
    for number, words in (
        (SCHEMA - 1, "development version"),
        (KNOWN_SCHEMA + 1, "newer launcher"),
    ):
        home.database.unlink(missing_ok=True)
        open_database(home.database, durable=False).close()
        with closing(sqlite3.connect(home.database)) as database:
            database.execute(f"PRAGMA user_version = {number}")
        openers: tuple[Callable[[], object], ...] = (
            lambda: open_database(home.database, durable=False),
            lambda: open_database_readonly(home.database),
        )
        for opener in openers:
            with pytest.raises(StoreError, match=words):
                opener()


def test_completion_offers_nothing_from_a_development_home(home: Home) -> None:
    put_up(home, 12, log=False)
    before = snapshot(home)
    with (
        pytest.raises(sqlite3.DatabaseError, match=r"development version \(schema 12\)"),
        open_completion_queries(home.database),
    ):
        pass
    assert snapshot(home) == before


def test_doctor_names_the_schema_of_a_development_home(home: Home) -> None:
    put_up(home, 2, log=False)
    before = snapshot(home)
    _, health = read_queue_health({"LAUNCHER_HOME": str(home.folder)}, "", 0.0)
    found = judge_queue(health)
    assert found.summary == "the database was written by a development version (schema 2)"
    assert (
        found.advice == "finish its jobs with that version, or set LAUNCHER_HOME to another folder"
    )
    assert snapshot(home) == before


def test_scheduler_does_not_start_on_a_development_home(home: Home) -> None:
    put_up(home, 12, log=False)
    start_scheduler(home)
    until(
        lambda: home.scheduler_log.exists() and refusal(home, 12) in home.scheduler_log.read_text(),
        "the scheduler has refused the home",
    )
    assert not home.scheduler_record.exists()
    assert not Path(f"{home.database}-wal").exists()
