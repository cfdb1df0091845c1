"""Networks of torchvision and timm: built, read, refused."""

import importlib.util
import logging
from pathlib import Path

import pytest
import torch
from torchvision import models

from launcher.api import JobError, UnknownName
from tests.trueface.models.build import untrained
from trueface.models import checkpoint
from trueface.models.assembly import weights_sha256
from trueface.models.detectors import Detector, build_detector
from trueface.models.inference import FrozenBackbone, fuse_conv_bn
from trueface.runtime.errors import WeightsError

torch.set_num_threads(1)

NEEDS_TIMM = pytest.mark.skipif(
    importlib.util.find_spec("timm") is None, reason="timm is not installed: the extra `timm`"
)
# small ones, with batch norms that activate, and attention
TV, TIMM, TIMM_VIT = "tv/mobilenet_v3_small", "timm/mobilenetv3_small_050", "timm/test_vit"
SIDE = 64


def pixels() -> torch.Tensor:
    rng = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (3, 3, SIDE, SIDE), dtype=torch.uint8, generator=rng)


def made(name: str, weights: str = "none") -> Detector:
    return build_detector(name, weights=weights, seed=1, side=SIDE)


@NEEDS_TIMM
def test_batch_norms_with_activation_are_folded_with_it() -> None:
    model = made(TIMM)
    norms = [layer for layer in model.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
    for layer in norms:
        torch.nn.init.uniform_(layer.running_mean, -0.1, 0.1)  # type: ignore[arg-type]  # a tensor
        torch.nn.init.uniform_(layer.bias, -0.5, 0.5)
    network = fuse_conv_bn(model.network, model.spec.head)
    assert norms
    assert not [layer for layer in network.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
    with torch.inference_mode():
        features = model.forward_features(pixels())
        torch.testing.assert_close(
            FrozenBackbone(model)(pixels()),
            features,
            rtol=0,
            atol=1e-3 * float(features.abs().max()),
        )


def test_nodown_is_stored_in_checkpoint(tmp_path: Path) -> None:
    model = untrained(TV, nodown=True)
    checkpoint.save_model(tmp_path / "model.pt", model, {})
    again = checkpoint.load_detector(tmp_path / "model.pt")
    first = [
        next(layer for layer in each.modules() if isinstance(layer, torch.nn.Conv2d))
        for each in (made(TV), model, again)
    ]
    assert [layer.stride for layer in first] == [(2, 2), (1, 1), (1, 1)]


def test_torchvision_network_without_linear_layer_is_refused() -> None:
    with pytest.raises(JobError, match=r"has no linear layer.*available as squeezenet"):
        made("tv/squeezenet1_1")


@NEEDS_TIMM
def test_timm_gives_normalization_and_feature_width() -> None:
    import timm

    model = made(TIMM_VIT)
    config = timm.create_model("test_vit").pretrained_cfg
    torch.testing.assert_close(model.mean.flatten(), torch.tensor(config["mean"]))
    assert (model.spec.input_size, model.spec.library) == (SIDE, f"timm {timm.__version__}")
    assert made(TIMM).feature_dim == 1024  # and not 288, as num_features has it


@NEEDS_TIMM
@pytest.mark.parametrize(
    ("other", "reason"),
    [
        ("resnet34", r"unknown \(layer1\.2\.conv1\.weight, .*They fit model timm/resnet34\.$"),
        ("mobilenet_v2", r"100 missing \(conv1\.weight, .*They fit model mobilenet"),
    ],
)
def test_file_of_other_network_is_refused(other: str, reason: str, tmp_path: Path) -> None:
    torch.save(getattr(models, other)().state_dict(), tmp_path / "weights.pth")
    with pytest.raises(WeightsError, match=reason):
        made("timm/resnet18", str(tmp_path / "weights.pth"))


@NEEDS_TIMM
def test_position_embeddings_are_resampled_for_other_image_size(tmp_path: Path) -> None:
    import timm
    from safetensors.torch import save_file

    path = tmp_path / "weights.safetensors"
    save_file(timm.create_model("test_vit").state_dict(), path)
    small = made(TIMM_VIT, str(path)).network.get_parameter("pos_embed").shape[1]
    large = build_detector(TIMM_VIT, weights=str(path), seed=1, side=2 * SIDE).network
    assert large.get_parameter("pos_embed").shape[1] - 1 == 4 * (small - 1)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(WeightsError, match="cut off, or not a safetensors file"):
        made(TIMM_VIT, str(path))


@NEEDS_TIMM
def test_weights_with_restrictive_licence_are_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    name = "timm/convnextv2_atto.fcmae"
    torch.save(made(name).network.state_dict(), tmp_path / "weights.pth")
    caplog.set_level(logging.WARNING)
    made(name)
    assert not caplog.messages
    made(name, str(tmp_path / "weights.pth"))
    assert any(f"network={name} licence=cc-by-nc-4.0" in line for line in caplog.messages)


@NEEDS_TIMM
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("timm/levit_128s", "has two heads and returns the mean of their logits"),
        ("timm/crossvit_tiny_240", "ends in a ModuleList"),
    ],
)
def test_timm_network_with_several_heads_is_refused(name: str, reason: str) -> None:
    with pytest.raises(JobError, match=reason):
        untrained(name)


@NEEDS_TIMM
def test_size_not_divisible_by_patch_is_refused_with_valid_sizes() -> None:
    with pytest.raises(JobError, match=r"multiple of 16 pixels.*60. Set resize_size to 48 or 64"):
        untrained(TIMM_VIT, side=60)


@NEEDS_TIMM
def test_unknown_tag_is_reported_with_tags_of_network() -> None:
    with pytest.raises(UnknownName, match=r"timm/resnet18\.a1_in1k"):
        made("timm/resnet18.a9_in1k")


@NEEDS_TIMM
def test_published_timm_weights_are_not_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    sentence = (
        r"Download https://huggingface\.co/timm/resnet18\.a1_in1k/resolve/main/model\.safetensors"
    )
    for start in (
        lambda: made("timm/resnet18", "default"),
        lambda: weights_sha256("timm/resnet18", "default"),
    ):
        with pytest.raises(WeightsError, match=sentence):
            start()


@NEEDS_TIMM
def test_cached_timm_weights_with_other_digest_are_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--timm--resnet18.a1_in1k"
    blob, link = repository / "blobs" / ("0" * 64), repository / "snapshots/1/model.safetensors"
    for path, content in ((blob, "cut off"), (repository / "refs/main", "1")):
        path.parent.mkdir(parents=True)
        path.write_text(content)
    link.parent.mkdir(parents=True)
    link.symlink_to(blob)
    with pytest.raises(WeightsError, match=f"{blob} is damaged or another file.*Delete it"):
        made("timm/resnet18", "default")
