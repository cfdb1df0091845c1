"""The two schedules, to the digit."""

import pytest
import torch

from tests.trueface.diffusion.closed_forms import drawn
from trueface.diffusion.schedule import ScheduleName, make_schedule


@pytest.mark.parametrize(
    ("name", "first_beta", "tenth"),
    [("linear", 1e-4, 0.9981052048), ("seed", 1.199e-4, 0.9978076660)],
)
def test_each_convention_has_its_own_noise_at_step_ten(
    name: ScheduleName, first_beta: float, tenth: float
) -> None:
    schedule = make_schedule(name)
    assert float(schedule.betas[1]) == pytest.approx(first_beta, abs=1e-15)
    assert float(schedule.betas[1000]) == pytest.approx(0.02, abs=1e-15)
    assert float(schedule.alpha_bar[10]) == pytest.approx(tenth, abs=5e-10)
    assert float(schedule.alpha_bar[0]) == 1
    assert schedule.alpha_bar.dtype == torch.float64
    assert len(schedule.alpha_bar) == len(schedule.betas) == 1001


def test_the_seeds_products_hold_a_beta_of_step_zero() -> None:
    schedule = make_schedule("seed")
    expected = (1 - 1e-4) * (1 - 1.199e-4) * (1 - 1.398e-4)
    assert float(schedule.alpha_bar[2]) == pytest.approx(expected, abs=1e-15)


def test_the_roots_of_a_scaled_schedule_are_even() -> None:
    schedule = make_schedule("scaled", 1000, 0.00085, 0.012)
    roots = schedule.betas[1:].sqrt()
    assert float(roots[0]) == pytest.approx(0.00085**0.5, abs=1e-12)
    assert torch.allclose(roots.diff(), roots.diff()[0].expand(999), atol=1e-12)
    assert float(schedule.alpha_bar[1000]) == pytest.approx(0.004660098, abs=1e-8)


def test_the_step_of_a_perturbation_is_the_one_whose_noise_is_as_large() -> None:
    levels = (0.02, 0.03, 0.04, 0.05, 0.08, 0.1)
    steps = {
        name: [make_schedule(name).nearest_t(level) for level in levels]
        for name in ("linear", "seed")
    }
    assert steps["seed"] == [2, 5, 8, 11, 20, 27]
    assert steps["linear"] == [3, 6, 9, 12, 21, 28]
    assert make_schedule("seed").nearest_t(0.0) == 1
    assert make_schedule("seed").nearest_t(9.0) == 1000


def test_the_clean_image_comes_back_from_the_noisy_one_and_its_noise() -> None:
    schedule, clean, noise = make_schedule("seed"), drawn(3, 1, 4, 4), drawn(3, 1, 4, 4, seed=1)
    t = torch.tensor([1, 300, 900])
    noisy = schedule.noised(clean, t, noise)
    assert torch.allclose(schedule.x0(noisy, t, noise), clean, atol=1e-4)
    assert torch.equal(noisy[1:2], schedule.noised(clean[1:2], 300, noise[1:2]))


@pytest.mark.parametrize("options", [{"steps": 0}, {"beta_start": 0.1}, {"beta_end": 1.0}])
def test_what_is_no_schedule_is_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="no schedule"):
        make_schedule("linear", **options)  # type: ignore[arg-type]  # of both types
