"""The average of weights has the bits of torch's own, and those of the papers' formulas."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from trueface.runtime.moving_average import ExponentialMovingAverage

Ema = ExponentialMovingAverage[nn.Module]


def network() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 2))


def move(model: nn.Module, step: int) -> None:
    """Change weights and statistics as a step of a training does."""
    torch.manual_seed(step)
    model.train()
    model(torch.rand(6, 3, 4, 4))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape), alpha=0.1)


def torch_average(model: nn.Module, decay: float) -> AveragedModel:
    average: Callable[..., Any] = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
    return AveragedModel(model, multi_avg_fn=average, use_buffers=True)


def assert_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name
        assert value.dtype == other[name].dtype


@pytest.mark.parametrize("decay", [0.0, 0.3, 0.9, 0.999])
@pytest.mark.parametrize("frozen", [False, True])
def test_average_has_the_bits_and_the_state_of_torch(decay: float, frozen: bool) -> None:
    model = network()
    if frozen:
        model[0].requires_grad_(False)  # type: ignore[index]
    mine, theirs = (
        ExponentialMovingAverage(model, decay, begins_after_step=True, buffers=True),
        torch_average(model, decay),
    )
    for step in range(5):
        move(model, step)
        mine.update()
        theirs.update_parameters(model)
        assert_same(mine.state_dict(), theirs.state_dict())
    assert not mine.network.training
    assert not any(parameter.requires_grad for parameter in mine.network.parameters())
    assert all(parameter.requires_grad for parameter in model[3].parameters())  # type: ignore[index]


def test_state_of_torch_is_continued() -> None:
    model = network()
    whole, begun = (torch_average(model, 0.9) for _ in range(2))
    for step in range(3):
        move(model, step)
        whole.update_parameters(model)
        begun.update_parameters(model)
    mine = ExponentialMovingAverage(model, 0.9, begins_after_step=True, buffers=True)
    mine.load_state_dict(begun.state_dict())
    move(model, 3)
    mine.update()
    whole.update_parameters(model)
    assert mine.steps == 4
    assert_same(mine.state_dict(), whole.state_dict())


def test_rising_decay_follows_slower_over_time() -> None:
    model = network()
    average, last = (ExponentialMovingAverage(model, decay, rises=True) for decay in (0.9, 0.0))
    expected = [parameter.detach().clone() for parameter in model.parameters()]
    for step in range(1, 101):
        move(model, step)
        average.update()
        last.update()
        share = min(0.9, (1 + step) / (10 + step))
        for value, parameter in zip(expected, model.parameters(), strict=True):
            value.lerp_(parameter.detach(), 1 - share)
    for value, parameter in zip(expected, average.network.parameters(), strict=True):
        assert torch.equal(value, parameter)
    for value, parameter in zip(model.parameters(), last.network.parameters(), strict=True):
        assert torch.equal(value, parameter)
    statistics = average.network[1].running_mean  # type: ignore[index]
    assert torch.equal(statistics, torch.zeros(4))  # buffers stay


def test_initial_weights_keep_their_share() -> None:
    model = network()
    before = copy.deepcopy(model)
    average = ExponentialMovingAverage(model, 0.9)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    for _ in range(5):
        average.update()
    first, start = (next(each.parameters())[0].detach() for each in (average.network, before))
    torch.testing.assert_close(first, 0.9**5 * start)


def test_frozen_parameters_are_not_touched() -> None:
    model = network()
    model[0].requires_grad_(False)  # type: ignore[index]
    average = Ema(model, 0.9)
    version = next(average.network.parameters())._version
    move(model, 1)
    average.update()
    assert next(average.network.parameters())._version == version
