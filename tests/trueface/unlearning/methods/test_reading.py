"""The batches that each gradient method reads, their order, its cost and its log keys. Weights differ between machines."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch

from tests.trueface.unlearning.build import SmallTask, make_class_task, make_flip_task
from trueface.data.batch import Batch
from trueface.data.loading.loader import Dataset, PassRequest

ACCURACIES = "forget_accuracy_trained forget_accuracy_true val_accuracy"


@dataclass
class Diary:
    """A dataset that notes every batch of a training pass: its set, its epoch, its number of samples."""

    dataset: Dataset
    forget: frozenset[int]
    entries: list[str] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    rows_per_position = 1

    def __len__(self) -> int:
        return len(self.dataset)

    def load(self, request: PassRequest) -> Iterator[Batch]:
        for batch in self.dataset.load(request):
            places = batch.indices.tolist()
            gone = sum(place in self.forget for place in places)
            kept = len(places) - gone
            parts = (f"f{gone}" if gone else "") + (f"r{kept}" if kept else "")
            self.entries.append(f"{request.epoch}:{parts}")
            self.positions += places
            yield batch


def with_diary(task: SmallTask) -> tuple[SmallTask, Diary]:
    source = task.forget.source
    diary = Diary(source.train_loader.dataset, frozenset(task.forget.positions))
    source = replace(source, train_loader=replace(source.train_loader, dataset=diary))
    return replace(
        task,
        forget=replace(task.forget, source=source),
        retain=replace(task.retain, source=source),
    ), diary


CASES: list[tuple[str, Mapping[str, Any]]] = [
    ("npo", {"epochs": 2, "batch_size": 12}),
    ("npo", {"epochs": 2, "batch_size": 12, "retain_weight": 0}),
    ("rl", {"epochs": 2, "batch_size": 12}),
    ("rl", {"epochs": 2, "batch_size": 32, "with_retain": True, "redraw": True}),
    ("salun", {"epochs": 2, "batch_size": 24}),
    ("scrub", {"epochs": 2, "max_epochs": 1, "batch_size": 24, "forget_batch": 12}),
    ("shrink", {"epochs": 2, "batch_size": 12}),
    ("expand", {"epochs": 2, "batch_size": 12}),
    ("ng", {"epochs": 2, "batch_size": 12, "lr": 1e-6, "stop_at": 0.0}),
    ("pgu", {"epochs": 2, "batch_size": 12, "rule": "class"}),
]
# batches with their epoch, forget and retain samples; a checksum of their positions; samples read; names in the log
EXPECTED: dict[int, tuple[str, int, int, str]] = {
    0: (
        "0:f12 0:r12 0:f12 0:r12 0:f8 0:r12 1:f12 0:r12 1:f12 0:r12 1:f8 0:r4",
        398743,
        128,
        "loss forget_accuracy_trained forget_accuracy_true val_accuracy",
    ),
    1: (
        "0:f12 0:f12 0:f8 1:f12 1:f12 1:f8",
        99771,
        64,
        "loss forget_accuracy_trained forget_accuracy_true val_accuracy",
    ),
    2: (
        "0:f12 0:f12 0:f8 1:f12 1:f12 1:f8",
        99771,
        64,
        "loss forget_accuracy_trained forget_accuracy_true val_accuracy",
    ),
    3: (
        "0:f14r18 0:f8r24 0:f10r22 1:f9r23 1:f16r16 1:f7r25",
        864653,
        192,
        "loss forget_accuracy_trained forget_accuracy_true val_accuracy",
    ),
    4: (
        "0:f24 0:f8 0:r24 0:r24 0:r16 1:f24 1:f8 1:r24 1:r24 1:r16",
        876874,
        224,
        "loss loss_forget forget_accuracy_trained forget_accuracy_true val_accuracy",
    ),
    5: (
        "0:f12 0:f12 0:f8 0:r24 0:r24 0:r16 1:r24 1:r24 1:r16",
        605410,
        160,
        "loss loss_forget forget_accuracy_trained forget_accuracy_true val_accuracy",
    ),
    6: (
        "0:f12 0:f12 0:f8 1:f12 1:f12 1:f8",
        99771,
        128,
        "loss forget_accuracy_trained forget_accuracy_true val_accuracy",
    ),
    7: (
        "0:f12 0:f12 0:f8 1:f12 1:f12 1:f8",
        99771,
        64,
        "loss forget_accuracy_trained forget_accuracy_true val_accuracy",
    ),
    8: (
        "0:f12 0:f12 0:f8 1:f12 1:f12 1:f8",
        99771,
        160,
        "loss forget_accuracy_trained forget_accuracy_true val_accuracy",
    ),
    9: (
        "0:f12 0:f12 0:f8 1:f12 1:f12 1:f8",
        99771,
        192,
        "loss gradient_left lr forget_accuracy_trained forget_accuracy_true val_accuracy",
    ),
}


@pytest.mark.parametrize("case", range(len(CASES)), ids=lambda case: f"{case}-{CASES[case][0]}")
def test_order_of_batches_cost_and_log_of_a_gradient_method(case: int) -> None:
    method, options = CASES[case]
    task, diary = with_diary(make_class_task(pictures=True, epochs=3))
    done = task.run(method, options=options, goal="class")
    found = (
        " ".join(diary.entries),
        sum(at * place for at, place in enumerate(diary.positions)),
        done.samples_read,
        " ".join(done.log[1].metrics),
    )
    assert found == EXPECTED[case]
    assert [step.step for step in done.log] == [0, 1, 2, 3]
    assert " ".join(done.log[0].metrics) == " ".join(done.log[-1].metrics) == ACCURACIES


def test_batches_of_the_retain_set_continue_over_epochs() -> None:
    task, diary = with_diary(make_flip_task(pictures=True, epochs=3))
    task.run("npo", options={"epochs": 3, "batch_size": 30, "lr": 1e-6})
    kept = [entry for entry in diary.entries if "r" in entry]
    assert [entry.partition(":")[0] for entry in kept] == ["0", "0", "1"]


def test_random_number_stream_of_the_caller_is_not_used() -> None:
    states = []
    for method in ("npo", "rl", "shrink", "salun", "scrub"):
        task = make_flip_task(pictures=True, epochs=3)
        task.run(method, options={"epochs": 1})
        states.append(torch.get_rng_state())
    assert all(torch.equal(state, states[0]) for state in states)
