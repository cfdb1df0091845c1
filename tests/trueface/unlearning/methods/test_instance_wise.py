"""Instance-wise unlearning: a few instances go, held by examples around them and by importance."""

import threading
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from launcher.api import JobError
from tests.trueface.unlearning.build import SmallTask, make_class_task
from tests.trueface.unlearning.checks import (
    last_metric,
    points_and_pictures,
)
from trueface.evaluation.forward import predict_examples
from trueface.runtime.progress import RunContext
from trueface.unlearning.api import Request, UnlearningReport
from trueface.unlearning.importance import importances
from trueface.unlearning.methods import instance_wise
from trueface.unlearning.methods.instance_wise import (
    firmness,
)

SOON = {"lr": 0.01, "attack_steps": 10}  # few steps for few instances


def retained_accuracy(done: UnlearningReport, task: SmallTask) -> float:
    found = predict_examples(done.model, task.retain, RunContext()).accuracy("trained")
    assert found is not None
    return found


@points_and_pictures
def test_few_instances_are_forgotten_and_importance_keeps_the_rest(pictures: bool) -> None:
    def done(importance: float) -> tuple[float, float]:
        task = make_class_task(classes=10, pictures=pictures)
        some = task.forget.subset(range(16))
        options = {**SOON, "importance": importance}
        found = task.run("iwu", forget=some, options=options, goal="instances")
        return last_metric(found), retained_accuracy(found, task)

    held, free = done(10.0), done(0.0)
    assert held[0] == free[0] == 0
    assert held[1] > free[1]
    assert held[1] >= 0.9


def test_run_ends_as_soon_as_all_instances_are_forgotten() -> None:
    done = make_class_task().run("iwu", options={**SOON, "radius": 1.0})
    assert last_metric(done) == 0
    assert len(done.log) - 2 < 100
    assert [step.step for step in done.log] == list(range(len(done.log)))


@pytest.mark.parametrize(("per_step", "steps"), [(32, 4), (64, 2), (128, 1)])
def test_epoch_is_a_pass_over_the_adversarial_examples(per_step: int, steps: int) -> None:
    task = make_class_task()
    options = {"epochs": 1, "lr": 1e-9, "adversarial": 4, "adversarial_batch": per_step}
    passes: list[int] = []
    task.model.register_forward_pre_hook(
        lambda model, given: passes.append(len(given[0])) if torch.is_grad_enabled() else None
    )
    task.run("iwu", options={**options, "attack_steps": 1, "importance": 0.0, "batch_size": 16})
    assert [size for size in passes if size == 16 + per_step] == [16 + per_step] * steps


@pytest.mark.parametrize("bn", ["eval", "train"])
def test_importances_and_steps_use_the_chosen_statistics(
    bn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = make_class_task(pictures=True)
    before = task.model[1].running_mean.clone()  # type: ignore[index]  # a Sequential
    modes: list[bool] = []

    def note(request: Request, *args: Any, **options: Any) -> dict[str, torch.Tensor]:
        modes.append(options["batch_statistics"])
        found = importances(request, *args, **options)
        assert torch.equal(task.model[1].running_mean, before)  # type: ignore[index]
        return found

    monkeypatch.setattr(instance_wise, "importances", note)
    done = task.run("iwu", options={**SOON, "epochs": 1, "lr": 1e-9, "bn": bn})
    assert modes == [bn == "train"]
    assert torch.equal(done.model[1].running_mean, before) is (bn == "eval")  # type: ignore[index]


def test_least_important_weights_are_regularized_most() -> None:
    assert firmness(torch.tensor([2.0, 3.0, 4.0])).tolist() == [1, 0.5, 0]
    assert firmness(torch.tensor([2.0, 2.0])).tolist() == [1, 1]
    assert firmness(torch.zeros(1)).tolist() == [1]


def test_stop_ends_the_attack() -> None:
    stop, task = threading.Event(), make_class_task()

    class Halting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network, self.attacked = task.model, 0

        def forward(self, given: torch.Tensor) -> torch.Tensor:
            if given.requires_grad:
                self.attacked += 1
                stop.set()
            found: torch.Tensor = self.network(given)
            return found

    model = Halting().eval()
    with pytest.raises(JobError, match="stopped"):
        replace(task, model=model).run("iwu", watch=RunContext(stop=stop))
    assert model.attacked == 1
