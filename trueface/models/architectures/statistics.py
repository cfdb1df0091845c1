"""Detectors by statistics: of pixels (`models.pixel_statistics`), and of maps of network blocks.

The last layer is a ridge, fitted in closed form, except in `moments`.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from trueface.models.head import MlpHead, forward_hooks
from trueface.models.inference import fuse_conv_bn
from trueface.models.pixel_statistics import (
    BlockCosine,
    CosineTransform,
    Families,
    FamiliesNetwork,
    RadialSpectrum,
    ResidualEnergy,
    Residuals,
    Scaled,
    StatisticsFamily,
    StatisticsNetwork,
    uniform_weights,
)
from trueface.models.registry import BuiltNetwork, register_family, register_model
from trueface.runtime.errors import JobError, first_line
from trueface.runtime.rng import seeded_numpy_rng

DCT_SIDE = 256  # side of an image, in pixels
# numbers of an image, which a plan has to know without torch
COSINES = 576
ENERGIES = 384
POWERS = 540
RESIDUALS = 2028  # at one size
PIXEL_SHARE = 0.5  # share of a family of blocks: pixels' information hardly survives processing
COARSEST = 16  # stride of a block: beyond it a map shows objects, and 8 by 8 places are few
EPSILON = 1e-6  # added to a variance
LEAST_BLOCKS = 2
PROBE_SIDES = (96, 160)  # pixels; two, since maps with channels last have a side in their place
CONTAINERS = (nn.Sequential, nn.ModuleList)  # containers of blocks; their subclasses are blocks
NO_BLOCKS = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.Flatten)

Reduction = Callable[[int, Tensor], Tensor]  # function of a block's position and map (B, C, h, w)
LEVELS = 255  # grey level of white
AT_ONCE = 4  # images: their largest maps stay in the caches of a processor

Reader = Callable[[int], nn.Module]  # from the channels of a block to what reads its maps
CELLS = 4  # cells of the grid, on each side; an even number
PROJECTED = 24  # channels
SHRINKAGE = 1e-3  # part of the mean variance, added to each: a logarithm needs eigenvalues above 0
GRID = 4  # cells of a map, on each side
DEPTHS = (1 / 6, 1 / 3, 3 / 4)  # fractions of a network's depth: stages 2, 5 and 13 of MobileNet v2
ENERGY_CELLS = 8  # cells of an image, on each side


@dataclass(frozen=True, slots=True)
class CentredMap:
    """A block's map and its mean, apart."""

    mean: Tensor  # (B, C)
    centred: Tensor  # (B, C, h, w), of mean 0 over the map


def centre(maps: Tensor) -> CentredMap:
    """Return maps (B, C, h, w) as float32 with their means apart."""
    maps = maps.float()
    mean = maps.mean((2, 3), keepdim=True)
    return CentredMap(mean.flatten(1), maps - mean)


def log_deviation(variance: Tensor) -> Tensor:
    """Return ln of the deviation for variances that are >= 0 except for rounding."""
    return (variance.clamp_min(0) + EPSILON).log() / 2


