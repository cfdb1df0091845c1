"""Image classifiers: networks with K logits, and the preprocessing that belongs to them."""

from typing import Protocol

import torch
from torch import Tensor, nn

from trueface.models.classifier_registry import Shape, Stem, maker_of_classifier
from trueface.runtime.rng import derive

MEAN, STD = 0.5, 0.25  # of pixels in 0 … 1, about those of photographs; the same for every data set


class Classifier(nn.Module):
    """A network with the preprocessing that belongs to it."""

    def __init__(self, network: nn.Module, *, channels_last: bool) -> None:
        super().__init__()
        self.network, self.channels_last = network, channels_last

    def forward(self, pixels: Tensor) -> Tensor:
        """Return K logits an image, (B, K).

        Args:
            pixels: (B, 3, S, S); uint8, or float in 0 … 1.
        """
        images = pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels
        form = torch.channels_last if self.channels_last else torch.contiguous_format
        logits: Tensor = self.network(((images - MEAN) / STD).contiguous(memory_format=form))
        return logits


class NetworkSettings(Protocol):
    """What decides the shape of a network, of a job's settings."""

    @property
    def model(self) -> str:
        """One of `models.classifier_registry.RECIPES`."""

    @property
    def stem(self) -> Stem:
        """The first layers."""

    @property
    def size(self) -> int:
        """Side of an image, in pixels."""


def shape_of(settings: NetworkSettings, classes: int) -> Shape:
    """Return what the network of a training looks like."""
    return Shape(model=settings.model, stem=settings.stem, size=settings.size, classes=classes)


def build(shape: Shape, *, seed: int, channels_last: bool = True) -> Classifier:
    """Return an untrained network in evaluation mode; its weights follow from the seed."""
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(derive("weights", seed))
        network = maker_of_classifier(shape.model)(shape)
    if channels_last:
        network = network.to(memory_format=torch.channels_last)
    return Classifier(network, channels_last=channels_last).eval()
