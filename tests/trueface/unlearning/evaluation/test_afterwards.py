"""What is tried after an unlearning: learning again, a probe of features, and features in the plane."""

import copy
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from launcher.api import JobError
from tests.trueface.unlearning.build import (
    SmallTask,
    make_class_task,
    perceptron,
)
from tests.trueface.unlearning.build import points as blobs
from tests.trueface.unlearning.checks import both_precisions, points_and_pictures
from trueface.data.examples import Examples, examples
from trueface.models.logits import last_layer
from trueface.runtime.errors import DataError
from trueface.runtime.progress import RunContext
from trueface.unlearning.evaluation.planes import Axes, Plane, read, write
from trueface.unlearning.experiment import (
    MOST,
    draw_row_numbers,
    forget_loss,
    penultimate,
    plane,
    relearn,
)
from trueface.unlearning.image_copies import group_copies
from trueface.unlearning.linear_probe import linear_probe, probe_accuracy
from trueface.unlearning.record import Probe
from trueface.unlearning.task import IdentifiedExamples

WATCH = RunContext()


@pytest.fixture(scope="module")
def points() -> SmallTask:
    """A trained model with a class as the forget set."""
    return make_class_task()


def with_dead_class(model: nn.Module, forgotten: int) -> nn.Module:
    """Return a copy whose last layer never predicts a class; its features are unchanged."""
    model = copy.deepcopy(model)
    _, layer = last_layer(model)
    with torch.no_grad():
        layer.bias[forgotten] -= 20
    return model


def test_model_that_forgot_nothing_needs_no_step(points: SmallTask) -> None:
    target = forget_loss(points.model, points.forget, WATCH)
    found = relearn(points.model, points.forget, WATCH, target=target)
    assert found.steps == 0
    assert found.loss == target


@both_precisions
def test_changed_last_layer_relearns_at_once(points: SmallTask, precision: str) -> None:
    watch = RunContext(precision=precision)
    target = forget_loss(points.model, points.forget, watch) + 0.05
    after = with_dead_class(points.model, 2)
    found = relearn(after, points.forget, watch, target=target, lr=0.1)
    assert found.steps is not None
    assert 0 < found.steps <= 200


def test_relearning_does_not_change_the_model(points: SmallTask) -> None:
    after = with_dead_class(points.model, 2)
    kept = copy.deepcopy(after.state_dict())
    relearn(after, points.forget, WATCH, target=0.5, most=5)
    assert all(torch.equal(value, kept[name]) for name, value in after.state_dict().items())


def test_relearning_stops_at_its_limit(points: SmallTask) -> None:
    found = relearn(with_dead_class(points.model, 2), points.forget, WATCH, target=0.0, most=3)
    assert found.steps is None
    assert found.most == 3


def test_same_seed_takes_the_same_steps(points: SmallTask) -> None:
    after = with_dead_class(points.model, 2)
    first, second = (relearn(after, points.forget, WATCH, target=0.3, lr=0.1) for _ in range(2))
    assert first == second


def test_stop_ends_relearning(points: SmallTask) -> None:
    watch = RunContext(stop=threading.Event())
    watch.stop.set()
    with pytest.raises(JobError, match="stopped"):
        relearn(points.model, points.forget, watch, target=0.0)
    with pytest.raises(JobError, match="stopped"):
        penultimate(points.model, points.forget, watch)


def probe(before: nn.Module, after: nn.Module, forget: Examples, retain: Examples) -> Probe | None:
    """Return a linear probe of samples, each of which is an image of its own."""
    lost, kept = (
        IdentifiedExamples(examples=each, ids=tuple(f"{name}/{row}" for row in range(len(each))))
        for name, each in (("forget", forget), ("retain", retain))
    )
    return linear_probe(before, after, lost, kept, WATCH)


@points_and_pictures
def test_probe_finds_what_only_the_last_layer_forgot(pictures: bool) -> None:
    task = make_class_task(pictures=pictures)
    after = with_dead_class(task.model, 2)
    found = probe(task.model, after, task.forget, task.retain)
    assert found is not None
    assert found.before == found.after
    assert found.after > 0.9
    assert found.chance == 0.5


def test_probe_of_dead_features_is_at_chance(points: SmallTask) -> None:
    after = copy.deepcopy(points.model)
    with torch.no_grad():
        for parameter in after.parameters():
            parameter.zero_()
    found = probe(points.model, after, points.forget, points.retain)
    assert found is not None
    assert found.after == 0.5


def test_probe_of_few_samples_has_no_result(points: SmallTask) -> None:
    few = points.forget.subset([0, 1, 2])
    assert probe(points.model, points.model, few, points.retain) is None


