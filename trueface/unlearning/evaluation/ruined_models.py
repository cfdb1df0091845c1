"""Whether an unlearning left a model at all: tests of its answers against labels, base and retraining.

An unlearning can score well and leave nothing: two classes answered for ten, an accuracy of chance,
half of what was to be kept. Each test below is of predictions, has an interval where it estimates,
and a threshold that lies beyond every honest model of the calibration seeds of
`python -m benchmarks.alarms`; which it finds is measured there on other seeds.
"""

from collections.abc import Callable, Collection, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from trueface.evaluation.measurement import measure
from trueface.evaluation.predictions import Answered
from trueface.unlearning.evaluation.intervals import pictures
from trueface.unlearning.evaluation.measures import Parts, kept, right, tested
from trueface.unlearning.evaluation.paired_answers import (
    LEAST,
    NORMAL,
    change,
    loss_beside,
    pairs,
    renamed,
)
from trueface.unlearning.evaluation.retrain_gap import LEAST_DAMAGE
from trueface.unlearning.evaluation.sanity_checks import Alarm, Sort, alarms, broken, class_name
from trueface.unlearning.registry import Goal

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
