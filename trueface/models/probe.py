"""A pass of a few random images: what a network does cannot be read off its layers."""

import torch
from torch import Tensor, nn

from trueface.runtime.errors import JobError

SIDES = (64, 224)  # pixels: the first is enough for most networks
BATCH = 2


def probe(network: nn.Module, name: str, side: int | None) -> Tensor:
    """Return what `network` makes of two random images; it is in evaluation mode afterwards.

    Args:
        network: from images (B, 3, H, W) to anything.
        name: of the network, for messages.
        side: the only side of images that it takes, in pixels; None: any.

    Raises:
        JobError: it takes none of them; says why.
    """
    network.eval()
    sides = SIDES if side is None else (side,)
    for each in sides:
        random = torch.Generator().manual_seed(each)
        images = torch.rand(BATCH, 3, each, each, generator=random)
        try:
            with torch.no_grad():
                logits: Tensor = network(images)
        except RuntimeError as error:  # of a network that takes images of another size
            if each == sides[-1]:
                reason = str(error).splitlines()[0]
                raise JobError(
                    f"model {name} takes no images of {each} pixels: {reason}"
                ) from error
        else:
            return logits
    raise AssertionError
