"""What holds for every method that goes down a gradient."""

import threading
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from launcher.api import JobError
from tests.trueface.unlearning.build import Problem, flipped, one_class
from trueface.runtime.progress import Watch
from trueface.unlearning.api import Unlearned
from trueface.unlearning.hyperparameters import TrainingOptions
from trueface.unlearning.optimization import learn_plainly


def instances() -> Problem:
    """Return a model of points that shall forget some of each class."""
    problem = one_class()
    everything = problem.retain + problem.forget
    rows = range(len(everything))
    return replace(
        problem,
        forget=everything.subset(rows[::4]),
        retain=everything.subset([row for row in rows if row % 4]),
    )


def over_features(logits: int) -> Problem:
    """Return a flipped problem whose model is a last layer alone."""
    problem = flipped()
    torch.manual_seed(0)
    model = nn.Linear(2, logits)
    learn_plainly(
        model,
        problem.forget + problem.retain,
        "trained",
        validation=problem.validation,
        options=TrainingOptions(epochs=10, lr=0.1),
        watch=Watch(),
    )
    return replace(problem, model=model)


def weights(model: nn.Module) -> list[Tensor]:
    """Return copies of all parameters and buffers."""
    return [value.detach().clone() for value in model.state_dict().values()]


def moved(before: list[Tensor], model: nn.Module) -> bool:
    """Return whether any of them is another one now."""
    return any(not torch.equal(*pair) for pair in zip(before, weights(model), strict=True))


def repeats(method: str, options: Mapping[str, Any]) -> None:
    """Check that a seed fixes the result, whatever was drawn before."""
    found = []
    for draws in (0, 3):
        problem = one_class(pictures=True)
        torch.rand(draws)
        found.append(problem.run(method, options=options, seed=5))
    assert not moved(weights(found[0].model), found[1].model)
    assert found[0].log == found[1].log


def stops(method: str, options: Mapping[str, Any]) -> None:
    """Check that a person can end it while it runs."""
    stop = threading.Event()
    watch = Watch(stop=stop, progress=lambda **_: stop.set())
    with pytest.raises(JobError, match="stopped"):
        flipped(pictures=True).run(method, options={**options, "epochs": 1000}, watch=watch)


def sound(done: Unlearned, epochs: int | None = None) -> None:
    """Check a log: steps that rise, numbers that are finite, and as many epochs as asked for."""
    assert [step.step for step in done.log] == list(range(len(done.log)))
    assert epochs is None or len(done.log) == epochs + 2
    values = [value for step in done.log for value in step.metrics.values() if value is not None]
    assert torch.tensor(values).isfinite().all()
    assert not done.model.training
    assert done.samples_read > 0
