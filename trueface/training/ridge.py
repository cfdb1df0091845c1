"""A last layer fitted in closed form: standardise, regress ±1, choose the penalty, calibrate.

The fit can be repeated without some rows, or with other labels. The result is exact: it equals a fit of
the remaining rows with the same means, deviations and penalty. Means and deviations still depend
on forgotten rows, by one part in N per row. Other labels need a new right-hand side. Removed rows
need the inverse of a block (see `ridge_regression`). Neither reads an image, and the factor can be
stored. With fewer features than rows, a complete refit is equally fast and is used.

A training uses each image, a corrupted copy and its mirror image. It has one epoch. Computing
features takes most of the time. They are written to the feature store immediately, so that an
interrupted training resumes quickly.

A fitted layer can be extended to a new source with a few examples. The previous rows and those of
the examples are regressed together, in closed form, with the previous means, deviations and
penalty. Each example has a weight above one, because ten among thousands would have no effect.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from trueface.data.loading.image_set import ImageLoader
from trueface.data.loading.pass_order import IN_ORDER
from trueface.data.loading.transforms import (
    COPY_KINDS,
    ImageCopy,
    Transform,
    matched_chains,
    test_transform,
)
from trueface.data.settings import AugmentationSettings
from trueface.evaluation.operating_threshold import Calibration, fit_calibration
from trueface.features.bank import feature_matrix
from trueface.features.matrix import NO_COST, FeatureMatrix
from trueface.features.store import FeatureStore
from trueface.models.detectors import Detector, freeze_backbone
from trueface.models.head import RidgeHead
from trueface.models.inference import FrozenBackbone
from trueface.prediction.reference import FeatureDistance
from trueface.predictions.predictions import Predictions
from trueface.runtime.errors import JobError
from trueface.runtime.files import Json
from trueface.runtime.progress import RunContext
from trueface.runtime.timer import now
from trueface.training.checkpointing import BEST, CheckpointCallback
from trueface.training.history import Epoch
from trueface.training.ridge_regression import (
    Check,
    Dual,
    DualFactor,
    FeatureRows,
    Features,
    NormalEquations,
    Numbers,
    Standardization,
    regression,
    standardise_rows,
    weighted_sum,
)
from trueface.training.settings import TrainSettings
from trueface.training.trainer import TrainingResult, validate_logits

COARSE = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Penalties tried first, in units of the mean squared length of a row. A penalty of 1 weighs as much as the data."""
FINE = (10**-0.5, 10**0.5)  # factors of the best of these, tried next
UNTESTED = (
    0.1  # relative penalty if validation cannot select one: the median of the best ones for faces
)
log = logging.getLogger(__name__)


def targets(labels: NDArray[np.int8], weight: Numbers) -> Numbers:
    """Return regression targets (N,): ±1 for balanced classes, otherwise with equal sums.

    With an intercept, any two numbers lead to the same direction. These scale the logit to about ±1.
    The weighted sums of both classes are opposite.

    Raises:
        ValueError: there is only one class.
    """
    fake = labels == 1
    fakes, reals = float(weight[fake].sum()), float(weight[~fake].sum())
    if not fakes or not reals:
        raise ValueError("the regression needs rows of both classes")
    return np.where(fake, 0.5 / fakes, -0.5 / reals) * (fakes + reals)


def balanced_bias(outputs: Numbers, labels: NDArray[np.int8], weight: Numbers) -> float:
    """Return the bias that puts 0 halfway between the mean outputs of the classes."""
    fake = labels == 1
    means = [np.average(outputs[rows], weights=weight[rows]) for rows in (fake, ~fake)]
    return -0.5 * float(sum(means))


def best_penalty(
    merit: Callable[[float], float],
) -> tuple[float, dict[float, float]]:
    """Return the penalty with the largest merit (the largest penalty among equals), and all merits.

    Args:
        merit: function that returns the merit of a penalty. It is called once for each penalty in
            `COARSE`, and for the neighbours of the best.
    """
    merits = {penalty: merit(penalty) for penalty in COARSE}
    centre = _select_best_penalty(merits)
    merits |= {centre * factor: merit(centre * factor) for factor in FINE}
    return _select_best_penalty(merits), merits


