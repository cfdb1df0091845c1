import pytest

from trueface.training.schedules import RULES


@pytest.mark.parametrize("schedule", sorted(RULES))
def test_the_rate_rises_to_its_highest_and_falls_to_nothing(schedule: str) -> None:
    rate = RULES[schedule]
    fractions = [rate(step, 100) for step in range(100)]
    top = fractions.index(max(fractions))
    assert max(fractions) == pytest.approx(1)
    assert fractions[: top + 1] == sorted(fractions[: top + 1])
    assert fractions[top:] == sorted(fractions[top:], reverse=True)
    assert 0 < fractions[0] < 0.5
    assert 0 < fractions[-1] < 0.001
    assert all(0 < rate(0, total) <= 1 for total in (1, 2, 3))
