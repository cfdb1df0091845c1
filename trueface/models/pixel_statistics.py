"""Fixed statistics of pixels, and families of statistics, without fitted parameters.

A module of statistics has `width`, the number of statistics of an image or a map, and `weights()`,
their weights in the penalty of a ridge. The squares sum to 1 in each of its families, or to another
share of it. Statistics of pixels are residuals, spectra and cosine transforms of luma and chroma.
See `StatisticsNetwork`.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from trueface.models.head import RidgeHead
from trueface.runtime.errors import JobError

# ITU-T T.871, section 7: rows Y, Cb, Cr of columns R, G, B; Cb and Cr are centred at 0 here
FROM_RGB = (
    (0.299, 0.587, 0.114),
    (-0.168735892, -0.331264108, 0.5),
    (0.5, -0.418687589, -0.081312411),
)
TRUNCATION = 2  # T of the paper: residuals are -2 … 2
LEVELS = 2 * TRUNCATION + 1
LENGTH = 4  # residuals of a word: the order of the co-occurrence
WORDS = LEVELS**LENGTH
COLOURS = 3  # Y, Cb, Cr
DOWN, ACROSS = 0, 1  # axes of an image
RESIDUALS_SIDE = 128  # side of an image, in pixels: half of it still has 4,000 words
STEPS = (1, 2, 3, 4)  # q of orders 1, 2, 3 and of the square, in grey levels
CELLS = 16  # cells of the usual grid, on each side
CELL_SIDE = 8  # least side of a cell, in pixels
ENERGY_EPSILON = 0.05  # grey levels
SQUARE = ((-0.25, 0.5, -0.25), (0.5, -1.0, 0.5), (-0.25, 0.5, -0.25))  # the spatial rich model's
BINS = 180  # bins of a profile, from frequency 0 to the corner: one circle each, at 256 pixels
SPECTRUM_SIDE = 32  # side of an image, in pixels
POWER_EPSILON = 1e-4  # added to power; pixels are in grey levels and the transform is orthonormal
TRANSFORM_EPSILON = 1e-2  # grey levels: above what float32 rounds a transform of 256 by 256 pixels
SIDE = 8  # side of a block, in pixels
COSINE_SIDE = 64  # side of an image, in pixels: 64 blocks
VANISHED = 0.5  # grey levels: a coefficient below it is 0 when rounded
COSINE_EPSILON = 1e-2  # grey levels


class StatisticsFamily(nn.Module):
    """Numbers of an image or a map that count alike."""

    width: int

    def weights(self) -> Tensor:
        """Return how much each number counts, (width,): all alike."""
        return uniform_weights(self.width)


class Families(nn.ModuleList):
    """Modules of statistics, side by side."""

    def __init__(self, families: Iterable[nn.Module]) -> None:
        super().__init__(families)
        widths: list[int] = [member.width for member in self]  # type: ignore[misc]  # a number
        self.width = sum(widths)

    def weights(self) -> Tensor:
        """Return how much each number counts, (width,)."""
        return torch.cat([member.weights() for member in self])  # type: ignore[operator]  # a method

    def forward(self, source: Any) -> Tensor:
        """Return the statistics (B, width) of all members."""
        return torch.cat([member(source) for member in self], 1)


class Scaled(Families):
    """Families of which each counts `share` times as much, in squares, as it would.

    Args:
        families: modules of statistics.
        share: > 0.
    """

    def __init__(self, families: Iterable[nn.Module], share: float) -> None:
        super().__init__(families)
        self.share = share

    def weights(self) -> Tensor:
        """Return how much each number counts, (width,)."""
        return super().weights() * math.sqrt(self.share)


def uniform_weights(width: int) -> Tensor:
    """Return the weights of a family whose numbers count alike, (width,)."""
    return torch.full((width,), width**-0.5)


class FamiliesNetwork(nn.Module):
    """Families of statistics of an image, and a last layer on them.

    Attributes:
        revision: of the statistics. A change of any increments it, so that no store mixes them.
    """

    revision: int

    def __init__(self, *families: nn.Module) -> None:
        super().__init__()
        self.features = Families(families)

    def extra_repr(self) -> str:
        """Return what a body's fingerprint cannot see in tensors and layers."""
        return f"revision={self.revision}"

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the logits (B, 1) of pixels (B, 3, H, W) in 0 … 255, float32."""
        with torch.autocast(pixels.device.type, enabled=False):
            features = self.features(pixels)
        return self.fc(features)  # type: ignore[operator,no-any-return]  # torch: modules return Any


class StatisticsNetwork(FamiliesNetwork):
    """Families of statistics, which count alike whatever their widths, and a ridge layer.

    A ridge penalises all coefficients alike, so that a family of many numbers would drown the
    others. The layer's weights make up for it; their mean square is 1.

    Args:
        families: modules from pixels to numbers, with `width` and `weights`.
    """

    revision = 2

    def __init__(self, *families: nn.Module) -> None:
        super().__init__(*families)
        weights = self.features.weights()
        self.fc = RidgeHead(self.features.width)
        self.fc.weights.copy_(weights / weights.square().mean().sqrt())


def luma(pixels: Tensor) -> Tensor:
    """Return Y, (B, H, W) in 0 … 255, of pixels (B, 3, H, W) in 0 … 255."""
    return _combine_channels(pixels, FROM_RGB[0])


def luma_chroma(pixels: Tensor) -> Tensor:
    """Return Y, Cb and Cr, (B, 3, H, W) contiguous, of pixels (B, 3, H, W) in 0 … 255."""
    # one image at a time, with its colours apart: both stay in the caches of a processor
    return torch.cat(
        [
            torch.stack([_combine_channels(image.contiguous(), row) for row in FROM_RGB], 1)
            for image in torch.split(pixels, 1)
        ]
    )


def rounded_luma_chroma(pixels: Tensor) -> Tensor:
    """Return Y, Cb and Cr in whole grey levels, (B, 3, H, W) contiguous.

    Sums and differences of whole numbers are exact, whatever their order. No gradient passes.
    """
    return luma_chroma(pixels.detach()).round_()


def _combine_channels(pixels: Tensor, row: tuple[float, float, float]) -> Tensor:
    # element by element: a matrix product rounds otherwise in a batch than alone
    red, green, blue = pixels.unbind(1)
    return red * row[0] + green * row[1] + blue * row[2]


def halved_sums(planes: Tensor) -> Tensor:
    """Return the sums of 2-by-2 squares, (B, C, H // 2, W // 2); an odd last row or column is left out."""
    height, width = planes.shape[-2] // 2 * 2, planes.shape[-1] // 2 * 2
    even = planes[..., :height, :width]
    rows = even[..., ::2, :] + even[..., 1::2, :]
    return rows[..., ::2] + rows[..., 1::2]


def refuse_small(pixels: Tensor, least: int, noun: str) -> None:
    """Refuse images whose shorter side is below `least` pixels.

    Raises:
        JobError: so it is.
    """
    height, width = pixels.shape[-2:]
    if min(height, width) < least:
        raise JobError(
            f"{noun} need images of at least {least} by {least} pixels, got {width} by {height}. "
            f"Set resize_size to {least} or more, or choose a model without them."
        )


class Residuals(nn.Module):
    """Square roots of the frequencies of residual words in Y, Cb and Cr.

    Residuals: differences of order 1, 2 and 3 along rows and along columns, and the 3-by-3 square
    filter of the paper. Those along rows are read along rows, those along columns along columns,
    and count together; the square is read both ways. A word, its mirror image, its negative and
    both count as one (169 classes): a mirrored image has the same numbers. Square roots keep the
    few frequent words from hiding the others (Hellinger's distance).

    Residuals are whole numbers, so that counts are exact. No gradient reaches the pixels.

    Args:
        half_scale: whether images are halved first.
    """

    classes: Tensor

    def __init__(self, *, half_scale: bool = False) -> None:
        super().__init__()
        # factor of pixel values: sums of four pixels instead of means
        self.scale = 4 if half_scale else 1
        classes = word_classes()
        self.register_buffer("classes", torch.tensor(classes), persistent=False)
        self._members = [count for _, count in sorted(Counter(classes).items())]
        self.words = len(self._members)

    @property
    def width(self) -> int:
        """How many numbers an image has."""
        return 3 * len(STEPS) * self.words

    def weights(self) -> Tensor:
        """Return how much each number counts (width,): as all words of its class would together."""
        members: Tensor = torch.tensor(self._members) / sum(self._members)
        return (members / (3 * len(STEPS))).sqrt().repeat(3 * len(STEPS))

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the roots (B, 2028) of pixels (B, 3, H, W) in 0 … 255.

        Raises:
            JobError: an image is smaller than 128 by 128 pixels.
        """
        refuse_small(pixels, RESIDUALS_SIDE, "statistics of residuals")
        planes = rounded_luma_chroma(pixels)
        if self.scale > 1:
            planes = halved_sums(planes)
        # Y, Cb, Cr, Y, Cb, Cr …: all three in one pass; no residual is beyond 16 * 1,020
        rows = planes.permute(0, 2, 3, 1).flatten(2).to(torch.int16)  # (B, H, 3W)
        return torch.stack([self._frequencies(image) for image in rows]).sqrt().flatten(1)

    def _frequencies(self, rows: Tensor) -> Tensor:
        """Return the frequencies (3, 4, classes), sums of 1, of an image (H, 3W)."""
        across = down = rows
        counts = []
        for step in STEPS[:-1]:
            across, down = _difference(across, ACROSS), _difference(down, DOWN)
            counts.append(self._counts(across, step, [ACROSS]) + self._counts(down, step, [DOWN]))
        second = _difference(_difference(rows, ACROSS), ACROSS)
        square = _difference(_difference(second, DOWN), DOWN)
        counts.append(self._counts(square, STEPS[-1], [ACROSS, DOWN]))
        words = torch.stack(counts, 1)
        classes = words.new_zeros(*words.shape[:2], self.words)
        classes = classes.index_add(2, self.classes, words).float()
        return classes / classes.sum(2, keepdim=True)

    def _counts(self, residual: Tensor, step: int, axes: Sequence[int]) -> Tensor:
        """Return how often each word stands along the axes of a residual (h, 3w), (3, 625)."""
        levels = _levels(residual, step * self.scale)
        counts = [torch.bincount(_words(levels, axis), minlength=COLOURS * WORDS) for axis in axes]
        return torch.stack(counts).sum(0).view(COLOURS, WORDS)


def word_classes() -> list[int]:
    """Return the class of each of the 625 words, in the order of their numbers."""
    number: dict[tuple[int, ...], int] = {}
    classes = []
    for word in product(range(-TRUNCATION, TRUNCATION + 1), repeat=LENGTH):
        negative = tuple(-value for value in word)
        key = min(word, word[::-1], negative, negative[::-1])
        classes.append(number.setdefault(key, len(number)))
    return classes


def _difference(rows: Tensor, axis: int) -> Tensor:
    """Return each value's difference to the next one along an axis, of its colour."""
    here, there = _shifted_pair(rows, axis, 1)
    return there - here


def _levels(residual: Tensor, step: int) -> Tensor:
    """Return residuals divided by a step, rounded and cut off: 0 … 4, int16."""
    levels = residual.float().mul_(1 / step).round_().clamp_(-TRUNCATION, TRUNCATION)
    return levels.add_(TRUNCATION).to(torch.int16)


def _words(levels: Tensor, axis: int) -> Tensor:
    """Return the numbers of all words along an axis of levels (h, 3w), flat, int16.

    Those of Y are 0 … 624, those of Cb and Cr follow.
    """
    first, second = _shifted_pair(levels, axis, 1)
    pairs = torch.add(second, first, alpha=LEVELS)  # 0 … 24
    first, second = _shifted_pair(pairs, axis, 2)
    words = torch.add(second, first, alpha=LEVELS**2)
    colours = torch.arange(words.shape[1], dtype=torch.int16, device=words.device) % COLOURS
    return words.add_(colours * WORDS).flatten()


def _shifted_pair(rows: Tensor, axis: int, distance: int) -> tuple[Tensor, Tensor]:
    """Return values, and those that lie so many pixels further along an axis: (h, 3w) both."""
    step = distance * (COLOURS if axis == ACROSS else 1)
    length = rows.shape[axis] - step
    return rows.narrow(axis, 0, length), rows.narrow(axis, step, length)


class ResidualEnergy(StatisticsFamily):
    """Log mean magnitude of the 3-by-3 square residual of Y, Cb, Cr in cells.

    Args:
        cells: of the grid, on each side; an even number.
        fold: whether left and right count as the same cell, so that a mirrored image has the same
            numbers.
    """

    kernel: Tensor

    def __init__(self, cells: int = CELLS, *, fold: bool = True) -> None:
        super().__init__()
        self.register_buffer("kernel", torch.tensor(SQUARE)[None, None], persistent=False)
        self.cells, self.folded = cells, fold
        self.width = 3 * cells * cells // (2 if fold else 1)

    def extra_repr(self) -> str:
        """Return what a body's fingerprint cannot see, where it is not the usual."""
        return "" if self.cells == CELLS and self.folded else f"{self.cells}, folded={self.folded}"

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the logs (B, width) of pixels (B, 3, H, W) in 0 … 255.

        Raises:
            JobError: a cell of an image is smaller than 8 by 8 pixels.
        """
        refuse_small(pixels, CELL_SIDE * self.cells, "energies of residuals")
        planes = rounded_luma_chroma(pixels).flatten(0, 1)[:, None]  # (B·3, 1, H, W)
        magnitude = functional.conv2d(planes, self.kernel).abs()
        energies = functional.adaptive_avg_pool2d(magnitude, self.cells)
        if self.folded:
            left, right = energies.chunk(2, 3)
            energies = (left + right.flip(3)) / 2
        return (energies + ENERGY_EPSILON).log().reshape(len(pixels), self.width)


class RadialSpectrum(StatisticsFamily):
    """Log power of Y, Cb, Cr by distance from frequency 0, at 180 places of images of any size."""

    width = 3 * BINS

    def forward(self, pixels: Tensor) -> Tensor:
        """Return ln(power), (B, 540), of pixels (B, 3, H, W) in 0 … 255.

        Raises:
            JobError: an image is smaller than 32 by 32 pixels.
        """
        refuse_small(pixels, SPECTRUM_SIDE, "power spectra")
        planes = luma_chroma(pixels)
        power = torch.fft.rfft2(planes, norm="ortho").abs().square().flatten(2)  # (B, 3, H·(W/2+1))
        circle, share = _circles(planes.shape[-2], planes.shape[-1])
        shares = share.to(power)
        sums = power.new_zeros(*power.shape[:2], int(circle.max()) + 1)
        sums = sums.index_add(2, circle.to(power.device), power * shares)
        counts = torch.zeros_like(sums[0, 0]).index_add(0, circle.to(power.device), shares)
        profile = (sums / counts + POWER_EPSILON).log()
        return functional.interpolate(profile, BINS, mode="linear", align_corners=True).flatten(1)


def _circles(height: int, width: int) -> tuple[Tensor, Tensor]:
    """Return the circle of each coefficient of `rfft2`, and how many coefficients it stands for."""
    longer = max(height, width)
    vertical = torch.fft.fftfreq(height)[:, None]
    horizontal = torch.fft.rfftfreq(width)[None, :]
    circle = (torch.hypot(vertical, horizontal) * longer).round().long()
    share = torch.full_like(circle, 2)
    share[:, 0] = 1  # columns that a real image's spectrum holds once
    if width % 2 == 0:
        share[:, -1] = 1
    return circle.flatten(), share.flatten()


def cosine_matrix(size: int) -> Tensor:
    """Return the orthonormal DCT-II as a matrix (size, size): its rows are the frequencies."""
    index = torch.arange(size, dtype=torch.float64)
    angles = torch.pi / size * (index[None, :] + 0.5) * index[:, None]
    matrix = math.sqrt(2 / size) * torch.cos(angles)
    matrix[0] /= math.sqrt(2)
    return matrix.float()


class CosineTransform(StatisticsFamily):
    """Log magnitudes of the 2-D DCT-II of the luma of square images of one size.

    Args:
        side: of an image, in pixels.
    """

    basis: Tensor

    def __init__(self, side: int) -> None:
        super().__init__()
        self.register_buffer("basis", cosine_matrix(side), persistent=False)
        self.width = side**2

    def forward(self, pixels: Tensor) -> Tensor:
        """Return ln(|coefficient| + 0.01), (B, side²), of pixels (B, 3, side, side) in 0 … 255."""
        coefficients = self.basis @ luma(pixels) @ self.basis.T  # (B, side, side)
        return (coefficients.abs() + TRANSFORM_EPSILON).log().flatten(1)


class BlockCosine(StatisticsFamily):
    """Log mean magnitude, log deviation and share below 0.5 of each coefficient of Y, Cb and Cr.

    Blocks start at the first pixel, as in JPEG. The rest at the right and at the bottom is not
    used. The shares have no gradient.
    """

    basis: Tensor
    width = 3 * 3 * SIDE * SIDE

    def __init__(self) -> None:
        super().__init__()
        row = cosine_matrix(SIDE)
        basis = torch.einsum("ui,vj->uvij", row, row).reshape(SIDE * SIDE, 1, SIDE, SIDE)
        self.register_buffer("basis", basis, persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the statistics (B, 576) of pixels (B, 3, H, W) in 0 … 255.

        Raises:
            JobError: an image is smaller than 64 by 64 pixels.
        """
        refuse_small(pixels, COSINE_SIDE, "statistics of cosine blocks")
        return torch.cat([self._compute_one(image) for image in torch.split(pixels, 1)])

    def _compute_one(self, image: Tensor) -> Tensor:
        """Return the statistics (1, 576) of an image (1, 3, H, W): its blocks stay in the caches."""
        planes = luma_chroma(image).transpose(0, 1)  # (3, 1, H, W)
        blocks = functional.conv2d(planes, self.basis, stride=SIDE).flatten(2)  # (3, 64, blocks)
        magnitude = blocks.abs()
        # in two passes: torch's own deviation is ten times slower
        variance = (blocks - blocks.mean(2, keepdim=True)).square().mean(2)
        vanished = (magnitude < VANISHED).float().mean(2)
        logs = (magnitude.mean(2) + COSINE_EPSILON).log(), (variance.sqrt() + COSINE_EPSILON).log()
        return torch.stack([*logs, vanished], 1).reshape(1, self.width)
