"""Findings on an unlearning: away from the truth, a loss that is not a number, an unchanged model."""

import math
from collections.abc import Iterator

import numpy as np

from trueface.audit.check import check
from trueface.audit.finding import FAULT, Finding, Gap, NotApplicable, Outcome
from trueface.audit.run_facts import Model, read_number

CERTAIN = 1.96  # standard errors
CLEAR = 0.01  # share of answers for which a loss must not be undefined
NOT_UNLEARNED = "it is not the result of unlearning flipped labels"
NO_TRUTH = (
    "the accuracy on the forgotten images before and after is unknown. The check needs summary.json of the "
    "unlearning, or results.npy with poison_train."
)


@check("unlearned-the-truth", "an unlearning away from the true labels")
def away_from_truth(model: Model) -> Iterator[Outcome]:
    """Find an unlearning that moved the forget set away from its true labels."""
    accuracies = _true_accuracies(model)
    if not _is_unlearned(model):
        yield NotApplicable(NOT_UNLEARNED)
        return
    if accuracies is None or model.poison.record is None or not model.poison.record.keys:
        yield Gap(NO_TRUTH if accuracies is None else model.poison.trouble)
        return
    before, after = accuracies
    count = len(model.poison.record.keys)
    error = math.sqrt((before * (1 - before) + after * (1 - after)) / count)
    if before - after <= CERTAIN * error:
        return
    yield Finding(
        FAULT,
        "the images to be forgotten get their true label less often than before, so the unlearning pushed away from "
        "the true labels instead of the flipped labels",
        "unlearn again, and forget the flipped labels that were trained",
        {
            "true label before, %": round(100 * before, 2),
            "true label after, %": round(100 * after, 2),
            "images to be forgotten": count,
        },
    )


@check("undefined-unlearning-loss", "an unlearning loss that is not finite")
def undefined_loss(model: Model) -> Iterator[Outcome]:
    """Find an unlearning whose loss was the logarithm of a negative number, or no number.

    The original's loss is -log(1 - offset - p) of the probability p: above 1 - offset it is undefined,
    and its gradient points the other way.
    """
    if not _is_unlearned(model):
        yield NotApplicable(NOT_UNLEARNED)
        return
    losses = _losses(model)
    broken = sum(value is None or not math.isfinite(value) for value in losses)
    if broken:
        yield Finding(
            FAULT,
            "the loss of the unlearning was not finite",
            "use a lower learning rate, or a method with a bounded loss",
            {"steps without a loss": broken, "steps": len(losses)},
        )
    offset, base = model.offset, model.base
    if offset is None:
        if not losses:
            yield Gap("the loss is unknown. The check needs a log in summary.json, or results.npy.")
        return
    if base is None or base.sizes is None or not len(base.sizes):
        yield Gap(base.trouble if base else "the scores of the model before are needed")
        return
    limit = math.log((1 - offset) / offset) if 0 < offset < 1 else math.inf
    beyond = float(np.mean(base.sizes > limit))
    if beyond > CLEAR:
        yield Finding(
            FAULT,
            f"the loss is the logarithm of a negative number if the probability exceeds {1 - offset:.0%}, as for "
            f"{beyond:.0%} of the predictions of the model before",
            "bound the loss; -log(1 - (1 - offset) p) is defined for every p",
            {
                "offset": offset,
                "answers of the model before": len(base.sizes),
                "surer than the loss allows": int((base.sizes > limit).sum()),
            },
        )


@check("unlearned-model-is-the-old-one", "an unlearned model that is the model before")
def old_model(model: Model) -> Iterator[Outcome]:
    """Find an unlearned model that is the model before: chosen by training images, or copied."""
    if not _is_unlearned(model):
        yield NotApplicable(NOT_UNLEARNED)
        return
    kept = [accuracy for _, accuracy in model.unlearning.get("clean_train", [])]
    compared = 0 if model.base is None else model.base.compared
    if len(kept) > 1 and max(range(len(kept)), key=lambda epoch: (kept[epoch], epoch)) == 0:
        yield Finding(
            FAULT,
            "the best epoch is epoch 0, the model before, because no epoch of the unlearning raised the "
            "accuracy on the kept training images",
            "select the epoch by clean validation images, and exclude the model before",
            {
                "kept training images before, %": round(kept[0], 3),
                "highest later, %": round(max(kept[1:]), 3),
                "epochs": len(kept) - 1,
            },
        )
    if model.base is not None and model.base.equal:
        yield Finding(
            FAULT,
            "its scores are identical to those of the model before",
            "test the weights that the unlearning wrote, or use a higher learning rate",
            {
                "model before": model.base.name,
                "tests with equal scores": len(model.base.equal),
                "of": compared,
                "such as": model.base.equal[0],
            },
        )
    if not compared and len(kept) < 2:
        yield Gap(model.base.trouble if model.base else "the model before is unknown")


def _is_unlearned(model: Model) -> bool:
    return model.poison.unlearned or bool(model.unlearning)


def _true_accuracies(model: Model) -> tuple[float, float] | None:
    """Return the accuracy of the forget set on true labels before and after, in [0, 1]."""
    series = model.unlearning.get("poison_train", [])
    if len(series) > 1:  # its forget set was read with clean labels
        return series[0][1] / 100, series[-1][1] / 100
    accuracies = [
        read_number(model.summary, f"forget_accuracy_true{when}") for when in ("_before", "")
    ]
    return (
        None if accuracies[0] is None or accuracies[1] is None else (accuracies[0], accuracies[1])
    )


def _losses(model: Model) -> list[float | None]:
    """Return the losses of the steps of an unlearning, with None for one that is not a number."""
    if model.unlearning:
        return [loss for series in model.unlearning.values() for loss, _ in series]
    log = model.summary.get("log")
    rows = [row for row in log if isinstance(row, dict)] if isinstance(log, list) else []
    return [read_number(row, "loss") for row in rows if "loss" in row]
