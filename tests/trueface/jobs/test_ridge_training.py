"""Trainings in closed form, from the plan to tests, unlearning and a few further examples."""

import csv
import json
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
import torch

from launcher.api import JobError
from tests.trueface.jobs.build import a_job, write_sample
from tests.trueface.jobs.test_features import run
from tests.trueface.jobs.test_shared_features import a_plan
from trueface.evaluation.results import table
from trueface.models.checkpoint import load_detector
from trueface.models.head import RidgeHead
from trueface.runtime import paths
from trueface.runtime.files import read_json

torch.set_num_threads(1)

SETTINGS: dict[str, Any] = {
    "model": "slim18", "solver": "ridge", "weights": "none", "resize_size": 32, "batch_size": 8,
    "afterwards": False, "test": {"resize_size": 32, "batch_size": 8},
}  # fmt: skip
STUDY = """
train:
  - {model: null, data: "gan2:pre", poison: [0, 40]}
  - {model: "gan2:pre", data: "sdXL:pre", shots: 2}
unlearn:
  - {model: "gan2:pre%40", method: exact}
test:
  - {model: "gan2:pre", data: ["gan2:pre", "real:pre"]}
  - {model: "gan2:pre%40~exact", data: "gan2:pre"}
"""
MODEL, POISONED, UNLEARNED = "gan2:pre", "gan2:pre%40", "gan2:pre%40~exact"
FEW = "gan2:pre#sdXL:pre"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which all jobs of the study are done."""
    folder = tmp_path_factory.mktemp("lab")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRUEFACE_CACHE", str(folder / "cache"))
        write_sample(folder, train=16, val=8, test=8)
        (folder / "splits").symlink_to("data/splits")
        for planned in a_plan(STUDY, folder, **SETTINGS).jobs:
            run(folder, planned)
    return folder


def folder_of(lab: Path, model: str) -> Path:
    return a_job(lab, "train", model=model).model_folder(model)


def head_of(lab: Path, model: str) -> RidgeHead:
    head = load_detector(paths.checkpoint(folder_of(lab, model))).head
    assert isinstance(head, RidgeHead)
    return head


def test_ridge_training_writes_the_usual_files(lab: Path) -> None:
    folder = folder_of(lab, MODEL)
    with paths.history(folder).open() as file:
        (epoch,) = csv.DictReader(file)
    record = json.loads(paths.provenance(folder).read_text())
    summary = json.loads(paths.summary(folder).read_text())
    assert (epoch["epoch"], summary["epochs"]) == ("1", 1)
    assert summary["samples_read"] == 3 * summary["images"]
    assert record["settings"]["freeze"] is True
    assert record["ridge"]["copies"] == ["corrupted", "mirrored"]
    assert record["ridge"]["penalty_by"] == "validation"
    assert record["calibration"]["threshold"] == summary["threshold"]
    assert record["calibration"]["in_logits"] is True


def test_exact_unlearning_equals_training_without_poison(lab: Path) -> None:
    clean, poisoned, unlearned = (head_of(lab, name) for name in (MODEL, POISONED, UNLEARNED))
    features = torch.randn(50, clean.in_features) * clean.scale + clean.mean
    # validation chose another penalty and temperature for the poisoned one
    scores = [head(features).detach().squeeze(1).numpy() for head in (clean, poisoned, unlearned)]
    assert np.corrcoef(scores[0], scores[2])[0, 1] > np.corrcoef(scores[0], scores[1])[0, 1]
    record = json.loads((folder_of(lab, UNLEARNED) / "unlearning.json").read_text())
    assert "exact in closed form" in record["notes"][0]


def test_results_contain_calibration_quality(lab: Path) -> None:
    row: Any
    (row,) = table(lab / "runs/study", [(MODEL, "gan2:pre"), (MODEL, "real:pre")])
    for name in ("balanced_accuracy_at_threshold", "ece_scaled", "ece_unscaled"):
        assert 0 <= row[name]["value"] <= 1
    record: Any = read_json(paths.provenance(folder_of(lab, MODEL)))
    assert row["threshold"] == record["calibration"]["threshold"]
    assert row["ece_scaled"] == row["ece"]  # its temperature is in the logits
    assert row["ece_unscaled"] != row["ece"]


def test_few_shot_examples_are_added_to_the_fit(lab: Path) -> None:
    base, more = head_of(lab, MODEL), head_of(lab, FEW)
    assert torch.equal(base.mean, more.mean)
    assert torch.equal(base.penalty, more.penalty)
    assert not torch.equal(base.weight, more.weight)
    assert int(more.rows) == int(base.rows) + 3 * 4  # views of two images of each class
    record = json.loads(paths.provenance(folder_of(lab, FEW)).read_text())
    assert record["ridge"]["examples_weight"] > 1


def test_fewer_examples_than_requested_raise_an_error(lab: Path) -> None:
    study = STUDY.replace("shots: 2", "shots: 7")
    planned = next(job for job in a_plan(study, lab, **SETTINGS).jobs if job.model == FEW)
    with pytest.raises(
        JobError, match=r"7 is more than the \d fake images .* Use \d or less, or 0"
    ):
        run(lab, planned)


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ('{model: "gan2:pre", data: "sdXL:pre", solver: gradient}', "is trained in closed form"),
        (
            '{model: null, data: "gan3:pre", shots: 3}',
            "name one as `model`, and train with solver: ridge",
        ),
        ('{model: null, data: "gan3:pre", processes: 2}', "uses one process"),
    ],
)
def test_settings_incompatible_with_ridge_are_rejected_at_planning(
    lab: Path, entry: str, reason: str
) -> None:
    study = f'train:\n  - {{model: null, data: "gan2:pre"}}\n  - {entry}\n'
    with pytest.raises(Exception, match=reason):
        a_plan(study, lab, **SETTINGS)


def test_stop_during_feature_extraction_ends_the_job(
    lab: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRUEFACE_CACHE", str(tmp_path))
    planned: Any = next(job for job in a_plan(STUDY, lab, **SETTINGS).jobs if job.model == MODEL)
    stop = Event()
    stop.set()
    with pytest.raises(JobError, match="stopped"):
        run(lab, planned, stop=stop)
