"""Instance-wise unlearning: gradient ascent on the forget set, regularised by adversarial examples.

Adversarial examples of the forget set, each moved towards a class drawn at random, take the place of
the retain set, which is not read. A penalty keeps the weights that matter least to the forget set
near their values. Training stops when no forgotten sample is predicted as its label.

Source: S. Cha et al., "Learning to unlearn: instance-wise unlearning for pre-trained classifiers",
AAAI 2024, arXiv 2301.11578. Importances follow R. Aljundi et al., "Memory aware synapses", ECCV 2018,
arXiv 1711.09601, with the norm of the logits and gradients of batches, see
`trueface.unlearning.importance`. Differences:
- Batch norm uses its running statistics, also for the importances. With `bn: train`, both use the statistics
  of each batch, as the authors' code does, which forgets less and keeps more. Measured with four convolutions
  and batch norm on 16 of 1,200 handwritten digits (30 passes, radius 0.8, means of six seeds):

      lr       bn       test accuracy    instances with their label
      0.003    eval     0.919            0.812
      0.003    train    0.951            0.865
      0.01     eval     0.774            0.385
      0.01     train    0.829            0.500

- A gradient is clipped to `clip`, because the loss has no lower bound.
- The instances have a new order in each pass. The authors repeat one order.
- From a larger forget set `MOST_IMAGES` are drawn. The method was made for some hundreds, and its
  attack alone is adversarial x attack_steps passes over each of them.
The instances and their adversarial examples are held in memory, the latter on the CPU.
"""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from itertools import count

import torch
from pydantic import Field
from torch import Tensor, nn

from trueface.data.examples import Examples
from trueface.models.detectors import set_train_mode
from trueface.models.logits import cross_entropy
from trueface.runtime.field_types import Count
from trueface.runtime.rng import torch_rng
from trueface.unlearning.adversarial import (
    pgd_l2,
    random_l2_init,
    range_of,
    targeted_gradient,
    to_unit_float,
)
from trueface.unlearning.api import Request, Result
from trueface.unlearning.building_blocks import draw_subset, train_until_forgotten
from trueface.unlearning.hyperparameters import DescentOptions, NotNegative, Positive
from trueface.unlearning.importance import importances, trainable_parameters
from trueface.unlearning.optimization import Descent
from trueface.unlearning.registry import register_method

MOST_IMAGES = 256  # images of the forget set; ours, see the last difference above
Pair = tuple[Tensor, Tensor]  # inputs (B, …) float32, classes (B,)
# with its original value, and the regularization of each entry
WeightAnchors = list[tuple[nn.Parameter, Tensor, Tensor]]


class IwuOptions(DescentOptions):
    """Instance-wise unlearning. Defaults: the authors' for CIFAR-10."""

    epochs: Count = Field(100, description="Maximum number of passes over the adversarial examples")
    weight_decay: NotNegative = Field(1e-4, description="Weight decay")
    batch_size: Count = Field(32, description="Images of the forget set per step")
    adversarial: Count = Field(20, description="Adversarial examples per image")
    adversarial_batch: Count = Field(256, description="Adversarial examples per step")
    radius: Positive = Field(4.0, description="L2 radius of the attack, in units of the inputs")
    attack_steps: Count = Field(100, description="Steps of the attack")
    importance: NotNegative = Field(
        1.0, description="Weight of the penalty on changes of important weights"
    )


@register_method(
    "iwu",
    summary="Instance-wise unlearning with adversarial examples",
    hyperparameters=IwuOptions,
)
def instance_wise(request: Request) -> Result:
    """Train the model until no instance has its label, or for all epochs.

    Raises:
        JobError: nothing could be read, stopped, or no finite result.
    """
    options = request.own(IwuOptions)
    subset = draw_subset(request.forget, MOST_IMAGES, "iwu/most", request.seed)
    request.model.eval()
    instances = _read(request, subset)
    held = _weight_anchors(request, subset)
    nearby = make_adversarial_examples(request, instances)
    batches = _cycle_batches(request, instances)
    turns = count()
    descent, left = (
        Descent(request.model.parameters(), options),
        _fraction_remembered(request, instances),
    )

    def losses() -> Iterator[Tensor]:
        nonlocal left
        for around in _shuffle_batches(request, *nearby, pass_number=next(turns)):
            set_train_mode(request.model, fixed_statistics=options.bn == "eval")
            yield _loss(request, next(batches), around, held)
            left = _fraction_remembered(request, instances)
            if left == 0:
                break

    note = f"used {len(instances[1])} of {len(request.forget)} samples of the forget set"
    return train_until_forgotten(
        request, lambda _: descent.take_steps(losses()), lambda: left, note
    )


