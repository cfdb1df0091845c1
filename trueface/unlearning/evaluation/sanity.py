"""Whether an unlearning left a model at all, and a result that means something: alarms of answers.

An unlearning can score well and leave nothing: two classes answered for ten, an accuracy of chance,
half of what was to be kept. Each alarm was seen in earnest, as a broken model whose accuracy was the
share of the real images to the last digit, and was read as an unlearning. Each has an interval where it
estimates, and a threshold that lies beyond every honest model of the calibration seeds of
`python -m benchmarks.alarms`; which it finds is measured there on other seeds.
"""

import contextlib
import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.special import stdtrit

from trueface.evaluation.measurement import CONSTANT, measure
from trueface.evaluation.predictions import UNKNOWN, Answered
from trueface.unlearning.evaluation.measures import (
    LEAST_DAMAGE,
    Parts,
    Unmeasured,
    kept,
    matched,
    pictures,
    right,
    tested,
)
from trueface.unlearning.registry import Goal

EQUAL = 1e-9  # accuracies are shares of whole numbers: nearer is the same
NEARLY = 0.9  # share of one answer below which such an accuracy is a coincidence
COVERAGE = 0.95  # of the changes that chance makes, so many lie within the noise floor
LEAST_SEEDS = 3  # of two retrained models a standard deviation says next to nothing: t(1) is 12.7


class Sort(StrEnum):
    """What an alarm is about."""

    CONSTANT = "constant"
    BROKEN = "non-finite"
    SHARE = "class share"
    FEW_ANSWERS = "few answers"
    CHANCE = "chance"
    BELOW_CHANCE = "below chance"
    PERMUTED = "labels permuted"
    LOST = "kept accuracy lost"
    UNTOUCHED = "untouched"
    NEVER_KNOWN = "never known"
    NOISE = "within noise"
    NOISE_UNKNOWN = "noise unknown"
    ONE_CLASS = "one class"
    VALIDATION = "validation"


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """A reason not to believe a result, and a sentence about it."""

    sort: Sort
    text: str


def class_name(label: int, names: Sequence[str]) -> str:
    """Return the name of a class, or its number where it has none."""
    return names[label] if label < len(names) else str(label)


def broken(parts: Parts) -> Alarm | None:
    """Warn of logits that are no finite numbers."""
    for part, answers in parts.items():
        count = int((~np.isfinite(answers.logits)).any(1).sum())
        if count:
            return Alarm(
                sort=Sort.BROKEN,
                text=f"{count} of {len(answers)} predictions on {part} are not finite",
            )
    return None


def constant(test: Answered, name: Callable[[int], str]) -> Alarm | None:
    """Warn of one answer to nearly all samples, where these are not nearly all of one class."""
    if not len(test):
        return None
    shares = _shares(test.logits.argmax(1))
    label, share = max(shares.items(), key=lambda pair: pair[1])
    if share <= CONSTANT or max(_shares(right(test)).values()) > CONSTANT:
        return None
    return Alarm(sort=Sort.CONSTANT, text=f"{share:.1%} of the predictions are {name(label)!r}")


def class_share(test: Answered, name: Callable[[int], str]) -> Alarm | None:
    """Warn of an accuracy that is the share of a class: what a constant answer scores."""
    labels = right(test)
    shares = _shares(labels)
    if len(shares) < 2 or max(_shares(test.logits.argmax(1)).values()) < NEARLY:
        return None
    scored = float(np.mean(test.logits.argmax(1) == labels))
    same = [name(label) for label, share in shares.items() if abs(share - scored) < EQUAL]
    if not same:
        return None
    return Alarm(
        sort=Sort.SHARE,
        text=f"the accuracy on the test set, {scored:.2%}, is exactly the share of {', '.join(same)}",
    )


def one_class(forget: Answered, name: Callable[[int], str]) -> Alarm | None:
    """Warn of flipped labels of one class: a model that avoids that class seems to forget all."""
    labels = np.unique(forget.trained)
    if len(labels) != 1:
        return None
    return Alarm(
        sort=Sort.ONE_CLASS,
        text=f"all {len(forget)} wrong labels are {name(int(labels[0]))!r}, so a model that never "
        "predicts this class seems to have forgotten them",
    )


def unclean(validation: Answered) -> Alarm | None:
    """Warn of flipped labels in validation, which chooses results."""
    labelled = validation.true != UNKNOWN
    wrong = int((validation.true != validation.trained)[labelled].sum())
    if not wrong:
        return None
    return Alarm(
        sort=Sort.VALIDATION,
        text=f"{wrong} of {len(validation)} validation labels are wrong, and results were "
        "chosen with them",
    )


