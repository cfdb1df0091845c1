import pytest

from launcher.results.rows import lower_is_better


@pytest.mark.parametrize(
    ("metric", "low"),
    [
        ("loss", True),
        ("val_error", True),
        ("cross_entropy", True),
        ("cross_val_accuracy", False),
        ("accuracy", False),
    ],
)
def test_names_tell_which_metrics_are_better_low(metric: str, *, low: bool) -> None:
    assert lower_is_better(metric, []) == low