def test_features_without_signal_are_at_chance() -> None:
    rng = np.random.default_rng(0)
    first, second = (rng.normal(size=(400, 4)).astype(np.float32) for _ in range(2))
    assert probe_accuracy(first, second) == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_copies_of_an_image_do_not_leak_into_the_held_out_half_of_a_probe(noise: float) -> None:
    rng = np.random.default_rng(0)
    images = rng.normal(size=(2, 100, 64))
    copies = [
        np.concatenate([side + noise * rng.normal(size=side.shape) for _ in range(3)])
        for side in images
    ]
    first, second = (each.astype(np.float32) for each in copies)
    ids = [f"net{copy}:{side}/{n}" for side in range(2) for copy in range(3) for n in range(100)]
    groups = group_copies(ids)
    found = [probe_accuracy(first, second, groups, seed=seed) or 0.0 for seed in range(10)]
    assert np.mean(found) == pytest.approx(0.5, abs=0.06)
    if noise == 0:
        unnamed = group_copies([str(row) for row in range(600)], np.concatenate([first, second]))
        assert unnamed.tolist() == group_copies(ids).tolist()


def test_probe_of_few_images_in_many_copies_has_no_result() -> None:
    first, second = (np.repeat(np.eye(4, dtype=np.float32), 50, 0) + side for side in range(2))
    groups = group_copies([str(row) for row in range(400)], np.concatenate([first, second]))
    assert probe_accuracy(first, second, groups) is None


def test_features_are_the_input_of_the_last_layer(points: SmallTask) -> None:
    features, positions = penultimate(points.model, points.forget, WATCH)
    assert features.shape == (len(points.forget), 32)
    assert positions.tolist() == list(points.forget.positions)


def test_rows_are_drawn_without_repetition_and_in_order() -> None:
    rows = list(draw_row_numbers(100, 10, "some", 0))
    assert rows == sorted(set(rows))
    assert len(rows) == 10
    assert list(draw_row_numbers(3, 10, "some", 0)) == [0, 1, 2]


def test_unchanged_model_keeps_its_position_in_the_plane(points: SmallTask) -> None:
    found = plane(points.model, points.model, points.forget, points.retain, WATCH)
    assert np.array_equal(found.before, found.after)
    assert found.forget.sum() == len(points.forget)
    assert set(found.label[found.forget].tolist()) == {2}
    assert set(found.label[~found.forget].tolist()) == {0, 1}


def test_at_most_600_samples_are_shown() -> None:
    inputs, labels = blobs(3, 500, 1)
    everything = examples(inputs, labels)
    gone = [row for row, label in enumerate(labels.tolist()) if label == 2]
    stay = [row for row, label in enumerate(labels.tolist()) if label != 2]
    model = perceptron(3)
    coordinates = plane(model, model, everything.subset(gone), everything.subset(stay), WATCH)
    assert len(coordinates.label) == MOST
    assert coordinates.forget.sum() == 200


def test_axes_have_the_largest_spread() -> None:
    rng = np.random.default_rng(0)
    features = (rng.normal(size=(200, 3)) * [1.0, 10.0, 0.1]).astype(np.float32) + 5
    axes = Axes.from_features(features)
    assert abs(axes.directions[0, 1]) > 0.99
    assert axes.directions[0, 1] > 0  # the same way round for the same features
    assert axes.project_onto(features).mean(0) == pytest.approx([0, 0], abs=1e-4)


def test_single_feature_has_a_plane() -> None:
    places = Axes.from_features(np.array([[1.0], [2.0], [4.0]], np.float32)).project_onto(
        np.array([[1.0], [2.0], [4.0]], np.float32)
    )
    assert places.shape == (3, 2)
    assert not places[:, 1].any()


def test_plane_survives_a_round_trip(tmp_path: Path) -> None:
    task = make_class_task()
    found = plane(task.model, task.model, task.forget, task.retain, WATCH)
    write(tmp_path / "plane.npz", found)
    again = read(tmp_path / "plane.npz")
    for name in ("before", "after", "label", "forget"):
        assert np.array_equal(getattr(again, name), getattr(found, name))


def test_other_file_is_rejected_as_a_plane(tmp_path: Path) -> None:
    (tmp_path / "plane.npz").write_bytes(b"no")
    with pytest.raises(DataError, match="cannot read the plane"):
        read(tmp_path / "plane.npz")


def test_plane_with_wrong_shapes_is_rejected() -> None:
    with pytest.raises(ValueError, match="a plane of 2 samples"):
        Plane(
            before=np.zeros((2, 2)),
            after=np.zeros((3, 2)),
            label=np.zeros(2, np.int64),
            forget=np.zeros(2, np.bool_),
        )
