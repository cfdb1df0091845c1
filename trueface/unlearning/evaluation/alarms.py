"""Alarms: reasons not to believe a result, and the simple ones among their checks."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from scipy.special import stdtrit

from trueface.evaluation.measurement import CONSTANT
from trueface.predictions.predictions import UNKNOWN, Predictions
from trueface.unlearning.evaluation.measures import PredictionsBySplit, accuracy, are_same_samples

EQUAL = 1e-9  # accuracies are shares of whole numbers: nearer is the same
NEARLY = 0.9  # share of one predicted class below which such an accuracy is a coincidence
COVERAGE = 0.95  # fraction of random changes within the noise floor
LEAST_SEEDS = 3  # retrained models; a deviation of two says next to nothing: t(1) is 12.7


class AlarmKind(StrEnum):
    """The subject of an alarm."""

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
    MEMBERS_IN_TEST = "members in test"
    OTHER_SAMPLES = "other samples"
    OTHER_BASE = "other base"


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """A reason not to believe a result, and a sentence about it."""

    alarm_kind: AlarmKind
    text: str


def class_name(label: int, names: Sequence[str]) -> str:
    """Return the name of a class, or its number where it has none."""
    return names[label] if label < len(names) else str(label)


def nonfinite_alarm(parts: PredictionsBySplit) -> Alarm | None:
    """Warn of non-finite logits."""
    for part, predictions in parts.items():
        count = int((~np.isfinite(predictions.logits)).any(1).sum())
        if count:
            return Alarm(
                alarm_kind=AlarmKind.BROKEN,
                text=f"{count} of {len(predictions)} predictions on {part} are not finite",
            )
    return None


def constant_predictions_alarm(test: Predictions, name: Callable[[int], str]) -> Alarm | None:
    """Warn of one prediction for nearly all samples, if these are not nearly all of one class."""
    if not len(test):
        return None
    shares = _shares(test.predicted_classes)
    label, share = max(shares.items(), key=lambda pair: pair[1])
    if share <= CONSTANT or max(_shares(test.right_classes).values()) > CONSTANT:
        return None
    return Alarm(
        alarm_kind=AlarmKind.CONSTANT, text=f"{share:.1%} of the predictions are {name(label)!r}"
    )


def class_share(test: Predictions, name: Callable[[int], str]) -> Alarm | None:
    """Warn of an accuracy equal to the share of a class, which a constant prediction reaches."""
    labels = test.right_classes
    shares = _shares(labels)
    if len(shares) < 2 or max(_shares(test.predicted_classes).values()) < NEARLY:
        return None
    scored = accuracy(test, labels)
    same = [name(label) for label, share in shares.items() if abs(share - scored) < EQUAL]
    if not same:
        return None
    return Alarm(
        alarm_kind=AlarmKind.SHARE,
        text=f"the accuracy on the test set, {scored:.2%}, is exactly the share of {', '.join(same)}",
    )


def one_class(forget: Predictions, name: Callable[[int], str]) -> Alarm | None:
    """Warn of flipped labels of one class: a model that avoids that class seems to forget all."""
    labels = np.unique(forget.labels)
    if len(labels) != 1:
        return None
    return Alarm(
        alarm_kind=AlarmKind.ONE_CLASS,
        text=f"all {len(forget)} wrong labels are {name(int(labels[0]))!r}, so a model that never "
        "predicts this class seems to have forgotten them",
    )


def flipped_validation_alarm(validation: Predictions) -> Alarm | None:
    """Warn of flipped labels in validation, which chooses results."""
    labelled = validation.true_labels != UNKNOWN
    wrong = int((validation.true_labels != validation.labels)[labelled].sum())
    if not wrong:
        return None
    return Alarm(
        alarm_kind=AlarmKind.VALIDATION,
        text=f"{wrong} of {len(validation)} validation labels are wrong, and results were "
        "chosen with them",
    )


def members_in_test(copies: int) -> Alarm | None:
    """Warn of test images with the content of training images.

    Args:
        copies: how many there are.
    """
    if not copies:
        return None
    return Alarm(
        alarm_kind=AlarmKind.MEMBERS_IN_TEST,
        text=f"{copies} test images are copies of training images, so membership inference compares members "
        "with members",
    )


def other_samples_alarm(parts: PredictionsBySplit, others: PredictionsBySplit) -> Alarm | None:
    """Warn of parts that have other samples than the row of the model before.

    Args:
        parts: predictions of the model.
        others: predictions of the model before, as its row shows them.
    """
    names = [
        name
        for name, part in parts.items()
        if name in others and not are_same_samples(part, others[name])
    ]
    if not names:
        return None
    sizes = ", ".join(f"{name}: {len(parts[name])}, there {len(others[name])}" for name in names)
    return Alarm(
        alarm_kind=AlarmKind.OTHER_SAMPLES,
        text=f"its samples differ from those of the row 'before' ({sizes}), so their numbers are not comparable. "
        "Unlearn again with all methods",
    )


def other_base_alarm(base: str) -> Alarm:
    """Warn of a model that was unlearned from other weights of its base than the row of the model before."""
    return Alarm(
        alarm_kind=AlarmKind.OTHER_BASE,
        text=f"it was unlearned from other weights of {base} than the row 'before' shows, so their numbers are not "
        "comparable. Unlearn again with all methods",
    )


def noise(
    original: float,
    unlearned_value: float,
    retrained_values: Sequence[float],
    *,
    noun: str = "the test set",
    seeds: int = 1,
) -> Alarm | None:
    """Warn of a change that another seed of a plain retraining makes as well.

    Args:
        original: measure of the model before unlearning, in [0, 1], mean over seeds.
        unlearned_value: the same measure after unlearning.
        retrained_values: the same of retrained models, one per base and seed.
        noun: the samples, as the message names them.
        seeds: of how many `original` and `unlearned_value` are means.
    """
    floor = noise_floor(retrained_values, seeds=seeds)
    if floor is None:
        return Alarm(
            alarm_kind=AlarmKind.NOISE_UNKNOWN,
            text="cannot compare changes with noise, as this needs retrained models of at least "
            f"{LEAST_SEEDS} seeds, and there {_count_phrase(len(retrained_values))}",
        )
    if abs(unlearned_value - original) > floor:
        return None
    return Alarm(
        alarm_kind=AlarmKind.NOISE,
        text=f"the accuracy on {noun} changed by {100 * (unlearned_value - original):+.2f} points, within the noise of "
        f"up to {100 * floor:.2f} points (95 %, from the standard deviation of {len(retrained_values)} "
        f"retrained models, t({len(retrained_values) - 1}))",
    )


def unlearned_class_alarm(accuracy: float, classes: int) -> Alarm | None:
    """Warn of a class that the model had not learned: nothing can have been forgotten.

    Args:
        accuracy: accuracy on the training images of the class, in [0, 1], of the model before unlearning.
        classes: how many the model has.
    """
    if accuracy > 2 / classes:
        return None
    return Alarm(
        alarm_kind=AlarmKind.NEVER_KNOWN,
        text=f"the model before unlearning predicted {accuracy:.1%} of the class correctly, and chance is "
        f"{1 / classes:.1%}, so there was nothing to forget",
    )


def noise_floor(retrained_values: Sequence[float], *, seeds: int = 1) -> float | None:
    """Return up to which change chance goes in 95 % of cases, or None of fewer than three seeds.

    If a method only repeated the random draw, the means before and after would each have the variance of
    retraining divided by the number of seeds. Their difference divided by the estimated standard
    deviation would then follow Student's t with n - 1 degrees of freedom.

    Args:
        retrained_values: of n retrained models, one per seed.
        seeds: of how many the means are that are compared.
    """
    count = len(retrained_values)
    if count < LEAST_SEEDS:
        return None
    quantile = float(stdtrit(count - 1, (1 + COVERAGE) / 2))
    return quantile * float(np.std(retrained_values, ddof=1)) * math.sqrt(2 / seeds)


def _count_phrase(count: int) -> str:
    return {0: "is none", 1: "is 1"}.get(count, f"are {count}")


def _shares(labels: "np.ndarray[tuple[int, ...], np.dtype[np.int64]]") -> dict[int, float]:
    values, counts = np.unique(labels, return_counts=True)
    return {
        int(value): int(count) / len(labels) for value, count in zip(values, counts, strict=True)
    }
