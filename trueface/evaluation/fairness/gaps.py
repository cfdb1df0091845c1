"""How far groups lie apart, in one number each, in per cent as Fairness-Generalization gives them.

F_FPR and F_EO are sums of distances from the overall rate, the others are largest minus smallest:
their authors call both "fairness", and which one a table of theirs shows is not settled. A group
without images of a class has no such rate and is left out of it; with fewer than two groups a measure
is undefined. (The original drops such groups from everything without a word.)

Source: Purdue-M2/Fairness-Generalization @e552a54, the metrics of its test; L. Lin et al., "Preserving
Fairness Generalization in Deepfake Detection", CVPR 2024. Its maximum over a rate and its complement
is that of the rate: both differ by the same.
"""

from collections.abc import Mapping

import numpy as np

from trueface.evaluation.bootstrap import Floats
from trueface.evaluation.fairness.group_rates import PERCENT, Counts

# in the order of tables
MEASURES: Mapping[str, str] = {
    "fpr_gap": "largest minus smallest false positive rate",
    "tpr_gap": "largest minus smallest true positive rate",
    "f_fpr": "sum of distances of the groups' FPR from the overall FPR",
    "f_eo": "the same of FPR and TPR together",
    "f_oae": "largest minus smallest accuracy",
    "f_dp": "largest minus smallest fraction called fake",
    "f_meo": "the larger one of FPR gap and TPR gap",
}
AUC_GAP = "auc_gap"  # largest minus smallest AUC: of ranks, not of counts
FEWEST = 2  # groups with a rate, below which there is no gap


def gaps(counts: Counts) -> dict[str, Floats]:
    """Return every one of `MEASURES` of a table (), or of S tables (S,), in per cent.

    NaN where fewer than two groups have the rate.
    """
    overall = counts.overall
    fpr, tpr = counts.fpr, counts.tpr
    fpr_gap, tpr_gap = spread(fpr), spread(tpr)
    by_fpr, by_tpr = _deviation(fpr, overall.fpr), _deviation(tpr, overall.tpr)
    values = {
        "fpr_gap": fpr_gap,
        "tpr_gap": tpr_gap,
        "f_fpr": by_fpr,
        "f_eo": _defined_sum(by_fpr, by_tpr),
        "f_oae": spread(counts.accuracy),
        "f_dp": spread(counts.positive),
        "f_meo": np.fmax(fpr_gap, tpr_gap),
    }
    return {name: PERCENT * value for name, value in values.items()}


def spread(rates: Floats) -> Floats:
    """Return largest minus smallest rate over groups: (G,) to (), (S, G) to (S,)."""
    defined = np.isfinite(rates)
    largest = np.max(rates, axis=-1, initial=-np.inf, where=defined)
    smallest = np.min(rates, axis=-1, initial=np.inf, where=defined)
    apart: Floats = np.where(defined.sum(-1) >= FEWEST, largest - smallest, np.nan)
    return apart


def _deviation(rates: Floats, overall: Floats) -> Floats:
    defined = np.isfinite(rates)
    distances = np.abs(np.where(defined, rates - overall, 0.0)).sum(-1)
    summed: Floats = np.where(defined.sum(-1) >= FEWEST, distances, np.nan)
    return summed


def _defined_sum(first: Floats, second: Floats) -> Floats:
    both: Floats = np.nan_to_num(first) + np.nan_to_num(second)
    summed: Floats = np.where(np.isnan(first) & np.isnan(second), np.nan, both)
    return summed
