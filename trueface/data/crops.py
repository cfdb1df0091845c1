"""Rectangles of pixels, cut out of images that may not reach as far."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A rectangle in an image's own pixels; parts of it may lie outside."""

    top: int
    left: int
    height: int
    width: int

    @property
    def bottom(self) -> int:
        """The first row below it."""
        return self.top + self.height

    @property
    def right(self) -> int:
        """The first column to its right."""
        return self.left + self.width

    def moved(self, down: int, right: int) -> "Window":
        """Return a window of the same size elsewhere."""
        return Window(
            top=self.top + down, left=self.left + right, height=self.height, width=self.width
        )

    def within(self, size: int) -> "Window":
        """Return the part of it that lies in the square of this side; it may be empty."""
        top, left = min(max(self.top, 0), size), min(max(self.left, 0), size)
        return Window(
            top=top,
            left=left,
            height=max(0, min(self.bottom, size) - top),
            width=max(0, min(self.right, size) - left),
        )

    def wider(self, by: int, size: int, *, multiple: int = 1) -> "Window":
        """Return a window with `by` more pixels around, at a multiple, within a square.

        Args:
            by: pixels on each side.
            size: side of the square that it does not leave.
            multiple: the edges lie at multiples of this, or at the square's own.
        """
        top = (self.top - by) // multiple * multiple
        left = (self.left - by) // multiple * multiple
        bottom = -(-(self.bottom + by) // multiple) * multiple
        right = -(-(self.right + by) // multiple) * multiple
        return Window(top=top, left=left, height=bottom - top, width=right - left).within(size)

    def flipped(self, size: int, *, mirrored: bool, turned: bool) -> "Window":
        """Return where it lies in a square that is flipped after it was chosen."""
        return Window(
            top=size - self.bottom if turned else self.top,
            left=size - self.right if mirrored else self.left,
            height=self.height,
            width=self.width,
        )


def cut(pixels: Tensor, window: Window) -> Tensor:
    """Return a window of an image, black where the image does not reach.

    Args:
        pixels: (3, H, W).
        window: in the image's pixels.

    Returns:
        (3, window.height, window.width), a view where nothing is black.
    """
    height, width = pixels.shape[-2:]
    top, left = max(window.top, 0), max(window.left, 0)
    bottom, right = min(window.bottom, height), min(window.right, width)
    inside = pixels[:, top : max(bottom, top), left : max(right, left)]
    if inside.shape[-2:] == (window.height, window.width):
        return inside
    black = torch.zeros((window.height, window.width, 3), dtype=pixels.dtype).permute(2, 0, 1)
    if inside.numel():
        down, along = top - window.top, left - window.left
        black[:, down : down + inside.shape[-2], along : along + inside.shape[-1]] = inside
    return black


def part(pixels: Tensor, whole: Window, window: Window) -> Tensor:
    """Return `window` of an image of which `pixels` are the window `whole`."""
    return cut(pixels, window.moved(-whole.top, -whole.left))


def centre(height: int, width: int, size: int) -> tuple[int, int]:
    """Return where the centred square of side `size` begins, as torchvision's CenterCrop has it.

    A negative number is the width of a black border above, or to the left.
    """
    return _start(height, size), _start(width, size)


def _start(length: int, size: int) -> int:
    if length < size:
        return -((size - length) // 2)
    return round((length - size) / 2)  # to even, so 0.5 is 0 and 1.5 is 2
