"""Gradient methods: negative gradient, NPO, random labels and SalUn, and their random draws."""

import contextlib
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from launcher.api import JobError
from tests.trueface.unlearning import checks
from tests.trueface.unlearning.build import (
    make_class_task,
    make_flip_task,
    make_request,
    perceptron,
    points,
)
from tests.trueface.unlearning.checks import (
    last_metric,
    one_logit_and_two,
    points_and_pictures,
)
from trueface.data.examples import examples
from trueface.models.logits import as_multiclass_logits, cross_entropy
from trueface.runtime.rng import stream_seed
from trueface.unlearning.building_blocks import ONLY_OTHER, draw_subset, random_other_labels
from trueface.unlearning.methods import salun
from trueface.unlearning.methods.npo import preference
from trueface.unlearning.methods.random_labels import RlOptions
from trueface.unlearning.methods.salun import SalunOptions
from trueface.unlearning.optimization import Descent
from trueface.unlearning.registry import Goal

SLOW = {"lr": 0.05, "epochs": 30}
MASKED = {"lr": 0.05, "epochs": 10}


@one_logit_and_two
def test_wrong_labels_are_forgotten_until_as_rare_as_errors(logits: int) -> None:
    done = make_flip_task(logits=logits).run("ng", options=SLOW, retain=None)
    checks.assert_sound(done)
    last = done.log[-1].metrics
    assert last["forget_accuracy_trained"] is not None
    assert last["forget_accuracy_trained"] <= 1 - (last["val_accuracy"] or 0)
    assert len(done.log) < 32


def test_instances_are_forgotten_until_like_validation() -> None:
    done = checks.instance_task().run("ng", options={"stop_at": None, **SLOW})
    last = done.log[-1].metrics
    assert last["forget_accuracy_trained"] is not None
    assert last["forget_accuracy_trained"] <= (last["val_accuracy"] or 0)


def test_pass_ends_if_the_latest_predictions_reach_the_target() -> None:
    task = make_class_task(pictures=True)
    forget = task.forget + task.forget
    rows = [row % len(task.forget) for row in range(30 * len(task.forget))]
    many = type(forget)(
        source=forget.source,
        positions=tuple(task.forget.positions[row] for row in rows),
        trained=tuple(task.forget.trained[row] for row in rows),
        true=None,
    )
    options = {"lr": 0.1, "epochs": 1, "batch_size": 16}
    done = task.run("ng", options=options, forget=many)
    whole = 3 * len(many)  # one pass, measured before and after
    assert last_metric(done) == 0
    assert done.samples_read < whole


def test_zero_loss_is_logged_without_a_sign() -> None:
    task = make_class_task()
    with torch.no_grad():
        for value in task.model.parameters():
            value.mul_(1000)  # so certain that no cross entropy is left
    done = task.run("ng", options={"epochs": 1})
    assert str(done.log[1].metrics["loss"]) == "0.0"


def test_pass_without_samples_is_refused() -> None:
    descent = Descent(nn.Linear(2, 2).parameters(), RlOptions())
    with pytest.raises(JobError, match="none of the samples of a pass could be read"):
        descent.take_steps(())


@points_and_pictures
@pytest.mark.parametrize("clip", [0.0, 1.0])
def test_excessive_learning_rate_gives_finite_outputs_or_an_error(
    pictures: bool, clip: float
) -> None:
    options = {"lr": 10.0, "epochs": 20, "stop_at": 0.0, "clip": clip}
    with contextlib.suppress(JobError):
        checks.assert_sound(make_class_task(pictures=pictures).run("ng", options=options))


def test_note_reports_a_missed_target() -> None:
    done = make_class_task().run("ng", options={"lr": 1e-6, "epochs": 2})
    assert "after 2 epochs (target: 0.0%)" in done.notes[0]


