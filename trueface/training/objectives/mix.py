"""Selective augmentation: images are mixed with images of the same class from another group."""

import logging

import torch
from torch import Tensor, nn
from torch.distributions import Beta
from torch.nn import functional

from trueface.data.batch import Batch
from trueface.runtime.errors import JobError
from trueface.training.cells import CLASSES, Subgroups
from trueface.training.config import ObjectiveOptions
from trueface.training.objectives.protocol import Logs, Objective, TrainingFacts, per_sample_bce
from trueface.training.objectives.registry import register_objective

log = logging.getLogger(__name__)


@register_objective(
    "mix",
    summary="images mixed with those of another group and the same class",
    binary=True,
    columns=("demographic",),
    fair=True,
    balanced=True,
    options=("mix_alpha",),
    least_images=2,  # a pair
)
class SelectiveMixing(Objective):
    """Intra-label LISA: H. Yao et al., ICML 2022 (arXiv 2201.00299), section 3.

    Each image becomes a·image + (1 - a)·partner with a from Beta(mix_alpha, mix_alpha). The
    published mix_alpha is 2. The partner has the same class and another group. Each such group of
    the batch is equally likely. Features that distinguish groups therefore no longer distinguish
    classes. The effect is largest for a near one half, because the mixed image then shows both
    groups equally.

    Cells are drawn equally often. An image without a partner is unchanged. If only the last layer is
    trained, features are mixed instead of pixels. Random numbers are drawn on the CPU, so that they do
    not depend on the device.
    """

    def prepare(self, facts: TrainingFacts, options: ObjectiveOptions) -> None:
        """Count the images of each cell.

        Raises:
            JobError: the images have no groups, or no class has images of two groups.
        """
        self._cells = Subgroups.from_training_facts(facts, "mix", compares=True)
        self._alpha = options.mix_alpha
        groups = self._cells.has_images.view(
            CLASSES, -1
        )  # whether each class has images of each group
        if (groups.sum(1) <= 1).all():
            raise JobError(
                "fair: mix mixes images of one class from different groups, but each class has "
                "images of one group only. Choose another column with groups_by, or leave fair "
                "out."
            )
        for name, there in zip(("real", "fake"), groups, strict=True):
            if there.sum() == 1:
                only = self._cells.names[int(there.long().argmax())]
                log.warning(
                    "fair=mix class=%s group=%s effect=its images are not mixed", name, only
                )

    def training_step(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Logs]:
        """Return the mean loss of the mixed images, and the number of correct images."""
        partners, share = draw_partners(
            self._cells.subgroup_ids_of_batch(batch), self._cells.groups, self._alpha
        )
        images = batch.inputs if batch.inputs.is_floating_point() else batch.inputs.float() / 255
        share = share.view(-1, *(1 for _ in images.shape[1:])).to(images.dtype)
        losses, logs = per_sample_bce(
            model, batch._replace(inputs=torch.lerp(images[partners], images, share))
        )
        return losses.mean(), logs


def draw_partners(cells: Tensor, groups: int, alpha: float) -> tuple[Tensor, Tensor]:
    """Return the partner of each image, and the weight of the image in the mixture.

    Args:
        cells: number of each image's cell, (B,).
        groups: number of groups.
        alpha: parameter of Beta(alpha, alpha), > 0.

    Returns:
        Positions of the partners in the batch, (B,) int64; weights of the images, (B,) float32 in
        0 … 1, which are 1 without a partner.
    """
    count, device = len(cells), cells.device
    # drawn on the CPU: a GPU has other random numbers, and its generator is not in the saved state
    noise, share = torch.rand(count, count).to(device), _shares(count, alpha).to(device)
    classes = cells // groups
    fits = (classes[:, None] == classes) & (cells[:, None] != cells)  # (B, B)
    sizes = functional.one_hot(cells, CLASSES * groups).sum(0)[cells]
    # the minimum of exponential variables selects each image with a probability proportional to its rate
    times = -noise.clamp(min=1e-12).log() * sizes
    partners = times.masked_fill(~fits, torch.inf).argmin(1)
    return partners, torch.where(fits.any(1), share, 1.0)


def _shares(count: int, alpha: float) -> Tensor:
    """Return random values of Beta(alpha, alpha), (N,) float32."""
    if not count:
        return torch.empty(0)
    drawn: Tensor = Beta(alpha, alpha).sample(torch.Size([count]))
    return drawn
