"""A training whose steps are replayed has the bits of the same training without, and resumes in its mode."""

import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from launcher.api import JobError
from tests.trueface.recorded_steps import RecordedSteps, recorded
from tests.trueface.training.test_resume import interrupt, run
from tests.trueface.training.test_trainer import COUNT, checkered, same, settings, tiny
from trueface.data.batch import Batch
from trueface.models.detectors import Detector
from trueface.runtime import paths, tensor_files
from trueface.runtime.progress import RunContext
from trueface.training.objectives.bce import BinaryCrossEntropy
from trueface.training.objectives.protocol import Logs
from trueface.training.settings import TrainSettings
from trueface.training.trainer import TrainingResult, fit

__all__ = ["recorded"]
GRAPH: dict[str, Any] = {"accelerate": "graph"}


def trained(
    told: TrainSettings, *, count: int = COUNT, device: str = "cpu", **given: Any
) -> tuple[Detector, TrainingResult]:
    model = tiny(told.dropout)
    images = checkered(0, count)
    done = fit(
        model.to(device),
        images,
        checkered(1),
        told.trainer,
        watch=RunContext(device=device),
        **given,
    )
    return model.cpu(), done


def numbers(done: TrainingResult) -> list[tuple[float, ...]]:
    return [(each.loss, each.accuracy, each.val_loss, each.lr) for each in done.epochs]


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"optimizer": "adamw", "weight_decay": 0.01, "ema": 0.9, "dropout": 0.3},
        {"freeze": True, "schedule": "step", "lr_decay_epochs": 1},
        {"precision": "bf16"},
        {"objective": "ce"},
        pytest.param({"precision": "fp16", "lr": 1e-2}, marks=pytest.mark.night),
    ],
)
def test_replayed_training_has_the_bits_of_an_eager_one(
    recorded: RecordedSteps, changed: dict[str, Any]
) -> None:
    model, done = trained(settings(num_epochs=3, select="last", **changed, **GRAPH))
    other, expected = trained(settings(num_epochs=3, select="last", **changed))
    assert same(model, other)
    assert numbers(done) == numbers(expected)
    assert recorded.replays == 3 * (COUNT // 8) - 3
    assert recorded.released == 1
    assert done.acceleration == {"accelerate": "graph"}
    assert expected.acceleration == {}


def test_killed_training_resumes_in_graph_mode_bit_by_bit(
    tmp_path: Path, recorded: RecordedSteps
) -> None:
    told = settings(num_epochs=3, dropout=0.3, ema=0.9, select="last", checkpoint_every=2, **GRAPH)
    whole, expected = run(tmp_path / "whole", told)
    interrupt(tmp_path / "killed", told, epoch=1, batches=2)
    state = tensor_files.load(paths.resume(tmp_path / "killed"))
    (group,) = state["steps"]["optimizer"]["param_groups"]
    assert (group["lr"], group["capturable"]) == (
        told.lr,
        False,
    )  # as in a state of an eager training
    recorded.replays = 0
    model, done = run(tmp_path / "killed", told)
    assert same(model, whole)
    assert numbers(done) == numbers(expected)
    assert recorded.replays == 2 * 3 - 2 - 3
    assert done.acceleration == {"accelerate": "graph"}


def test_failed_recording_leaves_the_training_as_it_is(
    recorded: RecordedSteps, caplog: pytest.LogCaptureFixture
) -> None:
    recorded.fails_with = torch.OutOfMemoryError("CUDA out of memory.")
    model, done = trained(settings(num_epochs=3, dropout=0.3, **GRAPH))
    other, expected = trained(settings(num_epochs=3, dropout=0.3))
    assert same(model, other)
    assert numbers(done) == numbers(expected)
    reason = "the recording failed: CUDA out of memory."
    assert done.acceleration == {"accelerate": "off", "accelerate_reason": reason}
    assert [text for text in caplog.messages if "mode=" in text] == [f"mode=eager reason={reason}"]


class Diverging(BinaryCrossEntropy):
    """A loss that is not finite from a step on."""

    steps = 0

    def training_step(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Logs]:
        loss, logs = super().training_step(model, batch)
        self.steps += 1
        return loss * (float("nan") if self.steps > 5 else 1.0), logs


def test_diverging_replay_ends_with_the_same_message_and_no_newer_state(
    recorded: RecordedSteps, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import trueface.training.loop as loop

    monkeypatch.setattr(loop, "is_capturable", lambda *_: True)
    monkeypatch.setattr("trueface.training.trainer.make_objective", lambda _: Diverging())
    message = r"^the loss became nan in epoch 2, after 40 images \(lr 0\.001, batch_size 8, "
    with pytest.raises(JobError, match=message):
        run(tmp_path, settings(checkpoint_every=1, **GRAPH))
    assert (recorded.replays, recorded.released) == (3, 1)
    state = tensor_files.load(paths.resume(tmp_path))
    assert state["steps"]["images_read"] == 40
    assert all(bool(each.isfinite().all()) for each in state["model"].values())


def test_stop_ends_between_two_replays(tmp_path: Path, recorded: RecordedSteps) -> None:
    told = settings(num_epochs=3, select="last", **GRAPH)
    whole, _ = run(tmp_path / "whole", told)
    stop, read = threading.Event(), list[int]()

    def progress(*, step: int, **_: object) -> None:
        read.append(step)

    class Stopping(type(checkered())):  # type: ignore[misc]  # a class of the other module
        def __call__(self, epoch: int) -> Any:
            for number, batch in enumerate(super().__call__(epoch)):
                if (epoch, number) == (1, 2):
                    stop.set()
                yield batch

    images = Stopping(**vars(checkered(0)))
    watch = RunContext(progress=progress, stop=stop)
    with pytest.raises(JobError, match="stopped in epoch 2 of 3"):
        run(tmp_path / "stopped", told, images, watch=watch)
    assert recorded.replays == 6 + 2
    model, _ = run(tmp_path / "stopped", told)
    assert same(model, whole)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"sam": 0.05}, "sam reads the norm of the gradients between two passes"),
        ({"awp": 0.01}, "awp reads the norm of the gradients between two passes"),
        ({"schedule": "onecycle"}, "schedule: onecycle also changes the momentum of each step"),
    ],
)
def test_other_trainings_are_eager_with_a_reason(
    recorded: RecordedSteps,
    caplog: pytest.LogCaptureFixture,
    changed: dict[str, Any],
    reason: str,
) -> None:
    model, done = trained(settings(**changed, **GRAPH))
    assert recorded.recordings == 0
    assert done.acceleration == {"accelerate": "off", "accelerate_reason": reason}
    assert [text for text in caplog.messages if "mode=" in text] == [f"mode=eager reason={reason}"]
    assert same(model, trained(settings(**changed))[0])


def test_objectives_with_a_state_of_their_own_are_eager(recorded: RecordedSteps) -> None:
    class Own(BinaryCrossEntropy):
        """An objective that a part of the training has put around another one."""

    _, done = trained(settings(**GRAPH), objective=Own())
    assert recorded.recordings == 0
    assert done.acceleration["accelerate_reason"] == (
        "a step of objective bce changes more than tensors at a fixed place"
    )


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("changed", [{}, {"precision": "bf16"}, {"precision": "fp16"}])
def test_gpu_trainings_in_both_modes_agree(changed: dict[str, Any]) -> None:
    plain = settings(num_epochs=4, dropout=0.3, ema=0.5, select="last", **changed)
    told = settings(num_epochs=4, dropout=0.3, ema=0.5, select="last", **changed, **GRAPH)
    model, done = trained(told, device="cuda")
    again, _ = trained(told, device="cuda")
    other, expected = trained(plain, device="cuda")
    assert done.acceleration == {"accelerate": "graph"}
    assert same(model, again)
    for one, two in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-2, atol=1e-3)
    assert [each.loss for each in done.epochs] == pytest.approx(
        [each.loss for each in expected.epochs], rel=1e-2
    )