class Moments(StatisticsFamily):
    """Mean and log deviation of each channel.

    Args:
        channels: of the map.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.width = 2 * channels

    def forward(self, maps: CentredMap) -> Tensor:
        """Return the numbers of each map, (B, 2C)."""
        return torch.cat([maps.mean, log_deviation(maps.centred.square().mean((2, 3)))], 1)


@dataclass(frozen=True, slots=True)
class NetworkBlock:
    """A block of a network."""

    name: str  # name of the module that returns the map
    channels: int
    stride: float  # side of an image by side of the map


class _LastBlock(Exception):  # not an error: ends the forward pass early
    pass


def blocks_of(network: nn.Module) -> tuple[NetworkBlock, ...]:
    """Return the blocks of a network, in the order of their registration.

    A block is a module that has parts, or a convolution with the norm and the activation after it.
    Only blocks that return maps (B, C, h, w), larger for a larger image, are listed.

    Raises:
        JobError: fewer than two do, as in a transformer, or it accepts only one image size.
    """
    names = list(_block_names(network))
    small, large = (_map_shapes(network, names, side) for side in PROBE_SIDES)
    blocks = [
        NetworkBlock(name, small[name][1], PROBE_SIDES[0] / small[name][2])
        for name in names
        if _are_maps(small.get(name, ()), large.get(name, ()))
    ]
    if len(blocks) < LEAST_BLOCKS:
        raise JobError(
            "statistics of blocks need a convolutional network, whose blocks return feature maps "
            f"(batch, channels, height, width). Only {len(blocks)} blocks of "
            f"{type(network).__name__} do. Choose another network, such as mobilenet."
        )
    return tuple(blocks)


def reduce_maps(
    network: nn.Module, images: Tensor, blocks: Sequence[NetworkBlock], reduction: Reduction
) -> list[Tensor]:
    """Return what `reduction` makes of each block's map, in the order of `blocks`.

    A map is reduced when it is made, and not kept; what follows the last block does not run.
    """
    results: dict[int, Tensor] = {}

    def reduce(position: int, answer: Tensor) -> None:
        results[position] = reduction(position, answer)
        if len(results) == len(blocks):
            raise _LastBlock

    _run(network, images, [block.name for block in blocks], reduce)
    return [results[position] for position in range(len(blocks))]


def _block_names(module: nn.Module, prefix: str = "") -> Iterator[str]:
    """Name the modules that end blocks: parts, or the last of a run of plain layers."""
    last_of_run = ""
    for name, child in module.named_children():
        path = f"{prefix}{name}"
        plain = not any(True for _ in child.children())
        if last_of_run and (not plain or isinstance(child, (nn.Conv2d, *NO_BLOCKS))):
            yield last_of_run
            last_of_run = ""
        if type(child) in CONTAINERS:
            yield from _block_names(child, f"{path}.")
        elif not plain:
            yield path
        elif not isinstance(child, NO_BLOCKS):
            last_of_run = path
    if last_of_run:
        yield last_of_run


def _map_shapes(network: nn.Module, names: Sequence[str], side: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}

    def note(position: int, answer: Tensor) -> None:
        shapes[names[position]] = tuple(getattr(answer, "shape", ()))  # a part may answer otherwise

    parameter = next(network.parameters(), torch.zeros(()))
    try:
        with torch.no_grad():
            _run(network, torch.zeros(1, 3, side, side).to(parameter), names, note)
    except (RuntimeError, AssertionError, ValueError) as error:  # libraries raise all of them
        raise JobError(
            "statistics of blocks need a network that accepts images of any size, but "
            f"{type(network).__name__} does not accept {side} pixels ({first_line(error)}). "
            "Choose a convolutional network, such as mobilenet."
        ) from error
    return shapes


def _are_maps(small: tuple[int, ...], large: tuple[int, ...]) -> bool:
    return len(small) == len(large) == 4 and small[1] == large[1] and small[2] < large[2]


def _run(
    network: nn.Module, images: Tensor, names: Sequence[str], see: Callable[[int, Tensor], None]
) -> None:
    """Run a network; let `see` have the position and the answer of each module of these names."""
    layers = enumerate(map(network.get_submodule, names))
    with (
        forward_hooks(layers, lambda key, _, __, answer: see(key, answer)),
        suppress(_LastBlock),
    ):
        network(images)


class BlockStatistics(nn.Module):
    """Statistics of the maps of a network's blocks, computed by readers.

    Each reader is a family, and every block has an equal part of it.

    Args:
        network: from images to any output. It is not changed.
        mean: of pixels in 0 … 1, for the normalisation of the network.
        std: standard deviation for the normalisation.
        readers: each builds a module with `width` and `weights`, from a `CentredMap` to numbers.
        coarsest: only blocks with at most this stride. None: all.
        depths: of the remaining blocks only those closest to these fractions of the depth, 0 … 1.
            None: all.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: nn.Module,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        readers: Sequence[Reader],
        coarsest: float | None = None,
        depths: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        for name, values in (("mean", mean), ("std", std)):
            levels = LEVELS * torch.tensor(values).view(3, 1, 1)
            self.register_buffer(name, levels, persistent=False)
        self.blocks = tuple(
            block for block in blocks_of(network) if coarsest is None or block.stride <= coarsest
        )
        self._at_depths = depths is not None
        if depths is not None:
            self.blocks = _blocks_at_depths(depths, self.blocks)
        self.readers = nn.ModuleList(
            Families(reader(block.channels) for reader in readers) for block in self.blocks
        )
        self.width = Families(self.readers).width

    def extra_repr(self) -> str:
        """Return what a body's fingerprint cannot see: which blocks are read, where not all are."""
        return " ".join(block.name for block in self.blocks) if self._at_depths else ""

    def weights(self) -> Tensor:
        """Return how much each number counts, (width,): the squares sum to 1 in each family."""
        weights: Tensor = Families(self.readers).weights() / len(self.blocks) ** 0.5
        return weights

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the numbers (B, width) of pixels (B, 3, H, W) in 0 … 255."""
        return torch.cat([self._compute_few(few) for few in torch.split(pixels, AT_ONCE)])

    def _compute_few(self, pixels: Tensor) -> Tensor:
        images = (pixels - self.mean) / self.std
        return torch.cat(reduce_maps(self.network, images, self.blocks, self._numbers), 1)

    def _numbers(self, position: int, maps: Tensor) -> Tensor:
        return self.readers[position](centre(maps))  # type: ignore[no-any-return]  # torch: modules return Any


def _blocks_at_depths(
    depths: Sequence[float], blocks: Sequence[NetworkBlock]
) -> tuple[NetworkBlock, ...]:
    """Return the blocks that end at parts of the depth, each once; of few blocks fewer."""
    last = len(blocks) - 1
    places = {min(max(round(depth * len(blocks)) - 1, 0), last) for depth in depths}
    return tuple(blocks[place] for place in sorted(places))


class CellProfiles(StatisticsFamily):
    """Mean and log deviation of each channel in each cell of a 4-by-4 grid, left and right alike.

    The two cells at the same distance from the vertical axis are averaged, so that a mirrored map
    has the same profiles. The deviation within a cell leaves out what changes slowly.

    Args:
        channels: of the map.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.width = CELLS * CELLS * channels

    def forward(self, maps: CentredMap) -> Tensor:
        """Return the numbers of each map, (B, 16C)."""
        cells = functional.adaptive_avg_pool2d(maps.centred, CELLS)
        squares = functional.adaptive_avg_pool2d(maps.centred.square(), CELLS)
        means = cells + maps.mean[..., None, None]
        deviations = log_deviation(squares - cells.square())
        return torch.cat([_fold_cells(means), _fold_cells(deviations)], 1).flatten(1)


