"""Networks of clips, and networks of images that score clips."""

from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tests.trueface.models.build import no_draws
from trueface.attacks.perturb import TOWARDS_FAKE, TOWARDS_REAL, Target, apply_attack
from trueface.attacks.registry import Attack, parse_attack
from trueface.data.clips import Clips
from trueface.models.assembly import CLIP_CLASSES, load_pretrained_state
from trueface.models.detectors import Detector, accept_clips, build_detector, logit_of_mean
from trueface.models.registry import ModelSpec, load_model_maker, model_name, spec_of
from trueface.runtime.errors import JobError, WeightsError
from trueface.training.distributed import RankRows


def clips_of(frames: int, *, count: int = 2, crops: int = 1, side: int = 32) -> Tensor:
    rng = torch.Generator().manual_seed(frames)
    shape = (count, crops, frames, 3, side, side)
    return torch.randint(0, 256, shape, generator=rng, dtype=torch.uint8)


@pytest.fixture(scope="module")
def model() -> Detector:
    """Return a network of clips; no test changes it."""
    return build_detector("tv/mc3_18", weights="none", seed=1, side=32)


def test_network_of_clips_gets_frames_after_channels_and_crops_are_averaged(
    model: Detector,
) -> None:
    pixels = clips_of(8, count=1, crops=2)
    mean, std = torch.tensor(model.spec.mean), torch.tensor(model.spec.std)
    assert model.spec.mean == pytest.approx((0.43216, 0.394666, 0.37645))
    with torch.no_grad():
        seen = ((pixels[0].float() / 255).movedim(2, -1) - mean) / std
        expected = model.network(seen.movedim(-1, 1)).mean(0, keepdim=True)
        assert torch.allclose(model(pixels), expected, atol=1e-5)
        assert torch.allclose(model(pixels.float() / 255), expected, atol=1e-4)
        assert torch.allclose(
            model.forward_head(model.forward_features(pixels)), expected, atol=1e-4
        )
        assert model(pixels[:0]).shape == (0, 1)


# with three frames, a network that takes channels for frames gives logits without an error
@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((2, 3, 32, 32), "not single images"),
        ((2, 3, 3, 32, 32), "not single images"),
        ((2, 8, 3, 32, 32), "not single images"),
        ((2, 1, 3, 3, 32, 32), "needs clips of 4 or more frames, got 3"),
    ],
)
def test_network_of_clips_refuses_images_and_short_clips(
    model: Detector, shape: tuple[int, ...], message: str
) -> None:
    for compute in (model.forward, model.forward_features):
        with pytest.raises(JobError, match=message):
            compute(torch.zeros(shape, dtype=torch.uint8))


@pytest.mark.parametrize("frames", [3, 8])
def test_network_of_images_scores_the_mean_probability_of_frames_if_clips_are_meant(
    frames: int,
) -> None:
    model = build_detector("slim18", weights="none", seed=1, side=32)
    pixels = clips_of(frames, crops=2)
    for compute in (model.forward, model.forward_features):
        with pytest.raises(JobError, match="clips in place of images"):
            compute(pixels)
    accept_clips(model, Clips(frames=frames))
    with torch.no_grad():
        of_frames = [model(pixels[:, :, at]).sigmoid() for at in range(frames)]
        assert torch.allclose(model(pixels).sigmoid(), torch.stack(of_frames).mean(0), atol=1e-6)
    with pytest.raises(JobError, match="no common features"):
        model.forward_features(pixels)


def test_log_odds_of_mean_probability_are_finite_for_sure_logits() -> None:
    sure = torch.tensor([[200.0, 180.0], [-200.0, -180.0], [0.0, 0.0]])
    assert logit_of_mean(sure, 1).tolist() == pytest.approx([180.6931, -180.6931, 0], abs=1e-3)