@dataclass(frozen=True)
class RidgeFit:
    """A fitted last layer with logits scaled by the temperature.

    Attributes:
        standard: means and deviations of the raw features.
        weight: weights of the standardised features, (F,).
        bias: bias of the logit.
        penalty: penalty of the squared weights, before the temperature.
        relative_penalty: the same in units of the mean squared length of a row.
        aucs: AUC of validation by relative penalty. Empty if validation has only one class.
        calibration: threshold and temperature from validation. Weight and bias include the temperature.
        train_outputs: logits of the training rows, (N,).
        val_outputs: logits of the validation rows, (M,).
    """

    standard: Standardization
    weight: Numbers
    bias: float
    penalty: float
    relative_penalty: float
    aucs: Mapping[float, float]
    calibration: Calibration
    train_outputs: Numbers
    val_outputs: Numbers


def fit(
    rows: FeatureRows,
    validation: FeatureRows,
    *,
    weights: Features | None = None,
    clip: float,
    penalty: float | None = None,
    absolute_penalty: float | None = None,
    standard: Standardization | None = None,
    check: Check = lambda: None,
) -> RidgeFit:
    """Fit a last layer on rows. Validation selects penalty, threshold and temperature.

    Args:
        rows: training rows of all views of the images.
        validation: validation rows, clean and corrupted.
        weights: weights of the standardised features, (F,). None: all 1.
        clip: maximum absolute value of standardised features.
        penalty: relative penalty, > 0. None: the best on validation.
        absolute_penalty: penalty of squared weights from another fit. It takes precedence.
        standard: means and deviations. None: those of `rows`.
        check: function that raises if a stop was requested.

    Raises:
        JobError: a stop was requested, there is only one class, there are too many rows, or a feature is not
            finite.
    """
    if len(np.unique(rows.labels)) < 2:
        raise JobError(
            f"all {len(rows)} images are {'fake' if rows.labels[0] else 'real'}. A ridge detector "
            "needs images of both classes."
        )
    standard = standard or Standardization.from_rows(rows, weights, clip)
    train_targets = targets(rows.labels, rows.weight)
    system = regression(rows, standard, validation, check)
    aucs: Mapping[float, float] = {}

    def auc(relative: float) -> float:
        check()
        return _auc(validation, system.solve(relative * system.unit, train_targets).val_outputs)

    if absolute_penalty is not None:
        penalty = absolute_penalty / system.unit
    if penalty is None and len(np.unique(validation.labels)) == 2:
        penalty, aucs = best_penalty(auc)
    relative = UNTESTED if penalty is None else penalty
    solution = system.solve(relative * system.unit, train_targets)
    bias = balanced_bias(solution.train_outputs, rows.labels, rows.weight)
    views = [len(part) for part in validation.parts]
    calibration = fit_calibration(validation.labels, solution.val_outputs + bias, views)
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
        calibration=calibration.fold_temperature(),
        train_outputs=scale * (solution.train_outputs + bias),
        val_outputs=scale * (solution.val_outputs + bias),
    )


@dataclass(frozen=True)
class LinearLayer:
    """A linear layer on standardised features, before temperature scaling."""

    weight: Numbers  # (F,)
    bias: float


def is_dual(rows: FeatureRows) -> bool:
    """Return whether there are so few rows that storing a factor of them saves time."""
    return len(rows) <= rows.width


def factor_of(
    rows: FeatureRows, standard: Standardization, penalty: float, check: Check = lambda: None
) -> DualFactor:
    """Return the factor of all rows for `refit`.

    Raises:
        JobError: a stop was requested, or the factor does not exist.
    """
    return DualFactor.from_inner_products(
        Dual.from_rows(rows, standard, check=check).own, penalty, rows.weight
    )


