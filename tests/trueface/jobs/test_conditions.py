"""Tests of a model on corrupted images and under attack: scores, records, saved images."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch

from launcher.api import Job, JobError, Json
from tests.trueface.jobs.build import SIDE, a_job, write_images, write_lists
from trueface.attacks.registry import Attack
from trueface.corruptions.chain import Chain
from trueface.data.index import survey
from trueface.data.settings import TestSettings
from trueface.evaluation.operating_threshold import Calibration
from trueface.jobs import testing, training
from trueface.jobs.kinds import TEST
from trueface.jobs.testing import ScoringModel, attacked_test
from trueface.models import checkpoint, model_file
from trueface.predictions.csv_tables import read_csv
from trueface.runtime import paths
from trueface.runtime.ids import parse_data
from trueface.runtime.progress import RunContext

EACH = 12
MODEL = DATA = "gan2:pre&real:pre"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data, lists, and a model that calls most images right."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("lab")
    keys = write_images(root, EACH)
    write_lists(root / "splits", train=keys[::3], val=keys[1::3], test=keys)
    learning = {
        "model": "slim18", "weights": "none", "num_epochs": 6, "lr": 3e-3, "batch_size": 8,
        "schedule": "onecycle", "resize_size": SIDE,
    }  # fmt: skip
    training.train(job(root, "train", MODEL, **learning))
    return root


def job(lab: Path, kind: str, model: str, /, **settings: Any) -> Job:
    given = {"data_root": "data", "split_path": "splits", **settings}
    return a_job(lab, kind, model, run="r", data=DATA, settings=given)


WHERE = {"data_root": "d", "split_path": "s"}


def run_test(lab: Path, **settings: Any) -> Mapping[str, Any]:
    made = job(lab, "test", MODEL, resize_size=SIDE, batch_size=8, **settings)
    return testing.test(made)


def folder(lab: Path) -> Path:
    return lab / "runs" / "r" / MODEL


def logits(lab: Path, name: str) -> dict[str, float]:
    scores = read_csv(paths.scores(folder(lab), MODEL, name))
    return dict(zip(scores.ids, scores.margin.tolist(), strict=True))


@pytest.fixture(scope="module")
def clean(lab: Path) -> dict[str, float]:
    """The logits of a test without a condition."""
    run_test(lab)
    return logits(lab, DATA)


def test_saved_images_form_a_data_root_with_equal_scores(lab: Path) -> None:
    run_test(lab, corrupt="noise9", save_images=True)
    root = paths.saved_images(folder(lab), f"{DATA}@corrupt=noise9")
    images = survey(root, parse_data(DATA)).images
    assert len(images) == 2 * EACH
    expected = logits(lab, f"{DATA}@corrupt=noise9")
    pixels = np.array(PIL.Image.open(lab / "data" / min(expected)))
    name = next(image.name for image in images if str(image.path).endswith(min(expected)))
    noisy = Chain.parse("noise9")(torch.from_numpy(pixels).permute(2, 0, 1), name)
    assert np.array_equal(np.array(PIL.Image.open(root / min(expected))), noisy.permute(1, 2, 0))
    run_test(lab, data_root=str(root))
    assert logits(lab, DATA) == expected


def test_attack_with_zero_budget_gives_bit_identical_clean_scores(
    lab: Path, clean: Mapping[str, float]
) -> None:
    result = run_test(lab, attack="pgd0")
    assert logits(lab, f"{DATA}@attack=pgd0") == clean
    assert result["evasion"] == result["evasion_control"] == 0.0
    assert result["attack"]["largest_change"] == 0
    assert result["attack"]["evasion"]["mean_psnr_db"] is None


def test_attack_flips_correct_predictions_and_control_is_reported(
    lab: Path, clean: Mapping[str, float]
) -> None:
    result = run_test(lab, attack="pgd8")
    record = result["attack"]
    assert record["access"] == "full"
    assert 0 < record["evasion"]["attacked"] <= EACH
    assert record["evasion"]["images"] == EACH
    assert record["largest_change"] == record["control"]["largest_change"] == 8
    assert result["evasion"] > result["evasion_control"]
    assert result["defamation"] >= result["defamation_control"]
    success = record["evasion"]["success"]
    assert success["low"] <= success["value"] <= success["high"]
    assert record["evasion"]["median_logit_shift"] < 0 < record["defamation"]["median_logit_shift"]
    assert 28 < record["evasion"]["mean_psnr_db"] < 45
    after, threshold = logits(lab, f"{DATA}@attack=pgd8"), record["threshold"]["logit"]
    wrong = [name for name, value in clean.items() if (value > threshold) != ("Fake/" in name)]
    assert all(after[name] == clean[name] for name in wrong)


def test_correct_predictions_use_the_model_validation_threshold(
    lab: Path, clean: Mapping[str, float]
) -> None:
    kept = checkpoint.load(paths.checkpoint(folder(lab)))
    own = Calibration.read(kept.provenance["calibration"])
    assert own is not None
    fakes = [value for name, value in clean.items() if "Fake/" in name]
    try:
        for calibration in (own, Calibration(threshold=float(np.median(fakes)))):
            provenance = {**kept.provenance, "calibration": calibration.json_record}
            model_file.save(paths.checkpoint(folder(lab)), replace(kept, provenance=provenance))
            record = run_test(lab, attack="random1")["attack"]
            threshold = calibration.threshold
            assert record["threshold"] == {"logit": threshold, "from": "validation"}
            assert record["evasion"]["attacked"] == sum(value > threshold for value in fakes)
    finally:
        model_file.save(paths.checkpoint(folder(lab)), kept)


def test_saved_attacked_images_stay_within_the_budget(lab: Path) -> None:
    run_test(lab, attack="fgsm2", save_images=True)
    root = paths.saved_images(folder(lab), f"{DATA}@attack=fgsm2")
    moved = []
    for path in sorted(root.rglob("*.png")):
        before = np.array(PIL.Image.open(lab / "data" / path.relative_to(root))).astype(int)
        moved.append(np.abs(np.array(PIL.Image.open(path)).astype(int) - before).max())
    assert len(moved) == 2 * EACH
    assert set(moved) <= {0, 2}
    assert 2 in moved


def test_images_encoded_after_attack_are_scored_after_encoding(lab: Path) -> None:
    plain = run_test(lab, attack="fgsm8")
    coded = run_test(lab, attack="fgsm8", attack_save="jpeg30")
    assert coded["attack"]["saved"]["chain"] == "jpeg30"
    assert coded["mean_logit"] != plain["mean_logit"]
    assert coded["attack"]["control"]["evasion"] != plain["attack"]["control"]["evasion"]


def test_detector_without_gradients_has_a_reason_instead_of_a_rate(lab: Path) -> None:
    model = checkpoint.load_detector(paths.checkpoint(folder(lab)))
    model.spec = replace(model.spec, differentiable=False)
    images = survey(lab / "data", parse_data(DATA)).images
    settings = TestSettings(**WHERE, resize_size=SIDE, attack="fgsm1")
    network = ScoringModel(model=model, watch=RunContext(), constant=False, store=None)
    test = partial(attacked_test, job(lab, "test", MODEL), settings)
    refused = test(Attack("fgsm", 1), images, network, None)
    assert refused.predictions is None
    assert refused.record["reason"] == "not differentiable: the model is slim18"
    assert refused.record.keys() == {"reason", "attack"}
    control = test(Attack("random", 1), images, network, None)  # needs no gradient
    assert control.predictions is not None
    assert "evasion" in control.record


def test_test_job_stops_on_request(lab: Path) -> None:
    made = job(lab, "test", MODEL, resize_size=SIDE, attack="pgd1")
    made.stop.set()
    with pytest.raises(JobError, match="stopped"):
        testing.test(made)


def values(**settings: Any) -> dict[str, Json]:
    return TestSettings(**WHERE, **settings).model_dump(mode="json")


@pytest.mark.parametrize(
    ("settings", "condition"),
    [
        ({}, ""),
        ({"corrupt": "jpeg050+blur1.0"}, "corrupt=jpeg50+blur1"),
        ({"attack": "pgd2", "corrupt": "jpeg50"}, "corrupt=jpeg50,attack=pgd2"),
        ({"queries": 9, "surrogate": "a:b", "attack_save": "jpeg95", "attack_images": 3}, ""),
        ({"attack": "pgd2", "queries": 9, "surrogate": "a:b"}, "attack=pgd2"),
        ({"attack": "square2", "queries": 9, "surrogate": "a:b"}, "attack=square2,queries=9"),
        (
            {"attack": "transfer2", "queries": 9, "surrogate": "a:b@seed=1"},
            "attack=transfer2,surrogate=a-b-seed-1",
        ),
    ],
)
def test_test_name_contains_only_relevant_settings(
    settings: dict[str, Any], condition: str
) -> None:
    assert TestSettings.condition(values(**settings)) == condition


def test_plain_test_keeps_its_job_identity() -> None:
    decisive = TestSettings.decisive(values(surrogate="a:b", queries=9))
    new = {*TestSettings.conditions, "save_images"}
    assert not new & decisive.keys()
    assert TestSettings.decisive(values(attack="pgd1"))["attack"] == "pgd1"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"corrupt": "jpg50"}, "Did you mean 'jpeg'"),
        ({"corrupt": "jpeg101"}, "expected quality from 1 to 100"),
        ({"attack": "pgd17"}, "0 to 16 grey levels"),
        ({"attack": "transfer2"}, "needs a surrogate"),
        ({"attack": "transfer2", "surrogate": "../other"}, "expected subset:modifier"),
        ({"attack": "pgd1", "test_crops": 2}, "so leave test_crops out"),
        ({"save_images": True, "test_crops": 2}, "so leave test_crops out"),
        ({"attack": "pgd1", "attack_save": "jpeg0"}, "expected quality from 1 to 100"),
        ({"attack": "square1", "queries": 0}, "greater than or equal to 1"),
        ({"attack": "pgd1", "attack_images": -1}, "greater than or equal to 0"),
    ],
)
def test_impossible_settings_are_rejected_at_planning(
    settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        values(**settings)


def test_code_of_corruptions_and_attacks_counts_only_for_tests_that_use_them() -> None:
    modules = TestSettings.modules
    assert modules["corrupt"]("none") == modules["attack"]("none") == ()
    assert modules["corrupt"]("jpeg50") == ("trueface.corruptions.kinds.codecs",)
    assert "trueface.attacks.kinds.gradients" in modules["attack"]("pgd1")
    assert TEST.settings is TestSettings
