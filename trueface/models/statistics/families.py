"""Families of numbers side by side, and how much each number counts in the penalty of a ridge.

A module of statistics has `width`, how many numbers it makes of an image or a map, and `weights()`,
whose squares sum to 1 in each of its families, or to another share of it.
"""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from trueface.models.head import RidgeHead


class Family(nn.Module):
    """Numbers of an image or a map that count alike."""

    width: int

    def weights(self) -> Tensor:
        """Return how much each number counts, (width,): all alike."""
        return alike(self.width)


class Families(nn.ModuleList):
    """Modules of statistics, side by side."""

    def __init__(self, members: Iterable[nn.Module]) -> None:
        super().__init__(members)
        widths: list[int] = [member.width for member in self]  # type: ignore[misc]  # a number
        self.width = sum(widths)

    def weights(self) -> Tensor:
        """Return how much each number counts, (width,)."""
        return torch.cat([member.weights() for member in self])  # type: ignore[operator]  # a method

    def forward(self, source: Any) -> Tensor:
        """Return the numbers (B, width) of what the members read."""
        return torch.cat([member(source) for member in self], 1)


class Scaled(Families):
    """Families of which each counts `share` times as much, in squares, as it would.

    Args:
        members: modules of statistics.
        share: > 0.
    """

    def __init__(self, members: Iterable[nn.Module], share: float) -> None:
        super().__init__(members)
        self.share = share

    def weights(self) -> Tensor:
        """Return how much each number counts, (width,)."""
        return super().weights() * math.sqrt(self.share)


def alike(width: int) -> Tensor:
    """Return the weights of a family whose numbers count alike, (width,)."""
    return torch.full((width,), width**-0.5)


class FamiliesNetwork(nn.Module):
    """Families of numbers of an image, and a last layer on them.

    Attributes:
        revision: of what the numbers are: a change of any gets the next, so that no store mixes them.
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
