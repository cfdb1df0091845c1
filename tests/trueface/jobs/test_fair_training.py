"""Trainings that weigh groups, from a table of attributes to weights and history."""

import csv
import json
import os
from pathlib import Path
from typing import Any

import pytest

from launcher.api import Job, JobError
from tests.trueface.jobs.build import a_job, write_sample
from trueface.jobs import training
from trueface.runtime import paths
from trueface.training.settings import TrainSettings

SETTINGS: dict[str, Any] = {
    "data_root": "data", "split_path": "data/splits", "model": "slim18", "weights": "none",
    "resize_size": 32, "batch_size": 8, "num_epochs": 2, "freeze": True, "cache": "none",
    "attributes": "people.csv", "groups_by": "town",
}  # fmt: skip


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a few synthetic images, and a town for each: twice as many of Rome."""
    folder = tmp_path_factory.mktemp("lab")
    write_sample(folder, train=6, val=3, test=3)
    root = folder / "data"
    images = sorted(
        os.path.relpath(path, root) for path in root.rglob("*") if path.suffix in {".png", ".jpg"}
    )
    rows = [f"{image},{'Rome' if at % 3 else 'Oslo'}" for at, image in enumerate(images)]
    (folder / "people.csv").write_text("\n".join(["img_path,town", *rows]) + "\n")
    return folder


def trained(lab: Path, model: str, **changed: Any) -> Job:
    given = TrainSettings.model_validate({**SETTINGS, **changed}).model_dump(mode="json")
    job = a_job(
        lab, "train", settings=given, model=model, data="gan2:pre", images="gan2:pre&real:pre"
    )
    training.train(job)
    return job


@pytest.mark.parametrize("fair", ["oversample", "mix", "cvar2"])
def test_groups_are_weighted_and_worst_cell_selects_the_epoch(lab: Path, fair: str) -> None:
    job = trained(lab, f"gan2:pre-{fair}", fair=fair, select="worst-cell")
    folder = job.model_folder(str(job.model))
    epochs = list(csv.DictReader(paths.history(folder).read_text().splitlines()))
    worst = [float(epoch["val_worst_cell_accuracy"]) for epoch in epochs]
    provenance = json.loads(paths.provenance(folder).read_text())
    assert provenance["settings"]["fair"] == fair
    assert float(epochs[provenance["epochs"] - 1]["val_worst_cell_accuracy"]) == max(worst)


def test_column_with_one_group_is_rejected_for_group_comparison(lab: Path) -> None:
    table = (lab / "people.csv").read_text().replace("Oslo", "Rome")
    (lab / "romans.csv").write_text(table)
    with pytest.raises(
        JobError, match=r"fair: dro compares groups, but all .* are in one group, Rome"
    ):
        trained(lab, "gan2:pre-dro", fair="dro", attributes="romans.csv")
