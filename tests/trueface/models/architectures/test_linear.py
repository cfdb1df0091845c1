"""The last features of a network and a linear layer."""

import torch

from trueface.models.detectors import build

torch.set_num_threads(1)


def test_features_are_the_last_ones_of_the_inner_network() -> None:
    linear, inner = (build(name, weights="none", seed=1) for name in ("linear/slim18", "slim18"))
    images = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    with torch.inference_mode():
        assert torch.equal(linear.forward_features(images), inner.forward_features(images))
        assert torch.equal(linear.forward_head(linear.forward_features(images)), linear(images))


def test_the_inner_networks_own_last_layer_is_in_no_file() -> None:
    names = build("linear/slim18", weights="none", seed=1).network.state_dict()
    assert {name for name in names if "fc" in name} == {"fc.weight", "fc.bias"}


def test_pixels_are_normalised_as_the_settings_ask() -> None:
    model = build("linear/mobilenet", weights="none", seed=1, normalization="half")
    assert model.mean.flatten().tolist() == [0.5] * 3
