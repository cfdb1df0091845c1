"""What is said of each network in the paper that describes it, and what holds of all."""

from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError
from torch import nn
from torch.nn import functional

from launcher.api import JobError
from tests.trueface.models.build import undrawn, untrained
from trueface.models.architectures.f3net import (
    CELLS,
    IMAGE_BANDS,
    WINDOW,
    WINDOW_BANDS,
    BandFilters,
    Decomposition,
    LocalStatistics,
)
from trueface.models.architectures.npr import residual
from trueface.models.architectures.patch import patch
from trueface.models.architectures.spsl import phase_image
from trueface.models.architectures.srmconv import FilteredNetwork
from trueface.models.detectors import build_classifier, set_train_mode
from trueface.models.logits import BackboneHeadSplit
from trueface.models.pixel_statistics import cosine_matrix
from trueface.models.registry import BuiltNetwork, ClassifierShape, Stem, spec_of
from trueface.training.class_settings import ClassifySettings

SHAPES: tuple[tuple[str, Stem], ...] = (
    ("cnn", "small"), ("resnet18", "small"), ("resnet18", "large"), ("resnet50", "large"), ("vgg16", "small"),
    ("vit", "small"),
)  # fmt: skip


torch.set_num_threads(1)


@torch.no_grad()
def unlearned(module: Decomposition | LocalStatistics) -> Decomposition | LocalStatistics:
    module.filters.learned.zero_()
    return module


@pytest.mark.parametrize("size", [(64, 64), (40, 72)])
def test_three_band_images_sum_to_image_with_shared_limits_twice_and_fourth_is_image(
    size: tuple[int, int],
) -> None:
    images = torch.rand(2, 3, *size)
    with torch.no_grad():
        module = unlearned(Decomposition())
        parts = module(images).unflatten(1, (4, 3))
        counts = module.filters(*size)[:3].sum(0)
        down, across = map(cosine_matrix, size)
        twice = down.T @ ((down @ images @ across.T) * (counts - 1)) @ across
    assert counts.unique().tolist() == [1, 2]
    torch.testing.assert_close(parts[:, :3].sum(1), images + twice, rtol=0, atol=1e-4)
    torch.testing.assert_close(parts[:, 3], images, rtol=0, atol=1e-4)


def test_bands_cover_one_16th_one_16th_and_rest_of_spectrum() -> None:
    filters = unlearned(Decomposition()).filters(256, 256)
    shares = filters.detach().mean((1, 2)).tolist()
    assert shares == pytest.approx([1 / 16, 1 / 16, 7 / 8, 1], abs=4e-3)


def test_learned_filter_changes_band_by_less_than_one() -> None:
    module = Decomposition()
    with torch.no_grad():
        module.filters.learned.fill_(2.0)
        filters = module.filters(48, 48)
    sigma = (1 - torch.tensor(-2.0).exp()) / (1 + torch.tensor(-2.0).exp())
    torch.testing.assert_close(filters.amin((1, 2)), sigma * torch.ones(4) + torch.eye(4)[3])
    torch.testing.assert_close(filters.amax((1, 2)), sigma + torch.ones(4))


def bands_of(filters: BandFilters, height: int, width: int) -> list[torch.Tensor]:
    """Return the mask (height, width) of each band."""
    with torch.no_grad():
        filters.learned.zero_()
        return list(filters(height, width) == 1)


