from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trueface.unlearning.applicability import Situation, unusable
from trueface.unlearning.registry import METHODS


def why_not(method: str, goal: Any = "flips", **facts: Any) -> str:
    return unusable(method, Situation(goal=goal, **facts)) or ""


def test_nothing_known_by_name_leaves_nothing_to_forget() -> None:
    for rate in (0.2, 0.5):
        assert "not one flipped label is known" in why_not("scrub", rate=rate, known=0)


def test_half_of_all_labels_wrong_and_unknown_cannot_be_found() -> None:
    assert "50% of the labels" in why_not("relabel", rate=0.5, known=0, finding=True)
    assert not why_not("relabel", rate=0.5, known=0.5, finding=True)  # a third is left
    assert not why_not("relabel", rate=0.2, known=0, finding=True)


def test_a_layer_attack_on_two_classes_is_refused() -> None:
    for goal in ("flips", "class", "instances"):
        assert "of two classes" in why_not("lau", goal, classes=2)
    for method in ("rl", "shrink", "retrain"):
        assert "of two classes one would be left" in why_not(method, "class", classes=2)
    assert "only relabel" in why_not("lau", "flips")
    assert "forget nothing" in why_not("lau", "instances")
    assert not why_not("lau", "class", classes=3)


def test_projection_against_random_flips_is_refused_and_against_a_patch_is_not() -> None:
    assert "hardly any of its step is left" in why_not("pgu", rate=0.2)
    assert not why_not("pgu", rate=0.2, random=False)
    assert not why_not("pgu", "class", classes=10)


@pytest.mark.parametrize("method", ["relabel", "corrected"])
def test_putting_labels_right_needs_wrong_ones(method: str) -> None:
    assert "no label is flipped" in why_not(method, "class", classes=3)


@pytest.mark.parametrize(
    "method", sorted(name for name, method in METHODS.items() if "retain set" in method.needs)
)
def test_a_method_that_reads_what_is_kept_says_so(method: str) -> None:
    assert "given none" in why_not(method, "class", classes=3, retain=False)


def test_a_method_that_needs_true_labels_says_so() -> None:
    assert "true labels" in why_not("relabel", true=False)


@given(
    st.floats(0.01, 1), st.floats(0, 1), st.sampled_from(sorted(METHODS)),
    st.sampled_from(["flips", "class", "instances"]), st.booleans(), st.integers(2, 100),
)  # fmt: skip
def test_a_share_of_hidden_wrong_labels_stays_a_share(
    rate: float, known: float, method: str, goal: Any, finding: bool, classes: int
) -> None:
    situation = Situation(goal=goal, rate=rate, known=known, finding=finding, classes=classes)
    assert 0 <= situation.hidden <= 1
    reason = unusable(method, situation)
    assert reason is None or (reason and reason == reason.strip() and not reason.endswith("."))