@pytest.mark.parametrize(
    ("name", "frames", "most"),
    [
        ("tv/r3d_18", 4, None), ("tv/mc3_18", 4, None), ("tv/r2plus1d_18", 4, None),
        ("tv/swin3d_t", 4, None), ("tv/mvit_v2_s", 16, 16), ("ftcn", 32, 32), ("tv/resnet18", None, None),
    ],
)  # fmt: skip
def test_frames_of_a_network_are_known_before_it_is_made(
    name: str, frames: int | None, most: int | None
) -> None:
    assert model_name(name) == name
    assert (spec_of(name).frames, spec_of(name).most_frames) == (frames, most)


def test_last_layer_of_400_classes_is_replaced_only_for_networks_of_clips() -> None:
    stem, last = nn.Linear(2, 3), nn.Linear(3, 1)
    layer = nn.Sequential(OrderedDict(stem=stem, fc=last))
    state = {**layer.state_dict(), "stem.bias": torch.ones(3)}
    state |= {"fc.weight": torch.zeros(400, 3), "fc.bias": torch.zeros(400)}
    head = last.weight.clone()
    load_pretrained_state(layer, state, "they", head="fc", classes=CLIP_CLASSES)
    assert torch.equal(stem.bias, torch.ones(3))
    assert torch.equal(last.weight, head)
    with pytest.raises(WeightsError, match="Only a layer of ImageNet's 1000 classes is replaced"):
        load_pretrained_state(layer, state, "they", head="fc")


def test_weights_of_another_detector_of_clips_are_refused_by_name(tmp_path: Path) -> None:
    with torch.device("meta"):
        state = load_model_maker("altfreezing")().state_dict()
    path = tmp_path / "theirs.pth"
    torch.save({name: torch.zeros(()).expand(each.shape) for name, each in state.items()}, path)
    with no_draws(), pytest.raises(WeightsError, match=r"with another shape .*fit model altfreez"):
        build_detector("ftcn", weights=str(path), seed=1)


class Brightness(nn.Module):
    """The mean of all pixels of a clip (B, 3, T, H, W)."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(1, 1)
        nn.init.ones_(self.fc.weight)

    def forward(self, clips: Tensor) -> Tensor:
        """Return (B, 1)."""
        return self.fc(clips.mean((1, 2, 3, 4))[:, None])  # type: ignore[no-any-return]  # torch


@pytest.mark.parametrize("attack", ["fgsm4", "pgd4", "random4"])
@pytest.mark.parametrize("frames", [8, 3])
def test_attack_moves_all_frames_of_a_clip_in_the_direction_of_its_class(
    attack: str, frames: int
) -> None:
    spec = ModelSpec("brightness", summary="", frames=2)
    model = Detector(spec, Brightness())
    pixels = clips_of(frames, count=frames, side=6).clamp(40, 200)  # as many clips as frames
    fake = torch.arange(frames) % 2 == 0
    directions = torch.where(fake, TOWARDS_REAL, TOWARDS_FAKE)
    names = [str(at) for at in range(frames)]
    parsed = parse_attack(attack)
    assert isinstance(parsed, Attack)
    target = Target(model, "cpu")
    after = apply_attack(pixels, names, parsed, target, directions=directions, of_clips=True)
    moved = after.int() - pixels.int()
    assert moved.abs().max() == 4
    if attack != "random4":
        signs = moved.flatten(2).float().mean(2).sign().flatten()
        assert torch.equal(signs, directions)
        if attack == "fgsm4":
            assert torch.equal(
                moved.sign().float(), directions.view(-1, 1, 1, 1, 1, 1).expand_as(moved)
            )
    with pytest.raises(JobError, match="6 dimensions"):
        apply_attack(pixels, names, parsed, target, directions=directions)


@pytest.mark.parametrize(
    ("shape", "whole", "rows"),
    [
        ((4, 3, 8, 8), False, 1),
        ((4, 2, 3, 8, 8), False, 2),
        ((4, 2, 5, 3, 8, 8), False, 10),
        ((4, 2, 5, 3, 8, 8), True, 2),
    ],
)
def test_rows_of_an_image_or_clip_in_the_batch_of_all_processes(
    shape: tuple[int, ...], whole: bool, rows: int
) -> None:
    assert RankRows(whole_clips=whole).per_image(shape) == rows
