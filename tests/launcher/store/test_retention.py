import os
import shutil
import socket
import subprocess
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.queue.home.paths import Attempt, Home
from launcher.queue.jobs.states import ENDED_STATES, Done, Failed, ReasonCode, State
from launcher.queue.store.forgotten_jobs import ForgottenJob, add_forgotten
from launcher.queue.store.queue import Store
from launcher.queue.store.retention import (
    RetentionRules,
    attempt_folders,
    deletable_bytes,
    delete_attempt_folder,
    deletion_refusal,
    select_deletable,
)
from launcher.queue.store.rows import JobRow
from tests.build import a_reason, a_spec, an_attempt, enqueue, in_state, program_of, until
from tests.launcher.conftest import Launcher
from tests.launcher.queued import end
from tests.terminal import COMMAND, in_a_terminal, seen


def finished(home: Home, store: Store, name: str, *, at: float = 2.0, error: str = "") -> int:
    """A job that has ended and left a folder."""
    (job,) = enqueue(store, a_spec(name=name))
    attempt = an_attempt(home, a_spec(name=name), job=job)
    attempt.log.write_bytes(b"x" * 8192)
    outcome = Failed(at=at, error=error) if error else Done(at=at)
    end(store, job, outcome, now=at)
    return job


def finished_on_pilot(home: Home, store: Store, pilot: Path) -> int:
    """A job that has ended on a pilot, in whose folder its attempt lies."""
    job = finished(home, store, "command/there")
    (pilot / "attempts").mkdir(parents=True)
    here, there = home.attempt(job, 1).folder, pilot / "attempts" / f"{job}-1"
    here.rename(there)
    here.symlink_to(there)
    return job


def test_attempt_on_a_pilot_is_deleted_with_its_link(
    home: Home, store: Store, tmp_path: Path
) -> None:
    job = finished_on_pilot(home, store, tmp_path / "pilot")
    (row,) = store.read.jobs_by_id([job])
    folders = attempt_folders(home, row)
    assert [deletion_refusal(folder) for folder in folders] == [None, None]
    assert sum(map(deletable_bytes, folders)) >= 8192
    assert [delete_attempt_folder(folder) for folder in folders] == [None, None]
    assert not [*(tmp_path / "pilot" / "attempts").iterdir()]
    assert not [*home.attempts.iterdir()]


def test_link_to_an_attempt_on_a_pilot_stays_while_its_folder_exists(
    home: Home, store: Store, tmp_path: Path
) -> None:
    job = finished_on_pilot(home, store, tmp_path / "pilot")
    there = tmp_path / "pilot" / "attempts" / f"{job}-1"
    (there / "spec.json").unlink()  # its job cannot be determined
    (row,) = store.read.jobs_by_id([job])
    assert [
        left and left.why for left in map(delete_attempt_folder, attempt_folders(home, row))
    ] == [
        "is not the folder of an attempt",
        f"{there} still exists",
    ]


@pytest.mark.parametrize(
    "target", ["/etc", "../elsewhere", "/pilot/attempts/9-9", "/pilot/1-1", "../../attempts/1-1"]
)
def test_link_that_does_not_point_to_an_attempt_of_a_pilot_is_refused(
    home: Home, store: Store, target: str
) -> None:
    job = finished(home, store, "command/odd")
    folder = home.attempt(job, 1).folder
    shutil.rmtree(folder)
    folder.symlink_to(target)
    (row,) = store.read.jobs_by_id([job])
    (attempt,) = attempt_folders(home, row)
    assert deletion_refusal(attempt) is not None
    assert delete_attempt_folder(attempt) is not None
    assert folder.is_symlink()


def names(store: Store) -> list[str]:
    return [job.name for job in store.read.jobs()]


# --- the rules


def a_row(number: int, *, ended: float | None = 0.0, **changes: object) -> JobRow:
    """A job that is done."""
    row = JobRow(
        id=number,
        name=f"train/{number}",
        run="test",
        run_id=1,
        root="/nowhere",
        kind="command",
        state=State.DONE,
        priority=0,
        waits=0,
        wish="",
        hash="",
        attempts=1,
        failures=0,
        lost=0,
        state_reason=a_reason("done", ReasonCode.DONE),
        lane_reason=None,
        starts_at=None,
        submitted=0.0,
        ended=ended,
        spec_text="{}",
        outputs={},
    )
    return replace(row, **changes)  # type: ignore[arg-type]  # any field may be named


