"""Co-occurrences of noise residuals: the spatial rich model of steganalysis.

J. Fridrich and J. Kodovský, "Rich models for steganalysis of digital images", IEEE TIFS 7(3), 2012;
D. Cozzolino et al., arXiv 1703.04615, read them as the traces of a camera. A residual is what a
pixel's neighbours do not predict. It is divided by a step, rounded, cut off at ±2; four of them in
a row make one of 625 words, and the frequencies of these words describe the image.
"""

from collections import Counter
from itertools import product

import torch
from torch import Tensor, nn

from trueface.models.statistics.colour import halved_sums, refuse_small, whole_luma_chroma

TRUNCATION = 2  # T of the paper: residuals are -2 … 2
LEVELS = 2 * TRUNCATION + 1
LENGTH = 4  # of a word: the order of the co-occurrence
WORDS = LEVELS**LENGTH
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
        self.scale = (
            4 if halved else 1
        )  # of pixel values: sums of four pixels in the place of means
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
        planes = whole_luma_chroma(pixels).flatten(0, 1)  # (B·3, H, W)
        if self.scale > 1:
            planes = halved_sums(planes)
        counts = torch.stack([self._frequencies(plane) for plane in planes])
        return counts.sqrt().view(len(pixels), self.width)

    def _frequencies(self, plane: Tensor) -> Tensor:
        """Return the frequencies (4, classes), each row of sum 1, of a plane (H, W)."""
        across = plane.T.contiguous()
        rows = []
        for order, step in enumerate(STEPS, 1):
            limit = step * self.scale
            if order < len(STEPS):
                codes = [_words(_levels(_difference(p, order), limit)) for p in (plane, across)]
            else:
                square = _levels(_difference(_difference(plane, 2).T, 2), limit)
                codes = [_words(square), _words(square.T.contiguous())]
            first, second = (torch.bincount(code, minlength=WORDS) for code in codes)
            count = first + second
            rows.append(count.new_zeros(self.words).index_add(0, self.classes, count))
        counts = torch.stack(rows).float()
        return counts / counts.sum(1, keepdim=True)


def word_classes() -> list[int]:
    """Return the class of each of the 625 words, in the order of their numbers."""
    number: dict[tuple[int, ...], int] = {}
    classes = []
    for word in product(range(-TRUNCATION, TRUNCATION + 1), repeat=LENGTH):
        negative = tuple(-value for value in word)
        key = min(word, word[::-1], negative, negative[::-1])
        classes.append(number.setdefault(key, len(number)))
    return classes


def _difference(plane: Tensor, order: int) -> Tensor:
    """Return the differences of that order along the rows of a plane."""
    for _ in range(order):
        plane = plane[:, 1:] - plane[:, :-1]
    return plane


def _levels(residual: Tensor, step: int) -> Tensor:
    """Return residuals divided by a step, rounded and cut off: 0 … 4, uint8."""
    levels = (residual * (1 / step)).round_().clamp_(-TRUNCATION, TRUNCATION)
    return levels.add_(TRUNCATION).to(torch.uint8)


def _words(levels: Tensor) -> Tensor:
    """Return the numbers 0 … 624 of all words along the rows of levels, flat, int32."""
    pairs = levels[:, :-1] * LEVELS + levels[:, 1:]  # 0 … 24, uint8
    words = pairs[:, :-2].to(torch.int32).mul_(LEVELS**2).add_(pairs[:, 2:])
    return words.flatten()
