"""The losses of MAT: H. Zhao et al., CVPR 2021, arXiv 2103.02406, sections 3.4 and 3.5.

    L = CE(images) + 0.5 independence + CE(augmented images)

The independence of regions (eq. 4) draws what an attention map weights to a centre of this map, up to a margin that
differs by class, and centres apart. Centres are means that follow the batches. The second cross-entropy is that of
images that are degraded wherever one of their attention maps, which is drawn, is high (attention guided augmentation).

Written from the paper, with the numbers of the authors' configuration (github.com/yoctta/multiple-attention at
bb069cc). The augmentation is theirs: the draw of maps, the threshold, the noise, and the normalised pixels. So is the
dropout of attention maps, which the network has. Differences from the program:

1. The independence is another function. The program standardises the maps of the means over their places. It takes one
   distance over all maps and channels of an image. Fakes should be farther from the centres than 0.8, and do not move
   them. A fake counts as zeros in the mean of the batch that moves them. The term of the centres has each pair once,
   and is divided by the number of maps and by the rate of the centres. Here, each map has a distance of its own.
   Both classes are drawn to the centres and move them.
2. The independence is a mean over images, where the paper has a sum.
3. The program's term for equal regions of both images, with the weight 0.1, is not in the paper and is left out.
4. The program's configuration starts from a network that was trained for 20 epochs with the cross-entropy alone. Here,
   the training starts from the weights that the settings name.
"""

from collections.abc import Mapping, Sequence
from math import exp

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
KERNEL, SIGMA = 11, 7.0  # pixels of the smaller image: side and deviation of the blur
SCALE, NOISE = (
    0.5,
    0.1,
)  # side of the smaller image, and deviation of its noise in normalised pixels
THRESHOLDS, STEEPNESS = (0.4, 0.6), (3.0, 5.0)  # ranges of the soft threshold of attention maps
LEAST_PEAK = 1e-6  # largest value of an attention map, which may be 0 everywhere


@register_objective(
    "mat",
    summary="losses of MAT: independent regions, and images degraded by attention",
    binary=True,
    network="mat",
)
class MultiAttentionLosses(Objective):
    """The weighted sum of three losses of two forward passes. Draws come from torch's global generators."""

    def __init__(self) -> None:
        self._centres = torch.zeros(ATTENTIONS, TEXTURE_CHANNELS)
        self._means: Tensor | None = None  # means of the regions of the last batch
        self._rate = RATE

    def begin_epoch(self, epoch: int, first_batch: int, batches: int) -> None:
        """Set the rate of the centres."""
        del first_batch, batches
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
        pixels = model.normalize_pixels(pixels)
        parts = network.parts(pixels)
        regions, self._centres = parts.regions.float(), self._centres.to(pixels.device)
        self._means = regions.detach().mean(0)
        with torch.autocast(pixels.device.type, enabled=False):
            images = degrade_by_attention(pixels.float(), parts.attention.detach().float())
        blurred = network.parts(images.to(pixels.dtype))
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


def degrade_by_attention(pixels: Tensor, attention: Tensor) -> Tensor:
    """Return images that are blurred and noisy wherever one of their attention maps is high.

    Args:
        pixels: normalised, (B, 3, H, W), with sides above `KERNEL`.
        attention: (B, M, h, w), >= 0. The map of each image is drawn, and the threshold of all images.
    """
    rows = torch.arange(len(attention), device=attention.device)
    chosen = attention[rows, draw_maps(attention)][:, None]  # (B, 1, h, w)
    shares = chosen / chosen.amax((2, 3), keepdim=True).clamp(min=LEAST_PEAK)
    threshold, steepness = (
        low + (high - low) * float(torch.rand(())) for low, high in (THRESHOLDS, STEEPNESS)
    )
    weights = _resize(soft_threshold(shares, threshold, steepness), pixels.shape[2:])
    return torch.lerp(pixels, _degrade(pixels), weights)


def draw_maps(attention: Tensor) -> Tensor:
    """Return the number of a map for each image, (B,), with a probability like the root of its sum + 1.

    Args:
        attention: (B, M, h, w), >= 0.
    """
    # the probability that a map has the least exponential time is its share of all rates, and no GPU is waited for
    times = torch.empty(attention.shape[:2]).exponential_().to(attention)
    return (times / (attention.sum((2, 3)) + 1).sqrt()).argmin(1)


def soft_threshold(shares: Tensor, threshold: float, steepness: float) -> Tensor:
    """Return the logistic function of shares in 0 … 1 around the threshold, minus its value at 0."""
    return ((shares - threshold) * steepness).sigmoid() - 1 / (1 + exp(threshold * steepness))


def _degrade(pixels: Tensor) -> Tensor:
    small = _blur(_resize(pixels, [int(side * SCALE) for side in pixels.shape[2:]]))
    # drawn on the device, as dropout is: a GPU would wait for so many numbers of the CPU
    return _resize(small + NOISE * torch.randn_like(small), pixels.shape[2:])


def _resize(maps: Tensor, size: Sequence[int]) -> Tensor:
    return functional.interpolate(maps, tuple(size), mode="bilinear", align_corners=True)


def _blur(pixels: Tensor) -> Tensor:
    places = torch.arange(KERNEL, device=pixels.device, dtype=pixels.dtype) - KERNEL // 2
    row = torch.exp(-places.square() / (2 * SIGMA**2))
    row = (row / row.sum()).expand(3, 1, 1, KERNEL)
    padded = functional.pad(pixels, (KERNEL // 2,) * 4, mode="reflect")
    return functional.conv2d(functional.conv2d(padded, row, groups=3), row.mT, groups=3)


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    return functional.binary_cross_entropy_with_logits(logits.float(), labels)
