import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from launcher.api import JobError, UnknownName
from tests.trueface.models.build import untrained
from trueface.models.checkpoint import (
    git_commit,
    load,
    load_detector,
    refuse_other_resolution,
    save_model,
    versions,
)
from trueface.models.detectors import Detector
from trueface.models.head import capture_inputs, compute_in_full_precision
from trueface.models.inference import fuse_conv_bn
from trueface.runtime.errors import CheckpointError

torch.set_num_threads(1)  # two that wait for each other under load are slower

SMALL = ["baseline18", "nodown18", "slim18", "squeezenet", "mobilenet", "mesonet", "f3net"]


def pixels(count: int = 4, side: int = 32) -> torch.Tensor:
    rng = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=rng)


def state(model: Detector) -> dict[str, torch.Tensor]:
    return dict(model.network.state_dict())


@pytest.mark.parametrize("name", [*SMALL, "linear/slim18", "fft", "spsl", "npr"])
def test_last_layer_in_float32_separates_logits_of_a_half_precision_network(name: str) -> None:
    model, images = untrained(name), pixels(64 if name == "slim18" else 8)

    def scores() -> tuple[Tensor, Tensor, Tensor]:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            features = model.forward_features(images)
            return features, model(images), model.forward_head(features)

    with torch.inference_mode():
        coarse = scores()[1]
        compute_in_full_precision(model.head)
        features, logits, of_features = scores()
        expected = model.head.forward(features)
    assert logits.dtype == of_features.dtype == torch.float32
    torch.testing.assert_close(of_features, expected, rtol=0, atol=0)
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)
    counts = [len(set(each.flatten().tolist())) for each in (coarse, logits)]
    assert counts == sorted(counts)
    if name == "slim18":
        assert counts[0] < counts[1] == len(images)


def test_weights_follow_from_the_seed_and_the_generator_of_torch_is_unchanged() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = untrained("slim18")
    assert torch.equal(torch.rand(3), expected)
    second = untrained("slim18")
    other = untrained("slim18", seed=2)
    assert torch.equal(state(first)["fc.weight"], state(second)["fc.weight"])
    assert not torch.equal(state(first)["fc.weight"], state(other)["fc.weight"])


def test_logit_and_features_of_crops_are_their_mean() -> None:
    model = untrained("slim18")
    crops = pixels(6).view(2, 3, 3, 32, 32)
    with torch.inference_mode():
        apart = model(crops.flatten(0, 1)).view(2, 3).mean(1, keepdim=True)
        torch.testing.assert_close(model(crops), apart)
        features = model.forward_features(crops)
        assert features.shape == (2, model.feature_dim)
        torch.testing.assert_close(model.forward_head(features), model(crops))


def test_bytes_and_floats_of_same_image_have_same_logit() -> None:
    model = untrained("slim18")
    with torch.inference_mode():
        torch.testing.assert_close(model(pixels()), model(pixels().float() / 255))


def test_unknown_normalization_is_reported_with_known_ones() -> None:
    with pytest.raises(UnknownName, match="Did you mean 'half'"):
        untrained("slim18", normalization="halv")


def test_format_is_channels_last_and_a_contiguous_one_gives_same_logits_to_rounding() -> None:
    last, first = untrained("slim18"), untrained("slim18", channels_last=False)
    assert state(last)["conv1.weight"].is_contiguous(memory_format=torch.channels_last)
    assert state(first)["conv1.weight"].is_contiguous()
    with torch.inference_mode():
        torch.testing.assert_close(last(pixels()), first(pixels()), rtol=1e-4, atol=1e-4)


def test_network_for_fixed_image_size_refuses_others_with_both_sizes() -> None:
    model = untrained("slim18")
    model.spec = replace(model.spec, input_size=48)
    with pytest.raises(JobError, match=r"48 by 48 pixels.* 32 by 32. Set resize_size to 48"):
        model(pixels())


@pytest.mark.parametrize(
    ("name", "side", "reason"),
    [
        (
            "squeezenet",
            12,
            r"squeezenet does not accept images of 12 by 12 pixels \(.*\)\. Change resize_size",
        ),
        ("residuals", 60, "at least 128 by 128 pixels, got 60 by 60. Set resize_size"),
    ],
)
def test_too_small_images_are_refused_when_network_is_built(
    name: str, side: int, reason: str
) -> None:
    with pytest.raises(JobError, match=reason):
        untrained(name, side=side)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "model" / "checkpoints" / "best.pt"
    save_model(path, untrained("slim18", seed=3), {"seed": 3, "job": "train/x"})
    return path


