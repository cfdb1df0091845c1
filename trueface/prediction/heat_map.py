"""Which places of an image a detector's answer rests on.

Occlusion works for every detector: a square of the image is replaced by its blurred self, and what the
logit loses is what the square spoke for a fake. By blocks it is exact where the network takes the mean
of its last feature maps and weighs it: the logit is the mean of the map.

Sources: M. Zeiler and R. Fergus, arXiv 1311.2901, section 4.2 (occlusion; theirs is grey, whose edges
    a detector of traces takes for a sign of its own); B. Zhou et al., arXiv 1512.04150, section 2.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as image_ops

from trueface.data.crops import Window, centre
from trueface.models.detectors import Detector
from trueface.models.head import inputs_of
from trueface.models.ridge_head import RidgeHead
from trueface.runtime.errors import JobError

SQUARES = 8  # along each side of what the network sees
STEPS = 2  # of a square: it moves by half of its side
BLURRED = 0.5  # standard deviation of the blur, in sides of a square
EXACT = 1e-3  # relative difference of a map's mean and the logit, beyond which it is none of it

By = Literal["occlusion", "blocks"]
Score = Callable[[list[Tensor]], NDArray[np.float64]]  # logits (B,) of decoded images


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HeatMap:
    """How much each place speaks for a fake (> 0) or a real image (< 0), in logits.

    Attributes:
        values: (h, w) over the window.
        window: of the image, in its pixels; the network sees nothing outside.
    """

    values: NDArray[np.float64]
    window: Window


def occlusion(pixels: Tensor, seen: Window, score: Score, *, batch_size: int) -> HeatMap:
    """Return the map of what the logit loses where a square is blurred.

    Args:
        pixels: (3, H, W) uint8, decoded.
        seen: what the network sees of it.
        score: the logits of such images.
        batch_size: images a step.
    """
    window = _inside(seen, *pixels.shape[-2:])
    side = max(min(window.height, window.width) // SQUARES, 1)
    blurred = _blurred(pixels, side)
    squares = [
        Window(top=window.top + down, left=window.left + right, height=side, width=side)
        for down in _starts(window.height, side)
        for right in _starts(window.width, side)
    ]
    whole = score([pixels])[0]
    losses: list[float] = []
    for start in range(0, len(squares), batch_size):
        chunk = squares[start : start + batch_size]
        losses += (whole - score([_hidden(pixels, blurred, each) for each in chunk])).tolist()
    return HeatMap(values=_mean_of(squares, losses, window), window=window)


def class_activation(model: Detector, view: Tensor, pixels: Tensor, seen: Window) -> HeatMap:
    """Return the class activation map, whose mean over the view is the logit.

    Args:
        model: on the device.
        view: (3, h, w) uint8: what the network sees.
        pixels: (3, H, W): the decoded image.
        seen: where the view lies in it.

    Raises:
        JobError: the network does not take the mean of feature maps, or its head is not linear in
            it: the map would not be exact.
    """
    head = model.head
    if isinstance(head, RidgeHead):
        raise _not_exact(model, "its last layer clips what it gets")
    maps, hooks = _collected(model, head.in_features)
    try:
        with torch.no_grad(), inputs_of(head) as inputs:
            logit = model(view[None].to(next(model.parameters()).device)).item()
    finally:
        for hook in hooks:
            hook.remove()
    features, weight = inputs[0][0].float(), head.weight[0].detach().float()
    for each in reversed(maps):
        if torch.allclose(
            each.mean((1, 2)), features, rtol=EXACT, atol=EXACT * float(features.abs().max())
        ):
            values = torch.einsum("c,chw->hw", weight, each) + head.bias.item()
            if abs(float(values.mean()) - logit) > EXACT * max(abs(logit), 1.0):
                break
            window = _inside(seen, *pixels.shape[-2:])
            rows, columns = window.top - seen.top, window.left - seen.left
            wide = _wide(values, seen)[rows:, columns:]
            return HeatMap(values=wide[: window.height, : window.width], window=window)
    raise _not_exact(model, "it does not take the mean of its last feature maps")


def seen_window(pixels: Tensor, side: int) -> Window:
    """Return the centred square that a test sees of an image (3, H, W); parts may lie outside."""
    height, width = pixels.shape[-2:]
    top, left = centre(height, width, side)
    return Window(top=top, left=left, height=side, width=side)


def _not_exact(model: Detector, reason: str) -> JobError:
    return JobError(
        f"--heat-map-by blocks is exact for no {model.spec.name}: {reason}; --heat-map-by occlusion "
        "works for every detector"
    )


def _collected(
    model: Detector, channels: int
) -> tuple[list[Tensor], list[torch.utils.hooks.RemovableHandle]]:
    """Return what will hold all maps (C, h, w) of that many channels once the model has run."""
    maps: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: object, output: object) -> None:
        if not isinstance(output, Tensor) or output.ndim != 4 or output.shape[1] != channels:
            return
        if output.shape[2] * output.shape[3] > 1:
            maps.append(output[0].float())

    return maps, [module.register_forward_hook(keep) for module in model.network.modules()]


def _inside(window: Window, height: int, width: int) -> Window:
    top, left = max(window.top, 0), max(window.left, 0)
    bottom, right = min(window.bottom, height), min(window.right, width)
    return Window(top=top, left=left, height=bottom - top, width=right - left)


def _starts(length: int, side: int) -> list[int]:
    """Return where squares begin, so that the last one ends with the window."""
    step = max(side // STEPS, 1)
    return sorted({*range(0, length - side, step), max(length - side, 0)})


def _blurred(pixels: Tensor, side: int) -> Tensor:
    height, width = pixels.shape[-2:]
    sigma = max(BLURRED * side, 0.5)
    kernel = min(2 * round(2 * sigma) + 1, 2 * min(height, width) - 1)
    if kernel < 3:  # an image of one pixel
        return torch.full_like(pixels, 128)
    blurred: Tensor = image_ops.gaussian_blur(pixels.contiguous(), [kernel, kernel], [sigma, sigma])
    return blurred


def _hidden(pixels: Tensor, blurred: Tensor, square: Window) -> Tensor:
    changed = pixels.clone()
    rows, columns = slice(square.top, square.bottom), slice(square.left, square.right)
    changed[:, rows, columns] = blurred[:, rows, columns]
    return changed


def _wide(values: Tensor, window: Window) -> NDArray[np.float64]:
    """Return a map (h, w) at the size of the window."""
    size = [window.height, window.width]
    wide: Tensor = image_ops.resize(values[None], size, antialias=False)
    return wide[0].detach().cpu().double().numpy()


def _mean_of(squares: list[Window], losses: list[float], window: Window) -> NDArray[np.float64]:
    total = np.zeros((window.height, window.width))
    count = np.zeros_like(total)
    for square, loss in zip(squares, losses, strict=True):
        place = (
            slice(square.top - window.top, square.bottom - window.top),
            slice(square.left - window.left, square.right - window.left),
        )
        total[place] += loss
        count[place] += 1
    return total / np.maximum(count, 1)
