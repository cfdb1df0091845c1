"""Membership inference: do a model's outputs reveal which samples it was trained on?

Three attacks as their papers run them. The target of each is not a fixed number but its value for a
model that was retrained without the forget set. Only the attack on losses has an ideal, one half.
Members come from the retain set, non-members from the test, because no training used it and validation
chose the epoch. A forgotten class is left out on both sides, otherwise attacks learn to separate classes.

An average over all samples hides an attack that is confident about a few. Therefore the attack on
losses is also reported at a false positive rate of 1 % (N. Carlini et al., "Membership inference
attacks from first principles", IEEE S&P 2022, arXiv 2112.03570, section III).

Members are forgotten samples; others are samples of a test, which no training has seen. The others
get labels that are flipped as those of the members are.
"""

from collections.abc import Callable, Collection
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.svm import SVC

from trueface.evaluation.arrays import Floats
from trueface.evaluation.estimate import Estimate
from trueface.evaluation.estimates import share_of, tpr_at_fixed_fpr
from trueface.evaluation.metrics.curve import TPR_AT_1_FPR
from trueface.evaluation.weighted_scores import ScoreTable
from trueface.predictions.predictions import Predictions
from trueface.runtime.rng import numpy_rng
from trueface.unlearning.evaluation.measures import (
    Classes,
    MetricDict,
    PredictionsBySplit,
    UndefinedMetric,
    compute_metrics,
    retained_class_rows,
    unit_ids,
)
from trueface.unlearning.evaluation.member_samples import (
    LEAST,
    SAME_OUTPUT,
    all_of_same_classes,
    as_columns,
    class_weights,
    matched_sides,
    side_losses,
    stack_features,
)
from trueface.unlearning.registry import Goal

LEAST_OTHERS = 1000  # for 1 % of others: it is then ten of them, and known to 0.6 points
CLIP = 400.0  # limit of losses, as SCRUB's code has it
FOLDS = 5
NAMES = ("mia_entropy", "mia_svc", "mia_loss", "mia_tpr")
NO_TEST = "there is no test set, and validation images were used to choose the epoch"
SHADOWS = 1000  # samples of either side for the SVC, whose time grows with the square
MOST_FORGOTTEN = 2000  # forgotten samples that the SVC classifies
# function of predictions and their labels (N,): one number per sample (N,), or several (N, F)
Statistic = Callable[[Predictions, Classes], Floats]


class ShadowSamples(NamedTuple):
    """The samples that an SVC attack learns from, and those that it classifies."""

    members: Predictions
    others: Predictions
    forgotten: Predictions


def membership(
    parts: PredictionsBySplit, *, goal: Goal, forgotten_classes: Collection[int] = (), seed: int = 0
) -> MetricDict:
    """Return the results of attacks on a model's predictions, each in [0, 1], with `_low` and `_high`.

    `mia_entropy` is the fraction of the forget set classified as members, `mia_svc` the fraction
    classified as non-members. `mia_loss` is the accuracy of separating members from non-members.
    `mia_tpr` is the fraction of the forget set found by losses at a false positive rate of 1 %. Intervals
    are over other images (95 %, copies of an image together), of the attack as it was fitted.

    Args:
        parts: its predictions by split, all finite.
        goal: what was to be forgotten.
        forgotten_classes: classes, for goal "class".
        seed: seed of the random draws.
    """
    if "test" not in parts:
        return MetricDict(values={}, reasons=dict.fromkeys(NAMES, NO_TEST))
    test = parts["test"]
    outside = retained_class_rows(test, forgotten_classes if goal == "class" else ())
    forget, retain = parts["forget"], parts["retain"]
    sides = {"retain": retain, "nonmembers": outside, "forget": forget}
    return compute_metrics(
        {
            "mia_entropy": lambda: by_entropy(**sides),
            "mia_svc": lambda: by_confidence(**sides, seed=seed),
            "mia_loss": lambda: by_loss(forget=forget, nonmembers=test, seed=seed),
            "mia_tpr": lambda: at_few_false_alarms(forget=forget, nonmembers=test, seed=seed),
        }
    )


def by_entropy(*, retain: Predictions, nonmembers: Predictions, forget: Predictions) -> Estimate:
    """Return the fraction of the forget set classified as members by the entropy of predictions.

    Raises:
        UndefinedMetric: too few samples, or nothing that differs.

    Source: V. Chundawat et al., "Can bad teaching induce forgetting?", AAAI 2023, arXiv
        2205.08096, section 5.1, and its code: a balanced logistic regression on the entropy.
    """
    values, member = stack_features(prediction_entropy(retain), prediction_entropy(nonmembers))
    _refuse_empty_forget_set(forget)
    attack = LogisticRegression(class_weight="balanced", max_iter=1000).fit(values, member)
    return share_of(attack.predict(prediction_entropy(forget)[:, None]) == 1, unit_ids(forget))


def by_confidence(
    *,
    retain: Predictions,
    nonmembers: Predictions,
    forget: Predictions,
    seed: int = 0,
) -> Estimate:
    """Return the fraction of the forget set classified as non-members by the trained label's confidence.

    Raises:
        UndefinedMetric: too few samples, or nothing that differs.

    Source: C. Fan et al., "SalUn", ICLR 2024, arXiv 2310.12508, appendix C.3, and its code: an SVC
        with C = 3 and gamma "auto". We draw at most 1,000 shadow samples of either side.
    """
    shadows = draw_shadows(retain=retain, nonmembers=nonmembers, forget=forget, seed=seed)
    return classified_as_non_members(shadows, _confidence)


