"""The pairs of a batch, a real image and a fake each, and what is drawn of them."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from trueface.models.disentangling import DisentanglingNetwork, Parts


class Pairs(NamedTuple):
    """The positions in a batch of the images that are paired, as many of each class."""

    real: Tensor  # (n,) int64
    fake: Tensor  # (n,) int64

    @classmethod
    def of(cls, labels: Tensor) -> "Pairs":
        """Return the first n of each class in a batch, n that of the smaller one.

        Args:
            labels: (B,), 1 fake.
        """
        real, fake = (labels < 0.5).nonzero().flatten(), (labels > 0.5).nonzero().flatten()
        count = min(len(real), len(fake))
        return cls(real[:count], fake[:count])


def reconstruction(
    network: DisentanglingNetwork, parts: Parts, images: Tensor, pairs: Pairs
) -> Tensor:
    """Return the sum of four mean absolute differences between images and what is drawn of them.

    Each image of a pair is drawn from its own content with its own forgery, and with the forgery of
    the other.

    Args:
        network: whose parts they are.
        parts: of the images.
        images: (B, 3, H, W) in -1 … 1.
        pairs: at least one.
    """
    real, fake = pairs
    contents = torch.cat([parts.content_maps(real), parts.content_maps(fake)])
    forgery = torch.cat([real, fake, fake, real])  # positions of what conditions each drawing
    size = (images.shape[-2], images.shape[-1])
    drawn = network.decoder(parts.forgery[forgery], contents.repeat(2, 1, 1, 1), size)
    wanted = images[torch.cat([real, fake, real, fake])]
    return 4 * functional.l1_loss(drawn.float(), wanted)  # the four means are over as many images
