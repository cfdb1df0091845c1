"""Detectors by statistics: see `models.pixel_statistics` for what they read.

The last layer of all but `moments` is a ridge, fitted in closed form.
"""

from collections.abc import Sequence

from torch import nn

from trueface.models.block_statistics import (
    DEPTHS,
    ENERGY_CELLS,
    BlockStatistics,
    CellProfiles,
    Correlations,
    GridMoments,
    Moments,
    MomentsNetwork,
    Reader,
)
from trueface.models.inference import folded
from trueface.models.pixel_statistics import (
    BlockCosine,
    CosineTransform,
    RadialSpectrum,
    ResidualEnergy,
    Residuals,
    Scaled,
    StatisticsNetwork,
)
from trueface.models.registry import Made, register_family, register_model
from trueface.runtime.errors import JobError

DCT_SIDE = 256  # of an image, in pixels
# numbers of an image, which a plan has to know without torch
COSINES = 576
ENERGIES = 384
POWERS = 540
RESIDUALS = 2028  # at one size
PIXEL_SHARE = 0.5  # of a family of blocks: what pixels say does not survive much processing
COARSEST = 16  # stride of a block: beyond it a map shows objects, and 8 by 8 places are few


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
    return StatisticsNetwork(Residuals(), Residuals(halved=True))


@register_model(
    "residuals",
    summary="srm, dct8 and where the noise lies: what needs no weights of a network",
    solver="ridge",
    raw_pixels=True,
    differentiable=False,
    width=2 * RESIDUALS + COSINES + ENERGIES,
)
def residuals() -> nn.Module:
    """Return a detector by all statistics that need no network."""
    families = Residuals(), Residuals(halved=True), BlockCosine(), ResidualEnergy()
    return StatisticsNetwork(*families)


@register_family(
    "layers",
    summary="mean and deviation of every block of a frozen network",
    solver="ridge",
    raw_pixels=True,
    widths={"mobilenet": 5_600, "squeezenet": 5_200},
)
def layers(inner: Made) -> nn.Module:
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
def fused(inner: Made) -> nn.Module:
    """Return a detector by all statistics."""
    blocks = _blocks(inner, Moments, Correlations, CellProfiles, coarsest=COARSEST)
    pixels = (Residuals(), Residuals(halved=True), BlockCosine())
    return StatisticsNetwork(blocks, Scaled(pixels, PIXEL_SHARE))


@register_family(
    "moments",
    summary="means on a grid of three blocks of a frozen network, and a layer of two on them",
    raw_pixels=True,
    differentiable=False,
    frozen=True,
    widths={"mobilenet": 2_776},
)
def moments(inner: Made) -> nn.Module:
    """Return a detector by a few moments of the blocks of a network, which learns by steps."""
    blocks = _blocks(inner, GridMoments, depths=DEPTHS)
    return MomentsNetwork(blocks, ResidualEnergy(ENERGY_CELLS, folded=False))


def _blocks(
    inner: Made,
    *readers: Reader,
    coarsest: float | None = None,
    depths: Sequence[float] | None = None,
) -> BlockStatistics:
    """Return statistics of the blocks of a network without its last layer, batch norms folded."""
    spec = inner.spec
    if spec.raw_pixels:
        raise JobError(f"{spec.name} has no blocks to read; take a network, such as mobilenet")
    network = folded(inner.network, spec.head, side=spec.input_size)
    network.set_submodule(spec.head, nn.Identity())
    return BlockStatistics(
        network,
        mean=spec.mean,
        std=spec.std,
        readers=readers,
        coarsest=coarsest,
        depths=depths,
    )
