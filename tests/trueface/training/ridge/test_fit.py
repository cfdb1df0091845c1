from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from sklearn.metrics import roc_auc_score

from tests.trueface.training.ridge.build import rows
from trueface.data.index import Image
from trueface.data.loading.image_loaders import eval_loader
from trueface.data.loading.transforms import matched_chains
from trueface.data.settings import TestSettings
from trueface.runtime.errors import JobError
from trueface.training.ridge import UNTESTED, LinearLayer, factor_of, fit, refit, views_of
from trueface.training.ridge_regression import (
    FeatureRows,
    Numbers,
    Standardization,
    standardise_rows,
)
from trueface.training.settings import TrainSettings


def test_logits_are_those_of_weight_and_bias_of_penalty_with_largest_auc() -> None:
    train, validation = rows(80, 200), rows(60, 200, seed=1)
    fitted = fit(train, validation, clip=8.0)
    again = standardise_rows(validation, fitted.standard) @ fitted.weight + fitted.bias
    np.testing.assert_allclose(fitted.val_outputs, again, atol=1e-9)
    np.testing.assert_allclose(
        fitted.train_outputs,
        standardise_rows(train, fitted.standard) @ fitted.weight + fitted.bias,
        atol=1e-9,
    )
    assert fitted.aucs[fitted.relative_penalty] == max(fitted.aucs.values())
    assert roc_auc_score(validation.labels, fitted.val_outputs) == pytest.approx(
        fitted.aucs[fitted.relative_penalty]
    )


def test_single_class_validation_keeps_default_penalty_and_calibration() -> None:
    train, validation = rows(40, 60), rows(30, 60, seed=1, fakes=0.0)
    fitted = fit(train, validation, clip=8.0)
    assert (fitted.relative_penalty, fitted.aucs) == (UNTESTED, {})
    assert (fitted.calibration.temperature, fitted.calibration.threshold) == (1.0, 0.0)


def test_single_class_training_is_refused() -> None:
    with pytest.raises(JobError, match=r"all 20 images are real. .* needs images of both classes"):
        fit(rows(20, 30, fakes=0.0), rows(20, 30), clip=8.0)


def test_non_finite_validation_features_are_named() -> None:
    validation = rows(30, 60, seed=1)
    validation.parts[0][3, 3] = np.nan
    with pytest.raises(JobError, match="not finite numbers"):
        fit(rows(40, 60), validation, clip=8.0)


PENALTY = 3.0
SHAPES = [(60, 150), (80, 30)]  # dual, primal


def without_rows(every: FeatureRows, gone: list[int]) -> FeatureRows:
    """Return rows without some, as if they had never been there."""
    stays = np.setdiff1d(np.arange(len(every)), gone)
    features = np.concatenate(every.parts)[stays]
    return FeatureRows.from_parts((features,), every.labels[stays], weight=every.weight[stays])


def logits(layer: LinearLayer, every: FeatureRows, standard: Standardization) -> Numbers:
    outputs: Numbers = standardise_rows(every, standard) @ layer.weight + layer.bias
    return outputs


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("count", [1, 20, 50])
def test_forgotten_rows_have_no_influence(shape: tuple[int, int], count: int) -> None:
    every = rows(*shape, fakes=0.4)
    standard = Standardization.from_rows(every)
    gone = np.random.default_rng(1).permutation(len(every))[:count].tolist()
    closed, anew = (
        refit(every, standard, PENALTY, removed_rows=gone),
        refit(without_rows(every, gone), standard, PENALTY),
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
def test_stored_factor_is_reused_for_other_labels(shape: tuple[int, int]) -> None:
    true = rows(*shape)
    flipped = true.labels.copy()
    flipped[::5] = 1 - flipped[::5]
    poisoned = replace(true, labels=flipped)
    standard = Standardization.from_rows(poisoned)
    factor = factor_of(poisoned, standard, PENALTY)
    closed = refit(true, standard, PENALTY, factor=factor)
    anew = refit(without_rows(true, []), standard, PENALTY)
    test = rows(40, shape[1], seed=7)
    assert_allclose(logits(closed, test, standard), logits(anew, test, standard), atol=1e-10)


def test_stored_factor_is_reused_for_forgetting_and_weights() -> None:
    every = rows(50, 120)
    every = replace(every, weight=np.random.default_rng(2).uniform(0.5, 4, 50))
    standard = Standardization.from_rows(every)
    factor = factor_of(every, standard, PENALTY)
    closed = refit(every, standard, PENALTY, removed_rows=[0, 7, 30], factor=factor)
    anew = refit(without_rows(every, [0, 7, 30]), standard, PENALTY)
    test = rows(40, 120, seed=7)
    assert_allclose(logits(closed, test, standard), logits(anew, test, standard), atol=1e-10)


def test_forgetting_whole_class_is_refused() -> None:
    every = rows(20, 50)
    fakes = np.flatnonzero(every.labels == 1)
    with pytest.raises(ValueError, match="both classes"):
        refit(every, Standardization.from_rows(every), PENALTY, removed_rows=fakes)


PLACE = {"data_root": ".", "split_path": ".", "resize_size": 24}


def test_fit_uses_each_image_then_its_copies_in_name_order() -> None:
    settings = TrainSettings.model_validate({**PLACE, "augment_seed": 7})
    images = [Image(f"{n}.png", f"{n}", n % 2, "", "none") for n in range(6)]
    pixels = torch.randint(0, 256, (3, 24, 24), generator=torch.Generator().manual_seed(0)).byte()
    names = ("corrupted", "varied", "turned", "mirrored")
    plain = eval_loader(images, TestSettings.model_validate(PLACE))
    views = views_of(plain, settings, names)
    transforms = [view.dataset.transform for view in views]
    assert [each.id.identity.get("copy") for each in transforms] == [None, *names]
    for image in images:
        clean, *copied, mirrored = (each(pixels, image, 0) for each in transforms)
        assert torch.equal(clean, pixels)
        assert torch.equal(mirrored, pixels.flip(-1))
        for copy, seen in zip(names, copied, strict=False):
            chain = matched_chains(images, 7, copy)[image.name]
            assert torch.equal(seen, chain(pixels, image.name))
