"""Layer attack: the body stays bit for bit, what shall go goes, and all else is held."""

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from launcher.api import JobError
from tests.trueface.unlearning.build import SmallTask, make_class_task, network
from tests.trueface.unlearning.checks import (
    copy_weights,
    has_changed,
    last_metric,
    points_and_pictures,
)
from trueface.evaluation.forward import predict_examples
from trueface.models.logits import last_layer
from trueface.runtime.progress import RunContext


@pytest.mark.parametrize("classes", [3, 10])
@points_and_pictures
@pytest.mark.parametrize(
    "options",
    [{}, {"double_softmax": False}, {"pgd": "full"}, {"alpha": 0.0}],
    ids=str,
)
def test_class_is_forgotten_and_the_others_are_kept(
    classes: int, pictures: bool, options: dict[str, Any]
) -> None:
    task = make_class_task(classes=classes, pictures=pictures)
    before = accuracy_on_others(task.model, task)
    done = task.run("lau", options=options, retain=None)
    assert last_metric(done) == 0
    assert accuracy_on_others(done.model, task) >= before - 0.03


def accuracy_on_others(model: nn.Module, task: SmallTask) -> float:
    rows = [row for row, one in enumerate(task.test.trained) if one != task.classes - 1]
    share = predict_examples(model, task.test.subset(rows), RunContext()).accuracy("trained")
    assert share is not None
    return share


@pytest.mark.parametrize("pgd", ["partial", "full"])
@points_and_pictures
def test_only_the_last_layer_changes(pgd: str, pictures: bool) -> None:
    task = make_class_task(pictures=pictures)
    before, (head, _) = copy.deepcopy(task.model).state_dict(), last_layer(task.model)
    done = task.run("lau", options={"pgd": pgd})
    changed = {
        name
        for name, value in done.model.state_dict().items()
        if not torch.equal(value, before[name])
    }
    assert changed == {f"{head}.weight", f"{head}.bias"}


def test_each_growth_of_the_input_attack_reads_the_forget_set_once_more() -> None:
    passes = []
    for eps in (0.3, 0.001, None):
        task = make_class_task()
        options = {"pgd": "full", "epochs": 1, "eps": eps}
        passes.append(task.run("lau", options=options).samples_read / len(task.forget))
    assert passes[:2] == [2, 2]  # the features, and the attack
    assert passes[2] == 6  # and four larger ones


def test_run_ends_before_the_first_step_if_all_is_forgotten() -> None:
    task = make_class_task()
    gone = task.forget.replace_labels([0] * len(task.forget))
    before = copy_weights(task.model)
    done = task.run("lau", forget=gone)
    assert len(done.log) == 2
    assert not has_changed(before, done.model)


def test_note_reports_a_missed_forget_target() -> None:
    done = make_class_task().run("lau", options={"epochs": 1, "lr": 1e-9})
    assert last_metric(done) == 1
    assert "100.0% of these still get their trained label" in done.notes[-1]


def test_failed_attack_trains_towards_the_best_other_class() -> None:
    done = make_class_task().run("lau", options={"eps": 1e-9, "lr": 0.1})
    assert last_metric(done) == 0


def test_model_without_a_separate_head_is_rejected() -> None:
    class Doubled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = network(3)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = self.inner(images)
            return 2 * found + 1

    task = make_class_task(pictures=True)
    with pytest.raises(JobError, match="cannot be split"):
        replace(task, model=Doubled().eval()).run("lau")
