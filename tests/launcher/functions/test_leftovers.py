"""Which files of calls are deleted: those that no job needs."""

import os
import time
from pathlib import Path

from launcher.functions.calls import FOLDER, KIND, YOUNG_S, unused_calls, write_calls
from launcher.store.queue import Store
from launcher.system.paths import Home
from tests.build import a_spec, enqueue


def a_call(home: Home, *, age_s: float = 0.0) -> Path:
    """Write a file of calls that no job names."""
    (call,) = write_calls(home.folder / FOLDER, abs, [(-1,)], {})
    path = Path(call.file)
    os.utime(path, times=(time.time(), time.time() - age_s))
    return path


def a_job(store: Store, name: str, path: Path) -> int:
    spec = a_spec(name=name, entry="x:y", settings={"file": str(path)})
    (number,) = enqueue(store, spec)
    with store.writing():
        store.database.execute("UPDATE jobs SET kind = ? WHERE id = ?", (KIND, number))
    return number


def test_a_file_that_no_job_names_goes_when_no_submission_can_be_writing_it(
    home: Home, store: Store
) -> None:
    a_call(home)
    old, used = a_call(home, age_s=2 * YOUNG_S), a_call(home, age_s=2 * YOUNG_S)
    a_job(store, "function/abs#1", used)
    assert unused_calls(home, store, []) == [old]


def test_a_file_goes_with_the_last_of_its_jobs(home: Home, store: Store) -> None:
    path = a_call(home)
    numbers = [a_job(store, f"function/abs#{number}", path) for number in (1, 2)]
    first, second = store.read.jobs_by_id(numbers)
    assert unused_calls(home, store, [first]) == []
    assert unused_calls(home, store, [first, second]) == [path]


def test_where_there_are_no_functions_nothing_goes(home: Home, store: Store) -> None:
    (number,) = enqueue(store, a_spec())
    assert unused_calls(home, store, store.read.jobs_by_id([number])) == []
