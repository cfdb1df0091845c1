"""Layer attack unlearning: the last layer is trained on the predictions for adversarial features.

The backbone is unchanged, bit for bit. Features of the forget set are computed once. In each epoch the
head at the start of the epoch is the teacher. Features that it still assigns to their label are attacked
until it does not. The head learns its predictions for these features, hard labels by cross entropy and soft
ones by distillation. Samples that are already forgotten keep their prediction.

Source: H. Kim, S. Lee, S. Woo, "Layer attack unlearning: fast and accurate machine unlearning via
layer level attack and knowledge distillation", AAAI 2024, arXiv 2312.16823. Losses, alpha and temperature
are the authors'. They published no code, so rates and numbers of steps are not theirs. Differences:

1. The attack's eps follows the features' size and grows until 95 % change their class, because no single
   number fits all networks. If it grows, all features are attacked again. For this `pgd: full` reads them
   once more, at most four times in a run. Entries are bounded by 0 from below if no feature is negative,
   and have no upper bound.
2. Features that already have another class are not attacked.
3. A failed attack trains towards the best other class, and the teacher's two logits are swapped.
4. The distillation is the mean over samples, not over all entries.
5. It stops when the whole forget set has other predictions, checked after each batch.

It changes no feature: a new last layer can still find the forget set.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from trueface.data.examples import Examples
from trueface.models.logits import (
    BackboneHeadSplit,
    as_multiclass_logits,
    cross_entropy,
    kl_divergence,
)
from trueface.runtime.field_types import Count, Finite, Probability
from trueface.runtime.precision import autocast
from trueface.runtime.rng import torch_rng
from trueface.unlearning.adversarial import (
    AttackBatch,
    EpsilonSearchPGD,
    Range,
    range_of,
    runner_up_class,
    to_unit_float,
    untargeted_gradient,
    untargeted_linear_gradient,
)
from trueface.unlearning.api import Request, Result
from trueface.unlearning.building_blocks import draw_subset, train_until_forgotten
from trueface.unlearning.hyperparameters import DescentOptions, NotNegative, Positive
from trueface.unlearning.optimization import Descent
from trueface.unlearning.registry import FLIPS, FORGETTING, KnownFailure, register_method

ROWS = 4096  # features attacked at a time: 32 MiB where a sample has 2048
FIRST = {"partial": 0.5, "full": 4 / 255}  # eps, in mean absolute features or the inputs' range
ATTACK_STEPS = 10  # steps of projected gradient descent; ours, because the paper gives no number
LARGEST = 16  # largest multiple of the first eps


@dataclass(frozen=True, kw_only=True)
class ForgetFeatureSet:
    """The forget set as features, and the layer that reads them."""

    features: Tensor  # (N, F) float32
    labels: Tensor  # (N,) int64
    examples: Examples  # N samples from which they come
    within: Range  # range of the inputs; 0 to 1 if only features are attacked
    head: nn.Linear

    @cached_property
    def feature_unit(self) -> tuple[float, Range]:
        """The mean absolute feature, and the range of attacked features."""
        unit, least = torch.stack((self.features.abs().mean(), self.features.min())).tolist()
        return unit, Range(0.0 if least >= 0 else -torch.inf, torch.inf)

    def head_logits(self, features: Tensor) -> Tensor:
        """Return wide logits (B, K) of features (B, F)."""
        return as_multiclass_logits(functional.linear(features, self.head.weight, self.head.bias))

    def remembered_masks(self) -> Iterator[Tensor]:
        """Yield, part by part, whether samples are still answered with their label."""
        parts = zip(torch.split(self.features, ROWS), torch.split(self.labels, ROWS), strict=True)
        for features, labels in parts:
            yield self.head_logits(features).detach().argmax(1) == labels


class TeacherTargets(NamedTuple):
    """The teacher's predictions of every sample in one epoch."""

    soft: Tensor  # (N, K) logits
    hard: Tensor  # (N,) classes, never a sample's own


