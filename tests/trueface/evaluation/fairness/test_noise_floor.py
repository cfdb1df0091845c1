import numpy as np
import pytest

from trueface.evaluation.fairness.groups import (
    Ranking,
    area_floor,
    areas,
    count,
    floors,
    gaps,
    intervals,
)


def test_floors_are_those_of_groups_shuffled_row_by_row_within_each_class() -> None:
    random = np.random.default_rng(0)
    fake, groups = random.random(900) < 0.4, random.choice(4, 900, p=[0.6, 0.2, 0.15, 0.05])
    called = random.random(900) < np.where(fake, 0.7, 0.2)
    shuffled: dict[str, list[float]] = {}
    for _ in range(1000):
        dealt = groups.copy()
        for kind in (fake, ~fake):
            dealt[kind] = random.permutation(groups[kind])
        for name, value in gaps(count(fake, called, dealt, 4)).items():
            shuffled.setdefault(name, []).append(float(value))
    floor = floors(count(fake, called, groups, 4), shuffles=4000)
    assert set(floor) == set(shuffled)
    for name, values in shuffled.items():
        assert floor[name].mean == pytest.approx(np.mean(values), rel=0.05)
        assert floor[name].p95 == pytest.approx(np.quantile(values, 0.95), rel=0.08)


def test_the_same_table_has_the_same_floor() -> None:
    fake = np.arange(200) % 2 == 0
    counts = count(fake, np.arange(200) % 3 == 0, np.arange(200) % 5, 5)
    assert floors(counts) == floors(counts) != floors(counts, seed=1)


def test_an_interval_holds_its_gap_and_is_wider_of_fewer_images() -> None:
    fake = np.arange(400) % 2 == 0
    called = np.arange(400) % 7 < 3
    few, many = (count(np.tile(fake, n), np.tile(called, n), np.tile(np.arange(400) // 100, n), 4)
                 for n in (1, 20))  # fmt: skip
    narrow, wide = intervals(many), intervals(few)
    for name, value in gaps(few).items():
        assert wide[name].low <= value <= wide[name].high
        assert narrow[name].high - narrow[name].low < wide[name].high - wide[name].low


def test_the_floor_of_the_auc_gap_is_that_of_shuffled_rows() -> None:
    random = np.random.default_rng(2)
    fake, groups = random.random(400) < 0.5, random.choice(3, 400, p=[0.7, 0.2, 0.1])
    logits = np.round(random.normal(size=400) + fake, 1)
    ranking, gaps_of_areas = Ranking.of(logits), []
    for _ in range(300):
        dealt = groups.copy()
        for kind in (fake, ~fake):
            dealt[kind] = random.permutation(groups[kind])
        gaps_of_areas.append(100 * np.ptp(areas(ranking, fake, dealt, 3)))
    floor = area_floor(ranking, fake, groups, 3, shuffles=2000)
    assert floor is not None
    assert floor.mean == pytest.approx(np.mean(gaps_of_areas), rel=0.1)
    assert floor.p95 == pytest.approx(np.quantile(gaps_of_areas, 0.95), rel=0.15)
