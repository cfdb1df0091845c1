"""Names of the folders of added jobs in a run that several queue folders use.

Each queue folder counts its own jobs, so two queue folders have a job 12. The file `OWNER` in `runs/RUN/jobs/` names
the queue folder that used the run first. Its job 12 has the folder `jobs/12`. In any other queue folder, the name has a
suffix made of the ID of that queue folder. The job keeps its suffix when the queue folder is moved or gets another ID.

The file is created with O_EXCL, which network file systems support, and is never changed. If it is damaged or
unreadable, every queue folder uses a suffix.
"""

import contextlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from launcher.queue.home.home_checks import home_id
from launcher.queue.home.paths import Home
from launcher.queue.jobs.context import JOBS, uses_job_folder
from launcher.queue.jobs.job import Spec
from launcher.system.files import open_descriptor, read_json, write_all

OWNER = ".queue.json"
_ID, _FOLDER = "id", "folder"
_SUFFIX_LETTERS = 4  # if two queue folders share them, a name that exists is not used again
_MOST_LOOKUPS = 64  # names that are looked up one by one; for more, the folder is listed


def with_folder_suffixes(specs: Sequence[Spec], first: int, home: Home) -> list[Spec]:
    """Return the specs of new jobs of one run with the suffixes of their folders.

    Args:
        specs: Specifications of jobs with consecutive numbers.
        first: Number of the first job.
        home: Queue folder.
    """
    result = [*specs]
    named = [index for index, spec in enumerate(specs) if not spec.hash and uses_job_folder(spec)]
    if not named:
        return result
    run, root = specs[named[0]].run_folder, specs[named[0]].root
    jobs_folder = f"{run}/{JOBS}"
    suffix = "" if root == str(home.folder) else _queue_suffix(jobs_folder, home)
    is_taken = _name_check(jobs_folder, len(named))
    for index in named:
        if own := _free_suffix(str(first + index), suffix, is_taken):
            result[index] = specs[index]._replace(folder_suffix=own)
    return result


def with_folder_suffix(spec: Spec, job: int, former: Spec | None, home: Home) -> Spec:
    """Return the spec of one job with the suffix of its folder.

    Args:
        spec: Specification of the job.
        job: Job number.
        former: Specification of the same job before a change, None for a new job. The folder of a job never changes.
        home: Queue folder.
    """
    if former is not None and uses_job_folder(former):
        return spec._replace(folder_suffix=former.folder_suffix)
    (named,) = with_folder_suffixes([spec._replace(folder_suffix="")], job, home)
    return named


def new_copy_suffix() -> str:
    """Return a suffix for the folders of jobs that a copy of a queue folder has in common with the original."""
    return f"-{os.urandom(_SUFFIX_LETTERS // 2).hex()}"


def is_owned_by_another(run_folder: Path, home: Home) -> bool:
    """Return whether another queue folder, which is still there, used a run first."""
    with contextlib.suppress(OSError):
        owner = read_json(f"{run_folder}/{JOBS}/{OWNER}") or {}
        known = owner.get(_ID)
        if known and known != home_id(home.record):
            return home_id(Home(Path(str(owner.get(_FOLDER)))).record) == known
    return False


def _queue_suffix(jobs_folder: str, home: Home) -> str:
    """Return the suffix of this queue folder's jobs in a run. The first queue folder becomes its owner."""
    own, path = home_id(home.record), f"{jobs_folder}/{OWNER}"
    try:
        owner = read_json(path)
        if owner is None and not os.path.lexists(path):
            if _record_owner(path, own, home):
                return ""
            owner = read_json(path)
    except OSError:  # another user's file
        owner = None
    if owner is None and not os.path.lexists(path):  # the project is read-only
        return ""
    return "" if owner is not None and owner.get(_ID) == own else f"-{own[:_SUFFIX_LETTERS]}"


def _record_owner(path: str, own: str, home: Home) -> bool:
    """Create the file of the owner. Return False if there is one by now, or none can be created."""
    record = {"schema": 1, _ID: own, _FOLDER: os.path.realpath(home.folder)}
    with contextlib.suppress(OSError):
        os.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120  # a text
        with open_descriptor(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644) as descriptor:
            write_all(descriptor, (json.dumps(record) + "\n").encode(errors="backslashreplace"))
            return True
    return False


def _name_check(jobs_folder: str, number: int) -> Callable[[str], bool]:
    """Return a function that returns whether a name exists in a folder."""
    if number <= _MOST_LOOKUPS:
        return lambda name: os.path.lexists(f"{jobs_folder}/{name}")
    with contextlib.suppress(OSError):
        return frozenset(os.listdir(jobs_folder)).__contains__  # noqa: PTH208  # names alone
    return lambda _: False


def _free_suffix(number: str, suffix: str, is_taken: Callable[[str], bool]) -> str:
    """Return the suffix, with a counter if a job of another count of numbers has left a folder of the same name."""
    counter, found = 1, suffix
    while is_taken(f"{number}{found}"):
        counter += 1
        found = f"{suffix}-{counter}"
    return found
