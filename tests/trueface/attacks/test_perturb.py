"""Attacks are read from their names, stay within their budget, and do what they say to detectors of which the answer is known."""

import hashlib
import re

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from trueface.attacks.perturb import TOWARDS_FAKE, TOWARDS_REAL, Target, apply_attack
from trueface.attacks.registry import (
    NONE,
    SPECS,
    Attack,
    canonical,
    describe_choices,
    parse_attack,
    plugin_modules,
    register_attack,
)

SIDE = 8
NAMES = ("a", "b", "c", "d")


class Linear(nn.Module):
    """A detector whose gradient is known: the mean of the image, each pixel with its own sign."""

    def __init__(self) -> None:
        super().__init__()
        rng = torch.Generator().manual_seed(0)
        signs = torch.randint(0, 2, (3, SIDE, SIDE), generator=rng) * 2.0 - 1
        self.signs = nn.Parameter(signs)

    def forward(self, pixels: Tensor) -> Tensor:
        return (pixels * self.signs).flatten(1).mean(1, keepdim=True)


@pytest.fixture
def pixels() -> Tensor:
    rng = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (4, 3, SIDE, SIDE), generator=rng, dtype=torch.uint8)
    images[0, :, :4], images[0, :, 4:] = 0, 255  # on both borders
    return images


def attack_image(pixels: Tensor, name: str, budget: int, direction: float = TOWARDS_REAL) -> Tensor:
    return apply_attack(
        pixels,
        NAMES[: len(pixels)],
        Attack(name, budget),
        Target(Linear(), "cpu"),
        directions=torch.full((len(pixels),), direction),
        queries=20,
    )


@pytest.mark.parametrize("name", sorted(SPECS))
@pytest.mark.parametrize("budget", [1, 2, 7])
def test_no_level_changes_beyond_budget_or_range(name: str, budget: int, pixels: Tensor) -> None:
    after = attack_image(pixels, name, budget)
    assert after.dtype == torch.uint8
    moved = (after.int() - pixels.int()).abs()
    assert 0 < moved.max() <= budget


@pytest.mark.parametrize("name", sorted(SPECS))
def test_zero_budget_changes_nothing(name: str, pixels: Tensor) -> None:
    assert torch.equal(attack_image(pixels, name, 0), pixels)


@pytest.mark.parametrize("name", ["fgsm", "pgd", "transfer"])
@pytest.mark.parametrize("direction", [TOWARDS_REAL, TOWARDS_FAKE])
def test_gradient_attack_on_linear_detector_finds_worst_image(
    name: str, direction: float, pixels: Tensor
) -> None:
    signs = Linear().signs.detach() * direction
    worst = (pixels.float() + 3 * signs).clamp(0, 255).to(torch.uint8)
    assert torch.equal(attack_image(pixels, name, 3, direction), worst)


def test_random_signs_change_every_level_within_range_by_whole_budget(pixels: Tensor) -> None:
    moved = (attack_image(pixels, "random", 2).int() - pixels.int()).abs()
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
def test_square_attack_stays_within_query_limit(queries: int, pixels: Tensor) -> None:
    model = Counting()
    target = Target(model, "cpu")
    directions = torch.full((4,), TOWARDS_REAL)
    apply_attack(pixels, NAMES, Attack("square", 2), target, directions=directions, queries=queries)
    assert model.images == target.queries == 4 * queries


def test_square_attack_stops_for_misclassified_images(pixels: Tensor) -> None:
    model = Counting()
    directions = torch.full((4,), TOWARDS_FAKE)
    apply_attack(
        pixels, NAMES, Attack("square", 2), Target(model, "cpu"), directions=directions, queries=30
    )
    assert model.images == 4


@pytest.mark.parametrize(("threshold", "asked"), [(0.0, 30), (2.0, 1)])
def test_square_attack_uses_decision_threshold_of_detector(
    threshold: float, asked: int, pixels: Tensor
) -> None:
    target = Target(Counting(), "cpu", threshold)  # its logit is 1
    directions = torch.full((4,), TOWARDS_REAL)
    apply_attack(pixels, NAMES, Attack("square", 2), target, directions=directions, queries=30)
    assert target.queries == 4 * asked