def refit(
    rows: FeatureRows,
    standard: Standardization,
    penalty: float,
    *,
    removed_rows: Sequence[int] | NDArray[np.int64] = (),
    factor: DualFactor | None = None,
) -> LinearLayer:
    """Return the layer fitted on all rows except some, with the current labels of the rows.

    Args:
        rows: all rows of the previous fit, with new labels.
        standard: means and deviations of the previous fit.
        penalty: penalty of squared weights.
        removed_rows: positions of the rows to forget.
        factor: factor of all rows. None: computed if needed.

    Raises:
        JobError: numbers are not finite.
        ValueError: the remaining rows have only one class.
    """
    stays = np.ones(len(rows))
    stays[np.asarray(removed_rows, dtype=np.int64)] = 0.0
    weight = rows.weight * stays
    train_targets = targets(rows.labels, weight)
    if is_dual(rows):
        factor = factor or factor_of(rows, standard, penalty)
        solved = (
            factor.coefficients_without(removed_rows, train_targets)
            if len(removed_rows)
            else factor.coefficients(train_targets)
        )
        direction = weighted_sum(rows, standard, solved.values)
        outputs = solved.outputs(train_targets, penalty, rows.weight)
    else:
        columns = standardise_rows(rows, standard)
        moments = NormalEquations.from_columns(columns, weight)
        direction = moments.weight(columns, weight * train_targets, penalty)
        outputs = columns @ direction
    return LinearLayer(weight=direction, bias=balanced_bias(outputs, rows.labels, weight))


def replace_labels(rows: FeatureRows, labels: NDArray[np.int8]) -> FeatureRows:
    """Return the rows with other labels (N,)."""
    return replace(rows, labels=labels)


def ridge_head(model: Detector) -> RidgeHead:
    """Return the ridge head of a model, and freeze all other layers. Another last layer is replaced first."""
    if not isinstance(model.head, RidgeHead):
        device = model.head.weight.device
        model.replace_head(RidgeHead(model.feature_dim).to(device))
    freeze_backbone(model)
    model.eval()
    head = model.head
    if not isinstance(head, RidgeHead):
        raise TypeError("replacing the head did not install a ridge head")
    return head


def standardization_of_head(head: RidgeHead) -> Standardization:
    """Return the means and deviations with which a last layer standardises features."""
    return Standardization(
        mean=_numbers(head.mean),
        scale=_numbers(head.scale),
        weights=_numbers(head.weights),
        clip=float(head.clip),
    )


def write_fit(fit: RidgeFit, head: RidgeHead, *, views: int) -> None:
    """Copy a fit on `views` views of each image into a last layer, on any device."""
    values: dict[str, Any] = {
        "mean": fit.standard.mean,
        "scale": fit.standard.scale,
        "weights": fit.standard.weights,
        "weight": fit.weight[None],
        "bias": np.array([fit.bias]),
        "clip": fit.standard.clip,
        "penalty": fit.penalty,
        "temperature": fit.calibration.temperature,
        "views": float(views),
        "rows": float(len(fit.train_outputs)),
    }
    with torch.no_grad():
        for name, value in values.items():
            getattr(head, name).copy_(torch.from_numpy(np.asarray(value)))


def _select_best_penalty(merits: dict[float, float]) -> float:
    return max(merits, key=lambda penalty: (merits[penalty], penalty))


def _auc(validation: FeatureRows, outputs: Numbers) -> float:
    if not np.isfinite(outputs).all():
        raise JobError(
            "features of validation images are not finite numbers. Train the model again with a "
            "lower lr."
        )
    return float(roc_auc_score(validation.labels == 1, outputs))


def _numbers(values: torch.Tensor) -> Features:
    numbers: Features = values.detach().cpu().numpy().astype(np.float32)
    return numbers


SHARE = 0.2  # default fraction of the total weight for examples of a new source
MOST = 50.0  # maximum default weight of an example


def views_of(
    images: ImageLoader, settings: AugmentationSettings, copies: Sequence[str]
) -> list[ImageLoader]:
    """Return the images under the test transform, then each copy of all of them.

    Args:
        images: images with training labels. Their transform is ignored.
        settings: settings of the crop, and the seed of random parameters.
        copies: "corrupted", "varied", "turned", "mirrored", each at most once.
    """
    tested = test_transform(settings)
    every, seed = images.dataset.images, settings.augment_seed
    transforms: list[Transform] = [tested]
    transforms += [
        ImageCopy(
            tested=tested,
            copy=copy,
            chains=matched_chains(every, seed, copy) if copy in COPY_KINDS else None,
        )
        for copy in copies
    ]
    return [
        replace(images, dataset=images.dataset.with_transform(transform), order=IN_ORDER)
        for transform in transforms
    ]


