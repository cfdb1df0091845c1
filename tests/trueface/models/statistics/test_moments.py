"""Means on a grid and deviations of three blocks: what they are, and what declares them."""

from pathlib import Path

import pytest
import torch

from tests.trueface.models.statistics.test_cosines import images
from trueface.models import checkpoint
from trueface.models.architectures.statistics import BlockStatistics, GridMoments, centre
from trueface.models.detectors import Detector, build
from trueface.models.head import MlpHead
from trueface.models.inference import FrozenBody
from trueface.models.registry import spec_of
from trueface.runtime.errors import JobError, UnknownName

torch.set_num_threads(1)


def detector(name: str = "moments/slim18", dropout: float = 0.0) -> Detector:
    return build(name, weights="none", seed=4, dropout=dropout)


def test_a_grid_holds_the_means_of_its_cells_and_a_deviation_a_channel() -> None:
    maps = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1)) + 2
    numbers = GridMoments(3)(centre(maps))
    assert numbers.shape == (2, 51)
    cells = numbers[:, :48].view(2, 3, 4, 4)
    torch.testing.assert_close(cells[:, :, 1, 2], maps[:, :, 2:4, 4:6].mean((2, 3)))
    torch.testing.assert_close(
        numbers[:, 48:].exp(), maps.flatten(2).std(2, correction=0), atol=1e-5, rtol=1e-4
    )


def test_of_mobilenet_they_are_those_of_stages_2_5_and_13() -> None:
    model = detector("moments/mobilenet")
    assert model.feature_dim == spec_of("moments/mobilenet").width == 2776
    blocks = next(each for each in model.modules() if isinstance(each, BlockStatistics)).blocks
    assert [block.name for block in blocks] == ["features.2", "features.5", "features.13"]


def test_frozen_features_and_the_head_give_the_models_own_logits() -> None:
    model, pixels = detector(), images(3, side=64).to(torch.uint8)
    with torch.no_grad():
        logits = model(pixels)
        features = FrozenBody(model)(pixels)
        assert features.shape == (3, model.feature_dim)
        torch.testing.assert_close(model.forward_head(features), logits, rtol=1e-3, atol=1e-3)


def test_its_head_has_the_dropout_that_is_asked_for_and_comes_back_from_a_checkpoint(
    tmp_path: Path,
) -> None:
    model, pixels = detector(dropout=0.2), images(2, side=64).to(torch.uint8)
    assert isinstance(model.head, MlpHead)
    assert model.head.dropout.p == 0.2
    checkpoint.save_model(tmp_path / "model.pt", model, {})
    again = checkpoint.restore(tmp_path / "model.pt")
    assert torch.equal(again(pixels), model(pixels))


def test_several_crops_and_small_images_are_refused() -> None:
    model = detector()
    with pytest.raises(JobError, match="set test_crops to 0 or 1"):
        model.forward_features(torch.zeros(2, 3, 3, 64, 64, dtype=torch.uint8))
    with pytest.raises(JobError, match="set resize_size to 64"):
        model.forward_features(torch.zeros(2, 3, 48, 48, dtype=torch.uint8))


def test_it_is_made_of_networks_with_blocks() -> None:
    with pytest.raises(UnknownName, match="unknown model 'moments/dct8'"):
        detector("moments/dct8")
