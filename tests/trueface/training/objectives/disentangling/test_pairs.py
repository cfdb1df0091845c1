"""Pairs of a batch, their reconstruction and their contrast, on numbers that can be added by hand."""

from types import SimpleNamespace
from typing import Any, cast

import torch
from torch import Tensor

from trueface.training.objectives.disentangling.contrast import contrast, permuted_within, triplet
from trueface.training.objectives.disentangling.pairs import Pairs, reconstruction

PAIRS = Pairs(real=torch.tensor([0]), fake=torch.tensor([1]))


def test_of_unequal_halves_the_first_of_each_class_are_paired() -> None:
    pairs = Pairs.of(torch.tensor([1.0, 0, 1, 1, 0, 1]))
    assert [each.tolist() for each in pairs] == [[1, 4], [0, 2]]
    assert [len(each) for each in Pairs.of(torch.ones(3))] == [0, 0]


def test_each_image_of_a_pair_is_drawn_with_its_own_forgery_and_with_the_others() -> None:
    def of_forgery(forgery: Tensor, content: Tensor, size: tuple[int, int]) -> Tensor:
        return (forgery + content).expand(-1, 3, *size)

    def maps(real: float, fake: float) -> Tensor:
        return torch.tensor([real, fake]).view(2, 1, 1, 1)

    content = maps(0.0, 0.5)
    parts = SimpleNamespace(forgery=maps(0.1, 0.3), content_maps=lambda chosen: content[chosen])
    images = maps(0.0, 0.5).expand(2, 3, 2, 2)
    network = SimpleNamespace(decoder=of_forgery)
    loss = reconstruction(cast(Any, network), cast(Any, parts), images, PAIRS)
    # own forgery .1 and .3, that of the other .3 and .1
    torch.testing.assert_close(loss, torch.tensor(0.8))


def test_a_triplet_costs_what_its_positive_is_farther_off_than_its_negative_plus_three() -> None:
    anchor, positive = torch.tensor([[0.0, 0.0]]), torch.tensor([[3.0, 4.0]])
    torch.testing.assert_close(
        triplet(anchor, positive, torch.tensor([[0.0, 6.0]])), torch.tensor(2.0), rtol=0, atol=1e-5
    )
    assert triplet(anchor, positive, torch.tensor([[0.0, 9.0]])) == 0


def test_a_permutation_leaves_every_place_its_kind() -> None:
    torch.manual_seed(0)
    kinds = torch.tensor([0, 2, 1, 0, 2, 0, 5])
    drawn = [permuted_within(kinds) for _ in range(20)]
    assert all(torch.equal(kinds[each], kinds) for each in drawn)
    assert all(each.sort().values.tolist() == list(range(7)) for each in drawn)
    assert len({tuple(each.tolist()) for each in drawn}) > 1


def test_classes_that_lie_apart_have_no_contrast_loss_and_equal_ones_have_three_each() -> None:
    labels, types = torch.tensor([0, 1, 0, 1]), torch.tensor([0, 3, 0, 3])
    pairs = Pairs.of(labels)
    apart = 10.0 * labels[:, None].repeat(1, 2)
    assert contrast(apart, apart, types, pairs) == 0
    torch.testing.assert_close(contrast(0 * apart, 0 * apart, types, pairs), torch.tensor(12.0))
    torch.testing.assert_close(contrast(apart, 0 * apart, types, pairs), torch.tensor(6.0))