def rows_of(images: ImageLoader, matrices: Sequence[FeatureMatrix]) -> FeatureRows:
    """Return the features of all views of images as rows, with the images' labels.

    Args:
        images: the images. Each row belongs to the image at its position.
        matrices: feature matrix of each view.
    """
    positions = np.concatenate([matrix.positions for matrix in matrices])
    labels = np.asarray(images.dataset.labels, dtype=np.int8)[positions]
    return FeatureRows.from_parts([matrix.features for matrix in matrices], labels, positions)


@dataclass(frozen=True)
class BaseFit:
    """The data and parameters of the fit of a last layer."""

    training: ImageLoader
    validation: ImageLoader
    standard: Standardization
    penalty: float  # penalty of squared weights


def concat_rows(old: FeatureRows, new: FeatureRows, weight: float | None = None) -> FeatureRows:
    """Return the rows of both, with weight `weight` for each new one.

    Args:
        old: rows of the previous fit.
        new: rows of the examples.
        weight: weight of each new row, > 0. None: all new rows together have `SHARE` of the weight, and each
            has a weight of at least 1.
    """
    if weight is None:
        new_weight = SHARE / (1 - SHARE) * float(old.weight.sum()) / max(len(new), 1)
        weight = float(np.clip(new_weight, 1.0, MOST))
    offset = 1 + int(old.images.max(initial=-1))
    return replace(
        old,
        parts=(*old.parts, *new.parts),
        labels=np.concatenate([old.labels, new.labels]),
        images=np.concatenate([old.images, offset + new.images]),
        weight=np.concatenate([old.weight, weight * new.weight]),
    )


@dataclass(frozen=True)
class RidgeData:
    """The data of a fit."""

    rows: FeatureRows
    validation: FeatureRows
    facts: Mapping[str, Json]  # sources of the features, for the provenance


def train(
    model: Detector,
    training: ImageLoader,
    validation: ImageLoader,
    checkpoint_callback: CheckpointCallback,
    *,
    watch: RunContext,
    store: FeatureStore | None = None,
    base_fit: BaseFit | None = None,
) -> TrainingResult:
    """Fit the last layer of `model` in place, and write the files that `trainer.train` writes.

    Args:
        model: the model. Its backbone does not change. A last layer of another kind is replaced.
        training: images with training labels.
        validation: images with true labels.
        checkpoint_callback: destination of the files. Its settings copies, penalty, crop and precision are used.
        watch: device, progress and stop signal.
        store: feature store of all jobs, or None.
        base_fit: previous fit. If given, `training` contains examples of a new source, and the validation
            images of the previous fit select threshold and temperature.

    Raises:
        JobError: a stop was requested, there is only one class, or a feature is not finite.
    """
    began, settings = now(), checkpoint_callback.settings
    head = ridge_head(model)
    selection = validation if base_fit is None else base_fit.validation
    data = compute_fit_data(model, training, selection, settings, watch, store)
    if base_fit is not None:
        base = compute_fit_data(model, base_fit.training, selection, settings, watch, store)
        rows = concat_rows(base.rows, data.rows, settings.shot_weight or None)
        data = replace(data, rows=rows)
    fitted = fit(
        data.rows,
        data.validation,
        weights=standardization_of_head(head).weights,
        clip=float(head.clip),
        penalty=settings.penalty or None,
        absolute_penalty=None if base_fit is None or settings.penalty else base_fit.penalty,
        standard=None if base_fit is None else base_fit.standard,
        check=stop_check(watch),
    )
    write_fit(fitted, head, views=1 + len(settings.copies_learned))
    epoch = _epoch(fitted, data, seconds=now() - began)
    source: dict[str, Json] = {
        **checkpoint_callback.provenance,
        **checkpoint_callback.facts(),
        "features": dict(data.facts),
        "ridge": fit_provenance(fitted, data, settings, base_fit),
        "calibration": fitted.calibration.json_record,
    }
    replace(checkpoint_callback, provenance=source, facts=dict)([epoch], BEST, model, dict)
    log.info(
        "epoch=1 of=1 loss=%.4g val_accuracy=%.4g threshold=%.3g penalty=%.3g",
        epoch.loss, epoch.val_accuracy, fitted.calibration.threshold, fitted.relative_penalty,
    )  # fmt: skip
    clean = _first_views(data.validation)
    return TrainingResult(
        epochs=(epoch,),
        chosen=epoch,
        seconds=now() - began,
        samples_read=len(data.rows),
        val_predictions=Predictions.from_margin(
            fitted.val_outputs[clean], data.validation.labels[clean]
        ),
        features=FeatureDistance.from_features(data.rows.parts, data.validation.parts),
    )


