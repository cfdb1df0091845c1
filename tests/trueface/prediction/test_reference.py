import numpy as np

from trueface.prediction.reference import FEWEST, MOST_ANSWERS, FeatureDistance, Reference


def features(count: int, seed: int, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(shift, 1, (count, 40)).astype(np.float32)


def test_images_of_another_sort_are_far_and_those_of_validations_sort_rarely() -> None:
    model = FeatureDistance.of(features(400, 0), features(400, 1))
    assert model is not None
    assert (model.distances(features(400, 2)) > model.limit).mean() <= 0.03
    assert (model.distances(features(50, 3, shift=2.0)) > model.limit).all()


def test_a_feature_that_never_varies_does_not_count() -> None:
    training, validation = features(100, 0), features(100, 1)
    training[:, 0] = 1.0
    model = FeatureDistance.of(training, validation)
    assert model is not None
    assert np.isfinite(model.distances(validation)).all()


def test_features_of_further_qualities_count_as_those_of_more_images() -> None:
    first, other, validation = features(80, 0), features(40, 2, shift=3.0), features(100, 1)
    parts = FeatureDistance.of(first, validation, other)
    whole = FeatureDistance.of(np.concatenate([first, other]), validation)
    assert parts is not None
    assert whole is not None
    assert np.array_equal(parts.mean, whole.mean)
    assert np.array_equal(parts.scale, whole.scale)
    assert parts.limit == whole.limit


def test_too_few_images_of_validation_give_no_limit() -> None:
    assert FeatureDistance.of(features(100, 0), features(FEWEST - 1, 1)) is None


def test_what_is_kept_is_read_again_and_stays_below_a_megabyte() -> None:
    distance = FeatureDistance.of(features(100, 0), features(100, 1))
    count = 3 * MOST_ANSWERS
    labels, logits = np.arange(count) % 2, np.arange(count) / 7
    kept = Reference.of(labels, logits, distance)
    read = Reference.read(kept.tensors)
    assert read is not None
    assert read.features is not None
    assert distance is not None
    assert len(read.labels) == MOST_ANSWERS
    assert set(np.round(read.logits * 7).astype(int) % 2 - read.labels) == {0}
    assert read.features.limit == distance.limit
    assert sum(each.nbytes for each in kept.tensors.values()) < 1 << 20
    assert Reference.read({}) is None
