"""A queue folder that was moved or copied: which jobs may start there, and where its files are looked for."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from launcher.queue.backends.pilot_records import FolderTaken, acquire_folder
from launcher.queue.home.home_checks import relocation
from launcher.queue.home.paths import Home, check_home
from launcher.queue.jobs.states import State
from launcher.queue.store.queue import Store
from launcher.queue.store.rows import JobRow
from launcher.system.errors import StoreError
from tests.build import a_seat, a_spec, claimed, enqueue, finished, job_row
from tests.launcher.conftest import Launcher


def jobs_in(home: Home) -> dict[str, JobRow]:
    store = Store(home, durable=False)
    try:
        return {row.name: row for row in store.read.jobs()}
    finally:
        store.close()


@pytest.fixture
def populated_home(home: Home, store: Store) -> Home:
    """A queue with a job in each state that a copy may find."""
    numbers = {name: enqueue(store, a_spec(name=name))[0] for name in ("runs", "waits", "ended")}
    enqueue(store, a_spec(name="held"))
    store.job_control.hold([job_row(store, numbers["ended"]).id + 1], 1.0)
    claimed(store, numbers["runs"])
    finished(store, numbers["ended"])
    store.close()
    return home


def copy_home(home: Home) -> Home:
    copy = Home(home.folder.with_name("copy"))
    shutil.copytree(home.folder, copy.folder, symlinks=True)
    return copy


def move_home(home: Home) -> Home:
    new = Home(home.folder.with_name("moved"))
    home.folder.rename(new.folder)
    return new


def link_home(home: Home) -> Home:
    link = home.folder.with_name("link")
    link.symlink_to(home.folder)
    return Home(link)


STATES = {"runs": "running", "waits": "queued", "ended": "done", "held": "held"}
HELD = {**STATES, "runs": "held", "waits": "held"}


@pytest.mark.parametrize(
    ("relocate", "states"), [(copy_home, HELD), (move_home, STATES), (link_home, STATES)]
)
def test_unfinished_jobs_are_held_only_in_a_copy_of_the_queue_folder(
    populated_home: Home, relocate: Callable[[Home], Home], states: dict[str, str]
) -> None:
    home = relocate(populated_home)
    assert {name: row.state for name, row in jobs_in(home).items()} == states
    assert relocation(home.record) is None  # from now on it is at home there


def test_job_held_in_a_copy_names_the_original_and_can_be_released(populated_home: Home) -> None:
    copy = copy_home(populated_home)
    waits = jobs_in(copy)["waits"]
    original = str(populated_home.folder)
    assert waits.reason == (
        f"held by launcher: this queue folder is a copy of {original}, which may have run the job"
    )
    assert (waits.state_reason.code, waits.state_reason.data) == ("copied", {"copy_of": original})
    store = Store(copy)
    assert store.claims.open_claims() == []  # running jobs are the original's
    store.job_control.release([waits.id], 2.0)
    store.close()
    assert jobs_in(copy)["waits"].state is State.QUEUED
    assert {name: row.state for name, row in jobs_in(populated_home).items()} == STATES


def test_job_of_a_copy_does_not_wait_for_a_writer_of_the_same_path_in_the_original(
    home: Home, store: Store
) -> None:
    first, second = (
        enqueue(store, a_spec(name=name, outputs=("/nowhere/made",)))[0] for name in ("one", "two")
    )
    claimed(store, first)
    assert store.claims.claim(second, a_seat(), reason="", now=2.0) is None
    store.close()
    copy = Store(copy_home(home))
    copy.job_control.cancel([first], 3.0)
    copy.job_control.release([second], 3.0)
    assert copy.claims.claim(second, a_seat(), reason="", now=4.0) is not None
    copy.close()


def test_job_of_a_copy_that_is_not_done_has_another_folder(
    home: Home, store: Store, tmp_path: Path
) -> None:
    root = str(tmp_path / "project")
    run = f"{root}/runs/night/jobs"
    paths = {"waits": f"{run}/1/made", "ended": f"{run}/2/made"}
    for name, path in paths.items():
        spec = a_spec(
            "true", "{job_folder}", name=name, root=root, run="night", outputs=(path, "/x")
        )
        enqueue(store, spec)
    enqueue(store, a_spec("true", "{job_folder}", name="inside", root=str(home.folder)))
    finished(store, 2)
    store.close()
    rows = jobs_in(copy_home(home))
    suffixes = {name: row.spec.folder_suffix for name, row in rows.items()}
    assert suffixes == {"waits": suffixes["waits"], "ended": "", "inside": ""}
    assert rows["waits"].spec.outputs == (f"{run}/1{suffixes['waits']}/made", "/x")
    assert re.fullmatch("-[0-9a-f]{4}", suffixes["waits"])
    assert rows["ended"].spec.outputs == (paths["ended"], "/x")
    rows = jobs_in(move_home(home))
    assert {row.spec.folder_suffix for row in rows.values()} == {""}


def test_copy_of_a_copy_and_copy_back_are_detected_as_copies(populated_home: Home) -> None:
    copy = copy_home(populated_home)
    store = Store(copy)
    enqueue(store, a_spec(name="new"))
    store.close()
    shutil.rmtree(populated_home.folder)
    shutil.copytree(copy.folder, populated_home.folder)
    assert jobs_in(populated_home)["new"].state_reason.data == {"copy_of": str(copy.folder)}
    assert jobs_in(copy)["new"].state is State.QUEUED


def test_moved_queue_folder_stays_moved_when_another_takes_its_path(populated_home: Home) -> None:
    home = move_home(populated_home)
    populated_home.folder.mkdir(mode=0o700)
    check_home(populated_home)
    Store(populated_home).close()
    assert {name: row.state for name, row in jobs_in(home).items()} == STATES


def test_unreadable_queue_folder_counts_as_existing(
    populated_home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = move_home(populated_home)

    def refuse(*_: object) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "samefile", refuse)
    where = relocation(home.record)
    assert where is not None
    assert where.is_copy


def test_copy_uses_no_staging_folder_and_no_pilot_of_the_original(
    populated_home: Home, tmp_path: Path
) -> None:
    stage = tmp_path / "runs/x/.attempts/1-1-00000000"
    stage.mkdir(parents=True)
    (populated_home.attempts / "1-1").mkdir(parents=True, exist_ok=True)
    (populated_home.attempts / "1-1/runs").symlink_to(stage)
    (populated_home.attempts / "1-1/runs.moved").symlink_to(stage)
    inside, outside = (
        populated_home.folder / "pilots/p/attempts/2-1",
        tmp_path / "far/p/attempts/3-1",
    )
    for folder in (inside, outside):
        folder.mkdir(parents=True)
        (populated_home.attempts / folder.name).symlink_to(folder)
    token = f"launcher-{'0' * 20}"
    (populated_home.folder / "pilots" / f"{token}.json").write_text("{}")
    copy = copy_home(populated_home)
    jobs_in(copy)
    assert sorted(path.name for path in copy.attempts.iterdir()) == ["1-1", "2-1"]
    assert [*(copy.attempts / "1-1").iterdir()] == []
    assert (copy.attempts / "2-1").readlink() == copy.folder / "pilots/p/attempts/2-1"
    assert not (copy.folder / "pilots" / f"{token}.json").exists()
    assert (populated_home.attempts / "1-1/runs").readlink() == stage

    home = move_home(populated_home)
    jobs_in(home)
    links = {path.name: path.readlink() for path in home.attempts.iterdir() if path.is_symlink()}
    assert links == {
        "2-1": home.folder / "pilots/p/attempts/2-1",
        "3-1": outside,
    }
    assert (home.folder / "pilots" / f"{token}.json").exists()


@pytest.mark.parametrize("relocate", [copy_home, move_home])
@pytest.mark.parametrize("name", ["symlink_to", "replace", "record"])
def test_interrupted_relocation_keeps_links_to_attempts_on_pilots(
    populated_home: Home,
    relocate: Callable[[Home], Home],
    name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    there = populated_home.folder / "pilots/p/attempts/2-1"
    there.mkdir(parents=True)
    (populated_home.attempts / "2-1").symlink_to(there)
    home = relocate(populated_home)

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        if name == "record":
            patch.setattr("launcher.queue.store.relocation.record_relocation", fail)
        else:
            patch.setattr(Path, name, fail)
        with pytest.raises(StoreError, match="No space left"):
            jobs_in(home)
    jobs_in(home)
    assert (home.attempts / "2-1").readlink() == home.folder / "pilots/p/attempts/2-1"


def test_links_are_correct_after_the_queue_folder_was_moved(
    home: Home, store: Store, tmp_path: Path
) -> None:
    store.close()
    inner = Home(tmp_path / "outer/inner")
    inner.folder.parent.mkdir()
    home.folder.rename(inner.folder)
    check_home(inner)
    Store(inner).close()
    there = inner.folder / "pilots/p/attempts/2-1"
    there.mkdir(parents=True)
    inner.attempts.mkdir(exist_ok=True)
    (inner.attempts / "2-1").symlink_to(there)
    aside, outer = tmp_path / "aside", Home(tmp_path / "outer")
    inner.folder.rename(aside)
    outer.folder.rmdir()
    aside.rename(outer.folder)
    Store(outer).close()
    assert (outer.attempts / "2-1").readlink() == outer.folder / "pilots/p/attempts/2-1"


def test_runs_inside_the_queue_folder_move_with_it(home: Home, store: Store) -> None:
    output = f"{home.folder}/runs/add/jobs/x/out.txt"
    for root, name in ((str(home.folder), "inside"), ("/elsewhere", "outside")):
        spec = a_spec(name=name, root=root, run="add", outputs=(output,))
        enqueue(store, spec, run="add", root=Path(root))
    renamed = a_spec(name="renamed", root=str(home.folder), run="add", outputs=(output,))
    number = enqueue(store, renamed, run="add", root=home.folder)[0]
    finished(store, number)
    with store.database.writing():
        store.job_control.rename_ended(number, f"renamed@{number}")
    assert job_row(store, number).id in [row.id for row in store.read.programs_by_output()[output]]
    store.close()
    new = move_home(home)
    rows = jobs_in(new)
    assert rows[f"renamed@{number}"].spec_without_sources.root == str(new.folder)
    assert (rows["inside"].root, rows["outside"].root) == (str(new.folder), "/elsewhere")
    spec = rows["inside"].spec_without_sources
    assert spec.run_folder == new.folder / "runs/add"
    assert spec.outputs == (f"{new.folder}/runs/add/jobs/x/out.txt",)


def test_command_reports_that_its_queue_folder_is_a_copy(
    populated_home: Home, launcher: Launcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = copy_home(populated_home)
    monkeypatch.setenv("LAUNCHER_HOME", str(copy.folder))
    checks = launcher("doctor").out.splitlines()
    assert (
        f"queue folder\twarning\t{copy.folder} is a copy of {populated_home.folder}"
        in "\n".join(checks)
    )
    said = launcher.well("release", "waits", "--dry-run").err
    assert (
        f"the queue folder {copy.folder} is a copy of {populated_home.folder}. Its 2 unfinished"
        in said
    )
    assert launcher.well("status").err == ""


def test_damaged_database_stays_in_the_moved_queue_folder(home: Home, store: Store) -> None:
    store.close()
    home.database.write_bytes(b"x" * 8192)
    with pytest.raises(StoreError, match="was found damaged"):
        Store(home)
    new = move_home(home)
    (kept,) = new.damaged.iterdir()
    with pytest.raises(StoreError, match=f"it was moved to {kept}"):
        Store(new)
    assert not home.folder.exists()


def test_moved_queue_folder_keeps_its_pilot_folder_and_a_copy_does_not(
    populated_home: Home, tmp_path: Path
) -> None:
    pilots = tmp_path / "pilots"
    acquire_folder(pilots, populated_home)
    copy = copy_home(populated_home)
    jobs_in(copy)
    home = move_home(populated_home)
    jobs_in(home)
    acquire_folder(pilots, home)
    with pytest.raises(FolderTaken):
        acquire_folder(pilots, copy)
