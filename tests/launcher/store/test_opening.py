"""How a queue's database is made, opened, brought to the schema of today, and kept aside when it is damaged."""

import os
import random
import re
import select
import shutil
import signal
import sqlite3
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from launcher.queue.home.paths import SCHEMA, Home, make_home
from launcher.queue.store.backups import BACKUPS_KEPT, back_up, backups
from launcher.queue.store.opening import (
    SMALL_BYTES,
    open_database,
    open_database_readonly,
    should_check,
)
from launcher.queue.store.queue import Store
from launcher.queue.store.recovery import corruption_error, queue_database_error
from launcher.queue.store.schema import KNOWN_SCHEMA, Step, migrate, read_schema
from launcher.system.errors import StoreError
from launcher.system.files import read_json
from tests.build import a_spec, enqueue

KIB = 1024
NEWEST = "SELECT seq FROM sqlite_sequence WHERE name = 'jobs'"
VERSION = "PRAGMA user_version"
JOBS, RUNS = "SELECT count(*) FROM jobs", "SELECT count(*) FROM runs"


def open_queue(home: Home, *, check: bool = False) -> sqlite3.Connection:
    return open_database(home.database, durable=False, check=check)


def query(connection: sqlite3.Connection, question: str) -> list[object]:
    return [row[0] for row in connection.execute(question)]


def query_home(home: Home, question: str, *, check: bool = False) -> list[object]:
    """Open a queue, ask it, and close it."""
    with closing(open_queue(home, check=check)) as connection:
        return query(connection, question)


def fill(home: Home, runs: int = 3000) -> None:
    """Put so much into a queue that it has many pages, and close it."""
    with closing(open_queue(home)) as connection:
        connection.execute("BEGIN")
        rows = ((f"run-{number}", "/x" * 100) for number in range(runs))
        connection.executemany("INSERT INTO runs (name, root) VALUES (?, ?)", rows)
        connection.execute("COMMIT")


def overwrite(path: Path, content: bytes, at: int = 0) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(content)


def opening_error(home: Home) -> str:
    """Open a queue and close it; return why that was refused, '' when it was not."""
    try:
        open_queue(home).close()
    except StoreError as error:
        return str(error)
    return ""


def files_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def run_concurrently(work: Callable[[], object], processes: int = 8) -> list[str]:
    """Do the same in several processes at once; return what each raised, '' for nothing."""
    start, go = os.pipe()
    children: list[tuple[int, int]] = []
    for _ in range(processes):
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            said = ""
            try:
                os.close(go)
                os.read(start, 1)  # its end is the signal
                work()
            except BaseException as error:  # noqa: BLE001  # the parent wants to know
                said = f"{type(error).__name__}: {error}"
            os.write(writing, said.encode())
            os._exit(0)
        os.close(writing)
        children.append((child, reading))
    os.close(start)
    os.close(go)
    answers = []
    for child, reading in children:
        with open(reading, encoding="utf-8") as pipe:  # noqa: PTH123  # a descriptor
            answers.append(pipe.read())
        os.waitpid(child, 0)
    return answers


# --- a new queue


@pytest.mark.parametrize(("durable", "level"), [(True, 2), (False, 1)])
def test_a_new_database_is_private_and_ready(home: Home, durable: bool, level: int) -> None:
    with closing(open_database(home.database, durable=durable)) as connection:
        assert query(connection, "PRAGMA journal_mode") == ["wal"]
        assert query(connection, "PRAGMA synchronous") == [level]
        assert query(connection, "PRAGMA foreign_keys") == [1]
        assert query(connection, VERSION) == [KNOWN_SCHEMA]
        assert query(connection, JOBS) == [0]
        assert not connection.in_transaction
        modes = {stat.S_IMODE(path.stat().st_mode) for path in home.folder.glob("queue.sqlite*")}
        assert modes == {0o600}
    assert not home.backups.exists()


def test_many_processes_create_one_database_together(home: Home) -> None:
    home.attempt(4, 1).folder.mkdir()

    def queue_one() -> None:
        with closing(open_queue(home)) as connection:
            name = f"run-{os.getpid()}"
            connection.execute("INSERT INTO runs (name, root) VALUES (?, '/')", (name,))

    assert run_concurrently(queue_one, 12) == [""] * 12
    assert query_home(home, RUNS) == [12]
    assert [name for name in files_below(home.folder) if name.endswith(".tmp")] == []


