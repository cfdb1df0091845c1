"""The two networks: shapes, conditions, and what they refuse."""

from dataclasses import replace

import pytest
import torch

from tests.trueface.diffusion.closed_forms import drawn
from trueface.diffusion.networks import EpsNetwork, NetworkShape, build_network

UNET = NetworkShape(
    network="unet", size=16, channels=3, classes=2, embedding=8, widths=(8, 16), unshuffle=2
)
MLP = NetworkShape(network="mlp", size=6, channels=1, classes=2, embedding=8, widths=(16, 16))
SHAPES = [
    UNET,
    MLP,
    replace(UNET, classes=0),
    replace(MLP, classes=0),
    replace(UNET, unshuffle=1, widths=(8,), attention=False),
]


def woken(shape: NetworkShape) -> EpsNetwork:
    """Return a network in which what begins at zero is random."""
    network = build_network(shape, seed=1)
    with torch.no_grad():
        for place, weight in enumerate(network.parameters()):
            if not weight.any():
                weight.copy_(drawn(*weight.shape, seed=place) / 10)
    return network


@pytest.mark.parametrize("shape", SHAPES)
def test_an_answer_has_the_shape_of_the_images(shape: NetworkShape) -> None:
    network = woken(shape)
    x = drawn(3, shape.channels, shape.size, shape.size)
    embedding = drawn(3, shape.embedding) if shape.classes else None
    answer = network(x, torch.tensor([1, 500, 1000]), embedding)
    assert answer.shape == x.shape
    # each image is by itself
    alone = network(x[1:2], torch.tensor([500]), None if embedding is None else embedding[1:2])
    assert torch.allclose(answer[1:2], alone, atol=1e-5)


@pytest.mark.parametrize("shape", [UNET, MLP])
def test_the_class_is_heard_through_the_condition_maps_and_nothing_else(
    shape: NetworkShape,
) -> None:
    network = woken(shape)
    x, t = drawn(1, shape.channels, shape.size, shape.size), torch.tensor([300])
    first, second = drawn(1, 8, seed=1), drawn(1, 8, seed=2)
    assert not torch.allclose(network(x, t, first), network(x, t, second), atol=1e-4)
    maps = network.condition_maps()
    assert all(one.in_features == 8 and one.bias is None for one in maps)
    with torch.no_grad():
        for one in maps:
            one.weight.zero_()
    assert torch.equal(network(x, t, first), network(x, t, second))


@pytest.mark.parametrize("shape", [UNET, MLP])
def test_a_network_of_classes_needs_an_embedding(shape: NetworkShape) -> None:
    network = build_network(shape)
    assert network.table is not None
    assert network.table.weight.shape == (3, 8)
    with pytest.raises(ValueError, match="needs an embedding"):
        network(drawn(1, shape.channels, shape.size, shape.size), torch.tensor([1]), None)


def test_an_unconditional_network_has_no_table() -> None:
    for shape in (UNET, MLP):
        network = build_network(replace(shape, classes=0))
        assert network.table is None
        assert network.condition_maps() == ()


def test_weights_follow_from_the_seed() -> None:
    def first(seed: int) -> torch.Tensor:
        return next(build_network(MLP, seed=seed).parameters())

    assert torch.equal(first(1), first(1))
    assert not torch.equal(first(1), first(2))


def test_sides_and_widths_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="no multiple of 4"):
        build_network(replace(UNET, size=18))
    with pytest.raises(ValueError, match="one width"):
        build_network(replace(MLP, widths=(8, 16)))
    with pytest.raises(ValueError, match="for a network of 6 pixels"):
        build_network(MLP)(drawn(1, 1, 5, 5), torch.tensor([1]), drawn(1, 8))
