"""A queue folder that was moved or copied: its jobs and files. `home_checks.relocation` recognizes it.

The original of a copy may have run the unfinished jobs, and may still run them. So the copy holds them until their
owner releases them. Records of running attempts and of pilots concern the original, which the copy must not touch.
"""

import contextlib
import json
import os
import sqlite3
import time
from pathlib import Path

from launcher.queue.home.home_checks import Relocation, record_relocation, relocation
from launcher.queue.home.paths import Home
from launcher.queue.jobs.context import JOB_FOLDER, job_folder, uses_job_folder
from launcher.queue.jobs.job_folders import new_copy_suffix
from launcher.queue.jobs.states import Lost, Reason, ReasonCode, State, outcome_record
from launcher.queue.jobs.stored_specs import read_spec
from launcher.queue.staging.stages import MOVED_LINK, VIEW_LINK
from launcher.queue.store.connection import Connection, reason_columns
from launcher.queue.store.output_conflicts import WHILE_RUNNING
from launcher.queue.store.recovery import exclusive_database_access
from launcher.system.stored_fields import Unreadable

_NEW_LINK = ".relinked"  # a link to an attempt before it has its name, in the queue folder
_UNFINISHED = "state IN ('queued', 'running')"


def follow_relocation(connection: Connection, home: Home) -> None:
    """Bring a home up to date that was moved or copied; nothing happens to any other one.

    Each step may be repeated: the record of the home is written last.

    Args:
        connection: connection to the home's database, in today's shape, without a transaction.
        home: the queue folder.

    Raises:
        sqlite3.Error: the database cannot be written.
        OSError: the disk is full.
        StoreError: another process keeps the home to itself for too long.
    """
    if relocation(home.record) is None:
        return
    with exclusive_database_access(home):
        where = relocation(home.record)
        if where is None:  # another process was quicker
            return
        connection.execute("BEGIN IMMEDIATE")
        try:
            if where.is_copy:
                _release_writer_waits(connection)
                _hold_unfinished_jobs(connection, where.former_folder, time.time())
                _rename_job_folders(connection, where)
            for before in {where.former_folder, where.former_path} - {str(home.folder)}:
                _rename_roots(connection, before, str(home.folder))
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        _relink_attempts(home, where)
        if where.is_copy:
            _delete_pilot_records(home)
        record_relocation(home.record, where)


def copied_reason(original: str) -> Reason:
    """Return why jobs of a copied home are held."""
    text = (
        f"held by launcher: this queue folder is a copy of {original}, which may have run the job"
    )
    return Reason(code=ReasonCode.COPIED, text=text, data={"copy_of": original})


def count_held_in_copy(connection: sqlite3.Connection) -> int:
    """Return how many jobs are held because their home is a copy."""
    query = "SELECT count(*) FROM jobs WHERE state = ? AND reason_code = ?"
    (number,) = connection.execute(query, (State.HELD, ReasonCode.COPIED)).fetchone()
    return int(number)


def _hold_unfinished_jobs(connection: sqlite3.Connection, original: str, now: float) -> None:
    """Hold all queued and running jobs; the attempts that run are the original's."""
    lost = outcome_record(Lost(at=now, why=f"it belongs to the queue folder {original}"))
    connection.execute(
        "UPDATE attempts SET outcome = ?, ended = ?, reason_code = ? WHERE outcome IS NULL",
        (json.dumps(lost), now, ReasonCode.LOST),
    )
    columns = reason_columns(copied_reason(original))
    connection.execute(
        "INSERT INTO events (at, job, state, reason_code, reason, reason_data)"
        f" SELECT ?, id, ?, ?, ?, ? FROM jobs WHERE {_UNFINISHED} ORDER BY id",
        (now, State.HELD, *columns),
    )
    connection.execute(
        "UPDATE jobs SET state = ?, reason_code = ?, reason = ?, reason_data = ?, wish = '',"
        f" paused = NULL WHERE {_UNFINISHED}",
        (State.HELD, *columns),
    )


