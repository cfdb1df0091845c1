from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose

from tests.trueface.training.ridge.build import rows
from trueface.training.ridge.exact import Layer, factor_of, refit
from trueface.training.ridge.primal import whole
from trueface.training.ridge.rows import Numbers, Rows, Standard

PENALTY = 3.0
SHAPES = [(60, 150), (80, 30)]  # dual, primal


def kept(every: Rows, gone: list[int]) -> Rows:
    """Return rows without some, as if they had never been there."""
    stays = np.setdiff1d(np.arange(len(every)), gone)
    features = np.concatenate(every.parts)[stays]
    return Rows.of((features,), every.labels[stays], weight=every.weight[stays])


def logits(layer: Layer, every: Rows, standard: Standard) -> Numbers:
    outputs: Numbers = whole(every, standard) @ layer.weight + layer.bias
    return outputs


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("count", [1, 20, 50])
def test_forgotten_rows_leave_as_if_they_had_never_been_there(
    shape: tuple[int, int], count: int
) -> None:
    every = rows(*shape, fakes=0.4)
    standard = Standard.of(every)
    gone = np.random.default_rng(1).permutation(len(every))[:count].tolist()
    closed, anew = (
        refit(every, standard, PENALTY, gone=gone),
        refit(kept(every, gone), standard, PENALTY),
    )
    test = rows(40, shape[1], seed=7)
    difference = logits(closed, test, standard) - logits(anew, test, standard)
    assert np.abs(difference).max() <= 1e-10
    assert (
        np.abs(
            logits(refit(every, standard, PENALTY), test, standard) - logits(anew, test, standard)
        ).max()
        > 1e-4
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_a_kept_factor_serves_other_labels(shape: tuple[int, int]) -> None:
    true = rows(*shape)
    flipped = true.labels.copy()
    flipped[::5] = 1 - flipped[::5]
    poisoned = replace(true, labels=flipped)
    standard = Standard.of(poisoned)
    factor = factor_of(poisoned, standard, PENALTY)
    closed = refit(true, standard, PENALTY, factor=factor)
    anew = refit(kept(true, []), standard, PENALTY)
    test = rows(40, shape[1], seed=7)
    assert_allclose(logits(closed, test, standard), logits(anew, test, standard), atol=1e-10)


def test_a_kept_factor_serves_forgetting_and_weights() -> None:
    every = rows(50, 120)
    every = replace(every, weight=np.random.default_rng(2).uniform(0.5, 4, 50))
    standard = Standard.of(every)
    factor = factor_of(every, standard, PENALTY)
    closed = refit(every, standard, PENALTY, gone=[0, 7, 30], factor=factor)
    anew = refit(kept(every, [0, 7, 30]), standard, PENALTY)
    test = rows(40, 120, seed=7)
    assert_allclose(logits(closed, test, standard), logits(anew, test, standard), atol=1e-10)


def test_forgetting_a_whole_class_is_refused() -> None:
    every = rows(20, 50)
    fakes = np.flatnonzero(every.labels == 1)
    with pytest.raises(ValueError, match="both classes"):
        refit(every, Standard.of(every), PENALTY, gone=fakes)
