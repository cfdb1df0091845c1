"""The triplet loss of features, its gradients and its refusals."""

from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from launcher.api import JobError
from tests.trueface.jobs.build import a_draft
from tests.trueface.models.build import untrained
from tests.trueface.training.build_groups import CONFIG
from tests.trueface.training.test_accumulate import Noise, network
from trueface.data.batch import Batch
from trueface.jobs.kinds import TRAIN
from trueface.runtime.progress import RunContext
from trueface.training.config import TrainerConfig
from trueface.training.objectives.bce import BinaryCrossEntropy
from trueface.training.objectives.protocol import Logs
from trueface.training.objectives.registry import make_objective
from trueface.training.objectives.triplet import triplet_loss
from trueface.training.trainer import fit

torch.set_num_threads(1)


def test_loss_is_mean_of_margins_between_classes() -> None:
    # whichever images are drawn: |a - p| is 3 for reals and 0 for fakes, and |a - n| is 4 or 5
    features = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0], [0.0, 4.0]])
    fake = torch.tensor([False, False, True, True])
    torch.manual_seed(1)
    losses = {round(float(triplet_loss(features, fake)), 4) for _ in range(20)}
    # a real anchor at 0 has 3 - 4 + 1, one at 3 has 3 - 5 + 1 < 0, and a fake has 0 - 4 + 1 < 0
    assert losses == {0.0}
    assert float(triplet_loss(3 * features, fake)) == 0.0
    near = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    expected = (3 - 1 + 1 + 3 - 10**0.5 + 1) / 4  # fakes: 0 - 1 + 1, and 0 - 10 ** 0.5 + 1 < 0
    assert float(triplet_loss(near, fake)) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("fake", [[True, True], [False, True], [False]])
def test_batch_without_pairs_has_no_loss_and_a_gradient(fake: list[bool]) -> None:
    features = torch.randn(len(fake), 4, requires_grad=True)
    triplet_loss(features, torch.tensor(fake)).backward()  # type: ignore[no-untyped-call]  # torch
    assert features.grad is not None
    assert not features.grad.any()


@pytest.mark.parametrize(
    ("name", "fakes", "takes"),
    [
        ("mcx", [1.0], False),
        ("mcx", [1.0, 1.0], True),
        ("mcx", [], False),
        ("triplet", [0.0, 1.0], False),
        ("triplet", [1.0, 1.0, 1.0], False),
        ("triplet", [0.0, 1.0, 1.0], True),
        ("bce", [1.0], True),
    ],
)
def test_objective_takes_batches_with_images_to_compare(
    name: str, fakes: list[float], *, takes: bool
) -> None:
    assert make_objective(name).can_learn(torch.tensor(fakes)[:, None]) == takes


def test_batch_without_images_to_compare_makes_no_step_and_does_not_count() -> None:
    class Pairs(BinaryCrossEntropy):
        rows: ClassVar[list[int]] = []

        def can_learn(self, labels: Tensor) -> bool:
            return len(labels) > 1

        def training_step(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Logs]:
            self.rows.append(len(batch.labels))
            loss, logs = super().training_step(model, batch)
            return loss * 0 + 3.0, logs

    config = replace(TrainerConfig(**{**CONFIG, "batch_size": 8}), num_epochs=1)
    done = fit(network(), Noise(8, 41), Noise(8), config, watch=RunContext(), objective=Pairs())
    assert Pairs.rows == [8] * 5
    assert done.epochs[0].loss == pytest.approx(3.0)
    with pytest.raises(JobError, match=r"no batch of epoch 1 .* Use a larger batch_size than 8"):
        fit(network(), Noise(1, 9), Noise(8), config, watch=RunContext(), objective=Pairs())


def test_features_learn_from_triplets_alone_and_the_last_layer_from_its_logits() -> None:
    def gradients(scale: float) -> tuple[Tensor, Tensor]:
        model = untrained("mesonet", side=16).eval()
        with torch.no_grad():
            model.head.weight.mul_(scale)
        pixels = torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(1))
        labels = torch.tensor([0.0, 1.0, 0.0, 1.0, 0.0, 1.0])[:, None]
        torch.manual_seed(2)
        objective = make_objective("triplet")
        loss, logs = objective.training_step(model, Batch(pixels, labels, torch.arange(6)))
        assert 0 <= int(logs["correct"]) <= 6
        loss.backward()
        first = next(model.network.parameters())
        assert first.grad is not None
        assert model.head.weight.grad is not None
        return first.grad, model.head.weight.grad

    body, head = gradients(1.0)
    other_body, other_head = gradients(100.0)
    assert body.any()
    assert torch.equal(body, other_body)
    assert not torch.equal(head, other_head)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"model": "slim18", "freeze": True}, "objective: triplet trains the features"),
        ({"model": "ccvit"}, "objective: triplet needs a network that ends in one linear layer"),
    ],
)
def test_plan_refuses_features_that_do_not_learn_or_do_not_exist(
    tmp_path: Path, settings: dict[str, Any], reason: str
) -> None:
    given = {"data_root": "data", "split_path": "splits", "objective": "triplet", **settings}
    draft = a_draft(TRAIN, tmp_path, given, model="gan2:pre", data="gan2:pre&real:pre")
    assert any(reason in each for each in TRAIN.refusals(draft, ()))
