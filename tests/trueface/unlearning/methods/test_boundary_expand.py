"""Boundary expanding: a class more for a while, and a model of the same shape in the end."""

import copy
import threading
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from launcher.api import JobError, UsageError
from tests.trueface.unlearning.build import flipped, one_class, points
from trueface.data.examples import examples
from trueface.evaluation.forward import answered
from trueface.runtime.progress import Watch

FAST = {"lr": 0.1, "epochs": 20}  # twenty steps in all: a real forget set has more
GENTLE = {"lr": 0.01, "epochs": 12}  # for pictures


@pytest.mark.parametrize("classes", [3, 10])
@pytest.mark.parametrize("pictures", [False, True])
def test_the_model_keeps_its_shape(classes: int, pictures: bool) -> None:
    problem = one_class(classes=classes, pictures=pictures)
    before, described = copy.deepcopy(problem.model.state_dict()), str(problem.model)
    done = problem.run("expand", options=FAST)
    after = done.model.state_dict()
    assert {name: one.shape for name, one in after.items()} == {
        name: one.shape for name, one in before.items()
    }
    assert str(done.model) == described
    assert not any(module._forward_pre_hooks for module in done.model.modules())


@pytest.mark.parametrize("pictures", [False, True])
def test_a_class_goes_and_the_others_stay(pictures: bool) -> None:
    problem = one_class(pictures=pictures)
    done = problem.run("expand", options=GENTLE if pictures else FAST, retain=None, goal="class")
    assert done.log[-1].metrics["forget_accuracy_trained"] == 0
    kept = answered(done.model, problem.retain, Watch()).accuracy("trained")
    assert kept is not None
    assert kept >= 0.9


def test_a_single_logit_stays_one() -> None:
    problem = flipped(rate=0.0)
    rows = [row for row, label in enumerate(problem.retain.trained) if label == 1][:4]
    rest = [row for row in range(len(problem.retain)) if row not in rows]
    forget, retain = problem.retain.subset(rows), problem.retain.subset(rest)
    model = problem.model
    done = problem.run("expand", options=FAST, forget=forget, retain=retain)
    assert done.model(torch.zeros(3, 2)).shape == (3, 1)
    assert done.model is model
    assert len(done.log) == FAST["epochs"] + 2


def test_a_layer_over_features_may_be_the_whole_model() -> None:
    inputs, labels = points(3, 20, 0)
    layer, everything = nn.Linear(2, 3), examples(inputs, labels)
    angle = torch.arange(3) * (2 * torch.pi / 3)
    with torch.no_grad():  # the centres of the blobs: what is nearest is answered
        layer.weight.copy_(torch.stack([angle.cos(), angle.sin()], 1))
        layer.bias.zero_()
    problem = replace(one_class(), model=layer, forget=everything.subset(range(40, 60)))
    done = problem.run("expand", options=FAST, retain=None)
    assert done.model is layer
    assert layer.weight.shape == (3, 2)
    assert done.log[0].metrics["forget_accuracy_trained"] == 1
    assert done.log[-1].metrics["forget_accuracy_trained"] == 0


def test_wrong_labels_are_refused_unless_forced() -> None:
    with pytest.raises(UsageError, match="a class that is dropped"):
        flipped().run("expand")
    assert flipped().run("expand", force=True).notes[0].startswith("forced: ")


def test_batch_statistics_stay() -> None:
    problem = one_class(pictures=True)
    before = copy.deepcopy(problem.model.state_dict())
    after = problem.run("expand", options=FAST).model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before if "running" in name)


def test_half_precision_works() -> None:
    done = one_class(pictures=True).run("expand", options=FAST, watch=Watch(precision="bf16"))
    assert done.log[-1].metrics["forget_accuracy_trained"] == 0


def test_the_seed_makes_the_row() -> None:
    def once(seed: int) -> list[torch.Tensor]:
        return list(one_class().run("expand", options=FAST, seed=seed).model.parameters())

    assert all(map(torch.equal, once(1), once(1)))
    assert not all(map(torch.equal, once(1), once(2)))


def test_the_random_state_of_the_caller_does_not_matter() -> None:
    torch.manual_seed(1)
    first = one_class().run("expand", options=FAST)
    torch.manual_seed(2)
    second = one_class().run("expand", options=FAST)
    assert all(map(torch.equal, first.model.parameters(), second.model.parameters()))


def test_a_stop_ends_it() -> None:
    stop = threading.Event()

    def halt(**_: Any) -> None:
        stop.set()

    with pytest.raises(JobError, match="stopped"):
        one_class().run("expand", watch=Watch(stop=stop, progress=halt))
