import math

import pytest
import torch
from torch import Tensor, nn

from tests.trueface.unlearning import checks
from tests.trueface.unlearning.build import flipped, one_class, perceptron, points
from trueface.models.logits import cross_entropy, wide
from trueface.runtime.progress import Watch
from trueface.unlearning.methods.npo import preference

FAST = {"lr": 0.05, "epochs": 20}


def gradient(model: nn.Module, loss: Tensor) -> Tensor:
    found = torch.autograd.grad(loss, list(model.parameters()))
    return torch.cat([one.flatten() for one in found])


@pytest.mark.parametrize("logits", [1, 3])
def test_with_a_small_beta_it_goes_where_the_negative_gradient_goes(logits: int) -> None:
    model, before = perceptron(logits, 0), perceptron(logits, 1)
    inputs, labels = points(max(2, logits), 20, 0)
    now, then = wide(model(inputs)), wide(before(inputs)).detach()
    ours = gradient(model, preference(now, then, labels, 1e-3))
    theirs = gradient(model, -cross_entropy(wide(model(inputs)), labels))
    assert torch.cosine_similarity(ours, theirs, dim=0) > 0.99
    assert torch.allclose(ours, theirs, rtol=0.02, atol=1e-4)


def test_at_the_start_it_is_the_negative_gradient_for_any_beta() -> None:
    model = perceptron(3)
    inputs, labels = points(3, 20, 0)
    now = wide(model(inputs))
    ours = gradient(model, preference(now, now.detach(), labels, 5.0))
    theirs = gradient(model, -cross_entropy(wide(model(inputs)), labels))
    assert torch.allclose(ours, theirs, atol=1e-6)


def test_the_loss_is_bounded_and_its_gradient_fades() -> None:
    labels, begun = torch.tensor([0]), torch.tensor([[8.0, 0.0]])
    slopes = []
    for margin in (8.0, 0.0, -50.0, -1e6):
        now = torch.tensor([[margin, 0.0]], requires_grad=True)
        loss = preference(now, begun, labels, 1.0)
        assert 0 <= loss.item() < math.inf
        slopes.append(float(torch.autograd.grad(loss, now)[0].abs().sum()))
    assert slopes[2] < 1e-6
    assert slopes[3] == 0


@pytest.mark.parametrize("pictures", [False, True])
@pytest.mark.parametrize("logits", [1, 2])
def test_wrong_labels_are_left(pictures: bool, logits: int) -> None:
    done = flipped(pictures=pictures, logits=logits).run("npo", options=FAST)
    checks.sound(done, 20)
    assert done.log[-1].metrics["forget_accuracy_trained"] == 0
    assert done.log[-1].metrics["val_accuracy"] == 1


def test_a_class_is_forgotten() -> None:
    done = one_class(pictures=True).run("npo", options={"lr": 0.02, "epochs": 30})
    assert done.log[-1].metrics["forget_accuracy_trained"] == 0
    assert (done.log[-1].metrics["val_accuracy"] or 0) > 0.9


def test_instances_may_be_forgotten_too() -> None:
    done = checks.instances().run("npo", options=FAST)
    checks.sound(done, 20)


def test_the_kept_are_read_beside_and_not_at_all_with_weight_zero() -> None:
    problem = one_class()
    options = {"epochs": 3, "batch_size": 8}
    alone = problem.run("npo", options={**options, "retain_weight": 0})
    assert alone.samples_read == 3 * len(problem.forget)
    unkept = one_class().run("npo", options=options, retain=None, goal="class")
    assert unkept.log == alone.log
    both = one_class().run("npo", options=options)
    assert both.samples_read == alone.samples_read + 3 * len(problem.forget)


def test_a_pass_over_few_kept_begins_again() -> None:
    problem = flipped()
    done = problem.run("npo", options={"batch_size": 2}, retain=problem.retain.subset([0, 1, 2]))
    checks.sound(done, 5)


def test_batch_statistics_stay() -> None:
    problem = flipped(pictures=True)
    before = [one.clone() for one in problem.model.buffers()]
    problem.run("npo", options=FAST)
    assert all(torch.equal(*pair) for pair in zip(before, problem.model.buffers(), strict=True))


@pytest.mark.parametrize("rate", [10.0, 1e-6])
@pytest.mark.parametrize("beta", [1e-6, 100.0])
def test_no_setting_makes_it_endless(rate: float, beta: float) -> None:
    options = {"lr": rate, "beta": beta, "clip": 0.0}
    checks.sound(flipped().run("npo", options=options, retain=None))


@pytest.mark.parametrize("logits", [1, 2])
def test_a_last_layer_alone_will_do(logits: int) -> None:
    done = checks.over_features(logits).run("npo", options=FAST)
    assert (done.log[-1].metrics["forget_accuracy_true"] or 0) > 0.9


def test_half_precision_will_do() -> None:
    done = flipped(pictures=True).run("npo", options=FAST, watch=Watch(precision="bf16"))
    assert done.log[-1].metrics["forget_accuracy_trained"] == 0


def test_a_seed_fixes_the_result() -> None:
    checks.repeats("npo", FAST)


def test_it_can_be_stopped() -> None:
    checks.stops("npo", {})
