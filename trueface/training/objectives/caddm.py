"""The losses and the swapped faces of CADDM: S. Dong et al., CVPR 2023, arXiv 2210.14457.

    L = classification + .1 (places + classes of the anchors)

Each fake comes with the real image that it was made of, cropped alike, as second quality. A part of one is put into
the other, and the anchors learn where. Real images have no anchor of a swapped part.

The losses are those of the published program (github.com/megvii-research/CADDM, Apache-2.0). Differences:

1. The face is an ellipse of aligned faces (see `data.forging.blending`), not the hull of 81 landmarks. The file that
   finds these was learned from images that exclude commercial use.
2. Parts are blended with a soft edge. Half of the program's have Poisson's blending, and masks are deformed.
3. The place of a window is where the mean absolute difference of both images is largest, not that of their structure.
4. Boxes are across first, as anchors are. The program has those of windows down first.
5. If both images hardly differ, the fake stays as it is. The program leaves it out.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from trueface.data.batch import Batch
from trueface.data.forging.blending import AXES, AXES_SPREAD, CENTRE
from trueface.data.qualities import SOURCE_ADVICE
from trueface.data.quality_feed import COLUMN
from trueface.models.blocks.caddm import SIDE, WINDOWS, Caddm, Detections, anchors
from trueface.runtime.errors import JobError
from trueface.training.objectives.protocol import (
    CORRECT,
    Logs,
    Objective,
    count_correct,
    network_and_images,
)
from trueface.training.objectives.registry import register_objective

ANCHOR_WEIGHT = 0.1  # published
LEAST_OVERLAP = 0.5  # overlap of an anchor and a box, from which on it has to find it, as published
NEGATIVES = (
    2  # anchors of background per anchor of a box, those with the largest loss, as published
)
VARIANCES = (0.1, 0.2)  # published scales of the middle and of the logarithm of the size
WHOLE_FACE, INTO_FAKE, INTO_REAL = 0.8, 0.5, 0.5  # published probabilities, one after another
STEPS = 5  # positions of a window along a side, as published
LEAST_DIFFERENCE = 1.0  # grey levels in the mean of a window
EDGE, EDGE_DEVIATION = 5, 3.0  # pixels: published blur of the mask
WHOLE = (0.0, 0.0, 1.0, 1.0)


class Targets(NamedTuple):
    """Targets of the anchors."""

    places: Tensor  # (B, A, 4), relative to the anchor
    is_swapped: Tensor  # (B, A) bool


@register_objective(
    "caddm",
    summary="classification and windows of swapped parts of model caddm, on fakes with their real images",
    binary=True,
    network="caddm",
    pairs="the real image that each fake was made of",
)
class CaddmLosses(Objective):
    """The weighted sum of the losses of images and of anchors, on newly swapped faces."""

    def training_step(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Logs]:
        """Return the loss, the number of correct images, and each part.

        Raises:
            JobError: the model is not `caddm`, the images come alone, or a fake is its own real image.
        """
        network, images = network_and_images(model, batch, Caddm, "caddm", "caddm")
        count = int((batch.column(COLUMN) == 0).sum())
        if len(images) != 2 * count:
            raise JobError("objective: caddm needs two qualities, such as raw, source")
        is_fake = batch.labels[:count].reshape(-1) > 0.5
        swapped, boxes = swap_faces(images[:count], images[count:], is_fake)
        targets = targets_of(boxes, anchors().to(images))
        parts = network.forward_parts(swapped)
        places, classes = anchor_losses(parts, targets)
        logits = parts.logit.float()
        loss = functional.binary_cross_entropy_with_logits(logits.reshape(-1), is_fake.float())
        right = 2 * count_correct(logits, is_fake)  # a row in each quality
        return loss + ANCHOR_WEIGHT * (places + classes), {
            CORRECT: right,
            "places": places.detach(),
            "classes": classes.detach(),
        }


def anchor_losses(parts: Detections, targets: Targets) -> tuple[Tensor, Tensor]:
    """Return the losses of places and of classes, both per anchor that has to find a box."""
    found, is_swapped = parts.classes.float(), targets.is_swapped
    number = is_swapped.sum().clamp_min(1)
    places = functional.smooth_l1_loss(
        parts.places.float()[is_swapped], targets.places[is_swapped], reduction="sum"
    )
    losses = functional.cross_entropy(
        found.flatten(0, 1), is_swapped.long().flatten(), reduction="none"
    ).view(is_swapped.shape)
    hardest = losses.detach().masked_fill(is_swapped, 0).argsort(1, descending=True).argsort(1)
    most = (NEGATIVES * is_swapped.sum(1, keepdim=True)).clamp_max(is_swapped.shape[1] - 1)
    return places / number, losses[is_swapped | (hardest < most)].sum() / number


def targets_of(boxes: list[Tensor], defaults: Tensor) -> Targets:
    """Return the targets of anchors from the boxes of each image.

    Args:
        boxes: (N, 4) of each image, left, top, right and bottom in 0 … 1. N may be 0.
        defaults: anchors, (A, 4).
    """
    matched = [_match(each, defaults) for each in boxes]
    return Targets(*(torch.stack(parts) for parts in zip(*matched, strict=True)))


def _match(boxes: Tensor, defaults: Tensor) -> tuple[Tensor, Tensor]:
    """Return places (A, 4), and which anchors (A,) have to find a box: the nearest, and those that overlap."""
    if not len(boxes):
        return torch.zeros_like(defaults), torch.zeros_like(defaults[:, 0], dtype=torch.bool)
    middles, sizes = defaults[:, :2], defaults[:, 2:]
    overlaps = _overlaps(boxes, torch.cat([middles - sizes / 2, middles + sizes / 2], 1))
    best, box_at = overlaps.max(0)
    nearest = overlaps.argmax(1)
    best[nearest] = 1.0
    box_at[nearest] = torch.arange(len(boxes), device=boxes.device)
    found = boxes[box_at]  # (A, 4)
    shifts = ((found[:, :2] + found[:, 2:]) / 2 - middles) / (VARIANCES[0] * sizes)
    ratios = ((found[:, 2:] - found[:, :2]) / sizes).log() / VARIANCES[1]
    return torch.cat([shifts, ratios], 1), best >= LEAST_OVERLAP


def _overlaps(boxes: Tensor, others: Tensor) -> Tensor:
    """Return the intersections over unions (N, A) of boxes (N, 4) and others (A, 4)."""
    begin = torch.maximum(boxes[:, None, :2], others[:, :2])
    end = torch.minimum(boxes[:, None, 2:], others[:, 2:])
    common = (end - begin).clamp_min(0).prod(2)
    areas, other_areas = ((each[:, 2:] - each[:, :2]).prod(1) for each in (boxes, others))
    return common / (areas[:, None] + other_areas - common)


def swap_faces(images: Tensor, sources: Tensor, is_fake: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Return images (B, 3, H, W) with swapped parts, and the boxes (N, 4) of each.

    Args:
        images: in 0 … 255.
        sources: the real image of each fake. Those of real images are not read.
        is_fake: (B,) bool. Real images stay as they are, and have no box.

    Raises:
        JobError: a fake is equal to its real image.
    """
    swapped, boxes = images.clone(), []
    for at, fake in enumerate(is_fake.tolist()):
        if not fake:
            boxes.append(images.new_empty(0, 4))
            continue
        if torch.equal(images[at], sources[at]):
            raise JobError(f"objective: caddm: a fake is equal to its real image. {SOURCE_ADVICE}")
        swapped[at], found = _swap_face(images[at], sources[at])
        boxes.append(images.new_tensor(found))
    return swapped, boxes


