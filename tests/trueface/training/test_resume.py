import errno
import itertools
import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from torch import Tensor

from launcher.api import JobError, Json, MachineError
from tests.trueface.stored_states import assert_almost_equal, put_state
from tests.trueface.training.test_trainer import checkered, same, settings, tiny
from trueface.data.batch import Batch
from trueface.models import checkpoint
from trueface.models.detectors import Detector
from trueface.runtime import paths, tensor_files
from trueface.runtime.progress import RunContext
from trueface.training import checkpointing
from trueface.training.checkpointing import CheckpointCallback
from trueface.training.settings import TrainSettings
from trueface.training.trainer import TrainingResult, train

torch.set_num_threads(1)  # two that wait for each other under load are slower

PROVENANCE: dict[str, Json] = {
    "job": "train/x",
    "settings": {"lr": 0.001},
    "threads": 1,
    "versions": {"torch": "2"},
}
STATEFUL = {
    "num_epochs": 4, "dropout": 0.3, "ema": 0.9, "optimizer": "adamw", "weight_decay": 0.01,
}  # fmt: skip


ELSEWHERE = itertools.count(999)


class Killed(BaseException):
    """Replaces kill -9 in these tests: no code runs after it."""


@dataclass
class Mortal:
    """A training set that is killed in the middle of a pass."""

    images: Any
    epoch: int
    batches: int

    @property
    def image_set(self) -> Any:
        return self.images.image_set

    def __len__(self) -> int:
        return len(self.images)

    def __call__(self, epoch: int) -> Iterator[Batch]:
        for number, batch in enumerate(self.images(epoch)):
            if (epoch, number) == (self.epoch, self.batches):
                raise Killed
            yield batch


def run(  # whatever comes between two runs of a training draws from the same generator
    folder: Path,
    told: TrainSettings,
    images: Any = None,
    *,
    provenance: Any = PROVENANCE,
    watch: RunContext | None = None,
    model: Detector | None = None,
) -> tuple[Detector, TrainingResult]:
    torch.manual_seed(next(ELSEWHERE))
    model = tiny(told.dropout) if model is None else model
    done = train(
        model,
        checkered(0) if images is None else images,
        checkered(1),
        CheckpointCallback(
            folder=folder,
            settings=told,
            provenance=provenance,
            identity=("poison_record_sha256", "quality_list_sha256"),
        ),
        watch=watch or RunContext(),
    )
    return model, done


def interrupt(folder: Path, told: TrainSettings, epoch: int, batches: int) -> None:
    with pytest.raises(Killed):
        run(folder, told, Mortal(checkered(0), epoch, batches))


@pytest.mark.parametrize(
    ("select", "every", "schedule"),
    [
        *(("best", 0, "plateau"), ("last", 2, "step"), ("last", 2, "onecycle")),
        pytest.param("last", 2, "plateau", marks=pytest.mark.night),
        pytest.param("best", 0, "step", marks=pytest.mark.night),
        pytest.param("best", 0, "onecycle", marks=pytest.mark.night),
    ],
)
def test_killed_training_resumes_bit_by_bit(
    tmp_path: Path, schedule: str, select: str, every: int
) -> None:
    stateful = {**STATEFUL, "num_epochs": 3}
    told = settings(**stateful, schedule=schedule, select=select, checkpoint_every=every)
    whole, expected = run(tmp_path / "whole", told)
    interrupt(tmp_path / "killed", told, epoch=1, batches=2)
    model, done = run(tmp_path / "killed", told)
    assert same(model, whole)
    assert [one.loss for one in done.epochs] == [one.loss for one in expected.epochs]
    assert [one.lr for one in done.epochs] == [one.lr for one in expected.epochs]
    assert done.chosen.epoch == expected.chosen.epoch
    assert done.samples_read == expected.samples_read


def test_gradient_scale_of_fp16_is_restored(tmp_path: Path) -> None:
    told = settings(num_epochs=3, precision="fp16", select="last", checkpoint_every=1, lr=0.01)
    interrupt(tmp_path / "killed", told, epoch=1, batches=1)
    path = paths.resume(tmp_path / "killed")
    content = tensor_files.load(path)
    assert content["steps"]["scaler"]["scale"] > 0
    content["steps"]["scaler"]["scale"] /= 2
    tensor_files.save(path, content)
    run(tmp_path / "killed", told)
    assert (
        tensor_files.load(path)["steps"]["scaler"]["scale"] == content["steps"]["scaler"]["scale"]
    )


