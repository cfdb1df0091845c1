"""The grid of pictures: which tile stands where."""

from pathlib import Path

import numpy as np
import PIL.Image
import torch

from trueface.data.made_folders import save_picture
from trueface.jobs.generation.restored import COLUMNS, grid


def test_tiles_stand_in_the_order_of_the_columns(tmp_path: Path) -> None:
    def flat(value: float) -> torch.Tensor:
        return torch.full((2, 3, 4, 4), value)

    picture = grid((flat(0.0), flat(0.05), flat(0.02)), (flat(-1.0), flat(1.0), flat(-0.5)))
    assert picture.shape == (3, 2 * 4, len(COLUMNS) * 4)
    values = [round(float(picture[0, 0, 4 * at]), 3) for at in range(len(COLUMNS))]
    assert values == [0.0, -1.0, 0.05, 0.5, 1.0, 0.02, -0.5]
    save_picture(tmp_path / "grid.png", picture)
    with PIL.Image.open(tmp_path / "grid.png") as file:
        assert np.asarray(file).shape == (8, 28, 3)
