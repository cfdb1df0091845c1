"""Fixed filters before a shallow network."""

import torch

from trueface.models.architectures.srmconv import FilteredNetwork
from trueface.models.detectors import build, teach

torch.set_num_threads(1)


def test_each_filter_adds_up_to_nothing_and_does_not_learn() -> None:
    network = FilteredNetwork()
    assert network.filters.shape == (9, 1, 5, 5)
    assert network.filters.sum((1, 2, 3)).abs().max() < 1e-6
    assert "filters" not in {name for name, _ in network.named_parameters()}
    assert "filters" not in network.state_dict()


def test_brightness_is_not_seen_away_from_the_border() -> None:
    network = FilteredNetwork().eval()
    seen = list[torch.Tensor]()
    network.blocks.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    dark = torch.rand(1, 3, 32, 32) * 100
    with torch.inference_mode():
        network(dark)
        network(dark + 50)
    inside = [noise[..., 2:-2, 2:-2] for noise in seen]
    torch.testing.assert_close(*inside, rtol=0, atol=1e-3)
    assert seen[0].abs().max() <= 3


def test_what_is_behind_the_filters_learns() -> None:
    model = build("srmconv", weights="none", seed=1)
    teach(model, fixed_statistics=False)
    model(torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
