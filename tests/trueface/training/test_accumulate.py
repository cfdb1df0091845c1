"""Steps of several batches equal steps of one large batch, also at the end of an epoch and after a kill."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from launcher.api import JobError
from tests.trueface.training.build_groups import CONFIG
from tests.trueface.training.test_resume import STATEFUL, interrupt, run
from tests.trueface.training.test_trainer import same, settings
from trueface.data.batch import Batch
from trueface.data.loading.pass_order import epoch_order
from trueface.runtime import paths, tensor_files
from trueface.runtime.progress import RunContext
from trueface.training.config import TrainerConfig
from trueface.training.loop import RunningMetrics
from trueface.training.trainer import TrainingResult, fit

COUNT, SIDE, EPOCHS = 44, 6, 3  # 44 images: five batches of 8, and one of 4


@dataclass(frozen=True)
class Noise:
    """Images of noise in one order per epoch, whatever the size of a batch is."""

    batch_size: int
    count: int = COUNT

    def __len__(self) -> int:
        return self.count

    def __call__(self, epoch: int) -> Iterator[Batch]:
        images = torch.randn(COUNT, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(7))
        labels = (images[:, 0].mean((1, 2), keepdim=True) > 0).float().flatten(1)
        order = epoch_order(range(self.count), shuffle_seed=1, epoch=epoch)
        for at in range(0, len(order), self.batch_size):
            chosen = torch.tensor(order[at : at + self.batch_size])
            yield Batch(images[chosen], labels[chosen], chosen)


def network() -> nn.Module:
    """Return a network without batch norm and dropout, whose gradients add up."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * (SIDE - 2) ** 2, 1)
    )


def trained(
    batch_size: int, count: int = COUNT, **changed: Any
) -> tuple[list[Tensor], TrainingResult]:
    plain = {"num_epochs": EPOCHS, "batch_size": batch_size, "lr": 0.01}
    model, config = network(), TrainerConfig(**{**CONFIG, **plain, **changed})
    done = fit(model, Noise(batch_size, count), Noise(COUNT), config, watch=RunContext())
    return [each.detach() for each in model.parameters()], done


@pytest.mark.parametrize(
    ("batches", "said"), [(5, ""), (64, "an epoch has 6 batches, so accumulate: 6 t")]
)
def test_more_batches_than_an_epoch_has_are_logged(
    caplog: pytest.LogCaptureFixture, batches: int, said: str
) -> None:
    with caplog.at_level(logging.WARNING):
        trained(8, accumulate=batches)
    logged = [message for message in caplog.messages if message.startswith("accumulate=")]
    assert len(logged) == bool(said)
    assert said in "".join(logged)


def distance(one: list[Tensor], other: list[Tensor]) -> float:
    return max(float((a - b).abs().max()) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize(
    ("changed", "count"),
    [
        ({"optimizer": "sgd", "momentum": 0.9, "weight_decay": 0.01}, 44),
        ({"optimizer": "adam", "ema": 0.9}, 36),
        ({"optimizer": "adamw", "schedule": "onecycle"}, 44),
        ({"optimizer": "sgd", "schedule": "warmup_cosine"}, 32),
        ({"optimizer": "sgd", "schedule": "step", "lr_decay_epochs": 1}, 36),
        ({"optimizer": "sgd", "objective": "ce"}, 44),
        ({"optimizer": "adam"}, 5),
    ],
)
def test_weights_equal_those_of_a_batch_that_is_larger(changed: dict[str, Any], count: int) -> None:
    several, done = trained(8, count, accumulate=4, **changed)
    large, expected = trained(32, count, **changed)
    assert distance(several, large) < 1e-5
    assert count <= 8 or distance(several, trained(8, count, **changed)[0]) > 1e-3
    assert [each.loss for each in done.epochs] == pytest.approx(
        [each.loss for each in expected.epochs], abs=1e-5
    )
    assert [each.lr for each in done.epochs] == pytest.approx([e.lr for e in expected.epochs])
    assert done.samples_read == expected.samples_read == EPOCHS * count


def test_half_precision_scales_and_unscales_the_sum_once() -> None:
    several, _ = trained(8, accumulate=4, precision="fp16", optimizer="sgd", lr=0.1)
    large, _ = trained(32, precision="fp16", optimizer="sgd", lr=0.1)
    assert distance(several, large) < 1e-3
    assert distance(several, [each.detach() for each in network().parameters()]) > 0.02


def test_loss_that_is_not_finite_ends_the_training_with_its_batch() -> None:
    with pytest.raises(JobError, match=r"the loss became (nan|inf) in epoch \d, after \d+ images"):
        trained(8, accumulate=4, lr=1e30, optimizer="sgd")


@pytest.mark.parametrize(("every", "batches"), [(1, 2), (2, 1), (2, 2), (4, 2)])
def test_killed_training_resumes_bit_by_bit_from_the_last_step(
    tmp_path: Path, every: int, batches: int
) -> None:
    # three batches of 8: a step of two, and one of the last batch alone
    stateful = {**STATEFUL, "num_epochs": 3}
    told = settings(**stateful, accumulate=2, select="last", checkpoint_every=every)
    whole, expected = run(tmp_path / "whole", told)
    interrupt(tmp_path / "killed", told, epoch=1, batches=batches)
    sums = tensor_files.load(paths.resume(tmp_path / "killed"))["steps"]["sums"]
    saved = 0 if sums is None else RunningMetrics(**sums).batches
    assert saved == (2 if batches == 2 and every < 4 else 0)
    model, done = run(tmp_path / "killed", told)
    assert same(model, whole)
    assert [one.loss for one in done.epochs] == [one.loss for one in expected.epochs]


def test_second_pass_of_a_step_is_refused_by_the_loop() -> None:
    config = replace(TrainerConfig(**{**CONFIG, "batch_size": 8, "sam": 0.05}), accumulate=2)
    with pytest.raises(JobError, match="accumulate: 2 cannot be used with a second pass"):
        fit(network(), Noise(8), Noise(COUNT), config, watch=RunContext())
