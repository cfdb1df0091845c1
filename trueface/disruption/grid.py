"""Pictures of some images on their way: original, disrupted, purified, and what the generator makes of each."""

from pathlib import Path

import PIL.Image
import torch
from torch import Tensor

from trueface.data.made.folders import to_levels

DELTA = 10  # times which the perturbation is shown, around mid grey
COLUMNS = (
    "original",
    "G(original)",
    "disrupted",
    f"delta x{DELTA}",
    "G(disrupted)",
    "purified",
    "G(purified)",
)


def grid(images: tuple[Tensor, Tensor, Tensor], outputs: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """Return one picture of tiles without margins: a row an image, the columns of `COLUMNS`.

    Args:
        images: original, disrupted, purified, N×C×H×W in [-1, 1] each.
        outputs: what the generator makes of each, likewise.
    """
    original, disrupted, purified = images
    delta = DELTA * (disrupted - original)
    tiles = (original, outputs[0], disrupted, delta, outputs[1], purified, outputs[2])
    rows = torch.cat(tiles, dim=3)  # N×C×H×7W
    return torch.cat(list(rows), dim=1)  # C×NH×7W


def save_picture(path: Path, picture: Tensor) -> None:
    """Write a picture C×H×W in [-1, 1] as PNG."""
    levels = to_levels(picture).permute(1, 2, 0).cpu().numpy()
    PIL.Image.fromarray(levels[..., 0] if levels.shape[-1] == 1 else levels).save(path)
