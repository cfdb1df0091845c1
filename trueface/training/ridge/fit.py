"""A last layer fitted in closed form: standardise, regress ±1, choose the penalty, calibrate.

And fitted again without some rows, or with other labels. That is exact: the same as a refit on what
stays, with the same means, deviations and penalty. Means and deviations still hold what was forgotten,
one part in N of each number. Other labels need a new right-hand side, rows that leave the inverse of a
block (see `regression`): neither looks at an image, and the factor can be kept. With fewer features than
rows a refit is as quick, and is what is done.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from trueface.evaluation.operating_threshold import Calibration, calibrate
from trueface.models.detectors import Detector, freeze
from trueface.models.head import RidgeHead
from trueface.runtime.errors import JobError
from trueface.training.ridge.regression import (
    Check,
    DualFactor,
    FeatureRows,
    Features,
    NormalEquations,
    Numbers,
    Standard,
    gram,
    regression,
    weighted_sum,
    whole,
)

COARSE = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Penalties tried first, in mean squared lengths of a row: of a row's length 1 is as much as the data."""
FINE = (10**-0.5, 10**0.5)  # times the best of these, tried then
UNTESTED = (
    0.1  # the relative penalty where validation cannot tell: of our faces' best ones the middle
)
log = logging.getLogger(__name__)


def targets(labels: NDArray[np.int8], weight: Numbers) -> Numbers:
    """Return what is regressed on, (N,): +1 and -1 of classes alike, else so that both sum to the same.

    With an intercept any two numbers give the same direction; these make the logit's scale that of
    ±1. The two sums, of rows counted by weight, are opposite.

    Raises:
        ValueError: there is one class only.
    """
    fake = labels == 1
    fakes, reals = float(weight[fake].sum()), float(weight[~fake].sum())
    if not fakes or not reals:
        raise ValueError("a regression needs rows of both classes")
    return np.where(fake, 0.5 / fakes, -0.5 / reals) * (fakes + reals)


def balanced_bias(outputs: Numbers, labels: NDArray[np.int8], weight: Numbers) -> float:
    """Return the bias that puts 0 halfway between the mean outputs of the classes."""
    fake = labels == 1
    means = [np.average(outputs[rows], weights=weight[rows]) for rows in (fake, ~fake)]
    return -0.5 * float(sum(means))


def best_penalty(
    merit: Callable[[float], float], coarse: Sequence[float] = COARSE
) -> tuple[float, dict[float, float]]:
    """Return the penalty of the largest merit, of equal ones the largest, and all merits.

    Args:
        merit: of a penalty; called once for each.
        coarse: where to begin; the best one's neighbours are tried, too.
    """
    merits = {penalty: merit(penalty) for penalty in coarse}
    centre = _best(merits)
    merits |= {centre * factor: merit(centre * factor) for factor in FINE}
    return _best(merits), merits


@dataclass(frozen=True)
class RidgeFit:
    """A fitted last layer, its logits scaled by the temperature.

    Attributes:
        standard: of the raw features.
        weight: (F,) of the standardised ones.
        bias: of the logit.
        penalty: of squared weights, before the temperature.
        relative_penalty: the same in mean squared lengths of a row.
        aucs: of validation, by relative penalty; {} where it has one class only.
        calibration: by validation; its temperature is in weight and bias already.
        own: (N,) logits of the rows it was fitted on.
        other: (M,) logits of validation.
    """

    standard: Standard
    weight: Numbers
    bias: float
    penalty: float
    relative_penalty: float
    aucs: Mapping[float, float]
    calibration: Calibration
    own: Numbers
    other: Numbers


def fit(
    rows: FeatureRows,
    validation: FeatureRows,
    *,
    weights: Features | None = None,
    clip: float,
    penalty: float | None = None,
    absolute_penalty: float | None = None,
    standard: Standard | None = None,
    check: Check = lambda: None,
) -> RidgeFit:
    """Fit a last layer on rows; validation chooses penalty, threshold and temperature.

    Args:
        rows: to learn, all views of the images.
        validation: clean and corrupted alike, as both will come.
        weights: (F,) of the standardised features; None: all 1.
        clip: of standardised features.
        penalty: relative, > 0; None: the best on validation.
        absolute_penalty: the same of squared weights, as another fit had it; it goes first.
        standard: taken as it is; None: of `rows`.
        check: raises where a stop was requested.

    Raises:
        JobError: stopped, one class only, too many rows, or features that are no finite numbers.
    """
    if len(np.unique(rows.labels)) < 2:
        raise JobError(
            f"all {len(rows)} images are {'fake' if rows.labels[0] else 'real'}: a ridge detector "
            "needs both classes"
        )
    standard = standard or Standard.of(rows, weights, clip)
    wanted = targets(rows.labels, rows.weight)
    system = regression(rows, standard, validation, check)
    aucs: Mapping[float, float] = {}

    def auc(relative: float) -> float:
        check()
        return _auc(validation, system.solve(relative * system.unit, wanted).other)

    if absolute_penalty is not None:
        penalty = absolute_penalty / system.unit
    if penalty is None and len(np.unique(validation.labels)) == 2:
        penalty, aucs = best_penalty(auc)
    relative = UNTESTED if penalty is None else penalty
    solution = system.solve(relative * system.unit, wanted)
    bias = balanced_bias(solution.own, rows.labels, rows.weight)
    calibration = calibrate(validation.labels, solution.other + bias)
    scale = 1 / calibration.temperature
    tried = " ".join(f"{key:.3g}:{auc:.4f}" for key, auc in sorted(aucs.items()))
    log.info("rows=%d features=%d penalty=%.3g aucs=%s", len(rows), rows.width, relative, tried)
    return RidgeFit(
        standard=standard,
        weight=scale * solution.weight(),
        bias=scale * bias,
        penalty=relative * system.unit,
        relative_penalty=relative,
        aucs=aucs,
        calibration=calibration.folded(),
        own=scale * (solution.own + bias),
        other=scale * (solution.other + bias),
    )


