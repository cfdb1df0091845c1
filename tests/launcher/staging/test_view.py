import threading
from pathlib import Path

import pytest

from launcher.queue.staging.earlier_stages import take_earlier_stage
from launcher.queue.staging.stages import STAGES_FOLDER
from launcher.queue.staging.view import NotWritable, make_stage
from tests.launcher.staging.attempts import MODEL, Study, files_in, write


def test_files_of_an_attempt_are_private_until_it_is_accepted(tmp_path: Path) -> None:
    study = Study(tmp_path)
    study.accepted({f"{MODEL}/best.pt": "old", f"{MODEL}/scores/b.csv": "0.5"})
    view = study.begin()
    write(view / MODEL / "best.pt", "new")
    write(view / MODEL / "scores" / "c.csv", "0.7")
    write(view / "code" / "f00.zip", "archive")
    assert (view / MODEL / "best.pt").read_text() == "new"
    assert study.results() == {f"{MODEL}/best.pt": "old", f"{MODEL}/scores/b.csv": "0.5"}
    study.end()
    assert study.results() == {
        f"{MODEL}/best.pt": "new",
        f"{MODEL}/scores/b.csv": "0.5",
        f"{MODEL}/scores/c.csv": "0.7",
        "code/f00.zip": "archive",
    }


def test_attempt_sees_accepted_files(tmp_path: Path) -> None:
    study = Study(tmp_path, "b:pre/poison.json", "table.csv", f"{MODEL}/cells/c/1.npz")
    own = {
        f"{MODEL}/best.pt": "a", f"{MODEL}/images/c/Fake/1.png": "x", "b:pre/poison.json": "p",
        "table.csv": "1", f"{MODEL}/cells/c/1.npz": "1", f"{MODEL}/cells/c/2.npz": "2",
        f"{MODEL}/cells/d/2.npz": "2",
    }  # fmt: skip
    files = own | {"b:pre/best.pt": "b", "made/x/made.json": "{}", "notes.txt": "n"}
    study.accepted(files)
    view = study.begin()
    assert {name: (view / name).read_text() for name in own} == own
    assert {name: (study.view.accepted / name).read_text() for name in files} == files
    assert not (view / "b:pre" / "best.pt").exists()


def test_finished_attempt_leaves_no_staging_folder(tmp_path: Path) -> None:
    study = Study(tmp_path)
    write(study.begin() / MODEL / "best.pt", "new")
    study.end()
    assert [path.name for path in study.run.iterdir()] == [MODEL]


def test_attempt_without_output_leaves_no_folder(tmp_path: Path) -> None:
    study = Study(tmp_path)
    study.begin()
    study.end()
    assert not [*study.run.iterdir()]


def test_deletions_of_an_attempt_are_applied_on_acceptance(tmp_path: Path) -> None:
    study = Study(tmp_path)
    study.accepted({f"{MODEL}/checkpoints/resume.pt": "3", f"{MODEL}/plane/x": "", "b:pre/x": "x"})
    view = study.begin()
    (view / MODEL / "checkpoints" / "resume.pt").unlink()
    (view / MODEL / "plane" / "x").unlink()
    (view / MODEL / "plane").rmdir()
    assert (study.run / MODEL / "checkpoints" / "resume.pt").exists()
    study.end()
    assert study.results() == {"b:pre/x": "x"}
    assert not (study.run / MODEL / "plane").exists()


def test_files_made_meanwhile_by_other_attempts_stay(tmp_path: Path) -> None:
    study = Study(tmp_path)
    study.accepted({f"{MODEL}/best.pt": "a"})
    view = study.begin()
    write(view / MODEL / "scores" / "b.csv", "0.5")
    study.accepted({f"{MODEL}/scores/c.csv": "0.7", f"{MODEL}/best.pt": "later"})
    study.end()
    assert study.results() == {
        f"{MODEL}/best.pt": "later",
        f"{MODEL}/scores/b.csv": "0.5",
        f"{MODEL}/scores/c.csv": "0.7",
    }


def test_new_folder_replaces_the_earlier_one_as_a_whole(tmp_path: Path) -> None:
    study = Study(tmp_path, "made/faces")
    study.accepted({"made/faces/old.png": "old", "made/others/1.png": "other"})
    view = study.begin()
    assert not (view / "made" / "faces").exists()
    write(view / "made" / "faces" / "new.png", "new")
    study.end()
    assert study.results() == {"made/faces/new.png": "new", "made/others/1.png": "other"}


def test_links_created_by_an_attempt_are_results(tmp_path: Path) -> None:
    study = Study(tmp_path)
    study.accepted({f"{MODEL}/best.pt": "a"})
    view = study.begin()
    (view / MODEL / "latest.pt").symlink_to("best.pt")
    study.end()
    assert (study.run / MODEL / "latest.pt").read_text() == "a"


def test_model_folder_on_another_disk_is_written_into(tmp_path: Path) -> None:
    study = Study(tmp_path)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    study.run.mkdir(parents=True)
    (study.run / MODEL).symlink_to(elsewhere)
    view = study.begin()
    write(view / MODEL / "best.pt", "new")
    assert not (elsewhere / "best.pt").exists()
    study.end()
    assert (study.run / MODEL).is_symlink()
    assert (elsewhere / "best.pt").read_text() == "new"


