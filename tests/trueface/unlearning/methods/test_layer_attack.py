"""Layer attack: the body stays bit for bit, what shall go goes, and all else is held."""

import threading
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from launcher.api import JobError, UsageError
from tests.trueface.unlearning.build import Problem, flipped, network, one_class, points
from trueface.data.examples import examples
from trueface.evaluation.forward import answered
from trueface.models.logits import last_layer
from trueface.runtime.progress import Watch
from trueface.unlearning.api import Unlearned


def accuracy_on_others(model: nn.Module, problem: Problem) -> float:
    rows = [row for row, one in enumerate(problem.test.trained) if one != problem.classes - 1]
    share = answered(model, problem.test.subset(rows), Watch()).accuracy("trained")
    assert share is not None
    return share


def left(done: Unlearned) -> float:
    found = done.log[-1].metrics["forget_accuracy_trained"]
    assert found is not None
    return found


def copied(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("classes", [3, 10])
@pytest.mark.parametrize("pictures", [False, True])
@pytest.mark.parametrize(
    "options",
    [{}, {"double_softmax": False}, {"pgd": "full"}, {"attack_steps": 1}, {"alpha": 0.0}],
    ids=str,
)
def test_a_class_goes_and_the_others_stay(
    classes: int, pictures: bool, options: dict[str, Any]
) -> None:
    problem = one_class(classes=classes, pictures=pictures)
    before = accuracy_on_others(problem.model, problem)
    done = problem.run("lau", options=options, retain=None)
    assert left(done) == 0
    assert accuracy_on_others(done.model, problem) >= before - 0.03


@pytest.mark.parametrize("pgd", ["partial", "full"])
@pytest.mark.parametrize("pictures", [False, True])
def test_only_the_last_layer_changes(pgd: str, pictures: bool) -> None:
    problem = one_class(pictures=pictures)
    before, (head, _) = copied(problem.model), last_layer(problem.model)
    done = problem.run("lau", options={"pgd": pgd})
    changed = {
        name
        for name, value in done.model.state_dict().items()
        if not torch.equal(value, before[name])
    }
    assert changed == {f"{head}.weight", f"{head}.bias"}


def test_the_forget_set_is_read_once_and_nothing_else() -> None:
    problem = one_class(classes=10)
    done = problem.run("lau")
    assert len(done.log) > 3
    assert done.samples_read == len(problem.forget)


def test_each_time_the_attack_on_inputs_grows_the_forget_set_is_read_once_more() -> None:
    passes = []
    for eps in (0.3, 0.001, None):
        problem = one_class()
        options = {"pgd": "full", "epochs": 1, "eps": eps}
        passes.append(problem.run("lau", options=options).samples_read / len(problem.forget))
    assert passes[:2] == [2, 2]  # the features, and the attack
    assert passes[2] == 6  # and four larger ones


def test_the_layer_is_the_same_however_many_features_are_attacked_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    layers = []
    for rows in (4096, 5):
        monkeypatch.setattr("trueface.unlearning.methods.layer_attack.ROWS", rows)
        layers.append(last_layer(one_class(classes=10).run("lau", options={"lr": 0.01}).model)[1])
    torch.testing.assert_close(layers[0].weight, layers[1].weight, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("share", [0.01, 0.25, 1.0])
def test_a_share_of_the_forget_set_is_read(share: float) -> None:
    problem = one_class(classes=3)
    done = problem.run("lau", options={"share": share})
    count = max(1, round(share * len(problem.forget)))
    assert done.samples_read == count
    assert f"read {count} of {len(problem.forget)}" in done.notes[0]


def test_it_ends_before_its_first_step_where_all_is_forgotten() -> None:
    problem = one_class()
    gone = problem.forget.relabelled([0] * len(problem.forget))
    before = copied(problem.model)
    done = problem.run("lau", forget=gone)
    assert len(done.log) == 2
    assert all(torch.equal(value, before[name]) for name, value in done.model.state_dict().items())


def test_it_says_where_something_is_left() -> None:
    done = one_class().run("lau", options={"epochs": 1, "lr": 1e-9})
    assert left(done) == 1
    assert "100.0% of these still have their answer" in done.notes[-1]


def test_an_attack_that_fails_teaches_the_best_other_class() -> None:
    done = one_class().run("lau", options={"eps": 1e-9, "lr": 0.1})
    assert left(done) == 0


def test_features_below_zero_may_be_attacked_to_below_zero() -> None:
    inputs, labels = points(3, 20, 0)
    torch.manual_seed(0)
    layer = nn.Linear(2, 3)
    with torch.no_grad():  # the centres of the blobs: what is nearest is answered
        angle = torch.arange(3) * (2 * torch.pi / 3)
        layer.weight.copy_(torch.stack([angle.cos(), angle.sin()], 1))
        layer.bias.zero_()
    rows = (labels == 2).nonzero().squeeze(1).tolist()
    others = (labels != 2).nonzero().squeeze(1).tolist()
    everything = examples(inputs, labels)
    problem = Problem(
        model=layer,
        forget=everything.subset(rows),
        retain=everything.subset(others),
        validation=everything,
        test=everything,
        fresh=lambda: nn.Linear(2, 3),
        classes=3,
    )
    done = problem.run("lau")
    assert left(done) == 0
    assert accuracy_on_others(done.model, problem) >= 0.97


@pytest.mark.parametrize("logits", [1, 2])
def test_two_classes_are_refused_unless_forced(logits: int) -> None:
    problem = flipped(logits=logits)
    with pytest.raises(UsageError, match="two classes"):
        problem.run("lau")
    done = problem.run("lau", force=True)
    true = done.log[-1].metrics["forget_accuracy_true"]
    assert true is not None
    assert left(done) == 0
    assert true == 1
    assert done.notes[0].startswith("forced: ")


@pytest.mark.parametrize("pgd", ["partial", "full"])
def test_bytes_may_be_attacked(pgd: str) -> None:
    problem = one_class(pictures=True)

    class Pixels(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = problem.model

        def forward(self, given: torch.Tensor) -> torch.Tensor:
            floats = given.float() / 255 if given.dtype == torch.uint8 else given
            found: torch.Tensor = self.network(floats)
            return found

    some = problem.forget
    (raw,) = [inputs for inputs, _ in some.source(some.positions, epoch=None, batch_size=None)]
    forget = examples((raw * 255).byte(), problem.forget.trained)
    wrapped = replace(problem, model=Pixels().eval(), forget=forget)
    done = wrapped.run("lau", retain=None, options={"pgd": pgd}, goal="class")
    assert left(done) == 0


@pytest.mark.parametrize("pgd", ["partial", "full"])
def test_half_precision_works(pgd: str) -> None:
    problem = one_class(pictures=True)
    done = problem.run("lau", options={"pgd": pgd}, watch=Watch(precision="bf16"))
    assert left(done) == 0
    assert accuracy_on_others(done.model, problem) >= 0.97


@pytest.mark.parametrize("pgd", ["partial", "full"])
def test_the_same_seed_gives_the_same_layer(pgd: str) -> None:
    def once(seed: int) -> torch.Tensor:
        options = {"pgd": pgd, "batch_size": 5, "epochs": 2}
        done = one_class().run("lau", seed=seed, options=options)
        return last_layer(done.model)[1].weight.detach()

    assert torch.equal(once(1), once(1))
    assert not torch.equal(once(1), once(2))


def test_a_stop_ends_it() -> None:
    problem = one_class()
    stop = threading.Event()

    def halt(**_: Any) -> None:
        stop.set()

    with pytest.raises(JobError, match="stopped"):
        problem.run("lau", watch=Watch(stop=stop, progress=halt), options={"lr": 1e-9})


def test_a_model_without_a_head_of_its_own_is_refused() -> None:
    class Doubled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = network(3)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = self.inner(images)
            return 2 * found + 1

    problem = one_class(pictures=True)
    with pytest.raises(JobError, match="cannot be split"):
        replace(problem, model=Doubled().eval()).run("lau")
