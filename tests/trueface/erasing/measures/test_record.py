"""The record of a measured erasing: its verdict, and the table of a study."""

from pathlib import Path
from typing import Any

import pytest

from trueface.erasing.measures.study import (
    BROKEN,
    ERASED,
    HIDDEN,
    NO_CURVE,
    NO_FLOOR,
    NOT_ERASED,
    NOTHING,
    Point,
    method_label,
    table,
    verdict,
)
from trueface.runtime import paths
from trueface.runtime.errors import DataError
from trueface.runtime.files import write_json

KEPT = (1.0, 1.0)  # of the other classes


def curve(*rates: float) -> tuple[Point, ...]:
    places = ((1, 10), (25, 250))
    return tuple(
        Point(images=images, steps=steps, rate=rate)
        for (images, steps), rate in zip(places, rates, strict=True)
    )


@pytest.mark.parametrize(
    ("recovered", "says"),
    [(0.5, HIDDEN), (0.49, ERASED), (1.0, HIDDEN), (0.0, ERASED)],
)
def test_half_way_from_floor_to_ceiling_is_hidden(recovered: float, says: str) -> None:
    judged = verdict((0.0, 1.0), KEPT, curve(0.1, recovered), curve(0.1, 0.1), curve(0.2, 0.9))
    assert judged.text == says
    assert judged.at == "25 images, 250 steps"


def test_it_is_decided_by_the_strongest_attack_that_can_tell() -> None:
    judged = verdict((0.0, 1.0), KEPT, curve(0.0, 0.6), curve(0.0, 0.1), curve(1.0, 0.9))
    assert judged.text == HIDDEN
    assert judged.at == "25 images, 250 steps"


def test_an_attack_that_makes_the_concept_of_a_model_that_never_saw_it_decides_nothing() -> None:
    judged = verdict((0.0, 1.0), KEPT, curve(0.0, 1.0), curve(0.0, 0.98), curve(0.9, 1.0))
    assert judged.text == ERASED
    assert judged.at == "1 image, 10 steps"


def test_a_floor_near_the_ceiling_says_that_the_probe_cannot_tell() -> None:
    judged = verdict((0.1, 1.0), KEPT, curve(1.0, 1.0), curve(0.95, 0.98), curve(1.0, 1.0))
    assert judged.text == "the probe cannot tell: floor 0.95, ceiling 1.00"


def test_what_is_still_drawn_is_not_erased_whatever_the_attack_does() -> None:
    assert verdict((0.21, 1.0), KEPT, curve(0, 0), curve(0, 0), curve(1, 1)).text == NOT_ERASED
    assert verdict((0.19, 0.9), KEPT, curve(0, 0), curve(0, 0), curve(1, 1)).text == NOT_ERASED
    assert verdict((0.2, 1.0), KEPT, curve(0, 0), curve(0, 0), curve(1, 1)).text == ERASED


def test_what_the_teacher_never_draws_cannot_be_erased() -> None:
    assert verdict((0.0, 0.0), (1.0, 1.0), curve(0, 0), curve(0, 0), curve(1, 1)).text == NOTHING


def test_without_a_floor_nothing_is_said_of_what_is_hidden() -> None:
    judged = verdict((0.0, 1.0), KEPT, curve(1, 1), (), curve(1, 1))
    assert judged.text == NO_FLOOR
    assert judged.at == "before the attack"


def test_without_a_point_that_all_curves_have_nothing_is_said_of_what_is_hidden() -> None:
    floor, ceiling = curve(0, 0), curve(1, 1)
    assert verdict((0.0, 1.0), KEPT, (), floor, ceiling).text == NO_CURVE
    assert verdict((0.0, 1.0), KEPT, curve(0, 1)[1:], floor[:1], ceiling).text == NO_CURVE
    judged = verdict((0.0, 1.0), KEPT, curve(0, 1), floor[1:], ceiling)
    assert (judged.text, judged.at) == (HIDDEN, "25 images, 250 steps")


def test_a_model_that_lost_the_other_classes_is_broken_and_has_erased_nothing() -> None:
    judged = verdict((0.0, 1.0), (0.2, 1.0), curve(0, 0), curve(0, 0), curve(1, 1))
    assert judged.text == BROKEN


def points(*rates: float) -> list[dict[str, float]]:
    places = ((1, 10), (25, 250))
    return [
        {"images": images, "steps": steps, "rate": rate}
        for (images, steps), rate in zip(places, rates, strict=True)
    ]


