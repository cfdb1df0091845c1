"""Instance-wise unlearning: a few instances go, held by examples around them and by importance."""

import threading
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from launcher.api import JobError
from tests.trueface.unlearning.build import Problem, flipped, one_class
from trueface.data.examples import Meter, examples
from trueface.evaluation.forward import answered
from trueface.runtime.progress import Watch
from trueface.unlearning.api import Request, Unlearned
from trueface.unlearning.cache import Cache
from trueface.unlearning.methods.instance_wise import IwuOptions, around, firmness
from trueface.unlearning.optimization import learn_plainly

SOON = {"lr": 0.01, "attack_steps": 10}  # few steps for few instances


def left(done: Unlearned) -> float:
    found = done.log[-1].metrics["forget_accuracy_trained"]
    assert found is not None
    return found


def kept(done: Unlearned, problem: Problem) -> float:
    found = answered(done.model, problem.retain, Watch()).accuracy("trained")
    assert found is not None
    return found


@pytest.mark.parametrize("pictures", [False, True])
def test_few_instances_go_and_importance_holds_the_rest(pictures: bool) -> None:
    def done(importance: float) -> tuple[float, float]:
        problem = one_class(classes=10, pictures=pictures)
        some = problem.forget.subset(range(16))
        options = {**SOON, "importance": importance}
        found = problem.run("iwu", forget=some, options=options, goal="instances")
        return left(found), kept(found, problem)

    held, free = done(10.0), done(0.0)
    assert held[0] == free[0] == 0
    assert held[1] > free[1]
    assert held[1] >= 0.9


def test_it_ends_as_soon_as_all_is_forgotten() -> None:
    done = one_class().run("iwu", options={**SOON, "radius": 1.0})
    assert left(done) == 0
    assert len(done.log) - 2 < 100
    assert [step.step for step in done.log] == list(range(len(done.log)))


def test_what_is_forgotten_already_stays_as_it_is() -> None:
    problem = one_class()
    before = [one.clone() for one in problem.model.parameters()]
    gone = problem.forget.relabelled([0] * len(problem.forget))
    done = problem.run("iwu", forget=gone, options=SOON)
    assert all(map(torch.equal, before, done.model.parameters()))


def test_it_says_where_something_is_left() -> None:
    done = one_class().run("iwu", options={**SOON, "epochs": 1, "lr": 1e-9})
    assert "100.0% of these still have their answer" in done.notes[-1]


@pytest.mark.parametrize(("most", "used"), [(1, 1), (8, 8), (500, 32)])
def test_no_more_instances_are_used_than_allowed(most: int, used: int) -> None:
    done = one_class().run("iwu", options={**SOON, "epochs": 1, "most": most})
    assert done.notes[0] == f"used {used} of 32 forgotten samples"
    assert done.samples_read == 2 * used  # for itself, and for the importances


@pytest.mark.parametrize("logits", [1, 2])
@pytest.mark.parametrize("pictures", [False, True])
def test_of_two_classes_flips_are_turned_round(logits: int, pictures: bool) -> None:
    problem = flipped(logits=logits, pictures=pictures)
    done = problem.run("iwu", options={**SOON, "radius": 0.5})
    assert left(done) == 0
    assert done.log[-1].metrics["forget_accuracy_true"] == 1


def test_what_lies_around_is_the_same_however_many_are_attacked_at_a_time() -> None:
    problem = one_class(pictures=True)
    instances = (
        torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(1)),
        torch.ones(6).long(),
    )
    meter = Meter()

    def attacked(size: int) -> torch.Tensor:
        request = Request(
            model=problem.model.eval(),
            forget=problem.forget,
            retain=None,
            validation=problem.validation,
            options=IwuOptions(adversarial=4, adversarial_batch=size, attack_steps=3),
            goal="class",
            classes=3,
            fresh=None,
            learn=learn_plainly,
            cache=Cache(None, meter),
            meter=meter,
            watch=Watch(),
            seed=0,
        )
        return around(request, instances)[0]

    whole = attacked(24)
    assert float((whole - instances[0].repeat_interleave(4, 0)).abs().max()) > 0.1
    for size in (7, 1):
        torch.testing.assert_close(attacked(size), whole, rtol=1e-4, atol=1e-4)


def test_what_matters_least_is_held_firmest() -> None:
    assert firmness(torch.tensor([2.0, 3.0, 4.0])).tolist() == [1, 0.5, 0]
    assert firmness(torch.tensor([2.0, 2.0])).tolist() == [1, 1]
    assert firmness(torch.zeros(1)).tolist() == [1]


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
    forget = examples((raw * 255).byte(), some.trained)
    wrapped = replace(problem, model=Pixels().eval(), forget=forget)
    assert left(wrapped.run("iwu", retain=None, options={**SOON, "radius": 1.0})) == 0


def test_batch_statistics_stay() -> None:
    before = one_class(pictures=True).model.state_dict()
    after = one_class(pictures=True).run("iwu", options=SOON).model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before if "running" in name)


def test_half_precision_works() -> None:
    problem, watch = one_class(pictures=True), Watch(precision="bf16")
    assert left(problem.run("iwu", options={**SOON, "radius": 1.0}, watch=watch)) == 0


def test_the_same_seed_gives_the_same_model() -> None:
    def once(seed: int) -> list[torch.Tensor]:
        options = {**SOON, "epochs": 2, "batch_size": 8, "adversarial_batch": 50}
        return list(one_class().run("iwu", options=options, seed=seed).model.parameters())

    assert all(map(torch.equal, once(1), once(1)))
    assert not all(map(torch.equal, once(1), once(2)))


def test_a_stop_ends_the_attack() -> None:
    stop, problem = threading.Event(), one_class()

    class Halting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network, self.attacked = problem.model, 0

        def forward(self, given: torch.Tensor) -> torch.Tensor:
            if given.requires_grad:
                self.attacked += 1
                stop.set()
            found: torch.Tensor = self.network(given)
            return found

    model = Halting().eval()
    with pytest.raises(JobError, match="stopped"):
        replace(problem, model=model).run("iwu", watch=Watch(stop=stop))
    assert model.attacked == 1


def test_a_stop_ends_the_descent() -> None:
    stop = threading.Event()

    def halt(**_: Any) -> None:
        stop.set()

    with pytest.raises(JobError, match="stopped"):
        one_class().run("iwu", options=SOON, watch=Watch(stop=stop, progress=halt))
