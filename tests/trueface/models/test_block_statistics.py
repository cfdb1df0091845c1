from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.linalg import logm
from torch import Tensor, nn
from torchvision.models import vit_b_16

from tests.trueface.models.build import undrawn, untrained
from tests.trueface.models.test_pixel_statistics import images
from trueface.models import checkpoint
from trueface.models.architectures.statistics import (
    CellProfiles,
    CentredMap,
    Correlations,
    GridMoments,
    Moments,
    blocks_of,
    centre,
    reduce_maps,
)
from trueface.models.detectors import Detector, build_detector
from trueface.models.registry import SPECS, spec_of
from trueface.runtime.errors import JobError, UnknownName

torch.set_num_threads(1)


def chain() -> nn.Sequential:
    """Return three blocks: a convolution with what follows it, a part, a convolution at the end."""
    torch.manual_seed(3)
    part = nn.ModuleDict({"inside": nn.Conv2d(8, 12, 3, padding=1)})
    part.forward = lambda maps: part["inside"](maps).relu()
    first = nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True)
    return nn.Sequential(*first, nn.MaxPool2d(2), part, nn.Conv2d(12, 40, 1)).eval()


def maps(channels: int, side: int = 10) -> Tensor:
    rng = torch.Generator().manual_seed(channels)
    mixed = torch.randn(channels, channels, generator=rng)
    return torch.einsum(
        "dc,bchw->bdhw", mixed, torch.randn(2, channels, side, side + 2, generator=rng)
    )


class TestBlocks:
    def test_blocks_are_convolutions_with_following_layers_and_parts(self) -> None:
        blocks = blocks_of(chain())
        assert [(block.name, block.channels, block.stride) for block in blocks] == [
            ("2", 8, 2),
            ("4", 12, 4),
            ("5", 40, 4),
        ]

    def test_transformer_has_no_blocks_and_is_refused(self) -> None:
        with torch.device("meta"):
            network = vit_b_16()
        with pytest.raises(JobError, match="accepts images of any size, but VisionTransformer"):
            blocks_of(network.to_empty(device="cpu"))

    def test_maps_equal_layer_outputs_and_forward_stops_after_last(self) -> None:
        network, images = chain(), torch.rand(2, 3, 32, 32)
        blocks = blocks_of(network)[:2]
        network[5] = nn.Conv2d(99, 1, 1)  # would fail
        means = reduce_maps(network, images, blocks, lambda _, answer: answer.mean((2, 3)))
        first = network[:3](images)
        assert torch.allclose(means[0], first.mean((2, 3)))
        assert torch.allclose(means[1], network[4](network[3](first)).mean((2, 3)))
        assert not any(module._forward_hooks for module in network.modules())


class TestReaders:
    def test_moments_are_means_and_log_deviations(self) -> None:
        values = maps(5)
        numbers = Moments(5)(centre(values))
        assert torch.allclose(numbers[:, :5], values.mean((2, 3)), atol=1e-5)
        spread = values.std((2, 3), correction=0).log()
        assert torch.allclose(numbers[:, 5:], spread, atol=1e-4)

    def test_matrix_logarithms_of_covariances_match_scipy(self) -> None:
        values = maps(6)
        numbers = Correlations(6)(centre(values))
        for image, row in zip(values.double().numpy(), numbers.numpy(), strict=True):
            covariance = np.cov(image.reshape(6, -1), bias=True)
            shrunk = covariance + (1e-3 * covariance.trace() / 6 + 1e-6) * np.eye(6)
            assert np.allclose(row[:21], logm(shrunk)[np.triu_indices(6)], atol=1e-4)

    def test_neighbour_differences_match_slow_reference(self) -> None:
        values = maps(4, side=6)
        row = Correlations(4)(centre(values))[0, 10:].double().numpy()
        image = values[0].double().numpy()
        image = image - image.mean((1, 2), keepdims=True)
        scale = 1 / image.std((1, 2))

        def correlated(these: np.ndarray, those: np.ndarray) -> np.ndarray:
            flat = these.reshape(4, -1) @ those.reshape(4, -1).T / these[0].size
            scaled: np.ndarray = flat * scale[:, None] * scale[None, :]
            return scaled

        same = np.corrcoef(image.reshape(4, -1))
        right = correlated(image[:, :, 1:], image[:, :, :-1])
        below = correlated(image[:, 1:], image[:, :-1])
        expected = ((right + right.T) / 2 - same)[np.triu_indices(4)]
        assert np.allclose(row, np.concatenate([expected, (below - same).ravel()]), atol=1e-4)

    def test_profiles_depend_on_height_and_distance_from_axis(self) -> None:
        values = torch.zeros(1, 1, 8, 8)
        values[:, :, 2:4, :2] = 8  # the second row of cells, at the left
        means = CellProfiles(1)(centre(values))[0, :8].view(4, 2)
        expected = torch.zeros(4, 2)
        expected[1, 0] = 4  # the right cell has none
        assert torch.allclose(means, expected, atol=1e-5)
        square = maps(3, side=8)[..., :8]
        profiles = CellProfiles(3)(centre(square))
        assert torch.allclose(profiles, CellProfiles(3)(centre(square.flip(-1))), atol=1e-5)

    def test_constant_channel_has_finite_statistics(self) -> None:
        silent = CentredMap(torch.zeros(1, 5), torch.zeros(1, 5, 8, 8))
        for reader in (Moments(5), Correlations(5), CellProfiles(5)):
            assert bool(reader(silent).isfinite().all())


