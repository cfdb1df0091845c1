import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from launcher.api import JobError, UnknownName, UsageError
from tests.trueface.unlearning.build import (
    SmallTask,
    make_class_task,
    make_flip_task,
    network,
    perceptron,
)
from tests.trueface.unlearning.checks import last_metric
from trueface import unlearning
from trueface.data.batch import Batch
from trueface.data.examples import Examples, examples
from trueface.data.loading.loader import Dataset, PassRequest
from trueface.runtime.progress import RunContext
from trueface.unlearning.registry import METHODS


@dataclass
class Spy:
    """Records the requested samples."""

    learned: set[int] = field(default_factory=set)
    read: list[int] = field(default_factory=list)
    torn: set[int] = field(default_factory=set)  # positions that cannot be read


@dataclass
class Watched:
    """A dataset whose requests a spy records."""

    dataset: Dataset
    spy: Spy
    augmented: bool
    rows_per_position = 1

    def __len__(self) -> int:
        return len(self.dataset)

    def load(self, request: PassRequest) -> Iterator[Batch]:
        positions = [one for one in request.positions if one not in self.spy.torn]
        self.spy.read += positions
        self.spy.learned |= set(positions) if self.augmented else set()
        return self.dataset.load(replace(request, positions=positions))


def with_spy(task: SmallTask) -> tuple[SmallTask, Spy]:
    source, spy = task.forget.source, Spy()
    watched = replace(
        source,
        train_loader=replace(
            source.train_loader, dataset=Watched(source.train_loader.dataset, spy, True)
        ),
        test_loader=replace(
            source.test_loader, dataset=Watched(source.test_loader.dataset, spy, False)
        ),
    )
    return replace(
        task,
        forget=replace(task.forget, source=watched),
        retain=replace(task.retain, source=watched),
    ), spy


@pytest.mark.parametrize("method", ["retrain", "finetune"])
def test_forget_set_is_never_trained_on(method: str) -> None:
    task, spy = with_spy(make_flip_task(pictures=True))
    task.run(method, options={"epochs": 2})
    assert spy.learned == set(task.retain.positions)


def test_retrain_starts_from_a_fresh_model_not_from_the_given_one() -> None:
    task = make_flip_task(pictures=True)
    task.model[-1].bias.data.fill_(99.0)  # type: ignore[index]  # a Sequential
    done = task.run("retrain", options={"epochs": 1, "lr": 1e-9})
    assert done.model is not task.model
    assert [step.step for step in done.log] == [0, 1, 2]
    assert abs(done.model[-1].bias.item()) < 1  # type: ignore[index]  # as above


@pytest.mark.parametrize("method", ["relabel", "corrected", "restart"])
def test_wrong_labels_are_corrected_and_all_images_are_read(method: str) -> None:
    task, spy = with_spy(make_flip_task(rate=0.4))
    done = task.run(method)
    assert spy.learned == {*task.forget.positions, *task.retain.positions}
    assert last_metric(done, "forget_accuracy_true") == 1.0
    assert last_metric(done) == 0.0


def test_unreadable_first_sample_is_left_out() -> None:
    task, spy = with_spy(make_flip_task())
    spy.torn = {task.forget.positions[0]}
    assert task.run("relabel", options={"epochs": 1}).log[-1].metrics["val_accuracy"]
    spy.torn = set(task.forget.positions)
    with pytest.raises(JobError, match=r"none of the .* samples of the forget set could be read"):
        task.run("relabel")


def test_any_torch_model_and_tensors_are_accepted(tmp_path: Path) -> None:
    inputs, labels = torch.randn(40, 5), torch.arange(40) % 4
    model = torch.nn.Linear(5, 4)
    kept = labels != 3
    done = unlearning.run(
        "ng",
        model,
        forget=examples(inputs[~kept], labels[~kept]),
        retain=examples(inputs[kept], labels[kept]),
        validation=examples(inputs[kept], labels[kept]),
        cache=tmp_path,
    )
    assert json.dumps([dict(step.metrics) for step in done.log])


def test_perceptron_and_network_of_the_tests_have_the_assumed_layers() -> None:
    assert perceptron(1)(torch.zeros(2, 2)).shape == (2, 1)
    assert network(4)(torch.zeros(2, 3, 8, 8)).shape == (2, 4)
    with pytest.raises(ValueError, match="needs its labels"):
        Examples(source=make_flip_task().forget.source, positions=(0, 1), trained=(1,), true=(0, 1))


@pytest.mark.parametrize(
    ("method", "build", "given", "error", "match"),
    [
        ("retrain", make_flip_task, lambda p: {"forget": p.forget.subset([])}, JobError, "the forget set is empty"),
        (
            "retrain", make_flip_task, lambda p: {"retain": p.retain.subset([])},
            JobError, "everything would be forgotten",
        ),
        (
            "retrain", make_flip_task, lambda p: {"validation": p.validation.subset([])},
            JobError, "validation contains no sample",
        ),
        (
            "retrain", make_flip_task, lambda _: {"retain": None},
            UsageError, "retrain needs the images to keep",
        ),
        (
            "relabel", make_flip_task, lambda p: {"retain": p.forget + p.retain},
            JobError, r"(\d+) of \1 samples .* are also in the retain set",
        ),
        (
            "ng", make_class_task, lambda p: {"forget": p.forget.replace_labels([7] * len(p.forget))},
            JobError, "class 7, but the model has 3 classes",
        ),
        ("relabel", make_class_task, lambda _: {}, UsageError, "no label is flipped"),
        ("pgu", make_flip_task, lambda _: {}, UsageError, "force"),
        ("scrubb", make_flip_task, lambda _: {}, UnknownName, "Did you mean 'scrub'"),
        (
            "scrub", make_flip_task, lambda _: {"options": {"alfa": 1}},
            UsageError, r"options of scrub: alfa.*options: .*alpha",
        ),
        (
            "ng", make_flip_task, lambda _: {"options": METHODS["scrub"].hyperparameters()},
            UsageError, "expected NgOptions, got ScrubOptions",
        ),
        (
            "scrub", make_flip_task, lambda _: {"watch": RunContext(precision="fp16")},
            UsageError, "Choose bf16 or fp32",
        ),
    ],
)  # fmt: skip
def test_invalid_requests_are_rejected(
    method: str,
    build: Callable[[], SmallTask],
    given: Callable[[SmallTask], dict[str, Any]],
    error: type[Exception],
    match: str,
) -> None:
    task = build()
    with pytest.raises(error, match=match):
        task.run(method, **given(task))


def test_non_finite_weights_are_rejected_even_if_predictions_are_finite() -> None:
    task = make_class_task()
    task.model.register_parameter("idle", nn.Parameter(torch.tensor([1.0, float("nan")])))
    with pytest.raises(JobError, match="1 of 2 values of idle are not finite"):
        task.run("finetune")
    next(task.model.parameters()).data.fill_(torch.nan)
    with pytest.raises(JobError, match="not finite"):
        task.run("finetune")


@pytest.mark.parametrize(("method", "all_parts"), [("relabel", True), ("rl", False)])
def test_samples_read_are_counted_except_those_only_for_the_log(
    method: str, all_parts: bool
) -> None:
    task = make_flip_task()
    done = task.run(method, options={"epochs": 3})
    assert done.samples_read == 3 * (len(task.forget) + all_parts * len(task.retain))
    assert done.seconds > 0
    assert "val_accuracy" in done.log[1].metrics
