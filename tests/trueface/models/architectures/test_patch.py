"""Networks that are cut after an early block."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from launcher.api import JobError
from trueface.models.architectures.patch import patch
from trueface.models.detectors import build
from trueface.models.registry import Made, spec_of

torch.set_num_threads(1)


@pytest.mark.parametrize(
    ("name", "width", "layer"),
    [
        ("patch/baseline18", 64, "layer1"),
        ("patch/mobilenet", 24, "features.3"),
        ("patch/squeezenet", 128, "features.4"),
        ("patch/slim18", 32, "layer2"),
    ],
)
def test_a_network_ends_with_the_last_block_at_a_quarter_of_the_resolution(
    name: str, width: int, layer: str
) -> None:
    model = build(name, weights="none", seed=1)
    assert model.feature_dim == width
    assert type(model.network.get_submodule(f"body.{layer}")).__name__ == "Last"


def test_nothing_is_kept_of_what_comes_after() -> None:
    model = build("patch/baseline18", weights="none", seed=1)
    assert not [
        name for name in model.network.state_dict() if "layer2" in name or "body.fc" in name
    ]
    assert isinstance(model.network.get_submodule("body.layer3"), nn.Identity)


def test_the_weights_are_those_of_the_inner_network() -> None:
    cut = build("patch/baseline18", weights="none", seed=1).network.state_dict()
    whole = build("baseline18", weights="none", seed=1).network.state_dict()
    assert torch.equal(cut["body.conv1.weight"], whole["conv1.weight"])
    name = "layer1.{}1.bn2.weight"
    assert torch.equal(cut["body." + name.format("layer.")], whole[name.format("")])


def test_the_logit_is_the_mean_of_those_of_the_patches() -> None:
    model = build("patch/slim18", weights="none", seed=1)
    images, maps = torch.rand(2, 3, 32, 32), list[torch.Tensor]()
    last = model.network.get_submodule("body.layer2.layer")
    last.register_forward_hook(lambda *call: maps.append(call[2]))
    with torch.inference_mode():
        logits = model(images)
        patches = model.head(maps[0].flatten(2).transpose(1, 2))  # (B, h·w, 1)
    torch.testing.assert_close(patches.mean(1), logits)


@pytest.mark.parametrize("stride", [1, 4, 16])
def test_a_network_without_an_early_block_is_refused(stride: int) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, stride, stride), nn.Flatten(), nn.LazyLinear(1))
    made = Made(network=network, spec=replace(spec_of("slim18"), name="coarse", input_size=32))
    with pytest.raises(JobError, match="coarse has no maps of a quarter of the resolution"):
        patch(made)
