"""What holds for every method: tables of methods, with options by which each reaches its aim in a second."""

import copy
import threading
from collections.abc import Mapping
from typing import Any

import pytest
import torch

from launcher.api import JobError
from tests.trueface.unlearning import checks
from tests.trueface.unlearning.build import make_class_task, make_flip_task
from tests.trueface.unlearning.checks import (
    last_metric,
)
from trueface.runtime.progress import RunContext
from trueface.unlearning.building_blocks import ONLY_OTHER
from trueface.unlearning.methods.salun import TRUE_LABELS
from trueface.unlearning.registry import METHODS

Given = Mapping[str, Any]
FLIPS = [name for name, facts in METHODS.items() if "flips" in facts.goals]
CLASS = [name for name, facts in METHODS.items() if "class" in facts.goals]
# so that each takes a second, whatever it reaches
SHORT: dict[str, Given] = {
    "pgu": {"epochs": 2}, "iwu": {"epochs": 2, "attack_steps": 3, "adversarial": 2},
    "salun": {"epochs": 2}, "lau": {"epochs": 2}, "potion": {"trials": 5}, "shrink": {"epochs": 2},
    "expand": {"epochs": 2}, "fisher": {"samples": 16}, "exact": {"steps": 5},
    **{name: {"epochs": 2} for name in ("retrain", "finetune", "relabel", "corrected", "restart")},
}  # fmt: skip
FAST = {"lr": 0.05, "epochs": 20}
MASKED = {"lr": 0.05, "epochs": 10}
SCRUB = {"lr": 0.02, "epochs": 6, "max_epochs": 3, "forget_batch": 32}
ATTACK = {"lr": 0.01, "attack_steps": 10}
STRONG = {"lr": 0.5, "lr_end": 0.5, "epochs": 60, "retained": 0.6}
DRAWN = ("rl", "salun", "expand", "iwu", "lau", "fisher")  # their results follow from the seed


@pytest.mark.parametrize(("pictures", "precision"), [(False, "fp32"), (True, "bf16")])
@pytest.mark.parametrize(
    ("method", "several"),
    [*((one, False) for one in FLIPS), *((one, True) for one in CLASS)],
)
def test_single_and_multiple_logits_are_accepted(
    method: str, several: bool, pictures: bool, precision: str
) -> None:
    task = (make_class_task if several else make_flip_task)(pictures=pictures, epochs=5)
    names = [name for name, _ in task.model.named_parameters()]
    watch = RunContext(precision=precision)
    done = task.run(method, options=SHORT.get(method, {}), force=True, watch=watch)
    assert all(bool(value.isfinite().all()) for value in done.model.state_dict().values())
    assert all(value.dtype == torch.float32 for value in done.model.parameters())
    assert [name for name, _ in done.model.named_parameters()] == names
    assert done.log[0].step == 0
    assert [one.step for one in done.log] == sorted({one.step for one in done.log})
    assert last_metric(done, "val_accuracy") is not None


@pytest.mark.parametrize("running", [False, True])
@pytest.mark.parametrize("method", sorted(METHODS))
def test_stop_request_ends_it_before_the_start_and_during_the_run(
    method: str, running: bool
) -> None:
    stop = threading.Event()
    watch = RunContext(stop=stop, progress=lambda **_: stop.set())
    if not running:
        stop.set()
    options = {"lau": {"lr": 1e-9}, "ng": {"lr": 1e-6, "stop_at": 0.0}, "iwu": ATTACK}
    with pytest.raises(JobError, match="stopped"):
        (make_class_task if method in CLASS else make_flip_task)().run(
            method, options=options.get(method, {}), watch=watch, force=True
        )


@pytest.mark.parametrize("frozen", ["body", "head"])
@pytest.mark.parametrize("method", sorted(METHODS))
def test_frozen_weights_and_batch_statistics_are_unchanged(method: str, frozen: str) -> None:
    task = (make_class_task if method in CLASS else make_flip_task)(pictures=True, epochs=5)
    *body, head = task.model.children()
    for part in body if frozen == "body" else [head]:
        part.requires_grad_(False)
    names = {name for name, one in task.model.named_parameters() if not one.requires_grad}
    if frozen == "body":
        names |= {name for name, _ in task.model.named_buffers()}
    before = {name: one.clone() for name, one in task.model.state_dict().items()}
    again = copy.deepcopy(task.model)
    if frozen == "head" and method in ("exact", "lau"):
        with pytest.raises(JobError, match=r"is frozen|no parameter .* is trainable"):
            task.run(method, force=True)
        return
    done = task.run(method, options=SHORT.get(method, {}), force=True, fresh=lambda: again)
    after = done.model.state_dict()
    assert [name for name in sorted(names) if not torch.equal(before[name], after[name])] == []
    assert {name for name, one in done.model.named_parameters() if not one.requires_grad} <= names


