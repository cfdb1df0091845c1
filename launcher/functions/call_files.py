"""Where the calls of functions lie, how their jobs are called, and which files of calls no job needs any more."""

import time
from collections.abc import Iterable
from pathlib import Path

from launcher.job import FUNCTION
from launcher.store.queue import Store
from launcher.store.rows import JobRow
from launcher.system.paths import Home

KIND = FUNCTION
RUN = "functions"  # the run of all of them
ENTRY = "launcher.functions.entry:call"
PRELOAD = ("launcher.functions.entry",)  # with cloudpickle, once for all workers
FOLDER = "functions"  # of the calls: in the home, or in the folder of pilots
SUFFIX = ".calls"
FILE = "file"  # the setting of a job that names the file with its call
YOUNG_S = 3600.0  # a submission that writes arguments of many GB may take a while


def unused_calls(home: Home, store: Store, going: Iterable[JobRow]) -> list[Path]:
    """Return the files that no job names, those aside that are to be forgotten.

    A submission that was killed before its jobs were in the queue leaves such a file, too.

    Args:
        home: the queue's.
        store: its database.
        going: jobs that are to be forgotten, or are.
    """
    listed = [job for job in going if job.kind == KIND]
    if not listed and not (home.folder / FOLDER).exists():
        return []  # a queue may have a million other jobs
    used = store.read.settings_of(KIND, FILE, but=[job.id for job in listed])
    named = {str(job.spec.settings.get(FILE, "")) for job in listed}
    files = {Path(name) for name in named if name.endswith(SUFFIX)}
    before = time.time() - YOUNG_S
    files |= {path for path in (home.folder / FOLDER).glob(f"*{SUFFIX}") if _older(path, before)}
    return sorted(path for path in files if str(path) not in used and path.is_file())


def _older(path: Path, at: float) -> bool:
    try:
        return path.lstat().st_mtime < at
    except FileNotFoundError:
        return False
