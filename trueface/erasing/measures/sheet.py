"""A sheet of samples: square tiles without margins, a row a class, for pages that cut it up."""

import io
from pathlib import Path

import PIL.Image
from torch import Tensor

from trueface.data.made.folders import to_levels
from trueface.runtime.files import write_atomic

COLUMNS = 4  # samples of each class; the page of erasing expects as many


def write_sheet(path: Path, samples: Tensor, columns: int = COLUMNS) -> tuple[int, int]:
    """Write the first samples of each class as one PNG; return its rows and columns.

    Args:
        path: of the PNG.
        samples: K×n×C×H×W in [-1, 1].
        columns: samples of each class, fewer where there are fewer.
    """
    tiles = to_levels(samples[:, :columns])
    rows, across, channels, height, width = tiles.shape
    joined = tiles.permute(0, 3, 1, 4, 2).reshape(rows * height, across * width, channels)
    pixels = joined.cpu().numpy()
    buffer = io.BytesIO()
    PIL.Image.fromarray(pixels[..., 0] if channels == 1 else pixels).save(buffer, "PNG")
    write_atomic(path, buffer.getvalue())
    return rows, across
