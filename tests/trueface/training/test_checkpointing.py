"""Trainings report their epochs, and write what they report as TensorBoard's event files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.optim import SGD, Adam, AdamW, Optimizer

from launcher.workers.progress.event_files import read_event_steps
from tests.trueface.training.test_resume import interrupt, run
from tests.trueface.training.test_trainer import COUNT, settings, tiny
from trueface.models.detectors import Detector, freeze_backbone
from trueface.runtime import paths
from trueface.runtime.errors import CheckpointError
from trueface.runtime.progress import RunContext
from trueface.training import checkpointing, optimizer_state

torch.set_num_threads(1)


def run_steps(model: Detector, optimizer: Optimizer, steps: int = 3) -> None:
    for step in range(steps):
        for parameter in model.parameters():
            rng = torch.Generator().manual_seed(step)
            parameter.grad = torch.randn(parameter.shape, generator=rng)
        optimizer.step()


def an_adam(model: Detector, lr: float = 1e-3) -> Adam:
    return Adam([one for one in model.parameters() if one.requires_grad], lr=lr)


def test_learning_rate_and_weight_decay_keep_new_values() -> None:
    model = tiny()
    before = AdamW(model.parameters(), lr=0.5, weight_decay=0.3)
    run_steps(model, before)
    after = AdamW(model.parameters(), lr=1e-5, weight_decay=0.01)
    optimizer_state.load_optimizer_state_dict(
        model, after, optimizer_state.optimizer_state_dict(model, before)
    )
    assert [(group["lr"], group["weight_decay"]) for group in after.param_groups] == [(1e-5, 0.01)]


def test_previously_frozen_parameters_start_with_empty_state() -> None:
    frozen = tiny()
    freeze_backbone(frozen)
    before = an_adam(frozen)
    run_steps(frozen, before)
    whole = tiny()
    after = an_adam(whole)
    assert (
        optimizer_state.load_optimizer_state_dict(
            whole, after, optimizer_state.optimizer_state_dict(frozen, before)
        )
        == 2
    )
    known = {name for name, one in whole.network.named_parameters() if after.state.get(one)}
    assert known == {"fc.weight", "fc.bias"}


def test_frozen_parameters_get_no_state() -> None:
    model = tiny()
    before = an_adam(model)
    run_steps(model, before)
    freeze_backbone(model)
    after = an_adam(model)
    assert (
        optimizer_state.load_optimizer_state_dict(
            model, after, optimizer_state.optimizer_state_dict(model, before)
        )
        == 2
    )


def test_moments_of_other_shape_are_dropped() -> None:
    model = tiny()
    before = an_adam(model)
    run_steps(model, before)
    state = dict(optimizer_state.optimizer_state_dict(model, before))
    state["fc.weight"] = {**state["fc.weight"], "exp_avg": torch.zeros(3)}
    after = an_adam(model)
    assert optimizer_state.load_optimizer_state_dict(model, after, state) == len(state) - 1
    assert not after.state.get(model.network.get_parameter("fc.weight"))


def test_optimizer_without_moments_has_no_state_to_store() -> None:
    model = tiny()
    other = SGD(model.parameters(), lr=0.1)
    run_steps(model, other)
    after = an_adam(model)
    assert (
        optimizer_state.load_optimizer_state_dict(
            model, after, optimizer_state.optimizer_state_dict(model, other)
        )
        == 0
    )


def test_momentum_is_restored_if_optimizer_is_sgd() -> None:
    straight, broken = tiny(), tiny()
    steady, first = (SGD(model.parameters(), lr=0.1, momentum=0.9) for model in (straight, broken))
    run_steps(straight, steady, 2)
    run_steps(broken, first, 2)
    second = SGD(broken.parameters(), lr=0.1, momentum=0.9)
    state = optimizer_state.optimizer_state_dict(broken, first)
    assert optimizer_state.load_optimizer_state_dict(broken, second, state) == len(state)
    run_steps(straight, steady, 1)
    run_steps(broken, second, 1)
    for parameter, other in zip(straight.parameters(), broken.parameters(), strict=True):
        assert torch.equal(parameter, other)
    assert optimizer_state.load_optimizer_state_dict(broken, an_adam(broken), state) == 0


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "with save_optimizer"),
        (b"", "cannot be read safely"),
        (b"garbage", "cannot be read safely"),
        (b"PK\x03\x04", "cannot be read safely"),
        ({"state": {}}, "is not an optimizer state of schema 1"),
    ],
)
def test_invalid_or_missing_state_is_refused(tmp_path: Path, content: object, said: str) -> None:
    path = tmp_path / "optimizer.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(CheckpointError, match=said):
        optimizer_state.load_optimizer(path)


torch.set_num_threads(1)  # two that wait for each other under load are slower

NUMBERS = ["accuracy", "epoch", "images_per_s", "loss", "lr", "val_accuracy", "val_loss"]


def events(folder: Path) -> Mapping[str, list[tuple[int, float]]]:
    """Return the events that TensorBoard reads."""
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator"
    ).EventAccumulator(str(paths.event_files(folder)))
    accumulator.Reload()
    return {
        tag: [(event.step, event.value) for event in accumulator.Scalars(tag)]
        for tag in sorted(accumulator.Tags()["scalars"])
    }


def test_each_epoch_is_reported_with_its_validation(tmp_path: Path) -> None:
    reports: list[dict[str, Any]] = []
    watch = RunContext(progress=lambda **numbers: reports.append(numbers))
    _, done = run(tmp_path, settings(num_epochs=3), watch=watch)
    ends = [report for report in reports if "val_loss" in report]
    assert [report["epoch"] for report in ends] == [1, 2, 3]
    assert [report["step"] for report in ends] == [COUNT, 2 * COUNT, 3 * COUNT]
    assert {report["total"] for report in reports} == {3 * COUNT}
    assert [report["val_accuracy"] for report in ends] == [e.val_accuracy for e in done.epochs]
    assert [report["loss"] for report in ends] == [epoch.loss for epoch in done.epochs]
    assert {report["epoch"] for report in reports if "val_loss" not in report} <= {1, 2, 3}


def test_tensorboard_reads_written_event_files(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    reports: list[dict[str, Any]] = []
    watch = RunContext(progress=lambda **numbers: reports.append(numbers))
    _, done = run(tmp_path, settings(num_epochs=3, tensorboard=True), watch=watch)
    read = events(tmp_path)
    assert list(read) == NUMBERS
    assert [value for _, value in read["val_loss"]] == pytest.approx(
        [epoch.val_loss for epoch in done.epochs]
    )
    assert [step for step, _ in read["val_loss"]] == [COUNT, 2 * COUNT, 3 * COUNT]
    assert len(reports) >= 3, "what is logged is reported, too"
    last = read_event_steps(paths.event_files(tmp_path), 0, 1 << 20)[-1]
    assert last.step == 3 * COUNT
    assert sorted(last.metrics) == NUMBERS


def test_resumed_training_overwrites_lost_epochs(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    asked = settings(num_epochs=4, tensorboard=True, checkpoint_every=1)
    interrupt(tmp_path, asked, epoch=2, batches=2)
    run(tmp_path, asked)
    steps = [step for step, _ in events(tmp_path)["val_loss"]]
    assert steps == [COUNT * epoch for epoch in (1, 2, 3, 4)]


def test_restarted_training_deletes_event_files_of_previous_one(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    run(tmp_path, settings(num_epochs=3, tensorboard=True))
    checkpointing.clear_trainer_state(paths.resume(tmp_path))
    run(tmp_path, settings(num_epochs=1, tensorboard=True))
    assert [step for step, _ in events(tmp_path)["val_loss"]] == [COUNT]
    checkpointing.clear_trainer_state(paths.resume(tmp_path))
    run(tmp_path, settings(num_epochs=1))
    assert not paths.event_files(tmp_path).exists()
