from pathlib import Path

import pytest
import torch
from torch.optim import SGD, Adam, AdamW, Optimizer

from trueface.models.detectors import Detector, build, freeze
from trueface.runtime.errors import CheckpointError
from trueface.training import optimizer_state
from trueface.training.optimizer_state import Kept

torch.set_num_threads(1)


def a_model(seed: int = 1) -> Detector:
    return build("slim18", weights="none", seed=seed)


def stepped(model: Detector, optimizer: Optimizer, steps: int = 3) -> None:
    for step in range(steps):
        for parameter in model.parameters():
            random = torch.Generator().manual_seed(step)
            parameter.grad = torch.randn(parameter.shape, generator=random)
        optimizer.step()


def an_adam(model: Detector, lr: float = 1e-3) -> Adam:
    return Adam([one for one in model.parameters() if one.requires_grad], lr=lr)


def test_an_optimizer_goes_on_as_if_it_had_never_stopped(tmp_path: Path) -> None:
    straight, broken = a_model(), a_model()
    one, first = an_adam(straight), an_adam(broken)
    stepped(straight, one, 3)
    stepped(broken, first, 3)
    optimizer_state.save(
        tmp_path / "deep/optimizer.pt", Kept(epoch=2, state=optimizer_state.copy_of(broken, first))
    )
    kept = optimizer_state.load(tmp_path / "deep/optimizer.pt")
    second = an_adam(broken)
    assert kept.epoch == 2
    assert optimizer_state.give(broken, second, kept.state) == len(list(broken.parameters()))
    stepped(straight, one, 2)
    stepped(broken, second, 2)
    for parameter, other in zip(straight.parameters(), broken.parameters(), strict=True):
        assert torch.equal(parameter, other)


def test_the_learning_rate_and_weight_decay_stay_the_new_ones() -> None:
    model = a_model()
    before = AdamW(model.parameters(), lr=0.5, weight_decay=0.3)
    stepped(model, before)
    after = AdamW(model.parameters(), lr=1e-5, weight_decay=0.01)
    optimizer_state.give(model, after, optimizer_state.copy_of(model, before))
    assert [(group["lr"], group["weight_decay"]) for group in after.param_groups] == [(1e-5, 0.01)]


def test_parameters_that_were_not_trained_before_start_afresh() -> None:
    frozen = a_model()
    freeze(frozen)
    before = an_adam(frozen)
    stepped(frozen, before)
    whole = a_model(2)
    after = an_adam(whole)
    assert optimizer_state.give(whole, after, optimizer_state.copy_of(frozen, before)) == 2
    known = {name for name, one in whole.network.named_parameters() if after.state.get(one)}
    assert known == {"fc.weight", "fc.bias"}


def test_parameters_that_do_not_learn_now_get_nothing() -> None:
    model = a_model()
    before = an_adam(model)
    stepped(model, before)
    freeze(model)
    after = an_adam(model)
    assert optimizer_state.give(model, after, optimizer_state.copy_of(model, before)) == 2


def test_moments_of_another_shape_are_left_out() -> None:
    model = a_model()
    before = an_adam(model)
    stepped(model, before)
    state = dict(optimizer_state.copy_of(model, before))
    state["fc.weight"] = {**state["fc.weight"], "exp_avg": torch.zeros(3)}
    after = an_adam(model)
    assert optimizer_state.give(model, after, state) == len(state) - 1
    assert not after.state.get(model.network.get_parameter("fc.weight"))


def test_an_optimizer_without_such_moments_has_nothing_to_give() -> None:
    model = a_model()
    other = SGD(model.parameters(), lr=0.1)
    stepped(model, other)
    after = an_adam(model)
    assert optimizer_state.give(model, after, optimizer_state.copy_of(model, other)) == 0


def test_momentum_goes_on_where_the_optimizer_is_sgd_again() -> None:
    straight, broken = a_model(), a_model()
    steady, first = (SGD(model.parameters(), lr=0.1, momentum=0.9) for model in (straight, broken))
    stepped(straight, steady, 2)
    stepped(broken, first, 2)
    second = SGD(broken.parameters(), lr=0.1, momentum=0.9)
    state = optimizer_state.copy_of(broken, first)
    assert optimizer_state.give(broken, second, state) == len(state)
    stepped(straight, steady, 1)
    stepped(broken, second, 1)
    for parameter, other in zip(straight.parameters(), broken.parameters(), strict=True):
        assert torch.equal(parameter, other)
    assert optimizer_state.give(broken, an_adam(broken), state) == 0


def test_a_state_that_is_not_there_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="with save_optimizer"):
        optimizer_state.load(tmp_path / "optimizer.pt")


@pytest.mark.parametrize("content", [b"", b"garbage", b"PK\x03\x04"])
def test_a_broken_state_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "optimizer.pt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="cannot be read safely"):
        optimizer_state.load(path)


def test_another_file_of_tensors_is_refused(tmp_path: Path) -> None:
    torch.save({"state": {}}, tmp_path / "optimizer.pt")
    with pytest.raises(CheckpointError, match="is no optimizer's state of schema 1"):
        optimizer_state.load(tmp_path / "optimizer.pt")
