"""Features in the plane: shapes, axes of the model before, and the file."""

from pathlib import Path

import numpy as np
import pytest

from tests.trueface.unlearning.build import one_class, perceptron, points
from trueface.data.examples import examples
from trueface.runtime.errors import DataError
from trueface.runtime.progress import Watch
from trueface.unlearning.evaluation.planes import Axes, Plane, read, write
from trueface.unlearning.problem import MOST, plane

WATCH = Watch()


def test_a_model_lies_where_it_lay() -> None:
    problem = one_class()
    found = plane(problem.model, problem.model, problem.forget, problem.retain, WATCH)
    assert np.array_equal(found.before, found.after)
    assert found.forget.sum() == len(problem.forget)
    assert set(found.label[found.forget].tolist()) == {2}
    assert set(found.label[~found.forget].tolist()) == {0, 1}


def test_no_more_than_600_samples_are_shown() -> None:
    inputs, labels = points(3, 500, 1)
    everything = examples(inputs, labels)
    gone = [row for row, label in enumerate(labels.tolist()) if label == 2]
    stay = [row for row, label in enumerate(labels.tolist()) if label != 2]
    model = perceptron(3)
    coordinates = plane(model, model, everything.subset(gone), everything.subset(stay), WATCH)
    assert len(coordinates.label) == MOST
    assert coordinates.forget.sum() == 200


def test_axes_are_those_of_the_largest_spread() -> None:
    random = np.random.default_rng(0)
    features = (random.normal(size=(200, 3)) * [1.0, 10.0, 0.1]).astype(np.float32) + 5
    axes = Axes.of(features)
    assert abs(axes.directions[0, 1]) > 0.99
    assert axes.directions[0, 1] > 0  # the same way round for the same features
    assert axes.places(features).mean(0) == pytest.approx([0, 0], abs=1e-4)


def test_one_feature_has_a_plane_too() -> None:
    places = Axes.of(np.array([[1.0], [2.0], [4.0]], np.float32)).places(
        np.array([[1.0], [2.0], [4.0]], np.float32)
    )
    assert places.shape == (3, 2)
    assert not places[:, 1].any()


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    problem = one_class()
    found = plane(problem.model, problem.model, problem.forget, problem.retain, WATCH)
    write(tmp_path / "plane.npz", found)
    again = read(tmp_path / "plane.npz")
    for name in ("before", "after", "label", "forget"):
        assert np.array_equal(getattr(again, name), getattr(found, name))


def test_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "plane.npz").write_bytes(b"no")
    with pytest.raises(DataError, match="cannot read the plane"):
        read(tmp_path / "plane.npz")


def test_a_plane_of_odd_shapes_is_refused() -> None:
    with pytest.raises(ValueError, match="a plane of 2 samples"):
        Plane(
            before=np.zeros((2, 2)),
            after=np.zeros((3, 2)),
            label=np.zeros(2, np.int64),
            forget=np.zeros(2, np.bool_),
        )
