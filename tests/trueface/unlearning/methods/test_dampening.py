"""Importances of weights, dampening by them, and the searches of SSD and Potion."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from launcher.api import JobError
from tests.trueface.unlearning import checks
from tests.trueface.unlearning.build import make_class_task, make_flip_task, make_request
from tests.trueface.unlearning.checks import last_metric, one_logit_and_two, points_and_pictures
from trueface.data.examples import (
    CostCounter,
    examples,
    shuffle_examples,
    union_by_position,
)
from trueface.models.logits import as_multiclass_logits
from trueface.unlearning.cache import Cache
from trueface.unlearning.importance import (
    Dampening,
    ImportanceKind,
    dampening,
    importances,
    make_guard,
)
from trueface.unlearning.methods import potion
from trueface.unlearning.methods.potion import _trials
from trueface.unlearning.methods.ssd import SsdOptions

SORTS: tuple[ImportanceKind, ...] = ("loss", "norm")


@pytest.mark.parametrize("sort", SORTS)
@one_logit_and_two
def test_importances_of_one_batch_match_its_gradient(sort: ImportanceKind, logits: int) -> None:
    task = make_flip_task(logits=logits)
    request = make_request(task, SsdOptions())
    found = importances(request, (task.forget,), sort, batch_size=1000)
    inputs = torch.cat([batch.inputs for batch in task.forget.batches("trained", epoch=None)])
    said = as_multiclass_logits(task.model(inputs))
    right = torch.tensor(task.forget.trained)
    if sort == "loss":
        loss = nn.functional.cross_entropy(said, right)
    else:
        loss = said.square().sum(1).sqrt().mean()
    for name, weight in task.model.named_parameters():
        (gradient,) = torch.autograd.grad(loss, weight, retain_graph=True)
        size = gradient.square() if sort == "loss" else gradient.abs()
        torch.testing.assert_close(found[name], size, rtol=1e-4, atol=1e-7)


def test_each_batch_is_weighted_by_its_size() -> None:
    task = make_flip_task()
    request = make_request(task, SsdOptions())
    some = task.retain.subset(range(5))
    found = importances(request, (some,), "loss", batch_size=3)
    parts = [shuffle_examples(some).subset(rows) for rows in ((0, 1, 2), (3, 4))]
    singles = [importances(request, (part,), "loss", batch_size=3) for part in parts]
    for name, one in found.items():
        mean = (3 * singles[0][name] + 2 * singles[1][name]) / 5
        torch.testing.assert_close(one, mean)


def test_batch_statistics_and_gradients_are_unchanged() -> None:
    task = make_flip_task(pictures=True)
    before = checks.copy_weights(task.model)
    task.model.zero_grad(set_to_none=True)
    importances(make_request(task, SsdOptions()), (task.forget,), "loss", batch_size=8)
    assert not checks.has_changed(before, task.model)
    assert all(weight.grad is None for weight in task.model.parameters())


def test_frozen_weights_are_left_out() -> None:
    task = make_flip_task()
    task.model[0].requires_grad_(False)  # type: ignore[index]  # a Sequential
    assert set(
        importances(make_request(task, SsdOptions()), (task.forget,), "loss", batch_size=8)
    ) == {
        "2.weight",
        "2.bias",
    }
    task.model.requires_grad_(False)
    with pytest.raises(JobError, match="all are frozen"):
        importances(make_request(task, SsdOptions()), (task.forget,), "loss", batch_size=8)


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
    found.restore_weights()
    assert weight.tolist() == [1.0, 2.0, 3.0, 4.0]


def test_importance_of_all_data_is_reused_for_every_forget_set(tmp_path: Path) -> None:
    task = make_flip_task()
    meter = CostCounter()
    every = task.forget + task.retain
    for rows in (range(16), range(20, 36)):
        gone = set(rows)
        kept = [row for row in range(len(every)) if row not in gone]
        request = make_request(task, SsdOptions())
        dampening(
            replace(
                request,
                forget=every.subset(rows).count_reads(meter.add),
                retain=every.subset(kept).count_reads(meter.add),
                cache=Cache(tmp_path, meter),
            ),
            "loss",
            batch_size=16,
        )
    assert len(list(tmp_path.iterdir())) == 1
    assert meter.samples == 2 * 16


def test_other_label_kind_or_weights_have_other_importances(tmp_path: Path) -> None:
    task = make_flip_task()
    request = make_request(task, SsdOptions(), cache=tmp_path)
    dampening(request, "loss", batch_size=16)
    dampening(request, "norm", batch_size=16)
    right = task.forget.replace_labels(task.forget.true or ())
    dampening(replace(request, forget=right), "loss", batch_size=16)
    with torch.no_grad():
        next(task.model.parameters()).mul_(2)
    dampening(request, "loss", batch_size=16)
    assert len(list(tmp_path.iterdir())) == 4


def test_samples_of_two_sources_are_both_read() -> None:
    task = make_flip_task()
    other = examples(torch.zeros(3, 2), [0, 1, 1])
    parts = union_by_position(task.forget, other)
    assert [len(part) for part in parts] == [len(task.forget), 3]
    importances(make_request(task, SsdOptions()), parts, "loss", batch_size=8)


def test_union_does_not_depend_on_the_split() -> None:
    task = make_flip_task()
    every = task.forget + task.retain
    (one,) = union_by_position(task.forget, task.retain)
    (other,) = union_by_position(every.subset(range(40, 50)), every)
    assert one == other


def test_non_finite_importances_are_rejected() -> None:
    task = make_flip_task()
    with torch.no_grad():
        next(task.model.parameters()).fill_(torch.nan)
    with pytest.raises(JobError, match="not finite"):
        importances(make_request(task, SsdOptions()), (task.forget,), "loss", batch_size=8)


def test_model_with_constant_predictions_fails_the_guard() -> None:
    task = make_flip_task()
    before = make_guard(make_request(task, SsdOptions()), most_loss=1.0)
    assert before.check_accuracy()[1]
    with torch.no_grad():
        for weight in task.model.parameters():
            weight.zero_()
    assert before.check_accuracy() == (0.5, False)


def test_constant_predictions_are_allowed_if_one_class_is_left() -> None:
    task = make_class_task(classes=2)
    kept = [row for row, label in enumerate(task.validation.trained) if label == 0]
    request = replace(
        make_request(task, SsdOptions(), goal="class"),
        validation=task.validation.subset(kept),
    )
    assert make_guard(request, most_loss=0.05).check_accuracy()[1]


@pytest.mark.parametrize(
    ("method", "pictures", "options", "note"),
    [
        ("potion", True, {"most_loss": -1.0}, "the model is unchanged"),
        ("ssd", False, {"alpha": 1e-3, "most_loss": -1.0}, "the model is unchanged"),
        ("ssd", False, {"alpha": 1e30}, "Choose a lower alpha"),
    ],
)
def test_model_is_unchanged_if_no_weight_can_be_dampened(
    method: str, pictures: bool, options: dict[str, float], note: str
) -> None:
    task = (make_class_task if pictures else make_flip_task)(pictures=pictures)
    before = checks.copy_weights(task.model)
    done = task.run(method, options=options)
    assert note in done.notes[0]
    assert not checks.has_changed(before, task.model)


@points_and_pictures
@one_logit_and_two
@pytest.mark.parametrize("method", ["ssd", "potion"])
def test_validation_accuracy_is_kept_on_random_flips(
    method: str, pictures: bool, logits: int
) -> None:
    options = {"alpha": 0.01} if method == "ssd" else {}
    done = make_flip_task(pictures=pictures, logits=logits).run(method, options=options)
    lost = (done.log[0].metrics["val_accuracy"] or 0) - last_metric(done, "val_accuracy")
    assert lost <= 0.05
    if method == "ssd":
        alphas = [step.metrics["alpha"] for step in done.log[1:-1]]
        assert alphas == [0.01 * 2**trial for trial in range(len(alphas))]
        assert str(len(alphas)) in done.notes[0] or "the model is unchanged" in done.notes[0]


def test_single_alpha_is_used_without_a_search() -> None:
    task = make_flip_task()
    before = checks.copy_weights(task.model)
    done = task.run("ssd", options={"alpha": 0.01, "search": False})
    assert len(done.log) == 3
    assert "chose alpha 0.01" in done.notes[0]
    assert checks.has_changed(before, task.model)


def test_samples_never_learned_need_no_forgetting() -> None:
    task = make_class_task()
    before = checks.copy_weights(task.model)
    wrong = task.forget.replace_labels([0] * len(task.forget))
    done = task.run("potion", forget=wrong, goal="instances")
    assert "predicts no trained label of the forget set" in done.notes[0]
    assert done.samples_read == len(task.forget)
    assert not checks.has_changed(before, task.model)


def test_stop_share_of_one_is_reached_at_once() -> None:
    done = make_class_task(pictures=True).run("potion", options={"stop_at": 1.0})
    assert len(done.log) == 3


def test_trials_follow_the_percentile_and_skip_equal_selections(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(potion, "START", 1e-3)
    monkeypatch.setattr(potion, "GROWTH", 2.0)
    ratios = torch.arange(101.0)
    trials = list(_trials(ratios, 20))
    assert [trial.number for trial in trials] == sorted({trial.number for trial in trials})
    alphas = [trial.alpha for trial in trials]
    assert alphas == sorted(set(alphas), reverse=True)
    last = trials[-1]
    percent = 100 - float(torch.log(torch.tensor(1 + 100 * last.c, dtype=torch.float64)))
    assert last.alpha == int(percent)
    assert last.c == pytest.approx(1e-3 * 2 ** (last.number - 1))


def test_trials_end_if_no_percentile_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(potion, "GROWTH", 1e10)
    trials = list(_trials(torch.arange(5.0), 500))
    assert 1 <= len(trials) <= 5
