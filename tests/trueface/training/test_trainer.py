import csv
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.optim import Adam

from launcher.api import JobError
from trueface.data.batch import Batch
from trueface.evaluation.inference import evaluate
from trueface.models import checkpoint
from trueface.models.detectors import Detector, build_detector
from trueface.models.registry import spec_of
from trueface.runtime import paths
from trueface.runtime.progress import RunContext
from trueface.training import optimizer_state
from trueface.training.checkpointing import CheckpointCallback
from trueface.training.settings import TrainSettings
from trueface.training.trainer import TrainingResult, fit, train

torch.set_num_threads(1)  # two that wait for each other under load are slower

COUNT, SIDE = 24, 16


@dataclass
class Pixels:
    """Images in memory; the fakes carry a checkerboard, so that they can be told apart."""

    labels: torch.Tensor
    images: torch.Tensor
    batch_size: int = 8
    passes: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.labels)

    def __call__(self, epoch: int) -> Iterator[Batch]:
        self.passes.append(epoch)
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(epoch))
        for chosen in torch.tensor_split(order, len(self) // self.batch_size):
            yield Batch(self.images[chosen], self.labels[chosen], chosen)


@dataclass
class Second:
    """Images of which the first pass is the second."""

    images: Pixels

    def __len__(self) -> int:
        return len(self.images)

    def __call__(self, epoch: int) -> Iterator[Batch]:
        return self.images(epoch + 1)


def checkered(seed: int = 0, count: int = COUNT) -> Pixels:
    rng = torch.Generator().manual_seed(seed)
    images = torch.randint(100, 140, (count, 3, SIDE, SIDE), generator=rng)
    labels = torch.arange(count) % 2
    images[labels == 1, :, ::2, ::2] += 40
    return Pixels(labels[:, None].float(), images.to(torch.uint8))


class TinyNetwork(nn.Module):
    """Nine hundred bytes of weights, with batch norm and dropout."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.dropout, self.fc = nn.Dropout(dropout), nn.Linear(4, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = torch.relu(self.bn(self.conv(images))).mean((2, 3))
        logits: torch.Tensor = self.fc(self.dropout(features))
        return logits


def tiny(dropout: float = 0.0) -> Detector:
    """Return a detector whose files are small; it can be saved, but not loaded by its name."""
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(1)
        return Detector(spec_of("slim18"), TinyNetwork(dropout)).eval()


def slim() -> Detector:
    return build_detector("slim18", weights="none", seed=1)


def settings(**changed: Any) -> TrainSettings:
    plain = {"model": "slim18", "weights": "none", "batch_size": 8, "num_epochs": 2, "lr": 1e-3}
    return TrainSettings(data_root="data", split_path="splits", **{**plain, **changed})


def trained(model: Detector | None = None, **changed: Any) -> tuple[Detector, TrainingResult]:
    model = tiny() if model is None else model
    done = fit(model, checkered(0), checkered(1), settings(**changed).trainer, watch=RunContext())
    return model, done


def state(model: Detector) -> dict[str, torch.Tensor]:
    return dict(model.network.state_dict())


def same(one: Detector, other: Detector) -> bool:
    pairs = zip(one.network.state_dict().values(), other.network.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("freeze_bn", [True, False])
def test_frozen_network_keeps_all_bits_except_last_layer_and_requested_statistics(
    freeze_bn: bool,
) -> None:
    before, after = state(tiny()), state(trained(freeze=True, freeze_bn=freeze_bn)[0])
    changed = {name for name, value in before.items() if not torch.equal(value, after[name])}
    statistics = {name for name in before if "running" in name or "num_batches" in name}
    assert changed == {"fc.weight", "fc.bias"} | (set() if freeze_bn else statistics)


def test_best_validation_epoch_is_chosen_and_its_weights_are_kept() -> None:
    model, done = trained(num_epochs=6, lr=0.01)
    best = max(done.epochs, key=lambda epoch: epoch.selection_score)
    assert done.chosen.selection_score == best.selection_score
    answers = evaluate(model, checkered(1)(0), total=COUNT, watch=RunContext())
    right = (answers.margin > 0) == (answers.labels == 1)
    assert right.mean() == pytest.approx(best.val_accuracy)


def without_progress(**changed: Any) -> list[float]:
    """Return the learning rates of a training in which only the first epoch is progress."""
    model = tiny()
    state(model)["fc.bias"].fill_(1e9)  # too far for any step to change the answer
    plain = {"num_epochs": 30, "lr": 1e-4, "freeze": True}
    config = settings(**{**plain, **changed}).trainer
    done = fit(model, checkered(0), checkered(1), config, watch=RunContext())
    return [epoch.lr for epoch in done.epochs]


def test_plateau_schedule_lowers_rate_after_each_epoch_beyond_patience() -> None:
    rates = without_progress(lr_decay_epochs=2)
    assert rates == pytest.approx([1e-4] * 4 + [1e-5, 1e-6])  # and then it ends


def test_step_schedule_lowers_rate_at_fixed_intervals() -> None:
    rates = without_progress(lr_decay_epochs=2, schedule="step", num_epochs=5)
    assert rates == pytest.approx([1e-4, 1e-4, 1e-5, 1e-5, 1e-6])


@pytest.mark.parametrize(
    ("where", "said"),
    [("gradients", r"norm of the gradients became (inf|nan)"), ("loss", "loss became nan")],
)
def test_non_finite_loss_stops_training_with_its_location(where: str, said: str) -> None:
    model = tiny()
    if where == "loss":
        state(model)["fc.bias"].fill_(torch.nan)
    else:
        hook = list(model.parameters())[-2].register_hook
        hook(lambda gradient: gradient * torch.inf)  # type: ignore[no-untyped-call]  # torch
    with pytest.raises(JobError, match=rf"{said} in epoch 1, after 0 images \(lr 0\.001"):
        trained(model)


def test_stopped_training_saves_last_weights_and_reports_it(tmp_path: Path) -> None:
    stop = threading.Event()
    stop.set()
    kept = checkpoint_callback(tmp_path, settings(num_epochs=1))
    with pytest.raises(JobError, match="stopped in epoch 1 of 1"):
        train(tiny(), checkered(0), checkered(1), kept, watch=RunContext(stop=stop))
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {"last.pt", "resume.pt"}


def checkpoint_callback(
    folder: Path, asked: TrainSettings, **provenance: Any
) -> CheckpointCallback:
    return CheckpointCallback(folder=folder, settings=asked, provenance=provenance)


def test_checkpoint_and_history_are_in_model_folder(tmp_path: Path) -> None:
    model = tiny()
    train(
        model, checkered(0), checkered(1), checkpoint_callback(tmp_path, settings(), job="train/x"),
        watch=RunContext(),
    )  # fmt: skip
    saved = checkpoint.load(tmp_path / "checkpoints" / "best.pt")
    rows = list(csv.DictReader((tmp_path / "history.csv").read_text().splitlines()))
    assert saved.provenance["job"] == "train/x"
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert saved.state.keys() == state(model).keys()
    assert all(torch.equal(saved.state[name], value) for name, value in state(model).items())


def test_optimizer_state_belongs_to_epoch_of_kept_weights(tmp_path: Path) -> None:
    model = tiny()
    told = settings(num_epochs=5, lr=0.01, save_optimizer=True)
    done = train(
        model, checkered(0), checkered(1), checkpoint_callback(tmp_path, told), watch=RunContext()
    )
    kept = optimizer_state.load_optimizer(paths.optimizer(tmp_path))
    source = checkpoint.load(paths.checkpoint(tmp_path)).provenance
    assert kept.epoch == done.chosen.epoch == source["epochs"]
    steps = {int(values["step"]) for values in kept.state.values()}
    assert steps == {kept.epoch * COUNT // 8}


def test_two_trainings_with_stored_state_equal_one_long_training() -> None:
    long, _ = trained(num_epochs=2, select="last")
    states: list[optimizer_state.OptimizerState] = []
    images, short = checkered(0), tiny()
    config = settings(num_epochs=1, select="last").trainer
    fit(
        short, images, checkered(1), config, watch=RunContext(),
        after_epoch=lambda _epochs, _name, _model, optimizer: states.append(optimizer()),
    )  # fmt: skip
    fit(short, Second(images), checkered(1), config, watch=RunContext(), state=states[0])
    assert same(long, short)


def test_training_equals_reference_loop_bit_by_bit() -> None:
    model, _ = trained(select="last")
    plain, images = tiny(), checkered(0)
    optimizer = Adam(plain.parameters(), lr=1e-3, fused=True)
    for epoch in range(2):
        plain.train()
        for batch in images(epoch):
            loss = binary_cross_entropy_with_logits(plain(batch.inputs), batch.labels)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch
            optimizer.step()
    assert same(model, plain)