def test_other_thread_count_resumes_with_warning_about_changed_bits(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    told = settings(num_epochs=3)
    interrupt(tmp_path, told, epoch=1, batches=0)
    with caplog.at_level(logging.INFO, "trueface"):
        run(tmp_path, told, provenance={**PROVENANCE, "threads": 2})
    assert (
        "resumes after epoch 1, with a result that is not the same bit by bit: threads 2 instead of 1"
        in caplog.text
    )
    source = checkpoint.load(paths.checkpoint(tmp_path)).provenance
    assert source["resumed"] == [{"after_epoch": 1, "differs": ["threads 2 instead of 1"]}]


def test_at_most_one_epoch_is_lost_and_number_of_finished_epochs_is_readable(
    tmp_path: Path,
) -> None:
    told = settings(num_epochs=4)
    interrupt(tmp_path, told, epoch=3, batches=2)
    assert checkpointing.interrupted_epochs(paths.resume(tmp_path)) == 3
    assert checkpointing.interrupted_epochs(tmp_path / "absent.pt") is None
    images = checkered(0)
    run(tmp_path, told, images)
    assert images.passes == [3]


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"settings": {"lr": 0.01}}, {}),
        ({"train_images_sha256": "other"}, {}),
        ({"image_bytes_sha256": "other"}, {}),
        ({"poison_record_sha256": "x"}, {}),
        ({"quality_list_sha256": "x"}, {}),
        ({}, {"resume": False}),
    ],
)
def test_state_of_other_or_refused_training_is_not_loaded(
    tmp_path: Path, changed: dict[str, Any], told: dict[str, bool]
) -> None:
    interrupt(tmp_path, settings(), epoch=1, batches=0)
    images = checkered(0)
    run(tmp_path, settings(**told), images, provenance={**PROVENANCE, **changed})
    assert images.passes == [0, 1]


def _lacking(path: Path) -> bytes:
    content = tensor_files.load(path)
    del content["epochs"]
    tensor_files.save(path, content)
    return path.read_bytes()


def damage(path: Path, how: str) -> None:
    content = path.read_bytes()
    broken: dict[str, Callable[[], bytes]] = {
        "cut off": lambda: content[: len(content) // 2],
        "empty": lambda: b"",
        "no state": lambda: b"hello",
        "lacking": lambda: _lacking(path),
    }
    path.write_bytes(broken[how]())


@pytest.mark.parametrize("how", ["cut off", "empty", "no state", "lacking"])
def test_broken_state_is_reported_and_training_restarts(
    tmp_path: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    interrupt(tmp_path, settings(), epoch=1, batches=0)
    damage(paths.resume(tmp_path), how)
    images = checkered(0)
    run(tmp_path, settings(), images)
    assert images.passes == [0, 1]
    assert "so it starts from the beginning" in caplog.text


def test_stopped_training_resumes_within_its_epoch(tmp_path: Path) -> None:
    told = settings(num_epochs=2, dropout=0.3, select="last")
    whole, _ = run(tmp_path / "whole", told)
    stop, batches = threading.Event(), itertools.count()

    def halt(**_metrics: float) -> None:
        if next(batches) == 0:
            stop.set()

    with pytest.raises(JobError, match="stopped in epoch 1 of 2"):
        run(tmp_path / "stopped", told, watch=RunContext(progress=halt, stop=stop))
    images = checkered(0)
    model, _ = run(tmp_path / "stopped", told, images)
    assert same(model, whole)


def test_failing_disk_does_not_remove_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt(tmp_path, settings(), epoch=1, batches=0)
    with monkeypatch.context() as broken:
        broken.setattr(torch, "load", Mock(side_effect=OSError(errno.EIO, "Input/output error")))
        with pytest.raises(MachineError, match=r"cannot read .*resume\.pt: Input/output error"):
            run(tmp_path, settings())
    assert paths.resume(tmp_path).exists()


def test_state_without_process_count_means_one_process() -> None:
    before = checkpointing.TrainingFingerprint.from_provenance(PROVENANCE, frozenset()).conditions
    earlier = {key: value for key, value in before.items() if key != "world_size"}
    one, two = (
        checkpointing.TrainingFingerprint.from_provenance(
            {**PROVENANCE, "world_size": size}, frozenset()
        )
        for size in (1, 2)
    )
    assert one.differences(earlier) == []
    assert two.differences(earlier) == ["world_size 2 instead of 1"]
    assert one.fingerprint == two.fingerprint


def run_tiny(folder: Path, provenance: dict[str, Json], images: Any) -> dict[str, Tensor]:
    """Train a tiny network for three epochs; return its weights."""
    told = settings(**{**STATEFUL, "num_epochs": 3}, schedule="onecycle", checkpoint_every=1)
    torch.manual_seed(1)
    model = tiny(0.3)
    identity = ("poison_record_sha256", "quality_list_sha256")
    kept = CheckpointCallback(
        folder=folder, settings=told, provenance=provenance, identity=identity
    )
    train(model, images, checkered(1), kept, watch=RunContext())
    return dict(model.network.state_dict())


@pytest.mark.parametrize(
    ("version", "facts"), [("0.3", {}), ("0.2", {"poison_record_sha256": None})]
)
def test_state_of_earlier_version_resumes_within_its_epoch(
    tmp_path: Path, version: str, facts: dict[str, Json], caplog: pytest.LogCaptureFixture
) -> None:
    put_state(f"detector-{version}", paths.resume(tmp_path / "resumed"))
    images, provenance = checkered(0), {**PROVENANCE, **facts}
    with caplog.at_level(logging.INFO, "trueface"):
        resumed = run_tiny(tmp_path / "resumed", provenance, images)
    assert images.passes == [1, 2]
    assert "state=resumes after epoch 1, with the same result, bit by bit" in caplog.text
    assert_almost_equal(resumed, run_tiny(tmp_path / "whole", provenance, checkered(0)))
