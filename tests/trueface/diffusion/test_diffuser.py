"""A diffuser's answers: of either prediction, guided, and where it knows none."""

from collections.abc import Callable

import pytest
import torch

from tests.trueface.diffusion.closed_forms import SIDE, drawn, gaussian, small
from trueface.diffusion.diffuser import ScheduleName, make_schedule
from trueface.runtime.errors import JobError, UnknownName


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


def test_an_answer_of_v_is_turned_into_the_noise() -> None:
    diffuser, clean, noise = small(prediction="v"), drawn(3, 1, 4, 4), drawn(3, 1, 4, 4, seed=1)
    schedule, t = diffuser.schedule, torch.tensor([5, 400, 990])
    noisy = schedule.noised(clean, t, noise)
    v = schedule.signal(t, clean) * noise - schedule.sigma(t, clean) * clean
    assert torch.allclose(diffuser.eps_of(v, noisy, t), noise, atol=1e-6)
    assert torch.equal(small().eps_of(v, noisy, t), v)


def test_guidance_goes_on_from_null_through_the_class() -> None:
    diffuser, x, t = small(), drawn(2, 1, SIDE, SIDE), torch.tensor([7, 500])
    named = diffuser.embed(torch.tensor([0, 2]))
    null, cross = diffuser.eps(x, t), diffuser.eps(x, t, named)
    assert torch.allclose(diffuser.guided(x, t, named, 3.0), null + 3 * (cross - null), atol=1e-5)
    assert torch.equal(diffuser.guided(x, t, named, 1.0), cross)
    assert torch.allclose(diffuser.guided(x, t, named, 0.0), null, atol=1e-6)
    assert not torch.allclose(null, cross)


def test_a_teacher_without_null_cannot_be_guided_but_answers_for_a_class() -> None:
    diffuser, x = small(has_null=False), drawn(1, 1, SIDE, SIDE)
    named = diffuser.embed(torch.tensor([1]))
    assert diffuser.guided(x, 5, named, 1.0).shape == x.shape
    refusals: tuple[Callable[[], torch.Tensor], ...] = (
        lambda: diffuser.guided(x, 5, named, 2.0),
        lambda: diffuser.eps(x, 5),
        lambda: diffuser.null(1),
        lambda: diffuser.embed(torch.tensor([3])),
    )
    for refused in refusals:
        with pytest.raises(JobError, match=r"drop: 0 and has no null token.*drop: 0\.1"):
            refused()


def test_a_step_beyond_those_that_were_trained_is_an_error_that_names_both() -> None:
    diffuser, x = gaussian(1.0, t_max=300), drawn(2, 1, SIDE, SIDE)
    assert diffuser.eps(x, 300).shape == x.shape
    with pytest.raises(JobError, match=r"step 301 of noise.*trained up to step 300"):
        diffuser.eps(x, 301)
    with pytest.raises(JobError, match="step 900"):
        diffuser.eps(x, torch.tensor([3, 900]))


def test_a_concept_is_known_by_name_and_its_misspelling_by_the_nearest() -> None:
    assert small().label("disc") == 1
    with pytest.raises(UnknownName, match="did you mean cross"):
        small().label("cros")
    with pytest.raises(JobError, match="knows no classes"):
        gaussian(1.0).embed(torch.tensor([0]))


def test_a_copy_has_weights_of_its_own() -> None:
    first = small()
    second = first.copy()
    with torch.no_grad():
        next(second.network.parameters()).add_(1)
    assert not torch.equal(next(first.network.parameters()), next(second.network.parameters()))
    assert second.schedule is first.schedule


def test_a_schedule_has_as_many_steps_as_are_trained() -> None:
    with pytest.raises(ValueError, match="t_max 1001"):
        gaussian(1.0, t_max=1001)