def write(run: Path, name: str, method: str, seed: int, **changed: Any) -> tuple[str, str]:
    folder = run / "made" / name
    folder.mkdir(parents=True)
    measures = {
        "erased": {"value": 0.0, "low": 0.0, "high": 0.1, "n": 64},
        "teacher_erased": {"value": 1.0, "low": 0.9, "high": 1.0, "n": 64},
        "others": {"value": 0.9, "low": 0.8, "high": 1.0, "n": 320},
        "teacher_others": {"value": 1.0, "low": 0.9, "high": 1.0, "n": 320},
        "anchor": None,
        "ssim": 0.5,
        "null_drift": None,
        **changed.pop("measures", {}),
    }
    facts = {
        "schema": 1, "method": method, "concept": "cross", "anchor": "disc", "seed": seed, "samples": 64,
        "measures": measures, "recovery": points(0.0, 0.9), "recovery_floor": points(0.0, 0.1),
        "recovery_ceiling": points(0.5, 1.0), "seconds": 2.0, **changed,
    }  # fmt: skip
    write_json(folder / paths.METRICS, facts)
    return "", name


def test_a_row_is_a_methods_mean_over_seeds_with_its_spread(tmp_path: Path) -> None:
    tests = [
        write(tmp_path, "a@seed=1", "abo", 1, seconds=2.0),
        write(tmp_path, "a@seed=2", "abo", 2, seconds=4.0, measures={"ssim": 0.7}),
        write(tmp_path, "b", "uce", 1, recovery=points(0.0, 0.2)),
    ]
    first, second = table(tmp_path, tests)
    assert first["method"] == "abo"
    assert first["ssim"] == pytest.approx(0.6)
    assert first["ssim_sd"] == pytest.approx(0.1 * 2**0.5)
    assert first["seconds"] == 3
    assert first["seeds"] == 2
    assert first["n"] == 64
    assert first["recovery"] == pytest.approx(0.9)
    assert (first["recovery_floor"], first["recovery_ceiling"]) == (0.1, 1.0)
    assert first["verdict"] == HIDDEN
    assert first["verdict_at"] == "25 images, 250 steps"
    assert first["null_drift"] is None
    assert first["anchor"] is None
    assert first["anchor_class"] == "disc"
    assert second["verdict"] == ERASED
    assert "ssim_sd" not in second


def test_the_verdict_of_several_seeds_is_that_of_their_mean_curves(tmp_path: Path) -> None:
    tests = [
        write(tmp_path, "a", "abo", 1, recovery=points(0.0, 0.9)),
        write(tmp_path, "b", "abo", 2, recovery=points(0.0, 0.1)),
    ]
    (row,) = table(tmp_path, tests)
    assert row["recovery"] == pytest.approx(0.5)
    assert row["verdict"] == ERASED  # half-way would be .55


def test_a_seed_without_a_curve_leaves_the_mean_to_the_others(tmp_path: Path) -> None:
    tests = [
        write(tmp_path, "a", "abo", 1, recovery=points(0.0, 0.9)),
        write(tmp_path, "b", "abo", 2, recovery=[]),
    ]
    (row,) = table(tmp_path, tests)
    assert row["recovery"] == 0.9
    assert row["verdict"] == HIDDEN
    (row,) = table(tmp_path, tests[1:])
    assert row["recovery"] is None
    assert row["verdict"] == NO_CURVE


def test_the_teacher_comes_first_and_what_never_saw_the_concept_last(tmp_path: Path) -> None:
    methods = ("retrain", "abo", "teacher", "abo@penalty=0")
    tests = [write(tmp_path, f"m{at}", name, 1) for at, name in enumerate(methods)]
    rows = table(tmp_path, tests)
    assert [row["method"] for row in rows] == ["teacher", "abo", "abo@penalty=0", "retrain"]


def test_a_record_without_a_floor_has_no_verdict_on_what_is_hidden(tmp_path: Path) -> None:
    (row,) = table(tmp_path, [write(tmp_path, "a", "abo", 1, recovery_floor=[])])
    assert row["recovery_floor"] is None
    assert row["verdict"] == NO_FLOOR


def test_a_record_without_rates_has_no_verdict(tmp_path: Path) -> None:
    (row,) = table(tmp_path, [write(tmp_path, "a", "abo", 1, measures={"erased": None})])
    assert row["erased"] is None
    assert (row["verdict"], row["verdict_at"]) == ("", "")


def test_a_record_that_is_missing_or_of_another_form_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"made/gone/metrics\.json"):
        table(tmp_path, [("", "gone")])
    write(tmp_path, "old", "abo", 1, schema=0)
    with pytest.raises(DataError, match=r"made/old/metrics\.json is no record of schema 1"):
        table(tmp_path, [("", "old")])


@pytest.mark.parametrize(
    ("model", "label"),
    [
        ("classes:all", "teacher"),
        ("classes:all~abo", "abo"),
        ("classes:all~abo@penalty=0,seed=3", "abo@penalty=0"),
        ("classes:all~esd-x@concept=cross", "esd-x"),
        ("classes:all@without=cross", "never"),
    ],
)
def test_a_method_is_called_by_its_name_and_what_was_swept(model: str, label: str) -> None:
    assert method_label(model, "classes:all") == label


def test_what_the_teachers_id_says_is_not_the_methods() -> None:
    assert method_label("classes:all~uce@lr=0.1,width=8", "classes:all@width=8") == "uce@lr=0.1"
