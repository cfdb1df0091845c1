"""Results of a project that was moved or copied: which of them another folder takes over."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from launcher.experiments.functions.plan_checks import compare
from launcher.experiments.kinds import COMMAND
from launcher.experiments.planning.comparison import Action, Comparison
from launcher.experiments.planning.plan import Plan
from launcher.experiments.planning.submit import submit
from launcher.experiments.results.returned_rows import read_returned_values
from launcher.provenance.file_digests import FileDigests
from launcher.queue.home.paths import Home
from launcher.queue.jobs.states import Done, Failed, State
from launcher.queue.store.forgotten_jobs import ForgottenJob, read_forgotten
from launcher.queue.store.queue import Store
from launcher.system.errors import UsageError
from launcher.system.files import file_stamp
from tests.build import a_context, claimed, job_row
from tests.launcher import language

ENTRIES = (
    "{name: make, argv: [cp, in.txt, out.txt], inputs: [in.txt], outputs: [out.txt]}",
    "{name: read, argv: [cat, out.txt], inputs: [out.txt]}",
)


@pytest.fixture
def old(tmp_path: Path) -> Path:
    folder = tmp_path / "old"
    folder.mkdir()
    for name in ("in.txt", "out.txt"):
        (folder / name).write_text(name)
    return folder


def a_plan(root: Path, *entries: str) -> Plan:
    text = "name: x\ncommand:\n" + "".join(f"  - {entry}\n" for entry in entries)
    return language.a_plan(
        text,
        root=root,
        exists=Path.exists,
        code=lambda *_: {},
        content=FileDigests().digest_file,
        kinds={"command": COMMAND},
    )


def compared(
    store: Store, root: Path, *entries: str, adopt: Path | None = None, **options: Any
) -> Comparison:
    values: dict[str, Any] = {"force": False, "accept_code": False, **options}
    return compare(store, a_plan(root, *(entries or ENTRIES)), root, adopt=adopt, **values)


def queue(store: Store, root: Path, *entries: str, **options: Any) -> tuple[int, ...]:
    comparison = compared(store, root, *entries, **options)
    return submit(store, root, comparison, a_context(root), 1.0).jobs


def run(store: Store, root: Path, *entries: str) -> tuple[int, ...]:
    """Queue the plan, and have every job done with the files as they are."""
    numbers = queue(store, root, *entries)
    while ready := store.ready_jobs.read_ready(100):
        for one in ready:
            claim = claimed(store, one.id)
            outputs = {path: at for path in claim.spec.outputs if (at := file_stamp(path))}
            result = {"value": claim.job}
            store.transitions.finish_attempt(
                claim, Done(at=1.0, result=result), outputs=outputs, now=1.0
            )
    return numbers


def to_run(comparison: Comparison) -> set[str]:
    jobs = comparison.jobs
    return {compared.job.name for compared in jobs if compared.action is not Action.CACHED}


def moved(old: Path) -> Path:
    return old.rename(old.with_name("new"))


def copied(old: Path) -> Path:
    return Path(shutil.copytree(old, old.with_name("new")))


def test_folder_of_another_project_is_not_named(store: Store, old: Path) -> None:
    run(store, old)
    assert compared(store, copied(old)).adoptable_roots == ()


def test_renamed_folder_is_found_and_both_names_keep_the_results(store: Store, old: Path) -> None:
    other = old.with_name("mount")
    other.symlink_to(old)  # as a second mount point, which a test cannot make
    run(store, other)
    assert compared(store, old).adoptable_roots == ((str(other), 2),)
    queue(store, old, adopt=other)
    assert to_run(compared(store, old)) == to_run(compared(store, other)) == set()


def test_plan_names_the_folder_of_a_moved_project_and_its_jobs_move_with_it(
    store: Store, old: Path
) -> None:
    numbers = run(store, old)
    new = moved(old)
    comparison = compared(store, new)
    assert to_run(comparison) == {"command/make", "command/read"}
    assert comparison.adoptable_roots == ((str(old), 2),)
    assert compared(store, new, adopt=old).adoptable_roots == ()
    assert queue(store, new, adopt=old) == numbers
    assert to_run(compared(store, new)) == set()
    rows = store.read.jobs_of(new, "x")
    assert [row.id for row in rows.values()] == [*numbers]
    assert rows["command/make"].outputs.keys() == {f"{new}/out.txt"}
    assert {row.spec_without_sources.root for row in rows.values()} == {str(new)}
    assert rows["command/make"].reason == f"done in {old}"
    assert store.read.jobs_of(old, "x") == {}
    run_here = store.read.find_run(str(new), "x")
    assert store.read.counts(run_here) == {State.DONE: 2}


def test_jobs_of_a_copied_project_count_in_both_folders(store: Store, old: Path) -> None:
    numbers = run(store, old)
    new = copied(old)
    copies = queue(store, new, adopt=old)
    assert not {*copies} & {*numbers}
    assert to_run(compared(store, new)) == to_run(compared(store, old)) == set()
    assert store.read.results(copies) == {
        copy: {"value": number} for copy, number in zip(copies, numbers, strict=True)
    }
    assert [row.id for row in store.read.dependencies_of(copies[1])] == [copies[0]]
    assert {row.state for row in store.read.jobs_by_id(copies)} == {State.DONE}


def test_program_of_a_copied_project_keeps_its_printed_results(
    home: Home, store: Store, old: Path
) -> None:
    queue(store, old, ENTRIES[1])
    claim = claimed(store, store.ready_jobs.read_ready(1)[0].id)
    attempt = home.attempt(*claim.key)
    attempt.folder.mkdir(parents=True)
    attempt.log.write_text("launcher: acc=0.5\n")
    store.transitions.finish_attempt(claim, Done(at=1.0), outputs={}, now=1.0)
    new = Path(shutil.copytree(old, old.with_name("new")))
    (copy,) = queue(store, new, ENTRIES[1], adopt=old)
    (returned,) = read_returned_values(
        home, store, store.read.jobs_by_id([copy]), {"command": COMMAND}
    )
    assert {name: metric.value for name, metric in returned.numbers.metrics.items()} == {"acc": 0.5}


def test_job_of_a_copied_project_runs_again_with_a_new_result(store: Store, old: Path) -> None:
    run(store, old)
    new = Path(shutil.copytree(old, old.with_name("new")))
    make, _ = queue(store, new, adopt=old)
    store.job_control.retry([make], 2.0)
    claim = claimed(store, make)
    store.transitions.finish_attempt(
        claim, Done(at=3.0, result={"value": "new"}), outputs={}, now=3.0
    )
    assert store.read.result_of(make) == {"value": "new"}


@pytest.mark.parametrize(
    ("entry", "written", "again"),
    [
        (ENTRIES[1].replace("cat", "head"), {}, {"command/read"}),  # another setting
        (ENTRIES[1], {"out.txt": "other"}, {"command/make", "command/read"}),
        (ENTRIES[1], {"out.txt": None}, {"command/make", "command/read"}),
    ],
)
def test_changed_jobs_are_not_adopted(
    store: Store, old: Path, entry: str, written: dict[str, str | None], again: set[str]
) -> None:
    run(store, old)
    new = moved(old)
    for name, text in written.items():
        (new / name).write_text(text) if text is not None else (new / name).unlink()
    entries = (ENTRIES[0], entry)
    assert to_run(compared(store, new, *entries, adopt=old)) == again
    queue(store, new, *entries, adopt=old)
    rows = store.read.jobs_of(new, "x")
    assert {name for name, row in rows.items() if row.state is State.QUEUED} == again


def test_paths_of_the_old_folder_are_replaced_by_the_new_folder(store: Store, old: Path) -> None:
    def entries(root: Path, cwd: str = "") -> tuple[str, ...]:
        folder = f"{root}{cwd}"
        absolute = (
            f"{{name: there, argv: [cat, --in={root}/in.txt], cwd: {folder}, env: {{A: {root}}}}}"
        )
        return (*ENTRIES, absolute)

    run(store, old, *entries(old))
    new = moved(old)
    beside = new.with_name("new-2")
    beside.mkdir()
    assert to_run(compared(store, new, *entries(new, "-2"), adopt=old)) == {"command/there"}
    assert to_run(compared(store, new, *entries(new), adopt=old)) == set()
    queue(store, new, *entries(new), adopt=old)
    assert to_run(compared(store, new, *entries(new))) == set()


def test_dry_run_changes_nothing(store: Store, old: Path) -> None:
    numbers = run(store, old)
    new = moved(old)
    before = store.read.data_version(), store.read.last_event()
    compared(store, new, adopt=old)
    assert (store.read.data_version(), store.read.last_event()) == before
    assert [row.root for row in store.read.jobs_by_id(numbers)] == [str(old)] * 2


def test_running_jobs_in_the_old_folder_are_refused_and_waiting_ones_stay(
    store: Store, old: Path
) -> None:
    first, second = queue(store, old)
    claimed(store, first)
    new = copied(old)
    with pytest.raises(UsageError, match=rf"command/make \(job {first}\) is running there"):
        compared(store, new, adopt=old)
    store.job_control.retry([], 1.0)
    other = old.with_name("other")
    shutil.copytree(old, other)
    with pytest.raises(UsageError, match=r"no job of run 'x' was queued there"):
        compared(store, new, adopt=other)
    assert job_row(store, second).state is State.QUEUED


def test_waiting_jobs_in_the_old_folder_are_named(store: Store, old: Path) -> None:
    numbers = queue(store, old)
    adoption = compared(store, copied(old), adopt=old).adoption
    assert adoption is not None
    assert (adoption.rows, adoption.waiting) == ({}, numbers)


def test_cancelled_job_is_replaced_by_the_finished_job_of_the_old_folder(
    store: Store, old: Path
) -> None:
    numbers = run(store, old)
    new = moved(old)
    here = queue(store, new)
    store.job_control.cancel(here, 2.0)
    assert queue(store, new, adopt=old) == numbers
    assert store.read.jobs_by_id(here) == []


def test_folders_of_a_failed_job_are_deleted_after_adoption(
    home: Home, store: Store, old: Path
) -> None:
    numbers = run(store, old)
    new = moved(old)
    first, _ = queue(store, new)
    claim = claimed(store, first)
    store.transitions.finish_attempt(claim, Failed(at=2.0, error="no"), outputs={}, now=2.0)
    assert queue(store, new, adopt=old) == numbers
    run_folder = claim.spec.run_folder
    assert read_forgotten(home, store) == [ForgottenJob(first, 1, run_folder)]


def test_finished_jobs_of_the_new_folder_are_kept(store: Store, old: Path) -> None:
    numbers = run(store, old)
    new = copied(old)
    here = run(store, new)
    assert queue(store, new, adopt=old) == here
    assert [row.root for row in store.read.jobs_by_id(numbers)] == [str(old)] * 2


def test_result_that_changes_during_adoption_is_not_adopted(store: Store, old: Path) -> None:
    numbers = run(store, old)
    new = moved(old)
    comparison = compared(store, new, adopt=old)
    store.job_control.retry([numbers[1]], 2.0)
    with pytest.raises(
        UsageError, match=r"command/read \(job \d+\) has changed. Run this command again"
    ):
        submit(store, new, comparison, a_context(new), 3.0)
    assert store.read.jobs_of(new, "x") == {}  # all of them or none


@pytest.mark.parametrize("place", [moved, copied])
def test_adopted_output_is_compared_by_content_if_its_time_changes(
    store: Store, old: Path, place: Callable[[Path], Path]
) -> None:
    queue(store, old, ENTRIES[0])
    claim = claimed(store, store.ready_jobs.read_ready(1)[0].id)
    version = FileDigests().read_file_version(f"{old}/out.txt")
    assert version is not None
    outputs = {f"{old}/out.txt": version.to_json()}
    store.transitions.finish_attempt(claim, Done(at=1.0), outputs=outputs, now=1.0)
    new = place(old)
    queue(store, new, ENTRIES[0], adopt=old)
    os.utime(new / "out.txt", (5, 5))  # as a copy without times, or a checkout
    assert to_run(compared(store, new, ENTRIES[0])) == set()
    (new / "out.txt").write_text("OUT.TXT")  # other content of the same size
    assert to_run(compared(store, new, ENTRIES[0])) == {"command/make"}