def noise(
    before: float,
    after: float,
    retrained: Sequence[float],
    *,
    what: str = "the test set",
    seeds: int = 1,
) -> Alarm | None:
    """Warn of a change that another seed of a plain retraining makes as well.

    Args:
        before: what was measured of the model as it came, in 0 … 1, mean over seeds.
        after: the same after the method.
        retrained: the same of retrained models, one a base and seed.
        what: on which samples.
        seeds: of how many `before` and `after` are means.
    """
    floor = noise_floor(retrained, seeds=seeds)
    if floor is None:
        return Alarm(
            sort=Sort.NOISE_UNKNOWN,
            text="cannot compare changes with noise, as this needs retrained models of at least "
            f"{LEAST_SEEDS} seeds, and there {_are(len(retrained))}",
        )
    if abs(after - before) > floor:
        return None
    return Alarm(
        sort=Sort.NOISE,
        text=f"the accuracy on {what} changed by {100 * (after - before):+.2f} points, within the noise of "
        f"up to {100 * floor:.2f} points (95 %, from the standard deviation of {len(retrained)} "
        f"retrained models, t({len(retrained) - 1}))",
    )


def never_known(before: float, classes: int) -> Alarm | None:
    """Warn of a class that the model had not learned: nothing can have been forgotten.

    Args:
        before: accuracy on the training images of the class, in 0 … 1, of the model as it came.
        classes: how many the model has.
    """
    if before > 2 / classes:
        return None
    return Alarm(
        sort=Sort.NEVER_KNOWN,
        text=f"the model before unlearning predicted {before:.1%} of the class correctly, and chance is "
        f"{1 / classes:.1%}, so there was nothing to forget",
    )


def noise_floor(retrained: Sequence[float], *, seeds: int = 1) -> float | None:
    """Return up to which change chance goes in 95 % of cases, or None of fewer than three seeds.

    If a method did no more than to throw the dice again, the means before and after would each have
    the variance of retraining by the number of seeds, and their difference by the estimated standard
    deviation would follow Student's t with n - 1 degrees of freedom.

    Args:
        retrained: of n retrained models, one a seed.
        seeds: of how many the means are that are compared.
    """
    count = len(retrained)
    if count < LEAST_SEEDS:
        return None
    quantile = float(stdtrit(count - 1, (1 + COVERAGE) / 2))
    return quantile * float(np.std(retrained, ddof=1)) * math.sqrt(2 / seeds)


def _are(count: int) -> str:
    return {0: "is none", 1: "is 1"}.get(count, f"are {count}")


def _shares(labels: "np.ndarray[tuple[int, ...], np.dtype[np.int64]]") -> dict[int, float]:
    values, counts = np.unique(labels, return_counts=True)
    return {
        int(value): int(count) / len(labels) for value, count in zip(values, counts, strict=True)
    }


LEAST = 20  # samples; of fewer no interval is worth its name
NORMAL = 1.96  # standard errors on either side of a 95 % interval
Hits = NDArray[np.float64]


def renamed(
    test: Answered, checked: Sequence[Answered]
) -> tuple[tuple[float, float, float], NDArray[np.int64]]:
    """Return the accuracy that another naming of the classes gains, with its interval, and the naming.

    The naming (K,), class → answer, is the best on `checked`, and its gain that on the test.

    Source: H. W. Kuhn, "The Hungarian method for the assignment problem", 1955, by scipy.
    """
    classes = test.logits.shape[1]
    counts = np.zeros((classes, classes))
    for part in checked:
        np.add.at(counts, (right(part), part.logits.argmax(1)), 1)
    # among equals the naming as it is: its gain must be real
    naming = linear_sum_assignment(counts + 1e-6 * np.eye(classes), maximize=True)[1]
    called, labels = test.logits.argmax(1), right(test)
    gain = (called == naming[labels]).astype(float) - (called == labels)
    return paired(gain, pictures(test)), naming


def loss_beside(
    ours: Answered, others: Sequence[tuple[str, Answered]]
) -> tuple[float, float, float, str] | None:
    """Return the least loss of accuracy with its interval, and the model it is relative to.

    None: no other model answered the same samples, or they are too few.
    """
    labels, losses = right(ours), []
    for name, other in others:
        with contextlib.suppress(Unmeasured):
            hits = [
                (part.logits.argmax(1) == labels).astype(float)
                for part in (matched(ours, other), ours)
            ]
            losses.append((*paired(hits[0] - hits[1], pictures(ours)), name))
    return min(losses) if losses and len(ours) >= LEAST else None


def change(both: Sequence[tuple[Answered, Answered]]) -> float:
    """Return the mean total variation between answers before and after, on the part that has most."""
    chances = [tuple(np.exp(part.log_probabilities()) for part in pair) for pair in both]
    return max(float(np.abs(then - now).sum(1).mean()) / 2 for then, now in chances)


