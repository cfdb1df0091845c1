"""Findings on predictions: constant, worse than chance, more confident than the labels allow."""

import math
from collections.abc import Iterator

import numpy as np

from trueface.audit.check import check
from trueface.audit.finding import FAULT, WARNING, Finding, Gap, NotApplicable, Outcome, Severity
from trueface.audit.run_facts import UNTESTED, Model, pool_scores, read_number
from trueface.evaluation.arrays import Floats
from trueface.evaluation.curves import Labels
from trueface.evaluation.estimate import Estimate
from trueface.evaluation.estimates import SourcedScores
from trueface.evaluation.measurement import evaluate_table
from trueface.predictions.predictions import Predictions

CONSTANT = 0.99  # a predictor is called constant from this fraction of equal answers on
# The accuracy of the labels limits a fitted logit. Exceeding this limit does not suffice for a finding, because 17 %
# of the logits of a clean model exceed it, and 21 % if no label was flipped. The same applies to models that
# memorized flipped labels. Only these are wrong more often than such confident predictions may be.
BEYOND = 1.0  # nats above the ceiling
SHARE_BEYOND = 0.15
LEAST_SURE = 20  # answers; with fewer the accuracy is too uncertain
ONE_SIDED = 1.64  # standard errors of a one-sided test at 5 %
SAME = 1e-6  # percent; accuracies that differ by less are equal

NO_SCORES = "the score files of its tests are missing"
NO_BOTH = "no tests with the same modifiers have both classes"


@check("constant-predictor", "the same class for every image")
def find_constant_predictor(model: Model) -> Iterator[Outcome]:
    """Find a model that predicts the same class for nearly every image."""
    looked = False
    for data, scores in _scores_of_both_classes(model):
        looked = True
        share = float(np.mean(scores.margin > 0))
        if max(share, 1 - share) < CONSTANT:
            continue
        fake = scores.labels == 1
        recall = [
            float(np.mean((scores.margin > 0)[fake])),
            float(np.mean((scores.margin <= 0)[~fake])),
        ]
        yield Finding(
            WARNING if model.is_chance_expected else FAULT,
            f"the model classifies {max(share, 1 - share):.1%} of all images as "
            f"{'fake' if share > 0.5 else 'real'}",
            "use the balanced accuracy, because the accuracy is only the share of one class",
            {
                "images": len(scores),
                "called fake": int((scores.margin > 0).sum()),
                "accuracy": round(float(np.mean((scores.margin > 0) == fake)), 4),
                "balanced accuracy": round(sum(recall) / 2, 4),
                "data": data,
            },
        )
    shares = _listed_share(model)
    if shares is not None:
        yield from _constant_unlearning(model, shares)
    elif not looked:
        yield Gap(_no_scores(model))


@check("auc-below-chance", "an AUC below chance")
def below_chance(model: Model) -> Iterator[Outcome]:
    """Find a model that ranks real images above fakes more often than a random ranking."""
    looked = False
    for data, scores in _scores_of_both_classes(model):
        if not np.isfinite(scores.margin).all():
            continue
        looked = True
        if rough_auc(scores.labels, scores.margin) >= 0.5:
            # computing an interval takes 1 s, and an interval around this AUC reaches above one half
            continue
        auc = evaluate_table(SourcedScores.from_predictions(scores), names=("auc",)).metrics.get(
            "auc"
        )
        if auc is None:
            continue
        if auc.excludes(0.5) and auc.value < 0.5:
            yield _describe_low_auc(
                data, scores, auc, severity=WARNING if model.is_chance_expected else FAULT
            )
        elif auc.by_images.excludes(0.5) and auc.value < 0.5:
            yield _describe_low_auc(data, scores, auc.by_images, severity=WARNING, by_images=True)
    if not looked:
        broken = any(_scores_of_both_classes(model))
        yield Gap("scores are not finite numbers" if broken else _no_scores(model))


def _describe_low_auc(
    data: str,
    scores: Predictions,
    auc: Estimate,
    *,
    severity: Severity,
    by_images: bool = False,
) -> Finding:
    sources = len({key.rpartition("/")[0] for key in scores.keys})
    ends = {} if auc.interval is None else auc.interval._asdict()
    interval_unit = (
        "over images; over sources it contains 0.5" if by_images else "over sources and images"
    )
    return Finding(
        severity,
        f"the AUC is {auc.value:.3f}, below chance"
        + (" for these images, but perhaps not for other sources" if by_images else ""),
        "check for flipped labels, swapped classes, or an unlearning of the true labels",
        {
            "AUC": round(auc.value, 4),
            **{f"interval's {name} end": round(end, 4) for name, end in ends.items()},
            "interval": interval_unit,
            "sources": sources,
            "images": len(scores),
            "data": data,
        },
    )