def select_ids(rows: list[JobRow], rules: RetentionRules, now: float = 100.0) -> list[int]:
    ended = [row for row in rows if row.state in ENDED_STATES]
    return [row.id for row in select_deletable(rows, rules, ended_jobs=ended, now=now)]


def test_every_retention_rule_keeps_some_jobs() -> None:
    rows = [
        a_row(1, ended=10.0),
        a_row(2, ended=60.0),
        a_row(3, ended=20.0, state=State.FAILED),
        a_row(4, ended=None, state=State.QUEUED),
        a_row(5, ended=None, state=State.RUNNING),
        a_row(6, ended=90.0, run_id=2, state=State.CANCELLED),
    ]
    assert select_ids(rows, RetentionRules()) == [1, 2, 3, 6]
    assert select_ids(rows, RetentionRules(min_age_s=40.0)) == [1, 2, 3]
    assert select_ids(rows, RetentionRules(min_age_s=40.1)) == [1, 3]
    assert select_ids(rows, RetentionRules(states=frozenset({State.FAILED, State.CANCELLED}))) == [
        3,
        6,
    ]
    assert select_ids(rows, RetentionRules(keep_newest=1)) == [1, 3], "the newest of each run stay"
    assert select_ids(rows, RetentionRules(keep_newest=2)) == [1]
    assert select_ids(rows, RetentionRules(keep_newest=1, states=frozenset({State.DONE}))) == [1]


@given(
    st.lists(
        st.tuples(st.sampled_from(State), st.integers(0, 100), st.integers(1, 3)), max_size=30
    ),
    st.integers(0, 100),
    st.integers(0, 4),
)
def test_protected_jobs_are_kept(
    told: list[tuple[State, int, int]], older_s: int, keep: int
) -> None:
    rows = [
        a_row(number, state=state, ended=float(at) if state in ENDED_STATES else None, run_id=run)
        for number, (state, at, run) in enumerate(told)
    ]
    gone = set(select_ids(rows, RetentionRules(min_age_s=older_s, keep_newest=keep)))
    for row in rows:
        if row.id in gone:
            assert row.state in ENDED_STATES
            assert (row.ended or 0.0) <= 100.0 - older_s
            newer = [
                one
                for one in rows
                if one.run_id == row.run_id
                and one.id not in gone
                and (one.ended or -1.0) >= (row.ended or 0.0)
            ]
            assert len(newer) >= keep


# --- the folders


def test_folder_is_deleted_with_its_contents(home: Home) -> None:
    attempt = an_attempt(home, a_spec())
    (attempt.folder / "deep" / "deeper").mkdir(parents=True)
    (attempt.folder / "deep" / "deeper" / "file").write_bytes(b"x" * 100_000)
    os.mkfifo(attempt.folder / "pipe")
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(attempt.folder / "socket"))
    assert deletable_bytes(attempt) >= 100_000
    assert deletion_refusal(attempt) is None
    assert delete_attempt_folder(attempt) is None
    assert not attempt.folder.exists()


def test_links_are_removed_and_their_targets_are_kept(home: Home, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "model.pt").write_bytes(b"x" * 100_000)
    attempt = an_attempt(home, a_spec())
    (attempt.folder / "folder").symlink_to(precious)
    (attempt.folder / "file").symlink_to(precious / "model.pt")
    (attempt.folder / "inner").mkdir()
    (attempt.folder / "inner" / "up").symlink_to("../../..")
    (attempt.folder / "log").hardlink_to(precious / "model.pt")
    assert deletable_bytes(attempt) < 100_000, "what has another name is not freed"
    assert delete_attempt_folder(attempt) is None
    assert not attempt.folder.exists()
    assert (precious / "model.pt").read_bytes() == b"x" * 100_000


def test_order_that_is_hard_linked_as_start_record_counts_once(home: Home) -> None:
    attempt = an_attempt(home, a_spec())
    before = deletable_bytes(attempt)
    attempt.started.hardlink_to(attempt.spec)
    assert deletable_bytes(attempt) == before > 0


def test_rmtree_of_python_resists_symlink_attacks() -> None:
    assert shutil.rmtree.avoids_symlink_attacks


def _without_order(attempt: Attempt) -> None:
    attempt.spec.unlink()
    attempt.log.touch()


def _with(text: str) -> Callable[[Attempt], None]:
    def spoil(attempt: Attempt) -> None:
        attempt.spec.write_text(text)

    return spoil


