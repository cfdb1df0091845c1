"""Cells of a benchmark and their conditions; the manifest names it by the content of its images."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from trueface.benchmark.cells import (
    CellScores,
    Entry,
    manifest_of,
    read_manifest,
    read_scores,
    write_manifest,
    write_scores,
)
from trueface.benchmark.conditions import Origin, contradiction, derive_setting, family_of, kinds_of
from trueface.predictions.predictions import Predictions
from trueface.runtime.errors import DataError

GAN1 = "gan1:pre realFFHQ:pre"


def entry(name: str, content: str = "pixels") -> Entry:
    sha256 = hashlib.sha256(content.encode()).hexdigest()
    return Entry(
        path=f"PreSocial/Fake/StyleGAN/{name}.png",
        key=f"StyleGAN/{name}",
        sha256=sha256,
        label=1,
        source="StyleGAN",
        modifier="pre",
    )


def test_name_ignores_the_order_of_images_but_not_one_byte() -> None:
    first, second = entry("a"), entry("b")
    name = manifest_of([first, second]).name
    assert len(name) == 12
    assert manifest_of([second, first, first]).name == name
    changed = manifest_of([first, entry("b", "pixelz")])
    assert changed.name != name
    assert manifest_of([first, second._replace(label=0)]).name != name


def test_versions_are_recorded_but_are_not_part_of_the_name(tmp_path: Path) -> None:
    plain, versioned = manifest_of([entry("a")]), manifest_of([entry("a")], {"pillow": "1"})
    assert plain.name == versioned.name
    path = tmp_path / "deep" / "manifest.json"
    write_manifest(path, versioned)
    assert read_manifest(path) == versioned


def test_image_that_changed_between_two_tests_is_rejected() -> None:
    with pytest.raises(DataError, match=r"Fake/StyleGAN/a.png changed between two tests"):
        manifest_of([entry("a"), entry("a", "other")])


@pytest.mark.parametrize(
    "break_it",
    [
        lambda record: record["images"][0].__setitem__(3, 0),
        lambda record: record.pop("images"),
        lambda record: record.__setitem__("schema", 99),
        lambda record: record["images"][0].append("more"),
    ],
)
def test_changed_manifest_is_rejected(tmp_path: Path, break_it) -> None:  # type: ignore[no-untyped-def]  # a lambda
    path = tmp_path / "manifest.json"
    write_manifest(path, manifest_of([entry("a")]))
    record = json.loads(path.read_text())
    break_it(record)
    path.write_text(json.dumps(record))
    with pytest.raises(DataError, match="manifest"):
        read_manifest(path)


def test_missing_manifest_is_an_error_with_advice(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Run the benchmark again"):
        read_manifest(tmp_path / "none.json")


@pytest.mark.parametrize("broken", ["logits", "before"])
def test_non_finite_logit_of_a_cell_is_named_with_its_image(tmp_path: Path, broken: str) -> None:
    good, bad = np.zeros(2), np.array([0.0, np.nan])
    cell = CellScores(
        predictions=Predictions.from_margin(
            bad if broken == "logits" else good,
            np.array([0, 1], np.int8),
            ids=("a.png", "b.png"),
        ),
        before=bad if broken == "before" else good,
    )
    write_scores(tmp_path / "cell.npz", cell, "identity")
    expected = r"cell\.npz: the logit nan of b\.png is not a finite number \(1 of 2 rows\)"
    with pytest.raises(DataError, match=expected):
        read_scores(tmp_path / "cell.npz")


def origin(words: str, *processing: str) -> Origin:
    parts = frozenset((part.split(":")[0], part.split(":")[1]) for part in words.split())
    return Origin(parts=parts, processing=frozenset(processing))


@pytest.mark.parametrize(
    ("trained", "tested", "corrupt", "expected"),
    [
        (GAN1, GAN1, "none", "white: training contains gan1, realFFHQ under pre"),
        (GAN1, "gan1:pre", "none", "white: training contains gan1 under pre"),
        (GAN1, "realFFHQ:pre", "none", "white: training contains realFFHQ under pre"),
        (f"{GAN1} gan2:pre", "gan1:pre gan2:pre", "none", "white: training contains gan1, gan2 under pre"),
        (GAN1, "gan2:pre realFFHQ:pre", "none", "grey: generator gan2 is not in training (gan1)"),
        (GAN1, "gan1:fb realFFHQ:fb", "none", "grey: modifier fb is not in training (pre)"),
        (GAN1, GAN1, "jpeg50", "grey: corruption jpeg50 is not in training"),
        (GAN1, "gan1:pre realRAISE:pre", "none",
         "grey: set of real images realRAISE is not in training (realFFHQ)"),
        ("gan1:pre gan2:fb", "gan1:fb", "none", "grey: gan1 under fb is not in training"),
        (GAN1, "gan2:fb realFFHQ:fb", "none",
         "black: generator gan2 is not in training (gan1); modifier fb is not in training (pre)"),
        (GAN1, "gan1:fb realFFHQ:fb", "jpeg50",
         "black: modifier fb is not in training (pre); corruption jpeg50 is not in training"),
        (GAN1, GAN1, "jpeg50+blur1",
         "black: corruption jpeg50 is not in training; corruption blur1 is not in training"),
        (GAN1, "gan2:pre gan3:pre", "none",
         "black: generator gan2 is not in training (gan1); generator gan3 is not in training (gan1)"),
        (GAN1, "sdXL:pre realFFHQ:pre", "none",
         "black: sdXL is not of the same family as the generators in training (gan1)"),
        (GAN1, "sdXL:pre realFFHQ:pre", "jpeg50",
         "black: sdXL is not of the same family as the generators in training (gan1)"),
        (GAN1, "fakeFlat:none realFlat:none", "none",
         "black: the origin of the images of fakeFlat, realFlat is unknown"),
        ("realFFHQ:pre", "gan1:pre", "none",
         "black: gan1 is not of the same family as the generators in training (none)"),
    ],
)  # fmt: skip
def test_tier_follows_from_what_is_new_to_the_model(
    trained: str, tested: str, corrupt: str, expected: str
) -> None:
    assert str(derive_setting(origin(trained), origin(tested), corrupt)) == expected


def test_corruption_used_in_training_copies_is_known_at_any_strength() -> None:
    trained = origin(GAN1, "jpeg", "blur")
    known = derive_setting(trained, origin(GAN1), "jpeg50+blur1")
    assert str(known) == "white: training contains gan1, realFFHQ under pre, with jpeg, blur"
    assert derive_setting(trained, origin(GAN1), "jpeg50+noise4").setting == "grey"


def test_flat_images_are_known_to_a_model_trained_on_flat_images() -> None:
    flat = origin("fakeFlat:none realFlat:none")
    assert derive_setting(flat, flat).setting == "white"


def test_wrong_declared_tier_is_rejected_with_the_reason() -> None:
    derived = derive_setting(origin(GAN1), origin("gan2:pre"))
    assert contradiction("auto", derived, "gan1:pre", "gan2:pre") == ""
    assert contradiction("grey", derived, "gan1:pre", "gan2:pre") == ""
    assert contradiction("black", derived, "gan1:pre", "gan2:pre") == (
        "setting: black is wrong for model gan1:pre on test gan2:pre, which is grey: generator gan2 is not in "
        "training (gan1). Write setting: auto, or remove this test."
    )


def test_families_and_kinds_are_read_from_names() -> None:
    assert [family_of(name) for name in ("gan2", "sdXL", "flux", "mine")] == [
        "gan",
        "sd",
        "flux",
        "mine",
    ]
    assert kinds_of("none") == ()
    assert kinds_of("jpeg50+resize0.5+share") == ("jpeg", "resize", "share")