def test_an_empty_file_is_a_new_database(home: Home) -> None:
    home.database.touch(mode=0o600)
    assert query_home(home, VERSION) == [KNOWN_SCHEMA]


def test_new_database_numbers_jobs_after_the_newest_attempt_folder(home: Home) -> None:
    for job, number in [(9, 1), (41, 2), (7, 3)]:
        home.attempt(job, number).folder.mkdir()
    (home.attempts / "notes-100").mkdir()
    with closing(open_queue(home)) as connection:
        assert query(connection, NEWEST) == [41]


def test_database_readable_by_others_is_made_private(home: Home) -> None:
    open_queue(home).close()
    home.database.chmod(0o644)
    open_queue(home).close()
    assert stat.S_IMODE(home.database.stat().st_mode) == 0o600


# --- a queue that is not migrated


@pytest.mark.parametrize("marks", [("user_version",), ("user_version", "application_id")])
def test_queue_without_a_schema_number_reports_what_to_do(
    home: Home, marks: tuple[str, ...]
) -> None:
    open_queue(home).close()
    with closing(sqlite3.connect(home.database)) as dumped:  # as .dump and .read leave it
        for mark in marks:
            dumped.execute(f"PRAGMA {mark} = 0")
    with pytest.raises(StoreError, match=r"as after \.dump and \.read\. Restore"):
        open_database_readonly(home.database)
    said = opening_error(home)
    assert "as after .dump and .read. Restore" in said
    command = said.partition(f"sqlite3 {home.database} '")[2].removesuffix("'")
    with closing(sqlite3.connect(home.database)) as mended:
        mended.executescript(command)
    open_queue(home).close()


@pytest.mark.parametrize(
    "made",
    [
        "CREATE TABLE theirs (x)",
        "CREATE TABLE theirs (x); PRAGMA user_version = 3",
        "CREATE TABLE theirs (x); PRAGMA application_id = 77",
        "PRAGMA user_version = 1",
        "PRAGMA application_id = 7",
    ],
)
def test_database_of_another_program_is_not_changed(home: Home, made: str) -> None:
    with closing(sqlite3.connect(home.database)) as theirs:
        theirs.executescript(made)
    before = home.database.read_bytes()
    with pytest.raises(StoreError, match=r"is the database of another program\. Move it away"):
        open_queue(home, check=True)
    assert home.database.read_bytes() == before
    assert not home.damage_record.exists()


@pytest.mark.parametrize("log", [False, True])
def test_queue_of_a_newer_launcher_is_not_changed(home: Home, log: bool) -> None:
    """With a write-ahead log, as after a power cut, too."""
    with closing(open_queue(home)) as connection:
        connection.execute(f"PRAGMA user_version = {KNOWN_SCHEMA + 1}")
        connection.execute("ANALYZE")
        left = Path(f"{home.database}-wal").read_bytes()
        file = home.database.read_bytes()
    if log:
        home.database.write_bytes(file)
        Path(f"{home.database}-wal").write_bytes(left)
    files = [home.database, *([Path(f"{home.database}-wal")] if log else [])]
    before = [path.read_bytes() for path in files]
    assert "newer launcher" in opening_error(home)
    assert [path.read_bytes() for path in files] == before


# --- damage

