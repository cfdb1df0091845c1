"""Projected gradient unlearning: Gradient ascent orthogonal to the inputs of the retain set.

The gradient of each layer is projected onto the complement of the subspace of the layer's inputs for the
retain set. Predictions on that set therefore hardly change. Source: T. Hoang et al., "Learn to unlearn for
deep neural networks: minimizing unlearning interference with gradient projection", WACV 2024, arXiv
2312.04095, section 4. Rules and constants are those of the authors' code.

The loss of an image whose trained label has probability p is

    loss1 * -log(1 + offset - p)  -  loss2 * H      max_entropy, as unlearn.py and unlearn_class.py
    loss1 * -log(1 + offset - p)  +  loss2 * H'     min_entropy, as depoisoning.py

H is the entropy of all classes, and H' that of the other classes, whose probabilities are scaled to sum 1.
One logit z counts as the two logits (0, z).

For two classes, H' is 0. H is -p log p - (1 - p) log(1 - p). Let z be the logit of the trained label less that
of the other, so that p = sigmoid(z). Then the derivative of the loss max_entropy by z is

    p (1 - p) (loss1 / (1 + offset - p) + loss2 * z)

The entropy term therefore only scales an image's gradient. It is zero at p = 0.5. Above 0.5, it multiplies the
gradient of confidence reduction by 1 + loss2 / loss1 * z * (1 + offset - p). With the default weights, this is
1.04 to 1.09 for p from 0.6 to 0.9999. For p near 1, the first term vanishes like 1 - p, and the entropy term like
(1 - p) ln(1 / (1 - p)). The factor is 1.14 at p = 1 - 1e-6. Below 0.5, the entropy term pulls back, and the terms
balance where z = -(loss1 / loss2) / (1 + offset - p). With the default weights, this is at p = 0.008. With loss2 = 1 and offset = 0.1, the defaults of `trueface unlearn-classic`, it is at p = 0.24.

Differences:

1. A bias is projected as the weight of one more input, which is always 1. The authors leave it alone.
2. Convolutions use their own stride, not 1.
3. Inputs are summed without augmentation and dropout. The sums of the retain set are then exactly those of
   all data less those of the forget set.
4. Every epoch takes steps, including the first one.
5. The forget set is shuffled, and steps may be clipped (`clip`).
6. The stopping rule uses the validation set, never the test set. A class is forgotten when it is never
   predicted any more.

Very confident predictions have almost no gradient in the bounded loss, and need more epochs or a larger
rate. For flipped labels the inputs of the unflipped part come from the same difference, so hidden flips
count as unflipped. Images with randomly flipped labels have similar inputs to the others, and little of
the gradient remains: see `gradient_left` in the log. The authors' second stage for flipped labels, which
learns a scale inside the protected space, is not in their public code and is left out.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from typing import Annotated, Literal, NamedTuple, assert_never

import torch
from pydantic import Field
from torch import Tensor, nn

from trueface.data.examples import Label
from trueface.models.detectors import set_train_mode
from trueface.models.logits import cross_entropy, probability_of
from trueface.runtime.errors import JobError
from trueface.runtime.field_types import Count, Finite, setting
from trueface.unlearning import subspaces
from trueface.unlearning.api import Request, Result, accuracies_of
from trueface.unlearning.building_blocks import epochs
from trueface.unlearning.cache import fingerprint
from trueface.unlearning.hyperparameters import AnnealedOptions, NotNegative, Positive
from trueface.unlearning.optimization import Descent
from trueface.unlearning.registry import FLIPS, Goal, KnownFailure, register_method
from trueface.unlearning.subspaces import Layer, ProtectedSubspace, groups_of, learns_bias

LEAK = 0.8e-4  # fraction of a layer's change allowed in the protected space; 1e-4 is guaranteed


class ProjectedLayer(NamedTuple):
    """A layer that may move, and in which directions it may not."""

    layer: Layer
    protected_subspace: ProtectedSubspace


def parameters_of(layer: Layer) -> list[nn.Parameter]:
    """Return the weight of a layer, and its bias if that learns."""
    return [layer.weight, layer.bias] if learns_bias(layer) else [layer.weight]  # type: ignore[list-item]  # it has one


def project_gradients(free: Sequence[ProjectedLayer], decay: float) -> Tensor:
    """Project the gradients off the protected subspace; return their new length as a fraction of the old."""
    before, after = [], []
    for layer, space in free:
        if layer.weight.grad is None:  # not used in this pass
            continue
        whole = _matrix(
            layer,
            [
                _gradient(parameter) + decay * parameter.detach()
                for parameter in parameters_of(layer)
            ],
        )
        spared = space.project_out(whole)
        for parameter, part in zip(parameters_of(layer), _parts(layer, spared), strict=True):
            _gradient(parameter).copy_(part)
        before.append(whole.square().sum())
        after.append(spared.square().sum())
    lengths = torch.stack([torch.stack(after).sum(), torch.stack(before).sum()]).sqrt()
    return torch.where(lengths[1] > 0, lengths[0] / lengths[1], 0.0)


def reproject_update(free: Sequence[ProjectedLayer], start: Sequence[Tensor]) -> None:
    """Remove the rounding of the steps in protected directions from the change since `start`.

    Args:
        free: the layers that moved.
        start: the values of all their parameters before.
    """
    with torch.no_grad():
        for layer, begun, _, spared in _layer_updates(free, start):
            restore_parameters(
                parameters_of(layer),
                [first + moved for first, moved in zip(begun, _parts(layer, spared), strict=True)],
            )


def revert_tiny_updates(free: Sequence[ProjectedLayer], start: Sequence[Tensor]) -> None:
    """Put layers back that moved so little that rounding has turned them into protected directions.

    Numbers are stored with 24 bits. If a change is about 1e-4 of the weights, rounding alone is more than
    `LEAK`. Such a change alters no prediction, and the protection must hold.
    """
    with torch.no_grad():
        for layer, begun, way, spared in _layer_updates(free, start):
            if (way - spared).norm() > LEAK * way.norm():
                restore_parameters(parameters_of(layer), begun)


def _layer_updates(
    free: Sequence[ProjectedLayer], start: Sequence[Tensor]
) -> Iterator[tuple[Layer, Sequence[Tensor], Tensor, Tensor]]:
    """Yield each layer, its start, its change since then, and the unprotected part of the change."""
    remaining = iter(start)
    for layer, space in free:
        values = parameters_of(layer)
        begun = list(islice(remaining, len(values)))
        way = _matrix(layer, values) - _matrix(layer, begun)
        yield layer, begun, way, space.project_out(way)


@contextmanager
def freeze_all_but(model: nn.Module, parameters: Sequence[nn.Parameter]) -> Iterator[None]:
    """Let no other parameter learn meanwhile: batch norms, and layers without free directions."""
    chosen = {id(parameter) for parameter in parameters}
    others = [
        parameter
        for parameter in model.parameters()
        if parameter.requires_grad and id(parameter) not in chosen
    ]
    for parameter in others:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in others:
            parameter.requires_grad_(True)


def clone_parameters(parameters: Sequence[nn.Parameter]) -> list[Tensor]:
    """Return copies of the values of parameters."""
    return [parameter.detach().clone() for parameter in parameters]


def restore_parameters(parameters: Sequence[nn.Parameter], values: Sequence[Tensor]) -> None:
    """Give parameters values that they had before."""
    with torch.no_grad():
        for parameter, value in zip(parameters, values, strict=True):
            parameter.copy_(value)


def _matrix(layer: Layer, values: Sequence[Tensor]) -> Tensor:
    """Return a weight, and a bias behind it, as (G, O, D)."""
    groups, outputs = groups_of(layer), len(values[0])
    return torch.cat([value.reshape(groups, outputs // groups, -1) for value in values], 2)


def _parts(layer: Layer, matrix: Tensor) -> list[Tensor]:
    """Invert `_matrix`."""
    values = parameters_of(layer)
    widths = [value.numel() // value.shape[0] for value in values]
    parts = torch.split(matrix, widths, 2)
    return [part.reshape(value.shape) for part, value in zip(parts, values, strict=True)]


def _gradient(parameter: nn.Parameter) -> Tensor:
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad


Rule = Literal["class", "instances", "depoison"]
Loss = Literal["max_entropy", "min_entropy", "relabel"]

FORGOTTEN = 0.005  # forget accuracy at which there is nothing left to do; ours, not the authors'


class EpochAccuracy(NamedTuple):
    """The measurements that the rules use after an epoch; the first is the model before unlearning."""

    forget: float  # accuracy on the forget set against the labels that were trained
    validation: float


class StopDecision(NamedTuple):
    """The decision derived from the moments so far."""

    chosen: int  # the moment whose model is the result if nothing better comes
    reason: str | None  # why it ends here; None: it goes on


def decide_stop(
    rule: Rule, epochs: Sequence[EpochAccuracy], previous: int, most_loss: float
) -> StopDecision:
    """Return which model to keep and whether to go on.

    Args:
        rule: the stop rule.
        epochs: of the model before unlearning, and of each epoch.
        previous: number of the model that was chosen an epoch ago.
        most_loss: validation accuracy that may be lost.
    """
    start, now, epoch = epochs[0], epochs[-1], len(epochs) - 1
    gone = now.forget <= FORGOTTEN
    fell = start.validation - now.validation > most_loss
    chosen = epoch
    match rule:
        case "instances":
            if now.validation > now.forget:
                last = epochs[-2:]
                gaps = [abs(moment.validation - moment.forget) for moment in last]
                chosen = epoch if gaps[-1] <= gaps[0] else epoch - 1
                return StopDecision(chosen, "the forget set is predicted no better than validation")
        case "class":
            if fell:
                return StopDecision(
                    previous, f"validation accuracy fell by more than {most_loss:.1%}"
                )
        case "depoison":
            chosen = epoch if now.validation >= epochs[previous].validation else previous
            if fell:
                return StopDecision(
                    chosen, f"validation accuracy fell by more than {most_loss:.1%}"
                )
        case _:
            assert_never(rule)
    return StopDecision(
        chosen,
        "the model no longer predicts the trained labels of the forget set" if gone else None,
    )


class PguOptions(AnnealedOptions):
    """Projected gradient unlearning. Defaults: the authors' for CIFAR-10 instances."""

    epochs: Count = Field(20, description="Maximum number of passes (100 in the paper)")
    lr: Positive = Field(0.05, description="Learning rate at the start")
    lr_end: Positive = Field(0.01, description="Learning rate at the end")
    batch_size: Count = Field(128, description="Images per step")
    momentum: Annotated[Finite, Field(ge=0, lt=1)] = Field(0.0, description="Momentum of SGD")
    bn: Literal["eval"] = Field(
        "eval", description="Mode of batch normalization: eval keeps the running statistics"
    )
    retained: Annotated[Finite, Field(gt=0, le=1)] = Field(
        0.95,
        description="Protected fraction of the spectrum of the inputs, where 1 changes nothing",
    )
    energy: Literal["s", "s2"] = Field(
        "s",
        description="Spectrum: singular values for s (as in the authors' code), their squares for s2",
    )
    positions: Count = Field(
        64, description="Positions per image at which inputs of convolutions are collected"
    )
    offset: Annotated[Finite, Field(gt=0, lt=1)] = Field(
        0.05, description="Offset that keeps the loss finite"
    )
    loss1: NotNegative = Field(
        1.0, description="Weight of the term that moves predictions away from the label"
    )
    loss2: NotNegative = Field(0.2, description="Weight of the entropy term")
    rule: Literal["auto", "class", "instances", "depoison"] = Field(
        "auto",
        description="Loss and stop rule, and for class one more protected direction; auto chooses by the goal",
    )
    loss: Literal["paper", "max_entropy", "min_entropy", "relabel"] = Field(
        "paper",
        description="Loss. With max_entropy, it reduces confidence and maximizes the entropy of all classes. With "
        "min_entropy, it reduces confidence and minimizes the entropy of the other classes. With paper, rule "
        "chooses one of them. With relabel, it is the cross-entropy with the true label",
    )
    stop_rule: Literal["auto", "class", "instances", "depoison"] = setting(
        "auto", added=True, description="Stop rule; auto chooses as rule says"
    )
    most_loss: Finite = Field(
        0.05, description="Largest loss of validation accuracy before training stops, 0 to 1"
    )

    def rule_for(self, goal: Goal) -> Rule:
        """Return what is forgotten, which decides the loss and the stop rule where they are not set."""
        if self.rule != "auto":
            return self.rule
        return "depoison" if goal == "flips" else goal

    def loss_for(self, goal: Goal) -> Loss:
        """Return which loss holds."""
        if self.loss != "paper":
            return self.loss
        return "min_entropy" if self.rule_for(goal) == "depoison" else "max_entropy"

    def stop_rule_for(self, goal: Goal) -> Rule:
        """Return which stop rule holds."""
        return self.rule_for(goal) if self.stop_rule == "auto" else self.stop_rule

    def without_effect(self, goal: Goal, classes: int | None) -> dict[str, str]:
        """Return the weights of terms that the loss lacks, limits that no rule reads, and an unused rule."""
        loss, reasons = self.loss_for(goal), dict[str, str]()
        if loss == "relabel":
            reason = "loss: relabel is only the cross-entropy with the true label"
            reasons |= dict.fromkeys(("offset", "loss1", "loss2"), reason)
        elif self.loss1 == 0:
            reasons["offset"] = "the weight of its term is 0"
            if self.loss2 == 0 or (loss == "min_entropy" and classes == 2):
                reasons["loss1"] = "it is 0, so the loss is always 0 and nothing is unlearned"
        if loss == "min_entropy" and classes == 2:
            reasons["loss2"] = (
                "rule depoison uses the entropy over the other classes, and it is 0 if there is "
                "only one"
            )
        if self.stop_rule_for(goal) == "instances":
            reasons["most_loss"] = "the stop rule of instances does not use it"
        changes_directions = (self.rule_for(goal) == "class") != (goal == "class")
        if self.loss != "paper" and self.stop_rule != "auto" and not changes_directions:
            reasons["rule"] = "pgu_loss and pgu_stop_rule decide instead of it"
        return reasons

    def conflicts(self, goal: Goal, classes: int | None) -> dict[str, str]:
        """Return a loss that needs a label or a class that is not there, or that is always 0."""
        match self.loss:
            case "relabel" if goal != "flips":
                return {
                    "loss": "needs flipped labels, and no label is flipped. Choose max_entropy."
                }
            case "min_entropy" if classes == 2:
                return {
                    "loss": "uses the entropy over the other classes, and it is 0 if there is only "
                    "one. Choose max_entropy."
                }
            case "max_entropy" | "min_entropy" if self.loss1 == self.loss2 == 0:
                return {
                    "loss": "is always 0, as pgu_loss1 and pgu_loss2 are 0. Give one of them another "
                    "value."
                }
        return {}


