"""Checks that hold for every gradient method."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from tests.trueface.unlearning.build import (
    SmallTask,
    make_class_task,
    points,
    split_task,
)
from trueface.data.examples import examples
from trueface.unlearning.api import UnlearningReport


def instance_task() -> SmallTask:
    """Return a model of points with some of each class as the forget set."""
    task = make_class_task()
    everything = task.retain + task.forget
    rows = range(len(everything))
    return replace(
        task,
        forget=everything.subset(rows[::4]),
        retain=everything.subset([row for row in rows if row % 4]),
    )


def copy_weights(model: nn.Module) -> list[Tensor]:
    """Return copies of all parameters and buffers."""
    return [value.detach().clone() for value in model.state_dict().values()]


def has_changed(before: list[Tensor], model: nn.Module) -> bool:
    """Return whether any of them has changed."""
    return any(not torch.equal(*pair) for pair in zip(before, copy_weights(model), strict=True))


def assert_sound(done: UnlearningReport, epochs: int | None = None) -> None:
    """Check a log: steps that rise, numbers that are finite, and as many epochs as asked for."""
    assert [step.step for step in done.log] == list(range(len(done.log)))
    assert epochs is None or len(done.log) == epochs + 2
    values = [value for step in done.log for value in step.metrics.values() if value is not None]
    assert torch.tensor(values).isfinite().all()
    assert not done.model.training
    assert done.samples_read > 0


def nearest_centre_task() -> SmallTask:
    """Return a single layer over points of three classes, with the last as the forget set."""
    inputs, labels = points(3, 20, 0)
    layer = nn.Linear(2, 3)
    angle = torch.arange(3) * (2 * torch.pi / 3)
    with torch.no_grad():  # the centres of the blobs: the nearest class is predicted
        layer.weight.copy_(torch.stack([angle.cos(), angle.sin()], 1))
        layer.bias.zero_()
    gone = (labels == 2).nonzero().flatten().tolist()
    return split_task(layer, examples(inputs, labels), gone, classes=3)


def last_metric(done: UnlearningReport, name: str = "forget_accuracy_trained") -> float:
    """Return a metric of the last step."""
    value = done.log[-1].metrics[name]
    assert value is not None
    return value


points_and_pictures = pytest.mark.parametrize("pictures", [False, True])


one_logit_and_two = pytest.mark.parametrize("logits", [1, 2])


both_precisions = pytest.mark.parametrize("precision", ["fp32", "bf16"])
