from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.trueface.evaluation.tables import make_scores
from trueface.predictions.predictions import UNKNOWN, Predictions, merge, modifier_of_path
from trueface.runtime.errors import DataError


def scores(*rows: tuple[str, str, int, float]) -> Predictions:
    paths, keys, labels, logits = zip(*rows, strict=True)
    return make_scores(keys, labels, logits, paths)


def test_image_in_two_tables_counts_once() -> None:
    one = scores(("x.png", "x", 0, 1.0), ("y.png", "y", 1, 2.0))
    two = scores(("y.png", "y", 1, 2.0), ("z.png", "z", 0, 3.0))
    assert merge([one, two]).ids == ("x.png", "y.png", "z.png")


def test_image_with_different_labels_in_two_tables_is_rejected() -> None:
    one = scores(("x.png", "x", 0, 1.0), ("y.png", "y", 1, 2.0))
    with pytest.raises(DataError, match=r"y\.png is real in one score table and fake in another"):
        merge([one, scores(("y.png", "y", 0, 2.0))])


@pytest.mark.parametrize(
    ("path", "modifier"),
    [
        ("PreSocial/Fake/StyleGAN2/psi/00001.png", "pre"),
        ("TrueFace_PreSocial/Real/FFHQ/00001.png", "pre"),
        ("Facebook/fake/x.png", "fb"),
        ("TrueFace_PostSocial/Twitter/Real/FFHQ/00001.jpg", "tw"),
        ("Real/FFHQ/Fake/1.png", "none"),
        ("nets/Mastodon/Real/1.png", "nets/Mastodon"),
        ("somewhere/else/1.png", ""),
        ("Real", ""),
        ("#12", ""),
        ("gan2:pre/#12", ""),
    ],
)
def test_modifier_is_derived_from_the_path(path: str, modifier: str) -> None:
    assert modifier_of_path(path) == modifier


def test_subset_is_the_folder_of_the_key_or_otherwise_its_class() -> None:
    table = scores(("x", "StyleGAN2/psi/1", 1, 0), ("y", "2", 0, 0), ("z", "3", 1, 0))
    assert table.subsets == ("StyleGAN2/psi", "realFlat", "fakeFlat")


def test_selected_rows_keep_their_order() -> None:
    table = scores(("a", "a", 1, 1.0), ("b", "b", 0, 2.0), ("c", "c", 1, 3.0))
    some = table.rows(table.labels == 1)
    assert some.ids == ("a", "c")
    assert some.margin.tolist() == [1.0, 3.0]


def test_accuracy_counts_only_samples_with_a_known_label() -> None:
    logits = np.array([[1, 0], [0, 1], [0, 1]], np.float32)
    said = Predictions(
        logits=logits, labels=np.array([0, 0, 1]), true_labels=np.array([1, UNKNOWN, 1])
    )
    assert said.accuracy("trained") == pytest.approx(2 / 3)
    assert said.accuracy("true") == pytest.approx(1 / 2)


def test_single_logit_and_its_two_classes_are_the_same_predictions() -> None:
    margin, labels = np.array([-2.0, 0.0, 1.5, 30.0]), np.array([0, 1, 1, 0])
    one = Predictions.from_margin(margin, labels)
    two = Predictions(logits=one.class_logits, labels=labels, true_labels=labels)
    assert one.logits.shape == (4, 1)
    assert two.logits.tolist() == [[0, -2], [0, 0], [0, 1.5], [0, 30]]
    for part in (one, two):
        assert part.class_count == 2
        assert np.array_equal(part.margin, margin)
        assert part.predicted_classes.tolist() == [0, 0, 1, 1]  # a margin of 0 is class 0
        assert part.accuracy("true") == 0.5
    assert np.array_equal(one.log_probabilities(), two.log_probabilities())


def test_margin_of_float32_logits_is_subtracted_in_float32() -> None:
    logits = np.array([[0.1, 16777216.0]], np.float32)
    part = Predictions(logits=logits, labels=np.array([0]), true_labels=np.array([0]))
    assert part.margin.dtype == np.float64
    assert part.margin[0] == float(logits[0, 1] - logits[0, 0]) != float(logits[0, 1]) - 0.1


def test_margin_of_a_detector_is_not_copied() -> None:
    margin = np.arange(3.0)
    assert np.shares_memory(Predictions.from_margin(margin, np.zeros(3, np.int8)).margin, margin)


def test_three_classes_have_no_margin() -> None:
    labels = np.array([0, 2])
    part = Predictions(logits=np.eye(3)[[0, 2]], labels=labels, true_labels=labels)
    assert part.predicted_classes.tolist() == [0, 2]
    with pytest.raises(ValueError, match="3 classes have no margin"):
        _ = part.margin


def test_right_class_is_the_true_one_where_it_is_known() -> None:
    part = Predictions(
        logits=np.zeros((3, 2)), labels=np.array([0, 0, 1]), true_labels=np.array([1, UNKNOWN, 1])
    )
    assert part.right_classes.tolist() == [1, 0, 1]


def test_rows_take_all_columns_along() -> None:
    part = Predictions(
        logits=np.eye(3), labels=np.array([0, 1, 2]), true_labels=np.array([2, 1, 0]),
        ids=("a", "b", "c"), keys=("k", "l", "m"), videos=("", "v", ""),
        positions=np.array([4, 7, 9]),
    ).rows(np.array([2, 0]))  # fmt: skip
    assert part.logits.tolist() == [[0, 0, 1], [1, 0, 0]]
    assert (part.labels.tolist(), part.true_labels.tolist()) == ([2, 0], [0, 2])
    assert (part.ids, part.keys, part.videos) == (("c", "a"), ("m", "k"), ("", ""))
    assert part.positions.tolist() == [9, 4]


@pytest.mark.parametrize(
    "column",
    [
        {"labels": np.zeros(1, np.int8)},
        {"true_labels": np.zeros(3, np.int8)},
        {"ids": ("a",)},
        {"keys": ("a", "b", "c")},
        {"videos": ("a",)},
        {"positions": np.arange(3)},
        {"logits": np.zeros(2)},
    ],
    ids=lambda column: next(iter(column)),
)
def test_columns_of_different_lengths_are_rejected(column: dict[str, Any]) -> None:
    good = Predictions.from_margin(np.zeros(2), np.zeros(2, np.int8))
    with pytest.raises(ValueError, match="each prediction needs its labels"):
        replace(good, **column)