LIMITS = (
    KnownFailure(
        goals=FLIPS,
        random_flips=True,
        reason="protects all directions of the kept images; randomly flipped labels share these "
        "directions, so almost no gradient remains",
    ),
)


@register_method(
    "pgu",
    summary="Gradient ascent orthogonal to the inputs of the retain set",
    hyperparameters=PguOptions,
    limits=LIMITS,
)
def projected_gradient(request: Request) -> Result:
    """Take projected steps until the rule of the forget set stops.

    Raises:
        JobError: an unknown retain set, stopped, too fast, or a non-finite result.
    """
    options = request.own(PguOptions)
    raise_if_loss_is_unfit(request, options)
    if options.retained == 1:
        return Result(model=request.model, notes=("retained is 1, so the model is unchanged",))
    layers = subspaces.layers_of(request.model)
    kept = subspaces.covariances_without_forgotten(request, layers, options.positions)
    free, notes = _free_layers(request, kept, layers, options)
    if not free:
        return Result(model=request.model, notes=notes)
    if kept.inherited:
        notes += (
            "the retain set was not read; its inputs come from the model before an earlier unlearning",
        )
    if options.rule_for(request.goal) == "depoison":
        notes += ("flipped labels outside the forget set were treated as true",)
    result = _descend(request, options, free)
    subspaces.cache_for_descendant(request, kept, layers, options.positions)
    return replace(result, notes=(*notes, *result.notes))


