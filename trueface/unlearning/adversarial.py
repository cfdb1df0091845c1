"""Attacks by gradient: on inputs through a whole model, or on features through its last layer.

Their loss is `margin`, the log odds of all other classes together against one. Cross entropy is its
softplus, so both have the same gradient direction for every sample, and the steps here use only the
direction. Unlike cross entropy, the gradient of the margin does not vanish for a confident model.

Sources: one step, I. Goodfellow et al., "Explaining and harnessing adversarial examples", ICLR 2015,
arXiv 1412.6572; many, A. Madry et al., "Towards deep learning models resistant to adversarial
attacks", ICLR 2018, arXiv 1706.06083.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from trueface.models.logits import as_multiclass_logits

STRIDE = 2.5  # length of all steps together, in radii: Madry's, so that every corner is in reach
FLIPPED = 0.95  # fraction of attacked predictions that must change; below it an attack grows
TINY = 1e-12  # if a gradient is zero, the step is, too

LogitsFunction = Callable[[Tensor], Tensor]  # inputs (B, …) to wide logits (B, K)
GradientFunction = Callable[
    [Tensor], Tensor
]  # points (B, …) to the gradients of what shall rise, (B, …)


class Range(NamedTuple):
    """Between which values every entry of a point stays."""

    low: float
    high: float

    @property
    def width(self) -> float:
        """Their distance."""
        return self.high - self.low


class AttackBatch(NamedTuple):
    """Some points of a set that is attacked."""

    rows: Tensor  # (B,) which they are, in the caller's numbers
    points: Tensor  # (B, …) the start of the attack
    labels: Tensor  # (B,) what they are answered with
    gradient_fn: GradientFunction
    unit: float  # unit of the attack's size
    within: Range


@dataclass(slots=True)
class EpsilonSearchPGD:
    """Increases the attack size until most predictions change."""

    eps: float  # in units of the attacked inputs; it only grows
    max_eps: float
    steps: int

    def attacked_logits(
        self, answer: LogitsFunction, parts: Callable[[], Iterable[AttackBatch]]
    ) -> list[tuple[Tensor, Tensor]]:
        """Return the rows (B,) of each part, and the logits (B, K) of its attacked points.

        All batches are attacked with one eps, whatever their sizes. If too few predictions of the whole set
        change, the set is attacked again with twice the eps.

        Args:
            answer: the model.
            parts: begins a pass over the set.
        """
        while True:
            attacked, count = [], 0
            flipped: list[Tensor] = []  # flipped samples of each part
            for rows, points, labels, slope, unit, within in parts():
                logits = answer(
                    pgd_linf(
                        slope, points, eps=self.eps * unit, steps=self.steps, value_range=within
                    )
                )
                flipped.append((logits.argmax(1) != labels).sum())
                count += len(labels)
                attacked.append((rows, logits))
            changed = int(torch.stack(flipped).sum()) if flipped else 0
            if changed >= FLIPPED * count or self.eps >= self.max_eps:
                return attacked
            self.eps *= 2


def to_unit_float(inputs: Tensor) -> Tensor:
    """Return inputs as float32; bytes are scaled to [0, 1]."""
    return inputs.float() / 255 if inputs.dtype == torch.uint8 else inputs.float()


def range_of(batches: Iterable[Tensor]) -> Range:
    """Return 0 and 1 if all inputs are within them, otherwise the smallest and largest value.

    It is that of a whole set, however its samples fall into batches; a bound in its units then means
    the same for each of them.
    """
    low, high = 0.0, 1.0
    ends = [torch.stack(torch.aminmax(inputs)) for inputs in batches]
    # each read waits for the device, so the ends of all batches are read at once
    pairs = torch.stack(ends).tolist() if ends else []
    lowest = min((torch.inf, *(least for least, _ in pairs)))
    highest = max((-torch.inf, *(greatest for _, greatest in pairs)))
    return Range(low, high) if lowest >= low and highest <= high else Range(lowest, highest)


def runner_up_class(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the most likely classes (B,) of wide logits (B, K), except `labels` (B,)."""
    return _mask_label_logits(logits, labels).argmax(1)


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the log odds (B,) of all classes but `labels` (B,) in wide logits (B, K)."""
    own = logits.gather(1, labels[:, None]).squeeze(1)
    return _mask_label_logits(logits, labels).logsumexp(1) - own


def untargeted_gradient(answer: LogitsFunction, labels: Tensor) -> GradientFunction:
    """Return the way of inputs to any class but their labels (B,)."""

    def slope(points: Tensor) -> Tensor:
        points = points.detach().requires_grad_()
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(margin(answer(points), labels).sum(), points)
        return gradient

    return slope


def targeted_gradient(answer: LogitsFunction, targets: Tensor) -> GradientFunction:
    """Return the way of inputs to the classes `targets` (B,)."""
    back = untargeted_gradient(answer, targets)
    return lambda points: -back(points)


def untargeted_linear_gradient(layer: nn.Linear, labels: Tensor) -> GradientFunction:
    """Return the way of features (B, F) through a last layer: as `untargeted_gradient`, in closed form."""
    weight = layer.weight.detach().float()
    bias: Tensor | None = layer.bias  # torch's types say that it always exists
    shift = None if bias is None else bias.detach().float()

    def slope(points: Tensor) -> Tensor:
        logits = as_multiclass_logits(functional.linear(points, weight, shift))
        pull = (
            _mask_label_logits(logits, labels).softmax(1).scatter(1, labels[:, None], -1.0)
        )  # (B, K)
        # if there is a single logit, the other one is constant
        return pull[:, -len(weight) :] @ weight

    return slope


def pgd_linf(
    slope: GradientFunction, start: Tensor, *, eps: float, steps: int, value_range: Range
) -> Tensor:
    """Return points near `start` in the maximum norm, after steps by the gradient's sign.

    Args:
        slope: which way to go.
        start: (B, …).
        eps: how far an entry may go.
        steps: how many; one is the fast gradient sign method.
        value_range: no entry leaves it.
    """
    step = STRIDE * eps / steps  # a single step is cut to `eps`, as all of them are
    low, high = (start - eps).clamp_(*value_range), (start + eps).clamp_(*value_range)
    point = start
    for _ in range(steps):
        point = torch.add(point, slope(point).sign_(), alpha=step)
        point = torch.minimum(torch.maximum(point, low), high)
    return point.detach()


def random_l2_init(shape: Sequence[int], radius: float, rng: torch.Generator) -> Tensor:
    """Return random arrows (N, …), in all directions and of all lengths up to `radius`, on the CPU.

    Draw those of a whole set at once: drawn batch by batch, they would depend on the batches.
    """
    reach = radius * torch.rand(shape[0], generator=rng)
    return _scale_to_lengths(torch.randn(*shape, generator=rng), reach)


def pgd_l2(
    slope: GradientFunction,
    start: Tensor,
    offset: Tensor,
    *,
    radius: float,
    steps: int,
    value_range: Range,
) -> Tensor:
    """Return points near `start` in the Euclidean norm, from `start + offset` along the gradient.

    Args:
        slope: which way to go.
        start: (B, …).
        offset: (B, …), see `random_l2_init`.
        radius: how far a point may go.
        steps: how many.
        value_range: no entry leaves it.
    """
    point = (start + offset).clamp_(*value_range)
    stride = radius if steps == 1 else STRIDE * radius / steps
    step = torch.full((len(start),), stride, device=start.device)
    for _ in range(steps):
        gone = point + _scale_to_lengths(slope(point), step) - start
        length = _lengths(gone)
        point = (start + _scale_to_lengths(gone, length.clamp_max(radius))).clamp_(*value_range)
    return point.detach()


def _mask_label_logits(logits: Tensor, labels: Tensor) -> Tensor:
    return logits.scatter(1, labels[:, None], -torch.inf)


def _lengths(arrows: Tensor) -> Tensor:
    return arrows.flatten(1).square().sum(1).sqrt()


def _scale_to_lengths(arrows: Tensor, lengths: Tensor) -> Tensor:
    """Return arrows (B, …) of the same directions with lengths (B,)."""
    factor = lengths / _lengths(arrows).clamp_min(TINY)
    return arrows * factor.view(-1, *(1,) * (arrows.ndim - 1))
