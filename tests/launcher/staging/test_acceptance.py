import os
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from launcher.queue.staging import acceptance
from launcher.queue.staging.acceptance import hand_over
from tests.launcher.staging.attempts import MODEL, Study, files_in, write

CALLS = ("rename", "rmdir", "unlink", "replace", "mkdir")


class Killed(BaseException):
    """The scheduler was killed."""


class Fuse:
    """Stands for `os`: kills who uses it before, or after, its nth change of the disk."""

    def __init__(self, left: int, *, after: bool) -> None:
        self.left, self.after = left, after

    def guard(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(*words: Any, **named: Any) -> Any:
            self.left -= 1
            last = self.left == 0
            if last and not self.after:
                raise Killed
            try:
                return function(*words, **named)
            finally:
                if last:
                    raise Killed

        return guarded


def a_done_attempt(folder: Path) -> Study:
    """Return a study in which an attempt is done and not accepted: it made, replaced and deleted."""
    study = Study(folder, "made/faces", "made/long@lr=1", "table.csv")
    study.wanted = study.wanted._replace(renamed=("made/7", "made/long@lr=1"))
    study.accepted(
        {
            f"{MODEL}/best.pt": "old", f"{MODEL}/resume.pt": "3", f"{MODEL}/scores/b.csv": "0.5",
            f"{MODEL}/gone/x": "", "b:pre/best.pt": "b", "made/faces/old.png": "o", "table.csv": "0",
            "made/long@lr=1/old": "o", "made/long@lr=1/a/old": "o", "made/other": "x",
        }
    )  # fmt: skip
    study.begin()
    view = study.begin()
    write(view / MODEL / "best.pt", "new")
    write(view / MODEL / "scores" / "c.csv", "0.7")
    write(view / MODEL / "metrics" / "c.json", "{}")
    (view / MODEL / "resume.pt").unlink()
    shutil.rmtree(view / MODEL / "gone")
    write(view / "made" / "faces" / "new.png", "n")
    write(view / "table.csv", "1")
    write(view / "made" / "7" / "new", "n")
    write(view / "made" / "7" / "a" / "new", "n")
    return study


WHOLE = {
    f"{MODEL}/best.pt": "new", f"{MODEL}/scores/b.csv": "0.5", f"{MODEL}/scores/c.csv": "0.7",
    f"{MODEL}/metrics/c.json": "{}", "b:pre/best.pt": "b", "made/faces/new.png": "n", "table.csv": "1",
    "made/long@lr=1/new": "n", "made/long@lr=1/a/new": "n", "made/other": "x",
}  # fmt: skip


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_acceptance_killed_between_two_steps_is_completed_by_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, after: bool
) -> None:
    steps = 0
    while True:
        steps += 1
        study = a_done_attempt(tmp_path / str(steps))
        fuse = Fuse(steps, after=after)
        with monkeypatch.context() as patched:
            for name in CALLS:
                patched.setattr(os, name, fuse.guard(getattr(os, name)))
            try:
                study.end()
                assert fuse.left > 0
                break
            except Killed:
                pass
        study.accept()
        assert study.results() == WHOLE
        assert not (study.run / ".attempts").exists()
    assert study.results() == WHOLE
    assert steps > 20


def test_nothing_changes_before_the_decision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = a_done_attempt(tmp_path)
    before = study.results()
    acceptance.seal(study.stage())
    assert study.results() == before
    with monkeypatch.context() as patched:
        patched.setattr(os, "rename", Fuse(1, after=False).guard(os.rename))
        with pytest.raises(Killed):
            study.accept()
    assert study.results() == before


def test_full_disk_is_reported_again_by_the_next_try(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = a_done_attempt(tmp_path)
    with monkeypatch.context() as patched:

        def full(path: str, place: str) -> None:
            raise OSError(28, "No space left on device", place)

        patched.setattr(os, "rename", full)
        with pytest.raises(OSError, match="No space"):
            study.accept()
    study.accept()
    assert study.results() == WHOLE


def test_results_on_another_file_system_are_copied_and_appear_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = a_done_attempt(tmp_path)
    rename = os.rename

    def across(path: str, place: str) -> None:
        if "/.attempts/" in path and "/.attempts/" not in place:
            raise OSError(18, "Invalid cross-device link", place)
        rename(path, place)

    monkeypatch.setattr(os, "rename", across)
    study.end()
    assert study.results() == WHOLE


def test_files_listed_late_by_a_network_file_system_are_moved_once_visible(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = a_done_attempt(tmp_path)
    hand_over(study.attempt(study.number), study.run)
    scandir = os.scandir
    with monkeypatch.context() as patched:

        def late(path: str) -> AbstractContextManager[list["os.DirEntry[str]"]]:
            return nullcontext([entry for entry in scandir(path) if entry.name != "table.csv"])

        patched.setattr(os, "scandir", late)
        with pytest.raises(OSError, match="not empty"):
            study.accept()
    study.accept()
    assert study.results() == WHOLE
    assert not (study.run / ".attempts").exists()


def test_temporarily_missing_name_blocks_no_other_move(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = a_done_attempt(tmp_path)
    hand_over(study.attempt(study.number), study.run)
    rename = os.rename

    def stale(path: str, place: str) -> None:
        if place == f"{study.run}/table.csv":
            raise FileNotFoundError(2, "No such file or directory", path)
        rename(path, place)

    with monkeypatch.context() as patched:
        patched.setattr(os, "rename", stale)
        with pytest.raises(FileNotFoundError):
            study.accept()
    study.accept()
    assert study.results() == WHOLE


def test_links_with_a_lost_record_replace_nothing(tmp_path: Path) -> None:
    study = Study(tmp_path)
    study.accepted({f"{MODEL}/best.pt": "old", "b:pre/best.pt": "b"})
    write(study.begin() / MODEL / "scores.csv", "1")
    Path(study.stage().links_record).unlink()
    study.accept()
    assert study.results() == {
        f"{MODEL}/best.pt": "old",
        f"{MODEL}/scores.csv": "1",
        "b:pre/best.pt": "b",
    }


def test_accepting_twice_changes_nothing(tmp_path: Path) -> None:
    study = a_done_attempt(tmp_path)
    study.end()
    study.accepted({f"{MODEL}/resume.pt": "of a later attempt"})
    study.accept()
    assert study.results() == WHOLE | {f"{MODEL}/resume.pt": "of a later attempt"}


def test_names_that_lead_out_of_the_run_are_ignored(tmp_path: Path) -> None:
    study = a_done_attempt(tmp_path)
    (study.run.parent / "other").write_text("kept")
    Path(study.stage().links_record).write_text(
        '{"links": ["../other", 7, "/etc/x"], "gone": ["../other"]}'
    )
    study.end()
    assert files_in(study.run.parent)["other"] == "kept"