def _with_a_linked_order(attempt: Attempt) -> None:
    attempt.spec.rename(attempt.folder / "other")
    attempt.spec.symlink_to("other")


def _with_a_pipe_for_an_order(attempt: Attempt) -> None:
    attempt.spec.unlink()
    os.mkfifo(attempt.spec)


def _with_a_huge_order(attempt: Attempt) -> None:
    with attempt.spec.open("r+b") as file:
        file.truncate(1 << 40)


@pytest.mark.parametrize(
    "spoil",
    [
        _without_order,
        _with(""),
        _with("[]"),
        _with('{"spec": {}, "context": {}}'),
        _with('{"spec": {}, "context": {}, "number": 1}'),
        _with('{"spec": {}, "context": {}, "number": 2, "job": 1}'),
        _with('{"spec": {}, "context": {}, "number": 1, "job": 2}'),
        _with('{"spec": "", "context": {}, "number": 1, "job": 1}'),
        _with_a_linked_order,
        _with_a_pipe_for_an_order,
        _with_a_huge_order,
    ],
)
def test_folder_without_its_order_is_kept(home: Home, spoil: Callable[[Attempt], None]) -> None:
    attempt = an_attempt(home, a_spec())
    spoil(attempt)
    before = sorted(attempt.folder.iterdir())
    left = delete_attempt_folder(attempt)
    assert left is not None
    assert left.why == deletion_refusal(attempt) == "is not the folder of an attempt"
    assert sorted(attempt.folder.iterdir()) == before


def test_link_in_place_of_a_folder_is_kept(home: Home, tmp_path: Path) -> None:
    real = an_attempt(home, a_spec(), job=2)
    link = home.attempt(1, 1)
    link.folder.symlink_to(real.folder)
    assert delete_attempt_folder(link) is not None
    assert real.spec.exists()
    assert link.folder.is_symlink()


def test_folder_of_another_user_is_kept(home: Home) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder away")
    attempt = an_attempt(home, a_spec())
    os.chown(attempt.folder, 12345, 12345)
    left = delete_attempt_folder(attempt)
    assert left is not None
    assert left.why == "belongs to another user"
    assert attempt.spec.exists()


def test_missing_folder_is_no_error(home: Home) -> None:
    assert delete_attempt_folder(home.attempt(1, 1)) is None


def test_rest_of_an_interrupted_deletion_is_deleted_by_the_next_one(home: Home) -> None:
    attempt = an_attempt(home, a_spec())
    attempt.folder.rename(home.attempts / ".1-1.gone")
    empty = home.attempt(1, 2)
    empty.folder.mkdir()
    row = a_row(1, attempts=2)
    assert len(attempt_folders(home, row)) == 2
    assert [delete_attempt_folder(folder) for folder in attempt_folders(home, row)] == [None, None]
    assert list(home.attempts.iterdir()) == []


# --- the verb


def test_ended_jobs_are_deleted_with_their_folders(
    launcher: Launcher, home: Home, store: Store
) -> None:
    first = finished(home, store, "train/a")
    finished(home, store, "train/b", error="no")
    (other,) = enqueue(store, a_spec(name="train/c"))
    dry = launcher("clean", "train/", "-n")
    assert dry.code == 0
    told = "1\ttrain/a\t{0}deleted, done\n2\ttrain/b\t{0}deleted, failed\n"
    assert dry.out == told.format("would be ")
    assert dry.err.endswith("nothing was changed (dry run)\n")
    assert dry.err.startswith("2 jobs would be deleted, ")
    assert home.attempt(first, 1).spec.exists()
    real = launcher("clean", "train/", "--yes")
    assert (real.code, real.out) == (0, told.format(""))
    freed = dry.err.removeprefix("2 jobs would be deleted, ").partition(" would")[0]
    assert real.err == f"2 jobs deleted, {freed} freed\n"
    assert list(home.attempts.iterdir()) == []
    assert [job.id for job in store.read.jobs()] == [other]


def test_age_state_and_number_select_jobs(launcher: Launcher, home: Home, store: Store) -> None:
    for number, error in enumerate(("", "no", "", "no")):
        finished(home, store, f"train/{number}", error=error)
    assert launcher("clean", "--older", "99d", "--keep", "4", "-n").out == ""
    launcher("clean", "--state", "failed,cancelled", "--keep", "1", "--yes")
    assert names(store) == ["train/0", "train/2", "train/3"]
    launcher("clean", "--older", "30d", "--yes")
    assert names(store) == []
    answer = launcher("clean", "--older", "30d", "--yes")
    assert (answer.code, answer.err) == (0, "nothing to clean\n")


