"""A detector's outputs: the logit of every image of a dataset, each counted once, unchanged and under attack.

Attacked are the images that the detector calls right: fakes, which shall pass as real (evasion), and
apart from them reals, which shall be called fake (defamation). All others keep their logits; random signs are the
control.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from trueface.attacks.perturb import (
    LEVELS,
    QUERIES,
    TOWARDS_FAKE,
    TOWARDS_REAL,
    Target,
    apply_attack,
)
from trueface.attacks.registry import Attack
from trueface.corruptions.chain import NO_CHAIN, Chain
from trueface.data.batch import CLIP_DIMENSIONS, Batch
from trueface.data.index import Image
from trueface.data.loading.image_set import ImageLoader
from trueface.evaluation.arrays import mean_or_none
from trueface.evaluation.estimates import share_of
from trueface.evaluation.prediction_rows import predict_rows, sort_rows
from trueface.features.bank import FeatureSet
from trueface.features.store import FeatureStore
from trueface.models.detectors import Detector
from trueface.models.inference import FrozenBackbone
from trueface.predictions.predictions import Predictions
from trueface.runtime.digests import sha256_digest
from trueface.runtime.errors import JobError
from trueface.runtime.files import Json
from trueface.runtime.progress import REPORT_EVERY_S, RunContext


def evaluate(
    model: nn.Module,
    batches: Iterable[Batch],
    *,
    total: int,
    watch: RunContext,
    forward: Callable[[Tensor], Tensor] | None = None,
) -> Predictions:
    """Return the outputs of `model` for every image of one pass, by their position in the set.

    Args:
        model: from pixels to one logit an image.
        batches: one pass over a set, unshuffled; it counts its own images.
        total: how many images the set has, for the progress.
        watch: device, precision, progress, stop.
        forward: from the inputs of a batch to logits (B, 1), such as `model.forward_head` for
            batches of features. None: `model` itself.

    Raises:
        JobError: stopped, no image came, an image came twice, or a logit is not finite: such a model has no
            score.
    """
    model.eval()
    reported_at = time.monotonic()

    def report_and_check(count: int) -> None:
        nonlocal reported_at
        watch.raise_if_stopped_midway(count, total)
        if time.monotonic() - reported_at > REPORT_EVERY_S:
            reported_at = time.monotonic()
            watch.progress(step=count, total=total)

    rows = predict_rows(batches, forward or model, watch, before_batch=report_and_check)
    if not len(rows):
        if watch.stop.is_set():
            raise JobError(f"stopped before the first of {total} images. Nothing was written.")
        raise JobError(f"none of the {total} images was scored")
    watch.progress(step=len(rows), total=total)
    logits, labels, positions = sort_rows(rows).numpy().T
    return Predictions.from_margin(
        logits.copy(), labels.astype(np.int8), positions=positions.astype(np.int64)
    )


def evaluate_images(
    model: Detector,
    feed: ImageLoader,
    watch: RunContext,
    *,
    has_constant_body: bool,
    store: FeatureStore | None = None,
) -> Predictions:
    """Return the outputs of a detector for every image of a feed.

    Args:
        model: on the device.
        feed: in order, not augmented.
        watch: device, precision, progress, stop.
        has_constant_body: its backbone was not trained, so that other detectors share its features. The logits
            are computed from them, with or without a store.
        store: the feature store of all jobs. None: no store.

    Raises:
        JobError: see `evaluate`.
    """
    if not has_constant_body:
        return evaluate(model, feed(0), total=len(feed), watch=watch)

    def progress(count: int, total: int) -> None:
        watch.progress(step=count, total=total)

    body = FrozenBackbone(model, device=watch.device, precision=watch.precision)
    features = FeatureSet(body, feed, watch=watch, store=store, progress=progress).loader()
    return evaluate(model, features(0), total=len(feed), watch=watch, forward=model.forward_head)


Score = Callable[[Tensor], Tensor]  # pixels (B, 3, H, W), or clips, uint8 → logits (B,)
Keep = Callable[[Image, Tensor], None]  # an image, and its pixels (3, H, W) uint8


class AttackResult(NamedTuple):
    """The effect of an attack on the images of a dataset, one row per image in the order of the outputs."""

    predictions: Predictions  # for the images as they were saved after the attack
    tried: NDArray[np.bool_]  # (N,) the images that were attacked
    psnr: NDArray[np.float64]  # (N,) decibels; infinite where no pixel moved
    largest_change: int  # grey levels, before the images were saved
    queries: int  # images for which the attack queried its target
    threshold: float  # the logit above which an image is called fake
    keys: tuple[str, ...]  # (N,) the name that all copies of an image share


def select_per_class(images: Sequence[Image], count: int) -> tuple[Image, ...]:
    """Return so many images of each class, in their order: by name, the same ones for every model.

    Args:
        images: of both classes, or of one.
        count: of each class; 0: all.
    """
    if count == 0:
        return tuple(images)
    chosen: set[str] = set()
    for label in (0, 1):
        names = sorted((image.name for image in images if image.label == label), key=_place)
        chosen |= set(names[:count])
    return tuple(image for image in images if image.name in chosen)


def attack_images(
    feed: ImageLoader,
    clean: Predictions,
    attack: Attack,
    *,
    score: Score,
    target: Target,
    watch: RunContext,
    threshold: float = 0.0,
    save_chain: Chain = NO_CHAIN,
    queries: int = QUERIES,
    keep: Keep | None = None,
) -> AttackResult:
    """Attack every image of a set that a detector calls right.

    An image of which no level moved keeps its logit, so that a budget of 0 gives the clean predictions.

    Args:
        feed: of the images, not augmented.
        clean: the detector's predictions for them.
        attack: kind and budget.
        score: computes the detector's logits as for `clean`.
        target: what the attack computes with.
        watch: progress and stop.
        threshold: an image with a higher logit is classified as fake.
        save_chain: what happens to images when they are saved after the attack.
        queries: of each image, for attacks by scores.
        keep: gets every image as it was saved.

    Raises:
        JobError: stopped, or an attack that went wrong.
    """
    right = (clean.margin > threshold) == (clean.labels == 1)
    rows = {position: row for row, position in enumerate(clean.positions.tolist())}
    logits, psnr = clean.margin.copy(), np.full(len(rows), np.inf)
    largest = done = 0
    before_attack = target.queries
    for batch in feed.iter_positions(list(rows), 0):
        watch.raise_if_stopped_midway(done, len(rows))
        at = np.array([rows[position] for position in batch.indices.tolist()])
        images = [feed.dataset.images[position] for position in batch.indices.tolist()]
        hit = torch.from_numpy(right[at])
        clean_images, pixels = batch.inputs[hit], batch.inputs.clone()
        names = [image.name for image, is_hit in zip(images, hit, strict=True) if is_hit]
        fake = torch.from_numpy(clean.labels[at])[hit] == 1
        directions = torch.where(fake, TOWARDS_REAL, TOWARDS_FAKE)
        after = apply_attack(
            clean_images,
            names,
            attack,
            target,
            directions=directions,
            queries=queries,
            of_clips=clean_images.ndim == CLIP_DIMENSIONS,
        )
        largest = max(largest, _distance(clean_images, after))
        pixels[hit] = after = _save_and_reload(after, names, save_chain)
        moved = (after != clean_images).flatten(1).any(1)
        if moved.any():
            changed = at[hit.numpy()][moved.numpy()]
            logits[changed] = score(after[moved]).double().numpy()
            psnr[changed] = _psnr(clean_images[moved], after[moved])
        if keep is not None:
            for image, each in zip(images, pixels, strict=True):
                keep(image, each)
        done += len(images)
        watch.progress(step=done, total=len(rows))
    if not np.isfinite(logits).all():
        raise JobError(f"a logit under attack {attack} is not finite. The model is broken.")
    return AttackResult(
        predictions=clean.with_margin(logits),
        tried=right,
        psnr=psnr,
        largest_change=largest,
        queries=target.queries - before_attack,
        threshold=threshold,
        keys=tuple(feed.dataset.images[position].key for position in rows),
    )


def outcome(clean: Predictions, result: AttackResult) -> dict[str, Json]:
    """Return the success of an attack, separately for evasion and defamation."""
    return {
        "evasion": _count_turned(clean, result, label=1),
        "defamation": _count_turned(clean, result, label=0),
        "largest_change": result.largest_change,
        "queries": result.queries,
    }


def _count_turned(clean: Predictions, result: AttackResult, *, label: int) -> dict[str, Json]:
    """Return how many images of a class an attack turned, of those that had been called right."""
    of_class = clean.labels == label
    tried = of_class & result.tried
    count = int(tried.sum())
    before, after = (part.margin - result.threshold for part in (clean, result.predictions))
    facts: dict[str, Json] = {
        "images": int(of_class.sum()),
        "attacked": count,
        "called_fake_before": mean_or_none(before[of_class] > 0),
        "called_fake_after": mean_or_none(after[of_class] > 0),
    }
    if count == 0:
        name = ("real", "fake")[label]
        return facts | {"success": None, "reason": f"no {name} image is predicted {name}"}
    turned = (after[tried] > 0) != (label == 1)
    keys = [result.keys[row] for row in np.flatnonzero(tried)]
    success = share_of(turned, keys)
    moved = result.psnr[tried]
    moved = moved[np.isfinite(moved)]
    return facts | {
        "success": success.json_record,
        "median_logit_shift": float(np.median(after[tried] - before[tried])),
        "mean_psnr_db": mean_or_none(moved),
    }


def _save_and_reload(images: Tensor, names: Sequence[str], save_chain: Chain) -> Tensor:
    changed = [
        save_chain(each, name)
        if each.ndim < CLIP_DIMENSIONS - 1
        else torch.stack([save_chain.corrupt_clip(crop, name) for crop in each])
        for each, name in zip(images, names, strict=True)
    ]
    return torch.stack(changed) if changed and save_chain else images


def _place(name: str) -> bytes:
    return sha256_digest([name])


def _distance(clean: Tensor, attacked_images: Tensor) -> int:
    return int((attacked_images.int() - clean.int()).abs().max()) if len(clean) else 0


def _psnr(clean: Tensor, attacked_images: Tensor) -> NDArray[np.float64]:
    """Return the peak signal-to-noise ratio of images that differ, in decibels, (B,)."""
    error = (attacked_images.double() - clean.double()).square().flatten(1).mean(1)
    ratios: NDArray[np.float64] = (10 * torch.log10(LEVELS**2 / error)).numpy()
    return ratios
