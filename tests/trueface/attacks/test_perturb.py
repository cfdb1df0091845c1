"""Attacks stay within their budget, and do what they say to detectors of which the answer is known."""

import pytest
import torch
from torch import Tensor, nn

from trueface.attacks.grammar import Attack
from trueface.attacks.perturb import TOWARDS_FAKE, TOWARDS_REAL, perturbed
from trueface.attacks.registry import SPECS
from trueface.attacks.target import Target

SIDE = 8
NAMES = ("a", "b", "c", "d")


class Linear(nn.Module):
    """A detector whose gradient is known: the mean of the image, each pixel with its own sign."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        signs = torch.randint(0, 2, (3, SIDE, SIDE), generator=generator) * 2.0 - 1
        self.signs = nn.Parameter(signs)

    def forward(self, pixels: Tensor) -> Tensor:
        return (pixels * self.signs).flatten(1).mean(1, keepdim=True)


@pytest.fixture
def pixels() -> Tensor:
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (4, 3, SIDE, SIDE), generator=generator, dtype=torch.uint8)
    images[0, :, :4], images[0, :, 4:] = 0, 255  # on both borders
    return images


def attacked(pixels: Tensor, name: str, budget: int, direction: float = TOWARDS_REAL) -> Tensor:
    return perturbed(
        pixels,
        NAMES[: len(pixels)],
        Attack(name, budget),
        Target(Linear(), "cpu"),
        directions=torch.full((len(pixels),), direction),
        queries=20,
    )


@pytest.mark.parametrize("name", sorted(SPECS))
@pytest.mark.parametrize("budget", [1, 2, 7])
def test_no_level_moves_further_than_the_budget_nor_leaves_its_range(
    name: str, budget: int, pixels: Tensor
) -> None:
    after = attacked(pixels, name, budget)
    assert after.dtype == torch.uint8
    moved = (after.int() - pixels.int()).abs()
    assert 0 < moved.max() <= budget


@pytest.mark.parametrize("name", sorted(SPECS))
def test_a_budget_of_nothing_changes_nothing(name: str, pixels: Tensor) -> None:
    assert torch.equal(attacked(pixels, name, 0), pixels)


@pytest.mark.parametrize("name", sorted(SPECS))
def test_an_image_is_attacked_alike_whatever_the_batch(name: str, pixels: Tensor) -> None:
    together = attacked(pixels, name, 2)
    alone = attacked(pixels[:1], name, 2)
    assert torch.equal(together[0], alone[0])


@pytest.mark.parametrize("name", ["fgsm", "pgd", "transfer"])
@pytest.mark.parametrize("direction", [TOWARDS_REAL, TOWARDS_FAKE])
def test_gradients_of_a_linear_detector_lead_to_the_worst_image(
    name: str, direction: float, pixels: Tensor
) -> None:
    signs = Linear().signs.detach() * direction
    worst = (pixels.float() + 3 * signs).clamp(0, 255).to(torch.uint8)
    assert torch.equal(attacked(pixels, name, 3, direction), worst)


def test_random_signs_move_every_level_that_can_move_by_the_whole_budget(pixels: Tensor) -> None:
    moved = (attacked(pixels, "random", 2).int() - pixels.int()).abs()
    inner = (pixels >= 2) & (pixels <= 253)
    assert set(moved[inner].tolist()) == {2}


class Counting(nn.Module):
    """A detector that never changes its mind, and counts."""

    def __init__(self) -> None:
        super().__init__()
        self.images = 0

    def forward(self, pixels: Tensor) -> Tensor:
        self.images += len(pixels)
        return torch.ones(len(pixels), 1)


@pytest.mark.parametrize("queries", [1, 2, 30])
def test_the_square_attack_asks_no_more_often_than_it_may(queries: int, pixels: Tensor) -> None:
    model = Counting()
    target = Target(model, "cpu")
    directions = torch.full((4,), TOWARDS_REAL)
    perturbed(pixels, NAMES, Attack("square", 2), target, directions=directions, queries=queries)
    assert model.images == target.queries == 4 * queries


def test_the_square_attack_stops_for_images_that_have_turned(pixels: Tensor) -> None:
    model = Counting()
    directions = torch.full((4,), TOWARDS_FAKE)
    perturbed(
        pixels, NAMES, Attack("square", 2), Target(model, "cpu"), directions=directions, queries=30
    )
    assert model.images == 4


def test_the_square_attack_gains_on_its_first_try(pixels: Tensor) -> None:
    model = Linear()

    def logits(images: Tensor) -> Tensor:
        with torch.no_grad():
            return model(images.float() / 255)  # type: ignore[no-any-return]  # torch

    def best(queries: int) -> Tensor:
        return perturbed(
            pixels,
            NAMES,
            Attack("square", 8),
            Target(model, "cpu"),
            directions=torch.full((4,), TOWARDS_FAKE),
            queries=queries,
        )

    model.signs.data -= 1  # always called real
    assert (logits(best(60)) >= logits(best(1))).all()
    assert logits(best(60)).sum() > logits(best(1)).sum()


def test_no_image_is_attacked_where_there_is_none(pixels: Tensor) -> None:
    assert attacked(pixels[:0], "pgd", 2).shape == (0, 3, SIDE, SIDE)