def detector(name: str = "moments/slim18", dropout: float = 0.0) -> Detector:
    return untrained(name, seed=4, dropout=dropout)


def test_grid_contains_cell_means_and_one_deviation_per_channel() -> None:
    maps = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1)) + 2
    numbers = GridMoments(3)(centre(maps))
    assert numbers.shape == (2, 51)
    cells = numbers[:, :48].view(2, 3, 4, 4)
    torch.testing.assert_close(cells[:, :, 1, 2], maps[:, :, 2:4, 4:6].mean((2, 3)))
    torch.testing.assert_close(
        numbers[:, 48:].exp(), maps.flatten(2).std(2, correction=0), atol=1e-5, rtol=1e-4
    )


def test_several_crops_and_small_images_are_refused() -> None:
    model = detector()
    with pytest.raises(JobError, match="Set test_crops to 0 or 1"):
        model.forward_features(torch.zeros(2, 3, 3, 64, 64, dtype=torch.uint8))
    with pytest.raises(JobError, match="Set resize_size to 64"):
        model.forward_features(torch.zeros(2, 3, 48, 48, dtype=torch.uint8))


def test_detector_is_built_from_networks_with_blocks() -> None:
    with pytest.raises(UnknownName, match="unknown model 'moments/dct8'"):
        detector("moments/dct8")


PLAIN = [name for name, spec in SPECS.items() if spec.raw_pixels and spec.solver == "ridge"]


def pixels(side: int = 128) -> torch.Tensor:
    return images(2, side=side).to(torch.uint8)


def detector_by_statistics(name: str, **options: str) -> Detector:
    return build_detector(name, weights=options.get("weights", "none"), seed=4)


@pytest.mark.parametrize("name", [*PLAIN, "mobilenet", "squeezenet", "slim18", "nodown18"])
def test_planned_width_equals_feature_width(name: str) -> None:
    model = undrawn(name)
    with torch.inference_mode():
        features = model.forward_features(
            pixels(SPECS[name].input_size or (128 if name in PLAIN else 32))
        )
    assert features.shape == (2, SPECS[name].width)
    assert features.dtype == torch.float32


@pytest.mark.parametrize("name", [*PLAIN, "fused/slim18"])
def test_images_without_texture_have_finite_features(name: str) -> None:
    model, side = detector_by_statistics(name), spec_of(name).input_size or 128
    grey = images(1, side=side)[:, :1].expand(-1, 3, -1, -1)  # one level for all colours
    black, white = torch.zeros(1, 3, side, side), torch.full((1, 3, side, side), 255.0)
    stripes = black.clone()
    stripes[..., ::2] = 255
    with torch.no_grad():
        batch = torch.cat([grey, black, white, stripes]).to(torch.uint8)
        assert bool(model.forward_features(batch).isfinite().all())


def test_family_of_pixels_has_half_the_weight_of_block_family() -> None:
    weights = detector_by_statistics("fused/slim18").get_buffer("network.fc.weights").square()
    assert float(weights.mean()) == pytest.approx(1, rel=1e-4)
    share = weights[-576:].sum() / weights.sum()
    assert float(share) == pytest.approx(0.5 / (4 + 3 * 0.5), rel=1e-4)  # dct8 of four and three


def test_checkpoint_contains_whole_network(tmp_path: Path) -> None:
    model = detector_by_statistics("layers/slim18")
    torch.nn.init.normal_(model.head.weight)
    # except for the last layer of the inner network, which is never called
    assert not any(name.endswith(".network.fc.weight") for name in model.state_dict())
    checkpoint.save_model(tmp_path / "model.pt", model, {})
    again = checkpoint.load_detector(tmp_path / "model.pt")
    assert torch.equal(again(pixels()), model(pixels()))


@pytest.mark.parametrize(
    ("name", "follows"), [("dct", True), ("fft", True), ("layers/slim18", True)]
)
def test_gradients_reach_pixels_if_declared(name: str, follows: bool) -> None:
    model = detector_by_statistics(name)
    torch.nn.init.normal_(model.head.weight)
    images = (pixels(256).float() / 255).requires_grad_()
    model(images).sum().backward()
    assert spec_of(name).differentiable == follows
    assert images.grad is not None
    assert float(images.grad.abs().max()) > 0


@pytest.mark.parametrize("name", ["srm", "residuals", "fused/slim18"])
def test_word_histograms_are_declared_without_gradient(name: str) -> None:
    assert not spec_of(name).differentiable


def test_statistics_have_no_blocks_to_read() -> None:
    with pytest.raises(UnknownName, match="unknown model 'layers/dct8'"):
        detector_by_statistics("layers/dct8")