DAMAGES: dict[str, Callable[[Path], None]] = {
    "overwritten": lambda path: overwrite(path, b"no database " * 999),
    "zero-filled": lambda path: overwrite(path, bytes(path.stat().st_size)),
    "cut in half": lambda path: os.truncate(path, path.stat().st_size // 2),
    "cut within a page": lambda path: os.truncate(path, 3 * 4096 + 100),
    "cut within its header": lambda path: os.truncate(path, 20),
    "cut to nothing": lambda path: os.truncate(path, 0),
    "its first page lost": lambda path: overwrite(path, bytes(4096)),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_database_is_named_and_kept_aside(home: Home, damage: str) -> None:
    fill(home)
    home.attempt(12, 1).folder.mkdir()
    DAMAGES[damage](home.database)
    before = home.database.read_bytes()
    said = [opening_error(home), opening_error(home)]
    assert said[0] == said[1]
    assert "was found damaged" in said[0]
    assert not home.database.exists()
    assert home.exists()  # a queue was here before, so no command uses the folder for a new one
    (kept,) = home.damaged.iterdir()
    assert (kept / "queue.sqlite").read_bytes() == before
    assert str(kept) in said[0]
    assert stat.S_IMODE(home.damaged.stat().st_mode) == 0o700
    assert stat.S_IMODE(home.damage_record.stat().st_mode) == 0o600


def test_integrity_check_finds_inner_damage(home: Home) -> None:
    fill(home)
    overwrite(home.database, b"\xff" * 4096, at=home.database.stat().st_size // 2 // 4096 * 4096)
    open_queue(home).close()
    with pytest.raises(StoreError, match="was found damaged"):
        open_queue(home, check=True)


def test_wal_of_a_damaged_database_is_kept_with_it(home: Home) -> None:
    fill(home)
    with closing(open_queue(home)) as connection:
        connection.execute("INSERT INTO runs (name, root) VALUES ('last', '/')")
        log = home.database.with_name("queue.sqlite-wal").read_bytes()
        saved = home.folder / "saved"
        saved.write_bytes(log)
    saved.replace(home.database.with_name("queue.sqlite-wal"))
    home.database.write_bytes(b"no database " * 999)
    assert "was found damaged" in opening_error(home)
    (kept,) = home.damaged.iterdir()
    assert (kept / "queue.sqlite-wal").read_bytes() == log
    assert list(home.folder.glob("queue.sqlite*")) == []


def test_wal_without_a_database_is_not_used_by_a_new_one(home: Home) -> None:
    home.database.with_name("queue.sqlite-wal").write_bytes(b"the rest of a queue")
    with pytest.raises(StoreError, match=r"is gone, but queue\.sqlite-wal is not"):
        open_queue(home)
    (kept,) = home.damaged.iterdir()
    assert files_below(kept) == ["queue.sqlite-wal"]


@pytest.mark.parametrize("place", ["home", "a home's $HOME"])
@pytest.mark.parametrize("backup", [False, True])
def test_after_damage_a_new_queue_or_a_backup_can_be_used(
    tmp_path: Path, place: str, backup: bool
) -> None:
    home = Home(tmp_path / place)
    make_home(home)
    fill(home, 7)
    if backup:
        back_up(home.database, home.backups, 1)
        with closing(open_queue(home)) as connection:
            connection.execute("INSERT INTO runs (name, root) VALUES ('later', '/')")
    home.attempt(12, 1).folder.mkdir()
    DAMAGES["zero-filled"](home.database)
    said = opening_error(home)
    assert ("there is no backup" in said) is not backup
    choice = "from the newest backup" if backup else "with an empty queue"
    (line,) = [line for line in said.splitlines() if choice in line]
    command = (
        line.partition(":")[2] if line.startswith(("from", "with")) else line.rpartition(":")[2]
    )
    subprocess.run(["/bin/sh", "-c", command], check=True)
    with closing(open_queue(home)) as connection:
        assert query(connection, RUNS) == [7 if backup else 0]
        assert query(connection, NEWEST) == [12]
    assert stat.S_IMODE(home.database.stat().st_mode) == 0o600
    assert len([*home.damaged.iterdir()]) == 1
    assert not home.renumber_request.exists()


def test_processes_that_find_damage_together_rename_the_database_once(home: Home) -> None:
    fill(home)
    DAMAGES["overwritten"](home.database)
    before = home.database.read_bytes()
    said = run_concurrently(lambda: open_queue(home))
    assert len(set(said)) == 1
    assert said[0].startswith("StoreError: the queue's database")
    (kept,) = home.damaged.iterdir()
    assert (kept / "queue.sqlite").read_bytes() == before
    assert files_below(kept) == ["queue.sqlite"]


def test_damaged_database_is_renamed_although_the_first_process_was_killed(home: Home) -> None:
    fill(home)
    DAMAGES["overwritten"](home.database)
    assert opening_error(home)
    (kept,) = home.damaged.iterdir()
    (kept / "queue.sqlite").replace(home.database)  # as if it had been killed before that
    kept.rmdir()
    assert "was found damaged" in opening_error(home)
    assert files_below(home.damaged) == [f"{kept.name}/queue.sqlite"]
    assert not home.database.exists()


def test_restored_backup_waits_until_the_user_confirms_it(home: Home) -> None:
    fill(home)
    backup = back_up(home.database, home.backups, 1)
    DAMAGES["overwritten"](home.database)
    for _ in range(2):
        assert "was found damaged" in opening_error(home)
        shutil.copyfile(backup, home.database)
    home.damage_record.unlink()
    open_queue(home).close()


def test_process_killed_while_opening_leaves_a_usable_queue(home: Home) -> None:
    chance = random.Random(1)
    for _ in range(20):
        for path in home.folder.glob("queue.sqlite*"):
            path.unlink()
        home.attempt(3, 1).folder.mkdir(exist_ok=True)
        children = []
        for _ in range(3):
            child = os.fork()
            if child == 0:
                try:
                    open_database(home.database, durable=True, check=True)
                finally:
                    os._exit(0)
            children.append(child)
        for child in children:
            select.select([], [], [], chance.random() * 0.008)  # anywhere in its work
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        with closing(open_queue(home, check=True)) as connection:
            assert query(connection, VERSION) == [KNOWN_SCHEMA]
            assert query(connection, JOBS) == [0]
        assert not home.damage_record.exists()


# --- errors that are not damage


def test_intact_database_is_kept_after_any_error(home: Home) -> None:
    fill(home)
    said = queue_database_error(home.database, corruption_error("it seemed so"))
    assert "it seemed so" in str(said)
    assert not home.damage_record.exists()
    open_queue(home).close()


def test_a_busy_database_is_not_damaged(home: Home) -> None:
    open_queue(home).close()
    with (
        closing(sqlite3.connect(home.database, isolation_level=None)) as busy,
        closing(sqlite3.connect(home.database, isolation_level=None, timeout=0)) as late,
    ):
        busy.execute("BEGIN IMMEDIATE")
        with pytest.raises(sqlite3.OperationalError) as locked:
            late.execute("BEGIN IMMEDIATE")
        said = queue_database_error(home.database, locked.value)
        assert "locked. Another process has locked it" in str(said)
    assert not home.damage_record.exists()
    assert home.database.exists()


def test_a_folder_in_place_of_the_database_is_named(home: Home) -> None:
    home.database.mkdir()
    assert re.search(r"queue\.sqlite: .*open.*It must be a file", opening_error(home))
    assert home.database.is_dir()


@pytest.fixture
def disk() -> Iterator[Path]:
    """A file system of 1 MiB."""
    place = Path(tempfile.mkdtemp())
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m,mode=0700", "tmpfs", str(place)]
    if os.geteuid() or subprocess.run(mount, check=False, capture_output=True).returncode:
        place.rmdir()
        pytest.skip("only root can mount a small disk")
    yield place
    subprocess.run(["umount", str(place)], check=True)
    place.rmdir()


def fill_disk(disk: Path, leave: int = 0) -> Path:
    """Fill a disk except for `leave` bytes, and return the file that fills it."""
    room = os.statvfs(disk)
    eater = disk / "eater"
    eater.write_bytes(bytes(room.f_bavail * room.f_frsize - leave))
    return eater


@pytest.mark.parametrize("leave", [0, 4 * KIB, 16 * KIB, 32 * KIB, 64 * KIB, 128 * KIB])
def test_a_full_disk_is_not_damage(disk: Path, leave: int) -> None:
    home = Home(disk / "home")
    make_home(home)
    eater = fill_disk(disk, leave)
    said = opening_error(home)
    assert "cannot use the queue" in said if said else leave >= 64 * KIB
    assert [name for name in files_below(home.folder) if ".tmp" in name] == []
    eater.unlink()
    assert query_home(home, VERSION, check=True) == [KNOWN_SCHEMA]
    assert not home.damage_record.exists()


def test_damage_on_a_full_disk_is_reported_and_nothing_is_lost(disk: Path) -> None:
    home = Home(disk / "home")
    make_home(home)
    fill(home, 100)
    DAMAGES["zero-filled"](home.database)
    before = home.database.read_bytes()
    eater = fill_disk(disk)
    with pytest.raises(StoreError, match="damaged"):
        open_queue(home)
    eater.unlink()
    assert "was found damaged" in opening_error(home)
    (kept,) = home.damaged.iterdir()
    assert (kept / "queue.sqlite").read_bytes() == before


def test_read_only_disk_is_not_damage(disk: Path) -> None:
    home = Home(disk / "home")
    make_home(home)
    fill(home, 10)
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    try:
        with pytest.raises(StoreError, match="cannot use the queue"):
            open_queue(home)
    finally:
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
    assert query_home(home, RUNS, check=True) == [10]


# --- when to check


def test_scheduler_checks_a_database_if_it_is_small_or_after_a_reboot() -> None:
    assert should_check(SMALL_BYTES, has_rebooted=False)
    assert not should_check(SMALL_BYTES + 1, has_rebooted=False)
    assert should_check(SMALL_BYTES + 1, has_rebooted=True)


def test_damage_record_states_the_findings(home: Home) -> None:
    fill(home)
    DAMAGES["overwritten"](home.database)
    with pytest.raises(StoreError):
        open_queue(home)
    record = read_json(home.damage_record) or {}
    assert (record["schema"], record["what"]) == (1, "file is not a database")
    assert record["files"] == ["queue.sqlite"]


# --- the steps from schema to schema


def note_step(text: str) -> Step:
    """A step that leaves a note."""

    def step(connection: sqlite3.Connection) -> None:
        connection.execute("CREATE TABLE IF NOT EXISTS notes (text TEXT NOT NULL) STRICT")
        connection.execute("INSERT INTO notes VALUES (?)", (text,))

    return step


STEPS: tuple[Step, ...] = tuple(map(note_step, ("kept", "b", "c")))


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
    """A database of an invented later version: the schema and one step."""
    with closing(open_(home.database)) as connection:
        migrate(connection, home.database, (note_step("kept"),))
    return home.database


def test_new_database_is_migrated_without_a_backup(home: Home) -> None:
    with closing(open_(home.database)) as connection:
        migrate(connection, home.database, STEPS)
        assert read_schema(connection, home.database, STEPS) == SCHEMA + 3
    assert notes(home.database) == ["kept", "b", "c"]
    assert backups(home.backups) == []


def test_old_database_is_backed_up_once_before_its_migration(home: Home, database: Path) -> None:
    with closing(open_(database)) as connection:
        migrate(connection, database, STEPS)
        migrate(connection, database, STEPS)
    assert notes(database) == ["kept", "b", "c"]
    (backup,) = backups(home.backups)
    assert notes(backup) == ["kept"]
    assert backup.name.startswith(f"queue-v{SCHEMA + 1}-")
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    assert stat.S_IMODE(home.backups.stat().st_mode) == 0o700


def test_queue_of_this_version_is_migrated_to_an_invented_next_one(home: Home) -> None:
    store = Store(home, durable=False)
    (job,) = enqueue(store, a_spec())
    store.close()
    with closing(open_(home.database)) as connection:
        migrate(connection, home.database, (note_step("next"),))
        assert query(connection, VERSION) == [SCHEMA + 1]
        assert query(connection, "SELECT id FROM jobs") == [job]
    (backup,) = backups(home.backups)
    with closing(open_(backup)) as connection:
        assert query(connection, VERSION) == [SCHEMA]
        assert query(connection, "SELECT id FROM jobs") == [job]
    assert "written by a newer launcher" in opening_error(home)


def test_failed_migration_step_is_rolled_back_and_earlier_steps_remain(
    home: Home, database: Path
) -> None:
    with closing(open_(database)) as connection:
        with pytest.raises(sqlite3.OperationalError, match="nowhere"):
            migrate(connection, database, (*STEPS[:2], failing, note_step("d")))
        assert read_schema(connection, database, (*STEPS, failing)) == SCHEMA + 2
        assert not connection.in_transaction
    assert notes(database) == ["kept", "b"]
    assert notes(backups(home.backups)[-1]) == ["kept"]


def test_no_migration_without_a_backup(home: Home, database: Path) -> None:
    home.backups.write_text("in the way")
    with closing(open_(database)) as connection:
        with pytest.raises(OSError, match="exists"):
            migrate(connection, database, STEPS[:2])
        assert read_schema(connection, database, STEPS[:2]) == SCHEMA + 1
    assert notes(database) == ["kept"]


def test_concurrent_processes_apply_each_migration_step_once(home: Home, database: Path) -> None:
    children = []
    for _ in range(6):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                with closing(open_(database)) as connection:
                    migrate(connection, database, STEPS)
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
    made = [back_up(database, home.backups, version) for version in range(6, 6 + BACKUPS_KEPT + 3)]
    assert backups(home.backups) == made[-BACKUPS_KEPT:]
    assert {path.name for path in home.backups.iterdir()} == {
        path.name for path in made[-BACKUPS_KEPT:]
    }
