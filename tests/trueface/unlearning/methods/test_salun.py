from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from launcher.api import UsageError
from tests.trueface.unlearning import checks
from tests.trueface.unlearning.build import Problem, flipped, one_class, perceptron
from trueface.runtime.progress import Watch
from trueface.unlearning.building_blocks import ONLY_OTHER
from trueface.unlearning.methods import salun
from trueface.unlearning.methods.salun import SalunOptions
from trueface.unlearning.optimization import Descent

FAST = {"lr": 0.05, "epochs": 10}
PROBLEMS: list[Callable[[], Problem]] = [flipped, one_class, lambda: one_class(pictures=True)]


def stayed(before: list[Tensor], model: nn.Module) -> float:
    """Return the share of parameters that are the same bit by bit."""
    same = [old == new for old, new in zip(before, model.parameters(), strict=True)]
    return float(torch.cat([one.flatten() for one in same]).float().mean())


@pytest.mark.parametrize("make", PROBLEMS)
@pytest.mark.parametrize("share", [0.1, 0.5])
def test_weights_outside_the_mask_stay_bit_by_bit(
    make: Callable[[], Problem], share: float
) -> None:
    problem = make()
    before = [one.detach().clone() for one in problem.model.parameters()]
    problem.run("salun", options={**FAST, "share": share, "weight_decay": 0.1, "momentum": 0.9})
    assert stayed(before, problem.model) == pytest.approx(1 - share, abs=0.02)


def test_a_mask_holds_the_largest_of_all_weights_together() -> None:
    first, second = torch.tensor([[0.1, 9.0], [0.2, 0.3]]), torch.tensor([5.0, 0.0])
    masks = salun.salient([first, second], 2 / 6)
    assert torch.equal(masks[0], torch.tensor([[False, True], [False, False]]))
    assert torch.equal(masks[1], torch.tensor([True, False]))


@pytest.mark.parametrize(("share", "count"), [(1e-9, 1), (0.5, 50), (1.0, 100)])
def test_ties_do_not_widen_a_mask(share: float, count: int) -> None:
    assert int(salun.salient([torch.zeros(100)], share)[0].sum()) == count


def test_neither_decay_nor_momentum_moves_what_is_masked() -> None:
    model = perceptron(2)
    options = SalunOptions(lr=0.1, weight_decay=0.5)
    descent = Descent(model.parameters(), options)
    masks = [torch.rand_like(one) > 0.5 for one in descent.parameters]
    before = [one.detach().clone() for one in descent.parameters]
    descent.step(model(torch.rand(8, 2)).square().mean())  # momentum for every weight
    begun = [one.detach().clone() for one in descent.parameters]
    with salun.only(descent, masks):
        for _ in range(3):
            descent.step(model(torch.rand(8, 2)).square().mean())
    for mask, old, new in zip(masks, begun, descent.parameters, strict=True):
        assert torch.equal(old[~mask], new[~mask])
        assert not (old == new)[mask].any() or not mask.any()
    descent.step(model(torch.rand(8, 2)).square().mean())
    assert stayed(before, model) == 0  # afterwards all may move again


@pytest.mark.parametrize("pictures", [False, True])
@pytest.mark.parametrize("logits", [1, 2])
def test_wrong_labels_are_put_right(pictures: bool, logits: int) -> None:
    done = flipped(pictures=pictures, logits=logits).run("salun", options=FAST)
    checks.sound(done, 10)
    assert done.log[-1].metrics["forget_accuracy_true"] == 1
    assert done.notes == (salun.TRUE_LABELS,)


def test_of_two_classes_it_needs_no_true_labels() -> None:
    problem = flipped()
    unknown = problem.forget.relabelled(problem.forget.trained)
    blind = type(unknown)(
        source=unknown.source, positions=unknown.positions, trained=unknown.trained, true=None
    )
    done = problem.run("salun", options=FAST, forget=blind, goal="flips")
    assert done.notes == (ONLY_OTHER,)
    assert not checks.moved(checks.weights(done.model), flipped().run("salun", options=FAST).model)


@pytest.mark.parametrize("pictures", [False, True])
def test_a_class_is_forgotten(pictures: bool) -> None:
    done = one_class(pictures=pictures).run("salun", options=FAST)
    assert done.log[-1].metrics["forget_accuracy_trained"] == 0
    assert (done.log[-1].metrics["val_accuracy"] or 0) > 0.9
    assert done.notes == ()


def test_it_needs_what_is_kept() -> None:
    with pytest.raises(UsageError, match="it was given none"):
        flipped().run("salun", retain=None)


@pytest.mark.parametrize("logits", [1, 2])
def test_a_last_layer_alone_will_do(logits: int) -> None:
    done = checks.over_features(logits).run("salun", options={**FAST, "share": 1.0})
    assert (done.log[-1].metrics["forget_accuracy_true"] or 0) > 0.9


def test_half_precision_will_do() -> None:
    problem = one_class(pictures=True)
    before = [one.detach().clone() for one in problem.model.parameters()]
    done = problem.run("salun", options=FAST, watch=Watch(precision="bf16"))
    assert done.log[-1].metrics["forget_accuracy_trained"] == 0
    assert stayed(before, problem.model) == pytest.approx(0.5, abs=0.02)


def test_a_seed_fixes_the_result() -> None:
    checks.repeats("salun", FAST)


def test_it_can_be_stopped() -> None:
    checks.stops("salun", {})
