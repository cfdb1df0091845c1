"""Selective synaptic dampening."""

import threading
from pathlib import Path

import pytest
import torch

from launcher.api import JobError
from tests.trueface.unlearning.build import Problem, flipped, one_class
from trueface.data.examples import examples
from trueface.runtime.progress import Watch


def weights(problem: Problem) -> list[torch.Tensor]:
    return [one.clone() for one in problem.model.state_dict().values()]


def same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_class_is_forgotten_and_the_others_stay(precision: str) -> None:
    done = one_class(pictures=True).run("ssd", watch=Watch(precision=precision))
    assert done.log[0].metrics["forget_accuracy_trained"] == 1
    assert (done.log[-1].metrics["forget_accuracy_trained"] or 0) < 0.2
    assert (done.log[-1].metrics["val_accuracy"] or 0) >= 0.95


@pytest.mark.parametrize("pictures", [False, True])
@pytest.mark.parametrize("logits", [1, 2])
def test_validation_stands_whatever_alpha_begins_with(pictures: bool, logits: int) -> None:
    problem = flipped(pictures=pictures, logits=logits)
    done = problem.run("ssd", options={"alpha": 0.01})
    lost = (done.log[0].metrics["val_accuracy"] or 0) - (done.log[-1].metrics["val_accuracy"] or 0)
    assert lost <= 0.05
    alphas = [step.metrics["alpha"] for step in done.log[1:-1]]
    assert alphas == [0.01 * 2**trial for trial in range(len(alphas))]
    assert str(len(alphas)) in done.notes[0] or "left as it was" in done.notes[0]


def test_without_a_search_the_one_alpha_is_taken() -> None:
    problem = flipped()
    before = weights(problem)
    done = problem.run("ssd", options={"alpha": 0.01, "search": False})
    assert len(done.log) == 3
    assert "alpha 0.01 was taken" in done.notes[0]
    assert not same(before, weights(problem))


def test_a_huge_alpha_leaves_the_model_as_it_was_and_says_so() -> None:
    problem = flipped()
    before = weights(problem)
    done = problem.run("ssd", options={"alpha": 1e30})
    assert "take a lower alpha" in done.notes[0]
    assert same(before, weights(problem))


def test_where_no_alpha_helps_the_model_is_left_as_it_was() -> None:
    problem = flipped()
    before = weights(problem)
    done = problem.run("ssd", options={"alpha": 1e-3, "most_loss": -1.0})
    assert "left as it was" in done.notes[0]
    assert same(before, weights(problem))


def test_forgetting_everything_changes_nothing() -> None:
    problem = flipped()
    every = problem.forget + problem.retain
    before = weights(problem)
    done = problem.run("ssd", forget=every, retain=None, options={"alpha": 1.001}, force=True)
    assert done.log[1].metrics["dampened"] == 0
    assert same(before, weights(problem))


def test_chance_is_not_traded_for_one_answer_to_all() -> None:
    problem = flipped(rate=0.5, pictures=True, epochs=40)
    done = problem.run("ssd", options={"alpha": 0.5, "most_loss": 1.0})
    said = [
        done.model(batch.inputs) > 0 for batch in problem.validation.batches("trained", epoch=None)
    ]
    share = torch.cat(said).float().mean()
    assert 0 < share < 1 or "left as it was" in done.notes[0]


def test_the_second_time_only_the_forgotten_are_read(tmp_path: Path) -> None:
    first = one_class(pictures=True).run("ssd", cache=tmp_path)
    second = one_class(pictures=True).run("ssd", cache=tmp_path)
    assert first.samples_read == second.samples_read == 32
    assert first.cached_samples == second.cached_samples == 96
    assert same(list(first.model.state_dict().values()), list(second.model.state_dict().values()))


def test_a_lone_linear_layer_over_features_will_do() -> None:
    random = torch.Generator().manual_seed(0)
    inputs = torch.randn(60, 5, generator=random)
    labels = inputs[:, :3].argmax(1)
    torch.manual_seed(0)
    model = torch.nn.Linear(5, 3)
    with torch.no_grad():
        model.weight.copy_(torch.eye(3, 5) * 4)
    every = examples(inputs, labels)
    rows = torch.arange(60)
    problem = Problem(
        model=model,
        forget=every.subset(rows[labels == 2].tolist()),
        retain=every.subset(rows[labels != 2].tolist()),
        validation=every,
        test=every,
        fresh=lambda: model,
        classes=3,
    )
    before = weights(problem)
    done = problem.run("ssd", options={"alpha": 2.0})
    assert "dampens" in done.notes[0]
    assert not same(before, weights(problem))


def test_it_stops_when_told() -> None:
    stop = threading.Event()
    problem = flipped()

    def told(**_: object) -> None:
        stop.set()

    with pytest.raises(JobError, match="stopped"):
        problem.run("ssd", watch=Watch(stop=stop, progress=told))
