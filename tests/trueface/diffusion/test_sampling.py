"""Sampling, against networks whose answers are known."""

import threading

import pytest
import torch
from torch import Tensor

from tests.trueface.diffusion.closed_forms import SIDE, drawn, gaussian, small
from trueface.diffusion.diffuser import (
    ddim_invert,
    ddim_sample,
    ddim_step,
    make_schedule,
    reverse_chain,
    timesteps,
)
from trueface.runtime.errors import JobError

SPREAD = 0.5


@pytest.mark.parametrize("t", [1, 10, 300, 900])
def test_the_estimate_of_clean_images_is_the_posterior_mean_of_gaussian_images(t: int) -> None:
    diffuser, x = gaussian(SPREAD), drawn(5, 1, SIDE, SIDE)
    alpha_bar = float(diffuser.schedule.alpha_bar[t])
    variance = alpha_bar * SPREAD**2 + 1 - alpha_bar
    mean = alpha_bar**0.5 * SPREAD**2 / variance * x
    assert torch.allclose(diffuser.schedule.x0(x, t, diffuser.eps(x, t)), mean, atol=1e-5)


def test_the_reverse_chain_of_gaussian_images_has_the_closed_mean_and_variance() -> None:
    schedule = make_schedule("seed")
    diffuser, start = gaussian(SPREAD, schedule), 10
    x = torch.full((4000, 1, SIDE, SIDE), 0.7)
    generator = torch.Generator().manual_seed(3)
    result = reverse_chain(diffuser, x, start, lambda _: torch.randn(x.shape, generator=generator))
    mean, variance = 0.7, 0.0
    for t in range(start, 0, -1):
        beta, alpha_bar = float(schedule.betas[t]), float(schedule.alpha_bar[t])
        factor = (1 - beta / (alpha_bar * SPREAD**2 + 1 - alpha_bar)) / (1 - beta) ** 0.5
        mean, variance = factor * mean, factor**2 * variance + (beta if t > 1 else 0)
    error = (variance / result.numel()) ** 0.5
    assert float(result.mean()) == pytest.approx(mean, abs=5 * error)
    assert float(result.var()) == pytest.approx(variance, rel=0.05)
    still = reverse_chain(diffuser, x[:1], start, None)
    assert torch.allclose(still, torch.full_like(still, mean), atol=1e-6)


def test_the_reverse_chain_ends_when_its_job_is_stopped() -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(JobError, match="stopped before step 10 of 10"):
        reverse_chain(gaussian(1.0), drawn(1, 1, SIDE, SIDE), 10, None, stop=stop)


def test_steps_are_even_from_the_last_one_down() -> None:
    schedule = make_schedule("linear")
    assert timesteps(schedule, 4) == (1000, 750, 500, 250)
    assert timesteps(schedule, 3, 300) == (300, 200, 100)
    assert timesteps(schedule, 1000) == tuple(range(1000, 0, -1))
    with pytest.raises(JobError, match="301 sampling steps"):
        timesteps(schedule, 301, 300)


def test_a_step_by_the_true_noise_lands_on_the_image_of_the_other_step() -> None:
    schedule, clean, noise = make_schedule("linear"), drawn(2, 1, 4, 4), drawn(2, 1, 4, 4, seed=1)
    at = {t: schedule.noised(clean, t, noise) for t in (200, 700)}
    assert torch.allclose(ddim_step(schedule, at[700], noise, 700, 200), at[200], atol=1e-5)
    assert torch.allclose(ddim_step(schedule, at[200], noise, 200, 700), at[700], atol=1e-5)
    assert torch.allclose(ddim_step(schedule, at[200], noise, 200, 0), clean, atol=1e-5)


def test_ddim_gives_gaussian_images_their_spread() -> None:
    noise = drawn(2000, 1, SIDE, SIDE)
    made = ddim_sample(gaussian(SPREAD), noise, None, steps=100)
    assert float(made.std()) == pytest.approx(SPREAD, rel=0.05)


@pytest.mark.parametrize("conditional", [False, True])
def test_the_round_trip_of_inversion_and_sampling_is_nearer_with_more_steps(
    *, conditional: bool
) -> None:
    diffuser = small(size=SIDE) if conditional else gaussian(SPREAD)
    embedding = diffuser.embed(torch.tensor([0, 1])) if conditional else None
    images = drawn(2, 1, SIDE, SIDE).clamp(-1, 1) * SPREAD
    errors = []
    with torch.no_grad():
        for steps in (10, 50, 200):
            noise = ddim_invert(diffuser, images, embedding, steps=steps)
            back = ddim_sample(diffuser, noise, embedding, steps=steps)
            errors.append(float((back - images).square().mean().sqrt()))
    assert errors[0] > errors[1] > errors[2]


def test_a_trajectory_shows_the_images_before_each_step() -> None:
    noise, seen = drawn(2, 1, SIDE, SIDE), dict[int, Tensor]()
    ddim_sample(gaussian(SPREAD, t_max=300), noise, None, steps=3, through=seen.__setitem__)
    assert list(seen) == [300, 200, 100]
    assert torch.equal(seen[300], noise)


def test_guidance_of_nothing_is_an_error() -> None:
    with pytest.raises(JobError, match="give the class to sample"):
        ddim_sample(small(), drawn(1, 1, SIDE, SIDE), None, steps=2, guidance=2)