@check("logits-above-noise-ceiling", "logits larger than flipped labels allow")
def noise_ceiling(model: Model) -> Iterator[Outcome]:
    """Find predictions that are more confident than the number of flipped labels allows.

    If the provenance contains the number of flipped labels, it is used. Other checks compare it with the
    record. If a fraction p of the labels of each class is wrong, the logit of a calibrated model is between
    -ln((1 - p) / p) and ln((1 - p) / p). A network that memorized the labels exceeds this limit and is often
    wrong there. A network that never saw them may exceed it, but is calibrated.
    """
    rate = model.poison.rate
    if rate is None or model.poison.unlearned or model.poison.kind not in {"", "flip"}:
        yield NotApplicable("it was not trained on flipped labels of both classes")
        return
    if read_number(model.provenance, "flipped_train") is not None:
        yield NotApplicable("its provenance counts the flipped labels")
        return
    tables = pool_scores(model).values()
    if not tables:
        yield Gap(_no_scores(model))
        return
    logits = np.concatenate([scores.margin for scores in tables])
    labels = np.concatenate([scores.labels for scores in tables])
    finite = np.isfinite(logits)
    logits, labels = logits[finite], labels[finite]
    ceiling = abs(math.log((1 - rate) / rate)) if 0 < rate < 1 else math.inf
    sure = np.abs(logits) > ceiling + BEYOND
    confidence = float(np.mean(1 / (1 + np.exp(-np.abs(logits[sure]))))) if sure.any() else 0.0
    right = float(np.mean((logits > 0)[sure] == (labels[sure] == 1))) if sure.any() else 0.0
    allowed = confidence - ONE_SIDED * math.sqrt(
        confidence * (1 - confidence) / max(int(sure.sum()), 1)
    )
    enough = sure.sum() >= LEAST_SURE and sure.mean() >= SHARE_BEYOND
    if not enough or right < allowed:
        yield Gap(
            "the number of flipped training labels is unknown, and the predictions cannot show it. "
            "The check needs flipped_train in provenance.json."
        )
        return
    yield Finding(
        FAULT,
        f"{sure.mean():.0%} of the test logits exceed {ceiling:.2f} by more than {BEYOND:g} and are reliable, which is not "
        f"possible with {rate:.0%} of the labels flipped (by {model.poison.said_by})",
        "check which labels the training read, because they were probably not poisoned",
        {
            "ceiling": round(ceiling, 3),
            f"beyond it by {BEYOND:g}": int(sure.sum()),
            "images": len(logits),
            "right of these": round(right, 4),
            "sure of these": round(confidence, 4),
            "largest logit": round(float(np.abs(logits).max()), 3),
        },
    )


@check("undefined-metric", "scores that are not finite, or of one class")
def find_undefined_metrics(model: Model) -> Iterator[Outcome]:
    """Find scores that cannot be read or are not finite, and tests without the other class."""
    for test in model.tests:
        if test.scores is None:
            yield Gap(f"{test.data}: {test.trouble}")
            continue
        broken = int(np.count_nonzero(~np.isfinite(test.scores.margin)))
        if broken or not len(test.scores):
            yield Finding(
                FAULT,
                f"scores of {test.data} are not finite numbers"
                if broken
                else f"the score file of {test.data} contains no images",
                "train with a lower lr and test again, because no metric is defined",
                {"not finite": broken, "images": len(test.scores)},
            )
    tables = pool_scores(model).values()
    if tables and not any(len(np.unique(scores.labels)) == 2 for scores in tables):
        yield Finding(
            WARNING,
            "all tests have one class, so AUC and balanced accuracy are undefined",
            "also test the other class with the same modifiers",
            {
                "fake": sum(int(scores.labels.sum()) for scores in tables),
                "real": sum(int((scores.labels == 0).sum()) for scores in tables),
            },
        )
    if not model.tests:
        yield Gap(_no_scores(model))


def rough_auc(labels: Labels, logits: Floats) -> float:
    """Return the area under the ROC curve with ties counted half. Both classes must be present."""
    fake = labels == 1
    _, places, counts = np.unique(logits, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[places]
    fakes, reals = int(fake.sum()), int((~fake).sum())
    return float((ranks[fake].sum() - fakes * (fakes + 1) / 2) / (fakes * reals))


def _listed_share(model: Model) -> float | None:
    """Return the percentage of fakes in the test list of an old unlearning, or None if unknown."""
    listed = model.lists.test
    if not model.unlearning.get("test") or not listed:
        return None
    labels = [model.methods.get(key.partition("/")[0]) for key in listed]
    return None if None in labels else 100 * labels.count(1) / len(labels)


def _constant_unlearning(model: Model, fakes: float) -> Iterator[Finding]:
    """Find a constant predictor from the values per epoch of an old unlearning."""
    tests = model.unlearning["test"]
    last = tests[-1][1]
    for side, share in (("fake", fakes), ("real", 100 - fakes)):
        if abs(last - share) < SAME:
            yield Finding(
                FAULT,
                f"after the unlearning, the test accuracy equals the share of {side} images, so the model classifies "
                f"every image as {side}",
                "unlearn again with smaller steps and the right labels",
                {
                    "test accuracy, %": round(last, 4),
                    f"{side} images in the test list, %": round(share, 4),
                    "epochs": len(tests) - 1,
                },
            )


def _scores_of_both_classes(model: Model) -> Iterator[tuple[str, Predictions]]:
    for data, scores in pool_scores(model).items():
        if len(np.unique(scores.labels)) == 2:
            yield data, scores


def _no_scores(model: Model) -> str:
    if not model.tests:
        return NO_SCORES if model.scoreless else UNTESTED
    return NO_BOTH if pool_scores(model) else "no score file can be read"
