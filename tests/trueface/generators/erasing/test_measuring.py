"""Measures between two models: similarity of samples, and drift of the null prediction."""

from pathlib import Path
from typing import Any

import PIL.Image
import pytest
import torch

from tests.trueface.generators.erasing.build import drawer, prototypes, recogniser
from trueface.generators.diffusion.diffuser import timesteps
from trueface.generators.erasing.measuring import likeness, null_drift, write_sheet
from trueface.generators.erasing.samples import Sampling, noise_of
from trueface.generators.erasing.study import (
    BROKEN,
    ERASED,
    HIDDEN,
    NO_CURVE,
    NO_FLOOR,
    NOT_ERASED,
    NOTHING_TO_ERASE,
    Point,
    judge_erasure,
    method_label,
    table,
)
from trueface.runtime import paths
from trueface.runtime.errors import DataError
from trueface.runtime.files import Json, write_json

LABELS = torch.tensor([0, 0, 0])


def test_null_drift_equals_the_relative_change_of_each_step() -> None:
    # eps = (x - signal e) / sigma: with e moved by d it moves by signal / sigma · d
    teacher, student = drawer(), drawer()
    assert student.network.table is not None
    with torch.no_grad():
        student.network.table.weight[-1] += 0.1
    schedule, steps = teacher.schedule, 5
    shares = [
        float(schedule.alpha_bar[t] / (1 - schedule.alpha_bar[t])) * 0.01
        for t in timesteps(schedule, steps)
    ]
    noise = noise_of(teacher, "cross", 3, 1)
    drift = null_drift(student, teacher, noise, LABELS, Sampling(steps=steps, batch_size=2))
    assert drift == pytest.approx(sum(shares) / steps, rel=1e-3)


def test_changes_of_one_class_cause_no_null_drift() -> None:
    teacher, student = drawer(), drawer()
    assert student.network.table is not None
    with torch.no_grad():
        student.network.table.weight[0] = 0
    noise = noise_of(teacher, "cross", 3, 1)
    assert null_drift(student, teacher, noise, LABELS, Sampling(steps=5)) == 0


