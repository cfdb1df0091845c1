import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from launcher.api import JobError, UsageError
from tests.trueface.unlearning.build import (
    SmallTask,
    inputs_of,
    make_class_task,
    make_flip_task,
    split_task,
)
from tests.trueface.unlearning.checks import (
    copy_weights,
    has_changed,
    last_metric,
    one_logit_and_two,
)
from trueface.data.examples import examples
from trueface.models.logits import as_multiclass_logits
from trueface.runtime.progress import RunContext
from trueface.unlearning.hyperparameters import TrainingOptions
from trueface.unlearning.methods.pgu import (
    EpochAccuracy,
    PguOptions,
    Rule,
    decide_stop,
    loss_of,
)
from trueface.unlearning.optimization import default_training
from trueface.unlearning.subspaces import (
    CovarianceAccumulator,
    groups_of,
    layers_of,
    principal_subspace,
)

STRONG = {"lr": 0.5, "lr_end": 0.5, "epochs": 60, "retained": 0.6}  # forgets in a second


def layer_weights(model: nn.Module, name: str) -> Tensor:
    """Return a layer's weights and bias, (G, O, D)."""
    layer = layers_of(model)[name]
    values = [layer.weight] if layer.bias is None else [layer.weight, layer.bias]
    groups = groups_of(layer)
    return torch.cat([one.detach().reshape(groups, len(one) // groups, -1) for one in values], 2)


def change_inside_subspace(
    task: SmallTask, before: nn.Module, after: nn.Module, *, more: int, **of: Any
) -> dict[str, float]:
    """Return the fraction of each layer's change in the input space of the retain set."""
    sums = CovarianceAccumulator(layers_of(before), of.get("positions", 64))
    with torch.no_grad(), sums.accumulate_inputs():
        for batch in task.retain.batches("trained", epoch=None):
            sums.positions = batch.indices
            before(batch.inputs)
    shares = {}
    for name, found in sums.found.items():
        way = layer_weights(after, name) - layer_weights(before, name)
        one = principal_subspace(found, of.get("retained", 0.95), of.get("energy", "s"), more)
        if one.share == 0:
            assert not way.any()
        else:
            assert way.any()
            shares[name] = float((way - one.project_out(way)).norm() / way.norm())
    return shares


@pytest.mark.parametrize(
    ("pictures", "changed"),
    [
        (False, {"lr": 0.5, "lr_end": 0.1}),
        (False, {"retained": 0.9, "energy": "s2", "momentum": 0.9, "weight_decay": 1e-3}),
        (True, {"retained": 0.6}),
        (True, {"positions": 7, "clip": 0.0, "retained": 0.8}),
    ],
)
def test_no_layer_moves_in_the_input_space_of_retained_samples(
    pictures: bool, changed: dict[str, Any]
) -> None:
    # later its answers are so sure that it stays
    task = make_class_task(pictures=pictures, epochs=4)
    before = copy.deepcopy(task.model)
    done = task.run("pgu", options={"epochs": 5, **changed})
    shares = change_inside_subspace(task, before, done.model, more=1, **changed)
    assert shares
    assert max(shares.values()) < 1e-4


def test_steps_for_wrong_labels_also_spare_the_clean_inputs() -> None:
    task = make_flip_task(pictures=True, logits=2)
    before = copy.deepcopy(task.model)
    options = {"retained": 0.9, "energy": "s2", "loss": "relabel", "most_loss": 1.0}
    done = task.run("pgu", options=options, force=True)
    if has_changed(copy_weights(before), done.model):
        shares = change_inside_subspace(task, before, done.model, more=0, retained=0.9, energy="s2")
        assert max(shares.values()) < 1e-4


def test_retaining_the_whole_space_changes_nothing() -> None:
    task = make_class_task(pictures=True)
    before = copy_weights(task.model)
    done = task.run("pgu", options={"retained": 1.0})
    assert not has_changed(before, done.model)
    assert done.samples_read == 0


def test_batch_norms_are_unchanged() -> None:
    task = make_class_task(pictures=True)
    before = copy.deepcopy(task.model)
    done = task.run("pgu", options=STRONG)
    for one, other in zip(before.modules(), done.model.modules(), strict=True):
        if isinstance(one, nn.BatchNorm2d):
            assert not has_changed(copy_weights(one), other)
    assert all(value.requires_grad for value in done.model.parameters())
    with pytest.raises(UsageError, match="bn"):
        task.run("pgu", options={"bn": "train"})


def test_entropy_term_has_the_sign_of_its_name() -> None:
    labels, alone = torch.zeros(1, dtype=torch.int64), PguOptions(loss1=0.0, loss2=1.0)
    sure, open_ = torch.tensor([[0.0, 9.0, 0.0]]), torch.tensor([[0.0, 0.0, 0.0]])
    most, least = (
        [float(loss_of(each, labels, name, alone)) for each in (open_, sure)]
        for name in ("max_entropy", "min_entropy")
    )
    assert most[0] < most[1]
    assert least[0] > least[1]
    two = torch.tensor([[1.0, 2.0]])
    assert float(loss_of(two, labels, "min_entropy", alone)) == 0
    assert float(loss_of(two, labels, "max_entropy", alone)) < -0.5


TWO_CLASSES = [0.001, 0.1, 0.3, 0.5, 0.7, 0.9, 0.999, 0.9999]  # probability of the trained label


@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize(("loss1", "loss2", "offset"), [(1.0, 0.2, 0.05), (1.0, 1.0, 0.1)])
def test_derivative_for_two_classes_is_the_stated_formula(
    label: int, loss1: float, loss2: float, offset: float
) -> None:
    probability = torch.tensor(TWO_CLASSES, dtype=torch.float64)
    margin = torch.logit(probability)
    signed = margin if label else -margin  # a detector's logit is that of class 1
    logit = signed[:, None].float().requires_grad_()
    options = PguOptions(loss1=loss1, loss2=loss2, offset=offset)
    labels = torch.full((len(margin),), label)
    loss = loss_of(as_multiclass_logits(logit), labels, "max_entropy", options)
    (found,) = torch.autograd.grad(loss * len(margin), logit)
    wanted = (
        probability
        * (1 - probability)
        * (loss1 / (1 + offset - probability) + loss2 * margin)
        * (1 if label else -1)
    )
    assert torch.allclose(found[:, 0].double(), wanted, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize(
    ("probability", "percent"), [(0.6, 4), (0.8, 7), (0.99, 6), (0.9999, 9), (1 - 1e-6, 14)]
)
def test_entropy_adds_the_stated_fraction_to_the_gradient_of_two_classes(
    probability: float, percent: int
) -> None:
    margin = torch.logit(torch.tensor([[probability]], dtype=torch.float64))
    found = list[torch.Tensor]()
    for options in (PguOptions(), PguOptions(loss2=0.0)):
        logit = margin.clone().requires_grad_()
        wide, labels = as_multiclass_logits(logit), torch.ones(1, dtype=torch.int64)
        found += torch.autograd.grad(loss_of(wide, labels, "max_entropy", options), logit)
    assert round(100 * float(found[0] / found[1] - 1)) == percent


@pytest.mark.parametrize(
    ("loss2", "offset", "rest"), [(0.2, 0.05, 0.008), (1.0, 0.1, 0.239), (0.0, 0.05, 0.0)]
)
def test_images_of_two_classes_end_where_both_terms_balance(
    loss2: float, offset: float, rest: float
) -> None:
    options = PguOptions(loss2=loss2, offset=offset)
    logits = torch.linspace(3, -12, 15_001)[:, None].requires_grad_()
    labels = torch.ones(len(logits), dtype=torch.int64)
    loss = loss_of(as_multiclass_logits(logits), labels, "max_entropy", options)
    (slopes,) = torch.autograd.grad(loss, logits)
    # descent from the first logit goes on as far as the loss falls
    reached = logits.detach()[(slopes > 0).cumprod(0).bool()][-1]
    assert float(reached.sigmoid()) == pytest.approx(rest, abs=1e-3)


def test_stop_rule_without_another_loss_stops_by_its_own_condition() -> None:
    options = {"lr": 0.5, "lr_end": 0.5, "retained": 0.5, "energy": "s2", "epochs": 20}
    task = make_flip_task(pictures=True)
    done = task.run("pgu", options={**options, "stop_rule": "instances"}, force=True)
    reasons = ("predicted no better than validation", "already predicted no better")
    assert any(reason in note for note in done.notes for reason in reasons)
    usual = make_flip_task(pictures=True).run("pgu", options=options, force=True)
    assert not any(reason in note for note in usual.notes for reason in reasons)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"loss": "min_entropy"}, "^pgu_loss: min_entropy uses the entropy over the other"),
        (
            {"loss": "max_entropy", "loss1": 0, "loss2": 0},
            "^pgu_loss: max_entropy is always 0, as pgu_loss1 and pgu_loss2 are 0",
        ),
    ],
)
def test_loss_without_an_effect_on_two_classes_raises_an_error(
    options: dict[str, Any], said: str
) -> None:
    with pytest.raises(JobError, match=said):
        make_flip_task().run("pgu", options=options, force=True)