class LauOptions(DescentOptions):
    """Layer attack unlearning."""

    epochs: Count = Field(
        20, description="Maximum number of passes; training stops when everything is forgotten"
    )
    lr: Positive = Field(0.01, description="Learning rate")
    batch_size: Count = Field(128, description="Feature vectors per step")
    clip: NotNegative = Field(0.0, description="Maximum gradient norm; 0: no clipping")
    pgd: Literal["partial", "full"] = Field(
        "partial",
        description="Attacked inputs: features of the last layer for partial, images for full",
    )
    double_softmax: bool = Field(
        True, description="Apply the softmax to the target of the distillation twice"
    )
    alpha: Probability = Field(0.5, description="Weight of the distillation in the loss")
    temperature: Positive = Field(4.0, description="Temperature of the distillation")
    eps: Positive | None = Field(
        None,
        description="Bound of the attack in mean absolute features (partial) or in the image range (full). "
        "Default: grows until 95 % of the predictions change",
    )
    share: Annotated[Finite, Field(gt=0, le=1)] = Field(
        1.0, description="Fraction of the forget set to read"
    )


LIMITS = (
    KnownFailure(
        goals=FLIPS,
        classes="several",
        reason="moves flipped labels across the nearest class boundary, rarely to the true class; "
        "choose relabel, or exact with a frozen backbone",
    ),
    KnownFailure(
        goals=FLIPS,
        classes="two",
        reason="can only relabel the last layer if there are two classes; choose relabel, or exact "
        "with a frozen backbone",
    ),
    KnownFailure(
        goals=FORGETTING,
        classes="two",
        reason="would swap the predictions of the two classes and forget nothing",
    ),
)


@register_method(
    "lau",
    summary="Layer attack: trains the last layer on adversarial features",
    hyperparameters=LauOptions,
    needs={"last layer"},
    limits=LIMITS,
)
def layer_attack(request: Request) -> Result:
    """Move the last layer until no forgotten sample is answered with its label.

    Raises:
        JobError: the model has no backbone with a last layer, nothing could be read, stopped, or the
            result is not finite.
    """
    options = request.own(LauOptions)
    request.model.eval()
    count = max(1, round(options.share * len(request.forget)))
    forget = _read(request, draw_subset(request.forget, count, "lau/share", request.seed))
    first = options.eps or FIRST[options.pgd]
    attack = EpsilonSearchPGD(first, options.eps or LARGEST * first, ATTACK_STEPS)
    descent = Descent(forget.head.parameters(), options)
    rng = torch_rng("lau/order", request.seed)
    return train_until_forgotten(
        request,
        lambda _: descent.take_steps(
            _losses(request, forget, _compute_teacher_targets(request, forget, attack), rng)
        ),
        lambda: _remembered_fraction(forget),
        f"read {len(forget.labels)} of {len(request.forget)} samples of the forget set",
    )


def _read(request: Request, forget: Examples) -> ForgetFeatureSet:
    """Return the forget set as features; every sample is read once."""
    split, features, labels, positions = BackboneHeadSplit(request.model), [], [], []
    ends: list[
        Tensor
    ] = []  # the least and the greatest input of each batch, if inputs are attacked
    attacks_inputs = request.own(LauOptions).pgd == "full"
    for batch in forget.read(request.watch):
        with torch.no_grad(), autocast(request.watch.device, request.watch.precision):
            features.append(split.features(batch.inputs))
        if attacks_inputs:
            ends.append(torch.stack(torch.aminmax(to_unit_float(batch.inputs))))
        labels.append(batch.labels)
        positions += batch.indices.tolist()
    places = {position: place for place, position in enumerate(forget.positions)}
    return ForgetFeatureSet(
        features=torch.cat(features),
        labels=torch.cat(labels),
        examples=forget.subset([places[position] for position in positions]),
        within=range_of(ends),
        head=split.head,
    )


