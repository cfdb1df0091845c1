import numpy as np
import pytest
import torch
from scipy.linalg import logm
from torch import Tensor, nn
from torchvision.models import resnet18, squeezenet1_1, vit_b_16

from trueface.models.architectures.statistics import (
    BlockStatistics,
    CellProfiles,
    CentredMap,
    Correlations,
    Moments,
    blocks_of,
    centre,
    projection,
    reduce_maps,
)
from trueface.runtime.errors import JobError

torch.set_num_threads(1)


def chain() -> nn.Sequential:
    """Return three blocks: a convolution with what follows it, a part, a convolution at the end."""
    torch.manual_seed(3)
    part = nn.ModuleDict({"inside": nn.Conv2d(8, 12, 3, padding=1)})
    part.forward = lambda maps: part["inside"](maps).relu()
    first = nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True)
    return nn.Sequential(*first, nn.MaxPool2d(2), part, nn.Conv2d(12, 40, 1)).eval()


def maps(channels: int, side: int = 10) -> Tensor:
    random = torch.Generator().manual_seed(channels)
    mixed = torch.randn(channels, channels, generator=random)
    return torch.einsum(
        "dc,bchw->bdhw", mixed, torch.randn(2, channels, side, side + 2, generator=random)
    )


class TestBlocks:
    def test_are_convolutions_with_what_follows_them_and_parts(self) -> None:
        blocks = blocks_of(chain())
        assert [(block.name, block.channels, block.stride) for block in blocks] == [
            ("2", 8, 2),
            ("4", 12, 4),
            ("5", 40, 4),
        ]

    def test_of_published_networks(self) -> None:
        names = [block.name for block in blocks_of(resnet18().eval())]
        assert names[:3] == ["relu", "layer1.0", "layer1.1"]
        assert len(names) == 9
        assert [block.name for block in blocks_of(squeezenet1_1().eval().features)][:2] == [
            "1",
            "3",
        ]

    def test_of_a_transformer_are_refused(self) -> None:
        with torch.device("meta"):
            network = vit_b_16()
        with pytest.raises(JobError, match="takes images of any size, and a VisionTransformer"):
            blocks_of(network.to_empty(device="cpu"))

    def test_maps_are_those_of_the_layers_and_nothing_runs_after_the_last(self) -> None:
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

    def test_logarithms_of_covariances_are_those_of_scipy(self) -> None:
        values = maps(6)
        numbers = Correlations(6)(centre(values))
        for image, row in zip(values.double().numpy(), numbers.numpy(), strict=True):
            covariance = np.cov(image.reshape(6, -1), bias=True)
            shrunk = covariance + (1e-3 * covariance.trace() / 6 + 1e-6) * np.eye(6)
            assert np.allclose(row[:21], logm(shrunk)[np.triu_indices(6)], atol=1e-4)

    def test_the_fall_to_the_next_place_is_that_of_a_slow_reference(self) -> None:
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

    def test_wide_maps_are_projected_to_orthonormal_channels(self) -> None:
        columns = projection(96)
        assert columns.shape == (96, 24)
        assert torch.allclose(columns.T @ columns, torch.eye(24), atol=1e-5)
        assert torch.equal(columns, projection(96))
        assert torch.equal(projection(16), torch.eye(16))
        assert Correlations(96)(centre(maps(96))).shape == (2, Correlations(96).width)

    def test_profiles_follow_the_height_and_the_distance_from_the_axis(self) -> None:
        values = torch.zeros(1, 1, 8, 8)
        values[:, :, 2:4, :2] = 8  # the second row of cells, at the left
        means = CellProfiles(1)(centre(values))[0, :8].view(4, 2)
        expected = torch.zeros(4, 2)
        expected[1, 0] = 4  # the right cell has none
        assert torch.allclose(means, expected, atol=1e-5)
        square = maps(3, side=8)[..., :8]
        profiles = CellProfiles(3)(centre(square))
        assert torch.allclose(profiles, CellProfiles(3)(centre(square.flip(-1))), atol=1e-5)

    def test_a_channel_that_never_speaks_has_finite_numbers(self) -> None:
        silent = CentredMap(torch.zeros(1, 5), torch.zeros(1, 5, 8, 8))
        for reader in (Moments(5), Correlations(5), CellProfiles(5)):
            assert bool(reader(silent).isfinite().all())


class TestStatistics:
    def statistics(self, **options: object) -> BlockStatistics:
        readers = (Moments, Correlations)
        return BlockStatistics(
            chain(),
            mean=(0.5,) * 3,
            std=(0.25,) * 3,
            readers=readers,
            **options,  # type: ignore[arg-type]
        )

    def test_pixels_are_normalised_for_the_network(self) -> None:
        module = self.statistics()
        pixels = torch.randint(0, 256, (2, 3, 48, 48)).float()
        first = chain()[:3]((pixels / 255 - 0.5) / 0.25)
        assert torch.allclose(module(pixels)[:, :8], first.mean((2, 3)), atol=1e-5)

    def test_families_and_blocks_count_alike(self) -> None:
        module = self.statistics(coarsest=4)
        squares = module.weights().square()
        assert squares.shape == (module.width,) == module(torch.rand(1, 3, 64, 64)).shape[1:]
        assert float(squares.sum()) == pytest.approx(3, rel=1e-5)  # three families
        assert float(squares[:16].sum()) == pytest.approx(1 / 3, rel=1e-5)  # a block of the first
        assert len(self.statistics(coarsest=2.5).blocks) == 1

    def test_a_gradient_reaches_the_pixels(self) -> None:
        pixels = (255 * torch.rand(2, 3, 48, 48)).requires_grad_()
        self.statistics()(pixels).sum().backward()
        assert pixels.grad is not None
        assert float(pixels.grad.abs().max()) > 0
        assert bool(pixels.grad.isfinite().all())
