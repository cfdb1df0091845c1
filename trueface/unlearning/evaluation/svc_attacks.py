"""The membership attacks of SVC-MIA: an SVC for each statistic of a prediction, all on the same samples.

The attack by confidence is `membership_inference.by_confidence`, and the others draw the same samples.
Each value is the fraction of the forget set classified as non-members. Compare it with the value of a
model that was retrained without the forget set.

Source: the program SVC_MIA.py of C. Fan et al., "SalUn", ICLR 2024, arXiv 2310.12508, and of J. Jia et
al., "Model sparsity can simplify machine unlearning", NeurIPS 2023, arXiv 2304.04934.

Modified entropy is defined by L. Song and P. Mittal, USENIX Security 2021, arXiv 2003.10595. The program
differs from the definition in two ways. The logarithms of other classes are log p instead of log(1 - p).
Each class that is the label of some row is treated as the label of every row. Both values are given, but
the program's value for one forgotten class says nothing: its features differ from those of the shadows.

Differences: the samples are drawn, at most 1,000 of either side and 2,000 of the forget set. The program
takes the first ones of the retain set, and all others. We leave the attack out if a statistic is the
same for all samples up to rounding, such as correctness of a model without errors.
"""

from collections.abc import Callable, Collection, Mapping

import numpy as np

from trueface.evaluation.arrays import Floats
from trueface.evaluation.estimate import Estimate
from trueface.predictions.predictions import Predictions
from trueface.unlearning.evaluation.measures import (
    Classes,
    MetricDict,
    PredictionsBySplit,
    compute_metrics,
    retained_class_rows,
)
from trueface.unlearning.evaluation.membership_inference import (
    NO_TEST,
    Statistic,
    classified_as_non_members,
    draw_shadows,
    prediction_entropy,
)
from trueface.unlearning.registry import Goal

LEAST_PROBABILITY = (
    1e-30  # below it the logarithm of a probability is that of this, as in the program
)
ROUNDING = (
    1e-6  # relative; float32 sums over classes differ by less, and no SVC separates such values
)


def svc_attacks(
    parts: PredictionsBySplit, *, goal: Goal, forgotten_classes: Collection[int] = (), seed: int = 0
) -> MetricDict:
    """Return the fractions of the forget set that the attacks classify as non-members, with intervals.

    Args:
        parts: predictions of a model by split, all finite.
        goal: what was to be forgotten.
        forgotten_classes: classes, for goal "class".
        seed: seed of the random draws.
    """
    if "test" not in parts:
        return MetricDict(values={}, reasons=dict.fromkeys(STATISTICS, NO_TEST))
    outside = retained_class_rows(parts["test"], forgotten_classes if goal == "class" else ())
    shadows = draw_shadows(
        retain=parts["retain"], nonmembers=outside, forget=parts["forget"], seed=seed
    )

    def attack(statistic: Statistic) -> Callable[[], Estimate]:
        return lambda: classified_as_non_members(
            shadows,
            statistic,
            rounding=ROUNDING,
            why_alike="the statistic is the same for all samples",
        )

    return compute_metrics({name: attack(statistic) for name, statistic in STATISTICS.items()})


def correctness(part: Predictions, labels: Classes) -> Floats:
    """Return 1 for samples that get their label and 0 for others, (N,)."""
    right: Floats = (part.predicted_classes == labels).astype(np.float64)
    return right


def entropy(part: Predictions, _labels: Classes) -> Floats:
    """Return the entropy of the predictions in nats, (N,)."""
    return prediction_entropy(part)


def modified_entropy(part: Predictions, labels: Classes) -> Floats:
    """Return -(1 - p_y) log p_y - the sum over i != y of p_i log(1 - p_i), (N,). 0 is sure and right."""
    logs = part.log_probabilities()
    rows, least = np.arange(len(part)), np.log(LEAST_PROBABILITY)
    reverse = -np.expm1(logs)  # 1 - p
    terms = np.exp(logs) * np.log(np.maximum(reverse, LEAST_PROBABILITY))
    terms[rows, labels] = reverse[rows, labels] * np.maximum(logs[rows, labels], least)
    values: Floats = -terms.sum(1)
    return values


def modified_entropy_of_program(part: Predictions, labels: Classes) -> Floats:
    """Return what SVC_MIA.py computes as modified entropy, in float32 as there, (N,)."""
    probabilities = np.exp(part.log_probabilities()).astype(np.float32)
    weights, present = probabilities.copy(), np.unique(labels)
    weights[:, present] = 1 - probabilities[:, present]
    logs = np.log(np.where(probabilities > 0, probabilities, LEAST_PROBABILITY), dtype=np.float32)
    values: Floats = -(weights * logs).sum(1).astype(np.float64)
    return values


def probability(part: Predictions, _labels: Classes) -> Floats:
    """Return the probabilities of all classes, (N, K)."""
    values: Floats = np.exp(part.log_probabilities())
    return values


STATISTICS: Mapping[str, Statistic] = {
    "mia_svc_correctness": correctness,
    "mia_svc_entropy": entropy,
    "mia_svc_modified_entropy": modified_entropy,
    "mia_svc_modified_entropy_program": modified_entropy_of_program,
    "mia_svc_probability": probability,
}
