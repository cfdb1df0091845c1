"""Alarms on predictions: whether an unlearning left a working model and a meaningful result.

An unlearning can score well with a ruined model: two classes predicted for ten, chance accuracy, half of
the retained data lost. Each alarm was seen in practice. One broken model had an accuracy equal to the
share of the real images to the last digit, and was read as an unlearning. Estimates have an interval.
Thresholds are above every sound model of the calibration seeds of `python -m benchmarks.alarms`, which
also measures the detection rate on other seeds.
"""

from collections.abc import Callable, Collection, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from trueface.evaluation.estimates import from_error
from trueface.evaluation.measurement import evaluate_scores
from trueface.evaluation.metrics.confusion import BALANCED_ACCURACY
from trueface.evaluation.weighted_scores import WeightedScores
from trueface.predictions.predictions import Predictions
from trueface.unlearning.evaluation.alarms import (
    Alarm,
    AlarmKind,
    class_name,
    class_share,
    constant_predictions_alarm,
    flipped_validation_alarm,
    nonfinite_alarm,
    one_class,
)
from trueface.unlearning.evaluation.answer_comparison import (
    LEAST,
    accuracy_loss,
    best_permutation_gain,
    change,
    pairs,
)
from trueface.unlearning.evaluation.measures import (
    LEAST_DAMAGE,
    PredictionsBySplit,
    picture_ids,
    retained_class_rows,
    unseen_predictions,
)
from trueface.unlearning.registry import Goal

# kinds of a ruined model; other alarms are about comparisons
RUINED = frozenset(
    {
        AlarmKind.BROKEN,
        AlarmKind.CONSTANT,
        AlarmKind.SHARE,
        AlarmKind.FEW_ANSWERS,
        AlarmKind.CHANCE,
        AlarmKind.BELOW_CHANCE,
        AlarmKind.PERMUTED,
        AlarmKind.LOST,
        AlarmKind.UNTOUCHED,
    }
)
FEW = 0.5  # fraction of the labels' effective number of classes; sound models: 0.66 and more
LOST = 0.03  # significant loss of accuracy against the worse of base and retraining; sound models: 0.01
LOST_TRAINED = 0.15  # the same on retained training samples, which a model may have memorized
PERMUTED = LEAST_DAMAGE  # significant gain by a permutation of the labels; sound models: 0
UNTOUCHED = 0.02  # mean change of probabilities that counts as none; sound models: 0.16 and more


def find_alarms(
    parts: PredictionsBySplit,
    *,
    goal: Goal,
    original: PredictionsBySplit | None = None,
    retrained_parts: PredictionsBySplit | None = None,
    forgotten_classes: Collection[int] = (),
    names: Sequence[str] = (),
) -> tuple[Alarm, ...]:
    """Return all alarms of the predictions of a model.

    Args:
        parts: predictions of the model.
        goal: what was to be forgotten.
        original: predictions of the model before unlearning. None if `parts` are these.
        retrained_parts: predictions of the retrained model. None if there is none.
        forgotten_classes: classes, for goal "class".
        names: names of the classes. A class without a name is called by its number.
    """
    if alarm := nonfinite_alarm(parts):
        return (alarm,)
    gone = forgotten_classes if goal == "class" else ()
    test, name = (
        retained_class_rows(unseen_predictions(parts), gone),
        partial(class_name, names=names),
    )
    found = (
        constant_predictions_alarm(test, name),
        class_share(test, name),
        one_class(parts["forget"], name) if goal == "flips" else None,
        flipped_validation_alarm(parts["validation"]),
        few_answers(test, name),
        chance(test),
        permutation_alarm(
            test, (retained_class_rows(parts["validation"], gone), parts["retain"]), name
        ),
        *_find_relative_alarms(parts, original, retrained_parts, gone),
    )
    return tuple(alarm for alarm in found if alarm is not None)


def _find_relative_alarms(
    parts: PredictionsBySplit,
    original: PredictionsBySplit | None,
    retrained_parts: PredictionsBySplit | None,
    forgotten_classes: Collection[int],
) -> tuple[Alarm | None, ...]:
    """Return the alarms of predictions in comparison with those of other models."""
    if original is None or nonfinite_alarm(original):
        return ()
    others = [("the model before unlearning", original)]
    if retrained_parts is not None and not nonfinite_alarm(retrained_parts):
        others.append(("the retrained model", retrained_parts))
    test = retained_class_rows(unseen_predictions(parts), forgotten_classes)
    tests = [
        (name, retained_class_rows(unseen_predictions(other), forgotten_classes))
        for name, other in others
    ]
    trained = [(name, other["retain"]) for name, other in others]
    return (
        lost_accuracy_alarm(test, tests, noun="the test set", margin=LOST)
        or lost_accuracy_alarm(
            parts["retain"], trained, noun="the retain set", margin=LOST_TRAINED
        ),
        unchanged_model_alarm(parts, original),
    )