@pytest.mark.parametrize("side", [10, 32, 141, 224, 256, 299])
def test_image_bands_have_the_published_limits_on_both_ends(side: int) -> None:
    diagonal = torch.arange(side)[:, None] + torch.arange(side)
    found = bands_of(BandFilters(IMAGE_BANDS, CELLS, whole=True), side, side)
    limits = ((0, side // 2.82), (side // 2.82, side // 2), (side // 2, 2 * side), (0, 2 * side))
    for band, (first, last) in zip(found, limits, strict=True):
        assert torch.equal(band, (diagonal >= first) & (diagonal <= last))


def test_bands_of_a_window_share_only_whole_limits() -> None:
    diagonal = torch.arange(WINDOW)[:, None] + torch.arange(WINDOW)
    found = bands_of(BandFilters(WINDOW_BANDS, WINDOW, whole=False), WINDOW, WINDOW)
    held = [sorted(set(diagonal[band].tolist())) for band in found]
    assert held == [
        [0, 1, 2, 3], [4, 5, 6], [7, 8, 9, 10], [10, 11, 12, 13], [14, 15, 16], [17, 18],
    ]  # fmt: skip


def test_bands_of_an_image_that_is_not_square_cover_the_same_share_of_its_spectrum() -> None:
    wide = bands_of(BandFilters(IMAGE_BANDS, CELLS, whole=True), 64, 256)
    square = bands_of(BandFilters(IMAGE_BANDS, CELLS, whole=True), 256, 256)
    for one, other in zip(wide, square, strict=True):
        assert float(one.float().mean()) == pytest.approx(float(other.float().mean()), abs=0.01)


def test_local_statistics_are_log10_band_amplitudes_in_windows() -> None:
    place = (torch.arange(64) + 0.5) * torch.pi
    # frequency 9 of a window of 10 along rows alone: in the third of six bands, and in no other
    wave = torch.cos(place * 9 / 10).expand(1, 3, 64, 64)
    with torch.no_grad():
        statistics = unlearned(LocalStatistics())(wave)
    assert statistics.shape == (1, 6, 32, 32)
    inside = statistics[0, :, 5:-5, 5:-5].mean((1, 2))
    assert inside.argmax() == 2
    assert (inside[2] - inside[[0, 1, 3, 4, 5]].max()) > 1


def test_features_are_last_ones_of_inner_network() -> None:
    linear, inner = (untrained(name) for name in ("linear/slim18", "slim18"))
    images = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    with torch.inference_mode():
        assert torch.equal(linear.forward_features(images), inner.forward_features(images))
        assert torch.equal(linear.forward_head(linear.forward_features(images)), linear(images))


@pytest.mark.parametrize(
    ("name", "parameters", "width"), [("mesonet", 27_977, 16), ("npr", 1_437_761, 512)]
)
def test_network_has_published_number_of_parameters(name: str, parameters: int, width: int) -> None:
    model = untrained(name)
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    assert model.feature_dim == width


def test_last_pooling_at_256_pixels_is_over_4_by_4_as_published() -> None:
    blocks = untrained("mesonet").network.get_submodule("blocks")
    *before, last = list(blocks.children())
    maps = torch.nn.Sequential(*before)(torch.rand(1, 3, 256, 256))
    assert torch.equal(last(maps), torch.nn.functional.max_pool2d(maps, 4))


def test_nearest_neighbour_upsampled_image_leaves_no_residual() -> None:
    small = torch.rand(2, 3, 9, 7)
    large = functional.interpolate(small, scale_factor=2, mode="nearest")
    assert residual(large).abs().max() == 0


def test_residual_is_difference_from_upper_left_pixel_of_block() -> None:
    image = torch.arange(16.0).view(1, 1, 4, 4)
    assert residual(image)[0, 0, :2, :2].tolist() == [[0, 1], [4, 5]]


def test_odd_last_row_or_column_is_dropped() -> None:
    odd = torch.rand(2, 3, 5, 7)
    assert torch.equal(residual(odd), residual(odd[..., :4, :6]))


@pytest.mark.parametrize(
    ("name", "width", "layer"),
    [
        ("patch/baseline18", 64, "layer1"),
        ("patch/mobilenet", 24, "features.3"),
        ("patch/squeezenet", 128, "features.4"),
        ("patch/slim18", 32, "layer2"),
    ],
)
def test_network_ends_with_last_block_at_quarter_resolution(
    name: str, width: int, layer: str
) -> None:
    model = undrawn(name)
    assert model.feature_dim == width
    assert type(model.network.get_submodule(f"body.{layer}")).__name__ == "Last"


def test_logit_is_mean_of_patch_logits() -> None:
    model = untrained("patch/slim18")
    images, maps = torch.rand(2, 3, 32, 32), list[torch.Tensor]()
    last = model.network.get_submodule("body.layer2.layer")
    last.register_forward_hook(lambda *call: maps.append(call[2]))
    with torch.inference_mode():
        logits = model(images)
        patches = model.head(maps[0].flatten(2).transpose(1, 2))  # (B, h·w, 1)
    torch.testing.assert_close(patches.mean(1), logits)


@pytest.mark.parametrize("stride", [1, 4, 16])
def test_network_without_early_block_is_refused(stride: int) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, stride, stride), nn.Flatten(), nn.LazyLinear(1))
    made = BuiltNetwork(
        network=network, spec=replace(spec_of("slim18"), name="coarse", input_size=32)
    )
    with pytest.raises(JobError, match="coarse has no feature maps at a quarter of the resolution"):
        patch(made)


