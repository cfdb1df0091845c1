"""Importances of weights, dampening by them, and the guard of what a model can do."""

import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from launcher.api import JobError
from tests.trueface.unlearning.build import Problem, flipped, one_class
from trueface.data.examples import CountedSource, Meter, examples, mixed, whole
from trueface.models.logits import wide
from trueface.runtime.progress import Watch
from trueface.unlearning.api import Request
from trueface.unlearning.cache import Cache
from trueface.unlearning.importance import Dampening, Sort, dampening, guard, importances
from trueface.unlearning.methods.ssd import SsdOptions
from trueface.unlearning.optimization import learn_plainly
from trueface.unlearning.registry import Goal

SORTS: tuple[Sort, ...] = ("loss", "norm")


def asked(problem: Problem, *, goal: Goal = "flips", cache: Path | None = None) -> Request:
    """Return a request as `run` makes it."""
    return Request(
        model=problem.model,
        forget=problem.forget,
        retain=problem.retain,
        validation=problem.validation,
        options=SsdOptions(),
        goal=goal,
        classes=problem.classes,
        fresh=None,
        learn=learn_plainly,
        cache=Cache(cache, Meter()),
        meter=Meter(),
        watch=Watch(),
        seed=0,
    )


def state(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("sort", SORTS)
@pytest.mark.parametrize("logits", [1, 2])
def test_importances_of_one_batch_are_those_of_its_gradient(sort: Sort, logits: int) -> None:
    problem = flipped(logits=logits)
    request = asked(problem)
    found = importances(request, (problem.forget,), sort, batch_size=1000)
    inputs = torch.cat([batch.inputs for batch in problem.forget.batches("trained", epoch=None)])
    said = wide(problem.model(inputs))
    right = torch.tensor(problem.forget.trained)
    if sort == "loss":
        loss = nn.functional.cross_entropy(said, right)
    else:
        loss = said.square().sum(1).sqrt().mean()
    for name, weight in problem.model.named_parameters():
        (gradient,) = torch.autograd.grad(loss, weight, retain_graph=True)
        size = gradient.square() if sort == "loss" else gradient.abs()
        torch.testing.assert_close(found[name], size, rtol=1e-4, atol=1e-7)


def test_each_batch_counts_by_its_size() -> None:
    problem = flipped()
    request = asked(problem)
    some = problem.retain.subset(range(5))
    found = importances(request, (some,), "loss", batch_size=3)
    parts = [mixed(some).subset(rows) for rows in ((0, 1, 2), (3, 4))]
    singles = [importances(request, (part,), "loss", batch_size=3) for part in parts]
    for name, one in found.items():
        mean = (3 * singles[0][name] + 2 * singles[1][name]) / 5
        torch.testing.assert_close(one, mean)


def test_batch_statistics_and_gradients_stay_as_they_are() -> None:
    problem = flipped(pictures=True)
    before = state(problem.model)
    problem.model.zero_grad(set_to_none=True)
    importances(asked(problem), (problem.forget,), "loss", batch_size=8)
    assert all(torch.equal(before[name], one) for name, one in problem.model.state_dict().items())
    assert all(weight.grad is None for weight in problem.model.parameters())


def test_frozen_weights_are_left_out() -> None:
    problem = flipped()
    problem.model[0].requires_grad_(False)  # type: ignore[index]  # a Sequential
    assert set(importances(asked(problem), (problem.forget,), "loss", batch_size=8)) == {
        "2.weight",
        "2.bias",
    }
    problem.model.requires_grad_(False)
    with pytest.raises(JobError, match="all of them are frozen"):
        importances(asked(problem), (problem.forget,), "loss", batch_size=8)


@pytest.mark.parametrize("sort", SORTS)
def test_forgetting_everything_selects_nothing_above_one(sort: Sort) -> None:
    problem = flipped(pictures=True)
    every = problem.forget + problem.retain
    request = replace(asked(problem), forget=every, retain=every)
    before = state(problem.model)
    found = dampening(request, sort, batch_size=16)
    ratios = found.ratios()
    assert set(ratios.tolist()) <= {0.0, 1.0}
    assert found.apply(1.0, 1.0) == 0
    assert all(torch.equal(before[name], one) for name, one in problem.model.state_dict().items())


def test_weights_are_dampened_by_their_ratio_from_the_originals_each_time() -> None:
    weight = nn.Parameter(torch.tensor([1.0, 2.0, 3.0, 4.0]))
    found = Dampening(
        weights={"one": weight},
        original={"one": weight.detach().clone()},
        forgotten={"one": torch.tensor([8.0, 1.0, 0.0, 5.0])},
        everything={"one": torch.tensor([1.0, 1.0, 0.0, 0.0])},
    )
    assert found.ratios().tolist() == [8.0, 1.0, 0.0, torch.inf]
    assert found.apply(2.0, 1.0) == 2
    assert weight.tolist() == [0.125, 2.0, 3.0, 0.0]
    assert found.apply(0.5, 4.0) == 3
    assert weight.tolist() == [0.5, 2.0, 3.0, 0.0]  # never more than it was
    found.restore()
    assert weight.tolist() == [1.0, 2.0, 3.0, 4.0]


def test_what_all_need_is_found_again_whatever_shall_be_forgotten(tmp_path: Path) -> None:
    problem = flipped()
    meter = Meter()
    every = problem.forget + problem.retain
    for rows in (range(16), range(20, 36)):
        gone = set(rows)
        kept = [row for row in range(len(every)) if row not in gone]
        request = asked(problem)
        dampening(
            replace(
                request,
                forget=replace(every.subset(rows), source=CountedSource(every.source, meter)),
                retain=replace(every.subset(kept), source=CountedSource(every.source, meter)),
                cache=Cache(tmp_path, meter),
            ),
            "loss",
            batch_size=16,
        )
    assert len(list(tmp_path.iterdir())) == 1
    assert meter.samples == 2 * 16


def test_another_label_sort_or_weight_is_another_importance(tmp_path: Path) -> None:
    problem = flipped()
    request = asked(problem, cache=tmp_path)
    dampening(request, "loss", batch_size=16)
    dampening(request, "norm", batch_size=16)
    right = problem.forget.relabelled(problem.forget.true or ())
    dampening(replace(request, forget=right), "loss", batch_size=16)
    with torch.no_grad():
        next(problem.model.parameters()).mul_(2)
    dampening(request, "loss", batch_size=16)
    assert len(list(tmp_path.iterdir())) == 4


def test_samples_of_two_sources_are_both_read() -> None:
    problem = flipped()
    other = examples(torch.zeros(3, 2), [0, 1, 1])
    parts = whole(problem.forget, other)
    assert [len(part) for part in parts] == [len(problem.forget), 3]
    importances(asked(problem), parts, "loss", batch_size=8)


def test_the_whole_is_the_same_however_it_is_divided() -> None:
    problem = flipped()
    every = problem.forget + problem.retain
    (one,) = whole(problem.forget, problem.retain)
    (other,) = whole(every.subset(range(40, 50)), every)
    assert one == other


def test_importances_stop_when_told() -> None:
    problem = flipped()
    stop = threading.Event()
    stop.set()
    with pytest.raises(JobError, match="stopped"):
        importances(
            replace(asked(problem), watch=Watch(stop=stop)),
            (problem.forget,),
            "loss",
            batch_size=8,
        )


def test_importances_that_are_no_numbers_are_refused() -> None:
    problem = flipped()
    with torch.no_grad():
        next(problem.model.parameters()).fill_(torch.nan)
    with pytest.raises(JobError, match="no finite numbers"):
        importances(asked(problem), (problem.forget,), "loss", batch_size=8)


def test_a_model_that_says_the_same_of_all_does_not_stand() -> None:
    problem = flipped()
    before = guard(asked(problem), most_loss=1.0)
    assert before.look()[1]
    with torch.no_grad():
        for weight in problem.model.parameters():
            weight.zero_()
    assert before.look() == (0.5, False)


def test_it_may_say_the_same_of_all_where_one_class_is_left() -> None:
    problem = one_class(classes=2)
    kept = [row for row, label in enumerate(problem.validation.trained) if label == 0]
    request = replace(asked(problem, goal="class"), validation=problem.validation.subset(kept))
    assert guard(request, most_loss=0.05).look()[1]