def test_class_that_costs_too_much_in_the_first_epoch_restores_the_original_model() -> None:
    task = make_class_task(epochs=4)
    before = copy_weights(task.model)
    options = {"lr": 50.0, "lr_end": 50.0, "clip": 0.0, "retained": 0.3}
    done = task.run("pgu", options=options)
    assert not has_changed(before, done.model)
    assert "the result is the model before unlearning. Choose a lower lr" in done.notes[-1]


def test_instances_forgotten_in_one_epoch_raise_an_error_about_the_speed() -> None:
    task = make_class_task(epochs=4)
    options = {"lr": 50.0, "lr_end": 50.0, "clip": 0.0, "retained": 0.3}
    with pytest.raises(JobError, match="too fast"):
        task.run("pgu", options=options, goal="instances")


def test_instances_predicted_no_better_than_validation_are_left_alone() -> None:
    task = make_class_task()
    wrong = examples(inputs_of(task.forget)[:8], [1] * 8)
    before = copy_weights(task.model)
    done = task.run("pgu", forget=wrong, retain=task.retain.subset(range(40, 60)), goal="instances")
    assert not has_changed(before, done.model)
    assert any("the model is unchanged" in note for note in done.notes)


def make_memorized_task() -> SmallTask:
    """Return a model that memorized some wrong labels of points without their class."""
    rng = torch.Generator().manual_seed(0)
    inputs, labels = torch.randn(96, 24, generator=rng), torch.arange(96) % 2
    everything = examples(inputs, labels)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(24, 48), nn.ReLU(), nn.Linear(48, 2)).eval()
    checked = examples(torch.randn(64, 24, generator=rng), torch.arange(64) % 2)
    options = TrainingOptions(epochs=60, lr=0.1)
    default_training(
        model, everything, "trained", validation=checked, options=options, watch=RunContext()
    )
    return split_task(model, everything, range(16), validation=checked)


