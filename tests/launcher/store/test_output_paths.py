"""Programs are found by the paths that they write, however their specs came into the queue."""

import os

import pytest

from launcher.queue.jobs.job import PROGRAM, Spec
from launcher.queue.jobs.states import State
from launcher.queue.store.queue import NewJob, Store
from tests.build import a_context, a_reason, a_spec

STRANGE = os.fsdecode(b"/a/\xff.csv")  # no UTF-8
PATHS = ("/a/1.csv", "/a/ b/2", "/3", STRANGE)


def a_program(*outputs: str, name: str = "command/a") -> Spec:
    return a_spec(name=name, kind=PROGRAM, outputs=outputs)


def insert(store: Store, *specs: Spec) -> list[int]:
    with store.database.writing():
        run = store.ensure_run(store.home.folder, "test")
        jobs = [NewJob(spec, state=State.DONE) for spec in specs]
        return store.insert_new(run, a_context(), jobs, 1.0)


def makers(store: Store, *paths: str) -> set[str]:
    found = store.read.programs_by_output(paths=paths)
    return {job.name for jobs in found.values() for job in jobs}


@pytest.mark.parametrize("path", PATHS)
def test_program_is_found_by_each_of_its_outputs(store: Store, path: str) -> None:
    other = a_spec(name="other/a", kind="other", outputs=PATHS)
    (job, *_) = insert(store, a_program(*PATHS), a_program("/a/1", name="command/b"), other)
    assert makers(store, path) == {"command/a"}
    assert makers(store, path, "/a/1") == {"command/a", "command/b"}
    assert makers(store, "/a", "/a/", "1.csv") == makers(store) == set()
    assert set(store.read.output_folders()) == {"/", "/a/", "/a/ b/"}
    folder = f"{path.rpartition('/')[0]}/"
    assert (path, job) in store.read.done_outputs_in([folder])


def test_program_with_another_spec_is_found_by_its_new_outputs(store: Store) -> None:
    (job,) = insert(store, a_program("/a/1"))
    with store.database.writing():
        store.accept_result(job, a_program("/a/2"), a_reason("accepted"), 2.0)
    assert (makers(store, "/a/1"), makers(store, "/a/2")) == (set(), {"command/a"})
    with store.database.writing():
        run = store.ensure_run(store.home.folder, "test")
        new = NewJob(a_program("/a/3"))
        assert store.insert_or_replace(run, a_context(), new, 3.0) == job
    assert (makers(store, "/a/2"), makers(store, "/a/3")) == (set(), {"command/a"})
    store.database.execute("UPDATE jobs SET spec = '{\"outputs\": damaged'")
    assert store.read.output_folders() == []


def test_deleted_program_is_not_found(store: Store) -> None:
    store.job_control.delete_jobs(insert(store, a_program("/a/1")))
    assert store.read.output_folders() == []
