"""The triplet loss of features, its gradients and its refusals."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.trueface.jobs.build import a_draft
from tests.trueface.models.build import untrained
from trueface.data.batch import Batch
from trueface.jobs.kinds import TRAIN
from trueface.training.objectives.registry import make_objective
from trueface.training.objectives.triplet import triplet_loss

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
