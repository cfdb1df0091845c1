"""Evaluation: the logit of every image of a set, in the order of the set, each counted once."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from trueface.data.dataset import Batch, Pass
from trueface.data.loading import closing
from trueface.features.bank import Bank
from trueface.features.body import FrozenBody
from trueface.features.store import FeatureStore
from trueface.models.detectors import Detector
from trueface.runtime.errors import JobError
from trueface.runtime.precision import autocast
from trueface.runtime.progress import REPORT_EVERY_S, Watch


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What a model said, one row an image that could be read."""

    positions: NDArray[np.int64]  # (N,) in the set, rising
    labels: NDArray[np.int8]  # (N,) as the set has them
    logits: NDArray[np.float64]  # (N,) positive = fake


def evaluate(
    model: nn.Module,
    batches: Iterable[Batch],
    *,
    total: int,
    watch: Watch,
    answer: Callable[[Tensor], Tensor] | None = None,
) -> Answers:
    """Return the answers of `model` to every image of one pass.

    Args:
        model: from pixels to one logit an image.
        batches: one pass over a set, unshuffled; it counts its own images.
        total: how many images the set has, for the progress.
        watch: device, precision, progress, stop.
        answer: from what `batches` hold to logits (B, 1), in the place of `model` itself; for
            batches of features `model.forward_head`.

    Raises:
        JobError: stopped; no image came, or one twice; or a logit is no finite number: such a model has
            no score.
    """
    model.eval()
    answer = answer or model
    positions: list[Tensor] = []
    labels: list[Tensor] = []
    logits: list[Tensor] = []
    seen, reported_at = 0, time.monotonic()
    with torch.inference_mode(), closing(iter(batches)) as passing:
        for batch in passing:
            if watch.stop.is_set():
                raise JobError(f"stopped after {seen} of {total} images; nothing was written")
            with autocast(watch.device, watch.precision):
                outputs = answer(batch.images.to(watch.device, non_blocking=True))  # (B, 1)
            logits.append(outputs.float().squeeze(1).cpu())
            positions.append(batch.indices)
            labels.append(batch.labels.squeeze(1))
            seen += len(batch.indices)
            if time.monotonic() - reported_at > REPORT_EVERY_S:
                reported_at = time.monotonic()
                watch.progress(step=seen, total=total)
    if watch.stop.is_set() and not logits:
        raise JobError(f"stopped before any of {total} images; nothing was written")
    if not logits:
        raise JobError(f"not one of {total} images was scored")
    watch.progress(step=seen, total=total)
    return _answers(torch.cat(positions), torch.cat(labels), torch.cat(logits))


def evaluate_images(
    model: Detector,
    feed: Pass,
    watch: Watch,
    *,
    constant: bool,
    store: FeatureStore | None = None,
) -> Answers:
    """Return the answers of a detector to every image of a feed.

    Args:
        model: on the device.
        feed: in order, not augmented.
        watch: device, precision, progress, stop.
        constant: its body was not trained, so that other detectors share its features; it answers
            from them, whether there is a store or not.
        store: where features are kept for all jobs; None: nowhere.

    Raises:
        JobError: see `evaluate`.
    """
    if not constant:
        return evaluate(model, feed(0), total=len(feed), watch=watch)

    def progress(done: int, total: int) -> None:
        watch.progress(step=done, total=total)

    body = FrozenBody(model, device=watch.device, precision=watch.precision)
    bank = Bank(body, feed, watch=watch, store=store, progress=progress)
    return evaluate(model, bank(0), total=len(feed), watch=watch, answer=model.forward_head)


def _answers(positions: Tensor, labels: Tensor, logits: Tensor) -> Answers:
    order = positions.argsort()
    ordered = positions[order].numpy()
    if np.any(np.diff(ordered) == 0):
        raise JobError(f"{int(np.sum(np.diff(ordered) == 0))} images were scored twice")
    broken = int((~logits.isfinite()).sum())
    if broken:
        raise JobError(
            f"{broken} of {len(logits)} logits are no finite numbers: the model is broken, "
            "train it again with a lower lr"
        )
    return Answers(
        positions=ordered,
        labels=labels[order].numpy().astype(np.int8),
        logits=logits[order].double().numpy(),
    )
