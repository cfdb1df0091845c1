"""F3-Net: Y. Qian et al., "Thinking in Frequency", ECCV 2020, arXiv 2007.09355, sections 3.1 and 3.2.

One branch gets the image in bands of its spectrum (frequency-aware decomposition), the other the
amplitude of each band around every position (local frequency statistics). A filter is a band plus a
learned term sigma(f) = (1 - exp(-f)) / (1 + exp(-f)), which is in -1 … 1.

Differences: each branch is the beginning of Xception, as in `spsl`. The paper uses a whole one with
ImageNet weights, which cannot be trained from scratch on few images. The attention between the two
branches (MixBlock, section 3.3) is left out, and their features are concatenated. The paper uses
images of 299 pixels and learns one number per coefficient. Here the numbers are on a grid of 32 by
32 that is stretched over the spectrum, so that images may have any size. Statistics are those of
the grey image.

The limits of the bands are those of the published code (github.com/yyk-wew/F3Net). A coefficient in row i
and column j is on anti-diagonal i + j. Both limits belong to a band, so adjacent bands share one
anti-diagonal. Those of the image are whole numbers: 0, side // 2.82, side // 2, and 2 side. In an image
that is not square, anti-diagonals are counted along the longer side.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from trueface.models.blocks.xception import ShallowXception
from trueface.models.pixel_statistics import cosine_matrix
from trueface.models.registry import register_model

Band = tuple[float, float]  # first and last place in the spectrum, as a fraction of the side: 0 … 2
COLOURS = 3
HALF = (0.5, 0.5, 0.5)
FEATURES = 512  # features of both branches, 256 each
# The positions below t <= 1 contain t² / 2 of the spectrum. The bands are the first 1/16, up to 1/8,
# the rest, and the whole spectrum. They give the 12 channels of the published network, which rounds the
# root of 8 to 2.82.
LOW = 1 / 2.82
IMAGE_BANDS: tuple[Band, ...] = ((0, LOW), (LOW, 0.5), (0.5, 2), (0, 2))
CELLS = 32  # cells of the learned part, on each side
WINDOW, STRIDE, PADDING = 10, 2, 4  # pixels: half as many windows as pixels along each side
COUNT = 6  # bands of a window, of equal width
WINDOW_BANDS = tuple(pairwise(2 * number / COUNT for number in range(COUNT + 1)))
LEARNED_SPREAD = 0.1  # initial value; not in the paper. At 0 nothing beyond a band would be trained
EPSILON = 1e-4  # added to amplitudes; pixels are in -1 … 1


class BandFilters(nn.Module):
    """Filters of a spectrum: a band each, and a learned part of `cells` by `cells` numbers.

    Args:
        bands: places of the limits, which belong to the bands.
        cells: side of the learned part.
        whole: whether limits are rounded down to whole anti-diagonals.
    """

    def __init__(self, bands: Sequence[Band], cells: int, *, whole: bool) -> None:
        super().__init__()
        self.bands, self.whole = tuple(bands), whole
        self.learned = nn.Parameter(LEARNED_SPREAD * torch.randn(len(self.bands), cells, cells))

    def extra_repr(self) -> str:
        """Return what the tensors do not show."""
        return repr(self.bands)

    def forward(self, height: int, width: int) -> Tensor:
        """Return the filters (N, height, width) of spectra of that size."""
        rows, columns = (torch.arange(side, device=self.learned.device) for side in (height, width))
        # in anti-diagonals of the longer side, exact in a square
        diagonals = (rows[:, None] * width + columns * height) / min(height, width)
        limits = [[self._limit(each, max(height, width)) for each in band] for band in self.bands]
        base = torch.stack([(low <= diagonals) & (diagonals <= high) for low, high in limits])
        added = functional.interpolate(self.learned[None], (height, width), mode="bilinear")[0]
        filters: Tensor = base + torch.tanh(added / 2)  # the second term is sigma
        return filters

    def _limit(self, fraction: float, side: int) -> float:
        """Return a limit in anti-diagonals."""
        limit = round(fraction * side, 9)  # 141 / 2.82 is 50, not slightly less
        return float(math.floor(limit)) if self.whole else limit


class Decomposition(nn.Module):
    """An image as the parts that filters let pass."""

    def __init__(self) -> None:
        super().__init__()
        self.filters = BandFilters(IMAGE_BANDS, CELLS, whole=True)

    def forward(self, images: Tensor) -> Tensor:
        """Return the parts (B, 12, H, W) of images (B, 3, H, W), the colours of a part in a row."""
        height, width = images.shape[-2:]
        down, across = (cosine_matrix(side).to(images) for side in (height, width))
        spectrum = down @ images @ across.T
        parts = spectrum[:, None] * self.filters(height, width)[:, None]  # (B, 4, 3, H, W)
        images = down.T @ parts @ across
        return images.flatten(1, 2)


class LocalStatistics(nn.Module):
    """How strong each band is in windows of 10 by 10 pixels."""

    basis: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.filters = BandFilters(WINDOW_BANDS, WINDOW, whole=False)
        row = cosine_matrix(WINDOW)
        basis = torch.einsum("ui,vj->uvij", row, row).flatten(0, 1)[:, None]  # (100, 1, 10, 10)
        self.register_buffer("basis", basis, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return log10 amplitudes (B, 6, H // 2, W // 2) of images (B, 3, H, W)."""
        grey = images.mean(1, keepdim=True)
        spectra = functional.conv2d(grey, self.basis, stride=STRIDE, padding=PADDING)
        filters = self.filters(WINDOW, WINDOW).abs().view(COUNT, -1, 1, 1)
        return (functional.conv2d(spectra.abs(), filters) + EPSILON).log10()


class F3Net(nn.Module):
    """A shallow Xception on the parts of an image, and one on its local statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.decomposition, self.statistics = Decomposition(), LocalStatistics()
        self.parts = ShallowXception(len(IMAGE_BANDS) * COLOURS)
        self.amplitudes = ShallowXception(COUNT, stride=1)  # these maps have half the size already
        self.fc = nn.Linear(FEATURES, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (B, 1) of images (B, 3, H, W)."""
        # high frequencies are weak compared with low ones: half precision would lose them
        with torch.autocast(images.device.type, enabled=False):
            parts, amplitudes = self.decomposition(images), self.statistics(images)
        features = torch.cat([self.parts(parts), self.amplitudes(amplitudes)], 1)  # (B, 512)
        return self.fc(features)  # type: ignore[no-any-return]  # torch: modules return Any


@register_model(
    "f3net",
    summary="two shallow Xceptions on frequency bands and on local statistics of the spectrum",
    mean=HALF,
    std=HALF,
    width=FEATURES,
    revision="f3net: published bands",
)
def f3net() -> nn.Module:
    """Return the network, with random weights."""
    return F3Net()
