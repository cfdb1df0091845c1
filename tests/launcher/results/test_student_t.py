import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.results.over import t_quantile

# Fisher and Yates, Statistical Tables, two-sided 5 %
TABLE = {
    1: 12.706,
    2: 4.303,
    3: 3.182,
    4: 2.776,
    5: 2.571,
    9: 2.262,
    10: 2.228,
    30: 2.042,
    120: 1.980,
}


@pytest.mark.parametrize(("freedom", "quantile"), TABLE.items())
def test_quantiles_are_those_of_the_tables(freedom: int, quantile: float) -> None:
    assert t_quantile(freedom, 0.95) == pytest.approx(quantile, abs=6e-4)


@given(freedom=st.integers(1, 400), confidence=st.floats(0.01, 0.999))
def test_quantiles_are_those_of_scipy(freedom: int, confidence: float) -> None:
    stats = pytest.importorskip("scipy.stats")
    expected = stats.t.ppf((1 + confidence) / 2, freedom)
    assert t_quantile(freedom, confidence) == pytest.approx(expected, rel=1e-9)
