"""Values of objectives, and their requests to the trainer."""

from collections.abc import Iterator

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