def test_run_on_another_disk_has_its_staging_folders_there(tmp_path: Path) -> None:
    study = Study(tmp_path)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    study.run.parent.mkdir(parents=True)
    study.run.symlink_to(elsewhere)
    study.accepted({f"{MODEL}/best.pt": "old", "b:pre/best.pt": "b"})
    view = study.begin()
    assert (view / MODEL / "best.pt").read_text() == "old"
    assert (study.view.accepted / "b:pre" / "best.pt").read_text() == "b"
    write(view / MODEL / "best.pt", "new")
    study.end()
    assert files_in(elsewhere) == {f"{MODEL}/best.pt": "new", "b:pre/best.pt": "b"}


def test_abandoned_attempt_cannot_write_any_more(tmp_path: Path) -> None:
    study = Study(tmp_path)
    zombie = study.begin()
    write(zombie / MODEL / "best.pt", "old")
    write(study.begin() / MODEL / "best.pt", "new")
    with pytest.raises(OSError, match="runs"):
        write(zombie / MODEL / "best.pt", "late")
    with pytest.raises(OSError, match="runs"):
        write(zombie.parent / ".accepted" / "shared.zip", "late")
    study.end()
    for late in ("best.pt", "late.pt", "more/late.pt"):
        with pytest.raises(OSError, match="runs"):
            write(zombie / MODEL / late, "late")
    assert study.results() == {f"{MODEL}/best.pt": "new"}
    assert [path.name for path in study.run.iterdir()] == [MODEL]


def test_next_attempt_resumes_from_the_files_of_the_previous_one(tmp_path: Path) -> None:
    study = Study(tmp_path)
    study.accepted({f"{MODEL}/best.pt": "old", f"{MODEL}/plane.npz": "p", f"{MODEL}/x": "x"})
    view = study.begin()
    write(view / MODEL / "checkpoints" / "resume.pt", "epoch 3")
    write(view / MODEL / "best.pt", "epoch 2")
    (view / MODEL / "plane.npz").unlink()
    (view / MODEL / ".0123456789abcdef.tmp").write_text("half")
    view = study.begin()
    assert {str(path.relative_to(view)) for path in view.rglob("*") if path.is_file()} == {
        f"{MODEL}/best.pt", f"{MODEL}/x", f"{MODEL}/checkpoints/resume.pt",
    }  # fmt: skip
    assert (view / MODEL / "checkpoints" / "resume.pt").read_text() == "epoch 3"
    view = study.begin()  # it is killed before it has done anything
    assert (view / MODEL / "best.pt").read_text() == "epoch 2"
    (view / MODEL / "checkpoints" / "resume.pt").unlink()
    assert study.results()[f"{MODEL}/best.pt"] == "old"
    study.end()
    assert study.results() == {f"{MODEL}/best.pt": "epoch 2", f"{MODEL}/x": "x"}


def test_incomplete_staging_folder_is_skipped(tmp_path: Path) -> None:
    study = Study(tmp_path)
    write(study.begin() / MODEL / "resume.pt", "epoch 3")
    study.begin()
    stage = study.stage()
    Path(stage.folder).rename(stage.with_suffix(".making").folder)  # as its worker was killed
    assert (study.begin() / MODEL / "resume.pt").read_text() == "epoch 3"


def test_nothing_is_inherited_from_an_accepted_attempt(tmp_path: Path) -> None:
    study = Study(tmp_path)
    write(study.begin() / MODEL / "resume.pt", "1")
    view = study.begin()
    (view / MODEL / "resume.pt").unlink()
    write(view / MODEL / "best.pt", "2")
    study.end()
    assert [path.name for path in (study.begin() / MODEL).iterdir()] == ["best.pt"]
    assert len([*(study.run / ".attempts").iterdir()]) == 1


def test_attempt_abandoned_during_staging_gets_no_staging_folder(tmp_path: Path) -> None:
    """It may have been frozen then; without a stage, it would write into what was accepted."""
    study = Study(tmp_path)
    study.accepted({f"{MODEL}/images/{number}.png": "" for number in range(3000)})
    stages, over = study.run / STAGES_FOLDER, threading.Event()

    def give_up() -> None:
        while not over.is_set():
            if stages.exists() and [*stages.iterdir()]:
                take_earlier_stage(study.home, 7, 2, study.run)

    def begin() -> None:
        while True:  # until who takes it away is the quicker one
            make_stage(study.attempt(1), study.run, study.wanted, job=7, attempt_number=1)
            (study.attempt(1).folder / "runs").unlink()

    study.attempt(1).folder.mkdir(parents=True)
    thread = threading.Thread(target=give_up)
    thread.start()
    try:
        with pytest.raises(FileNotFoundError):
            begin()
    finally:
        over.set()
        thread.join()


def test_no_project_means_no_staging_folder(tmp_path: Path) -> None:
    study = Study(tmp_path)
    study.run.parents[1].rmdir()
    with pytest.raises(NotWritable):
        study.begin()
    assert [*study.attempt(1).folder.iterdir()] == []