def _rename_job_folders(connection: sqlite3.Connection, relocation: Relocation) -> None:
    """Give added jobs that are not done other folders in their projects: the original's jobs have the same numbers."""
    rows = connection.execute(
        "SELECT id, spec FROM jobs WHERE state <> 'done' AND instr(spec, ?) AND json_valid(spec)",
        (JOB_FOLDER,),
    ).fetchall()
    suffix = new_copy_suffix()
    for job, text in rows:
        record = json.loads(text)
        try:
            spec = read_spec(record)
        except Unreadable:  # the job cannot start
            continue
        is_inside = spec.root in {relocation.former_folder, relocation.former_path}
        if spec.hash or is_inside or not uses_job_folder(spec):
            continue
        former = f"{job_folder(spec, job)}/"
        spec = spec._replace(folder_suffix=f"{spec.folder_suffix}{suffix}")
        own = f"{job_folder(spec, job)}/"
        outputs = [
            own + path.removeprefix(former) if path.startswith(former) else path
            for path in spec.outputs
        ]
        record |= {"folder_suffix": spec.folder_suffix} | ({"outputs": outputs} if outputs else {})
        connection.execute("UPDATE jobs SET spec = ? WHERE id = ?", (json.dumps(record), job))


def _release_writer_waits(db: Connection) -> None:
    """Let no job wait for one that runs, and so writes the same path, in the original."""
    of_running = (
        "FROM needs WHERE any_end = ? AND need IN (SELECT id FROM jobs WHERE state = 'running')"
    )
    waiting = db.query_numbers(f"SELECT job {of_running}", WHILE_RUNNING)
    db.execute(f"DELETE {of_running}", (WHILE_RUNNING,))
    db.recount_waits(waiting)


def _rename_roots(connection: sqlite3.Connection, old_root: str, new_root: str) -> None:
    """Correct the paths of the runs inside the home, which are those of added programs and of functions."""
    connection.execute("UPDATE OR IGNORE runs SET root = ?1 WHERE root = ?2", (new_root, old_root))
    folders = [json.dumps(folder) for folder in (old_root, new_root)]
    # SQLite writes JSON without spaces: the spec of a job that was renamed
    roots = [f'"root":{space}{folder}' for space in (" ", "") for folder in folders]
    paths = [json.dumps(f"{folder}/runs/")[:-1] for folder in (old_root, new_root)]  # path prefixes
    connection.execute(
        "UPDATE jobs SET spec = replace(replace(replace(spec, ?1, ?2), ?3, ?4), ?5, ?6),"
        " outputs = replace(outputs, ?5, ?6)"
        " WHERE run IN (SELECT id FROM runs WHERE root = ?7)",
        (*roots, *paths, new_root),
    )


def _relink_attempts(home: Home, relocation: Relocation) -> None:
    """Correct the links in the home; those of a copy must not reach the original."""
    with contextlib.suppress(FileNotFoundError), os.scandir(home.attempts) as entries:
        for entry in entries:
            if entry.is_symlink():
                _relink(Path(entry.path), relocation, home)
            elif relocation.is_copy:
                for name in (VIEW_LINK, MOVED_LINK):
                    Path(entry.path, name).unlink(missing_ok=True)


def _relink(link: Path, relocation: Relocation, home: Home) -> None:
    """Replace the link to the folder of an attempt on a pilot if that folder was in the home."""
    target = os.readlink(link)  # noqa: PTH115  # the text alone
    folders = {relocation.former_folder, relocation.former_path, str(home.folder)}
    # among folders inside each other, the innermost one is meant
    above = max((path for path in folders if target.startswith(f"{path}/")), key=len, default="")
    if above == str(home.folder):  # an earlier call was interrupted after it had replaced this link
        return
    if above:
        new = home.folder / _NEW_LINK  # the rename keeps the old link until the new one is there
        new.unlink(missing_ok=True)
        new.symlink_to(f"{home.folder}{target.removeprefix(above)}")
        new.replace(link)
    elif relocation.is_copy:
        link.unlink()


def _delete_pilot_records(home: Home) -> None:
    """Delete the records of pilots, which serve the original."""
    for path in (home.folder / "pilots").glob("launcher-*.json"):
        path.unlink(missing_ok=True)
    (home.folder / "pilots.json").unlink(missing_ok=True)