def _fold_cells(cells: Tensor) -> Tensor:
    """Return the means of cells and their mirror images, (B, C, 4, 2)."""
    left, right = cells.chunk(2, 3)
    return (left + right.flip(3)) / 2


class Correlations(nn.Module):
    """Logarithms of covariances, and the decrease of correlations between neighbour positions.

    The first family is the logarithm of the covariance matrix of the k projected channels. The
    second contains correlations of a position with the next one in its row, symmetric in both
    directions, and with the one below it. The correlations at one position are subtracted. A generator that up-samples
    its maps causes a characteristic decrease.

    The projection depends on the number of channels alone. It is therefore the same for every
    network of these blocks, also after loading a checkpoint.

    Args:
        channels: of the maps.
    """

    projection: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("projection", projection(channels), persistent=False)
        self.kept = self.projection.shape[1]

    @property
    def width(self) -> int:
        """How many numbers a map has."""
        return sum(self._widths)

    def weights(self) -> Tensor:
        """Return how much each number counts, (width,), in two families."""
        return torch.cat([uniform_weights(width) for width in self._widths])

    def forward(self, maps: CentredMap) -> Tensor:
        """Return the numbers of each map, (B, width)."""
        places = maps.centred.permute(0, 2, 3, 1) @ self.projection  # (B, h, w, k)
        same, right, below = _neighbour_products(places)
        variances = same.diagonal(dim1=1, dim2=2)
        scale = (variances + EPSILON).rsqrt()
        scales = scale[:, :, None] * scale[:, None, :]
        rows, columns = torch.triu_indices(self.kept, self.kept, device=same.device)
        correlations = same * scales
        fall = (right + right.transpose(1, 2)) / 2 * scales - correlations
        numbers = (
            log_matrix(same)[:, rows, columns],
            fall[:, rows, columns],
            (below * scales - correlations).flatten(1),
        )
        return torch.cat(numbers, 1)

    @property
    def _widths(self) -> tuple[int, int]:
        triangle = self.kept * (self.kept + 1) // 2
        return triangle, triangle + self.kept**2


