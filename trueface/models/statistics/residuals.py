"""Co-occurrences of noise residuals: the spatial rich model of steganalysis.

J. Fridrich and J. Kodovský, "Rich models for steganalysis of digital images", IEEE TIFS 7(3), 2012;
D. Cozzolino et al., arXiv 1703.04615, read them as the traces of a camera. A residual is what a
pixel's neighbours do not predict. It is divided by a step, rounded, cut off at ±2; four of them in
a row make one of 625 words, and the frequencies of these words describe the image.
"""

from collections import Counter
from collections.abc import Sequence
from itertools import product

import torch
from torch import Tensor, nn

from trueface.models.statistics.colour import halved_sums, refuse_small, whole_luma_chroma

TRUNCATION = 2  # T of the paper: residuals are -2 … 2
LEVELS = 2 * TRUNCATION + 1
LENGTH = 4  # of a word: the order of the co-occurrence
WORDS = LEVELS**LENGTH
COLOURS = 3  # Y, Cb, Cr
DOWN, ACROSS = 0, 1  # axes of an image
LEAST_SIDE = 128  # of an image, in pixels: half of it still has 4,000 words
STEPS = (1, 2, 3, 4)  # q of orders 1, 2, 3 and of the square, in grey levels


class Residuals(nn.Module):
    """Square roots of the frequencies of residual words in Y, Cb and Cr.

    Residuals: differences of order 1, 2 and 3 along rows and along columns, and the 3-by-3 square
    filter of the paper. Those along rows are read along rows, those along columns along columns,
    and count together; the square is read both ways. A word, its mirror image, its negative and
    both count as one (169 classes): a mirrored image has the same numbers. Square roots keep the
    few frequent words from hiding the others (Hellinger's distance).

    Residuals are whole numbers, so that counts are exact. No gradient reaches the pixels.

    Args:
        halved: of images of half the size.
    """

    classes: Tensor

    def __init__(self, *, halved: bool = False) -> None:
        super().__init__()
        # of pixel values: sums of four pixels in the place of means
        self.scale = 4 if halved else 1
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
        refuse_small(pixels, LEAST_SIDE, "statistics of residuals")
        planes = whole_luma_chroma(pixels)
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
    here, there = _apart(rows, axis, 1)
    return there - here


def _levels(residual: Tensor, step: int) -> Tensor:
    """Return residuals divided by a step, rounded and cut off: 0 … 4, int16."""
    levels = residual.float().mul_(1 / step).round_().clamp_(-TRUNCATION, TRUNCATION)
    return levels.add_(TRUNCATION).to(torch.int16)


def _words(levels: Tensor, axis: int) -> Tensor:
    """Return the numbers of all words along an axis of levels (h, 3w), flat, int16.

    Those of Y are 0 … 624, those of Cb and Cr follow.
    """
    first, second = _apart(levels, axis, 1)
    pairs = torch.add(second, first, alpha=LEVELS)  # 0 … 24
    first, second = _apart(pairs, axis, 2)
    words = torch.add(second, first, alpha=LEVELS**2)
    colours = torch.arange(words.shape[1], dtype=torch.int16, device=words.device) % COLOURS
    return words.add_(colours * WORDS).flatten()


def _apart(rows: Tensor, axis: int, distance: int) -> tuple[Tensor, Tensor]:
    """Return values, and those that lie so many pixels further along an axis: (h, 3w) both."""
    step = distance * (COLOURS if axis == ACROSS else 1)
    length = rows.shape[axis] - step
    return rows.narrow(axis, 0, length), rows.narrow(axis, step, length)