def test_missed_target_and_lost_accuracy_give_consistent_advice() -> None:
    options = {"lr": 1.0, "epochs": 2, "stop_at": 0.0}
    done = make_flip_task(pictures=True, epochs=60).run("ng", options=options)
    fell = (done.log[0].metrics["val_accuracy"] or 0) - last_metric(done, "val_accuracy")
    assert fell > 0.1
    assert last_metric(done) > 0
    notes = " ".join(done.notes)
    assert "No lr of this method fixes both, so choose npo" in notes
    assert "higher lr" not in notes
    assert "lower lr" not in notes


def gradient(model: nn.Module, loss: Tensor) -> Tensor:
    found = torch.autograd.grad(loss, list(model.parameters()))
    return torch.cat([one.flatten() for one in found])


@pytest.mark.parametrize("logits", [1, 3])
def test_small_beta_follows_the_negative_gradient(logits: int) -> None:
    model, before = perceptron(logits, 0), perceptron(logits, 1)
    inputs, labels = points(max(2, logits), 20, 0)
    now, then = as_multiclass_logits(model(inputs)), as_multiclass_logits(before(inputs)).detach()
    ours = gradient(model, preference(now, then, labels, 1e-3))
    theirs = gradient(model, -cross_entropy(as_multiclass_logits(model(inputs)), labels))
    assert torch.cosine_similarity(ours, theirs, dim=0) > 0.99
    assert torch.allclose(ours, theirs, rtol=0.02, atol=1e-4)


def test_first_step_equals_the_negative_gradient_for_any_beta() -> None:
    model = perceptron(3)
    inputs, labels = points(3, 20, 0)
    now = as_multiclass_logits(model(inputs))
    ours = gradient(model, preference(now, now.detach(), labels, 5.0))
    theirs = gradient(model, -cross_entropy(as_multiclass_logits(model(inputs)), labels))
    assert torch.allclose(ours, theirs, atol=1e-6)


def test_loss_is_bounded_and_its_gradient_vanishes() -> None:
    labels, begun = torch.tensor([0]), torch.tensor([[8.0, 0.0]])
    slopes = []
    for margin in (8.0, 0.0, -50.0, -1e6):
        now = torch.tensor([[margin, 0.0]], requires_grad=True)
        loss = preference(now, begun, labels, 1.0)
        assert 0 <= loss.item() < math.inf
        slopes.append(float(torch.autograd.grad(loss, now)[0].abs().sum()))
    assert slopes[2] < 1e-6
    assert slopes[3] == 0


def test_npo_reads_retained_samples_only_with_nonzero_weight() -> None:
    task = make_class_task()
    options = {"epochs": 3, "batch_size": 8}
    alone = task.run("npo", options={**options, "retain_weight": 0})
    assert alone.samples_read == 3 * len(task.forget)
    unkept = make_class_task().run("npo", options=options, retain=None, goal="class")
    assert unkept.log == alone.log
    both = make_class_task().run("npo", options=options)
    assert both.samples_read == alone.samples_read + 3 * len(task.forget)


def draw_labels(trained: list[int], classes: int, goal: Goal, epoch: int = 0, seed: int = 0) -> Any:
    some = examples(torch.rand(len(trained), 2), trained)
    task = make_class_task(classes=classes, epochs=1)
    request = make_request(task, RlOptions(), goal=goal, forget=some, seed=seed)
    return random_other_labels(request, epoch)


def test_drawn_label_is_never_the_trained_one_and_covers_all_others() -> None:
    trained = [0, 1, 2, 3] * 50
    pairs = set(zip(trained, draw_labels(trained, 4, "instances"), strict=True))
    assert pairs == {(old, new) for old in range(4) for new in range(4) if old != new}
    assert draw_labels([0, 1, 1], 2, "flips") == (1, 0, 0)  # the other one
    assert set(draw_labels([1, 2] * 30, 4, "class")) == {0, 3}  # the classes that stay


def test_drawn_labels_follow_from_seed_and_epoch() -> None:
    first, again, later, other = (
        draw_labels([0] * 30, 4, "instances", epoch, seed)
        for epoch, seed in ((0, 0), (0, 0), (1, 0), (0, 1))
    )
    assert first == again
    assert first not in (later, other)