def test_memorized_instances_become_like_unseen_ones() -> None:
    task = make_memorized_task()
    done = task.run("pgu", options={"retained": 0.4, "epochs": 100, "lr": 0.05, "batch_size": 8})
    assert last_metric(done) < 1.0
    gap = abs(last_metric(done) - last_metric(done, "val_accuracy"))
    first = done.log[0].metrics
    assert gap < abs((first["forget_accuracy_trained"] or 0) - (first["val_accuracy"] or 0)) / 2


@one_logit_and_two
@pytest.mark.parametrize("loss", ["paper", "relabel"])
def test_wrong_labels_never_reduce_validation_accuracy(logits: int, loss: str) -> None:
    task = make_flip_task(pictures=True, logits=logits)
    options = {"loss": loss, "retained": 0.5, "energy": "s2"}
    done = task.run("pgu", options=options, force=True)
    assert last_metric(done, "val_accuracy") >= (done.log[0].metrics["val_accuracy"] or 0)
    assert any("were treated as true" in note for note in done.notes)
    assert done.notes[0].startswith("forced: pgu protects")


def test_relabelling_needs_a_wrong_label() -> None:
    with pytest.raises(JobError, match="relabel"):
        make_class_task().run("pgu", options={"loss": "relabel"})


def test_covariances_of_all_data_serve_later_requests_without_it(tmp_path: Path) -> None:
    task = make_class_task(pictures=True)
    start = copy.deepcopy(task.model)
    options = {"epochs": 2}
    first = task.run("pgu", cache=tmp_path, options=options)
    wanted = copy_weights(first.model)
    assert first.cached_samples == len(task.retain) + len(task.forget)

    later = replace(task, model=copy.deepcopy(start))
    second = later.run("pgu", cache=tmp_path, goal="class", retain=None, options=options)
    assert not has_changed(wanted, second.model)
    assert second.cached_samples == first.cached_samples
    assert second.samples_read == first.samples_read

    first_ten, rest = (task.retain.subset(rows) for rows in (range(10), range(10, 64)))
    division = replace(task, model=start, forget=first_ten + task.forget, retain=rest)
    third = division.run("pgu", cache=tmp_path, options=options)
    assert third.cached_samples == first.cached_samples
    assert len(list(tmp_path.glob("covariances-*"))) == 1