@dataclass(frozen=True)
class LinearLayer:
    """A linear layer on standardised features, before its temperature."""

    weight: Numbers  # (F,)
    bias: float


def is_dual(rows: FeatureRows) -> bool:
    """Return whether rows are few enough that a factor of them is worth keeping."""
    return len(rows) <= rows.width


def factor_of(
    rows: FeatureRows, standard: Standard, penalty: float, check: Check = lambda: None
) -> DualFactor:
    """Return the factor of all rows, from which `refit` goes on.

    Raises:
        JobError: stopped, or no factor.
    """
    return DualFactor.of(gram(rows, standard, check=check).own, penalty, rows.weight)


def refit(
    rows: FeatureRows,
    standard: Standard,
    penalty: float,
    *,
    gone: Sequence[int] | NDArray[np.int64] = (),
    factor: DualFactor | None = None,
) -> LinearLayer:
    """Return the layer of all rows but some, with the labels that the rows have now.

    Args:
        rows: as they were fitted, those that go included; labels as they shall be.
        standard: as they were fitted with.
        penalty: of squared weights.
        gone: the rows to forget.
        factor: of all rows; None: it is made where it is needed.

    Raises:
        JobError: no finite numbers.
        ValueError: what stays has one class only.
    """
    stays = np.ones(len(rows))
    stays[np.asarray(gone, dtype=np.int64)] = 0.0
    weight = rows.weight * stays
    wanted = targets(rows.labels, weight)
    if is_dual(rows):
        factor = factor or factor_of(rows, standard, penalty)
        solved = factor.without(gone, wanted) if len(gone) else factor.coefficients(wanted)
        direction = weighted_sum(rows, standard, solved.values)
        outputs = solved.outputs(wanted, penalty, rows.weight)
    else:
        columns = whole(rows, standard)
        moments = NormalEquations.of(columns, weight)
        direction = moments.weight(columns, weight * wanted, penalty)
        outputs = columns @ direction
    return LinearLayer(weight=direction, bias=balanced_bias(outputs, rows.labels, weight))


def relabelled(rows: FeatureRows, labels: NDArray[np.int8]) -> FeatureRows:
    """Return the rows with other labels (N,)."""
    return replace(rows, labels=labels)


def ridge_head(model: Detector) -> RidgeHead:
    """Return the model's ridge head, put in the place of another last layer; it alone may learn."""
    if not isinstance(model.head, RidgeHead):
        device = model.head.weight.device
        model.replace_head(RidgeHead(model.feature_dim).to(device))
    freeze(model)
    model.eval()
    head = model.head
    if not isinstance(head, RidgeHead):
        raise TypeError("a replaced head is the head")
    return head


def standard_of(head: RidgeHead) -> Standard:
    """Return how a last layer standardises features."""
    return Standard(
        mean=_numbers(head.mean),
        scale=_numbers(head.scale),
        weights=_numbers(head.weights),
        clip=float(head.clip),
    )


def put(fitted: RidgeFit, head: RidgeHead, *, views: int) -> None:
    """Write a fit on so many views of each image into a last layer, on any device."""
    values: dict[str, Any] = {
        "mean": fitted.standard.mean,
        "scale": fitted.standard.scale,
        "weights": fitted.standard.weights,
        "weight": fitted.weight[None],
        "bias": np.array([fitted.bias]),
        "clip": fitted.standard.clip,
        "penalty": fitted.penalty,
        "temperature": fitted.calibration.temperature,
        "views": float(views),
        "rows": float(len(fitted.own)),
    }
    with torch.no_grad():
        for name, value in values.items():
            getattr(head, name).copy_(torch.from_numpy(np.asarray(value)))


def _best(merits: dict[float, float]) -> float:
    return max(merits, key=lambda penalty: (merits[penalty], penalty))


def _auc(validation: FeatureRows, outputs: Numbers) -> float:
    if not np.isfinite(outputs).all():
        raise JobError("features of validation are no finite numbers: the model is broken")
    return float(roc_auc_score(validation.labels == 1, outputs))


def _numbers(values: torch.Tensor) -> Features:
    numbers: Features = values.detach().cpu().numpy().astype(np.float32)
    return numbers
