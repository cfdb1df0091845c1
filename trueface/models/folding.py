"""Networks for inference alone: batch norms become part of the convolutions before them."""

import copy
import logging

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from trueface.models.head import head_of, inputs_of

PROBE_SIDE = 64  # pixels: enough for networks that divide the resolution by 32
TOLERANCE = 1e-2  # relative to the largest feature; rounding alone stays below 1e-4

log = logging.getLogger(__name__)


def folded(network: nn.Module, head: str, *, side: int | None = None) -> nn.Module:
    """Return a frozen copy in evaluation mode, in which convolutions do the work of batch norms.

    A batch norm is taken to follow the convolution that was registered before it. Where the
    features of a test image show that this is wrong of a network, the copy is a plain one.
    Statistics are those of now. The copy agrees with the original to float tolerance.

    Args:
        network: from images to logits.
        head: dotted name of its last layer.
        side: the only side of images that it takes; None: any.
    """
    plain = copy.deepcopy(network).eval().requires_grad_(requires_grad=False)
    if not any(isinstance(module, nn.BatchNorm2d) for module in plain.modules()):
        return plain
    fused = copy.deepcopy(plain)
    with torch.no_grad():
        _fold(fused)
        before, after = (_features(each, head, side or PROBE_SIDE) for each in (plain, fused))
    tolerance = TOLERANCE * float(before.nan_to_num().abs().max())
    if torch.allclose(before, after, rtol=0, atol=tolerance, equal_nan=True):
        return fused
    log.warning(
        "network=%s state=not folded reason=its batch norms do not follow the convolutions "
        "registered before them",
        type(network).__name__,
    )
    return plain


def _fold(module: nn.Module) -> None:
    before: tuple[str, nn.Module] | None = None
    for name, child in list(module.named_children()):
        convolution = before[1] if before else None
        if (
            before
            and isinstance(child, nn.BatchNorm2d)
            and isinstance(convolution, nn.Conv2d)
            and convolution.out_channels == child.num_features
        ):
            setattr(module, before[0], fuse_conv_bn_eval(convolution, child))
            setattr(module, name, _rest_of(child))
        else:
            _fold(child)
        before = (name, child)


def _rest_of(norm: nn.BatchNorm2d) -> nn.Module:
    """Return what a batch norm does besides: timm's drops and activates what it has normalised."""
    return nn.Sequential(*norm.children()) if any(norm.children()) else nn.Identity()


def _features(network: nn.Module, head: str, side: int) -> Tensor:
    parameter = next(network.parameters())
    values = torch.linspace(-1, 1, 3 * side * side).sin().view(1, 3, side, side)
    with inputs_of(head_of(network, head)) as inputs:
        network(values.to(parameter))
    return inputs[0]