def draw_shadows(
    *, retain: Predictions, nonmembers: Predictions, forget: Predictions, seed: int = 0
) -> ShadowSamples:
    """Return equally many members and others, and forgotten samples, in numbers that an SVC can take."""
    rng = numpy_rng("membership/svc", seed)
    count = min(len(retain), len(nonmembers), SHADOWS)
    return ShadowSamples(
        members=_draw_rows(retain, count, rng),
        others=_draw_rows(nonmembers, count, rng),
        forgotten=_draw_rows(forget, MOST_FORGOTTEN, rng),
    )


def prediction_entropy(part: Predictions) -> Floats:
    """Return the entropy of each prediction in nats, (N,)."""
    logs = part.log_probabilities()
    entropy: Floats = -(np.exp(logs) * logs).sum(1)
    return entropy


def classified_as_non_members(
    shadows: ShadowSamples,
    statistic: Statistic,
    *,
    rounding: float = 0.0,
    why_alike: str = SAME_OUTPUT,
) -> Estimate:
    """Return the fraction of the forgotten samples that an SVC on a statistic classifies as non-members.

    Args:
        shadows: the samples.
        statistic: of their predictions.
        rounding: as in `stack_features`.
        why_alike: as in `stack_features`.

    Raises:
        UndefinedMetric: too few samples, or nothing that differs.
    """
    members, others, forgotten = shadows
    values, member = stack_features(
        statistic(members, members.labels),
        statistic(others, others.right_classes),
        rounding=rounding,
        why_alike=why_alike,
    )
    _refuse_empty_forget_set(forgotten)
    attack = SVC(C=3, gamma="auto", kernel="rbf").fit(values, member)
    called = attack.predict(as_columns(statistic(forgotten, forgotten.labels)))
    return share_of(called == 0, unit_ids(forgotten))


def by_loss(*, forget: Predictions, nonmembers: Predictions, seed: int = 0) -> Estimate:
    """Return the accuracy of separating the forget set from as many non-members of the same classes by loss.

    One half is ideal. If labels are flipped, those of the non-members are flipped in the same way. Otherwise
    every sound model has a high loss on the forget set, and a low one on the non-members.

    Raises:
        UndefinedMetric: nothing was forgotten, too few others of these classes, or nothing that differs.

    Source: M. Kurmanji et al., "SCRUB", NeurIPS 2023, arXiv 2302.09880, section 5.3, and its code: logistic
    regression on losses clipped to ±400, with five folds. Here the copies of an image are in one fold, and
    correct classifications are counted over all folds.
    """
    _refuse_empty_forget_set(forget)
    values, member, names = _losses(forget, nonmembers, seed)
    if len(np.unique(names)) < 2 * LEAST:
        raise UndefinedMetric(
            f"there are {len(np.unique(names))} independent images or videos, and the attack needs {2 * LEAST}"
        )
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
    attack = LogisticRegression(max_iter=1000)
    clipped = np.clip(values, -CLIP, CLIP)
    called = cross_val_predict(attack, clipped, member, cv=folds, groups=names)
    return share_of(called == member, names)


def at_few_false_alarms(*, forget: Predictions, nonmembers: Predictions, seed: int = 0) -> Estimate:
    """Return the fraction of the forget set with a lower loss than 99 % of the non-members.

    Others are all of the forgotten classes; their labels are flipped as in `by_loss`.
    A class counts among the others as it does among the forgotten.

    Raises:
        UndefinedMetric: too few of the forgotten or others of these classes, or nothing that differs.
    """
    members, others, labels = all_of_same_classes(
        forget, nonmembers, numpy_rng("membership/tpr", seed)
    )
    class_labels = [forget.right_classes[members], nonmembers.right_classes[others]]
    counts = class_weights(*class_labels)
    # effective number of non-members with these weights (L. Kish, "Survey sampling")
    worth = int(counts.sum() ** 2 / max((counts**2).sum(), 1))
    if worth < LEAST_OTHERS:
        many = f"{len(others):,} samples of the forgotten classes"
        less = f" ({worth:,} effective samples after weighting)" if worth < len(others) else ""
        raise UndefinedMetric(
            f"outside the training there are {many}{less}, and a false-positive rate of 1 % needs "
            f"{LEAST_OTHERS:,}"
        )
    values, member, names = side_losses(forget, nonmembers, (members, others, labels))
    return tpr_at_fixed_fpr(
        TPR_AT_1_FPR,
        ScoreTable(labels=member, logits=-values[:, 0]),
        keys=names,
        weights=np.concatenate([np.ones(len(members), np.int64), counts]),
    )


def _losses(
    forget: Predictions, nonmembers: Predictions, seed: int
) -> tuple[Floats, NDArray[np.int64], list[str]]:
    """Return losses (N, 1) of members and as many non-members, the mask of members, and their images."""
    rng = numpy_rng("membership/loss", seed)
    return side_losses(forget, nonmembers, matched_sides(forget, nonmembers, rng))


def _refuse_empty_forget_set(forget: Predictions) -> None:
    if not len(forget):
        raise UndefinedMetric("nothing was forgotten")


def _confidence(part: Predictions, labels: Classes) -> Floats:
    confidence: Floats = np.exp(-part.losses(labels))
    return confidence


def _draw_rows(part: Predictions, most: int, rng: np.random.Generator) -> Predictions:
    if len(part) <= most:
        return part
    return part.rows(np.sort(rng.choice(len(part), most, replace=False)))
