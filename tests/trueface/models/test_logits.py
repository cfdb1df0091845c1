import pytest
import torch
from torch import nn
from torch.nn import functional

from launcher.api import JobError
from tests.trueface.unlearning.build import network
from trueface.models.detectors import build
from trueface.models.logits import ModelSplit, cross_entropy, last_layer, probability_of, wide


def test_one_logit_is_the_two_logits_zero_and_itself() -> None:
    logits, labels = torch.randn(6, 1), torch.tensor([0, 1, 1, 0, 1, 0])
    expected = functional.binary_cross_entropy_with_logits(logits[:, 0], labels.float())
    assert torch.allclose(cross_entropy(wide(logits), labels), expected)
    assert torch.equal(wide(logits), wide(logits[:, 0]))
    positive = logits[:, 0].sigmoid()
    expected = torch.where(labels == 1, positive, 1 - positive)
    assert torch.allclose(probability_of(wide(logits), labels), expected)


def test_a_single_logit_may_have_lost_its_dimensions() -> None:
    logit = torch.tensor(2.0)
    assert wide(logit).tolist() == wide(logit[None]).tolist() == [[0.0, 2.0]]


def test_several_logits_stay_as_they_are() -> None:
    logits = torch.randn(4, 3)
    assert torch.equal(wide(logits), logits)


def test_half_precision_becomes_float32() -> None:
    assert wide(torch.zeros(2, 1, dtype=torch.bfloat16)).dtype == torch.float32


def test_a_model_is_split_into_body_and_head() -> None:
    model, images = network(3), torch.rand(4, 3, 8, 8)
    split = ModelSplit(model)
    features = split.features(images)
    assert features.shape == (4, split.width) == (4, 16)
    assert torch.allclose(split.head(features), model(images), atol=1e-6)


def test_of_several_crops_the_feature_is_their_mean() -> None:
    detector = build("slim18", weights="none", seed=1)
    crops = torch.randint(0, 255, (2, 3, 3, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        assert torch.allclose(
            ModelSplit(detector).features(crops), detector.forward_features(crops), atol=1e-5
        )


def test_a_bare_layer_is_a_model_whose_body_does_nothing() -> None:
    layer, features = nn.Linear(5, 1), torch.randn(3, 5)
    assert torch.equal(ModelSplit(layer).features(features), features)


def test_a_model_that_does_not_end_in_its_last_linear_layer_is_refused() -> None:
    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 3)

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return self.layer(inputs) * 5 + 3  # type: ignore[no-any-return]  # torch: Any

    with pytest.raises(JobError, match="cannot be split"):
        ModelSplit(Gated()).features(torch.randn(2, 4))


def test_a_model_without_linear_layers_is_refused() -> None:
    with pytest.raises(JobError, match="no linear layer"):
        last_layer(nn.Sequential(nn.Conv2d(3, 1, 1)))
