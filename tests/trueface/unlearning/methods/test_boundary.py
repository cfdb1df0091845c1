"""Boundary shrink and expand: to the nearest other class, or to a class more for a while."""

import copy

import pytest
import torch

from launcher.api import UsageError
from tests.trueface.unlearning.build import make_class_problem, make_flip_problem, make_request
from tests.trueface.unlearning.checks import points_and_pictures
from trueface.unlearning.methods.boundary import ShrinkOptions, nearest

FAST = {"lr": 0.1, "epochs": 20}  # twenty steps in all: a real forget set has more


@pytest.mark.parametrize("bound", [1e-6, 0.1, 10.0])
@points_and_pictures
@pytest.mark.parametrize("classes", [2, 3, 10])
def test_nearest_class_is_never_the_own_class(bound: float, pictures: bool, classes: int) -> None:
    problem = make_class_problem(classes=classes, pictures=pictures)
    moved = nearest(make_request(problem, ShrinkOptions()), bound)
    assert moved.positions == problem.forget.positions
    assert not any(
        one == was for one, was in zip(moved.trained, problem.forget.trained, strict=True)
    )
    assert set(moved.trained) <= set(range(classes))


def test_points_move_to_the_adjacent_class() -> None:
    problem = make_class_problem(classes=10)  # on a circle, in order: neighbours of 9 are 8 and 0
    assert set(nearest(make_request(problem, ShrinkOptions()), 0.1).trained) == {0, 8}


@pytest.mark.parametrize("classes", [2, 3])
def test_samples_are_read_for_their_nearest_class_only_if_there_are_more_than_two(
    classes: int,
) -> None:
    problem = make_flip_problem() if classes == 2 else make_class_problem()
    done = problem.run("shrink", options={"epochs": 1})
    assert done.samples_read == (1 if classes == 2 else 3) * len(problem.forget)


@pytest.mark.parametrize("classes", [3, 10])
@points_and_pictures
def test_model_keeps_its_shape(classes: int, pictures: bool) -> None:
    problem = make_class_problem(classes=classes, pictures=pictures)
    before, described = copy.deepcopy(problem.model.state_dict()), str(problem.model)
    done = problem.run("expand", options=FAST)
    after = done.model.state_dict()
    assert {name: one.shape for name, one in after.items()} == {
        name: one.shape for name, one in before.items()
    }
    assert str(done.model) == described
    assert not any(module._forward_pre_hooks for module in done.model.modules())


def test_single_logit_output_stays_single() -> None:
    problem = make_flip_problem(rate=0.0)
    rows = [row for row, label in enumerate(problem.retain.trained) if label == 1][:4]
    rest = [row for row in range(len(problem.retain)) if row not in rows]
    forget, retain = problem.retain.subset(rows), problem.retain.subset(rest)
    model = problem.model
    done = problem.run("expand", options=FAST, forget=forget, retain=retain)
    assert done.model(torch.zeros(3, 2)).shape == (3, 1)
    assert done.model is model
    assert len(done.log) == FAST["epochs"] + 2


def test_wrong_labels_are_rejected_unless_forced() -> None:
    with pytest.raises(UsageError, match="a class that it removes"):
        make_flip_problem().run("expand")
    assert make_flip_problem().run("expand", force=True).notes[0].startswith("forced: ")
