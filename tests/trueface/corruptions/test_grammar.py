"""How corruptions are written."""

import random
import re

import pytest

from trueface.corruptions.registry import (
    NONE,
    SPECS,
    CorruptionStep,
    canonical,
    described,
    missing_programs,
    modules_of,
    parse_steps,
    register_corruption,
)


def test_a_chain_is_read_in_the_order_in_which_it_is_written() -> None:
    assert parse_steps("jpeg50+blur1.5") == (
        CorruptionStep("jpeg", 50),
        CorruptionStep("blur", 1.5),
    )
    assert parse_steps("blur1.5+jpeg50") == (
        CorruptionStep("blur", 1.5),
        CorruptionStep("jpeg", 50),
    )


def test_none_is_no_step() -> None:
    assert parse_steps(NONE) == ()


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("jpeg050", "jpeg50"),
        ("blur1.0+noise2", "blur1+noise2"),
        ("share", "share"),
        ("none", "none"),
        ("raw", "none"),
        ("c23", "h264-23"),
        ("c40+jpeg50", "h264-40+jpeg50"),
        ("jpeg030-100", "jpeg30-100"),
        ("jpeg30-30", "jpeg30"),
        ("h264-20-30", "h264-20-30"),
    ],
)
def test_a_chain_has_one_spelling(text: str, stored: str) -> None:
    assert canonical(text) == stored
    assert canonical(stored) == stored


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("jpeg0", "jpeg0: quality is 1 to 100"),
        ("jpeg101", "jpeg101: quality is 1 to 100"),
        ("jpeg50.5", "quality is a whole number"),
        ("jpeg", "jpeg lacks its quality: write jpeg<1…100>"),
        ("blur0", "blur0: standard deviation in pixels is 0.1 to 20"),
        ("noise-3", "noise-3: standard deviation in grey levels is 0.1 to 128"),
        ("jpg50", "unknown corruption 'jpg', did you mean jpeg?"),
        ("JPEG50", "did you mean jpeg?"),
        ("share2", "share takes no number"),
        ("none+jpeg50", "none stands alone"),
        ("jpeg50+", "lacks a corruption"),
        ("", "lacks a corruption"),
        ("blur1e3", "write blur<0.1…20>"),
        ("+".join(["blur1"] * 9), "8 at most are taken"),
        ("raw+jpeg50", "raw stands alone"),
        ("jpeg100-30", "jpeg100-30: the range goes from 100 down to 30"),
        ("jpeg30-101", "quality is 1 to 100"),
        ("jpeg30-", "write jpeg<1…100>"),
        ("share1-2", "share takes no number"),
        ("h264-52", "rate factor is 0 to 51"),
        ("jpeg" + "9" * 400, "quality is 1 to 100"),
    ],
)
def test_what_is_no_chain_is_refused_with_its_reason(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        parse_steps(text)


@pytest.mark.parametrize("name", sorted(SPECS))
def test_the_ends_of_a_range_are_taken_and_written_as_they_are_read(name: str) -> None:
    spec = SPECS[name]
    for strength in {spec.low, spec.high} if spec.strength else {0.0}:
        text = str(CorruptionStep(name, strength))
        assert parse_steps(text) == (CorruptionStep(name, strength),)


def test_modules_are_those_of_the_kinds_that_a_chain_names() -> None:
    assert modules_of("none") == ()
    assert modules_of("jpeg50+blur1+jpeg30") == (
        "trueface.corruptions.kinds.codecs",
        "trueface.corruptions.kinds.filters",
    )


def test_a_range_is_drawn_from_evenly_and_says_so() -> None:
    (step,) = parse_steps("jpeg30-32")
    drawn = [step.drawn(random.Random(at)) for at in range(60)]
    assert set(drawn) == {30.0, 31.0, 32.0}
    (step,) = parse_steps("blur0.5-1")
    assert all(0.5 <= step.drawn(random.Random(at)) <= 1 for at in range(20))
    assert [parse_steps(text)[0].draws for text in ("jpeg30", "jpeg30-40", "noise3", "half")] == [
        False, True, True, False,
    ]  # fmt: skip


def test_a_chain_names_the_programs_that_are_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert missing_programs("jpeg50+half") == ()
    (reason,) = missing_programs("half+c23")
    assert reason.startswith("half+c23: h264 needs the program ffmpeg, which is not on the PATH")


def test_the_list_of_kinds_says_how_each_is_written() -> None:
    assert described().startswith("none, ")
    assert "jpeg<1…100>" in described()
    assert "share" in described()


@pytest.mark.parametrize("arguments", [{"low": 2, "high": 1, "strength": "x"}, {"high": 1}])
def test_a_range_that_makes_no_sense_is_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="range"):
        register_corruption("odd", summary="", **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["none", "raw", "jpeg2000", "JPEG", ""])
def test_a_name_that_the_grammar_cannot_read_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="lower-case letters"):
        register_corruption(name, summary="")