def test_equal_samples_have_full_likeness_and_floor_uses_other_noise() -> None:
    images = torch.rand(8, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    features = recogniser().predict_with_features(images)[1]
    same = likeness(images, images, features, features, features.flip(0) + 1)
    assert same.ssim == pytest.approx(1)
    assert same.feature_distance == 0
    assert same.frechet == pytest.approx(0, abs=1e-6)
    assert same.frechet_floor == pytest.approx(16)  # the mean of 16 numbers moved by 1
    assert same.n == 8


def test_sample_sheet_has_one_row_per_class_and_no_margins(tmp_path: Path) -> None:
    samples = prototypes()[:, None].repeat(1, 6, 1, 1, 1)
    assert write_sheet(tmp_path / "samples.png", samples) == (3, 4)
    with PIL.Image.open(tmp_path / "samples.png") as picture:
        assert picture.size == (16, 12)
        assert picture.getpixel((0, 0)) == 223  # a pixel of a bright row
        assert picture.getpixel((15, 0)) == 223
        assert picture.getpixel((15, 4)) == 32


def curve(*rates: float | None) -> tuple[Point, ...]:
    places = ((1, 10), (25, 250))
    return tuple(
        Point(images=images, steps=steps, rate=rate)
        for (images, steps), rate in zip(places, rates, strict=False)
        if rate is not None
    )


FIRST, LAST = "1 image, 10 steps", "25 images, 250 steps"


@pytest.mark.parametrize(
    ("drawn", "kept", "recovered", "floor", "ceiling", "text", "at"),
    [
        # half-way from floor to ceiling is hidden
        ((0.0, 1.0), (1.0, 1.0), (0.1, 0.5), (0.1, 0.1), (0.2, 0.9), HIDDEN, LAST),
        ((0.0, 1.0), (1.0, 1.0), (0.1, 0.49), (0.1, 0.1), (0.2, 0.9), ERASED, LAST),
        ((0.0, 1.0), (1.0, 1.0), (0.1, 1.0), (0.1, 0.1), (0.2, 0.9), HIDDEN, LAST),
        ((0.0, 1.0), (1.0, 1.0), (0.1, 0.0), (0.1, 0.1), (0.2, 0.9), ERASED, LAST),
        # the strongest informative attack decides, not one that creates an unseen concept
        ((0.0, 1.0), (1.0, 1.0), (0.0, 0.6), (0.0, 0.1), (1.0, 0.9), HIDDEN, LAST),
        ((0.0, 1.0), (1.0, 1.0), (0.0, 1.0), (0.0, 0.98), (0.9, 1.0), ERASED, FIRST),
        (
            (0.1, 1.0), (1.0, 1.0), (1.0, 1.0), (0.95, 0.98), (1.0, 1.0),
            "the probe cannot tell: floor 0.95, ceiling 1.00", FIRST,
        ),
        # a concept that is still generated is not erased, whatever the attack shows
        ((0.21, 1.0), (1.0, 1.0), (0, 0), (0, 0), (1, 1), NOT_ERASED, None),
        ((0.19, 0.9), (1.0, 1.0), (0, 0), (0, 0), (1, 1), NOT_ERASED, None),
        ((0.2, 1.0), (1.0, 1.0), (0, 0), (0, 0), (1, 1), ERASED, None),
        ((0.0, 0.0), (1.0, 1.0), (0, 0), (0, 0), (1, 1), NOTHING_TO_ERASE, None),
        ((0.0, 1.0), (0.2, 1.0), (0, 0), (0, 0), (1, 1), BROKEN, None),
        # without a floor, or a point that all curves have
        ((0.0, 1.0), (1.0, 1.0), (1, 1), (), (1, 1), NO_FLOOR, "before the attack"),
        ((0.0, 1.0), (1.0, 1.0), (), (0, 0), (1, 1), NO_CURVE, None),
        ((0.0, 1.0), (1.0, 1.0), (None, 1), (0,), (1, 1), NO_CURVE, None),
        ((0.0, 1.0), (1.0, 1.0), (0, 1), (None, 0), (1, 1), HIDDEN, LAST),
    ],
)  # fmt: skip
def test_verdict_distinguishes_erased_hidden_and_unknown(
    drawn: tuple[float, float],
    kept: tuple[float, float],
    recovered: tuple[float | None, ...],
    floor: tuple[float | None, ...],
    ceiling: tuple[float | None, ...],
    text: str,
    at: str | None,
) -> None:
    judged = judge_erasure(drawn, kept, curve(*recovered), curve(*floor), curve(*ceiling))
    assert judged.text == text
    assert at in (None, judged.decided_at)


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


def test_row_is_mean_and_spread_of_a_method_over_seeds(tmp_path: Path) -> None:
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


def test_measurements_with_other_settings_are_no_repetitions(tmp_path: Path) -> None:
    tests = []
    for at, (seed, samples, ssim) in enumerate(((1, 16, 0.2), (2, 16, 0.4), (1, 64, 0.9))):
        tests.append(write(tmp_path, f"m{at}", "abo", seed, measures={"ssim": ssim}))
        settings: dict[str, Json] = {
            "samples": samples,
            "seed": seed,
            "classifier": f"shapes:all@seed={seed}",
        }
        folder = paths.output_folder(tmp_path, f"m{at}")
        write_json(folder / paths.OUTPUT_RECORD, {"settings": settings})
    few, many = table(tmp_path, tests)
    assert (few["method"], few["seeds"]) == ("abo (samples=16)", 2)
    assert few["ssim"] == pytest.approx(0.3)
    assert (many["method"], many["seeds"], many["ssim"]) == ("abo (samples=64)", 1, 0.9)


def test_verdict_of_several_seeds_uses_mean_curves(tmp_path: Path) -> None:
    tests = [
        write(tmp_path, "a", "abo", 1, recovery=points(0.0, 0.9)),
        write(tmp_path, "b", "abo", 2, recovery=points(0.0, 0.1)),
    ]
    (row,) = table(tmp_path, tests)
    assert row["recovery"] == pytest.approx(0.5)
    assert row["verdict"] == ERASED  # half-way would be .55


def test_seed_without_curve_is_excluded_from_the_mean(tmp_path: Path) -> None:
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


def test_teacher_is_first_row_and_retrained_model_is_last(tmp_path: Path) -> None:
    methods = ("retrain", "abo", "teacher", "abo@penalty=0")
    tests = [write(tmp_path, f"m{at}", name, 1) for at, name in enumerate(methods)]
    rows = table(tmp_path, tests)
    assert [row["method"] for row in rows] == ["teacher", "abo", "abo@penalty=0", "retrain"]


def test_record_without_floor_has_no_verdict_on_hidden_concepts(tmp_path: Path) -> None:
    (row,) = table(tmp_path, [write(tmp_path, "a", "abo", 1, recovery_floor=[])])
    assert row["recovery_floor"] is None
    assert row["verdict"] == NO_FLOOR


def test_record_without_rates_has_no_verdict(tmp_path: Path) -> None:
    (row,) = table(tmp_path, [write(tmp_path, "a", "abo", 1, measures={"erased": None})])
    assert row["erased"] is None
    assert (row["verdict"], row["verdict_at"]) == ("", "")


def test_missing_or_malformed_record_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"made/gone/metrics\.json"):
        table(tmp_path, [("", "gone")])
    write(tmp_path, "old", "abo", 1, schema=0)
    with pytest.raises(DataError, match=r"made/old/metrics\.json is not a record of schema 1"):
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
def test_method_title_contains_name_and_swept_settings(model: str, label: str) -> None:
    assert method_label(model, "classes:all") == label


def test_settings_in_teacher_id_do_not_belong_to_the_method() -> None:
    assert method_label("classes:all~uce@lr=0.1,width=8", "classes:all@width=8") == "uce@lr=0.1"
