import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.linear_model import Ridge

from tests.trueface.training.ridge.build import rows
from trueface.runtime.errors import JobError
from trueface.training.ridge import best_penalty, targets
from trueface.training.ridge_regression import (
    Dual,
    DualFactor,
    FeatureRows,
    NormalEquations,
    Primal,
    Standardization,
    regression,
    standardise_rows,
)

SHAPES = [(60, 25), (60, 200), (61, 61)]


def both(some: FeatureRows) -> tuple[Dual, Primal, FeatureRows]:
    others, standard = rows(20, some.width, seed=9), Standardization.from_rows(some)
    columns = standardise_rows(some, standard)
    primal = Primal(
        some,
        columns,
        standardise_rows(others, standard),
        NormalEquations.from_columns(columns, some.weight),
    )
    return Dual.from_rows(some, standard, others), primal, others


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("relative", [1e-3, 1.0])
def test_dual_and_primal_have_same_minimum(shape: tuple[int, int], relative: float) -> None:
    some = rows(*shape, fakes=0.3)
    dual, primal, _ = both(some)
    wanted = targets(some.labels, some.weight)
    assert dual.unit == pytest.approx(primal.unit)
    first, second = (each.solve(relative * dual.unit, wanted) for each in (dual, primal))
    assert_allclose(first.weight(), second.weight(), atol=1e-6)
    # outputs carry no intercept, and so agree as they are
    assert_allclose(first.train_outputs, second.train_outputs, atol=1e-6)
    assert_allclose(first.val_outputs, second.val_outputs, atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_minimum_matches_scikit_learn(shape: tuple[int, int]) -> None:
    some = rows(*shape)
    weight = np.random.default_rng(1).uniform(0.5, 3, len(some))
    some = FeatureRows(some.parts, some.labels, some.images, weight)
    wanted, standard = targets(some.labels, weight), Standardization.from_rows(some)
    columns = standardise_rows(some, standard)
    for system in both(some)[:2]:
        ours = system.solve(5.0, wanted).weight()
        theirs = Ridge(alpha=5.0, solver="cholesky").fit(columns, wanted, sample_weight=weight)
        assert_allclose(ours, theirs.coef_, atol=1e-8)


def test_smaller_system_is_solved() -> None:
    few, many = rows(30, 50), rows(50, 30)
    assert isinstance(regression(few, Standardization.from_rows(few)), Dual)
    assert isinstance(regression(many, Standardization.from_rows(many)), Primal)


def test_non_finite_feature_is_an_error_with_reason() -> None:
    inner = np.full((3, 3), np.nan)
    with pytest.raises(JobError, match="not finite numbers"):
        DualFactor.from_inner_products(inner, 1.0, np.ones(3))


def test_targets_weight_classes_equally_and_are_one_for_equal_sizes() -> None:
    even = targets(np.array([0, 1, 0, 1], np.int8), np.ones(4))
    assert even.tolist() == [-1, 1, -1, 1]
    uneven = targets(np.array([0, 0, 0, 1], np.int8), np.ones(4))
    assert uneven.sum() == pytest.approx(0)
    with pytest.raises(ValueError, match="both classes"):
        targets(np.ones(3, np.int8), np.ones(3))


def test_best_penalty_is_refined_and_largest_of_equal_ones() -> None:
    tried: list[float] = []

    def merit(penalty: float) -> float:
        tried.append(penalty)
        return -abs(float(np.log10(penalty)) + 1.6)

    best, merits = best_penalty(merit)
    assert best == pytest.approx(10**-1.5)
    assert len(tried) == len(set(tried)) == len(merits)
    flat, _ = best_penalty(lambda _: 1.0)
    assert flat == pytest.approx(10 * 10**0.5)
