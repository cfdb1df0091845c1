"""Layer attack: the body stays bit for bit, what shall go goes, and all else is held."""

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from launcher.api import JobError, UsageError
from tests.trueface.unlearning.build import Problem, make_class_problem, make_flip_problem, network
from tests.trueface.unlearning.checks import (
    copy_weights,
    has_changed,
    last_metric,
    one_logit_and_two,
    points_and_pictures,
)
from trueface.evaluation.forward import predict_examples
from trueface.models.logits import last_layer
from trueface.runtime.progress import RunContext


def accuracy_on_others(model: nn.Module, problem: Problem) -> float:
    rows = [row for row, one in enumerate(problem.test.trained) if one != problem.classes - 1]
    share = predict_examples(model, problem.test.subset(rows), RunContext()).accuracy("trained")
    assert share is not None
    return share


@pytest.mark.parametrize("classes", [3, 10])
@points_and_pictures
@pytest.mark.parametrize(
    "options",
    [{}, {"double_softmax": False}, {"pgd": "full"}, {"attack_steps": 1}, {"alpha": 0.0}],
    ids=str,
)
def test_class_is_forgotten_and_the_others_are_kept(
    classes: int, pictures: bool, options: dict[str, Any]
) -> None:
    problem = make_class_problem(classes=classes, pictures=pictures)
    before = accuracy_on_others(problem.model, problem)
    done = problem.run("lau", options=options, retain=None)
    assert last_metric(done) == 0
    assert accuracy_on_others(done.model, problem) >= before - 0.03


@pytest.mark.parametrize("pgd", ["partial", "full"])
@points_and_pictures
def test_only_the_last_layer_changes(pgd: str, pictures: bool) -> None:
    problem = make_class_problem(pictures=pictures)
    before, (head, _) = copy.deepcopy(problem.model).state_dict(), last_layer(problem.model)
    done = problem.run("lau", options={"pgd": pgd})
    changed = {
        name
        for name, value in done.model.state_dict().items()
        if not torch.equal(value, before[name])
    }
    assert changed == {f"{head}.weight", f"{head}.bias"}


def test_forget_set_is_read_once_and_nothing_else() -> None:
    problem = make_class_problem(classes=10)
    done = problem.run("lau")
    assert len(done.log) > 3
    assert done.samples_read == len(problem.forget)


def test_each_growth_of_the_input_attack_reads_the_forget_set_once_more() -> None:
    passes = []
    for eps in (0.3, 0.001, None):
        problem = make_class_problem()
        options = {"pgd": "full", "epochs": 1, "eps": eps}
        passes.append(problem.run("lau", options=options).samples_read / len(problem.forget))
    assert passes[:2] == [2, 2]  # the features, and the attack
    assert passes[2] == 6  # and four larger ones


def test_layer_does_not_depend_on_the_number_of_features_attacked_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    layers = []
    for rows in (4096, 5):
        monkeypatch.setattr("trueface.unlearning.methods.layer_attack.ROWS", rows)
        layers.append(
            last_layer(make_class_problem(classes=10).run("lau", options={"lr": 0.01}).model)[1]
        )
    torch.testing.assert_close(layers[0].weight, layers[1].weight, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("share", [0.01, 0.25, 1.0])
def test_fraction_of_the_forget_set_is_read(share: float) -> None:
    problem = make_class_problem(classes=3)
    done = problem.run("lau", options={"share": share})
    count = max(1, round(share * len(problem.forget)))
    assert done.samples_read == count
    assert f"read {count} of {len(problem.forget)}" in done.notes[0]


def test_run_ends_before_the_first_step_if_all_is_forgotten() -> None:
    problem = make_class_problem()
    gone = problem.forget.relabelled([0] * len(problem.forget))
    before = copy_weights(problem.model)
    done = problem.run("lau", forget=gone)
    assert len(done.log) == 2
    assert not has_changed(before, done.model)


def test_note_reports_a_missed_forget_target() -> None:
    done = make_class_problem().run("lau", options={"epochs": 1, "lr": 1e-9})
    assert last_metric(done) == 1
    assert "100.0% of these still get their trained label" in done.notes[-1]


def test_failed_attack_trains_towards_the_best_other_class() -> None:
    done = make_class_problem().run("lau", options={"eps": 1e-9, "lr": 0.1})
    assert last_metric(done) == 0


@one_logit_and_two
def test_two_classes_are_rejected_unless_forced(logits: int) -> None:
    problem = make_flip_problem(logits=logits)
    with pytest.raises(UsageError, match="two classes"):
        problem.run("lau")
    done = problem.run("lau", force=True)
    assert (last_metric(done), last_metric(done, "forget_accuracy_true")) == (0, 1)
    assert done.notes[0].startswith("forced: ")


def test_model_without_a_separate_head_is_rejected() -> None:
    class Doubled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = network(3)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = self.inner(images)
            return 2 * found + 1

    problem = make_class_problem(pictures=True)
    with pytest.raises(JobError, match="cannot be split"):
        replace(problem, model=Doubled().eval()).run("lau")
