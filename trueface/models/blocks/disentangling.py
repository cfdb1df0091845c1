"""The disentangling network: encoders, heads, fusion, decoder.

L. Lin et al., CVPR 2024, arXiv 2402.17229. `trueface.models.architectures.fairnet` describes it and the
differences from the published program.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

EPSILON = 1e-5  # added to the variance
DECODER_DROPOUT = 0.3  # dropout of the input of each stage
STAGES = 3  # each doubles the resolution and halves the channels
DROPOUT = 0.2  # dropout of output logits, as published, not of the input of the last layer
# classes of forgeries and of groups; a training uses the first logits, as many as there are
MOST_CLASSES = 64


def adain(maps: Tensor, others: Tensor) -> Tensor:
    """Return `maps` with the mean and standard deviation of `others`, channel by channel.

    AdaIN of X. Huang and S. Belongie, ICCV 2017, arXiv 1703.06868, equation 8. The variance is over
    all positions and divided by their number, so that maps of one position have one, too. Between
    maps of the same size that gives the same as dividing by one less, except for epsilon.

    Only the pattern of `maps` without its mean remains in each channel. The mean over positions is
    that of `others` alone.

    Args:
        maps: (B, C, H, W).
        others: (B, C, h, w).

    Returns:
        (B, C, H, W) float32.
    """
    mean, deviation = _statistics(maps)
    wanted_mean, wanted_deviation = _statistics(others)
    return (maps.float() - mean) / deviation * wanted_deviation + wanted_mean


def _statistics(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of each channel, (B, C, 1, 1) float32 each."""
    variance = maps.float().var((2, 3), correction=0, keepdim=True)
    return maps.float().mean((2, 3), keepdim=True), (variance + EPSILON).sqrt()


class Decoder(nn.Module):
    """A decoder whose content takes over the statistics of the forgery at three resolutions.

    The conditional U-Net of L. Lin et al., CVPR 2024, arXiv 2402.17229, after their program:
    content and forgery go through the same convolutions, 512 → 256 → 128 → 64 at a width of 512. It
    ends by enlarging to the size of the images, which at a stride of 32 is the published factor of
    4.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        widths = [width >> stage for stage in range(STAGES + 1)]
        self.stages = nn.ModuleList(map(_convolutions, widths[:-1], widths[1:]))
        self.dropout = nn.Dropout(DECODER_DROPOUT)
        self.colours = nn.Conv2d(widths[-1], 3, 1)

    def forward(self, forgery: Tensor, content: Tensor, size: tuple[int, int]) -> Tensor:
        """Return images (B, 3, *size) in -1 … 1.

        Args:
            forgery: (B, width, h, w), which says how; the condition.
            content: (B, width, h, w), which says what.
            size: height and width of the images, in pixels.
        """
        x, condition = content, forgery
        for number, stage in enumerate(self.stages):
            x = stage(self.dropout(_double_size(adain(x, condition))))
            if number < STAGES - 1:  # nothing takes the condition after the last
                condition = stage(self.dropout(_double_size(condition)))
        return _enlarge(self.colours(x), size).tanh()


def _convolutions(width_in: int, width: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(width_in, width, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(width, width, 3, padding=1),
        nn.ReLU(inplace=True),
    )


def _double_size(maps: Tensor) -> Tensor:
    height, width = maps.shape[-2:]
    return _enlarge(maps, (2 * height, 2 * width))


def _enlarge(maps: Tensor, size: tuple[int, int]) -> Tensor:
    return functional.interpolate(maps, size, mode="bilinear", align_corners=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class FairnetOutputs:
    """The outputs of the network for images in training. Logits are after dropout."""

    logit: Tensor  # (B, 1), the detector's, without dropout
    fused: Tensor  # (B, 2) logits of real and fake
    shared: Tensor  # (B, 2) logits of the shared forgery maps
    specific: Tensor  # (B, 64) logits of forgeries, 0 real
    demographic: Tensor  # (B, 64) logits of groups
    shared_features: Tensor  # (B, width / 2), mean over positions
    specific_features: Tensor  # (B, width / 2) features of the specific maps
    forgery: Tensor  # (B, width, h, w), specific and shared
    content: Tensor  # (B, width, h, w)
    person: Tensor  # (B, width, h, w), of the demographic encoder

    def content_styled_features(self, rows: Tensor) -> Tensor:
        """Return the demographic maps of some images with their content's statistics."""
        return adain(self.person[rows], self.content[rows])


