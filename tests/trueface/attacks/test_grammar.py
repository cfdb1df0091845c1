"""How attacks are written."""

import re

import pytest

from trueface.attacks.registry import (
    NONE,
    SPECS,
    Attack,
    canonical,
    described,
    modules_of,
    parse_attack,
    register_attack,
)


def test_an_attack_is_a_kind_and_a_budget_in_grey_levels() -> None:
    assert parse_attack("pgd2") == Attack("pgd", 2)
    assert parse_attack(NONE) is None
    assert canonical("fgsm04") == "fgsm4"
    assert canonical(NONE) == NONE


@pytest.mark.parametrize("name", sorted(SPECS))
def test_every_kind_takes_each_budget_from_nothing_to_the_largest(name: str) -> None:
    assert parse_attack(f"{name}0") == Attack(name, 0)
    assert str(Attack(name, 16)) == canonical(f"{name}16")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pdg2", "unknown attack 'pdg', did you mean pgd?"),
        ("PGD2", "unknown attack 'PGD', did you mean pgd?"),
        ("pgd", "'pgd' lacks a budget: write pgd<0…16>"),
        ("pgd-1", "pgd-1: the budget is 0 to 16 grey levels"),
        ("pgd17", "pgd17: the budget is 0 to 16 grey levels"),
        ("pgd0.5", "pgd0.5: attacked images are saved in whole grey levels"),
        ("pgd2+fgsm1", "lacks a budget"),
        ("", "unknown attack ''"),
    ],
)
def test_what_is_no_attack_is_refused_with_its_reason(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        parse_attack(text)


def test_the_control_of_an_attack_has_its_budget_and_its_code_counts_too() -> None:
    assert Attack("square", 3).control == Attack("random", 3)
    assert modules_of("fgsm2") == (
        "trueface.attacks.kinds.gradients",
        "trueface.attacks.kinds.random",
    )
    assert modules_of("random2") == ("trueface.attacks.kinds.random",)
    assert modules_of(NONE) == ()
    assert "fgsm<0…16>" in described()


@pytest.mark.parametrize("arguments", [("none", "full"), ("pgd2", "full"), ("odd", "some")])
def test_a_declaration_that_makes_no_sense_is_refused(arguments: tuple[str, str]) -> None:
    name, access = arguments
    with pytest.raises(ValueError, match=name):
        register_attack(name, summary="", access=access)  # type: ignore[arg-type]