@pytest.mark.parametrize("name", ["slim18", "mesonet", "f3net"])
def test_model_is_restored_bit_for_bit_with_its_provenance_from_its_only_file(
    tmp_path: Path, name: str
) -> None:
    saved = tmp_path / "checkpoints" / "best.pt"
    model = untrained(name, seed=3)
    save_model(saved, model, {"seed": 3, "job": "train/x"})
    assert [path.name for path in saved.parent.iterdir()] == ["best.pt"]
    back = load_detector(saved, arch=name)
    assert {"seed": 3, "job": "train/x"}.items() <= load(saved).provenance.items()
    for name, value in model.network.state_dict().items():
        assert torch.equal(value, back.network.state_dict()[name]), name
    assert not back.training


def test_checkpoint_of_an_earlier_revision_of_its_network_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, model = tmp_path / "best.pt", untrained("f3net")
    save_model(path, model, {})
    load_detector(path)
    assert caplog.messages == []
    model.spec = replace(model.spec, revision="")  # as an earlier version saved it
    save_model(path, model, {})
    load_detector(path)
    (message,) = caplog.messages
    assert "state=made before 'f3net: published bands'" in message


def test_malicious_pickle_is_refused_and_not_executed(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[object, ...]]:
            return Path.touch, (tmp_path / "ran",)

    torch.save({"schema": 1, "state": Evil()}, tmp_path / "evil.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Evil(), protocol=2))
    for name in ("evil.pt", "plain.pt"):
        with pytest.raises(CheckpointError, match="cannot be read safely"):
            load(tmp_path / name)
    assert not (tmp_path / "ran").exists()


def test_versions_and_commit_are_recorded(tmp_path: Path) -> None:
    assert versions()["torch"] == str(torch.__version__)
    assert git_commit(tmp_path) is None


def test_base_without_nodown_is_not_continued_with_nodown(tmp_path: Path) -> None:
    model = untrained("baseline18")
    save_model(tmp_path / "best.pt", model, {})
    base = load(tmp_path / "best.pt")
    refuse_other_resolution(base, nodown=False)
    with pytest.raises(CheckpointError, match=r"trained without nodown\. Leave the setting out"):
        refuse_other_resolution(base, nodown=True)


class Crossed(nn.Module):
    """Its batch norm was registered after one convolution, and follows another."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 1)
        self.second = nn.Conv2d(4, 4, 1)
        self.norm = nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, 1)

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.second(self.norm(self.first(images)))
        return self.fc(features.mean((2, 3)))  # type: ignore[no-any-return]  # torch


def features(network: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad(), capture_inputs(network.get_submodule("fc")) as inputs:
        network(images)
    return inputs[0]


@pytest.mark.parametrize("crossed", [False, True])
def test_folded_network_has_features_of_original(*, crossed: bool) -> None:
    torch.manual_seed(1)
    network: nn.Module = Crossed()
    if not crossed:
        layers = {"conv": nn.Conv2d(3, 4, 1), "norm": nn.BatchNorm2d(4)}
        network = nn.Sequential()
        for name, layer in (layers | {"pool": nn.AdaptiveAvgPool2d(1)}).items():
            network.add_module(name, layer)
        network.add_module("flat", nn.Flatten())
        network.add_module("fc", nn.Linear(4, 1))
    for _ in range(20):  # statistics far from those of the beginning
        network(torch.randn(8, 3, 8, 8) * 3 + 2)
    network.eval()
    images = torch.randn(2, 3, 8, 8)
    copy = fuse_conv_bn(network, "fc")
    torch.testing.assert_close(features(copy, images), features(network, images))
    norms = [module for module in copy.modules() if isinstance(module, nn.BatchNorm2d)]
    assert bool(norms) == crossed


class OfFrames(nn.Module):
    """A network of clips that sees each frame alone."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.fc = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Linear(4, 1)

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        """Return logits (B, 1) of clips (B, 3, T, H, W)."""
        maps = self.norm(self.conv(clips.transpose(1, 2).flatten(0, 1)))
        logits: torch.Tensor = self.fc(maps.mean((2, 3)).unflatten(0, (len(clips), -1)).mean(1))
        return logits


def test_batch_norms_of_frames_are_folded() -> None:
    torch.manual_seed(1)
    network, clips = OfFrames(), torch.randn(2, 3, 5, 8, 8)
    network(clips * 3 + 2)
    copy = fuse_conv_bn(network.eval(), "fc", side=8, frames=5)
    torch.testing.assert_close(copy(clips), network(clips))
    assert not any(isinstance(module, nn.BatchNorm2d) for module in copy.modules())


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (
            lambda path: path.write_bytes(path.read_bytes()[:5000]),
            r"best\.pt cannot be read safely",
        ),
        (lambda path: path.unlink(), "Train this model first"),
        (
            lambda path: torch.save({"weights": torch.zeros(1)}, path),
            "not a checkpoint of schema 1",
        ),
    ],
    ids=["cut off", "absent", "another file"],
)
def test_non_checkpoint_file_is_refused(
    saved: Path, change: Callable[[Path], object], match: str
) -> None:
    change(saved)
    with pytest.raises(CheckpointError, match=match):
        load(saved)