class DisentanglingNetwork(nn.Module):
    """Three encoders, the heads of their maps, the fusion, and a decoder.

    The two logits of the fused head come from `fc` and `real`: `real` gives z0, and `fc` gives z1 -
    z0. The last layer of the detector therefore has one logit, as that of every other.

    Args:
        forgery: encoder of images (B, 3, H, W) to maps (B, width, h, w), like the two others.
        content: encoder of the content.
        demographic: encoder of the group.
        width: channels of their maps, a multiple of 8. Published: 512.
    """

    def __init__(
        self, forgery: nn.Module, content: nn.Module, demographic: nn.Module, *, width: int
    ) -> None:
        super().__init__()
        half = width // 2
        self.forgery_encoder, self.content_encoder = forgery, content
        self.demographic_encoder = demographic
        self.specific_block, self.shared_block = _stack(width, half), _stack(width, half)
        self.demographic_block = _stack(width, half)
        self.specific_head = _head(half, width, MOST_CLASSES)
        self.shared_head = _head(half, width, 2)
        self.demographic_head = _head(half, width, MOST_CLASSES)
        self.decoder = Decoder(width)
        self.fused_layer = nn.Sequential(nn.Linear(half, width), nn.LeakyReLU(inplace=True))
        self.dropout = nn.Dropout(DROPOUT)
        self.real = nn.Linear(width, 1)
        self.fc = nn.Linear(width, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (B, 1) of images (B, 3, H, W): z1 - z0 of the fused head."""
        shared = self.shared_block(self.forgery_encoder(images))
        demographic = self.demographic_block(self.demographic_encoder(images))
        return self.fc(self._fuse_maps(demographic, shared))  # type: ignore[no-any-return]  # torch

    def forward_parts(self, images: Tensor) -> FairnetOutputs:
        """Return all that the losses of a training need of images (B, 3, H, W), normalised."""
        forgery, content = self.forgery_encoder(images), self.content_encoder(images)
        person = self.demographic_encoder(images)
        specific, shared = self.specific_block(forgery), self.shared_block(forgery)
        demographic = self.demographic_block(person)
        fused = self._fuse_maps(demographic, shared)  # (B, width)
        logit, real = self.fc(fused), self.real(fused)
        features = shared.mean((2, 3)), specific.mean((2, 3))
        return FairnetOutputs(
            logit=logit,
            fused=self.dropout(torch.cat([real, real + logit], 1)),
            shared=self.dropout(self.shared_head(features[0])),
            specific=self.dropout(self.specific_head(features[1])),
            demographic=self.dropout(self.demographic_head(demographic.mean((2, 3)))),
            shared_features=features[0],
            specific_features=features[1],
            forgery=torch.cat([specific, shared], 1),
            content=content,
            person=person,
        )

    def _fuse_maps(self, demographic: Tensor, shared_maps: Tensor) -> Tensor:
        maps = adain(demographic, shared_maps)  # (B, width / 2, h, w)
        return self.fused_layer(maps.mean((2, 3)))  # type: ignore[no-any-return]  # torch


def _stack(width: int, half: int) -> nn.Module:
    """Return three convolutions of one position: maps of half as many channels."""
    return nn.Sequential(
        nn.Conv2d(width, half, 1),
        nn.LeakyReLU(inplace=True),
        nn.Conv2d(half, half, 1),
        nn.LeakyReLU(inplace=True),
        nn.Conv2d(half, half, 1),
    )


def _head(features: int, width: int, classes: int) -> nn.Module:
    return nn.Sequential(
        nn.Linear(features, width), nn.LeakyReLU(inplace=True), nn.Linear(width, classes)
    )