def raise_if_loss_is_unfit(request: Request, options: PguOptions) -> None:
    """Raise an error if the loss needs a label or a class that is not there, or if it is always 0.

    Raises:
        JobError: it is so.
    """
    if options.loss != "relabel":
        for name, reason in options.conflicts(request.goal, request.classes).items():
            raise JobError(f"pgu_{name}: {options.loss} {reason}")
    elif request.forget.true in (None, request.forget.trained):
        raise JobError(
            "loss: relabel needs true labels that differ from the trained ones, but none is known in "
            "the forget set. Choose loss: paper."
        )


def loss_of(logits: Tensor, labels: Tensor, loss: Loss, options: PguOptions) -> Tensor:
    """Return a loss of wide logits (B, K) and labels (B,); finite for confident predictions.

    The labels are those to forget, and for `relabel` those to learn. The first term is bounded by
    -log(offset). The second one maximizes the entropy of all classes, or minimizes that of the other classes.
    The module's docstring has the formulas.
    """
    if loss == "relabel":
        return cross_entropy(logits, labels)
    first = -torch.log(1 + options.offset - probability_of(logits, labels)).mean()
    if loss == "min_entropy":
        others = torch.arange(logits.shape[1], device=labels.device) != labels[:, None]
        second = _mean_softmax_entropy(logits[others].view(len(logits), -1))
    else:
        second = -_mean_softmax_entropy(logits)
    return options.loss1 * first + options.loss2 * second


