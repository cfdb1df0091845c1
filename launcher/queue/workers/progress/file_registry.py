"""Which jobs of a queue name which files of numbers, and when they ran: a file of lines for each folder.

Supervisors write it, on a node in the folder that all pilots of its backend share. An entry is dropped when no running
job began before its end. A job whose supervisor died ends there when the record of its attempt was last touched.
"""

import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from math import inf
from pathlib import Path

from launcher.provenance.file_patterns import is_pattern
from launcher.queue.home.paths import Attempt
from launcher.queue.workers.lease import ABANDONED_FILE
from launcher.queue.workers.progress.file_owners import NamedPlace, OtherJob
from launcher.system.files import Json, read_all, write_all
from launcher.system.locks import LOCK_POLL_S, SHORT_LOCK_S, lock_descriptor
from launcher.system.waiting import wait_until

FOLDER = "number_files"  # in the queue folder, or in the folder of a backend
SILENT_S = 60.0  # a running job touches its record every 10 s


def fixed_folder(path: str) -> str:
    """Return the folder of a path before its first wildcard; empty for the root and for no folder."""
    parts = path.split("/")
    first = next((n for n, part in enumerate(parts) if is_pattern(part)), len(parts) - 1)
    return "/".join(parts[:first])


def add_job(attempt: Attempt, job: int, name: str, place: NamedPlace, start_time: float) -> None:
    """Record that a job starts that names files.

    Raises:
        OSError: the disk is full, or another process holds the lock.
    """
    record: dict[str, Json] = {
        "attempt": str(attempt.folder),
        "job": job,
        "name": name,
        "path": place.path,
        "is_folder": place.is_folder,
        "since": start_time,
    }
    _append(_file_of(attempt, place), record)


def add_seen(
    attempt: Attempt, place: NamedPlace, seen_files: Mapping[str, tuple[int, int]]
) -> None:
    """Record the files that processes of an attempt have open for writing.

    Raises:
        OSError: as of `add_job`.
    """
    files: dict[str, Json] = {path: [*file_id] for path, file_id in seen_files.items()}
    _append(_file_of(attempt, place), {"attempt": str(attempt.folder), "seen": files})


def end_job(attempt: Attempt, place: NamedPlace, now: float) -> None:
    """Record that an attempt has ended, and drop the entries that no running job needs.

    Raises:
        OSError: as of `add_job`.
    """
    path = _file_of(attempt, place)
    with _lock_file(path) as descriptor:
        entries = _parse(read_all(descriptor))
        own = entries.get(str(attempt.folder))
        if own is not None:
            own["until"] = now
        running = [_number(each, "since") for each in entries.values() if _end_of(each) == inf]
        first = min(running, default=inf)
        left = [each for each in entries.values() if _end_of(each) >= first]
        os.ftruncate(descriptor, 0)
        write_all(descriptor, b"".join(map(_line, left)))
        if not left:
            path.unlink()


def other_jobs(attempt: Attempt, job: int, files: Iterator[str]) -> list[OtherJob]:
    """Return the other jobs of the queue that name one of some files and ran lately, or run.

    Raises:
        OSError: they cannot be read now.
    """
    folders = {str(folder) for file in files for folder in Path(file).parents}
    found = []
    for folder in sorted(folders):
        path = _registry_of(attempt) / _key(folder)
        if path.exists():
            with _lock_file(path) as descriptor:
                entries = _parse(read_all(descriptor))
            found += [_other_job(each) for each in entries.values() if each.get("job") != job]
    return found


def _other_job(record: Mapping[str, Json]) -> OtherJob:
    seen = record.get("seen")
    return OtherJob(
        job=int(_number(record, "job")),
        name=str(record.get("name", "")),
        place=NamedPlace(str(record.get("path", "")), bool(record.get("is_folder"))),
        since=_number(record, "since"),
        until=_end_of(record),
        seen={
            path: (file_id[0], file_id[1])  # type: ignore[misc]
            for path, file_id in (seen.items() if isinstance(seen, dict) else ())
            if isinstance(file_id, list) and len(file_id) == 2
        },
    )


def _end_of(record: Mapping[str, Json]) -> float:
    """Return when the attempt of an entry ended; infinite while it runs."""
    if "until" in record:
        return _number(record, "until")
    try:
        touched = Attempt(Path(str(record.get("attempt")))).number_files.stat().st_mtime
    except OSError:  # the folder was deleted
        return 0.0
    return inf if touched > time.time() - SILENT_S else touched


def _number(record: Mapping[str, Json], key: str) -> float:
    value = record.get(key)
    return float(value) if isinstance(value, int | float) else 0.0


def _registry_of(attempt: Attempt) -> Path:
    home = attempt.folder.parent.parent
    is_pilot = (home / ABANDONED_FILE).exists()
    return (home.parent if is_pilot else home) / FOLDER


def _file_of(attempt: Attempt, place: NamedPlace) -> Path:
    folder = place.path if place.is_folder else fixed_folder(place.path) or "/"
    return _registry_of(attempt) / _key(folder)


def _key(folder: str) -> str:
    return hashlib.sha256(os.fsencode(folder)).hexdigest()[:24]


def _append(path: Path, record: Mapping[str, Json]) -> None:
    path.parent.mkdir(mode=0o700, exist_ok=True)
    with _lock_file(path) as descriptor:
        write_all(descriptor, _line(record))


def _line(record: Mapping[str, Json]) -> bytes:
    return f"{json.dumps(record)}\n".encode()


def _parse(text: bytes) -> dict[str, dict[str, Json]]:
    """Return attempt → what all its lines say."""
    entries: dict[str, dict[str, Json]] = {}
    for line in text.splitlines():
        with suppress(ValueError):
            record = json.loads(line)
            entries.setdefault(str(record["attempt"]), {}).update(record)
    return entries


@contextmanager
def _lock_file(path: Path) -> Iterator[int]:
    """Yield a descriptor of a file with its lock; the file may be deleted while another process holds it.

    Raises:
        OSError: the lock is held for too long, or there is no room.
    """

    def take() -> int | None:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            if lock_descriptor(descriptor) and os.fstat(descriptor).st_nlink:
                return descriptor
        except OSError:
            os.close(descriptor)
            raise
        os.close(descriptor)
        return None

    descriptor = wait_until(take, SHORT_LOCK_S, LOCK_POLL_S)
    if descriptor is None:
        raise BlockingIOError(f"{path} is locked")
    try:
        yield descriptor
    finally:
        os.close(descriptor)
