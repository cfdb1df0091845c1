"""The attacks of SVC-MIA against numbers that the authors' program gave for the same predictions."""

import math

import numpy as np
import pytest

from trueface.predictions.predictions import Predictions
from trueface.unlearning.evaluation.measures import UndefinedMetric
from trueface.unlearning.evaluation.membership_inference import by_confidence
from trueface.unlearning.evaluation.svc_attacks import (
    STATISTICS,
    entropy,
    modified_entropy,
    modified_entropy_of_program,
    svc_attacks,
)

# correctness, confidence, entropy, m_entropy, prob: printed by SVC_MIA.py of OPTML-Group/Unlearn-Sparse
# @80ba55d (the same text as Unlearn-Saliency @9576623) for target_test = forget, target_train = None
PRINTED: dict[tuple[int, int | None], tuple[float, ...]] = {
    (4, None): (0.17, 0.525, 0.625, 0.605, 0.635),
    (2, None): (0.075, 0.42, 0.615, 0.62, 0.46),
    (4, 2): (0.145, 0.575, 0.64, 0.005, 0.65),
    (2, 1): (0.085, 0.435, 0.575, 0.995, 0.44),
}
ONE_SAMPLE = 1 / 200  # the program computes in float32: a sample at the boundary may change sides


def noisy_predictions(
    count: int, sure: float, seed: int, *, classes: int = 4, only: int | None = None
) -> Predictions:
    """Return predictions with standard normal logits, and `sure` more for the label."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, count) if only is None else np.full(count, only)
    logits = rng.normal(size=(count, classes)).astype(np.float32)
    logits[np.arange(count), labels] += sure
    return Predictions(logits=logits, labels=labels, true_labels=labels)


def split_predictions(classes: int, only: int | None = None) -> dict[str, Predictions]:
    """Return predictions of a model that is surer of its training images; forgotten ones are between."""
    return {
        "retain": noisy_predictions(300, 3.0, 1, classes=classes),
        "test": noisy_predictions(300, 1.0, 2, classes=classes),
        "forget": noisy_predictions(200, 2.0, 3, classes=classes, only=only),
    }


@pytest.mark.parametrize(("classes", "only"), PRINTED)
def test_attacks_give_the_numbers_of_the_authors_program(classes: int, only: int | None) -> None:
    parts = split_predictions(classes, only)
    values = svc_attacks(parts, goal="instances").values
    confidence = by_confidence(
        retain=parts["retain"], nonmembers=parts["test"], forget=parts["forget"]
    )
    ours = (
        values["mia_svc_correctness"],
        confidence.value,
        values["mia_svc_entropy"],
        values["mia_svc_modified_entropy_program"],
        values["mia_svc_probability"],
    )
    assert ours == pytest.approx(PRINTED[classes, only], abs=1.01 * ONE_SAMPLE)
    for name in STATISTICS:
        assert values[f"{name}_low"] <= values[name] <= values[f"{name}_high"]


def test_attack_on_nothing_that_was_forgotten_has_no_result() -> None:
    parts = split_predictions(4)
    with pytest.raises(UndefinedMetric, match="nothing was forgotten"):
        by_confidence(
            retain=parts["retain"],
            nonmembers=parts["test"],
            forget=parts["forget"].rows(np.arange(0)),
        )


def test_entropies_equal_their_definitions() -> None:
    part = noisy_predictions(20, 2.0, 5)
    logits, labels = part.logits.astype(np.float64), part.labels
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    plain, modified = entropy(part, labels), modified_entropy(part, labels)
    for row, label in enumerate(labels):
        of = probabilities[row]
        assert plain[row] == pytest.approx(-sum(p * math.log(p) for p in of))
        others = sum(p * math.log(1 - p) for at, p in enumerate(of) if at != label)
        assert modified[row] == pytest.approx(-(1 - of[label]) * math.log(of[label]) - others)


def test_modified_entropy_of_the_program_depends_on_the_labels_of_other_rows() -> None:
    part = noisy_predictions(20, 2.0, 5)
    first = part.rows(part.labels == 0)
    alone = modified_entropy_of_program(first, first.labels)
    together = modified_entropy_of_program(part, part.labels)[part.labels == 0]
    assert np.abs(alone - together).min() > 0.01
    assert modified_entropy(first, first.labels) == pytest.approx(
        modified_entropy(part, part.labels)[part.labels == 0]
    )


def test_sure_predictions_have_finite_entropies() -> None:
    labels = np.array([0, 1])
    part = Predictions(
        logits=np.array([[900.0, 0.0], [900.0, 0.0]]), labels=labels, true_labels=labels
    )
    right, wrong = modified_entropy(part, labels)
    assert right == 0
    assert wrong == pytest.approx(-2 * math.log(1e-30))
    assert np.isfinite(modified_entropy_of_program(part, labels)).all()


def test_attack_without_two_sides_has_a_reason() -> None:
    parts = split_predictions(4)
    few = svc_attacks(parts | {"test": parts["test"].rows(np.arange(1))}, goal="instances")
    assert not few.values
    assert set(few.reasons) == set(STATISTICS)
    assert "1 non-members, and the attack needs 50 of each" in few.reasons["mia_svc_entropy"]
    nothing = svc_attacks(parts | {"forget": parts["forget"].rows(np.arange(0))}, goal="instances")
    assert set(nothing.reasons.values()) == {"nothing was forgotten"}
    without_test = svc_attacks(
        {name: part for name, part in parts.items() if name != "test"}, goal="instances"
    )
    assert "there is no test set" in without_test.reasons["mia_svc_probability"]


def test_model_without_errors_has_no_attack_by_correctness() -> None:
    parts = {
        name: noisy_predictions(100, 20.0 + seed, seed)
        for seed, name in enumerate(("retain", "test", "forget"))
    }
    found = svc_attacks(parts, goal="instances")
    assert found.reasons == {"mia_svc_correctness": "the statistic is the same for all samples"}
    assert len(found.values) == 3 * (len(STATISTICS) - 1)


def test_labels_are_trained_ones_for_members_and_true_ones_for_others() -> None:
    parts = {
        name: Predictions(
            logits=np.tile([[2.0, 0.0], [0.0, 2.0]], (50, 1)),
            labels=np.tile([0, 1], 50),
            true_labels=np.tile([1, 0], 50),
        )
        for name in ("retain", "test", "forget")
    }
    assert svc_attacks(parts, goal="flips").values["mia_svc_correctness"] == 0


def test_forgotten_class_is_left_out_of_the_others() -> None:
    parts = split_predictions(4, only=2)
    rest = parts | {"test": parts["test"].rows(parts["test"].labels != 2)}
    found = svc_attacks(parts, goal="class", forgotten_classes=[2])
    assert found == svc_attacks(rest, goal="instances")
    assert found != svc_attacks(parts, goal="class")
    assert svc_attacks(parts, goal="flips", forgotten_classes=[2]) == svc_attacks(
        parts, goal="flips"
    )