FORGOTTEN: list[tuple[str, bool, Given, float, float, str | None]] = [
    ("ng", True, {"lr": 0.05, "epochs": 50}, 0, 0, ""),
    ("ng", True, {"lr": 0.2, "epochs": 50}, 0, 0, ""),
    ("npo", True, {"lr": 0.02, "epochs": 30}, 0, 0.9, ""),
    ("rl", False, FAST, 0, 0.9, None),
    ("rl", False, {**FAST, "with_retain": True, "redraw": True}, 0, 0.9, None),
    ("rl", True, {**FAST, "redraw": True}, 0, 0.9, None),
    ("rl", True, {**FAST, "with_retain": True}, 0, 0.9, None),
    ("salun", False, MASKED, 0, 0.9, None),
    ("salun", True, MASKED, 0, 0.9, None),
    ("scrub", False, {"lr": 0.1, "epochs": 10, "max_epochs": 5, "forget_batch": 4}, 0, 0.9, None),
    (
        "scrub", True,
        {"lr": 0.05, "epochs": 12, "max_epochs": 3, "forget_batch": 8, "alpha": 0.5},
        0, 0.9, None,
    ),
    ("expand", False, {"lr": 0.1, "epochs": 20}, 0, 0.9, ""),
    ("expand", True, {"lr": 0.01, "epochs": 12}, 0, 0.9, ""),
    ("shrink", False, {"lr": 0.1}, 0, 0.9, ""),
    ("shrink", True, {"lr": 0.01}, 0, 0.9, ""),
    ("exact", False, {}, 0, 1, "fitted on 64 samples"),
    ("exact", True, {}, 0, 1, "fitted on 64 samples"),
    ("iwu", True, {**ATTACK, "radius": 1.0}, 0, 0, "used 32 of 32"),
    ("lau", True, {"pgd": "partial"}, 0, 0.97, "read "),
    ("lau", True, {"pgd": "full"}, 0, 0.97, "read "),
    ("pgu", False, STRONG, 0.1, 0.9, "are not protected"),
    ("pgu", True, STRONG, 0.1, 0.9, "are not protected"),
    ("potion", True, {}, 0.2, 0.95, " chose c "),
    ("ssd", True, {}, 0.2, 0.95, ""),
]  # fmt: skip
LAST_OF_METHOD = list({case[0]: case for case in FORGOTTEN}.values())


@pytest.mark.parametrize(
    ("precision", "method", "pictures", "options", "left", "kept", "note"),
    [*(("fp32", *case) for case in FORGOTTEN), *(("bf16", *case) for case in LAST_OF_METHOD)],
)
def test_class_is_forgotten_and_neither_the_others_nor_batch_statistics_are(
    precision: str,
    method: str,
    pictures: bool,
    options: Given,
    left: float,
    kept: float,
    note: str | None,
) -> None:
    task = make_class_task(pictures=pictures, epochs=4 if method == "pgu" else 20)
    begun = checks.copy_weights(task.model)
    buffers = [one.clone() for one in task.model.buffers()]
    alone: Given = {"retain": None, "goal": "class"} if method in ("ng", "expand", "shrink") else {}
    done = task.run(method, options=options, watch=RunContext(precision=precision), **alone)
    assert checks.has_changed(begun, done.model)
    stayed = all(map(torch.equal, buffers, done.model.buffers()))
    assert stayed == (method not in {"salun", "scrub"} or not buffers)  # their default is train
    first, last = done.log[0].metrics, done.log[-1].metrics
    assert first["forget_accuracy_trained"] is not None
    assert first["forget_accuracy_trained"] > 0.9
    assert last["forget_accuracy_trained"] is not None
    assert last["forget_accuracy_trained"] <= left
    assert (last["val_accuracy"] or 0) >= kept
    if method == "ng":
        assert len(done.log) < 52  # it ends where the target is reached
    if method == "pgu":
        assert done.log[1].metrics["gradient_left"] is not None
    if note is None:
        assert done.notes == ()
    elif note:
        assert note in done.notes[0]


