from typing import Any

import pytest
import torch

from launcher.api import JobError
from tests.trueface.unlearning import checks
from tests.trueface.unlearning.build import flipped, one_class
from trueface.data.examples import Meter, examples
from trueface.runtime.progress import Watch
from trueface.unlearning.api import Request
from trueface.unlearning.building_blocks import ONLY_OTHER, random_other_labels
from trueface.unlearning.cache import Cache
from trueface.unlearning.methods.random_labels import RlOptions
from trueface.unlearning.optimization import learn_plainly

FAST = {"lr": 0.05, "epochs": 20}


def request(trained: list[int], classes: int, goal: str, seed: int = 0) -> Request:
    some = examples(torch.rand(len(trained), 2), trained)
    given: dict[str, Any] = {"model": torch.nn.Linear(2, classes), "goal": goal, "seed": seed}
    return Request(
        forget=some,
        retain=None,
        validation=some,
        options=RlOptions(),
        classes=classes,
        fresh=None,
        learn=learn_plainly,
        cache=Cache(None, Meter()),
        meter=Meter(),
        watch=Watch(),
        **given,
    )


def test_a_label_is_never_the_trained_one_and_every_other_one_comes() -> None:
    trained = [0, 1, 2, 3] * 50
    labels = random_other_labels(request(trained, 4, "instances"), 0)
    pairs = set(zip(trained, labels, strict=True))
    assert pairs == {(old, new) for old in range(4) for new in range(4) if old != new}


def test_of_two_classes_it_is_the_other_one() -> None:
    assert random_other_labels(request([0, 1, 1], 2, "flips"), 0) == (1, 0, 0)


def test_classes_that_go_get_labels_of_those_that_stay() -> None:
    assert set(random_other_labels(request([1, 2] * 30, 4, "class"), 0)) == {0, 3}


def test_labels_follow_from_seed_and_epoch() -> None:
    asked = request([0] * 30, 4, "instances")
    assert random_other_labels(asked, 0) == random_other_labels(asked, 0)
    assert random_other_labels(asked, 0) != random_other_labels(asked, 1)
    assert random_other_labels(asked, 0) != random_other_labels(
        request([0] * 30, 4, "instances", seed=1), 0
    )


@pytest.mark.parametrize("pictures", [False, True])
@pytest.mark.parametrize("logits", [1, 2])
def test_wrong_labels_are_put_right_and_a_note_says_so(pictures: bool, logits: int) -> None:
    done = flipped(pictures=pictures, logits=logits).run("rl", options=FAST)
    checks.sound(done, 20)
    assert done.log[-1].metrics["forget_accuracy_true"] == 1
    assert done.notes == (ONLY_OTHER,)


@pytest.mark.parametrize("pictures", [False, True])
@pytest.mark.parametrize("with_retain", [False, True])
def test_a_class_is_forgotten(pictures: bool, with_retain: bool) -> None:
    problem = one_class(pictures=pictures)
    done = problem.run("rl", options={**FAST, "with_retain": with_retain})
    assert done.log[-1].metrics["forget_accuracy_trained"] == 0
    assert (done.log[-1].metrics["val_accuracy"] or 0) > 0.9
    assert done.notes == ()


def test_the_kept_are_read_only_if_asked_for() -> None:
    problem = one_class()
    alone = problem.run("rl", options={"epochs": 1}, retain=None)
    assert alone.samples_read == len(problem.forget)
    both = one_class().run("rl", options={"epochs": 1, "with_retain": True})
    assert both.samples_read == alone.samples_read + len(problem.retain)
    with pytest.raises(JobError, match="nothing to learn from"):
        problem.run("rl", options={"with_retain": True}, retain=None)


def test_batch_statistics_stay() -> None:
    problem = one_class(pictures=True)
    before = [one.clone() for one in problem.model.buffers()]
    problem.run("rl", options=FAST)
    assert all(torch.equal(*pair) for pair in zip(before, problem.model.buffers(), strict=True))


@pytest.mark.parametrize("logits", [1, 2])
def test_a_last_layer_alone_will_do(logits: int) -> None:
    done = checks.over_features(logits).run("rl", options=FAST)
    assert (done.log[-1].metrics["forget_accuracy_true"] or 0) > 0.9


def test_half_precision_will_do() -> None:
    watch = Watch(precision="bf16")
    done = one_class(pictures=True).run("rl", options={**FAST, "redraw": True}, watch=watch)
    assert done.log[-1].metrics["forget_accuracy_trained"] == 0


def test_a_seed_fixes_the_result() -> None:
    checks.repeats("rl", {**FAST, "redraw": True})


def test_it_can_be_stopped() -> None:
    checks.stops("rl", {})
