import pytest

from launcher.web.charts import smoothing_of, stem_of
from launcher.web.page import Address


@pytest.mark.parametrize(
    ("metric", "stem"),
    [
        ("loss", ("loss", "")),
        ("val_loss", ("loss", "val")),
        ("validation/auc", ("auc", "validation")),
        ("loss.train", ("loss", "train")),
        ("Test_EER", ("EER", "test")),
        ("train", ("train", "")),
        ("evaluated", ("evaluated", "")),
    ],
)
def test_the_part_of_the_data_is_read_off_a_metrics_name(
    metric: str, stem: tuple[str, str]
) -> None:
    assert stem_of(metric) == stem


@pytest.mark.parametrize("text", ["nan", "-1", "1", "1e9", "", "much"])
def test_a_smoothing_that_is_none_smooths_nothing(text: str) -> None:
    address = Address(path="curves", query=(("smooth", text), ("scale", "log")))
    assert smoothing_of(address) == 0