def test_chained_request_starts_from_the_retained_set_of_the_last_one(tmp_path: Path) -> None:
    task = make_class_task(classes=4, pictures=True)
    first = task.run("pgu", cache=tmp_path, options={"lr": 0.2})
    rows = [row for row, label in enumerate(task.retain.trained) if label == 2]
    forget = task.retain.subset(rows)
    chained = replace(task, model=first.model, forget=forget)
    done = chained.run("pgu", cache=tmp_path, retain=None, goal="class")
    assert any("earlier unlearning" in note for note in done.notes)
    with pytest.raises(JobError, match="not among"):  # it is gone already
        chained.run("pgu", cache=tmp_path, retain=None, goal="class")


def test_missing_cache_and_retained_set_give_advice(tmp_path: Path) -> None:
    task = make_class_task()
    with pytest.raises(JobError, match="Pass `retain`"):
        task.run("pgu", retain=None, goal="class")
    with pytest.raises(JobError, match="Pass `retain`"):
        task.run("pgu", retain=None, goal="class", cache=tmp_path)


def test_other_samples_of_the_same_model_have_a_separate_file(tmp_path: Path) -> None:
    task = make_class_task()
    start = copy.deepcopy(task.model)
    few = replace(task, model=copy.deepcopy(start), retain=task.retain.subset(range(20)))
    for each in (few, task):
        each.run("pgu", cache=tmp_path, options={"epochs": 2})
    alone = replace(task, model=start).run("pgu", options={"epochs": 2})
    assert not has_changed(copy_weights(task.model), alone.model)


LOST, LEFT = "validation accuracy fell by more than 5.0%", ""


@pytest.mark.parametrize(
    ("rule", "moments", "kept", "chosen", "ends"),
    [
        # instances: members look like unseen samples
        ("instances", [(1.0, 0.9), (0.95, 0.9)], 0, 1, None),
        ("instances", [(1.0, 0.9), (0.95, 0.9), (0.88, 0.89)], 1, 2, LEFT),
        ("instances", [(1.0, 0.9), (0.95, 0.9), (0.5, 0.89)], 1, 1, LEFT),
        # a class: where validation falls or nothing is left
        ("class", [(1.0, 0.9), (0.3, 0.86)], 0, 1, None),
        ("class", [(1.0, 0.9), (0.005, 0.86)], 0, 1, LEFT),
        ("class", [(1.0, 0.9), (0.3, 0.9), (0.2, 0.8)], 1, 1, LOST),
        ("class", [(1.0, 0.9), (0.3, 0.8)], 0, 0, LEFT),
        # wrong labels: the best on validation
        ("depoison", [(0.9, 0.7), (0.8, 0.8)], 0, 1, None),
        ("depoison", [(0.9, 0.7), (0.8, 0.8), (0.7, 0.75)], 1, 1, None),
        ("depoison", [(0.9, 0.7), (0.8, 0.8), (0.7, 0.75), (0.6, 0.8)], 1, 3, None),
        ("depoison", [(0.9, 0.7), (0.8, 0.8), (0.7, 0.75), (0.6, 0.8), (0.5, 0.6)], 3, 3, LOST),
    ],
)
def test_rule_chooses_an_epoch_and_may_stop(
    rule: Rule, moments: list[tuple[float, float]], kept: int, chosen: int, ends: str | None
) -> None:
    found = decide_stop(rule, [EpochAccuracy(*each) for each in moments], kept, 0.05)
    assert found.chosen == chosen
    assert (found.reason is None) == (ends is None)
    assert (ends or "") in (found.reason or "")
