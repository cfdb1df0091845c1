"""The last layer: where it is, and that it alone makes the logits."""

import pytest
import torch
from torch import Tensor, nn

from launcher.api import JobError
from trueface.models.head import head_of, last_linear, refuse_several_heads

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


def test_a_network_whose_logits_are_those_of_its_last_layer_is_taken() -> None:
    refuse_several_heads(Network("plain"), "plain", "head", None)


@pytest.mark.parametrize("kind", ["two", "bypassed", "scaled"])
def test_a_network_that_does_more_or_less_than_its_last_layer_is_refused(kind: str) -> None:
    with pytest.raises(
        JobError, match=f"the logits of model {kind} are not those of its last layer"
    ):
        refuse_several_heads(Network(kind), kind, "head", None)


def test_the_check_leaves_random_numbers_and_hooks_alone() -> None:
    network = Network("plain")
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    refuse_several_heads(network, "plain", "head", 16)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not network.head._forward_pre_hooks


def test_the_last_linear_layer_is_the_one_registered_last() -> None:
    assert last_linear(Network("plain"), "plain") == "head"
    with pytest.raises(JobError, match="ends without a linear layer"):
        last_linear(nn.Conv2d(3, 1, 1), "convolution")


def test_a_head_that_is_not_linear_is_refused_with_the_linear_layers() -> None:
    network = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
    with pytest.raises(JobError, match="'1' is a ReLU; linear layers: 0"):
        head_of(network, "1")
