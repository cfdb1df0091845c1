"""A step has the bits of its parts written out, and is refused before weights are spoilt."""

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.nn.utils import clip_grad_norm_
from torch.optim import SGD

from trueface.runtime.gradient_step import GradientStep, Quantity, set_lr
from trueface.runtime.moving_average import ExponentialMovingAverage


class Refused(Exception):
    """The error of a training."""


def refused(quantity: Quantity, value: float) -> Refused:
    return Refused(f"{quantity} {value}")


def network() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))


def loss_of(model: nn.Module, factor: float = 1.0) -> Tensor:
    inputs = torch.rand(5, 4, generator=torch.Generator().manual_seed(2))
    loss: Tensor = factor * model(inputs).square().mean()
    return loss


def sgd(model: nn.Module) -> SGD:
    return SGD(model.parameters(), lr=0.1, momentum=0.9)


def same(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return all(torch.equal(first, second) for first, second in pairs)


@pytest.mark.parametrize("clip", [0.0, 0.01, 100.0])
@pytest.mark.parametrize("checked", [False, True])
def test_step_has_the_bits_of_its_parts(clip: float, checked: bool) -> None:
    model, other = network(), network()
    optimizer = sgd(other)
    step = GradientStep(sgd(model), clip=clip, nonfinite=refused if checked else None)
    for _ in range(3):
        expected = loss_of(other)
        optimizer.zero_grad()
        expected.backward()  # type: ignore[no-untyped-call]  # torch
        clip_grad_norm_(other.parameters(), clip or math.inf)
        optimizer.step()
        assert step(loss_of(model)) == expected.item()
        assert same(model, other)


def infinite_slope(model: nn.Module) -> Tensor:
    """Return a loss of 0 whose gradient is too long for its norm."""
    weight = next(model.parameters())
    return ((weight - weight.detach()) * 3e38).sum()


def test_unchecked_step_returns_what_it_read() -> None:
    model = network()
    assert math.isnan(GradientStep(sgd(model))(loss_of(model, math.nan)))


def test_step_without_loss_checks_the_gradients() -> None:
    model = network()
    step = GradientStep(sgd(model), nonfinite=refused)
    step.backward(loss_of(model, math.nan))  # the mean of no sample is not a number
    with pytest.raises(Refused, match=r"^norm nan$"):
        step.apply()
    step.backward(loss_of(model))
    assert step.apply() == 0


def test_checked_gradients_can_be_changed_before_the_step() -> None:
    model = network()
    before = copy.deepcopy(model)
    step = GradientStep(sgd(model), nonfinite=refused)
    loss = loss_of(model)
    step.backward(loss)
    assert step.check(loss) == loss.item()
    for parameter in model.parameters():
        assert parameter.grad is not None
        parameter.grad.zero_()
    step.optimizer.step()
    assert same(model, before)


def test_device_is_read_once_per_step(monkeypatch: pytest.MonkeyPatch) -> None:
    reads = list[str]()

    def counted(name: str) -> Any:
        plain = getattr(Tensor, name)

        def read(self: Tensor, *given: Any) -> Any:
            reads.append(name)
            return plain(self, *given)

        return read

    for name in ("item", "tolist", "__float__", "__bool__"):
        monkeypatch.setattr(Tensor, name, counted(name))
    for options in ({"nonfinite": refused, "clip": 1.0}, {"clip": 1.0}, {}):
        model = network()
        step = GradientStep(sgd(model), **options)
        reads.clear()
        step(loss_of(model))
        assert len(reads) == 1, options


def test_average_follows_each_step() -> None:
    model = network()
    average = ExponentialMovingAverage(model, 0.5)
    step = GradientStep(sgd(model), average=average)
    start = next(model.parameters()).detach().clone()
    step(loss_of(model))
    middle = (start + next(model.parameters()).detach()) / 2
    torch.testing.assert_close(next(average.network.parameters()), middle)


def test_steps_that_fp16_leaves_out_end_with_too_small_a_scale() -> None:
    model = network()
    before = copy.deepcopy(model)
    scaler = GradScaler("cpu", init_scale=2.0)
    step = GradientStep(sgd(model), nonfinite=refused, scaler=scaler)
    step(infinite_slope(model))
    assert same(model, before)
    assert scaler.get_scale() == 1.0
    step(2 * infinite_slope(model))
    assert scaler.get_scale() == 0.5
    with pytest.raises(Refused, match=r"^scale 0\.5$"):
        step(loss_of(model))
    disabled = GradientStep(sgd(model), scaler=GradScaler("cpu", enabled=False))
    assert disabled(loss_of(model)) == loss_of(before).item()


def test_learning_rate_is_set_for_all_groups() -> None:
    model = network()
    optimizer = SGD([{"params": [each]} for each in model.parameters()], lr=0.1)
    set_lr(optimizer, 0.01)
    assert {group["lr"] for group in optimizer.param_groups} == {0.01}
