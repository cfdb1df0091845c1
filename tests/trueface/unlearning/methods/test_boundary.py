"""Boundary shrink and expand: to the nearest other class, or to a class more for a while."""

import pytest
import torch

from tests.trueface.unlearning.build import make_class_task, make_flip_task, make_request
from trueface.unlearning.methods.boundary import ShrinkOptions, label_with_nearest_class

FAST = {"lr": 0.1, "epochs": 20}  # twenty steps in all: a real forget set has more


def test_points_move_to_the_adjacent_class() -> None:
    task = make_class_task(classes=10)  # on a circle, in order: neighbours of 9 are 8 and 0
    assert set(label_with_nearest_class(make_request(task, ShrinkOptions())).trained) == {0, 8}


@pytest.mark.parametrize("classes", [2, 3])
def test_samples_are_read_for_their_nearest_class_only_if_there_are_more_than_two(
    classes: int,
) -> None:
    task = make_flip_task() if classes == 2 else make_class_task()
    done = task.run("shrink", options={"epochs": 1})
    assert done.samples_read == (1 if classes == 2 else 3) * len(task.forget)


def test_single_logit_output_stays_single() -> None:
    task = make_flip_task(rate=0.0)
    rows = [row for row, label in enumerate(task.retain.trained) if label == 1][:4]
    rest = [row for row in range(len(task.retain)) if row not in rows]
    forget, retain = task.retain.subset(rows), task.retain.subset(rest)
    model = task.model
    done = task.run("expand", options=FAST, forget=forget, retain=retain)
    assert done.model(torch.zeros(3, 2)).shape == (3, 1)
    assert done.model is model
    assert len(done.log) == FAST["epochs"] + 2