def test_dependencies_of_an_open_job_are_kept(launcher: Launcher, home: Home, store: Store) -> None:
    first = finished(home, store, "train/a")
    launcher("add", "--hold", "--after", "train/a", "--", "true")
    answer = launcher("clean", "train/a", "--yes")
    assert answer.code == 2
    assert (
        "nothing to clean. The matching jobs have not ended, are needed by others, or are kept by an option"
        in answer.err
    )
    assert home.attempt(first, 1).spec.exists()
    launcher("cancel", "command/")
    assert launcher("clean", "train/a", "--yes").code == 0
    assert not home.attempt(first, 1).folder.exists()


def test_running_job_is_never_deleted(launcher: Launcher, home: Home, store: Store) -> None:
    launcher("add", "--", "sleep", "60")
    program_of(home.attempt(1, 1))
    assert launcher("clean", "1", "--yes").code == 2
    assert in_state(store, 1, State.RUNNING)
    assert home.attempt(1, 1).log.exists()


def test_folder_of_another_program_is_reported_and_its_job_is_kept(
    launcher: Launcher, home: Home, store: Store
) -> None:
    job = finished(home, store, "train/a")
    finished(home, store, "train/b")
    folder = home.attempt(job, 1).folder
    (folder / "spec.json").write_text("{}")
    dry = launcher("clean", "train/", "-n")
    real = launcher("clean", "train/", "--yes")
    for answer in (dry, real):
        assert f"not deleted: {folder}: is not the folder of an attempt\n" in answer.err
    assert real.code == 3
    assert "1 folder could not be deleted" in real.err
    assert names(store) == ["train/a"]
    assert (folder / "log").exists()


def test_jobs_without_folders_are_deleted(launcher: Launcher, home: Home, store: Store) -> None:
    job = finished(home, store, "train/a")
    shutil.rmtree(home.attempt(job, 1).folder)
    assert launcher("clean", "train/a", "--yes").err == "1 job deleted, 0 B freed\n"
    assert names(store) == []


def test_clean_requires_a_rule_and_a_confirmation(
    launcher: Launcher, home: Home, store: Store
) -> None:
    finished(home, store, "train/a")
    for words, message in (
        (
            (),
            "nothing selected. Choose jobs with a PATTERN, --older 30d, --state failed or --keep N.",
        ),
        (("--yes",), "nothing selected"),
        (("train/a",), "Without a terminal, add --yes"),
        (("--older", "30"), "'30' has no unit"),
        (("--state", "done,running"), "running jobs have not ended. Cancel them first."),
        (("--keep", "0"), "expected a whole number of at least 1"),
    ):
        answer = launcher("clean", *words)
        assert answer.code == 2
        assert message in answer.err
    assert names(store) == ["train/a"]


def test_clean_asks_for_confirmation_in_a_terminal(home: Home, store: Store) -> None:
    job = finished(home, store, "train/a")
    drawn = in_a_terminal("clean", "--older", "1d", columns=100, typed="n\n", code=130)
    assert "1  train/a  done\ndelete 1 job with the logs? [y/N]: " in drawn
    assert drawn.endswith("nothing was changed\n")
    assert in_state(store, job, State.DONE)
    in_a_terminal("clean", "--older", "1d", columns=100, typed="y\n")
    assert names(store) == []


def test_killed_clean_is_completed_by_the_next_one(
    launcher: Launcher, home: Home, store: Store
) -> None:
    jobs = [finished(home, store, f"train/{number}") for number in range(40)]
    for job in jobs:
        for number in range(50):
            (home.attempt(job, 1).folder / f"file{number}").touch()
    first = home.attempt(jobs[0], 1)
    client = subprocess.Popen([*COMMAND, "clean", "train/", "--yes"], stdout=subprocess.DEVNULL)
    until(lambda: not first.folder.exists(), "it has begun")
    client.kill()
    client.wait()
    assert launcher("clean", "--older", "0s", "--yes").code == 0
    assert names(store) == []
    assert list(home.attempts.iterdir()) == []


def test_job_queued_again_during_the_confirmation_keeps_its_files(home: Home, store: Store) -> None:
    jobs = [finished(home, store, f"train/{name}", error="no") for name in "ab"]
    with seen("clean", "train/", columns=100) as window:
        window.shows("delete 2 jobs with the logs? [y/N]")
        store.job_control.retry(jobs[:1], 5.0)
        window.type("y\n")
        window.shows("1 job changed or became needed meanwhile and was kept: train/a")
    assert names(store) == ["train/a"]
    assert home.attempt(jobs[0], 1).log.exists()
    assert not home.attempt(jobs[1], 1).folder.exists()


