import math

import torch

from tests.trueface.models.statistics.test_cosines import images
from trueface.models.pixel_statistics import ResidualEnergy

torch.set_num_threads(1)


def test_noise_stands_where_it_lies_and_on_the_other_side() -> None:
    pixels = torch.full((1, 3, 130, 130), 100.0)
    pixels[:, :, 60:70:2, 20] += 40
    energies = ResidualEnergy()(pixels).exp().view(3, 16, 8)[0] - 0.05
    assert {int(row) for row in energies.argwhere()[:, 0]} >= {7, 8}
    assert math.isclose(float(energies[:5].abs().max().detach()), 0, abs_tol=1e-4)
    assert int(energies.sum(0).argmax()) == 2  # the cell of columns 16 to 23


def test_a_mirrored_image_has_the_same_energies() -> None:
    pixels = images(2, side=128)
    energies = ResidualEnergy()
    assert torch.allclose(energies(pixels), energies(pixels.flip(-1)), atol=1e-5)