def few_answers(test: Predictions, name: Callable[[int], str]) -> Alarm | None:
    """Warn of predictions spread over far fewer classes than the labels.

    The spread is the exponential of the entropy: K for K classes equally often, between 1 and 2 for
    two of which one is rare. With two classes, `constant_predictions_alarm` covers this.
    """
    if len(test) < LEAST:
        return None
    expected, given = (
        count_effective_classes(test.right_classes),
        count_effective_classes(test.predicted_classes),
    )
    if expected <= 2 or given >= FEW * expected:
        return None
    called, counts = np.unique(test.predicted_classes, return_counts=True)
    most = np.argsort(-counts, kind="stable")[: max(1, round(given))]
    classes_named = ", ".join(repr(name(int(called[at]))) for at in most)
    return Alarm(
        alarm_kind=AlarmKind.FEW_ANSWERS,
        text=f"{counts[most].sum()} of {len(test)} predictions on the test set are {classes_named}: effectively "
        f"{given:.1f} classes, but the labels have {expected:.1f}",
    )


def count_effective_classes(labels: NDArray[np.int64]) -> float:
    """Return the effective number of classes of labels (N,): the exponential of their entropy."""
    shares = np.unique(labels, return_counts=True)[1] / len(labels)
    return float(np.exp(-(shares * np.log(shares)).sum()))


def chance(test: Predictions) -> Alarm | None:
    """Warn of a model that may as well guess.

    With two classes, the interval of the area under the ROC curve decides, as in the table of results;
    of more that of the balanced accuracy, by images.
    """
    labels = test.right_classes
    scores = WeightedScores.from_logits(labels, test.logits)
    classes = scores.table.present
    if len(test) < LEAST or len(classes) < 2:
        return None
    if scores.table.classes == 2:
        return _chance_of_two(test)
    recalls, sizes = scores.recalls[0], scores.support[0, list(classes)]
    value = BALANCED_ACCURACY.value(scores)
    error = float(np.sqrt((recalls * (1 - recalls) / sizes).sum()) / len(classes))
    measure, guess = from_error(value, error), 1 / len(classes)
    low, high = measure.interval or (value, value)
    if low > guess:
        return None
    return Alarm(
        alarm_kind=AlarmKind.CHANCE if high >= guess else AlarmKind.BELOW_CHANCE,
        text=f"the balanced accuracy on the test set is {value:.1%} (95 % CI {max(low, 0):.1%} to {high:.1%}), "
        f"and guessing scores {guess:.1%}",
    )


def _chance_of_two(test: Predictions) -> Alarm | None:
    labels, keys = test.right_classes.astype(np.int8), picture_ids(test)
    report = evaluate_scores(labels, test.margin, keys=keys, videos=test.videos, names=("auc",))
    guesses = {"chance", "below chance"}.intersection(report.verdict.split(", "))
    if not guesses:
        return None
    (verdict,), auc = guesses, report.by_images["auc"]  # the interval that the verdict rests on
    return Alarm(
        alarm_kind=AlarmKind(verdict),
        text=f"the AUC on the test set is {auc.value:.3f} (95 % CI {auc.ends_text('.3f')}), "
        + (
            "no better than guessing"
            if verdict == "chance"
            else "so fakes get lower scores than real images"
        ),
    )


def permutation_alarm(
    test: Predictions, others: Sequence[Predictions], name: Callable[[int], str]
) -> Alarm | None:
    """Warn of predictions that are far better under another naming of the classes."""
    if min(len(test), sum(map(len, others))) < LEAST:
        return None
    (value, low, _), naming = best_permutation_gain(test, others)
    if low <= PERMUTED:
        return None
    renamings = [
        f"{name(label)!r} as {name(int(naming[label]))!r}"
        for label in np.unique(test.right_classes).tolist()
        if naming[label] != label
    ]
    return Alarm(
        alarm_kind=AlarmKind.PERMUTED,
        text=f"the accuracy on the test set would be {100 * value:.1f} points higher with other class "
        f"names: {', '.join(renamings[:3])}{', …' if len(renamings) > 3 else ''}",
    )


def lost_accuracy_alarm(
    unlearned_predictions: Predictions,
    retrained_models: Sequence[tuple[str, Predictions]],
    *,
    noun: str,
    margin: float,
) -> Alarm | None:
    """Warn of accuracy lost on retained data, compared with the worse of several models.

    Args:
        unlearned_predictions: predictions of the model.
        retrained_models: names of other models, and their predictions for the same samples.
        noun: the samples, as the message names them.
        margin: accuracy in 0 … 1 that the lower end of the interval must exceed.
    """
    loss = accuracy_loss(unlearned_predictions, retrained_models)
    if loss is None or loss[1] <= margin:
        return None
    value, low, high, name = loss
    return Alarm(
        alarm_kind=AlarmKind.LOST,
        text=f"the accuracy on {noun} is {100 * value:.1f} points (95 % CI {100 * low:.1f} to "
        f"{100 * high:.1f}) lower than that of {name}",
    )


def unchanged_model_alarm(parts: PredictionsBySplit, original: PredictionsBySplit) -> Alarm | None:
    """Warn of a model with the same predictions as before."""
    both = pairs(parts, original)
    if both is None or change(both) > UNTOUCHED:
        return None
    same = all(np.array_equal(then.logits, now.logits) for then, now in both)
    moved = sum(int((then.predicted_classes != now.predicted_classes).sum()) for then, now in both)
    total = sum(len(now) for _, now in both)
    return Alarm(
        alarm_kind=AlarmKind.UNTOUCHED,
        text="all outputs are exactly the same as before"
        if same
        else f"the model is nearly unchanged: {moved} of {total} predictions differ from before",
    )