def log_matrix(covariances: Tensor) -> Tensor:
    """Return the logarithms (B, k, k) of covariance matrices (B, k, k), shrunk by 0.1 %."""
    wide = covariances.double()  # small eigenvalues follow the rounding of large ones
    level = wide.diagonal(dim1=1, dim2=2).mean(1) * SHRINKAGE + EPSILON
    shrunk = wide + level[:, None, None] * torch.eye(wide.shape[1]).to(wide)
    values, vectors = torch.linalg.eigh(shrunk)
    logarithms = values.clamp_min(EPSILON).log()
    matrices: Tensor = vectors * logarithms[:, None, :] @ vectors.transpose(1, 2)
    return matrices.to(covariances.dtype)


def _neighbour_products(places: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return mean products of channels, (B, k, k) each, of maps (B, h, w, k) of mean 0.

    The pairs are a position with itself, with the next one in its row, and with the one below. Next
    positions are taken in memory order, without copies. Pairs across the end of a row are
    subtracted again.
    """
    _, height, width, _ = places.shape
    flat = places.flatten(1, 2)
    over = _products(places[:, 1:, 0], places[:, :-1, -1])
    right = (_products(flat[:, 1:], flat[:, :-1]) - over) / (height * (width - 1))
    below = _products(flat[:, width:], flat[:, :-width]) / ((height - 1) * width)
    return _products(flat, flat) / (height * width), right, below


def _products(first: Tensor, second: Tensor) -> Tensor:
    products: Tensor = first.transpose(1, 2) @ second
    return products


def projection(channels: int, width: int = PROJECTED) -> Tensor:
    """Return orthonormal columns (channels, width), random but fixed; of few channels the identity."""
    if channels <= width:
        return torch.eye(channels)
    draws = seeded_numpy_rng(channels).standard_normal((channels, width))
    columns, triangle = np.linalg.qr(draws)
    return torch.from_numpy(columns * np.sign(np.diag(triangle))).float()


class GridMoments(StatisticsFamily):
    """Mean of each channel in each cell of a grid, and its log deviation over the map.

    Args:
        channels: of the map.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.width = (GRID * GRID + 1) * channels

    def forward(self, maps: CentredMap) -> Tensor:
        """Return the numbers of each map, (B, 17C): the means channel by channel, then the deviations."""
        means = functional.adaptive_avg_pool2d(maps.centred, GRID) + maps.mean[..., None, None]
        deviations = log_deviation(maps.centred.square().mean((2, 3)))
        return torch.cat([means.flatten(1), deviations], 1)


class MomentsNetwork(FamiliesNetwork):
    """Families of numbers of a frozen network, and a last layer of two, which steps train.

    Args:
        families: modules from pixels to numbers, with `width`.
        dropout: before the last layer.
    """

    revision = 1

    def __init__(self, *families: nn.Module, dropout: float = 0.0) -> None:
        super().__init__(*families)
        self.fc = MlpHead(self.features.width, dropout=dropout)


@register_model(
    "dct",
    summary="log magnitudes of the cosine transform of an image",
    solver="ridge",
    raw_pixels=True,
    input_size=DCT_SIDE,
    width=DCT_SIDE**2,
)
def dct() -> nn.Module:
    """Return a detector by the cosine transform of grey images of 256 by 256 pixels."""
    return StatisticsNetwork(CosineTransform(DCT_SIDE))


@register_model(
    "dct8",
    summary="statistics of the cosine coefficients of 8-by-8 blocks",
    solver="ridge",
    raw_pixels=True,
    differentiable=False,
    width=COSINES,
)
def dct8() -> nn.Module:
    """Return a detector by the cosine coefficients of 8-by-8 blocks."""
    return StatisticsNetwork(BlockCosine())


@register_model(
    "fft",
    summary="power spectrum by spatial frequency",
    solver="ridge",
    raw_pixels=True,
    width=POWERS,
)
def fft() -> nn.Module:
    """Return a detector by the azimuthal mean of the power spectrum."""
    return StatisticsNetwork(RadialSpectrum())


@register_model(
    "srm",
    summary="co-occurrences of noise residuals, at full and at half size",
    solver="ridge",
    raw_pixels=True,
    differentiable=False,
    width=2 * RESIDUALS,
)
def srm() -> nn.Module:
    """Return a detector by the spatial rich model."""
    return StatisticsNetwork(Residuals(), Residuals(half_scale=True))


@register_model(
    "residuals",
    summary="srm, dct8 and the distribution of the noise, without pretrained weights",
    solver="ridge",
    raw_pixels=True,
    differentiable=False,
    width=2 * RESIDUALS + COSINES + ENERGIES,
)
def residuals() -> nn.Module:
    """Return a detector by all statistics that need no network."""
    families = Residuals(), Residuals(half_scale=True), BlockCosine(), ResidualEnergy()
    return StatisticsNetwork(*families)


@register_family(
    "layers",
    summary="mean and deviation of every block of a frozen network",
    solver="ridge",
    raw_pixels=True,
    widths={"mobilenet": 5_600, "squeezenet": 5_200},
)
def layers(inner: BuiltNetwork) -> nn.Module:
    """Return a detector by the moments of the blocks of a network."""
    return StatisticsNetwork(_blocks(inner, Moments))


@register_family(
    "fused",
    summary="blocks of a frozen network, their covariances and profiles, srm and dct8",
    solver="ridge",
    raw_pixels=True,
    differentiable=False,
    widths={"mobilenet": 33_700, "squeezenet": 25_500},
)
def build_fused_statistics(inner: BuiltNetwork) -> nn.Module:
    """Return a detector by all statistics."""
    blocks = _blocks(inner, Moments, Correlations, CellProfiles, coarsest=COARSEST)
    pixels = (Residuals(), Residuals(half_scale=True), BlockCosine())
    return StatisticsNetwork(blocks, Scaled(pixels, PIXEL_SHARE))


@register_family(
    "moments",
    summary="means on a grid of three blocks of a frozen network, and a head of two layers",
    raw_pixels=True,
    differentiable=False,
    frozen=True,
    widths={"mobilenet": 2_776},
)
def moments(inner: BuiltNetwork) -> nn.Module:
    """Return a detector by a few moments of the blocks of a network, which learns by steps."""
    blocks = _blocks(inner, GridMoments, depths=DEPTHS)
    return MomentsNetwork(blocks, ResidualEnergy(ENERGY_CELLS, fold=False))


def _blocks(
    inner: BuiltNetwork,
    *readers: Reader,
    coarsest: float | None = None,
    depths: Sequence[float] | None = None,
) -> BlockStatistics:
    """Return statistics of the blocks of a network without its last layer, batch norms folded."""
    spec = inner.spec
    if spec.raw_pixels:
        raise JobError(f"{spec.name} has no blocks to read. Choose a network such as mobilenet.")
    network = fuse_conv_bn(inner.network, spec.head, side=spec.input_size)
    network.set_submodule(inner.head, nn.Identity())
    return BlockStatistics(
        network,
        mean=spec.mean,
        std=spec.std,
        readers=readers,
        coarsest=coarsest,
        depths=depths,
    )
