"""CVaR against its definition, over images, over groups, and smoothed."""

import pytest
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from trueface.training.cells import (
    bilevel_cvar,
    cvar,
    cvar_weights,
    group_cvar,
)

ALPHAS = (0.1, 0.5, 0.9, 1.0)


def losses_of(count: int, seed: int = 0) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return 3 * torch.rand(count, generator=rng, dtype=torch.float64)


def minimum_by_search(losses: Tensor, alpha: float) -> float:
    """Return the minimum over the threshold: it is at one of the losses."""
    excess = (losses[None, :] - losses[:, None]).clamp(min=0).mean(1)
    return float((losses + excess / alpha).min())


@pytest.mark.parametrize("alpha", ALPHAS)
def test_cvar_is_minimum_of_its_definition_for_every_number_of_losses(alpha: float) -> None:
    for count in range(1, 65):
        losses = losses_of(count, seed=count)
        assert float(cvar(losses, alpha)) == pytest.approx(
            minimum_by_search(losses, alpha), abs=1e-9
        )


def test_cvar_limits_are_mean_and_maximum() -> None:
    losses = losses_of(10)
    torch.testing.assert_close(cvar(losses, 1.0), losses.mean())
    torch.testing.assert_close(cvar(losses, 1e-9), losses.max())


def test_equal_losses_count_in_their_order() -> None:
    assert cvar_weights(torch.ones(4), 0.5).tolist() == [0.5, 0.5, 0.0, 0.0]


def test_cvar_is_computed_per_group_and_absent_groups_are_ignored() -> None:
    losses, groups = losses_of(11), torch.tensor([0, 2, 2, 0, 2, 2, 3, 0, 0, 2, 0])
    values, present = group_cvar(losses, groups, 0.7, count=6)
    assert present.tolist() == [True, False, True, True, False, False]
    for group in (0, 2, 3):
        torch.testing.assert_close(values[group], cvar(losses[groups == group], 0.7))
    outer = bilevel_cvar(losses, groups, alpha_in=0.7, alpha_out=0.5, count=6)
    torch.testing.assert_close(outer, cvar(values[present], 0.5))


def smoothed(values: Tensor, alpha: float, smooth: float, ridge: float) -> float:
    """Return the minimum over the threshold by a search."""

    def at(threshold: float) -> float:
        above = torch.nn.functional.softplus((values - threshold) / smooth, threshold=500).mean()
        return float(threshold + ridge / (2 * alpha) * threshold**2 + smooth * above / alpha)

    bounds = float(values.min()) - 9 * smooth, float(values.max()) + 9 * smooth
    least = minimize_scalar(at, bounds=bounds, method="bounded", options={"xatol": 1e-10})
    return float(least.fun)


@pytest.mark.parametrize(("smooth", "ridge"), [(0.001, 1e-4), (0.1, 1e-4), (0.1, 0.3), (1.0, 0.0)])
@pytest.mark.parametrize("alpha", [0.3, 0.5, 0.9])
def test_smoothed_minimum_matches_search(alpha: float, smooth: float, ridge: float) -> None:
    for seed in range(5):
        losses = losses_of(8, seed)
        value = bilevel_cvar(
            losses, torch.arange(8), alpha_out=alpha, smooth=smooth, ridge=ridge, count=9
        )
        assert float(value) == pytest.approx(smoothed(losses, alpha, smooth, ridge), abs=1e-6)


def test_gradient_is_that_of_smoothed_minimum() -> None:
    losses, groups = losses_of(6).requires_grad_(), torch.tensor([0, 0, 1, 1, 1, 2])
    assert torch.autograd.gradcheck(
        lambda values: bilevel_cvar(
            values, groups, alpha_in=0.9, alpha_out=0.5, smooth=0.1, ridge=0.2, count=3
        ),
        (losses,),
    )


@pytest.mark.parametrize("alpha", [0.5, 1.0])
def test_losses_in_thousands_do_not_overflow(alpha: float) -> None:
    losses = torch.tensor([1e3, 0.0, 5e3, 2.0], requires_grad=True)
    loss = bilevel_cvar(losses, torch.arange(4), alpha_out=alpha, smooth=1e-3, ridge=1e-4)
    assert loss.isfinite()
    assert torch.autograd.grad(loss, losses)[0].isfinite().all()


def test_invalid_share_is_refused() -> None:
    for alpha in (0.0, 1.5):
        with pytest.raises(ValueError, match="alpha must be greater than 0 and at most 1"):
            cvar(losses_of(3), alpha)
