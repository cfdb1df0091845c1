"""The range of a metric that is a part of a whole, such as an accuracy: 0 to 1, or 0 to 100 in per cent."""

from collections.abc import Sequence
from math import isfinite

from launcher.system.lazy_regex import compile_lazily

_WORD = compile_lazily(r"[a-z]+\d*")
_PART_WORDS = (
    "acc accuracy balacc bac bacc macc auc aucroc aucpr auroc auprc aupr prauc roc rocauc",
    "ap ap50 ap75 map mrr ndcg hitrate precision recall sensitivity specificity ppv npv",
    "f1 f2 f05 fbeta fscore fmeasure tpr tnr fpr fnr far frr eer ece dice dsc iou miou jaccard",
)
_PARTS = frozenset(word for line in _PART_WORDS for word in line.split())
_RATES_OF_ERRORS = frozenset(["fpr", "fnr", "far", "frr", "eer", "ece"])  # often below 1 %
_ENDINGS = ("accuracy", "auc", "auroc")  # endings of words without a border: balancedaccuracy
_OTHER_WORDS = "loss losses log gain delta change diff ratio time s"  # auc_gain
_OTHERS = frozenset(_OTHER_WORDS.split())


def range_of(metric: str, values: Sequence[float]) -> tuple[float, float] | None:
    """Return the lowest and the highest possible value of a metric, None if they are unknown.

    Args:
        metric: Name of the metric.
        values: Some of its values, at least one. They show whether it is in per cent.
    """
    words = _WORD.findall(metric.casefold())
    if not _OTHERS.isdisjoint(words):
        return None
    if not any(word in _PARTS or word.endswith(_ENDINGS) for word in words):
        return None
    low, high = min(values), max(values)
    if low < 0 or high > 100:
        return None
    return (0.0, 1.0) if high <= 1 else (0.0, 100.0)


def count_shares(metric: str, values: Sequence[float]) -> int:
    """Return how many values below 1 are probably shares of 1 while the others are in per cent; 0 if all have one unit.

    Args:
        metric: Name of the metric.
        values: Its values in several jobs.
    """
    finite = [value for value in values if isfinite(value)]
    if not finite or range_of(metric, finite) != (0.0, 100.0):
        return 0
    if not _RATES_OF_ERRORS.isdisjoint(_WORD.findall(metric.casefold())):
        return 0
    return sum(0 < value < 1 for value in finite)