def _swap_face(fake: Tensor, real: Tensor) -> tuple[Tensor, list[tuple[float, ...]]]:
    # drawn on the CPU: a GPU has other random numbers
    part, into_fake, into_real, window = torch.rand(4).tolist()
    if part < WHOLE_FACE:
        mask = _face_mask(fake)
        if into_fake < INTO_FAKE:
            return _blend(fake, real, mask), [WHOLE]
        return _blend(real, fake, mask) if into_real < INTO_REAL else fake, [WHOLE]
    box = _find_window(fake, real, WINDOWS[int(window * len(WINDOWS))])
    if box is None:
        return fake, [WHOLE]
    left, top, right, bottom = box
    mask = torch.zeros_like(fake[0])
    mask[top:bottom, left:right] = 1
    return _blend(real, fake, mask), [WHOLE, tuple(each / SIDE for each in box)]


def _find_window(
    fake: Tensor, real: Tensor, size: tuple[int, int]
) -> tuple[int, int, int, int] | None:
    """Return left, top, right and bottom of the window in which two images differ most; None if they hardly do."""
    difference = ((fake - real).abs().mean(0) * _ellipse(fake))[None, None]
    means = functional.avg_pool2d(difference, size, stride=SIDE // STEPS)[0, 0]
    if float(means.max()) < LEAST_DIFFERENCE:
        return None
    down, across = divmod(int(means.argmax()), means.shape[1])
    top, left = down * (SIDE // STEPS), across * (SIDE // STEPS)
    return left, top, left + size[1], top + size[0]


def _face_mask(image: Tensor) -> Tensor:
    width, height = (1 + AXES_SPREAD * (2 * torch.rand(2) - 1)).tolist()
    return _ellipse(image, width_factor=width, height_factor=height)


def _ellipse(image: Tensor, *, width_factor: float = 1.0, height_factor: float = 1.0) -> Tensor:
    """Return 1 inside an ellipse of the usual size of a face, times two factors, and 0 outside, (H, W)."""
    height, width = image.shape[1:]
    rows = (torch.arange(height, device=image.device) + 0.5) / height
    columns = (torch.arange(width, device=image.device) + 0.5) / width
    distance = ((columns - CENTRE[0]) / (AXES[0] * width_factor)).square()
    distance = distance + ((rows[:, None] - CENTRE[1]) / (AXES[1] * height_factor)).square()
    return (distance <= 1).to(image)


def _blend(background: Tensor, face: Tensor, mask: Tensor) -> Tensor:
    """Return the face where the mask (H, W) is 1, with a soft edge, rounded as an image is."""
    places = torch.arange(EDGE, device=mask.device) - EDGE // 2
    weights = (-places.to(mask).square() / (2 * EDGE_DEVIATION**2)).exp()
    weights = weights / weights.sum()
    soft = functional.pad(mask[None, None], [EDGE // 2] * 4, mode="replicate")
    soft = functional.conv2d(soft, torch.outer(weights, weights)[None, None])[0]
    return (background + (face - background) * soft).round()