def test_phase_image_has_unit_amplitudes_and_phases_of_grey_image() -> None:
    images = torch.rand(2, 3, 16, 16, dtype=torch.float64).float()
    spectrum = torch.fft.fft2(phase_image(images))
    torch.testing.assert_close(spectrum.abs(), torch.ones_like(spectrum.abs()))
    grey = torch.fft.fft2(images.mean(1, keepdim=True))
    # the phase of real coefficients is 0 or pi, with either sign
    torch.testing.assert_close(spectrum * grey.abs(), grey, rtol=1e-3, atol=1e-3)


def test_contrast_does_not_change_phase() -> None:
    images = torch.rand(1, 3, 16, 16)
    torch.testing.assert_close(phase_image(images), phase_image(images / 2), rtol=0, atol=1e-5)


def test_logit_of_image_does_not_depend_on_its_batch() -> None:
    model = untrained("spsl")
    images = torch.rand(3, 3, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(model(images)[1:2], model(images[1:2]), rtol=0, atol=1e-5)


def test_each_filter_sums_to_zero_and_is_not_trained() -> None:
    network = FilteredNetwork()
    assert network.filters.shape == (9, 1, 5, 5)
    assert network.filters.sum((1, 2, 3)).abs().max() < 1e-6
    assert "filters" not in {name for name, _ in network.named_parameters()}
    assert "filters" not in network.state_dict()


def test_layers_after_filters_are_trained() -> None:
    model = untrained("srmconv")
    set_train_mode(model, fixed_statistics=False)
    model(torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize(("model", "stem"), SHAPES)
def test_every_network_gives_same_logits_for_bytes_and_floats_and_has_last_layer(
    model: str, stem: Stem
) -> None:
    network = build_classifier(ClassifierShape(model=model, stem=stem, size=32, classes=3), seed=1)
    pixels = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    with torch.inference_mode():
        logits = network(pixels)
        assert logits.shape == (2, 3)
        torch.testing.assert_close(logits, network(pixels.float() / 255))
        split = BackboneHeadSplit(network)
        assert split.head.out_features == 3
        assert split.features(pixels).shape == (2, split.width)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"model": "vgg16", "size": 16}, "needs images of at least 32 pixels"),
        ({"model": "vit", "size": 30}, "multiple of 4"),
        ({"model": "vit", "stem": "large", "size": 40}, "multiple of 16"),
        ({"model": "resnet81"}, "Did you mean 'resnet18'"),
    ],
)
def test_network_that_does_not_fit_images_is_refused(
    settings: dict[str, object], says: str
) -> None:
    with pytest.raises(ValidationError, match=says):
        ClassifySettings.model_validate({"data_root": "data", **settings})


def test_default_recipe_is_that_of_the_network() -> None:
    vit = ClassifySettings(data_root="d", model="vit").recipe
    assert (vit.optimizer, vit.lr) == ("adamw", 1e-3)
    mine = ClassifySettings(data_root="d", model="vit", optimizer="sgd", lr=0.5).recipe
    assert (mine.optimizer, mine.lr, mine.weight_decay) == ("sgd", 0.5, vit.weight_decay)
