"""How much features depend on each other: HSIC in its three forms."""

import pytest
import torch
from torch import Tensor

from trueface.training.qualities.dependence import (
    FORMS,
    between,
    cca,
    gram,
    normalised,
    pairs,
    plain,
    shuffled,
)

ITEMS = 24


def features(seed: int, width: int = 6, items: int = ITEMS) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.randn(items, width, dtype=torch.float64, generator=random)


def grams(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    return gram(first), gram(second)


def test_the_plain_form_is_the_trace_of_its_definition() -> None:
    this, other = grams(features(0), features(1))
    centre = torch.eye(ITEMS, dtype=torch.float64) - 1 / ITEMS
    trace = torch.trace(this @ centre @ other @ centre) / (ITEMS - 1) ** 2
    assert abs(plain(this, other) - trace) <= 1e-9


def test_the_cca_form_is_the_trace_with_one_sided_centring_as_its_public_code_has_it() -> None:
    this, other = grams(features(0), features(1))
    eye = torch.eye(ITEMS, dtype=torch.float64)
    halves = [each @ (eye - 1 / ITEMS) for each in (this, other)]
    first, second = (half @ torch.linalg.inv(half + 1e-5 * ITEMS * eye) for half in halves)
    assert abs(cca(this, other) - torch.trace(first @ second)) <= 1e-6


@pytest.mark.parametrize("name", FORMS)
def test_every_form_is_symmetric_and_not_below_0_and_blind_to_the_order_of_items(name: str) -> None:
    form, order = FORMS[name], torch.randperm(ITEMS, generator=torch.Generator().manual_seed(3))
    this, other = grams(features(0), features(1))
    value = form(this, other)
    assert value >= 0
    assert abs(form(other, this) - value) <= 1e-9
    permuted = form(*grams(features(0)[order], features(1)[order]))
    assert abs(permuted - value) <= 1e-9


def test_turning_the_features_changes_nothing() -> None:
    turn, _ = torch.linalg.qr(features(7, width=6, items=6))
    value = normalised(*grams(features(0), features(1)))
    assert abs(normalised(*grams(features(0) @ turn, features(1))) - value) <= 1e-9


def test_features_depend_on_themselves_wholly_and_constant_ones_on_nothing() -> None:
    same = gram(features(0))
    assert abs(normalised(same, same) - 1) <= 1e-12
    flat = gram(torch.ones(ITEMS, 3, requires_grad=True))
    assert normalised(flat, same) == 0


@pytest.mark.parametrize("name", FORMS)
def test_gradients_are_those_of_finite_differences(name: str) -> None:
    other = gram(features(1, items=5))

    def value(moved: Tensor) -> Tensor:
        return FORMS[name](gram(moved, 2.0), other)

    moved = features(0, items=5).requires_grad_()
    assert torch.autograd.gradcheck(value, moved, eps=1e-6, atol=1e-6)


def test_independent_features_are_near_their_shuffled_baseline_and_copies_far_above() -> None:
    apart = [gram(features(seed)) for seed in (0, 1)]
    # the diagonal alone makes the measure large
    assert normalised(*apart) > 0.2
    assert abs(normalised(*apart) - shuffled(apart)) < 0.05
    alike = [apart[0], gram(features(0) + 0.1 * features(2))]
    assert normalised(*alike) > shuffled(alike) + 0.3


@pytest.mark.parametrize("name", FORMS)
def test_a_sum_over_pairs_does_not_depend_on_the_order_of_qualities(name: str) -> None:
    three = [gram(features(seed)) for seed in range(3)]
    expected = sum(
        FORMS[name](three[this], three[other]) for this, other in ((0, 1), (0, 2), (1, 2))
    )
    assert abs(between(name, three) - expected) <= 1e-9
    assert abs(between(name, three[::-1]) - expected) <= 1e-9
    assert pairs(3) == 3


def test_published_widths_make_the_kernel_say_nothing() -> None:
    wide = features(0, width=2048).abs()
    # sigma 6 alone: all items are infinitely far apart; with dim they are all alike
    assert torch.allclose(gram(wide, 6.0), torch.eye(ITEMS, dtype=torch.float64), atol=1e-6)
    assert gram(wide, "dim").min() > 0.9
    assert 0.5 < gram(wide, "median").median() < 0.7
