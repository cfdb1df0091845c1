"""How purifiers are written."""

import re
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trueface.purification.registry import (
    SPECS,
    canonical,
    described,
    modules_of,
    parse_purifier,
    refuse_untrained,
    register_purifier,
)

METHODS = {
    "none", "ddpm", "ddpmmean", "oneshot", "ensemble", "smooth", "spin", "diffpure", "dae", "blur",
    "jpeg", "median", "tv",
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "stored", "label", "needs"),
    [
        ("none", "none", "none", ()),
        ("ddpm010", "ddpm10", "ddpm@10", ("diffuser",)),
        ("ddpm", "ddpm", "ddpm", ("diffuser",)),
        ("blur1.50", "blur1.5", "blur@1.5", ()),
        ("oneshot20x2", "oneshot20x2", "oneshot@20x2", ("diffuser",)),
        ("oneshotx1", "oneshot", "oneshot", ("diffuser",)),
        ("jpeg75+oneshot10", "jpeg75+oneshot10", "jpeg@75+oneshot@10", ("diffuser",)),
        ("dae+oneshot5", "dae+oneshot5", "dae+oneshot@5", ("denoiser", "diffuser")),
        ("daex2", "daex2", "daex2", ("denoiser",)),
    ],
)
def test_a_purifier_is_stored_in_one_way(
    text: str, stored: str, label: str, needs: tuple[str, ...]
) -> None:
    name = parse_purifier(text)
    assert (name.text, name.label(), name.needs) == (stored, label, needs)
    assert canonical(stored) == stored


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("jepg75", "unknown purifier 'jepg', did you mean jpeg?"),
        ("jpeg0", "jpeg0: quality is 1 to 100"),
        ("jpeg101", "jpeg101: quality is 1 to 100"),
        ("jpeg75.5", "jpeg75.5: quality is a whole number"),
        ("jpeg", "jpeg lacks its quality: write jpeg<1…100>"),
        ("ddpm0", "ddpm0: step t is 1 to 1000"),
        ("ddpm-5", "ddpm-5: step t is 1 to 1000"),
        ("ddpm10.5", "ddpm10.5: step t is a whole number"),
        ("median4", "median4: side in pixels is an odd number"),
        ("dae5", "dae5: dae takes no number"),
        ("none+jpeg75", "none+jpeg75: none stands alone"),
        ("nonex2", "nonex2: none is applied once"),
        ("jpeg75+", "'jpeg75+' lacks a purifier"),
        ("", "'' lacks a purifier"),
        ("jpeg75x0", "jpeg75x0: it is applied 1 to 9 times"),
        ("jpeg75 50", "'jpeg75 50' is no purifier: write jpeg<1…100>"),
        ("+".join(["jpeg75"] * 5), "5 purifiers in one, and 4 at most are taken"),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_reason(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        parse_purifier(text)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["jpeg75", "ddpm", "oneshot20", "blur0.6", "dae", "tv0.03", "median3"]),
            st.integers(1, 9),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_what_is_written_is_read_again(steps: list[tuple[str, int]]) -> None:
    text = "+".join(f"{step}x{times}" for step, times in steps)
    name = parse_purifier(text)
    assert parse_purifier(name.text) == name


def test_the_methods_are_found_by_their_files() -> None:
    assert set(SPECS) == METHODS
    assert described().startswith("none, blur<0.1…20>, dae, ddpm, ddpm<1…1000>")
    assert modules_of("jpeg75+oneshot10x2+jpeg50") == (
        "trueface.purification.methods.filters",
        "trueface.purification.methods.estimates",
    )


def test_a_purifier_says_how_an_attack_differentiates_and_whether_it_draws() -> None:
    assert parse_purifier("oneshot10+tv0.03+blur1+dae").is_exact
    assert not parse_purifier("oneshot10+jpeg75").is_exact
    assert parse_purifier("oneshot10+smooth10").draws
    assert not parse_purifier("oneshot10+ddpmmean10+jpeg75").draws


def test_steps_beyond_what_was_trained_are_refused_with_both_numbers() -> None:
    reason = refuse_untrained(parse_purifier("jpeg75+diffpure300"), 200, "images:A")
    assert reason.startswith(
        "jpeg75+diffpure300: t 300 is beyond the 200 that images:A was trained for"
    )
    assert "t 30 is beyond" in refuse_untrained(parse_purifier("ensemble20"), 29, "images:A")
    for text, t_max in (("ddpm10", 10), ("ddpm", 5), ("jpeg75", 5)):
        assert refuse_untrained(parse_purifier(text), t_max, "images:A") == ""


@pytest.mark.parametrize("name", ["jpeg2", "JPEG", "j-peg", ""])
def test_a_method_is_called_by_small_letters(name: str) -> None:
    with pytest.raises(ValueError, match="is called by lower-case letters"):
        register_purifier(name, summary="")


def test_a_range_needs_a_number() -> None:
    with pytest.raises(ValueError, match="1 to 2 is the range of no number"):
        register_purifier("soap", summary="", low=1, high=2)


def test_names_are_read_without_torch() -> None:
    code = (
        "import sys; from trueface.purification.registry import PurifySettings as S;"
        "S(source='x', purifier='jpeg75+oneshot10'); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
