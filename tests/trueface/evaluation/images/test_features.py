"""Feature networks of the Fréchet distance: each is named, and none is downloaded."""

from pathlib import Path

import pytest
import torch

from trueface.evaluation.image_measures import feature_network
from trueface.runtime.errors import UsageError

SQUEEZENET = Path(__file__).parents[5] / "shared/data/weights/squeezenet1_1_imagenet_tv_fp16.pt"


def test_the_random_network_is_always_the_same_one() -> None:
    images = torch.rand(3, 3, 16, 16) * 2 - 1
    features = feature_network("random")(images)
    assert features.shape == (3, 64)
    assert torch.equal(features, feature_network("random")(images))


def test_a_trained_network_without_its_file_is_an_error_that_says_what_to_give() -> None:
    with pytest.raises(UsageError, match="feature_weights"):
        feature_network("squeezenet")


def test_a_network_of_the_laboratory_gives_the_input_of_its_last_layer() -> None:
    if not SQUEEZENET.is_file():
        pytest.skip("../shared/data/weights is not here")
    network = feature_network("squeezenet", SQUEEZENET)
    assert network.name == "squeezenet"
    assert network(torch.zeros(2, 1, 32, 32)).shape == (2, 512)