class Mirrored(nn.Module):
    """A detector whose gradient at a pixel is its mirror image, and changes with the steps."""

    def forward(self, pixels: Tensor) -> Tensor:
        centred = pixels - 0.5
        return (centred * centred.flip(-1)).flatten(1).mean(1, keepdim=True)


def pgd_reference(images: NDArray[np.float32], name: str, budget: int) -> NDArray[np.float32]:
    """Return PGD of A. Madry et al., section 2.1, against `Mirrored`, called real, in NumPy."""
    seed = int.from_bytes(hashlib.sha256(f"attack/pgd/{name}".encode()).digest()[:8]) >> 1
    noise = torch.rand(images.shape, generator=torch.Generator().manual_seed(seed)).numpy()
    low, high = np.maximum(images - budget, 0), np.minimum(images + budget, 255)
    moved = np.clip(images + budget * (2 * noise - 1), low, high)
    for _ in range(10):
        signs = np.sign(moved[..., ::-1] - np.float32(127.5))
        moved = np.clip(moved - np.float32(budget / 4) * signs, low, high)
    rounded: NDArray[np.float32] = np.rint(moved)
    return rounded


def test_pgd_matches_the_paper(pixels: Tensor) -> None:
    directions = torch.full((4,), TOWARDS_REAL)
    after = apply_attack(
        pixels, NAMES, Attack("pgd", 6), Target(Mirrored(), "cpu"), directions=directions
    )
    images = pixels.numpy().astype(np.float32)
    expected = np.stack([pgd_reference(*each, 6) for each in zip(images, NAMES, strict=True)])
    assert (after.numpy() != expected).mean() < 0.005  # rounding of a half may go either way
    assert (expected != images).mean() > 0.5


def test_empty_batch_is_not_attacked(pixels: Tensor) -> None:
    assert attack_image(pixels[:0], "pgd", 2).shape == (0, 3, SIDE, SIDE)


def test_attack_has_kind_and_budget_in_grey_levels() -> None:
    assert parse_attack("pgd2") == Attack("pgd", 2)
    assert parse_attack(NONE) is None
    assert canonical("fgsm04") == "fgsm4"
    assert canonical(NONE) == NONE


@pytest.mark.parametrize("name", sorted(SPECS))
def test_every_attack_accepts_budgets_from_zero_to_maximum(name: str) -> None:
    assert parse_attack(f"{name}0") == Attack(name, 0)
    assert str(Attack(name, 16)) == canonical(f"{name}16")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pdg2", "Did you mean 'pgd'?"),
        ("PGD2", "Did you mean 'pgd'?"),
        ("pgd", "'pgd': the budget is missing. Write pgd<0…16>"),
        ("pgd-1", "pgd-1: expected a budget of 0 to 16 grey levels"),
        ("pgd17", "pgd17: expected a budget of 0 to 16 grey levels"),
        ("pgd0.5", "pgd0.5: expected a whole number for the budget. Write pgd<0…16>"),
        ("pgd2+fgsm1", "the budget is missing"),
        ("", "unknown attack ''"),
    ],
)
def test_invalid_attack_is_refused_with_reason(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        parse_attack(text)


def test_control_of_attack_has_same_budget_and_its_code_is_hashed() -> None:
    assert Attack("square", 3).control == Attack("random", 3)
    assert plugin_modules("fgsm2") == (
        "trueface.attacks.kinds.gradients",
        "trueface.attacks.kinds.random",
    )
    assert plugin_modules("random2") == ("trueface.attacks.kinds.random",)
    assert plugin_modules(NONE) == ()
    assert "fgsm<0…16>" in describe_choices()


@pytest.mark.parametrize("arguments", [("none", "full"), ("pgd2", "full"), ("odd", "some")])
def test_invalid_attack_declaration_is_refused(arguments: tuple[str, str]) -> None:
    name, access = arguments
    with pytest.raises(ValueError, match=name):
        register_attack(name, summary="", access=access)  # type: ignore[arg-type]