def _read(request: Request, forget: Examples) -> Pair:
    """Return the instances, on the device."""
    inputs, labels, *_ = zip(*forget.read(request.watch), strict=True)
    return to_unit_float(torch.cat(inputs)), torch.cat(labels)


def _weight_anchors(request: Request, forget: Examples) -> WeightAnchors:
    """Return all weights with how they are held: the least important for the instances firmest."""
    options = request.own(IwuOptions)
    if options.importance == 0:
        return []
    weights = trainable_parameters(request.model)
    from_batches = options.bn == "train"
    # in training mode, the copy's running statistics change
    measured = replace(request, model=deepcopy(request.model)) if from_batches else request
    importance = importances(
        measured,
        [forget],
        "norm",
        batch_size=options.batch_size,
        batch_statistics=from_batches,
    )
    return [
        (weight, weight.detach().clone(), firmness(importance[name]))
        for name, weight in weights.items()
    ]


def firmness(importance: Tensor) -> Tensor:
    """Return 1 for the least important entries of a tensor down to 0 for the most. Equal entries have 1."""
    low, high = importance.aminmax()
    fallen = 1 - (importance - low) / (high - low)
    return torch.where(high <= low, torch.ones_like(fallen), fallen)


def make_adversarial_examples(request: Request, instances: Pair) -> Pair:
    """Return adversarial examples of the instances with the classes they were pulled to."""
    options, (inputs, labels) = request.own(IwuOptions), instances
    rng = torch_rng("iwu/attack", request.seed)
    rows = torch.arange(len(labels)).repeat_interleave(options.adversarial)
    shift = 1 + torch.randint(request.classes - 1, rows.shape, generator=rng)
    targets = (labels.cpu()[rows] + shift) % request.classes
    within = range_of([inputs])
    moved = random_l2_init((len(rows), *inputs.shape[1:]), options.radius, rng)

    def answer(points: Tensor) -> Tensor:
        request.watch.raise_if_stopped()
        return request.logits(points)

    for part in torch.split(torch.arange(len(rows)), options.adversarial_batch):
        aim, start = targets[part].to(inputs.device), inputs[rows[part].to(inputs.device)]
        attacked = pgd_l2(
            targeted_gradient(answer, aim),
            start,
            moved[part].to(inputs.device),
            radius=options.radius,
            steps=options.attack_steps,
            value_range=within,
        )
        moved[part] = attacked.cpu()
    return moved, targets


def _cycle_batches(request: Request, instances: Pair) -> Iterator[Pair]:
    """Yield batches of the instances, in a new order after each pass, without end."""
    rng = torch_rng("iwu/order", request.seed)
    (inputs, labels), size = instances, request.own(IwuOptions).batch_size
    while True:
        order = torch.randperm(len(labels), generator=rng)
        for rows in torch.split(order.to(labels.device, non_blocking=True), size):
            yield inputs[rows], labels[rows]


def _shuffle_batches(
    request: Request, inputs: Tensor, targets: Tensor, *, pass_number: int
) -> Iterator[Pair]:
    """Yield batches of the adversarial examples in the order of a pass."""
    device, size = request.watch.device, request.own(IwuOptions).adversarial_batch
    rng = torch_rng(f"iwu/around/{pass_number}", request.seed)
    for rows in torch.split(torch.randperm(len(targets), generator=rng), size):
        yield (
            inputs[rows].to(device, non_blocking=True),
            targets[rows].to(device, non_blocking=True),
        )


def _loss(request: Request, forget: Pair, neighbours: Pair, anchors: WeightAnchors) -> Tensor:
    """Return the loss of three terms: leave trained labels, keep neighbours, regularize weights."""
    options, cut = request.own(IwuOptions), len(forget[1])
    if options.bn == "train":  # each of the two batches has its own statistics
        nearby, leaving = request.logits(neighbours[0]), request.logits(forget[0])
    else:
        logits = request.logits(torch.cat([forget[0], neighbours[0]]))
        leaving, nearby = logits[:cut], logits[cut:]
    share = cut / (cut + len(neighbours[1]))
    loss = (1 - share) * cross_entropy(nearby, neighbours[1])
    loss = loss - share * cross_entropy(leaving, forget[1])
    for weight, was, firm in anchors:
        loss = loss + options.importance / 2 * (firm * (weight - was) ** 2).sum()
    return loss


@torch.no_grad()
def _fraction_remembered(request: Request, instances: Pair) -> float:
    """Return how many instances are still answered with their label, 0 to 1."""
    request.watch.raise_if_stopped()
    request.model.eval()
    size = request.own(IwuOptions).adversarial_batch
    predictions = [request.logits(part).argmax(1) for part in torch.split(instances[0], size)]
    return float((torch.cat(predictions) == instances[1]).float().mean())
