"""EfficientNet with the padding and the names of its libraries, and the detectors made of it."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.trueface.models.build import no_draws, undrawn
from trueface.models.blocks.efficientnet import (
    VARIANTS,
    EfficientNet,
    PaddedConv2d,
    Version,
    efficientnet_names,
)
from trueface.models.detectors import Detector
from trueface.models.published_checkpoints import read_published
from trueface.models.published_settings import PublishedSettings
from trueface.runtime.errors import JobError, WeightsError

torch.set_num_threads(1)

GAIN = 1.45
DETECTORS = {"sbi": 64, "effb4att": 64, "mat": 64, "ccvit": 224}  # a small side that each takes


@pytest.fixture(scope="module", params=DETECTORS)
def model(request: pytest.FixtureRequest) -> Detector:
    model = undrawn(request.param)
    make_live(model.network, nn.Conv2d, nn.Linear)
    return model


def make_live(network: nn.Module, *kinds: type[nn.Conv2d | nn.Linear]) -> None:
    """Give layers weights that carry signals to the end: with usual ones, all images have one logit."""
    torch.manual_seed(3)
    for each in network.modules():
        if isinstance(each, kinds):
            nn.init.normal_(each.weight, std=GAIN / each.weight[0].numel() ** 0.5)


def pixels(model: Detector, count: int = 2) -> Tensor:
    side = DETECTORS[model.spec.name]
    rng = torch.Generator().manual_seed(1)
    return torch.rand(count, 3, side, side, generator=rng)


# padding before and after the stem, and the depthwise convolutions of stride 2
@pytest.mark.parametrize(
    ("variant", "side", "version", "expected"),
    [
        ("b4", 380, "0.7", [(0, 1), (0, 1), (2, 2), (0, 1), (1, 2)]),
        ("b4", 380, "0.6", [(0, 1), (0, 1), (1, 2), (0, 1), (1, 2)]),
        ("b4", 224, "0.7", [(0, 1), (0, 1), (1, 2), (0, 1), (1, 2)]),
        ("b0", None, "0.7", [(0, 1), (0, 1), (1, 2), (0, 1), (1, 2)]),
        ("b0", 225, "0.6", [(1, 1), (1, 1), (2, 2), (1, 1), (2, 2)]),
    ],
)
def test_padding_follows_nominal_side_and_version(
    variant: str, side: int | None, version: Version, expected: list[tuple[int, int]]
) -> None:
    with torch.device("meta"):
        network = EfficientNet(variant, side=side, version=version)
    strided = [
        each
        for each in network.modules()
        if isinstance(each, PaddedConv2d) and each.stride == (2, 2)
    ]
    assert [
        tuple(int(each.padding[0]) + part for part in each.added) for each in strided
    ] == expected


def test_padding_of_convolution_is_of_the_named_sides() -> None:
    layer = PaddedConv2d(1, 1, 5, stride=2, padding=(1, 2))
    nn.init.dirac_(layer.weight)  # the pixel in the middle of the kernel
    image = torch.arange(16.0).view(1, 1, 4, 4)
    assert torch.equal(layer(image)[0, 0], image[0, 0, 1::2, 1::2])


@pytest.mark.parametrize("variant", VARIANTS)
def test_names_of_timm_become_those_of_efficientnet_pytorch(variant: str) -> None:
    timm = pytest.importorskip("timm")
    with torch.device("meta"):
        theirs = timm.create_model(f"tf_efficientnet_{variant}", num_classes=1)
        ours = EfficientNet(variant, logits=1)
    renamed = efficientnet_names(theirs.state_dict(), variant)
    assert {name: value.shape for name, value in renamed.items()} == {
        name: value.shape for name, value in ours.state_dict().items()
    }
    assert efficientnet_names(ours.state_dict(), variant).keys() == ours.state_dict().keys()


def test_file_of_timm_gives_the_logits_of_timm_at_the_nominal_side(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    with no_draws():
        theirs = timm.create_model("tf_efficientnet_b4", num_classes=1).eval()
    make_live(theirs, nn.Conv2d)
    torch.save(theirs.state_dict(), tmp_path / "b4.pth")
    model = undrawn("sbi", weights=str(tmp_path / "b4.pth"))
    images = torch.rand(1, 3, 380, 380, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        expected, blind = theirs(images), theirs(torch.zeros_like(images))
        spread = float((expected - blind).abs())
        assert spread > 1e-3
        assert torch.allclose(model(images), expected, atol=1e-4 * spread)


def test_training_starts_from_a_whole_file_of_the_backbone_alone(tmp_path: Path) -> None:
    path = tmp_path / "b0.pth"
    state = EfficientNet("b0", logits=2).state_dict()
    torch.save(state, path)
    network = undrawn("ccvit", weights=str(path)).network
    for part in ("sm", "lg"):
        own = network.get_parameter(f"{part}_image_embedder.efficient_net._conv_stem.weight")
        assert torch.equal(own, state["_conv_stem.weight"])
    with pytest.raises(WeightsError, match="with another shape"):
        undrawn("effb4att", weights=str(path))
    del state["_bn1.bias"]
    torch.save(state, path)
    with pytest.raises(
        WeightsError, match=r"1 missing \(sm_image_embedder.efficient_net._bn1.bias\)"
    ):
        undrawn("ccvit", weights=str(path))


def test_randomness_follows_mode_and_seed(model: Detector) -> None:
    images = pixels(model, 1)

    def logits(seed: int) -> Tensor:
        torch.manual_seed(seed)
        with torch.no_grad():
            result: Tensor = model(images)
        return result

    model.eval()
    assert torch.equal(logits(1), logits(2))
    model.train()
    for each in model.modules():
        if isinstance(each, nn.BatchNorm2d):
            each.eval()  # batch norms change with each pass
    assert torch.equal(logits(1), logits(1))
    assert not torch.equal(logits(1), logits(2))
    model.eval()


def published(path: Path, name: str, state: dict[str, Tensor], **given: Any) -> dict[str, Tensor]:
    torch.save({"model": state}, path)
    settings = {"architecture": name, "weights": str(path), "crop": DETECTORS[name], **given}
    with no_draws():
        return dict(read_published(path, PublishedSettings(**settings)).state)


def authors_file(model: Detector) -> tuple[dict[str, Tensor], int]:
    """Return a state dict as the authors have it, and its number of logits."""
    state, name = dict(model.network.state_dict()), model.spec.name
    for part in getattr(model.network, "unused_parts", ()):
        state[f"{part}.weight"] = torch.zeros(2)
    logits = 2 if name in {"sbi", "mat"} else 1
    for part in ("weight", "bias") if logits == 2 else ():
        row = state[f"{model.spec.head}.{part}"]
        state[f"{model.spec.head}.{part}"] = torch.cat([torch.zeros_like(row), row])
    prefix = "net." if name == "sbi" else ""
    return {f"{prefix}{key}": each for key, each in state.items()}, logits


def test_published_file_loads_and_parts_that_are_not_computed_are_listed(
    model: Detector, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    state, logits = authors_file(model)
    loaded = published(tmp_path / "a.pth", model.spec.name, state, logits=logits)
    own = model.network.state_dict()
    assert loaded.keys() == own.keys()
    assert all(torch.equal(loaded[name], own[name]) for name in own)
    assert all(f"{part} (1)" in caplog.text for part in getattr(model.network, "unused_parts", ()))


@pytest.mark.parametrize(
    ("name", "of", "given", "reason"),
    [
        ("effb4att", "sbi", {}, "missing"),
        ("sbi", "mat", {"logits": 2}, r"62 unexpected names do not \(attentions.mask"),
        ("mat", "mat", {"logits": 1}, "with 2 logits, but the setting logits is 1"),
        ("effb4att", "effb4att", {"logits": 2}, "with 1 logit, but the setting logits is 2"),
    ],
)
def test_file_of_another_detector_or_with_other_logits_is_refused(
    tmp_path: Path, name: str, of: str, given: dict[str, Any], reason: str
) -> None:
    state, _ = authors_file(undrawn(of))
    with pytest.raises(WeightsError, match=reason):
        published(tmp_path / "c.pth", name, state, **given)


def test_side_between_multiples_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(JobError, match=r"multiple of 224 pixels, got 256\. Set resize_size to 224"):
        undrawn("ccvit", side=256)


def test_head_and_order_of_classes_do_not_apply_without_last_layer() -> None:
    for given in ({"head": "sm_mlp_head.1"}, {"classes": "fake,real"}):
        with pytest.raises(ValueError, match="does not end in one linear layer"):
            PublishedSettings(architecture="ccvit", weights="a.pth", **given)
