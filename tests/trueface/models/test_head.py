"""The last layer, whichever it is: where it is, and that it alone makes the logits."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from launcher.api import JobError
from tests.trueface.models.build import untrained
from tests.trueface.unlearning.build import network
from trueface.models.detectors import Detector
from trueface.models.head import (
    CLIP,
    MlpHead,
    RidgeHead,
    check_single_head,
    head_of,
    last_linear,
)
from trueface.models.logits import (
    BackboneHeadSplit,
    as_multiclass_logits,
    cross_entropy,
    last_layer,
    probability_of,
)

torch.set_num_threads(1)


class Network(nn.Module):
    """Two linear layers on the mean colour, and a way to combine them."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.other, self.head = nn.Linear(3, 1), nn.Linear(3, 1)

    def forward(self, images: Tensor) -> Tensor:
        x = images.mean((2, 3))
        logits: Tensor = self.head(x)
        other: Tensor = self.other(x)
        if self.kind == "two":
            return (logits + other) / 2
        if self.kind == "bypassed":
            return nn.functional.linear(x, self.head.weight) + other
        return 2 * logits if self.kind == "scaled" else logits


def test_network_with_logits_of_its_last_layer_is_accepted() -> None:
    check_single_head(Network("plain"), "plain", "head", None)


@pytest.mark.parametrize("kind", ["two", "bypassed", "scaled"])
def test_network_with_other_output_than_last_layer_is_refused(kind: str) -> None:
    with pytest.raises(
        JobError, match=f"the logits of model {kind} do not come from its last layer"
    ):
        check_single_head(Network(kind), kind, "head", None)


def test_check_keeps_random_state_and_hooks_unchanged() -> None:
    network = Network("plain")
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    check_single_head(network, "plain", "head", 16)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not network.head._forward_pre_hooks


def test_last_linear_layer_is_the_one_registered_last() -> None:
    assert last_linear(Network("plain"), "plain") == "head"
    with pytest.raises(JobError, match="has no linear layer"):
        last_linear(nn.Conv2d(3, 1, 1), "convolution")


def test_non_linear_head_is_refused_with_linear_layers_listed() -> None:
    network = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
    with pytest.raises(JobError, match=r"'1' is a ReLU\. Linear layers: 0"):
        head_of(network, "1")


RANDOM = torch.Generator().manual_seed(5)
FEATURES = torch.randn(50, 6, generator=RANDOM) * torch.tensor([1e-3, 1, 10, 1e3, 0, 5]) + 7


def standardised() -> MlpHead:
    head = MlpHead(6, width=4)
    numbers = FEATURES.double()
    head.standardise(numbers.sum(0), numbers.square().sum(0), len(numbers))
    return head.eval()


def test_standardised_head_has_mean_and_deviation_and_keeps_constant_features() -> None:
    head = standardised()
    torch.testing.assert_close(head.mean, FEATURES.mean(0))
    expected = FEATURES.std(0, correction=0)
    torch.testing.assert_close(head.deviation[[0, 1, 2, 3, 5]], expected[[0, 1, 2, 3, 5]])
    assert float(head.deviation[4]) == 1
    assert head.is_standardised
    assert not MlpHead(6).is_standardised


def test_logit_is_that_of_two_layers_on_clipped_features() -> None:
    head = standardised()
    far = FEATURES.clone()
    far[0, 1] = 1e6
    scaled = ((far - head.mean) / head.deviation).clamp(-CLIP, CLIP)
    units = (scaled @ head.hidden.weight.T + head.hidden.bias).relu()
    torch.testing.assert_close(head(far), units @ head.weight.T + head.bias)
    assert head.in_features == 6
    assert head.weight.shape == (1, 4)


def test_standardised_head_is_restored_from_state() -> None:
    head, again = standardised(), MlpHead(6, width=4)
    again.load_state_dict(head.state_dict())
    assert again.is_standardised
    assert torch.equal(again(FEATURES), head(FEATURES))


def test_split_model_exposes_hidden_units() -> None:
    head = standardised()
    split = BackboneHeadSplit(head)
    assert split.width == 4
    assert split.head is head
    assert torch.equal(split.features(FEATURES), head.units(FEATURES))


def test_dropout_is_before_last_layer_only_in_training() -> None:
    head = standardised()
    head.dropout.p = 0.5
    still = head(FEATURES)
    assert torch.equal(still, head(FEATURES))
    assert not torch.equal(head.train()(FEATURES), still)