def test_random_labels_read_retained_samples_only_on_request() -> None:
    task = make_class_task()
    alone = task.run("rl", options={"epochs": 1}, retain=None)
    assert alone.samples_read == len(task.forget)
    both = make_class_task().run("rl", options={"epochs": 1, "with_retain": True})
    assert both.samples_read == alone.samples_read + len(task.retain)
    with pytest.raises(JobError, match="nothing to learn from"):
        task.run("rl", options={"with_retain": True}, retain=None)


def unchanged_fraction(before: list[Tensor], model: nn.Module) -> float:
    """Return the fraction of parameters that are bit-identical."""
    same = [old == new for old, new in zip(before, model.parameters(), strict=True)]
    return float(torch.cat([one.flatten() for one in same]).float().mean())


def test_mask_contains_the_largest_of_all_weights_together() -> None:
    first, second = torch.tensor([[0.1, 9.0], [0.2, 0.3]]), torch.tensor([5.0, 0.0])
    masks = salun.largest_entries([first, second], 2 / 6)
    assert torch.equal(masks[0], torch.tensor([[False, True], [False, False]]))
    assert torch.equal(masks[1], torch.tensor([True, False]))


@pytest.mark.parametrize(("share", "count"), [(1e-9, 1), (0.5, 50), (1.0, 100)])
def test_ties_do_not_enlarge_a_mask(share: float, count: int) -> None:
    assert int(salun.largest_entries([torch.zeros(100)], share)[0].sum()) == count


def test_weight_decay_and_momentum_do_not_move_masked_weights() -> None:
    model = perceptron(2)
    options = SalunOptions(lr=0.1, weight_decay=0.5)
    descent = Descent(model.parameters(), options)
    masks = [torch.rand_like(one) > 0.5 for one in descent.parameters]
    before = [one.detach().clone() for one in descent.parameters]
    descent.step(model(torch.rand(8, 2)).square().mean())  # momentum for every weight
    begun = [one.detach().clone() for one in descent.parameters]
    with salun.restrict_steps_to_masks(descent, masks):
        for _ in range(3):
            descent.step(model(torch.rand(8, 2)).square().mean())
    for mask, old, new in zip(masks, begun, descent.parameters, strict=True):
        assert torch.equal(old[~mask], new[~mask])
        assert not (old == new)[mask].any() or not mask.any()
    descent.step(model(torch.rand(8, 2)).square().mean())
    assert unchanged_fraction(before, model) == 0  # afterwards all may move again


def test_two_classes_need_no_true_labels() -> None:
    task = make_flip_task()
    unknown = task.forget.replace_labels(task.forget.trained)
    blind = type(unknown)(
        source=unknown.source, positions=unknown.positions, trained=unknown.trained, true=None
    )
    done = task.run("salun", options=MASKED, forget=blind, goal="flips")
    assert done.notes == (ONLY_OTHER,)
    assert not checks.has_changed(
        checks.copy_weights(done.model), make_flip_task().run("salun", options=MASKED).model
    )


SAMPLES = examples(torch.zeros(40, 2), [0, 1] * 20)


def test_draw_depends_only_on_its_name_and_the_seed() -> None:
    draw = draw_subset(SAMPLES, 20, "some", 1)
    assert draw == draw_subset(SAMPLES, 20, "some", 1)
    assert draw != draw_subset(SAMPLES, 20, "some", 2)
    assert draw != draw_subset(SAMPLES, 20, "others", 1)


@pytest.mark.parametrize("count", [0, 1, 39, 40, 41])
def test_draw_is_the_start_of_a_permutation_in_sample_order(count: int) -> None:
    rng = torch.Generator().manual_seed(stream_seed("some", 3))
    order = torch.randperm(40, generator=rng).tolist()
    assert draw_subset(SAMPLES, count, "some", 3).positions == tuple(sorted(order[:count]))
