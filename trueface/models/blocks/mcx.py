"""MCX-API: Y. Xu et al., "Learning pairwise interaction for generalizable DeepFake detection", WACVW 2023.

An Xception whose images have up to nine channels: colours, HSV and YCbCr. The objective `mcx` trains it
on pairs of images with the gates of API-Net (P. Zhuang et al., AAAI 2020, arXiv 2002.10191). Tests use
the last layer alone, on the mean maps. It has five classes, real and four types of forgery, and the
detector's logit is the log odds of all types together. So no linear layer is the last one.

Written from both papers, and compared with the published network in numbers alone. The comparison
shows that this Xception lacks the ReLU after three of its batch norms, and the pairs' two layers lack theirs.
Published is a file for RGB, with 448 by 448 pixels. `unused_parts` of it are not part of the network.

Images of several colour spaces have the channels of the published network: blue, green and red, hue in
0 … 180/255, and Cr before Cb. Its colour spaces are rounded to 8 bits; here they are not, and so have gradients.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from trueface.models.blocks.file_names import rename_prefixes
from trueface.models.blocks.full_xception import BLOCKS, FEATURES, XceptionMaps, insert_xception
from trueface.models.registry import IMAGENET_MEAN, IMAGENET_STD

CLASSES = 5  # real, and four types of forgery
MUTUAL = 512  # numbers between the two layers of a pair's mutual vector
DROPOUT = 0.5
RGB, HSV, YCBCR = "rgb", "hsv", "ycbcr"
# modules of the Xception by their place in the published list
_LISTED = ("conv1", "bn1", "relu", "conv2", "bn2", *(f"block{at + 1}" for at in range(BLOCKS)))
_PLACES = (*_LISTED, "conv3", "bn3", "conv4", "bn4")
RENAMED = {f"conv.module.{place}": f"conv.{name}" for place, name in enumerate(_PLACES)}
_WHITE = 255.0
_LEAST = 1e-6  # below it a denominator means a grey pixel, whose hue is 0
_HUES = 180 / _WHITE  # hue of a whole circle: half degrees, as of 255
# red, green and blue in Y, Cr and Cb (ITU-R BT.601, full range)
_YCRCB = (
    (0.299, 0.587, 0.114),
    (0.5, -0.418688, -0.081312),
    (-0.168736, -0.331264, 0.5),
)
_GREY = 128 / _WHITE  # Cr and Cb of grey


class Attentive(NamedTuple):
    """The features (P, 2048) of pairs of images, with their own gate and with the other's."""

    first: Tensor
    first_by_other: Tensor
    second: Tensor
    second_by_other: Tensor


class Mcx(nn.Module):
    """An Xception with five classes, and the gates of pairs.

    Args:
        spaces: colour spaces of the channels. With RGB alone, images are normalised already; otherwise
            they are in 0 … 255.
    """

    unused_parts = ("conv_reduce",)  # parts of the authors' file

    def __init__(self, spaces: Sequence[str] = (RGB,)) -> None:
        super().__init__()
        self.spaces = tuple(spaces)
        self.conv = XceptionMaps(3 * len(self.spaces), with_relu=False)
        self.map1 = nn.Linear(2 * FEATURES, MUTUAL)
        self.map2 = nn.Linear(MUTUAL, FEATURES)
        self.drop = nn.Dropout(DROPOUT)
        self.fc = nn.Linear(FEATURES, CLASSES)

    def adapt_state(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the tensors of the authors' file under the names of this network."""
        return rename_prefixes(state, RENAMED)

    def start_from_backbone(self, state: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
        """Return the tensors with those of a file of an Xception; None if it is another file."""
        return insert_xception(self, "conv", state)

    def forward(self, images: Tensor) -> Tensor:
        """Return the log odds (B, 1) of any type of forgery, of images (B, 3, H, W)."""
        return log_odds_of_fake(self.fc(self.forward_features(images)))

    def forward_features(self, images: Tensor) -> Tensor:
        """Return the mean maps (B, 2048) of images (B, 3, H, W)."""
        if self.spaces != (RGB,):
            images = _with_spaces(images / _WHITE, self.spaces)
        features: Tensor = self.conv.forward_maps(images).mean((2, 3))
        return features

    def interact(self, first: Tensor, second: Tensor) -> Attentive:
        """Return the features of pairs with the gates of each, of features (P, 2048)."""
        mutual = self.map2(self.drop(self.map1(torch.cat([first, second], 1))))
        own, other = (mutual * first).sigmoid(), (mutual * second).sigmoid()
        return Attentive(
            first=first + first * own,
            first_by_other=first + first * other,
            second=second + second * other,
            second_by_other=second + second * own,
        )

    def classify(self, features: Tensor) -> Tensor:
        """Return the logits (…, 5) of features (…, 2048)."""
        return self.fc(self.drop(features))  # type: ignore[no-any-return]  # torch


def log_odds_of_fake(logits: Tensor) -> Tensor:
    """Return the log odds (B, 1) of all classes but the first, of logits (B, 5)."""
    logits = logits.float()
    return logits[:, 1:].logsumexp(1, keepdim=True) - logits[:, :1]


def to_hsv(images: Tensor) -> Tensor:
    """Return hue in 0 … 180/255, saturation and value in 0 … 1 (B, 3, H, W), of colours in 0 … 1."""
    highest, brightest = images.max(1)
    spread = highest - images.amin(1)
    red, green, blue = images.unbind(1)
    safe = spread.clamp_min(_LEAST)
    sectors = torch.stack(
        [(green - blue) / safe, 2 + (blue - red) / safe, 4 + (red - green) / safe], dim=1
    )
    hue = (sectors.gather(1, brightest[:, None])[:, 0] / 6).remainder(1)
    return torch.stack([_HUES * hue, spread / highest.clamp_min(_LEAST), highest], dim=1)


def to_ycrcb(images: Tensor) -> Tensor:
    """Return luma in 0 … 1, Cr and Cb in 0.5/255 … 255.5/255 (B, 3, H, W), of colours in 0 … 1."""
    matrix = images.new_tensor(_YCRCB)
    centred = torch.einsum("kc,bchw->bkhw", matrix, images)
    return centred + images.new_tensor([0, _GREY, _GREY]).view(3, 1, 1)


def _with_spaces(images: Tensor, spaces: Sequence[str]) -> Tensor:
    """Return the channels of colour spaces (B, 3 N, H, W), each normalised as ImageNet's red, green and blue."""
    convert = {RGB: lambda colours: colours.flip(1), HSV: to_hsv, YCBCR: to_ycrcb}
    mean, std = (images.new_tensor(each).view(3, 1, 1) for each in (IMAGENET_MEAN, IMAGENET_STD))
    return torch.cat([(convert[space](images) - mean) / std for space in spaces], dim=1)
