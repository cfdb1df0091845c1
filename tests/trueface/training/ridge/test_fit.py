import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from tests.trueface.training.ridge.build import rows
from trueface.runtime.errors import JobError
from trueface.training.ridge.fit import UNTESTED, fit
from trueface.training.ridge.primal import whole
from trueface.training.ridge.rows import Rows


def test_its_logits_are_those_of_weight_and_bias() -> None:
    train, validation = rows(80, 200), rows(60, 200, seed=1)
    fitted = fit(train, validation, clip=8.0)
    again = whole(validation, fitted.standard) @ fitted.weight + fitted.bias
    np.testing.assert_allclose(fitted.other, again, atol=1e-9)
    np.testing.assert_allclose(
        fitted.own, whole(train, fitted.standard) @ fitted.weight + fitted.bias, atol=1e-9
    )


def test_validation_chooses_the_penalty_with_the_largest_auc() -> None:
    train, validation = rows(80, 200), rows(60, 200, seed=1)
    fitted = fit(train, validation, clip=8.0)
    assert fitted.aucs[fitted.relative_penalty] == max(fitted.aucs.values())
    assert roc_auc_score(validation.labels, fitted.other) == pytest.approx(
        fitted.aucs[fitted.relative_penalty]
    )


def test_labels_at_random_leave_a_guess() -> None:
    train, test = rows(300, 400), rows(400, 400, seed=5)
    shuffled = Rows.of(train.parts, np.random.default_rng(3).permutation(train.labels))
    validation = rows(100, 400, seed=1)
    noise = Rows.of(validation.parts, np.random.default_rng(4).permutation(validation.labels))
    fitted = fit(shuffled, noise, clip=8.0)
    logits = whole(test, fitted.standard) @ fitted.weight + fitted.bias
    assert 0.4 < roc_auc_score(test.labels, logits) < 0.6
    learned = fit(train, validation, clip=8.0)
    logits = whole(test, learned.standard) @ learned.weight + learned.bias
    assert roc_auc_score(test.labels, logits) > 0.9


def test_a_validation_of_one_class_leaves_penalty_and_calibration_as_they_usually_are() -> None:
    train, validation = rows(40, 60), rows(30, 60, seed=1, fakes=0.0)
    fitted = fit(train, validation, clip=8.0)
    assert (fitted.relative_penalty, fitted.aucs) == (UNTESTED, {})
    assert (fitted.calibration.temperature, fitted.calibration.threshold) == (1.0, 0.0)


def test_a_penalty_that_is_given_is_taken() -> None:
    fitted = fit(rows(40, 60), rows(30, 60, seed=1), clip=8.0, penalty=0.5)
    assert (fitted.relative_penalty, fitted.aucs) == (0.5, {})


def test_a_training_of_one_class_is_refused() -> None:
    with pytest.raises(JobError, match=r"all 20 images are real: .* needs both classes"):
        fit(rows(20, 30, fakes=0.0), rows(20, 30), clip=8.0)


def test_classes_of_other_sizes_have_their_means_on_both_sides_of_zero() -> None:
    train = rows(100, 150, fakes=0.1)
    fitted = fit(train, rows(60, 150, seed=1), clip=8.0, penalty=1.0)
    means = [fitted.own[train.labels == label].mean() for label in (0, 1)]
    assert means[0] == pytest.approx(-means[1])
    assert means[1] > 0


def test_broken_features_of_validation_are_named() -> None:
    validation = rows(30, 60, seed=1)
    validation.parts[0][3, 3] = np.nan
    with pytest.raises(JobError, match="no finite numbers"):
        fit(rows(40, 60), validation, clip=8.0)
