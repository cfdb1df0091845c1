"""A diffuser's answers: of either prediction, guided, and where it knows none."""

from collections.abc import Callable

import pytest
import torch

from tests.trueface.diffusion.closed_forms import SIDE, drawn, gaussian, small
from trueface.runtime.errors import JobError, UnknownName


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
