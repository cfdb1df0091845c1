"""An unlearning task from label flips, a class or instances: its sets and measured parts."""

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from launcher.api import JobError
from trueface.data.examples import examples
from trueface.runtime.rng import stream_seed
from trueface.unlearning.record import TrainingCost
from trueface.unlearning.registry import TaskProperties
from trueface.unlearning.settings import (
    ForgetSettings,
    ForgettingSettings,
    UnlearningSettings,
    UnlearnSettings,
)
from trueface.unlearning.task import IdentifiedExamples, OriginalModel, TaskModel, UnlearningTask

LABELS = [0, 1, 2] * 4
MODEL = nn.Linear(2, 3)
TASK_MODEL = TaskModel(
    original=OriginalModel(training=TrainingCost(seconds=1.0, samples=9), cache=Path("cache")),
    module=MODEL,
    whole=lambda _: pytest.fail("nothing is unlearned here"),
    fresh=lambda: MODEL,
    class_names=("a", "b", "c"),
)


def named(labels: list[int], true: list[int] | None = None) -> IdentifiedExamples:
    samples = examples(torch.zeros(len(labels), 2), labels, true or labels)
    names = [f"image{number}" for number in range(len(labels))]
    return IdentifiedExamples.from_source_names(samples, names)


HELD_OUT = {"validation": named([0, 1, 2]), "test": named([0, 1])}


def flips(**changes: object) -> UnlearningSettings:
    given = {
        "data_root": "d",
        "split_path": "s",
        "method": "relabel",
        "model": "slim18",
        "weights": "none",
    }
    return UnlearnSettings.model_validate({**given, **changes})


def forgetting(**changes: object) -> ForgettingSettings:
    return ForgetSettings.model_validate({"data_root": "d", "method": "retrain", **changes})


def rows(task: UnlearningTask, name: str) -> tuple[int, ...]:
    return task.parts[name].examples.positions


def test_flips_are_measured_completely_and_given_in_part() -> None:
    train = named([1, 0, 0, 1], true=[0, 1, 0, 1])
    task = UnlearningTask.from_flips(
        TASK_MODEL, flips(known=0.5), train, [0, 1], HELD_OUT, rate=0.5
    )
    assert (rows(task, "forget"), rows(task, "retain")) == ((0, 1), (2, 3))
    (known,) = task.given.forget.positions
    assert task.given.forget.true == (1 - train.examples.trained[known],)
    assert set(task.given.retain.positions) == {0, 1, 2, 3} - {known}
    assert task.given.retain.true == task.given.retain.trained  # hidden flips pass for true labels
    assert (task.facts.goal, task.facts.rate, task.facts.known) == ("flips", 0.5, 0.5)
    assert task.shared_parts == {"validation"}
    assert task.parts["forget"].ids == ("image0", "image1")


def test_known_flips_are_drawn_by_image_with_all_its_copies() -> None:
    count = 40
    ids = tuple(f"net{copy}:faces/{number}" for copy in range(3) for number in range(count))
    train = IdentifiedExamples(examples=named([1] * 3 * count).examples, ids=ids)
    task = UnlearningTask.from_flips(
        TASK_MODEL, flips(known=0.25), train, range(3 * count), HELD_OUT, rate=0.5
    )
    known = task.given.forget.positions
    assert len(known) == 3 * 10
    assert all({row, row + count, row + 2 * count} <= set(known) for row in known if row < count)


def test_known_flips_of_images_without_copies_are_drawn_as_rows() -> None:
    flipped = list(range(0, 60, 2))
    task = UnlearningTask.from_flips(
        TASK_MODEL, flips(known=0.4, seed=7), named([0, 1] * 30), flipped, HELD_OUT, rate=0.5
    )
    rows_drawn = random.Random(stream_seed("known", 7)).sample(flipped, 12)
    assert task.given.forget.positions == tuple(sorted(rows_drawn))


def test_tasks_have_the_properties_that_planning_derives_from_their_settings() -> None:
    settings = flips(known=0.5, find=True, keep_retain=False)
    train = named([1, 0, 0, 1], true=[0, 1, 0, 1])
    task = UnlearningTask.from_flips(
        TASK_MODEL, settings, train, [0, 1], HELD_OUT, rate=0.5, random_flips=False
    )
    assert task.properties == TaskProperties(
        goal="flips", classes=3, rate=0.5, random=False, known=0.5, finding=True, retain=False
    )
    task = UnlearningTask.from_class(TASK_MODEL, forgetting(), named(LABELS), 2, HELD_OUT)
    assert task.properties == TaskProperties(goal="class", classes=3)
    task = UnlearningTask.from_instances(TASK_MODEL, forgetting(), named(LABELS), [1], HELD_OUT)
    assert task.properties == TaskProperties(goal="instances", classes=3)


def test_class_is_forgotten_beside_earlier_ones() -> None:
    task = UnlearningTask.from_class(
        TASK_MODEL, forgetting(), named(LABELS), 2, HELD_OUT, earlier_classes=(0,)
    )
    assert {LABELS[row] for row in rows(task, "forget")} == {2}
    assert {LABELS[row] for row in rows(task, "retain")} == {1}
    assert task.facts.forgotten == (0, 2)
    assert task.given.validation.trained == (1,)
    assert task.shared_parts == {"forget"}


def test_instances_are_forgotten_and_their_classes_stay() -> None:
    settings = forgetting(forget_fraction=0.25)
    task = UnlearningTask.from_instances(TASK_MODEL, settings, named(LABELS), [1, 5, 6], HELD_OUT)
    assert rows(task, "forget") == task.given.forget.positions == (1, 5, 6)
    assert len(rows(task, "retain")) == len(LABELS) - 3
    assert (task.facts.fraction, task.facts.forgotten) == (0.25, ())
    assert task.shared_parts == {"forget", "validation"}


def test_class_without_samples_is_rejected() -> None:
    with pytest.raises(JobError, match="no training image has class 'c'"):
        UnlearningTask.from_class(TASK_MODEL, forgetting(), named([0, 1]), 2, HELD_OUT)


@pytest.mark.parametrize(
    ("changes", "shared", "retain"),
    [({}, True, True), ({"find": True}, False, True), ({"keep_retain": False}, True, False)],
)
def test_settings_decide_what_is_read(changes: dict[str, Any], shared: bool, retain: bool) -> None:
    task = UnlearningTask.from_flips(
        TASK_MODEL, flips(**changes), named([1, 0, 0]), [0], HELD_OUT, rate=0.3
    )
    assert ("forget" in task.shared_parts) is shared
    assert task.search is not shared
    assert task.keep_retain is retain