def pairs(parts: Parts, before: Parts) -> list[tuple[Answered, Answered]] | None:
    """Return the answers before and after, part by part; None where they are of other samples."""
    try:
        both = [(matched(now, before[name]), now) for name, now in parts.items() if len(now)]
    except (Unmeasured, KeyError):
        return None
    return both or None


def paired(differences: Hits, names: Sequence[str]) -> tuple[float, float, float]:
    """Return the mean of differences (N,) with the ends of its 95 % interval.

    Rows of one picture, in several networks, count as one draw.

    Source: A. Cameron and D. Miller, "A practitioner's guide to cluster-robust inference", 2015,
        equation 7 for a mean; the normal quantile, as there are hundreds of pictures.
    """
    value = float(differences.mean())
    which = np.unique(np.array(names), return_inverse=True)[1]
    sums = np.bincount(which, weights=differences - value)
    error = NORMAL * float(np.sqrt((sums**2).sum())) / len(differences)
    return value, value - error, value + error


# what leaves nothing of a model; other alarms are about what it can be compared with
RUINED = frozenset(
    {
        Sort.BROKEN,
        Sort.CONSTANT,
        Sort.SHARE,
        Sort.FEW_ANSWERS,
        Sort.CHANCE,
        Sort.BELOW_CHANCE,
        Sort.PERMUTED,
        Sort.LOST,
        Sort.UNTOUCHED,
    }
)
FEW = 0.5  # of the classes that the labels hold in effect; honest models: 0.66 and more
LOST = 0.03  # accuracy lost for certain, beside the worse of base and retraining; honest: 0.01
LOST_TRAINED = 0.15  # the same on kept training samples, which a model may have known by heart
PERMUTED = LEAST_DAMAGE  # accuracy gained for certain by a permutation of the labels; honest: 0
UNTOUCHED = 0.02  # mean change of the probabilities that is none; honest: 0.16 and more


def judged(
    parts: Parts,
    *,
    goal: Goal,
    before: Parts | None = None,
    retrained: Parts | None = None,
    forgotten: Collection[int] = (),
    names: Sequence[str] = (),
) -> tuple[Alarm, ...]:
    """Return all that the answers of a model warn of.

    Args:
        parts: answers of the model.
        goal: what was to be forgotten.
        before: answers of the model as it came; None: `parts` are these.
        retrained: answers of the retrained model, where there is one.
        forgotten: classes, for goal "class".
        names: of the classes; numbers stand for those without.
    """
    if alarm := broken(parts):
        return (alarm,)
    gone = forgotten if goal == "class" else ()
    test, name = kept(tested(parts), gone), partial(class_name, names=names)
    found = (
        constant(test, name),
        class_share(test, name),
        one_class(parts["forget"], name) if goal == "flips" else None,
        unclean(parts["validation"]),
        few_answers(test, name),
        chance(test),
        permuted(test, (kept(parts["validation"], gone), parts["retain"]), name),
        *_beside(parts, before, retrained, gone),
    )
    return tuple(alarm for alarm in found if alarm is not None)


def _beside(
    parts: Parts, before: Parts | None, retrained: Parts | None, gone: Collection[int]
) -> tuple[Alarm | None, ...]:
    """Return what the answers warn of beside those of other models."""
    if before is None or broken(before):
        return ()
    others = [("the model before unlearning", before)]
    if retrained is not None and not broken(retrained):
        others.append(("the retrained model", retrained))
    test = kept(tested(parts), gone)
    tests = [(name, kept(tested(other), gone)) for name, other in others]
    trained = [(name, other["retain"]) for name, other in others]
    return (
        lost(test, tests, what="the test set", margin=LOST)
        or lost(parts["retain"], trained, what="the retain set", margin=LOST_TRAINED),
        untouched(parts, before),
    )


def few_answers(test: Answered, name: Callable[[int], str]) -> Alarm | None:
    """Warn of answers that are spread over far fewer classes than the labels are.

    The spread is the exponential of the entropy: K for K classes equally often, between 1 and 2 for
    two of which one is rare. Of two classes `constant` says it.
    """
    if len(test) < LEAST:
        return None
    expected, given = effective(right(test)), effective(test.logits.argmax(1))
    if expected <= 2 or given >= FEW * expected:
        return None
    called, counts = np.unique(test.logits.argmax(1), return_counts=True)
    most = np.argsort(-counts, kind="stable")[: max(1, round(given))]
    classes_named = ", ".join(repr(name(int(called[at]))) for at in most)
    return Alarm(
        sort=Sort.FEW_ANSWERS,
        text=f"{counts[most].sum()} of {len(test)} predictions on the test set are {classes_named}: effectively "
        f"{given:.1f} classes, but the labels have {expected:.1f}",
    )


