import io
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from trueface.models.detectors import build_detector
from trueface.models.head import RidgeHead
from trueface.prediction.heat_map import (
    class_activation,
    occlusion,
    render_heat_map,
)
from trueface.prediction.heat_map import test_crop_window as crop_window
from trueface.prediction.predictor import FileHeader, TrainingFiles, select, upper_bound
from trueface.prediction.reference import FEWEST, MOST_ANSWERS, FeatureDistance, Reference
from trueface.runtime.errors import JobError, UsageError


def draw_logits(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, count)
    return labels, (2 * labels - 1) * 1.5 + rng.normal(0, 1.2, count)


def test_bound_matches_clopper_pearson() -> None:
    assert upper_bound(0, 100, 0.05) == pytest.approx(1 - 0.05 ** (1 / 100))
    assert upper_bound(3, 3, 0.05) == 1.0


def test_error_rate_of_answers_rarely_exceeds_requested_rate() -> None:
    labels, logits = draw_logits(100_000, 0)
    exceeded = []
    for seed in range(60):
        selection = select(*draw_logits(300, seed + 1), threshold=0.0, rate=0.1)
        answered = np.abs(logits) >= selection.distance
        exceeded.append(np.mean((logits > 0)[answered] != (labels == 1)[answered]) > 0.1)
    assert np.mean(exceeded) <= 0.05


def test_lower_rate_answers_fewer_images() -> None:
    labels, logits = draw_logits(3000, 0)
    coverages = [
        select(labels, logits, threshold=0.0, rate=rate).coverage for rate in (0.02, 0.05, 0.2)
    ]
    assert coverages == sorted(coverages)
    assert 0 < coverages[0] < coverages[2] == 1


def test_answers_of_equal_confidence_are_kept_together() -> None:
    labels = np.array([1] * 200)
    logits = np.array([1.0] * 200)
    assert select(labels, logits, threshold=0.0, rate=0.1).coverage == 1


def test_unreachable_rate_is_reported_with_reachable_one() -> None:
    with pytest.raises(UsageError, match=r"lowest possible rate is .* %.*528 validation images"):
        select(*draw_logits(100, 0), threshold=0.0, rate=0.01)
    with pytest.raises(UsageError, match="no validation scores"):
        select(np.array([], int), np.array([]), threshold=0.0, rate=0.1)


NOTHING_KNOWN = TrainingFiles(sizes=None, formats=None)


@pytest.mark.parametrize(("flag", "reasons"), [(1, []), (6, ["orientation"]), (2, ["orientation"])])
@pytest.mark.parametrize("name", ["a.jpg", "a.webp"])
def test_image_with_exif_rotation_is_named(
    tmp_path: Path, name: str, flag: int, reasons: list[str]
) -> None:
    exif = PIL.Image.Exif()
    exif[0x112] = flag
    PIL.Image.new("RGB", (16, 8)).save(tmp_path / name, exif=exif)
    unlike = NOTHING_KNOWN.find_ood_reasons(FileHeader.read(tmp_path / name))
    assert [each.reason for each in unlike] == reasons


def test_file_without_header_is_not_unlike(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"no image")
    assert list(NOTHING_KNOWN.find_ood_reasons(FileHeader.read(tmp_path / "a.jpg"))) == []


def noise(height: int, width: int) -> Tensor:
    rng = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=rng)


def contrast_in_the_corner(images: list[Tensor]) -> NDArray[np.float64]:
    return np.array([float(image[:, :16, :16].double().std()) for image in images])


@pytest.mark.parametrize(("height", "width"), [(1, 1), (7, 40), (100, 30)])
def test_images_of_any_size_have_a_map_of_network_input(height: int, width: int) -> None:
    pixels = noise(height, width)
    heat = occlusion(pixels, crop_window(pixels, 32), contrast_in_the_corner, batch_size=64)
    assert heat.values.shape == (min(height, 32), min(width, 32))
    content = render_heat_map(pixels, heat, title="real", method="occlusion")
    assert PIL.Image.open(io.BytesIO(content)).format == "PNG"


def test_mean_of_block_map_is_the_logit() -> None:
    model, pixels = build_detector("slim18", weights="none", seed=0), noise(64, 64)
    heat = class_activation(model, pixels, pixels, crop_window(pixels, 64))
    with torch.no_grad():
        logit = model(pixels[None]).item()
    assert heat.values.mean() == pytest.approx(logit, rel=0.05)


def test_network_without_exact_block_map_is_refused() -> None:
    model, pixels = build_detector("slim18", weights="none", seed=0), noise(32, 32)
    model.replace_head(RidgeHead(model.feature_dim))
    with pytest.raises(JobError, match="Use --heat-map-by occlusion"):
        class_activation(model, pixels, pixels, crop_window(pixels, 32))


def features(count: int, seed: int, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(shift, 1, (count, 40)).astype(np.float32)


def test_images_of_other_kind_are_distant_and_those_of_validation_rarely() -> None:
    model = FeatureDistance.from_features([features(400, 0)], [features(400, 1)])
    assert model is not None
    assert (model.distances(features(400, 2)) > model.limit).mean() <= 0.03
    assert (model.distances(features(50, 3, shift=2.0)) > model.limit).all()


def test_constant_feature_is_ignored() -> None:
    training, validation = features(100, 0), features(100, 1)
    training[:, 0] = 1.0
    model = FeatureDistance.from_features([training], [validation])
    assert model is not None
    assert np.isfinite(model.distances(validation)).all()


def test_features_of_more_qualities_count_as_more_images() -> None:
    first, other, validation = features(80, 0), features(40, 2, shift=3.0), features(100, 1)
    parts = FeatureDistance.from_features([first, other], [validation])
    whole = FeatureDistance.from_features([np.concatenate([first, other])], [validation])
    assert parts is not None
    assert whole is not None
    assert np.array_equal(parts.mean, whole.mean)
    assert np.array_equal(parts.scale, whole.scale)
    assert parts.limit == whole.limit


def test_too_few_validation_images_give_no_limit() -> None:
    assert FeatureDistance.from_features([features(100, 0)], [features(FEWEST - 1, 1)]) is None


def test_stored_statistics_are_read_back_and_stay_below_one_megabyte() -> None:
    distance = FeatureDistance.from_features([features(100, 0)], [features(100, 1)])
    count = 3 * MOST_ANSWERS
    labels, logits = np.arange(count) % 2, np.arange(count) / 7
    kept = Reference.from_predictions(labels, logits, distance)
    read = Reference.read(kept.tensors)
    assert read is not None
    assert read.features is not None
    assert distance is not None
    assert len(read.labels) == MOST_ANSWERS
    assert set(np.round(read.logits * 7).astype(int) % 2 - read.labels) == {0}
    assert read.features.limit == distance.limit
    assert sum(each.nbytes for each in kept.tensors.values()) < 1 << 20
    assert Reference.read({}) is None