def fitted(width: int) -> RidgeHead:
    rng = torch.Generator().manual_seed(1)
    head = RidgeHead(width)
    with torch.no_grad():
        for values in (head.weight, head.bias, head.mean):
            values.copy_(torch.randn(values.shape, generator=rng))
        for values in (head.scale, head.weights):
            values.copy_(torch.rand(values.shape, generator=rng) + 0.1)
    return head


def ridge_detector() -> Detector:
    model = untrained("slim18")
    model.replace_head(fitted(model.feature_dim))
    return model


def pixels(count: int = 3) -> torch.Tensor:
    rng = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, generator=rng)


def test_ridge_logit_is_weighted_sum_of_clipped_standardised_features() -> None:
    head, features = fitted(5), 4 * torch.randn(7, 5)
    columns = ((features - head.mean) / head.scale).clamp(-8, 8) * head.weights
    expected = (columns * head.weight).sum(1, keepdim=True) + head.bias
    assert torch.allclose(head(features), expected, atol=1e-5)


def test_outlying_feature_is_clipped() -> None:
    head = fitted(1)
    far, farther = (head.mean + times * head.scale for times in (9.0, 1e6))
    assert torch.equal(head(far[None]), head(farther[None]))
    assert not torch.equal(head(far[None]), head((head.mean + 7 * head.scale)[None]))


def test_unfitted_head_returns_zero() -> None:
    assert torch.equal(RidgeHead(4)(torch.randn(2, 4)), torch.zeros(2, 1))


def test_autocast_changes_no_bit_of_ridge_logit() -> None:
    head, features = fitted(300), torch.randn(2, 300)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(head(features), head(features.clone()))
        inside = head(features)
    assert torch.equal(inside, head(features))


def test_unlearning_gets_standardised_features_before_linear_layer() -> None:
    model = ridge_detector()
    split = BackboneHeadSplit(model)
    with torch.no_grad():
        features = split.features(pixels())
        logits = torch.nn.functional.linear(features, split.head.weight, split.head.bias)
        assert torch.allclose(logits, model(pixels()), atol=1e-4)


def test_one_logit_equals_two_logits_zero_and_itself() -> None:
    logits, labels = torch.randn(6, 1), torch.tensor([0, 1, 1, 0, 1, 0])
    expected = functional.binary_cross_entropy_with_logits(logits[:, 0], labels.float())
    assert torch.allclose(cross_entropy(as_multiclass_logits(logits), labels), expected)
    assert torch.equal(as_multiclass_logits(logits), as_multiclass_logits(logits[:, 0]))
    positive = logits[:, 0].sigmoid()
    expected = torch.where(labels == 1, positive, 1 - positive)
    assert torch.allclose(probability_of(as_multiclass_logits(logits), labels), expected)


def test_single_logit_may_be_squeezed() -> None:
    logit = torch.tensor(2.0)
    assert (
        as_multiclass_logits(logit).tolist()
        == as_multiclass_logits(logit[None]).tolist()
        == [[0.0, 2.0]]
    )


def test_several_logits_are_unchanged() -> None:
    logits = torch.randn(4, 3)
    assert torch.equal(as_multiclass_logits(logits), logits)


def test_half_precision_logits_become_float32() -> None:
    assert as_multiclass_logits(torch.zeros(2, 1, dtype=torch.bfloat16)).dtype == torch.float32


def test_model_is_split_into_backbone_and_head() -> None:
    model, images = network(3), torch.rand(4, 3, 8, 8)
    split = BackboneHeadSplit(model)
    features = split.features(images)
    assert features.shape == (4, split.width) == (4, 16)
    assert torch.allclose(split.head(features), model(images), atol=1e-6)


def test_single_layer_is_a_model_with_identity_backbone() -> None:
    layer, features = nn.Linear(5, 1), torch.randn(3, 5)
    assert torch.equal(BackboneHeadSplit(layer).features(features), features)


def test_model_that_does_not_end_in_last_linear_layer_is_refused() -> None:
    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 3)

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return self.layer(inputs) * 5 + 3  # type: ignore[no-any-return]  # torch: Any

    with pytest.raises(JobError, match="cannot be split"):
        BackboneHeadSplit(Gated()).features(torch.randn(2, 4))


def test_model_without_linear_layers_is_refused() -> None:
    with pytest.raises(JobError, match="no linear layer"):
        last_layer(nn.Sequential(nn.Conv2d(3, 1, 1)))
