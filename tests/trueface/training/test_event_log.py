"""Trainings report their epochs, and write what they report as TensorBoard's event files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from launcher.workers.progress.event_files import event_steps
from tests.trueface.training.test_resume import interrupt, run
from tests.trueface.training.test_trainer import COUNT, settings
from trueface.runtime import paths
from trueface.runtime.progress import Watch
from trueface.training import resume
from trueface.training.event_log import logged

torch.set_num_threads(1)  # two that wait for each other under load are slower

NUMBERS = ["accuracy", "epoch", "images_per_s", "loss", "lr", "val_accuracy", "val_loss"]


def events(folder: Path) -> Mapping[str, list[tuple[int, float]]]:
    """What TensorBoard itself reads."""
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator"
    ).EventAccumulator(str(paths.event_files(folder)))
    accumulator.Reload()
    return {
        tag: [(event.step, event.value) for event in accumulator.Scalars(tag)]
        for tag in sorted(accumulator.Tags()["scalars"])
    }


def test_each_epoch_is_reported_with_its_validation(tmp_path: Path) -> None:
    reports: list[dict[str, Any]] = []
    watch = Watch(progress=lambda **numbers: reports.append(numbers))
    _, done = run(tmp_path, settings(num_epochs=3), watch=watch)
    ends = [report for report in reports if "val_loss" in report]
    assert [report["epoch"] for report in ends] == [1, 2, 3]
    assert [report["step"] for report in ends] == [COUNT, 2 * COUNT, 3 * COUNT]
    assert [report["val_accuracy"] for report in ends] == [e.val_accuracy for e in done.epochs]
    assert [report["loss"] for report in ends] == [epoch.loss for epoch in done.epochs]
    assert {report["epoch"] for report in reports if "val_loss" not in report} <= {1, 2, 3}


def test_tensorboard_reads_what_a_training_wrote(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    reports: list[dict[str, Any]] = []
    watch = Watch(progress=lambda **numbers: reports.append(numbers))
    _, done = run(tmp_path, settings(num_epochs=3, tensorboard=True), watch=watch)
    read = events(tmp_path)
    assert list(read) == NUMBERS
    assert [value for _, value in read["val_loss"]] == pytest.approx(
        [epoch.val_loss for epoch in done.epochs]
    )
    assert [step for step, _ in read["val_loss"]] == [COUNT, 2 * COUNT, 3 * COUNT]
    assert len(reports) >= 3, "what is logged is reported, too"
    last = event_steps(paths.event_files(tmp_path), 0, 1 << 20)[-1]
    assert last.step == 3 * COUNT
    assert sorted(last.metrics) == NUMBERS


def test_a_training_that_goes_on_takes_the_place_of_what_was_lost(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    asked = settings(num_epochs=4, tensorboard=True, checkpoint_every=1)
    interrupt(tmp_path, asked, epoch=2, batches=2)
    run(tmp_path, asked)
    steps = [step for step, _ in events(tmp_path)["val_loss"]]
    assert steps == [COUNT * epoch for epoch in (1, 2, 3, 4)]


def test_a_training_that_begins_anew_deletes_the_event_files_of_another(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    run(tmp_path, settings(num_epochs=3, tensorboard=True))
    resume.clear(paths.resume(tmp_path))
    run(tmp_path, settings(num_epochs=1, tensorboard=True))
    assert [step for step, _ in events(tmp_path)["val_loss"]] == [COUNT]
    resume.clear(paths.resume(tmp_path))
    run(tmp_path, settings(num_epochs=1))
    assert not paths.event_files(tmp_path).exists()


def test_nothing_is_written_unless_it_is_asked_for(tmp_path: Path) -> None:
    with logged(Watch(), tmp_path, wanted=False):
        pass
    assert not any(tmp_path.iterdir())


def test_event_files_change_no_hash() -> None:
    plain, logging = (settings(tensorboard=wanted).model_dump() for wanted in (False, True))
    assert type(settings()).decisive(plain) == type(settings()).decisive(logging)
