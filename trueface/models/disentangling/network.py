"""A network that tells what is forged from what is shown and from who is shown.

L. Lin et al., "Preserving fairness generalization in deepfake detection", CVPR 2024, arXiv 2402.17229,
after their program (MIT):

    images → forgery encoder     → specific maps (which forgery) and shared maps (whether forged)
           → content encoder     → content maps                              ┐ reconstruction
           → demographic encoder → demographic maps (which group), which also┘
    fused = shared statistics on the demographic maps → whether forged: the detector's answer

Three things of that program matter to who compares with it:

1. Its tests take the logit of class 1 alone for the score of "fake" and leave the other out. Here the
   detector's logit is the difference, so that its sigmoid is the softmax's probability.
2. Its flags for the shares of the bi-level loss are not used; the objective `fairnet` has them.
3. Its fused maps are averaged over positions before the first layer sees them. After AdaIN that
   average is the shared maps' own: the demographic maps have no influence on the answer, nor the
   fused loss on them. The network is left as published here.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from trueface.models.disentangling.reconstruction import Decoder
from trueface.models.disentangling.statistics import adopt_statistics

DROPOUT = 0.2  # of output logits, as published, and not of what a last layer gets
# of forgeries and of groups; a training uses the first logits, as many as there are
MOST_CLASSES = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What the network makes of images while it learns; logits have had dropout."""

    logit: Tensor  # (B, 1), the detector's, without dropout
    fused: Tensor  # (B, 2) logits of real and fake
    shared: Tensor  # (B, 2) likewise, of the shared forgery maps
    specific: Tensor  # (B, 64) logits of forgeries, 0 real
    demographic: Tensor  # (B, 64) logits of groups
    shared_features: Tensor  # (B, width / 2), mean over positions
    specific_features: Tensor  # (B, width / 2) likewise
    forgery: Tensor  # (B, width, h, w), specific and shared
    content: Tensor  # (B, width, h, w)
    person: Tensor  # (B, width, h, w), of the demographic encoder

    def content_maps(self, chosen: Tensor) -> Tensor:
        """Return the demographic maps of some images with their content's statistics."""
        return adopt_statistics(self.person[chosen], self.content[chosen])


class DisentanglingNetwork(nn.Module):
    """Three encoders, the heads of their maps, the fusion, and a decoder.

    Two logits of a fused head are here those of `fc` and `real`: real's is z0, and fc gives z1 - z0,
    so that the last layer of the detector is one with one logit, as of every other.

    Args:
        forgery: encoder of images (B, 3, H, W) to maps (B, width, h, w); so are the two others.
        content: what is shown.
        demographic: who is shown.
        width: channels of their maps, a multiple of 8; published: 512.
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
        return self.fc(self._fused(demographic, shared))  # type: ignore[no-any-return]  # torch

    def parts(self, images: Tensor) -> Parts:
        """Return all that the losses of a training need of images (B, 3, H, W), normalised."""
        forgery, content = self.forgery_encoder(images), self.content_encoder(images)
        person = self.demographic_encoder(images)
        specific, shared = self.specific_block(forgery), self.shared_block(forgery)
        demographic = self.demographic_block(person)
        fused = self._fused(demographic, shared)  # (B, width)
        logit, real = self.fc(fused), self.real(fused)
        features = shared.mean((2, 3)), specific.mean((2, 3))
        return Parts(
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

    def _fused(self, demographic: Tensor, shared: Tensor) -> Tensor:
        maps = adopt_statistics(demographic, shared)  # (B, width / 2, h, w)
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


def _head(features: int, hidden: int, classes: int) -> nn.Module:
    return nn.Sequential(
        nn.Linear(features, hidden), nn.LeakyReLU(inplace=True), nn.Linear(hidden, classes)
    )
