"""The losses of the disentangling network of L. Lin et al., CVPR 2024, arXiv 2402.17229.

    L = CE(shared) + .1 CE(specific) + .3 reconstruction + .05 contrast + .1 LDAM(groups) + fused

The losses follow the program of the authors (MIT licence), with these differences. There the flags for the
fractions of the last loss have no effect; here they are `fair_alpha_in` and `fair_alpha_out`. The margins of
groups are computed from the training set; there the counts are constants. The exact minimum replaces the
search for a threshold (`training.cells`). An epoch has as many images as the set, with the same number of real
images and fakes in every batch. There an epoch is one pass over the fakes, each with a random real image.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from trueface.data.batch import Batch
from trueface.data.loading.image_set import FORGERY
from trueface.models.blocks.disentangling import MOST_CLASSES, DisentanglingNetwork, FairnetOutputs
from trueface.runtime.errors import JobError
from trueface.training.cells import Subgroups, bilevel_cvar
from trueface.training.config import DEMOGRAPHIC, ObjectiveOptions
from trueface.training.group_losses import FUSION_RIDGE, FUSION_SMOOTH, ldam_loss, ldam_margins
from trueface.training.objectives.protocol import (
    CORRECT,
    Logs,
    Objective,
    TrainingFacts,
    network_and_images,
)
from trueface.training.objectives.registry import register_objective

MARGIN = 3.0  # published value, in units of the distance between features
FORGERIES = 6  # published minimum number of forgery classes: real and five types
WEIGHTS: Mapping[str, float] = {
    "shared": 1.0,
    "specific": 0.1,
    "reconstruction": 0.3,
    "contrast": 0.05,
    "demographic": 0.1,
    "fused": 1.0,
}


class ClassPairs(NamedTuple):
    """The positions of paired images in a batch, n of each class."""

    real: Tensor  # (n,) int64
    fake: Tensor  # (n,) int64

    @classmethod
    def from_labels(cls, labels: Tensor) -> "ClassPairs":
        """Return the first n images of each class in a batch, where n is the size of the smaller class.

        Args:
            labels: label of each image, (B,), 1 = fake.
        """
        real, fake = (labels < 0.5).nonzero().flatten(), (labels > 0.5).nonzero().flatten()
        count = min(len(real), len(fake))
        return cls(real[:count], fake[:count])


def reconstruction(
    network: DisentanglingNetwork, parts: FairnetOutputs, images: Tensor, pairs: ClassPairs
) -> Tensor:
    """Return the sum of four mean absolute differences between images and reconstructions.

    Each image of a pair is reconstructed twice from its content: with its forgery features, and with
    those of the other image.

    Args:
        network: network that computed the parts.
        parts: outputs of the network for the images.
        images: images, (B, 3, H, W) in -1 … 1.
        pairs: at least one pair.
    """
    real, fake = pairs
    contents = torch.cat([parts.content_styled_features(real), parts.content_styled_features(fake)])
    forgery = torch.cat([real, fake, fake, real])  # image whose forgery features are used
    size = (images.shape[-2], images.shape[-1])
    drawn = network.decoder(parts.forgery[forgery], contents.repeat(2, 1, 1, 1), size)
    targets = images[torch.cat([real, fake, real, fake])]
    return 4 * functional.l1_loss(drawn.float(), targets)  # the four means have equal size


def contrast(
    shared_features: Tensor, specific_features: Tensor, types: Tensor, pairs: ClassPairs
) -> Tensor:
    """Return the sum of four triplet losses, for reals and fakes, with shared and specific features.

    With shared features, the positive is a random image of the anchor's class. With specific features, it
    is a random image of the anchor's type of forgery. The negative is a random image of the other class.

    Source: L. Lin et al., CVPR 2024, arXiv 2402.17229, as in their program. Permutations are drawn from
    torch's global generator.

    Args:
        shared_features: shared features, (B, F).
        specific_features: specific features, (B, F).
        types: type of forgery of each image, (B,) int64, 0 = real.
        pairs: at least one pair.
    """
    real, fake = pairs
    count = len(real)
    chosen = torch.cat([real, fake])
    of_class = torch.arange(2 * count, device=types.device) // max(count, 1)
    losses = [
        _losses_by_class(features[chosen].float(), permute_within_kind(kinds), count)
        for features, kinds in ((shared_features, of_class), (specific_features, types[chosen]))
    ]
    return torch.stack(losses).sum()


def triplet(anchor: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    """Return the mean over rows (n, F) of max(0, |a - p| - |a - n| + 3)."""
    near = functional.pairwise_distance(anchor, positive)
    far = functional.pairwise_distance(anchor, negative)
    return (near - far + MARGIN).clamp(min=0).mean()


def permute_within_kind(kinds: Tensor) -> Tensor:
    """Return a random permutation (n,) of positions within each kind (n,)."""
    shuffled = torch.randperm(len(kinds)).to(kinds.device)
    order = kinds.argsort(stable=True)
    permutation = torch.empty_like(order)
    permutation[order] = shuffled[kinds[shuffled].argsort(stable=True)]
    return permutation


@register_objective(
    "fairnet",
    summary="all losses of the disentangling network fairnet",
    binary=True,
    columns=("demographic", "forgery"),
    options=("fair_alpha_in", "fair_alpha_out"),
    network="fairnet",
    paired=True,
    least_images=2,  # a pair
)
class FairNetLosses(Objective):
    """The weighted sum of six losses of one forward pass.

    Reconstruction and contrast use pairs of a real image and a fake. If the classes of a batch are unequal in
    size, the first images of each are paired. A batch of one class has neither of these losses.
    """

    def prepare(self, facts: TrainingFacts, options: ObjectiveOptions) -> None:
        """Count groups and types of forgery in the training.

        Raises:
            JobError: the images have no groups or types, or there are too many.
        """
        absent = [name for name in (DEMOGRAPHIC, FORGERY) if name not in facts.columns]
        if absent or not len(facts.labels):
            raise JobError(
                "objective: fairnet needs the group and the forgery type of every image, but "
                f"{' and '.join(absent or ['labels'])} is missing. Name CSV files with both in "
                "attributes."
            )
        types = facts.columns[FORGERY]
        # number of images in each group
        counts = Subgroups.from_training_facts(facts, "fairnet").counts.view(2, -1).sum(0)
        self._forgeries = max(FORGERIES, int(types.max()) + 1)
        for noun, number in (("groups", len(counts)), ("forgery types", self._forgeries)):
            if number > MOST_CLASSES:
                raise JobError(
                    f"objective: fairnet supports at most {MOST_CLASSES} {noun}, got {number}. "
                    "Merge some of them in the CSV file, or choose another column with groups_by."
                )
        self._margins, self._options = ldam_margins(counts), options

    def training_step(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Logs]:
        """Return the loss, the number of correct images, and each of the six parts.

        Raises:
            JobError: the model is not a `fairnet`, or the images are features or crops of images.
        """
        network, images = network_and_images(
            model, batch, DisentanglingNetwork, "fairnet", "fairnet or fairnet/NETWORK"
        )
        labels = (batch.labels.reshape(-1) > 0.5).long()
        parts = network.forward_parts(images)
        losses = self._losses(network, parts, batch, labels)
        loss = torch.stack([WEIGHTS[name] * value for name, value in losses.items()]).sum()
        right = ((parts.logit.reshape(-1) > 0).long() == labels).sum()
        return loss, {CORRECT: right, **{name: value.detach() for name, value in losses.items()}}

    def _losses(
        self, network: DisentanglingNetwork, parts: FairnetOutputs, batch: Batch, labels: Tensor
    ) -> dict[str, Tensor]:
        groups, types = batch.column(DEMOGRAPHIC), batch.column(FORGERY)
        margins, options = self._margins.to(labels.device), self._options
        losses = {
            "shared": functional.cross_entropy(parts.shared.float(), labels),
            "specific": functional.cross_entropy(
                parts.specific[:, : self._forgeries].float(), types
            ),
            "demographic": ldam_loss(parts.demographic[:, : len(margins)].float(), groups, margins),
            "fused": bilevel_cvar(
                functional.cross_entropy(parts.fused.float(), labels, reduction="none"),
                groups,
                alpha_in=options.fair_alpha_in,
                alpha_out=options.fair_alpha_out,
                smooth=FUSION_SMOOTH,
                ridge=FUSION_RIDGE,
                count=len(margins),
            ),
        }
        pairs = ClassPairs.from_labels(labels)
        if len(pairs.real):
            images = _in_unit_range(batch.inputs)
            features = parts.shared_features, parts.specific_features
            losses["reconstruction"] = reconstruction(network, parts, images, pairs)
            losses["contrast"] = contrast(*features, types, pairs)
        return losses


def _losses_by_class(features: Tensor, permutation: Tensor, count: int) -> Tensor:
    """Return the loss of the first `count` rows (reals) plus the loss of the others (fakes)."""
    others = features[permutation]
    return triplet(features[:count], others[:count], others[count:]) + triplet(
        features[count:], others[count:], others[:count]
    )


def _in_unit_range(images: Tensor) -> Tensor:
    """Return pixels in the range of the decoder, -1 … 1 float32, for any input type."""
    pixels = images.float() / 255 if images.dtype == torch.uint8 else images.float()
    return 2 * pixels - 1