def effective(labels: NDArray[np.int64]) -> float:
    """Return how many classes labels (N,) hold in effect: the exponential of their entropy."""
    shares = np.unique(labels, return_counts=True)[1] / len(labels)
    return float(np.exp(-(shares * np.log(shares)).sum()))


def chance(test: Answered) -> Alarm | None:
    """Warn of a model that may as well guess.

    Of two classes the interval of the area under the ROC curve decides, as in the table of results;
    of more that of the balanced accuracy, by images.
    """
    labels = right(test)
    classes = np.unique(labels)
    if len(test) < LEAST or len(classes) < 2:
        return None
    if test.logits.shape[1] == 2:
        return _chance_of_two(test, labels)
    hits = test.logits.argmax(1) == labels
    recalls = np.array([hits[labels == label].mean() for label in classes])
    sizes = np.array([(labels == label).sum() for label in classes])
    value = float(recalls.mean())
    error = float(np.sqrt((recalls * (1 - recalls) / sizes).sum()) / len(classes))
    low, high, guess = value - NORMAL * error, value + NORMAL * error, 1 / len(classes)
    if low > guess:
        return None
    return Alarm(
        sort=Sort.CHANCE if high >= guess else Sort.BELOW_CHANCE,
        text=f"the balanced accuracy on the test set is {value:.1%} (95 % CI {max(low, 0):.1%} to {high:.1%}), "
        f"and guessing scores {guess:.1%}",
    )


def _chance_of_two(test: Answered, labels: NDArray[np.int64]) -> Alarm | None:
    margin = (test.logits[:, 1] - test.logits[:, 0]).astype(np.float64)
    keys = pictures(test)
    report = measure(labels.astype(np.int8), margin, keys=keys)
    guesses = {"chance", "below chance"}.intersection(report.verdict.split(", "))
    if not guesses:
        return None
    (verdict,), auc = guesses, report.by_images["auc"]  # the interval that the verdict rests on
    return Alarm(
        sort=Sort(verdict),
        text=f"the AUC on the test set is {auc.value:.3f} (95 % CI {auc.low:.3f} to {auc.high:.3f}), "
        + (
            "no better than guessing"
            if verdict == "chance"
            else "so fakes get lower scores than real images"
        ),
    )


def permuted(
    test: Answered, checked: Sequence[Answered], name: Callable[[int], str]
) -> Alarm | None:
    """Warn of answers that are far better under another naming of the classes."""
    if min(len(test), sum(map(len, checked))) < LEAST:
        return None
    (value, low, _), naming = renamed(test, checked)
    if low <= PERMUTED:
        return None
    renamings = [
        f"{name(label)!r} as {name(int(naming[label]))!r}"
        for label in np.unique(right(test)).tolist()
        if naming[label] != label
    ]
    return Alarm(
        sort=Sort.PERMUTED,
        text=f"the accuracy on the test set would be {100 * value:.1f} points higher with other class "
        f"names: {', '.join(renamings[:3])}{', …' if len(renamings) > 3 else ''}",
    )


def lost(
    ours: Answered, others: Sequence[tuple[str, Answered]], *, what: str, margin: float
) -> Alarm | None:
    """Warn of accuracy lost on what was to be kept, beside the worse of several models.

    Args:
        ours: answers of the model.
        others: name and answers to the same samples, such as those of the model before.
        what: the samples in words.
        margin: accuracy in 0 … 1 that the lower end of the interval must exceed.
    """
    loss = loss_beside(ours, others)
    if loss is None or loss[1] <= margin:
        return None
    value, low, high, name = loss
    return Alarm(
        sort=Sort.LOST,
        text=f"the accuracy on {what} is {100 * value:.1f} points (95 % CI {100 * low:.1f} to "
        f"{100 * high:.1f}) lower than that of {name}",
    )


def untouched(parts: Parts, before: Parts) -> Alarm | None:
    """Warn of a model that answers as it did before."""
    both = pairs(parts, before)
    if both is None or change(both) > UNTOUCHED:
        return None
    same = all(np.array_equal(then.logits, now.logits) for then, now in both)
    moved = sum(int((then.logits.argmax(1) != now.logits.argmax(1)).sum()) for then, now in both)
    total = sum(len(now) for _, now in both)
    return Alarm(
        sort=Sort.UNTOUCHED,
        text="all outputs are exactly the same as before"
        if same
        else f"the model is nearly unchanged: {moved} of {total} predictions differ from before",
    )
