"""The losses of MAT: H. Zhao et al., CVPR 2021, arXiv 2103.02406, sections 3.4 and 3.5.

    L = CE(images) + 0.5 independence + CE(augmented images)

The independence of regions (eq. 4) draws what an attention map weights to a centre of this map, up to a margin that
differs by class, and centres apart. Centres are means that follow the batches. The second cross-entropy is that of
images that are blurred wherever one of their attention maps, which is drawn, is low (attention guided augmentation).

Written from the paper, with the numbers of the authors' configuration. Their term for equal maps of both images is
not in the paper and is left out. The independence is a mean over images, where the paper has a sum. In numbers, their
independence is another function: fakes add nothing to it and do not move the centres.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from trueface.data.batch import Batch
from trueface.models.blocks.multi_attention import ATTENTIONS, TEXTURE_CHANNELS, MultiAttention
from trueface.models.detectors import Detector
from trueface.runtime.errors import JobError
from trueface.training.objectives.protocol import CORRECT, Logs, Objective
from trueface.training.objectives.registry import register_objective

INDEPENDENCE = 0.5  # weight of the loss
INNER_MARGINS = (
    0.2,
    -0.8,
)  # margins of reals and fakes: with the latter, a fake is always drawn to the centres
OUTER_MARGIN = 0.8  # distance of two centres above which they are not drawn apart
RATE, DECAY = 0.05, 0.9  # rate of the centres in the first epoch, and its factor after each epoch
KERNEL, SIGMA = 11, 7.0  # pixels: side and deviation of the blur
LEAST_RANGE = 1e-6  # range of an attention map, which may be constant


@register_objective(
    "mat",
    summary="losses of MAT: independent regions, and images blurred by attention",
    binary=True,
    network="mat",
)
class MultiAttentionLosses(Objective):
    """The weighted sum of three losses of two forward passes. Draws come from torch's global generator."""

    def __init__(self) -> None:
        self._centres = torch.zeros(ATTENTIONS, TEXTURE_CHANNELS)
        self._means: Tensor | None = None  # means of the regions of the last batch
        self._rate = RATE

    def begin_epoch(self, epoch: int, done: int, batches: int) -> None:
        """Set the rate of the centres."""
        del done, batches
        self._rate = RATE * DECAY**epoch

    def training_step(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Logs]:
        """Return the loss, the number of correct images, and the independence of regions.

        Raises:
            JobError: the model is not a `mat`, or the images are features or crops of images.
        """
        network = model.network if isinstance(model, Detector) else model
        if not isinstance(model, Detector) or not isinstance(network, MultiAttention):
            raise JobError("objective: mat needs the network mat. Set model: mat, without compile.")
        if batch.inputs.ndim != 4:
            raise JobError(
                "objective: mat trains its whole network on whole images. Leave out freeze and "
                "test_crops."
            )
        pixels = batch.inputs if batch.inputs.is_floating_point() else batch.inputs.float() / 255
        labels = batch.labels.reshape(-1, 1).float()
        parts = network.parts(model.normalize_pixels(pixels))
        regions, self._centres = parts.regions.float(), self._centres.to(pixels.device)
        self._means = regions.detach().mean(0)
        with torch.autocast(pixels.device.type, enabled=False):
            images = blur_by_attention(pixels, parts.attention)
        blurred = network.parts(model.normalize_pixels(images))
        independence = regional_independence(regions, self._centres, labels)
        losses = [_cross_entropy(each.logits, labels) for each in (parts, blurred)]
        correct = ((parts.logits > 0) == (labels > 0.5)).sum()
        logs = {CORRECT: correct, "independence": independence.detach()}
        return losses[0] + losses[1] + INDEPENDENCE * independence, logs

    def stepped(self) -> None:
        """Move the centres toward the means of the batch."""
        if self._means is not None:
            self._centres = self._centres.lerp(self._means, self._rate)

    def state(self) -> dict[str, Tensor]:
        """Return the centres."""
        return {"centres": self._centres}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Continue with the centres of an interrupted training."""
        self._centres = state["centres"]


def regional_independence(regions: Tensor, centres: Tensor, labels: Tensor) -> Tensor:
    """Return the mean over images of the distances beyond the margin, and the closeness of centres.

    Args:
        regions: (B, M, C).
        centres: (M, C).
        labels: (B, 1), 1 = fake.
    """
    margins = torch.where(labels > 0.5, INNER_MARGINS[1], INNER_MARGINS[0])  # (B, 1)
    distances = torch.linalg.vector_norm(regions - centres, dim=2)  # (B, M)
    inside = (distances - margins).clamp(min=0).sum(1).mean()
    near = (OUTER_MARGIN - torch.cdist(centres, centres)).clamp(min=0)
    apart = near.fill_diagonal_(0).sum()
    total: Tensor = inside + apart
    return total


def blur_by_attention(pixels: Tensor, attention: Tensor) -> Tensor:
    """Return images that are blurred wherever one of their attention maps is low.

    Args:
        pixels: (B, 3, H, W) in 0 … 1, with sides above `KERNEL` // 2.
        attention: (B, M, h, w). The map of each image is drawn.
    """
    count, maps = attention.shape[:2]
    drawn = torch.randint(maps, (count,)).to(attention.device)
    chosen = attention.detach()[torch.arange(count, device=attention.device), drawn][
        :, None
    ].float()
    low, high = chosen.amin((2, 3), keepdim=True), chosen.amax((2, 3), keepdim=True)
    weights = (chosen - low) / (high - low).clamp(min=LEAST_RANGE)  # (B, 1, h, w) in 0 … 1
    size = pixels.shape[2:]
    weights = functional.interpolate(weights, size, mode="bilinear", align_corners=True)
    return weights * pixels + (1 - weights) * _blurred(pixels)


def _blurred(pixels: Tensor) -> Tensor:
    places = torch.arange(KERNEL, device=pixels.device, dtype=pixels.dtype) - KERNEL // 2
    row = torch.exp(-places.square() / (2 * SIGMA**2))
    row = (row / row.sum()).expand(3, 1, 1, KERNEL)
    padded = functional.pad(pixels, (KERNEL // 2,) * 4, mode="reflect")
    return functional.conv2d(functional.conv2d(padded, row, groups=3), row.mT, groups=3)


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    return functional.binary_cross_entropy_with_logits(logits.float(), labels)