def compute_fit_data(
    model: Detector,
    training: ImageLoader,
    validation: ImageLoader,
    settings: TrainSettings,
    watch: RunContext,
    store: FeatureStore | None,
) -> RidgeData:
    """Return the features of all views, and those of clean and corrupted validation images."""
    body = FrozenBackbone(model, device=watch.device, precision=settings.precision)
    copies = settings.copies_learned
    tested = [copy for copy in copies if copy in COPY_KINDS]

    def matrices(views: Sequence[ImageLoader]) -> list[FeatureMatrix]:
        return [feature_matrix(body, view, watch, store=store) for view in views]

    validation_features = matrices(views_of(validation, settings, tested))
    train_features = matrices(views_of(training, settings, copies))
    cost = NO_COST
    for matrix in (*validation_features, *train_features):
        cost = cost.plus(matrix.cost)
    return RidgeData(
        rows=rows_of(training, train_features),
        validation=rows_of(validation, validation_features),
        facts={
            "store": store is not None,
            "views": len(train_features),
            "stored_views": len(train_features) if store is not None else 0,
            "rows_read": cost.read,
            "rows_computed": cost.computed,
            "seconds_saved": cost.saved_s,
        },
    )


def fit_provenance(
    fit: RidgeFit, data: RidgeData, settings: TrainSettings, base_fit: BaseFit | None
) -> dict[str, Json]:
    """Return the parameters and data of a fit, for the provenance."""
    return {
        "penalty": fit.penalty,
        "relative_penalty": fit.relative_penalty,
        "penalty_by": _penalty_source(fit, settings, base_fit),
        "examples_weight": float(data.rows.weight[-1]) if base_fit else None,
        "val_auc_by_penalty": {f"{key:.4g}": auc for key, auc in sorted(fit.aucs.items())},
        "rows": len(fit.train_outputs),
        "copies": list(settings.copies_learned),
        "copies_seed": settings.augment_seed,
    }


def stop_check(watch: RunContext) -> Callable[[], None]:
    """Return a function that raises if a stop was requested."""

    def check() -> None:
        if watch.stop.is_set():
            raise JobError(
                "stopped. The features are in the feature store, so the next attempt reads them."
            )

    return check


def _penalty_source(fit: RidgeFit, settings: TrainSettings, base_fit: BaseFit | None) -> str:
    if settings.penalty:
        return "setting"
    if base_fit is not None:
        return "base"
    return "validation" if fit.aucs else "default"


def _epoch(fit: RidgeFit, data: RidgeData, *, seconds: float) -> Epoch:
    rows, validation = data.rows, data.validation
    clean = _first_views(validation)
    train_metrics = validate_logits(fit.train_outputs, rows.labels == 1)
    val_metrics = validate_logits(fit.val_outputs[clean], validation.labels[clean] == 1)
    return Epoch(
        epoch=1,
        lr=0.0,
        loss=train_metrics.loss,
        accuracy=train_metrics.accuracy,
        val_loss=val_metrics.loss,
        val_accuracy=val_metrics.accuracy,
        val_balanced_accuracy=val_metrics.balanced_accuracy,
        seconds=seconds,
        images_per_s=len(rows) / max(seconds, 1e-9),
        temperature=fit.calibration.temperature,
        threshold=fit.calibration.threshold,
    )


def _first_views(rows: FeatureRows) -> slice:
    """Return the rows of the first view, which is the test transform."""
    return slice(0, len(rows.parts[0]))
