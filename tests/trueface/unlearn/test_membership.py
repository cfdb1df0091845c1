"""Membership inference: chance where there is nothing to find, and found where there is."""

import numpy as np
import pytest

from tests.trueface.unlearn.said import said
from trueface.unlearn.answers import Answered
from trueface.unlearn.measures import Unmeasured
from trueface.unlearn.membership import by_confidence, by_entropy, by_loss, membership

COUNT = 300


def answers(sure: float, seed: int, *, count: int = COUNT, wrong: bool = False) -> Answered:
    """Return answers of one sureness on average, all right (or all wrong) of two classes."""
    random = np.random.default_rng(seed)
    truth = random.integers(0, 2, count)
    margin = random.normal(sure, 1.0, count) * np.where(truth == 1, 1, -1)
    part = said((1 - truth if wrong else truth).tolist(), truth.tolist(), true=truth.tolist())
    part.logits[:] = np.stack([np.zeros(count), margin], 1)
    return part


def test_alike_distributions_are_not_told_apart() -> None:
    forget, retain, test = (answers(2, seed) for seed in (1, 2, 3))
    parts = {"forget": forget, "retain": retain, "validation": test, "test": test}
    found = membership(parts, goal="instances").values
    assert found["mia_loss"] == pytest.approx(0.5, abs=0.08)
    assert found["mia_entropy"] == pytest.approx(0.5, abs=0.2)
    # an SVC on one feature without signal may lean to either side
    assert 0.1 < found["mia_svc"] < 0.9


def test_members_of_an_overfitted_model_are_found() -> None:
    forget, retain, test = answers(8, 1), answers(8, 2), answers(0.5, 3)
    parts = {"forget": forget, "retain": retain, "validation": test, "test": test}
    found = membership(parts, goal="instances").values
    assert found["mia_loss"] > 0.9
    assert found["mia_entropy"] > 0.9
    assert found["mia_svc"] < 0.1  # the share that is taken for others


def test_a_model_that_forgot_is_believed_by_all_attacks() -> None:
    forget, retain, test = answers(0.5, 1), answers(8, 2), answers(0.5, 3)
    assert by_entropy(retain=retain, outside=test, forget=forget) < 0.2
    assert by_confidence(retain=retain, outside=test, forget=forget) > 0.8
    assert by_loss(forget=forget, outside=test) == pytest.approx(0.5, abs=0.08)


def test_wrong_labels_are_set_beside_labels_that_are_wrong_in_the_same_way() -> None:
    # a model that never saw the wrong labels has a high loss on them, and that gives nothing away
    forget, test = answers(4, 1, wrong=True), answers(4, 3)
    assert by_loss(forget=forget, outside=test) == pytest.approx(0.5, abs=0.08)
    remembered = answers(-4, 1, wrong=True)
    assert by_loss(forget=remembered, outside=test) > 0.95


def test_the_same_seed_gives_the_same_answer() -> None:
    forget, test = answers(3, 1), answers(2, 3, count=2000)
    assert by_loss(forget=forget, outside=test, seed=5) == by_loss(
        forget=forget, outside=test, seed=5
    )


def test_too_few_samples_are_no_attack() -> None:
    few, many = answers(2, 1, count=5), answers(2, 2)
    with pytest.raises(Unmeasured, match="needs 10"):
        by_entropy(retain=few, outside=many, forget=many)
    with pytest.raises(Unmeasured, match="needs 10"):
        by_loss(forget=few, outside=many)


def test_a_class_that_the_test_does_not_have_is_no_attack() -> None:
    forget = said([2] * 40, [0] * 40, classes=3, noise=1)
    test = said([0, 1] * 40, [0, 1] * 40, classes=3, noise=2)
    with pytest.raises(Unmeasured, match="0 samples of the forgotten classes"):
        by_loss(forget=forget, outside=test)


def test_a_constant_model_tells_nothing() -> None:
    same = said([0, 1] * 20, [1, 1] * 20)
    with pytest.raises(Unmeasured, match="answers all samples alike"):
        by_entropy(retain=same, outside=same, forget=same)
