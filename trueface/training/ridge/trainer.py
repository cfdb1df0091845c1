"""The training of a ridge detector: features of all views, one fit, the files of any training.

It sees of each image the image, a corrupted copy and its mirror image. It has one epoch. What takes long
are the features, and these lie in the feature store as they are made: a training that was interrupted
reads them, and goes on quickly.

A fitted layer that shall also see a new source has a few examples of it: the rows that it was fitted on
and those of the examples are regressed together, in closed form, with its own means, deviations and
penalty, and the old source stays seen as far as the sum of squares lets it. Examples count more than one
each; else ten among thousands would change nothing.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from trueface.data.dataset import Pass
from trueface.data.settings import AugmentationSettings
from trueface.data.transforms import (
    CORRUPTED,
    CorruptedCopy,
    MirroredCopy,
    matched_chains,
    test_transform,
)
from trueface.features.bank import feature_matrix
from trueface.features.body import FrozenBody
from trueface.features.matrix import NOTHING, FeatureMatrix
from trueface.features.store import FeatureStore
from trueface.models.detectors import Detector
from trueface.prediction.reference import FeatureDistance
from trueface.runtime.errors import JobError
from trueface.runtime.files import Json
from trueface.runtime.progress import Watch
from trueface.runtime.timer import now
from trueface.training.checkpointing import BEST, Checkpointing
from trueface.training.history import Epoch
from trueface.training.ridge.fit import RidgeFit, fit, put, ridge_head, standard_of
from trueface.training.ridge.regression import FeatureRows, Standard
from trueface.training.settings import TrainSettings
from trueface.training.trainer import Trained
from trueface.training.validation import ValidationAnswers, of_one_logit

SHARE = 0.2  # of all rows' weight, that examples of a new source have where nothing is given
MOST = 50.0  # that an example counts at most then
log = logging.getLogger(__name__)


def views_of(images: Pass, settings: AugmentationSettings, copies: Sequence[str]) -> list[Pass]:
    """Return the images as they are tested, then each copy of all of them.

    Args:
        images: with the labels that are learned; their own transform does not count.
        settings: of the crop, and the seed of what is drawn.
        copies: "corrupted", "mirrored", each at most once.
    """
    tested = test_transform(settings)
    transforms = [
        CorruptedCopy(
            tested=tested,
            chains=matched_chains(images.image_set.images, settings.augment_seed),
        )
        if copy == CORRUPTED
        else MirroredCopy(tested=tested)
        for copy in copies
    ]
    return [
        replace(images, image_set=images.image_set.seen_as(transform), shuffle_seed=None)
        for transform in (tested, *transforms)
    ]


def rows_of(images: Pass, matrices: Sequence[FeatureMatrix]) -> FeatureRows:
    """Return the features of all views of images as rows, with the images' labels.

    Args:
        images: of a set; a row is of the image at its position.
        matrices: of each view.
    """
    positions = np.concatenate([matrix.positions for matrix in matrices])
    labels = np.asarray(images.image_set.labels, dtype=np.int8)[positions]
    return FeatureRows.of([matrix.features for matrix in matrices], labels, positions)


@dataclass(frozen=True)
class Earlier:
    """What a layer was fitted on, and how."""

    training: Pass
    validation: Pass
    standard: Standard
    penalty: float  # of squared weights


def example_weight(old: FeatureRows, new: FeatureRows, share: float = SHARE) -> float:
    """Return what each new row counts so that all of them have a share of the weight, at least 1."""
    wanted = share / (1 - share) * float(old.weight.sum()) / max(len(new), 1)
    return float(np.clip(wanted, 1.0, MOST))


def joined(old: FeatureRows, new: FeatureRows, weight: float | None = None) -> FeatureRows:
    """Return the rows of both; each new one counts `weight`.

    Args:
        old: that a layer was fitted on.
        new: of the examples.
        weight: > 0; None: see `example_weight`.
    """
    counted = example_weight(old, new) if weight is None else weight
    offset = 1 + int(old.images.max(initial=-1))
    return replace(
        old,
        parts=(*old.parts, *new.parts),
        labels=np.concatenate([old.labels, new.labels]),
        images=np.concatenate([old.images, offset + new.images]),
        weight=np.concatenate([old.weight, counted * new.weight]),
    )


@dataclass(frozen=True)
class RidgeData:
    """What a fit rests on."""

    rows: FeatureRows
    validation: FeatureRows
    facts: Mapping[str, Json]  # where the features come from, for the provenance
    images_read: int  # views of images that passed the body now, those of validation not counted


def train(
    model: Detector,
    training: Pass,
    validation: Pass,
    settings: TrainSettings,
    *,
    folder: Path,
    provenance: Mapping[str, Json],
    watch: Watch,
    store: FeatureStore | None = None,
    earlier: Earlier | None = None,
    noted: Callable[[], None] = lambda: None,
    begin: Callable[[], Callable[[], None]] = lambda: lambda: None,
) -> Trained:
    """Fit the last layer of `model` in place; write what `trainer.train` writes.

    Args:
        model: its body stays as it is; a last layer of another sort is replaced.
        training: the images with the labels that are learned.
        validation: true labels.
        settings: copies, penalty, crop, precision.
        folder: of the model.
        provenance: of the weights.
        watch: device, progress, stop.
        store: where features are kept for all jobs; None: nowhere.
        earlier: what the model was fitted on: `training` are examples of a new source then, and
            the validation of before decides.
        noted: called once the images have been read.
        begin: see `trainer.train`.

    Raises:
        JobError: stopped, one class only, or features that are no finite numbers.
    """
    began = now()
    head = ridge_head(model)
    checked = validation if earlier is None else earlier.validation
    learned = learn(model, training, checked, settings, watch, store)
    if earlier is not None:
        before = learn(model, earlier.training, checked, settings, watch, store)
        rows = joined(before.rows, learned.rows, settings.shot_weight or None)
        learned = replace(learned, rows=rows)
    fitted = fit(
        learned.rows,
        learned.validation,
        weights=standard_of(head).weights,
        clip=float(head.clip),
        penalty=settings.penalty or None,
        absolute_penalty=None if earlier is None or settings.penalty else earlier.penalty,
        standard=None if earlier is None else earlier.standard,
        check=stop_check(watch),
    )
    put(fitted, head, views=1 + len(settings.copies_learned))
    epoch = _epoch(fitted, learned, seconds=now() - began)
    source: dict[str, Json] = {
        **provenance,
        "features": dict(learned.facts),
        "ridge": facts_of(fitted, learned, settings, earlier),
        "calibration": fitted.calibration.record,
    }
    checkpointing = Checkpointing(folder, settings, source, noted=noted, begin=begin, further=False)
    checkpointing([epoch], BEST, model, dict)
    log.info(
        "epoch=1 of=1 loss=%.4g val_accuracy=%.4g threshold=%.3g penalty=%.3g",
        epoch.loss, epoch.val_accuracy, fitted.calibration.threshold, fitted.relative_penalty,
    )  # fmt: skip
    clean = _first_views(learned.validation)
    return Trained(
        epochs=(epoch,),
        chosen=epoch,
        seconds=now() - began,
        samples_read=len(learned.rows),
        answered=ValidationAnswers(learned.validation.labels[clean], fitted.other[clean]),
        features=FeatureDistance.of(learned.rows.parts[0], learned.validation.parts[0]),
    )


def learn(
    model: Detector,
    training: Pass,
    validation: Pass,
    settings: TrainSettings,
    watch: Watch,
    store: FeatureStore | None,
) -> RidgeData:
    """Return the features of all views; of validation those of clean and corrupted images."""
    body = FrozenBody(model, device=watch.device, precision=settings.precision)
    copies = settings.copies_learned
    tested = [copy for copy in copies if copy == "corrupted"]

    def matrices(views: Sequence[Pass]) -> list[FeatureMatrix]:
        return [feature_matrix(body, view, watch, store=store) for view in views]

    checked = matrices(views_of(validation, settings, tested))
    learned = matrices(views_of(training, settings, copies))
    cost = NOTHING
    for matrix in (*checked, *learned):
        cost = cost.plus(matrix.cost)
    return RidgeData(
        rows=rows_of(training, learned),
        validation=rows_of(validation, checked),
        facts={
            "store": store is not None,
            "views": len(learned),
            "stored_views": len(learned) if store is not None else 0,
            "rows_read": cost.read,
            "rows_computed": cost.computed,
            "seconds_saved": cost.saved_s,
        },
        images_read=sum(matrix.cost.computed for matrix in learned),
    )


def facts_of(
    fitted: RidgeFit, learned: RidgeData, settings: TrainSettings, earlier: Earlier | None
) -> dict[str, Json]:
    """Return how a fit came about, for the provenance."""
    return {
        "penalty": fitted.penalty,
        "relative_penalty": fitted.relative_penalty,
        "penalty_by": _penalty_by(fitted, settings, earlier),
        "examples_weight": float(learned.rows.weight[-1]) if earlier else None,
        "val_auc_by_penalty": {f"{key:.4g}": auc for key, auc in sorted(fitted.aucs.items())},
        "rows": len(fitted.own),
        "copies": list(settings.copies_learned),
        "copies_seed": settings.augment_seed,
    }


def stop_check(watch: Watch) -> Callable[[], None]:
    """Return what raises once a stop was requested."""

    def check() -> None:
        if watch.stop.is_set():
            raise JobError("stopped; the features lie in the store, the next attempt reads them")

    return check


def _penalty_by(fitted: RidgeFit, settings: TrainSettings, earlier: Earlier | None) -> str:
    if settings.penalty:
        return "setting"
    if earlier is not None:
        return "base"
    return "validation" if fitted.aucs else "default"


def _epoch(fitted: RidgeFit, learned: RidgeData, *, seconds: float) -> Epoch:
    rows, validation = learned.rows, learned.validation
    clean = _first_views(validation)
    own = of_one_logit(fitted.own, rows.labels == 1)
    checked = of_one_logit(fitted.other[clean], validation.labels[clean] == 1)
    return Epoch(
        epoch=1,
        lr=0.0,
        loss=own.loss,
        accuracy=own.accuracy,
        val_loss=checked.loss,
        val_accuracy=checked.accuracy,
        val_balanced_accuracy=checked.balanced_accuracy,
        seconds=seconds,
        images_per_s=len(rows) / max(seconds, 1e-9),
        temperature=fitted.calibration.temperature,
        threshold=fitted.calibration.threshold,
    )


def _first_views(rows: FeatureRows) -> slice:
    """Return which rows are of the images as they are tested: the first part's."""
    return slice(0, len(rows.parts[0]))
