"""Bands of a spectrum, what is learned on top of them, and local statistics."""

import pytest
import torch

from trueface.models.architectures.f3net import Decomposition, LocalStatistics
from trueface.models.detectors import build, teach

torch.set_num_threads(1)


@torch.no_grad()
def unlearned(module: Decomposition | LocalStatistics) -> Decomposition | LocalStatistics:
    module.filters.learned.zero_()
    return module


@pytest.mark.parametrize("size", [(64, 64), (40, 72)])
def test_the_three_parts_of_an_image_add_up_to_it_and_the_fourth_is_the_image(
    size: tuple[int, int],
) -> None:
    images = torch.rand(2, 3, *size)
    with torch.no_grad():
        parts = unlearned(Decomposition())(images).unflatten(1, (4, 3))
    torch.testing.assert_close(parts[:, :3].sum(1), images, rtol=0, atol=1e-4)
    torch.testing.assert_close(parts[:, 3], images, rtol=0, atol=1e-4)


def test_the_first_part_is_a_16th_of_the_spectrum_the_second_as_much_and_the_third_the_rest() -> (
    None
):
    filters = unlearned(Decomposition()).filters(256, 256)
    shares = filters.detach().mean((1, 2)).tolist()
    assert shares == pytest.approx([1 / 16, 1 / 16, 7 / 8, 1], abs=2e-3)


def test_what_is_learned_changes_a_band_by_less_than_one() -> None:
    module = Decomposition()
    with torch.no_grad():
        module.filters.learned.fill_(2.0)
        filters = module.filters(48, 48)
    sigma = (1 - torch.tensor(-2.0).exp()) / (1 + torch.tensor(-2.0).exp())
    torch.testing.assert_close(filters.amin((1, 2)), sigma * torch.ones(4) + torch.eye(4)[3])
    torch.testing.assert_close(filters.amax((1, 2)), sigma + torch.ones(4))


def test_local_statistics_are_log10_amplitudes_of_bands_in_windows() -> None:
    place = (torch.arange(64) + 0.5) * torch.pi
    # frequency 9 of a window of 10 along rows alone: in the third of six bands, and in no other
    wave = torch.cos(place * 9 / 10).expand(1, 3, 64, 64)
    with torch.no_grad():
        statistics = unlearned(LocalStatistics())(wave)
    assert statistics.shape == (1, 6, 32, 32)
    inside = statistics[0, :, 5:-5, 5:-5].mean((1, 2))
    assert inside.argmax() == 2
    assert (inside[2] - inside[[0, 1, 3, 4, 5]].max()) > 1


def test_every_parameter_learns_and_gradients_reach_the_pixels_of_an_image_of_one_colour() -> None:
    model = build("f3net", weights="none", seed=1)
    teach(model, fixed_statistics=False)
    model(torch.rand(4, 3, 32, 32)).sum().backward()
    assert all(
        parameter.grad is not None and parameter.grad.abs().max() > 0
        for parameter in model.parameters()
    )
    images = torch.full((1, 3, 32, 32), 0.5, requires_grad=True)
    model.eval()(images).sum().backward()
    assert images.grad is not None
    assert images.grad.isfinite().all()


def test_half_precision_does_not_reach_the_transforms() -> None:
    model = build("f3net", weights="none", seed=1)
    seen = list[torch.Tensor]()
    for name in ("parts", "amplitudes"):
        model.network.get_submodule(name).register_forward_pre_hook(
            lambda _, inputs: seen.append(inputs[0])
        )
    images = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        model(images)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            model(images)
    assert torch.equal(seen[0], seen[2])
    assert torch.equal(seen[1], seen[3])
