"""What a forgery changes of a face, and that nothing but its generator decides it."""

import numpy as np
import pytest

from tests.trueface.data.forging.build import a_face
from trueface.data.forging.blending import (
    Floats,
    forged,
    jittered,
    mask,
    matched,
    to_rgb,
    to_ycc,
)
from trueface.data.forging.registry import SPECS, Part, canonical_types, parse_types
from trueface.runtime.errors import UnknownName
from trueface.runtime.rng import stream

FACE, DONOR = a_face(1, 64), a_face(2, 64)


@pytest.mark.parametrize("name", SPECS)
def test_a_type_changes_the_middle_and_leaves_the_corners(name: str) -> None:
    for number in range(5):
        made = forged(FACE, DONOR, SPECS[name], stream(number))
        assert made.shape == FACE.shape
        assert made.dtype == np.uint8
        for rows in (slice(0, 4), slice(-4, None)):
            for columns in (slice(0, 4), slice(-4, None)):
                assert np.array_equal(made[rows, columns], FACE[rows, columns])
        assert not np.array_equal(made[16:56, 16:48], FACE[16:56, 16:48])


@pytest.mark.parametrize("name", SPECS)
def test_the_same_stream_gives_the_same_bytes_and_another_gives_others(name: str) -> None:
    before = FACE.copy()
    first, again, other = (forged(FACE, DONOR, SPECS[name], stream(word)) for word in "aab")
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert np.array_equal(FACE, before)


def test_more_strength_moves_a_face_further_from_itself() -> None:
    for name in ("self", "mouth", "soft"):
        distances = [
            np.mean(
                [
                    np.abs(
                        forged(FACE, None, SPECS[name], stream(n), strength) - FACE.astype(float)
                    )
                    for n in range(8)
                ]
            )
            for strength in (0.5, 1.0, 2.0)
        ]
        assert distances == sorted(distances)


def test_a_type_that_needs_a_donor_says_so_where_there_is_none() -> None:
    with pytest.raises(ValueError, match="swap needs a donor"):
        forged(FACE, None, SPECS["swap"], stream(1))
    with pytest.raises(ValueError, match="eyes needs a donor of the form"):
        forged(FACE, a_face(2, 32), SPECS["eyes"], stream(1))


@pytest.mark.parametrize(("part", "full", "empty"), [("mouth", 0.75, 0.45), ("eyes", 0.4, 0.75)])
def test_a_mask_covers_its_part_of_the_face(part: Part, full: float, empty: float) -> None:
    shares = mask(part, 100, 80, stream(3))
    assert shares.shape == (100, 80)
    assert shares.min() >= 0
    assert shares.max() <= 1
    assert shares[int(100 * full), 40] == 1
    assert shares[int(100 * empty), 40] == 0
    assert len(np.unique(shares)) > 20  # a soft edge


def test_colours_survive_the_way_through_luma_and_chroma() -> None:
    pixels = FACE.astype(np.float32)
    assert np.abs(to_rgb(*to_ycc(pixels)) - pixels).max() < 0.01


def test_a_matched_source_has_the_colours_of_the_face() -> None:
    face, donor = (each.astype(np.float32) for each in (FACE, DONOR))
    weight: Floats = np.ones(FACE.shape[:2], np.float32)
    before, after = (
        np.abs(each.mean((0, 1)) - face.mean((0, 1))).max()
        for each in (donor, matched(donor, face, weight, stream(1), 0.0))
    )
    assert after < before / 4


def test_types_are_written_in_several_ways() -> None:
    assert [spec.name for spec in parse_types("1-5")] == ["self", "swap", "mouth", "eyes", "soft"]
    assert canonical_types("soft, 1,swap,2") == "1,2,5"
    assert canonical_types("2,3,1") == "1-3"
    with pytest.raises(UnknownName, match="mouth"):
        parse_types("moth")
    with pytest.raises(UnknownName, match="6"):
        parse_types("1-6")
    with pytest.raises(ValueError, match="from 3 down to 1"):
        parse_types("3-1")


def test_colours_of_a_jittered_source_stay_within_their_bounds() -> None:
    source = np.random.default_rng(0).choice([0, 255], (8, 8, 3)).astype(np.float32)
    extremes = []
    for seed in range(20):
        made = jittered(source, np.random.default_rng(seed), 1.0)
        extremes += [float(made.min()), float(made.max())]
    assert (min(extremes), max(extremes)) == (0, 255)
    grey = np.full((2, 2), 250, np.float32)
    assert to_rgb(grey, grey, -grey).max() == 255
    assert to_rgb(grey, grey, -grey).min() == 0
