import numpy as np

from tests.trueface.training.ridge.build import rows
from trueface.training.ridge.regression import Rows, Standard
from trueface.unlearning.ridge_refit import is_fitted_on


def test_rows_that_a_layer_was_not_fitted_on_are_recognised() -> None:
    fitted = rows(400, 60)
    standard = Standard.of(fitted)
    rounded = [part + np.float32(1e-6) for part in fitted.parts]
    assert is_fitted_on(Rows.of(rounded, fitted.labels), standard)
    other = [fitted.parts[0], fitted.parts[1].copy()]
    other[1][:10] += 1.0  # copies of ten images were corrupted otherwise
    assert not is_fitted_on(Rows.of(other, fitted.labels), standard)
