"""When the memory of an attempt has stopped growing, so that its usage predicts its need."""

import json
from math import nan

import pytest

from launcher.queue.scheduler.gpus.memory_growth import (
    IDLE_STEADY_S,
    STEADY_S,
    MemoryGrowth,
    read_growth,
)
from launcher.system.files import Json
from tests.build import GIB


def growth_after(*gib: float, every_s: float = 1.0, began: float = 100.0) -> MemoryGrowth:
    """The growth record after readings at regular times."""
    growth = MemoryGrowth(began=began, steady_since=began)
    for number, used in enumerate(gib):
        growth.add_sample(began + number * every_s, round(used * GIB))
    return growth


@pytest.mark.parametrize(
    ("uses", "growing"),
    [
        ((), False),
        ((0.0,), False),
        ((1.0,), True),
        ((1.0, 1.0), False),
        ((1.0, 1.01), False),  # too small for growth
        ((1.0, 1.5), True),
        ((1.0, 1.5, 0.5), False),
        ((3.0, 1.0, 2.0), False),  # it had as much a moment ago
        ((20.0, 20.3, 20.5), True),  # little by little
        ((3.0, *[1.0] * 31, 2.0), True),
        ((*[20.0] * 40, 20.2, 20.3, 20.5), True),  # little by little, after it was steady
        ((0.0, 0.0, 1.0), True),
    ],
)
def test_memory_grows_while_a_reading_is_clearly_above_recent_ones(
    uses: tuple[float, ...], growing: bool
) -> None:
    assert growth_after(*uses).is_growing is growing


def test_busy_program_is_steady_after_two_readings_without_growth() -> None:
    assert not growth_after(1, 2, 2).is_steady(0.5)
    assert growth_after(1, 2, 2, 2).is_steady(0.5)
    assert not growth_after(1, 2, 2, 3).is_steady(0.5), "it grows again"


def test_busy_program_is_not_steady_within_its_first_seconds() -> None:
    quick = STEADY_S / 10
    assert not growth_after(2, 2, 2, 2, every_s=quick).is_steady(0.5)
    assert not growth_after(0, 0, 0, 0, 2, 2, 2, 2, every_s=STEADY_S / 4).is_steady(0.5)
    assert growth_after(*[2] * 11, every_s=quick).is_steady(0.5)


@pytest.mark.parametrize("load", [None, 0.0])
def test_idle_program_is_steady_later(load: float | None) -> None:
    growth = growth_after(*[2] * 10)
    assert not growth.is_steady(load)
    growth.add_sample(growth.steady_since + IDLE_STEADY_S, 2 * GIB)
    assert growth.is_steady(load)


def test_program_without_memory_is_never_steady() -> None:
    assert not growth_after(0, 0, every_s=10 * IDLE_STEADY_S).is_steady(0.5)


def test_age_counts_from_the_first_reading() -> None:
    assert growth_after(0, 0, 1, every_s=2.0).age_s == 4.0


def test_growth_record_round_trip() -> None:
    for growth in (growth_after(0, 0), growth_after(0, 1, 2, 2)):
        record = json.loads(json.dumps(growth.to_json()))
        assert read_growth(record, growth.at + 1) == growth


def test_growth_record_of_another_boot_is_ignored() -> None:
    growth = growth_after(1, 2)
    assert read_growth(growth.to_json(), growth.at - 0.5) is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("began", None),
        ("began", -1.0),
        ("began", 1e9),  # after the newest reading
        ("at", "now"),
        ("at", nan),
        ("used", -1),
        ("used", 1.5),
        ("steady_looks", -1),
        ("steady_since", None),
    ],
)
def test_impossible_growth_record_is_none(name: str, value: Json) -> None:
    assert read_growth(growth_after(1, 2).to_json() | {name: value}, 1e6) is None


def test_empty_growth_record_is_none() -> None:
    assert read_growth({}, 1e6) is None
