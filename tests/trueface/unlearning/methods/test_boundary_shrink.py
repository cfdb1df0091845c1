"""Boundary shrink: to the nearest other class, and never to the own one."""

import threading
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from launcher.api import JobError
from tests.trueface.unlearning.build import Problem, flipped, one_class
from trueface.data.examples import Examples, Meter, examples
from trueface.evaluation.forward import answered
from trueface.runtime.progress import Watch
from trueface.unlearning.api import Request
from trueface.unlearning.cache import Cache
from trueface.unlearning.methods.boundary import ShrinkOptions, nearest
from trueface.unlearning.optimization import learn_plainly

FAST = {True: {"lr": 0.01}, False: {"lr": 0.1}}  # for pictures, and for points: ten steps in all


def asked(problem: Problem, *, forget: Examples | None = None) -> Request:
    return Request(
        model=problem.model,
        forget=problem.forget if forget is None else forget,
        retain=None,
        validation=problem.validation,
        options=ShrinkOptions(),
        goal="class",
        classes=problem.classes,
        fresh=None,
        learn=learn_plainly,
        cache=Cache(None, Meter()),
        meter=Meter(),
        watch=Watch(),
        seed=0,
    )


@pytest.mark.parametrize("bound", [1e-6, 0.1, 10.0])
@pytest.mark.parametrize("pictures", [False, True])
@pytest.mark.parametrize("classes", [2, 3, 10])
def test_the_nearest_class_is_never_the_own_one(bound: float, pictures: bool, classes: int) -> None:
    problem = one_class(classes=classes, pictures=pictures)
    moved = nearest(asked(problem), bound)
    assert moved.positions == problem.forget.positions
    assert not any(
        one == was for one, was in zip(moved.trained, problem.forget.trained, strict=True)
    )
    assert set(moved.trained) <= set(range(classes))


def test_points_go_to_the_class_next_to_them() -> None:
    problem = one_class(classes=10)  # on a circle, in order: neighbours of 9 are 8 and 0
    assert set(nearest(asked(problem), 0.1).trained) == {0, 8}


def test_of_two_classes_nothing_has_to_be_read() -> None:
    problem = flipped()
    done = problem.run("shrink", options={"epochs": 1})
    assert done.samples_read == len(problem.forget)


def test_of_more_classes_each_sample_is_read_once_for_its_nearest() -> None:
    problem = one_class()
    done = problem.run("shrink", options={"epochs": 1})
    assert done.samples_read == 3 * len(problem.forget)


@pytest.mark.parametrize("pictures", [False, True])
def test_a_class_goes_and_most_of_the_others_stays(pictures: bool) -> None:
    problem = one_class(classes=3, pictures=pictures)
    done = problem.run("shrink", options=FAST[pictures], retain=None, goal="class")
    assert done.log[-1].metrics["forget_accuracy_trained"] == 0
    kept = answered(done.model, problem.retain, Watch()).accuracy("trained")
    assert kept is not None
    assert kept >= 0.9


@pytest.mark.parametrize("logits", [1, 2])
@pytest.mark.parametrize("pictures", [False, True])
def test_of_two_classes_flips_are_repaired(logits: int, pictures: bool) -> None:
    problem = flipped(logits=logits, pictures=pictures)
    done = problem.run("shrink", options={"lr": 0.02})
    assert done.log[-1].metrics["forget_accuracy_true"] == 1
    assert done.log[-1].metrics["val_accuracy"] == 1


def test_batch_statistics_stay_unless_they_are_told_to_move() -> None:
    def statistics(**options: Any) -> list[torch.Tensor]:
        model = one_class(pictures=True).run("shrink", options=options).model
        return [value for name, value in model.state_dict().items() if "running" in name]

    before = [v for n, v in one_class(pictures=True).model.state_dict().items() if "running" in n]
    assert all(map(torch.equal, before, statistics()))
    assert not any(map(torch.equal, before, statistics(bn="train")))


def test_bytes_are_attacked_as_pixels() -> None:
    problem = one_class(pictures=True)

    class Pixels(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = problem.model

        def forward(self, given: torch.Tensor) -> torch.Tensor:
            floats = given.float() / 255 if given.dtype == torch.uint8 else given
            assert float(floats.detach().min()) >= 0
            assert float(floats.detach().max()) <= 1
            found: torch.Tensor = self.network(floats)
            return found

    some = problem.forget
    (raw,) = [inputs for inputs, _ in some.source(some.positions, epoch=None, batch_size=None)]
    whole = (raw * 255).round().byte()
    wrapped = replace(problem, model=Pixels().eval())
    from_bytes = nearest(asked(wrapped, forget=examples(whole, some.trained)), 0.1)
    from_floats = nearest(asked(wrapped, forget=examples(whole / 255, some.trained)), 0.1)
    assert from_bytes.trained == from_floats.trained
    forget = examples(whole, some.trained)
    done = wrapped.run("shrink", forget=forget, retain=None, options=FAST[True])
    assert done.log[-1].metrics["forget_accuracy_trained"] == 0


def test_half_precision_works() -> None:
    watch = Watch(precision="bf16")
    done = one_class(pictures=True).run("shrink", options=FAST[True], watch=watch)
    assert done.log[-1].metrics["forget_accuracy_trained"] == 0


def test_the_same_seed_gives_the_same_model() -> None:
    def once() -> list[torch.Tensor]:
        return list(
            one_class(pictures=True).run("shrink", options=FAST[True], seed=3).model.parameters()
        )

    assert all(map(torch.equal, once(), once()))


def test_each_epoch_is_logged() -> None:
    log = one_class().run("shrink", options={"epochs": 2}).log
    assert [step.step for step in log] == [0, 1, 2, 3]
    assert {"loss", "forget_accuracy_trained", "val_accuracy"} <= set(log[1].metrics)


def test_a_stop_ends_it() -> None:
    stop = threading.Event()

    def halt(**_: Any) -> None:
        stop.set()

    with pytest.raises(JobError, match="stopped"):
        one_class().run("shrink", watch=Watch(stop=stop, progress=halt))
