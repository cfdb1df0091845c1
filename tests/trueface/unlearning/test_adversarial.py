"""Attacks by gradient: how far they go, where to, and that the closed form is the gradient."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from trueface.models.logits import as_multiclass_logits
from trueface.unlearning.adversarial import (
    AttackBatch,
    EpsilonSearchPGD,
    Range,
    margin,
    pgd_l2,
    pgd_linf,
    random_l2_init,
    range_of,
    runner_up_class,
    targeted_gradient,
    to_unit_float,
    untargeted_gradient,
    untargeted_linear_gradient,
)

EVERYWHERE = Range(-torch.inf, torch.inf)


def make_layer(classes: int) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(12, classes)


def draw_points() -> torch.Tensor:
    return torch.randn(20, 12, generator=torch.Generator().manual_seed(1))


def make_attack_case(classes: int = 4) -> tuple[nn.Linear, torch.Tensor, torch.Tensor]:
    """Return a layer, points, and its predictions."""
    layer, points = make_layer(classes), draw_points()
    return layer, points, predict_labels(layer, points)


def predict_labels(layer: nn.Module, points: torch.Tensor) -> torch.Tensor:
    return as_multiclass_logits(layer(points)).argmax(1).detach()


def test_bytes_become_fractions_and_other_inputs_are_unchanged() -> None:
    assert to_unit_float(torch.tensor([0, 255], dtype=torch.uint8)).tolist() == [0, 1]
    assert to_unit_float(torch.tensor([-3.0, 300.0])).tolist() == [-3, 300]


def test_range_covers_the_whole_dataset_for_any_batching() -> None:
    points = torch.linspace(-2.0, 3.0, 12)
    expected = Range(-2.0, 3.0)
    assert range_of([points]) == expected
    assert range_of(torch.split(points, 5)) == expected
    assert range_of(torch.split(points.flip(0), 1)) == expected


def test_likeliest_other_class_is_never_the_own_class() -> None:
    logits = torch.tensor([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0], [5.0, 5.0, 0.0]])
    assert runner_up_class(logits, torch.tensor([0, 2, 0])).tolist() == [1, 0, 1]


def test_margin_is_the_cross_entropy_before_its_softplus() -> None:
    logits, labels = torch.randn(9, 4), torch.arange(9) % 4
    expected = functional.cross_entropy(logits, labels, reduction="none")
    assert torch.allclose(functional.softplus(margin(logits, labels)), expected, atol=1e-5)


@pytest.mark.parametrize("classes", [1, 2, 5])
def test_closed_form_equals_the_gradient(classes: int) -> None:
    layer, points, labels = make_attack_case(classes)
    by_torch = untargeted_gradient(lambda some: as_multiclass_logits(layer(some)), labels)(points)
    assert torch.allclose(untargeted_linear_gradient(layer, labels)(points), by_torch, atol=1e-5)


def test_gradient_does_not_vanish_for_a_confident_model() -> None:
    layer, points = make_layer(3), 1e4 * draw_points()
    labels = predict_labels(layer, points)
    assert bool(untargeted_linear_gradient(layer, labels)(points).abs().sum(1).gt(0).all())


def test_ascent_stays_within_its_range_and_does_not_change_its_start() -> None:
    layer, points = make_layer(4), draw_points().abs()
    labels, before = predict_labels(layer, points), points.clone()
    within = Range(0.0, torch.inf)
    moved = pgd_linf(
        untargeted_linear_gradient(layer, labels), points, eps=5.0, steps=3, value_range=within
    )
    assert float(moved.min()) >= 0
    assert torch.equal(points, before)


def attack_in_batches(
    attack: EpsilonSearchPGD,
    layer: nn.Linear,
    points: torch.Tensor,
    labels: torch.Tensor,
    size: int,
) -> torch.Tensor:
    """Return the logits of points attacked in batches of a size."""

    def parts() -> Iterator[AttackBatch]:
        for rows in torch.split(torch.arange(len(points)), size):
            slope = untargeted_linear_gradient(layer, labels[rows])
            yield AttackBatch(rows, points[rows], labels[rows], slope, 1.0, EVERYWHERE)

    pairs = attack.attacked_logits(lambda some: as_multiclass_logits(layer(some)), parts)
    assert torch.equal(torch.cat([rows for rows, _ in pairs]), torch.arange(len(points)))
    return torch.cat([told for _, told in pairs])


def test_attack_grows_until_nearly_all_predictions_change() -> None:
    layer, points, labels = make_attack_case()
    attack = EpsilonSearchPGD(eps=0.001, max_eps=10.0, steps=5)
    told = attack_in_batches(attack, layer, points, labels, len(points))
    assert int((told.argmax(1) != labels).sum()) >= 0.95 * len(points)
    assert 0.001 < attack.eps < 10


def test_attack_of_a_fixed_size_does_not_grow() -> None:
    layer, points, labels = make_attack_case()
    attack = EpsilonSearchPGD(eps=1e-6, max_eps=1e-6, steps=5)
    told = attack_in_batches(attack, layer, points, labels, len(points))
    assert torch.equal(told.argmax(1), labels)
    assert attack.eps == 1e-6


def test_targeted_attack_reaches_its_targets_within_the_radius() -> None:
    layer, points = make_layer(4), draw_points()
    targets = (predict_labels(layer, points) + 1) % 4
    moved = pgd_l2(
        targeted_gradient(lambda some: as_multiclass_logits(layer(some)), targets),
        points,
        random_l2_init(points.shape, 6.0, torch.Generator().manual_seed(2)),
        radius=6.0,
        steps=20,
        value_range=EVERYWHERE,
    )
    assert torch.equal(predict_labels(layer, moved), targets)
    assert float((moved - points).norm(dim=1).max()) <= 6.0 + 1e-4


def test_each_step_of_an_ascent_is_a_fraction_of_the_radius_and_one_step_is_all_of_it() -> None:
    seen: list[float] = []

    def slope(points: Tensor) -> Tensor:
        seen.append(points.item())
        return torch.ones(1)

    ends = [
        pgd_linf(slope, torch.zeros(1), eps=0.8, steps=steps, value_range=EVERYWHERE).item()
        for steps in (5, 1)
    ]
    assert seen == pytest.approx([0, 0.4, 0.8, 0.8, 0.8, 0])
    assert ends == pytest.approx([0.8, 0.8])
