"""Total variation."""

import torch
from torch import Tensor
from torch.nn import functional

from trueface.purification.registry import register_purifier
from trueface.purification.steps import Tools

ROUNDS = 30
STEP = 0.25  # of the projection: converges in practice; proven up to 1/8 (theorem 3.1)
_TINY = 1e-12  # the root's slope at 0 has no end


@register_purifier(
    "tv",
    summary="least total variation near the image, by Chambolle's projection",
    number="weight lambda",
    low=0.001,
    high=10,
)
def tv(images: Tensor, value: float | None, tools: Tools) -> Tensor:
    """Return u that makes |u - image|² / 2 + lambda TV(u) small, each channel by itself.

    TV is isotropic: the sum over pixels of the length of the gradient, forward differences.

    Source: A. Chambolle, An Algorithm for Total Variation Minimization, JMIV 20, 2004, equation 9; a
    fixed number of rounds in the place of a bound on the change, so that a batch changes nothing.
    """
    del tools
    assert value is not None  # the grammar asks for it
    scaled = images / value
    dual_x, dual_y = torch.zeros_like(images), torch.zeros_like(images)
    for _ in range(ROUNDS):
        slope_x, slope_y = _gradient(_divergence(dual_x, dual_y) - scaled)
        length = 1 + STEP * (slope_x**2 + slope_y**2 + _TINY).sqrt()
        dual_x, dual_y = (dual_x + STEP * slope_x) / length, (dual_y + STEP * slope_y) / length
    return images - value * _divergence(dual_x, dual_y)


def _gradient(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the forward differences along rows and columns, 0 at the last pixel."""
    across = functional.pad(images[..., :, 1:] - images[..., :, :-1], (0, 1, 0, 0))
    down = functional.pad(images[..., 1:, :] - images[..., :-1, :], (0, 0, 0, 1))
    return across, down


def _divergence(across: Tensor, down: Tensor) -> Tensor:
    """Return minus the adjoint of `_gradient`; what stands at the last pixel does not count."""
    rows = functional.pad(across[..., :, :-1], (1, 1, 0, 0))
    columns = functional.pad(down[..., :-1, :], (0, 0, 1, 1))
    return rows[..., :, 1:] - rows[..., :, :-1] + columns[..., 1:, :] - columns[..., :-1, :]
