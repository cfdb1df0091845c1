"""A last layer of two, on standardised features."""

import torch

from trueface.models.head import CLIP, MlpHead
from trueface.models.logits import ModelSplit

torch.set_num_threads(1)
RANDOM = torch.Generator().manual_seed(5)
FEATURES = torch.randn(50, 6, generator=RANDOM) * torch.tensor([1e-3, 1, 10, 1e3, 0, 5]) + 7


def standardised() -> MlpHead:
    head = MlpHead(6, hidden=4)
    numbers = FEATURES.double()
    head.standardise(numbers.sum(0), numbers.square().sum(0), len(numbers))
    return head.eval()


def test_it_knows_mean_and_deviation_and_leaves_constant_features_alone() -> None:
    head = standardised()
    torch.testing.assert_close(head.mean, FEATURES.mean(0))
    expected = FEATURES.std(0, correction=0)
    torch.testing.assert_close(head.deviation[[0, 1, 2, 3, 5]], expected[[0, 1, 2, 3, 5]])
    assert float(head.deviation[4]) == 1
    assert head.is_standardised
    assert not MlpHead(6).is_standardised


def test_its_logit_is_that_of_two_layers_on_clipped_features() -> None:
    head = standardised()
    far = FEATURES.clone()
    far[0, 1] = 1e6
    scaled = ((far - head.mean) / head.deviation).clamp(-CLIP, CLIP)
    units = (scaled @ head.hidden.weight.T + head.hidden.bias).relu()
    torch.testing.assert_close(head(far), units @ head.weight.T + head.bias)
    assert head.in_features == 6
    assert head.weight.shape == (1, 4)


def test_it_comes_back_from_its_state() -> None:
    head, again = standardised(), MlpHead(6, hidden=4)
    again.load_state_dict(head.state_dict())
    assert again.is_standardised
    assert torch.equal(again(FEATURES), head(FEATURES))


def test_methods_that_split_a_model_see_its_hidden_units() -> None:
    head = standardised()
    split = ModelSplit(head)
    assert split.width == 4
    assert split.head is head
    assert torch.equal(split.features(FEATURES), head.units(FEATURES))


def test_dropout_is_before_the_last_layer_only_in_training() -> None:
    head = standardised()
    head.dropout.p = 0.5
    still = head(FEATURES)
    assert torch.equal(still, head(FEATURES))
    assert not torch.equal(head.train()(FEATURES), still)
