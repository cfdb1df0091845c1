"""Whether an unlearning left a model at all: tests of its answers against labels, base and retraining.

An unlearning can score well and leave nothing: two classes answered for ten, an accuracy of chance,
half of what was to be kept. Each test below is of predictions, has an interval where it estimates,
and a threshold that lies beyond every honest model of the calibration seeds of
`python -m benchmarks.alarms`; which it finds is measured there on other seeds.

"""

import contextlib
import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from trueface.evaluation.intervals import (
    Floats,
    Measure,
    Scale,
    by_source,
    interval,
    standard_error,
)
from trueface.evaluation.measurement import measure
from trueface.evaluation.predictions import Answered
from trueface.unlearning.evaluation.cross_entropy import log_probabilities
from trueface.unlearning.evaluation.measures import (
    Parts,
    Sheet,
    Unmeasured,
    designed,
    kept,
    pictures,
    resampled,
    resampled_means,
    right,
    sheet,
    tested,
)
from trueface.unlearning.evaluation.sanity_checks import Alarm, Sort, alarms, broken, class_name
from trueface.unlearning.registry import Goal

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
    chances = [tuple(np.exp(log_probabilities(part)) for part in pair) for pair in both]
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
    before: Parts | None,
    retrained: Parts | None = None,
    forgotten: Collection[int] = (),
    names: Sequence[str] = (),
) -> tuple[Alarm, ...]:
    """Return all that the answers of a model warn of; see `alarms` and `ruined`."""
    return (
        *alarms(parts, goal=goal, forgotten=forgotten, names=names),
        *ruined(
            parts,
            goal=goal,
            before=before,
            retrained=retrained,
            forgotten=forgotten,
            names=names,
        ),
    )


def ruined(
    parts: Parts,
    *,
    goal: Goal,
    before: Parts | None,
    retrained: Parts | None = None,
    forgotten: Collection[int] = (),
    names: Sequence[str] = (),
) -> Iterator[Alarm]:
    """Yield what says that an unlearning left no working model.

    Args:
        parts: answers of the model.
        goal: what was to be forgotten.
        before: answers of the model as it came; None: `parts` are these.
        retrained: answers of the retrained model, where there is one.
        forgotten: classes, for goal "class".
        names: of the classes; numbers stand for those without.
    """
    gone = forgotten if goal == "class" else ()
    if broken(parts) is not None:
        return
    test = kept(tested(parts), gone)
    checked = (kept(parts["validation"], gone), parts["retain"])
    makers: tuple[Callable[[], Alarm | None], ...] = (
        lambda: few_answers(test, names),
        lambda: chance(test),
        lambda: permuted(test, checked, names),
    )
    yield from (alarm for make in makers if (alarm := make()) is not None)
    if before is None or broken(before) is not None:
        return
    others = [("the model before", before)]
    if retrained is not None and broken(retrained) is None:
        others.append(("the retrained model", retrained))
    tests = [(name, kept(tested(other), gone)) for name, other in others]
    trained = [(name, other["retain"]) for name, other in others]
    alarm = lost(test, tests, what="the test", margin=LOST) or lost(
        parts["retain"], trained, what="what was kept", margin=LOST_TRAINED
    )
    if alarm is not None:
        yield alarm
    if (alarm := untouched(parts, before)) is not None:
        yield alarm


def few_answers(test: Answered, names: Sequence[str] = ()) -> Alarm | None:
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
    classes_named = ", ".join(repr(class_name(int(called[at]), names)) for at in most)
    return Alarm(
        sort=Sort.FEW_ANSWERS,
        text=f"{counts[most].sum()} of {len(test)} answers on the test are {classes_named}: as if there were "
        f"{given:.1f} classes, and the labels are of {expected:.1f}",
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
        text=f"the balanced accuracy on the test is {value:.1%} [{max(low, 0):.1%}, {high:.1%}], and "
        f"a guess is right in {guess:.1%}",
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
        text=f"the AUC on the test is {auc.value:.3f} [{auc.low:.3f}, {auc.high:.3f}]: "
        + (
            "the model may as well guess"
            if verdict == "chance"
            else "it calls fakes real more often than reals"
        ),
    )


def permuted(
    test: Answered, checked: Sequence[Answered], names: Sequence[str] = ()
) -> Alarm | None:
    """Warn of answers that are far better under another naming of the classes."""
    if min(len(test), sum(map(len, checked))) < LEAST:
        return None
    (value, low, _), naming = renamed(test, checked)
    if low <= PERMUTED:
        return None
    renamings = [
        f"{class_name(label, names)!r} as {class_name(int(naming[label]), names)!r}"
        for label in np.unique(right(test)).tolist()
        if naming[label] != label
    ]
    return Alarm(
        sort=Sort.PERMUTED,
        text=f"the accuracy on the test would be {100 * value:.1f} points higher with other names of "
        f"the classes: {', '.join(renamings[:3])}{', …' if len(renamings) > 3 else ''}",
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
        text=f"{100 * value:.1f} points [{100 * low:.1f}, {100 * high:.1f}] of the accuracy on {what} "
        f"are lost, beside {name}",
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
        text="every answer is the same as before, to the last bit"
        if same
        else f"the model answers as before: {moved} of {total} answers are others",
    )