def _remembered_fraction(forget: ForgetFeatureSet) -> float:
    """Return how many samples are still answered with their label, 0 to 1."""
    return float(torch.cat(list(forget.remembered_masks())).float().mean())


@torch.no_grad()
def _compute_teacher_targets(
    request: Request, forget: ForgetFeatureSet, attack: EpsilonSearchPGD
) -> TeacherTargets:
    """Return the head's current logits, those of attacked features for samples that still get their label."""
    partial = request.own(LauOptions).pgd == "partial"
    soft = torch.cat([forget.head_logits(part) for part in torch.split(forget.features, ROWS)])
    kept = (soft.argmax(1) == forget.labels).nonzero().squeeze(1)
    parts = _attack_features if partial else _attack_inputs
    answer = forget.head_logits if partial else request.logits
    for rows, logits in attack.attacked_logits(answer, lambda: parts(request, forget, kept)):
        soft[rows] = logits
    best = runner_up_class(soft, forget.labels)
    pair = torch.stack([forget.labels, best], 1)
    swapped = soft.scatter(1, pair, soft.gather(1, pair.flip(1)))
    failed = soft.argmax(1) == forget.labels
    return TeacherTargets(torch.where(failed[:, None], swapped, soft), best)


def _attack_features(
    request: Request, forget: ForgetFeatureSet, rows_kept: Tensor
) -> Iterator[AttackBatch]:
    """Yield the features of `rows_kept`, with their attack through the head."""
    unit, within = forget.feature_unit
    for rows in torch.split(rows_kept, ROWS):
        request.watch.raise_if_stopped()
        points, labels = forget.features[rows], forget.labels[rows]
        slope = untargeted_linear_gradient(forget.head, labels)
        yield AttackBatch(rows, points, labels, slope, unit, within)


def _attack_inputs(
    request: Request, forget: ForgetFeatureSet, rows_kept: Tensor
) -> Iterator[AttackBatch]:
    """Yield the inputs of `rows_kept`, read once more, with their attack through the model."""
    rows = dict(zip(forget.examples.positions, range(len(forget.labels)), strict=True))
    correct, size = forget.examples.subset(rows_kept.tolist()), request.own(LauOptions).batch_size
    for inputs, labels, positions, _ in correct.read(request.watch, batch_size=size):
        of_batch = torch.tensor(
            [rows[int(position)] for position in positions], device=labels.device
        )
        points, slope = to_unit_float(inputs), untargeted_gradient(request.logits, labels)
        yield AttackBatch(of_batch, points, labels, slope, forget.within.width, forget.within)


def _losses(
    request: Request,
    forget: ForgetFeatureSet,
    teacher_targets: TeacherTargets,
    rng: torch.Generator,
) -> Iterator[Tensor]:
    """Yield the losses of one pass, or of as much of one as it takes."""
    options = request.own(LauOptions)
    order = torch.randperm(len(forget.labels), generator=rng)
    order = order.to(forget.labels.device, non_blocking=True)
    for rows in torch.split(order, options.batch_size):
        request.watch.raise_if_stopped()
        logits = forget.head_logits(forget.features[rows])
        detached = logits.detach()
        kept = detached.argmax(1) == forget.labels[rows]
        if not kept.any() and not any(part.any() for part in forget.remembered_masks()):
            break
        hard = torch.where(kept, teacher_targets.hard[rows], detached.argmax(1))
        soft = torch.where(kept[:, None], teacher_targets.soft[rows], detached)
        yield _loss(logits, hard, soft, options)


def _loss(logits: Tensor, hard: Tensor, soft: Tensor, options: LauOptions) -> Tensor:
    """Return cross entropy and distillation in their shares, the latter with a second softmax."""
    warmth = options.temperature
    target = soft.softmax(1) if options.double_softmax else soft
    distilled = kl_divergence(target, logits, warmth)
    return (1 - options.alpha) * cross_entropy(logits, hard) + options.alpha * warmth**2 * distilled
