"""Trainings in several qualities, from the plan to their tests."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.trueface.jobs.build import a_job, write_sample
from tests.trueface.jobs.test_features import run
from tests.trueface.jobs.test_shared_features import a_plan
from trueface.prediction import reference
from trueface.runtime import paths
from trueface.runtime.files import read_json

torch.set_num_threads(1)

SETTINGS: dict[str, Any] = {
    "model": "slim18", "weights": "none", "resize_size": 32, "batch_size": 8, "num_epochs": 2,
    "test": {"resize_size": 32, "batch_size": 8},
}  # fmt: skip
STUDY = """
train:
  - {model: null, data: "gan2:pre", qualities: [raw, jpeg75], collab: 0.05, freeze: false,
     collab_layers: "layer3=.25, layer4=.5"}
  - {model: null, data: "sdXL:pre", qualities: "raw, jpeg75", flip_prob: 0}
test:
  - {model: "gan2:pre", data: "gan2:pre", corrupt: [raw, half+jpeg30]}
"""
PIXELS, FROZEN, TESTED = "train/gan2:pre", "train/sdXL:pre", "test/gan2:pre/gan2:pre"
QUALITIES, EPOCHS = 2, 2


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A folder in which all jobs of the study are done, and their results."""
    folder = tmp_path_factory.mktemp("lab")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRUEFACE_CACHE", str(folder / "cache"))
        patch.setattr(reference, "FEWEST", 4)  # images of validation
        write_sample(folder, train=16, val=8, test=8)
        (folder / "splits").symlink_to("data/splits")
        planned = a_plan(STUDY, folder, **SETTINGS).jobs
        return folder, {each.name: run(folder, each) for each in planned}


@pytest.mark.parametrize("name", [PIXELS, FROZEN])
def test_each_image_is_trained_in_each_quality(lab: tuple[Path, dict[str, Any]], name: str) -> None:
    result = lab[1][name]
    assert result["samples_read"] == EPOCHS * QUALITIES * result["images"]


def test_result_reports_effect_of_collaboration(lab: tuple[Path, dict[str, Any]]) -> None:
    folder, results = lab
    first, last = results[PIXELS]["collaboration"]
    assert (first["epoch"], last["epoch"]) == (1, 2)
    assert first.keys() == {"epoch", "term", "nhsic", "nhsic_permuted", "gradient_share"}
    assert first["term"] < 0 < first["nhsic_permuted"] < first["nhsic"]
    assert results[PIXELS]["collab_gradient_share"] == first["gradient_share"]
    assert "collaboration" not in results[FROZEN]
    model = a_job(folder, "train", model="gan2:pre").model_folder("gan2:pre")
    summary = read_json(paths.summary(model))
    assert summary is not None
    assert summary["collaboration"] == results[PIXELS]["collaboration"]


def test_raw_is_not_a_valid_condition_name(lab: tuple[Path, dict[str, Any]]) -> None:
    assert {name for name in lab[1] if name.startswith("test/")} == {
        TESTED, f"{TESTED}@corrupt=half+jpeg30",
    }  # fmt: skip


def test_features_of_each_quality_are_stored_for_other_trainings(
    lab: tuple[Path, dict[str, Any]],
) -> None:
    folder, results = lab
    model = a_job(folder, "train", model="sdXL:pre").model_folder("sdXL:pre")
    source = read_json(paths.provenance(model))
    assert source is not None
    facts = source["features"]
    assert isinstance(facts, dict)
    rows = QUALITIES * results[FROZEN]["images"]
    assert facts["rows_computed"] in range(rows, 2 * rows)  # and those of validation
    assert facts["store"] is True
