"""A last layer fitted in closed form: standardise, regress ±1, choose the penalty, calibrate."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from sklearn.metrics import roc_auc_score

from trueface.evaluation.operating_threshold import Calibration, calibrate
from trueface.runtime.errors import JobError
from trueface.training.ridge.gram import Check
from trueface.training.ridge.penalties import balanced_bias, best_penalty, targets
from trueface.training.ridge.regression import regression
from trueface.training.ridge.rows import Features, Numbers, Rows, Standard

UNTESTED = (
    0.1  # the relative penalty where validation cannot tell: of our faces' best ones the middle
)

log = logging.getLogger(__name__)


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
    rows: Rows,
    validation: Rows,
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


def _auc(validation: Rows, outputs: Numbers) -> float:
    if not np.isfinite(outputs).all():
        raise JobError("features of validation are no finite numbers: the model is broken")
    return float(roc_auc_score(validation.labels == 1, outputs))
