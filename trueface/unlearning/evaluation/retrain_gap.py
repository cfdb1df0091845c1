"""How far an unlearned model is from references: from a retrained model, from a clean one."""

import math
from dataclasses import replace

import numpy as np

from trueface.evaluation.intervals import (
    Floats,
    Measure,
    Scale,
    by_source,
    interval,
    standard_error,
)
from trueface.evaluation.predictions import Answered
from trueface.unlearning.evaluation.intervals import designed, resampled, resampled_means
from trueface.unlearning.evaluation.measures import (
    Parts,
    Sheet,
    Unmeasured,
    log_probabilities,
    right,
    sheet,
    tested,
)

LEAST_DAMAGE = 0.005  # half a point between clean and poisoned: below it recovery says nothing
WIDEST = 2.0  # interval of a recovery beyond which it says nothing


def against(
    ours: Parts, reference: Parts, *, measures: Sheet, reference_measures: Sheet, test: str = "test"
) -> Sheet:
    """Return how far a model is from the same training without what was forgotten.

    Gaps are absolute differences in 0 … 1; `gap` is their mean (C. Fan et al., "SalUn", arXiv
    2310.12508, table 1). `tow` is the tug of war of K. Zhao et al., arXiv 2406.01257, equation 2:
    1 where both are equal. `kl_*` is the mean of KL(reference || ours), `distance_*` the mean
    Euclidean distance of their probabilities (V. Chundawat et al., arXiv 2205.08096).

    Args:
        ours: answers of the model.
        reference: answers of the retrained one.
        measures: of the model.
        reference_measures: of the retrained one, by the same names.
        test: which measure tells of the test: "test_retain" where a class is forgotten.
    """

    def gap(name: str) -> float:
        first, second = measures.get(name), reference_measures.get(name)
        if first is None or second is None:
            reasons = (source.reasons.get(name) for source in (measures, reference_measures))
            raise Unmeasured(next(filter(None, reasons), "it was not measured"))
        return abs(first - second)

    names = {"retain": "retain", "forget": "forget", "test": test, "mia": "mia_svc"}
    gaps = sheet({f"gap_{key}": lambda name=name: gap(name) for key, name in names.items()})  # type: ignore[misc]  # a default cannot be typed

    def mean_gap() -> float:
        if gaps.reasons:
            raise Unmeasured("; ".join(f"{name}: {why}" for name, why in gaps.reasons.items()))
        return sum(gaps.values.values()) / len(gaps.values)

    def pair(name: str) -> tuple[Floats, Floats]:
        first, second = (
            tested(parts) if name == "test" else parts[name] for parts in (ours, reference)
        )
        return log_probabilities(first), log_probabilities(matched(first, second))

    return gaps | sheet(
        {
            "gap": mean_gap,
            "tow": lambda: tow(gap("forget"), gap("retain"), gap(test)),
            "kl_forget": lambda: divergence(*pair("forget")),
            "kl_test": lambda: divergence(*pair("test")),
            "distance_forget": lambda: distance(*pair("forget")),
            "distance_test": lambda: distance(*pair("test")),
        }
    )


def tow(*gaps: float) -> float:
    """Return the product of 1 - gap: 1 where nothing differs from the reference."""
    return math.prod(1 - gap for gap in gaps)


def matched(first: Answered, second: Answered) -> Answered:
    """Return `second` in the order of `first`: the same samples, asked of another model.

    Raises:
        Unmeasured: they are other samples, or the models tell other classes apart.
    """
    if first.logits.shape[1] != second.logits.shape[1]:
        raise Unmeasured("the reference tells other classes apart")
    if first.ids and second.ids and first.ids != second.ids and len(first) == len(second):
        places = {name: place for place, name in enumerate(second.ids)}
        order = np.array([places.get(name, -1) for name in first.ids], np.intp)
        if len(places) == len(second) and order.min() >= 0:
            second = replace(
                second,
                logits=second.logits[order],
                trained=second.trained[order],
                true=second.true[order],
                ids=first.ids,
            )
    if first.ids != second.ids or not np.array_equal(first.trained, second.trained):
        raise Unmeasured("the reference was asked of other samples")
    return second


def divergence(ours: Floats, reference: Floats) -> float:
    """Return the mean of KL(reference || ours) in nats, of log probabilities (N, K)."""
    return float((np.exp(reference) * (reference - ours)).sum(1).mean())


def distance(ours: Floats, reference: Floats) -> float:
    """Return the mean Euclidean distance of probabilities, of log probabilities (N, K)."""
    return float(np.linalg.norm(np.exp(ours) - np.exp(reference), axis=1).mean())


def recovery(ours: Answered, poisoned: Answered, clean: Answered) -> Measure:
    """Return the fraction of the damage of flipped labels that is undone on the test, with its interval.

    0 is the poisoned model, 1 the clean one; both other sides exist. Resamples are
    drawn for all three together. The interval is over sources as in `measures.bracket`.

    Raises:
        Unmeasured: they answered other samples, or there is less than half a point of damage.
    """
    parts = (ours, matched(ours, poisoned), matched(ours, clean))
    labels = right(ours)
    hits = np.column_stack([part.logits.argmax(1) == labels for part in parts]).astype(np.float32)
    mine, low, high = hits.mean(0, dtype=np.float64)
    if high - low < LEAST_DAMAGE:
        raise Unmeasured(
            f"the clean model is {100 * (high - low):+.2f} points from the poisoned one, and below "
            f"{100 * LEAST_DAMAGE:.1f} there is nothing to recover"
        )
    value, of = (mine - low) / (high - low), designed(ours, labels)
    error = standard_error(of, _undone(of.means(hits)), even=False)
    if of.drawn and error.error > 0:
        measure = by_source(value, error, Scale.PLAIN)
    else:
        measure = interval(value, _undone(resampled_means(hits, resampled(ours, labels))))
    if measure.high - measure.low > WIDEST:
        raise Unmeasured(
            f"the clean model is {100 * (high - low):+.2f} points from the poisoned one, too little "
            f"for {len(ours)} test samples: the share could be anything from {measure.low:.1f} to "
            f"{measure.high:.1f}"
        )
    return measure


def _undone(accuracies: Floats) -> Floats:
    """Return the recovery (R,) of accuracies (R, 3) of a model, the poisoned and the clean one."""
    mine, low, high = accuracies.T
    with np.errstate(divide="ignore", invalid="ignore"):  # what is not finite is left out
        share: Floats = (mine - low) / (high - low)
    return share