def _free_layers(
    request: Request,
    covariances: subspaces.Covariances,
    layers: Mapping[str, Layer],
    options: PguOptions,
) -> tuple[list[ProjectedLayer], tuple[str, ...]]:
    """Return the layers that may move, and the notes on them."""
    device = torch.device(request.watch.device)
    more = int(options.rule_for(request.goal) == "class")
    free, shares, numbers = [], dict[str, float](), [0, 0]
    for name, covariance in covariances.by_layer.items():
        request.watch.raise_if_stopped()
        space = subspaces.principal_subspace(
            covariance.to(device, subspaces.widest_dtype(device)),
            options.retained,
            options.energy,
            more,
        )
        layer, shares[name] = layers[name], space.share
        outputs = layer.weight.shape[0] / groups_of(layer)
        width = space.basis.shape[1] * groups_of(layer)
        numbers[0] += round(outputs * (width - sum(space.protected)))
        numbers[1] += round(outputs * width)
        if space.share > 0:
            free.append(ProjectedLayer(layer, space))
    if not free:
        return [], ("all directions are protected for the retain set, so the model is unchanged",)
    least, most = min(shares, key=shares.__getitem__), max(shares, key=shares.__getitem__)
    summary = (
        f"{numbers[0] / numbers[1]:.1%} of the directions in {len(shares)} layers are not protected"
    )
    spread = f" ({shares[least]:.1%} in {least or 'it'} to {shares[most]:.1%} in {most or 'it'})"
    notes: tuple[str, ...] = (summary + (spread if len(shares) > 1 else ""),)
    bare = sum(share == 1 for share in shares.values())
    if bare:  # as the authors' rule has it
        notes += (
            f"nothing is protected in {bare} layers, as one direction contains more than retained "
            f"({options.retained:g}) of their inputs",
        )
    return free, notes


