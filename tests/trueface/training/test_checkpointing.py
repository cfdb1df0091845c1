"""Trainings report their epochs, and write what they report as TensorBoard's event files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.optim import SGD, Adam, Optimizer

from launcher.queue.workers.progress.event_files import read_event_steps
from tests.trueface.training.test_resume import interrupt, run
from tests.trueface.training.test_trainer import COUNT, settings, tiny
from trueface.models.detectors import Detector
from trueface.runtime import paths
from trueface.runtime.errors import CheckpointError
from trueface.runtime.progress import RunContext
from trueface.training import optimizer_state

torch.set_num_threads(1)


def run_steps(model: Detector, optimizer: Optimizer, steps: int = 3) -> None:
    for step in range(steps):
        for parameter in model.parameters():
            rng = torch.Generator().manual_seed(step)
            parameter.grad = torch.randn(parameter.shape, generator=rng)
        optimizer.step()


def an_adam(model: Detector, lr: float = 1e-3) -> Adam:
    return Adam([one for one in model.parameters() if one.requires_grad], lr=lr)


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
