"""Layer attack unlearning: the last layer is trained on the predictions for adversarial features.

The body stays as it is, bit for bit. Features of the forget set are computed once; then, epoch by
epoch, the head of the epoch's start is the teacher. Features that it still calls by their label are
attacked through it until it does not, and the head learns its answers to these: hard ones by cross
entropy, soft ones by distillation. Samples that are forgotten already keep the answer they have.

Source: H. Kim, S. Lee, S. Woo, "Layer attack unlearning: fast and accurate machine unlearning via
layer level attack and knowledge distillation", AAAI 2024, arXiv 2312.16823. Losses, alpha and temperature
are the authors'; no code of theirs is public, and rates and numbers of steps are ours. What differs:
  - the attack's eps follows the features' size and grows until 95 % are called something else, as no
    one number fits all networks; where it grows, all are attacked anew, for which `pgd: full` reads
    them once more, at most four times in a run; entries are held at 0 from below where no feature is
    negative, and at nothing from above;
  - features that are called something else already are not attacked;
  - an attack that fails is taught the best other class, and the teacher's two logits change places;
  - the distillation is the mean over samples, not over all entries;
  - it stops when the whole forget set is answered otherwise, looked at whenever a batch is.
It moves no feature: whoever trains a new last layer finds what was forgotten.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from trueface.data.examples import Examples
from trueface.models.logits import ModelSplit, cross_entropy, wide
from trueface.runtime.field_types import Count, Finite, Probability
from trueface.runtime.precision import autocast
from trueface.runtime.rng import derive
from trueface.unlearning.adversarial import (
    AttackedRows,
    GrowingAttack,
    Range,
    Spot,
    away,
    away_linear,
    floats,
    other,
    range_of,
)
from trueface.unlearning.api import Request, Result
from trueface.unlearning.building_blocks import drawn, until_none_is_left
from trueface.unlearning.hyperparameters import DescentOptions, NotNegative, Positive
from trueface.unlearning.optimization import Descent
from trueface.unlearning.registry import FLIPS, FORGETTING, Limit, register_method

ROWS = 4096  # features attacked at a time: 32 MiB where a sample has 2048
FIRST = {"partial": 0.5, "full": 4 / 255}  # eps, in mean absolute features or the inputs' range
LARGEST = 16  # how many times the first eps it may become


@dataclass(frozen=True, slots=True, kw_only=True)
class ForgetFeatures:
    """The forget set as features, and the layer that reads them."""

    features: Tensor  # (N, F) float32
    labels: Tensor  # (N,) int64
    examples: Examples  # where they come from, N
    within: Range  # of the inputs
    head: nn.Linear

    def answers(self, features: Tensor) -> Tensor:
        """Return wide logits (B, K) of features (B, F)."""
        return wide(functional.linear(features, self.head.weight, self.head.bias))

    def left(self) -> Iterator[Tensor]:
        """Yield, part by part, whether samples are still answered with their label."""
        parts = zip(torch.split(self.features, ROWS), torch.split(self.labels, ROWS), strict=True)
        for features, labels in parts:
            yield self.answers(features).detach().argmax(1) == labels


class Teaching(NamedTuple):
    """What the teacher says of every sample in one epoch."""

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
    attack_steps: Count = Field(10, description="Steps of the attack")
    share: Annotated[Finite, Field(gt=0, le=1)] = Field(
        1.0, description="Fraction of the forget set to read"
    )


LIMITS = (
    Limit(
        goals=FLIPS,
        classes="several",
        reason="moves flipped labels across the nearest class boundary, rarely to the true class; "
        "choose relabel, or exact with a frozen backbone",
    ),
    Limit(
        goals=FLIPS,
        classes="two",
        reason="can only relabel the last layer if there are two classes; choose relabel, or exact "
        "with a frozen backbone",
    ),
    Limit(
        goals=FORGETTING,
        classes="two",
        reason="would swap the predictions of the two classes and forget nothing",
    ),
)


@register_method(
    "lau",
    summary="Layer attack: trains the last layer on adversarial features",
    hyperparameters=LauOptions,
    limits=LIMITS,
)
def layer_attack(request: Request) -> Result:
    """Move the last layer until no forgotten sample is answered with its label.

    Raises:
        JobError: the model is no body with a last layer, nothing could be read, stopped, or no
            finite result.
    """
    options = request.own(LauOptions)
    request.model.eval()
    count = max(1, round(options.share * len(request.forget)))
    forget = _read(request, drawn(request.forget, count, "lau/share", request.seed))
    first = options.eps or FIRST[options.pgd]
    attack = GrowingAttack(first, options.eps or LARGEST * first, options.attack_steps)
    descent = Descent(forget.head.parameters(), options)
    random = torch.Generator().manual_seed(derive("lau/order", request.seed))
    return until_none_is_left(
        request,
        lambda _: _epoch(request, forget, _taught(request, forget, attack), descent, random),
        lambda: _share(forget),
        f"read {len(forget.labels)} of {len(request.forget)} samples of the forget set",
    )


def _read(request: Request, forget: Examples) -> ForgetFeatures:
    """Return the forget set as features; every sample is read once."""
    split, features, labels, positions = ModelSplit(request.model), [], [], []
    ends: list[Tensor] = []  # the least and the greatest input of each batch
    for batch in forget.read(request.watch):
        with torch.no_grad(), autocast(request.watch.device, request.watch.precision):
            features.append(split.features(batch.inputs))
        ends.append(torch.stack(torch.aminmax(floats(batch.inputs))))
        labels.append(batch.labels)
        positions += batch.positions.tolist()
    places = {position: place for place, position in enumerate(forget.positions)}
    return ForgetFeatures(
        features=torch.cat(features),
        labels=torch.cat(labels),
        examples=forget.subset([places[position] for position in positions]),
        within=range_of(ends),
        head=split.head,
    )


def _share(forget: ForgetFeatures) -> float:
    """Return how many samples are still answered with their label, 0 to 1."""
    return float(torch.cat(list(forget.left())).float().mean())


@torch.no_grad()
def _taught(request: Request, forget: ForgetFeatures, attack: GrowingAttack) -> Teaching:
    """Return what the head says now, of attacked samples where it gives their label."""
    partial = request.own(LauOptions).pgd == "partial"
    soft = torch.cat([forget.answers(part) for part in torch.split(forget.features, ROWS)])
    kept = (soft.argmax(1) == forget.labels).nonzero().squeeze(1)
    parts = _by_features if partial else _by_inputs
    answer = forget.answers if partial else request.logits
    for rows, logits in attack.answers(answer, lambda: parts(request, forget, kept)):
        soft[rows] = logits
    best = other(soft, forget.labels)
    pair = torch.stack([forget.labels, best], 1)
    swapped = soft.scatter(1, pair, soft.gather(1, pair.flip(1)))
    failed = soft.argmax(1) == forget.labels
    return Teaching(torch.where(failed[:, None], swapped, soft), best)


def _by_features(request: Request, forget: ForgetFeatures, kept: Tensor) -> Iterator[AttackedRows]:
    """Yield the features of rows `kept`, and how to attack them through the head."""
    unit = float(forget.features.abs().mean())
    within = Range(0.0 if float(forget.features.min()) >= 0 else -torch.inf, torch.inf)
    for rows in torch.split(kept, ROWS):
        request.check_stop()
        labels, spot = forget.labels[rows], Spot(forget.features[rows], unit, within)
        yield AttackedRows(rows, spot, labels, away_linear(forget.head, labels))


def _by_inputs(request: Request, forget: ForgetFeatures, kept: Tensor) -> Iterator[AttackedRows]:
    """Yield the inputs of rows `kept`, read once more, and how to attack them through the model."""
    rows = dict(zip(forget.examples.positions, range(len(forget.labels)), strict=True))
    correct, size = forget.examples.subset(kept.tolist()), request.own(LauOptions).batch_size
    for inputs, labels, positions in correct.read(request.watch, batch_size=size):
        spot = Spot(floats(inputs), forget.within.width, forget.within)
        of_batch = torch.tensor([rows[int(place)] for place in positions], device=labels.device)
        yield AttackedRows(of_batch, spot, labels, away(request.logits, labels))


def _epoch(
    request: Request,
    forget: ForgetFeatures,
    taught: Teaching,
    descent: Descent,
    random: torch.Generator,
) -> float:
    """Teach the head in one pass, or in as much of one as it takes; return the mean loss."""
    options, losses = request.own(LauOptions), []
    order = torch.randperm(len(forget.labels), generator=random).to(forget.labels.device)
    for rows in torch.split(order, options.batch_size):
        request.check_stop()
        logits = forget.answers(forget.features[rows])
        detached = logits.detach()
        kept = detached.argmax(1) == forget.labels[rows]
        if not kept.any() and not any(part.any() for part in forget.left()):
            break
        hard = torch.where(kept, taught.hard[rows], detached.argmax(1))
        soft = torch.where(kept[:, None], taught.soft[rows], detached)
        losses.append(descent.step(_loss(logits, hard, soft, options)))
    return sum(losses) / len(losses)


def _loss(logits: Tensor, hard: Tensor, soft: Tensor, options: LauOptions) -> Tensor:
    """Return cross entropy and distillation in their shares, the latter with a second softmax."""
    warmth = options.temperature
    target = soft.softmax(1) if options.double_softmax else soft
    distilled = functional.kl_div(
        (logits / warmth).log_softmax(1),
        (target / warmth).log_softmax(1),
        log_target=True,
        reduction="batchmean",
    )
    return (1 - options.alpha) * cross_entropy(logits, hard) + options.alpha * warmth**2 * distilled