def _descend(request: Request, options: PguOptions, free: list[ProjectedLayer]) -> Result:
    """Take the steps and put the chosen weights back; a note says how it ended."""
    rule = options.stop_rule_for(request.goal)
    parameters = [parameter for layer, _ in free for parameter in parameters_of(layer)]
    by_hand = options.model_copy(update={"clip": 0.0, "weight_decay": 0.0})
    descent = Descent(parameters, by_hand)
    predictions = request.predict_sets(count_cost=True)
    moments, log = [_epoch_accuracy(accuracies_of(predictions))], []
    if rule == "instances" and moments[0].validation > moments[0].forget:
        why = "the forget set was already predicted no better than validation, so the model is unchanged"
        return Result(model=request.model, notes=(why,))
    start, now = clone_parameters(parameters), StopDecision(0, None)
    states = {0: (start, predictions)}

    def take(epoch: int) -> Mapping[str, float]:
        lr = options.lr * (options.lr_end / options.lr) ** (epoch / options.epochs)
        descent.set_lr(lr)
        numbers = _epoch(request, options, free, descent, epoch=epoch)
        reproject_update(free, start)
        return {**numbers, "lr": lr}

    def measure() -> Mapping[str, float | None]:
        nonlocal predictions
        predictions = request.predict_sets(count_cost=True)
        return accuracies_of(predictions)

    with freeze_all_but(request.model, parameters):
        for step in epochs(request, take, measure):
            log.append(step)
            moments.append(_epoch_accuracy(step.metrics))
            now = decide_stop(rule, moments, now.chosen, options.most_loss)
            states[step.step] = clone_parameters(parameters), predictions
            states = {now.chosen: states[now.chosen]}
            if now.reason is not None:
                break
    weights, predictions = states[now.chosen]
    restore_parameters(parameters, weights)
    with request.meter.pause_counting():
        predicted_model = fingerprint(request.model)  # the next lines may change the model
    revert_tiny_updates(free, start)
    return Result(
        model=request.model,
        log=tuple(log),
        notes=(_describe_end(rule, moments, now),),
        predictions=predictions,
        predicted_model=predicted_model,
    )