def test_job_that_an_open_job_needs_since_the_confirmation_keeps_its_files(
    home: Home, store: Store
) -> None:
    job = finished(home, store, "train/a")
    with seen("clean", "train/", columns=100) as window:
        window.shows("[y/N]")
        enqueue(store, a_spec(name="train/a"), a_spec(name="test/b"), run="other")
        with store.database.writing():
            store.set_dependencies(job + 2, [job], 5.0)
        window.type("y\n")
        window.shows("0 jobs deleted")
    assert in_state(store, job, State.DONE)
    assert home.attempt(job, 1).log.exists()


def test_job_that_ran_again_during_the_confirmation_keeps_its_files(
    home: Home, store: Store
) -> None:
    job = finished(home, store, "train/a", error="no")
    with seen("clean", "train/", columns=100) as window:
        window.shows("[y/N]")
        store.job_control.retry([job], 5.0)
        end(store, job, Failed(at=7.0, error="no"), now=7.0)
        window.type("y\n")
        window.shows("0 jobs deleted")
    assert in_state(store, job, State.FAILED)
    assert home.attempt(job, 1).log.exists()


def mark_forgotten(home: Home, store: Store, job: int) -> None:
    """As `clean` leaves a job that is killed before it deletes its folders."""
    (row,) = store.read.jobs_by_id([job])
    with store.database.writing():
        add_forgotten(home, [ForgottenJob(job, row.attempts, row.spec.run_folder)])
        assert store.job_control.delete_jobs([job]) == [job]


def test_rest_of_an_interrupted_clean_is_deleted_by_the_next_one(
    launcher: Launcher, home: Home, store: Store
) -> None:
    jobs = [finished(home, store, f"train/{number}") for number in range(3)]
    for job in jobs[:2]:
        mark_forgotten(home, store, job)
    launcher("clean", "--older", "30d", "--dry-run")
    assert home.attempt(jobs[0], 1).log.exists()
    answer = launcher.well("clean", "--state", "cancelled")
    assert answer.err.startswith(
        "deleted the folders of 2 jobs of an interrupted `launcher clean`, "
    )
    assert answer.err.endswith("nothing to clean\n")
    assert [folder.name for folder in home.attempts.iterdir()] == [f"{jobs[2]}-1"]
    assert launcher.well("clean", "--state", "cancelled").err == "nothing to clean\n"
    assert not home.forgotten_record.exists()


def test_listed_job_in_the_queue_does_not_count_as_deleted(
    launcher: Launcher, home: Home, store: Store
) -> None:
    job = finished(home, store, "train/a")
    with store.database.writing():  # and killed before the end of the transaction
        add_forgotten(home, [ForgottenJob(job, 1, home.folder)])
    assert launcher.well("clean", "--state", "cancelled").err == "nothing to clean\n"
    assert home.attempt(job, 1).log.exists()
    assert not home.forgotten_record.exists()


def test_a_folder_that_could_not_be_deleted_is_deleted_by_the_next_clean(
    launcher: Launcher, home: Home, store: Store
) -> None:
    job = finished(home, store, "train/a")
    folder = home.attempt(job, 1).folder
    in_the_way = home.attempts / f".{job}-1.gone"
    shutil.copytree(folder, in_the_way)  # so that the folder cannot get this name
    answer = launcher("clean", "train/a", "--yes")
    assert answer.code == 3
    assert f"not deleted: {folder}: Directory not empty" in answer.err
    assert "1 folder could not be deleted" in answer.err
    assert names(store) == []
    assert launcher.well("clean", "--older", "0s", "--yes").err.startswith(
        "deleted the folders of 1 job "
    )
    assert list(home.attempts.iterdir()) == []


def test_a_chain_of_jobs_is_cleaned_at_once_in_transactions_of_any_size(
    launcher: Launcher, home: Home, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("launcher.queue.store.connection.PORTION", 2)
    specs = [f"train/{number}" for number in range(5)]
    jobs = enqueue(store, *specs, needs={new: [old] for old, new in pairwise(specs)})
    end(store, jobs[0], Failed(at=2.0, error="no"))
    assert launcher.well("clean", "train/", "--yes").err.startswith("5 jobs deleted")
    assert names(store) == []
