"""Forging as a job, as a section of task files, and as a command."""

import shlex
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from launcher.api import Draft, JobError, Kind, parse_data, parse_model, read_json
from tests.trueface.data.forging.build import a_table
from tests.trueface.jobs import build
from trueface.cli import main as cli
from trueface.data.dataset_file import read_words
from trueface.jobs.forging.forge import forge
from trueface.jobs.forging.kind import FORGE
from trueface.jobs.kinds import TEST, TRAIN, UNLEARN
from trueface.jobs.training import train
from trueface.runtime import paths


def a_draft(kind: Kind, folder: Path, model: str | None = None, /, **settings: Any) -> Draft:
    return build.a_draft(
        kind, folder, {"data_root": "made", **settings}, model=model,
        base=None if model is None or "~" not in model else model.partition("~")[0],
        data=None if model is None else str(parse_model(model).last.data),
    )  # fmt: skip


STUDY = """
name: study
defaults: {data_root: made, split_path: made/splits}
subsets: {forged: [Faces, "Forged-*"], realFaces: [Faces]}
forge:
  - {faces: faces.csv, cells: "CELLS"}
train:
  - {model: null, data: "forged:pre"}
autotest: ["forged:pre"]
"""


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    a_table(tmp_path, (0, 5), {"train": 2, "val": 1, "test": 1})
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_forging_section_runs_before_jobs_that_train_on_its_images(lab: Path) -> None:
    text = STUDY.replace("CELLS", "male/fake: .5")
    plan = build.plan_text(text, (TRAIN, TEST, FORGE), lab)
    assert [job.kind for job in plan.jobs] == ["forge", "train", "test"]
    assert plan.jobs[1].needs == (plan.jobs[0].name,)


def test_values_missing_from_table_are_rejected_at_planning(lab: Path) -> None:
    (said,) = FORGE.refusals(a_draft(FORGE, lab, faces="faces.csv", cells="femal: .5"), ())
    assert "unknown group 'femal'" in said
    (lab / "faces.csv").write_text("images/000.png,0\n")
    (said,) = FORGE.refusals(a_draft(FORGE, lab, faces="faces.csv"), ())
    assert "the header row is missing" in said


def test_command_line_of_planned_job_creates_the_same_dataset(
    lab: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings: dict[str, Any] = {
        "types": "self,3,soft",
        "strength": 1.5,
        "seed": 7,
        "cells": "male/fake: .5",
    }
    words = FORGE.argv(a_draft(FORGE, lab, faces="faces.csv", **settings))
    assert shlex.join(words[3:]) == (
        f"forge {lab}/faces.csv --out {lab}/made --types 1,3,5 --strength 1.5 --seed 7 "
        "--cells 'male/fake: .5'"
    )
    assert cli.run(words[3:]) == 0
    assert capsys.readouterr().out == f"{lab}/made\t15 images\n"
    assert cli.run(words[3:]) == 0  # it is there
    assert cli.run([*words[3:], "--seed", "8"]) == 2
    assert "other settings" in capsys.readouterr().err


def test_preview_needs_no_dataset(lab: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["forge", "faces.csv", "--preview", "look.png"]) == 0
    assert (lab / "look.png").stat().st_size > 1000
    assert not (lab / "made").exists()
    assert cli.run(["forge", "faces.csv"]) == 2
    assert "--out FOLDER" in capsys.readouterr().err
    assert cli.run(["forge", "images", "--out", "made", "--types", "swop"]) == 2
    assert "Did you mean 'swap'" in capsys.readouterr().err


def test_stopped_job_reports_progress_and_leaves_no_files(lab: Path) -> None:
    stop = threading.Event()
    stop.set()
    job = build.job_of(a_draft(FORGE, lab, faces="faces.csv"), FORGE, stop=stop)
    with pytest.raises(JobError, match="stopped after 8 of 8 pairs"):
        forge(job)
    assert not (lab / "made").exists()


@pytest.mark.parametrize("frozen", [True, False])
def test_detector_trains_on_forged_faces_and_self_blended_real_faces(
    lab: Path, monkeypatch: pytest.MonkeyPatch, *, frozen: bool
) -> None:
    monkeypatch.setenv("TRUEFACE_CACHE", str(lab / "cache"))
    torch.set_num_threads(1)
    forge(build.job_of(a_draft(FORGE, lab, faces="faces.csv"), FORGE))
    draft = a_draft(
        TRAIN, lab, "forged:pre", split_path="made/splits", sbi=0.5, num_epochs=2, augment_cycle=2,
        model="slim18", weights="none", resize_size=32, batch_size=4, freeze=frozen,
    )  # fmt: skip
    words = read_words(lab / "made")
    images = str(TRAIN.with_words(words).images(parse_data("forged:pre")))
    result = train(build.job_of(draft, TRAIN, words=words, images=images))
    assert result["images"] == 8  # four faces of training, each with its fake
    assert result["epochs"] == 2
    assert read_json(paths.provenance(draft.model_folder("forged:pre"))) is not None


def test_self_blending_is_rejected_with_flipped_labels_or_unlearning(lab: Path) -> None:
    places = {"split_path": "made/splits", "sbi": 0.5}
    assert TRAIN.refusals(a_draft(TRAIN, lab, "forged:pre", **places), ()) == ()
    (said,) = TRAIN.refusals(a_draft(TRAIN, lab, "forged:pre%20", **places), ())
    assert "sbi cannot be used with poison" in said
    draft = a_draft(UNLEARN, lab, "forged:pre%20~relabel", method="relabel", **places)
    assert any("sbi works only for trainings" in said for said in UNLEARN.refusals(draft, ()))