def _epoch(
    request: Request,
    options: PguOptions,
    free: list[ProjectedLayer],
    descent: Descent,
    *,
    epoch: int,
) -> dict[str, float]:
    """Take an epoch's steps; return the mean loss, and how much of the gradients was left."""
    set_train_mode(request.model, fixed_statistics=options.bn == "eval")
    left: list[Tensor] = []
    loss_name, size = options.loss_for(request.goal), options.batch_size
    sort: Label = "true" if loss_name == "relabel" else "trained"
    batches = request.forget.read(
        request.watch, sort, epoch=epoch, batch_size=size, noun="samples to forget"
    )
    losses = (
        loss_of(request.logits(batch.inputs), batch.labels, loss_name, options) for batch in batches
    )

    def project(*_: object) -> None:
        left.append(project_gradients(free, options.weight_decay))
        nn.utils.clip_grad_norm_(descent.parameters, options.clip or math.inf)

    handle = descent.optimizer.register_step_pre_hook(project)
    loss = descent.take_steps(losses)
    handle.remove()
    return {"loss": loss, "gradient_left": float(torch.stack(left).mean())}


def _describe_end(rule: Rule, epochs: Sequence[EpochAccuracy], decision: StopDecision) -> str:
    """Return how it ended, in a sentence.

    Raises:
        JobError: the first epoch went too far, and the model before unlearning is the better one.
    """
    epoch, last = len(epochs) - 1, epochs[-1]
    if rule == "instances" and decision.reason is not None and decision.chosen == 0:
        raise JobError(
            f"the first epoch was too fast. Accuracy on the forget set fell from "
            f"{epochs[0].forget:.1%} to {last.forget:.1%}, too far below validation "
            f"({last.validation:.1%}). Choose a lower lr."
        )
    why = f"epoch {epoch}: {decision.reason or 'the last epoch'}"
    if rule == "class" and decision.chosen == 0:
        return f"{why}, so the result is the model before unlearning. Choose a lower lr."
    if decision.chosen == 0:
        return f"{why}; no epoch was better on validation, so the result is the model before unlearning"
    return (
        why
        if decision.chosen == epoch
        else f"{why}; the result is the model of epoch {decision.chosen}"
    )


def _epoch_accuracy(measures: Mapping[str, float | None]) -> EpochAccuracy:
    forget, validation = measures["forget_accuracy_trained"], measures["val_accuracy"]
    if forget is None or validation is None:
        raise JobError("the stop rules of pgu need the labels of the forget set and of validation")
    return EpochAccuracy(forget, validation)


def _mean_softmax_entropy(logits: Tensor) -> Tensor:
    """Return the mean entropy of the softmax of logits (B, K)."""
    certain = logits.log_softmax(1)
    return -(certain.exp() * certain).sum(1).mean()
