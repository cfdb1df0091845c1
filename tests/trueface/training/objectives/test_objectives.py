"""Values of objectives, and their requests to the trainer."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from launcher.api import JobError
from tests.trueface.training.test_trainer import Pixels, checkered, settings, tiny
from trueface.data.batch import Batch
from trueface.runtime.progress import RunContext
from trueface.training.objectives.protocol import Logs, Objective
from trueface.training.objectives.registry import make_objective
from trueface.training.trainer import fit

torch.set_num_threads(1)

LOGITS = torch.tensor([[2.0], [-1.0], [0.5]])
LABELS = torch.tensor([[1.0], [1.0], [0.0]])
BATCH = Batch(LOGITS[:, :, None, None], LABELS, torch.arange(3))


class Flat(nn.Module):
    """Gives its inputs back as logits."""

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs.flatten(1)


def test_bce_is_mean_negative_log_likelihood() -> None:
    loss, logs = make_objective("bce").training_step(Flat(), BATCH)
    p = LOGITS.sigmoid()
    expected = -(LABELS * p.log() + (1 - LABELS) * (1 - p).log()).mean()
    torch.testing.assert_close(loss, expected)
    assert int(logs["correct"]) == 1


def test_ce_of_one_logit_is_bce_and_of_several_is_cross_entropy() -> None:
    ce = make_objective("ce")
    of_one, logs = ce.training_step(Flat(), BATCH)
    torch.testing.assert_close(of_one, make_objective("bce").training_step(Flat(), BATCH)[0])
    assert int(logs["correct"]) == 1
    logits, labels = torch.eye(3), torch.tensor([0, 1, 0])
    loss, logs = ce.training_step(Flat(), Batch(logits, labels, torch.arange(3)))
    torch.testing.assert_close(loss, functional.cross_entropy(logits, labels))
    assert int(logs["correct"]) == 2


class Sharpness(Objective):
    """BCE at weights that are moved along the gradient by a fixed length."""

    def __init__(self, rho: float) -> None:
        self.rho, self.losses = rho, list[float]()

    def training_step(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Logs]:
        loss, logs = make_objective("bce").training_step(model, batch)
        self.losses.append(loss.item())
        return loss, {**logs, "sharpness": self.losses[-1] - self.losses[-2:][0]}

    def perturbed(self, model: nn.Module) -> AbstractContextManager[None]:
        return self._moved([one for one in model.parameters() if one.grad is not None])

    @contextmanager
    def _moved(self, parameters: list[nn.Parameter]) -> Iterator[None]:
        gradients = [one.grad.clone() for one in parameters if one.grad is not None]
        before = [one.detach().clone() for one in parameters]
        norm = torch.stack([one.norm() for one in gradients]).norm()
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.add_(self.rho * gradient / norm)
        yield
        with torch.no_grad():
            for parameter, value in zip(parameters, before, strict=True):
                parameter.copy_(value)


def one_step(objective: Objective | None) -> dict[str, Tensor]:
    model = tiny()
    config = settings(num_epochs=1, freeze=True, select="last").trainer
    fit(model, checkered(0, 8), checkered(1), config, watch=RunContext(), objective=objective)
    return dict(model.network.state_dict())


def test_second_pass_uses_perturbed_weights_and_steps_from_original_ones() -> None:
    sharp = Sharpness(rho=5.0)
    moved = one_step(sharp)
    first, second = sharp.losses
    assert second > first
    plain = one_step(None)
    # Adam's first step has the length of the rate, whatever the gradient is: it begins at the old weights
    before = tiny().network.state_dict()
    for name in ("fc.weight", "fc.bias"):
        assert (moved[name] - before[name]).abs().max() <= 1.01e-3
    assert not torch.equal(moved["fc.weight"], plain["fc.weight"])


def test_values_logged_by_objective_are_in_progress() -> None:
    reports: list[dict[str, float]] = []
    model = tiny()
    fit(
        model, checkered(0, 8), checkered(1), settings(num_epochs=1).trainer,
        watch=RunContext(progress=lambda **metrics: reports.append(metrics)), objective=Sharpness(1.0),
    )  # fmt: skip
    steps = [report for report in reports if "val_loss" not in report]  # not an epoch's end
    assert {"loss", "lr", "images_per_s", "sharpness"} <= set(steps[-1])
    assert "correct" not in steps[-1]


class ByQuality(Objective):
    """BCE that remembers which qualities it was shown."""

    def __init__(self) -> None:
        self.qualities: list[int] = []

    def training_step(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Logs]:
        self.qualities += batch.column("quality").tolist()
        loss, logs = make_objective("bce").training_step(model, batch)
        return loss, logs


class Graded(Pixels):
    """Images that come with a quality: their position."""

    def __call__(self, epoch: int) -> Iterator[Batch]:
        for batch in super().__call__(epoch):
            yield batch._replace(columns={"quality": batch.indices})


def test_objective_gets_batch_columns_and_missing_one_is_reported() -> None:
    model, plain = tiny(), checkered(0, 8)
    config, objective = settings(num_epochs=1).trainer, ByQuality()
    graded = Graded(plain.labels, plain.images)
    fit(model, graded, checkered(1), config, watch=RunContext(), objective=objective)
    assert sorted(objective.qualities) == list(range(8))
    with pytest.raises(JobError, match="needs the quality of every image"):
        fit(model, plain, checkered(1), config, watch=RunContext(), objective=objective)