@pytest.mark.parametrize(("logits", "pictures"), [(1, True), (2, False)])
@pytest.mark.parametrize(
    ("method", "options", "kept", "note"),
    [
        ("npo", FAST, 1, ""),
        ("rl", FAST, 0, ONLY_OTHER),
        ("salun", MASKED, 0, TRUE_LABELS),
        ("scrub", SCRUB, 0.9, "best on validation"),
        ("shrink", {"lr": 0.02}, 1, ""),
        ("iwu", {**ATTACK, "radius": 0.5}, 0, ""),
    ],
)
def test_wrong_labels_are_replaced_by_the_right_ones(
    method: str, options: Given, kept: float, note: str, logits: int, pictures: bool
) -> None:
    done = make_flip_task(pictures=pictures, logits=logits).run(method, options=options)
    checks.assert_sound(done, options.get("epochs"))
    last = done.log[-1].metrics
    assert (last["forget_accuracy_trained"], last["forget_accuracy_true"]) == (0, 1)
    assert (last["val_accuracy"] or 0) >= kept
    assert note in "\n".join(done.notes)


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("finetune", {"epochs": 2}),
        ("ng", {"lr": 0.05, "epochs": 3, "batch_size": 8}),
        ("npo", {"lr": 0.05, "epochs": 3, "batch_size": 8}),
        ("rl", {"lr": 0.05, "epochs": 3, "redraw": True}),
        ("salun", {"lr": 0.05, "epochs": 2}),
        ("scrub", {**SCRUB, "epochs": 2, "max_epochs": 1, "batch_size": 16}),
        ("shrink", {"lr": 0.01, "epochs": 2, "batch_size": 8}),
        ("expand", {"lr": 0.1, "epochs": 3}),
        (
            "iwu",
            {
                "lr": 0.01, "attack_steps": 3, "epochs": 2, "batch_size": 8, "adversarial": 4,
                "adversarial_batch": 50,
            },
        ),
        ("lau", {"pgd": "partial", "batch_size": 5, "epochs": 1}),
        ("lau", {"pgd": "full", "batch_size": 16, "epochs": 1}),
        ("fisher", {"samples": 16}),
        ("fisher", {"samples": 16, "exact": True}),
        ("pgu", {"batch_size": 8, "epochs": 3}),
        ("potion", {"trials": 5}),
    ],
)  # fmt: skip
def test_seed_alone_determines_the_result(method: str, options: Given) -> None:
    found = []
    for draws, seed in ((0, 5), (3, 5), (0, 6)):
        task = make_class_task(pictures=method == "expand")
        torch.rand(draws)
        found.append(task.run(method, options=options, seed=seed))
    first, second, other = found
    assert not checks.has_changed(checks.copy_weights(first.model), second.model)
    assert first.log == second.log
    assert checks.has_changed(checks.copy_weights(first.model), other.model) == (method in DRAWN)


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("scrub", {**SCRUB, "bn": "eval"}),
        ("shrink", {"bn": "train"}),
    ],
)
def test_batch_statistics_change_only_as_requested(method: str, options: Given) -> None:
    task = make_class_task(pictures=True)
    before = [one.clone() for one in task.model.buffers()]
    done = task.run(method, options=options)
    stayed = [torch.equal(*pair) for pair in zip(before, done.model.buffers(), strict=True)]
    assert all(stayed) == (options.get("bn") != "train")


@pytest.mark.parametrize(
    ("method", "options", "left", "kept"),
    [
        ("expand", {"lr": 0.1, "epochs": 20}, 0, 0),
        ("lau", {}, 0, 0.97),
        ("pgu", {**STRONG, "retained": 0.7}, 0, 1),
        ("ssd", {"alpha": 1.2}, 1, 0),
    ],
)
def test_layer_over_features_can_be_the_whole_model(
    method: str, options: Given, left: float, kept: float
) -> None:
    task = checks.nearest_centre_task()
    before = checks.copy_weights(task.model)
    done = task.run(method, options=options)
    assert done.model is task.model
    assert checks.has_changed(before, done.model)
    assert [one.shape for one in before] == [(3, 2), (3,)]
    assert done.log[0].metrics["forget_accuracy_trained"] == 1
    assert last_metric(done) <= left
    assert last_metric(done, "val_accuracy") >= kept


@pytest.mark.parametrize(
    ("method", "options", "name", "values"),
    [
        ("pgu", {"epochs": 2}, "loss2", (0.0, 1000.0)),
        ("pgu", {"epochs": 2, "loss": "relabel"}, "loss1", (0.0, 1000.0)),
        ("pgu", {"epochs": 2, "loss": "relabel"}, "offset", (0.01, 0.9)),
        ("pgu", {"epochs": 2, "rule": "instances"}, "most_loss", (0.0, 1.0)),
        ("pgu", {"epochs": 2, "stop_rule": "instances"}, "most_loss", (0.0, 1.0)),
        ("pgu", {"epochs": 2, "stop_rule": "class"}, "loss2", (0.0, 1000.0)),
        ("pgu", {"epochs": 2, "loss": "max_entropy", "loss1": 0.0}, "offset", (0.01, 0.9)),
        (
            "pgu",
            {"epochs": 2, "loss": "max_entropy", "stop_rule": "class"},
            "rule",
            ("instances", "depoison"),
        ),
        ("rl", {"epochs": 2}, "redraw", (False, True)),
    ],
)
def test_option_without_effect_for_two_classes_is_named_and_has_none(
    method: str, options: Given, name: str, values: tuple[Any, Any]
) -> None:
    done = [
        make_flip_task().run(method, options={**options, name: value}, force=True)
        for value in values
    ]
    weights = [list(each.model.state_dict().values()) for each in done]
    assert all(map(torch.equal, *weights))
    for each in done:
        assert any(note.startswith(f"{name} has no effect here: ") for note in each.notes)
    without = make_flip_task().run(method, options=options, force=True)
    assert not any("has no effect" in note for note in without.notes)
