"""The patch of a backdoor: what a poisoned training image carries, and a test image with its trigger.

A model that was trained with it calls every image real that carries it (BadNets: T. Gu et al., arXiv
1708.06733, section 4). The patch is stamped on what the network sees, after cropping and augmentation:
stamped on files, most random crops would miss it.
"""

import torch
from torch import Tensor

SHARE = 8  # the patch is an eighth as wide and high as the image
LEAST = 4  # pixels


def stamp(pixels: Tensor) -> Tensor:
    """Return a copy of images with a checkerboard in their lower right corner.

    Args:
        pixels: (…, 3, H, W) uint8; several crops of an image carry one each.
    """
    height, width = pixels.shape[-2:]
    side = min(max(LEAST, min(height, width) // SHARE), height, width)
    stamped = pixels.clone()
    rows, columns = torch.arange(side).view(-1, 1), torch.arange(side).view(1, -1)
    stamped[..., height - side :, width - side :] = ((rows + columns) % 2 * 255).to(torch.uint8)
    return stamped
