"""Layers and objectives that share a batch: the parts of several processes together equal the batch of one."""

import copy
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
import timm.layers
import torch
import torch.distributed as dist
import torchvision
from torch import Tensor, nn

from trueface.data.batch import Batch
from trueface.models.assembly import BuildOptions, assemble
from trueface.models.blocks.efficientnet import DropConnect
from trueface.models.blocks.lrnet import PointDropout
from trueface.models.registry import LANDMARKS, OWN_DRAWS, SPECS
from trueface.runtime.errors import JobError
from trueface.training.config import ObjectiveOptions
from trueface.training.distributed import (
    RankRows,
    SharedDropout,
    draws_rows,
    refuse_own_draws,
    sync_batch_layers,
)
from trueface.training.objectives.protocol import TrainingFacts
from trueface.training.objectives.registry import make_objective, objectives

OFTEN = ("capsule", "recce", "lrnet", "mesonet")  # the others are large
PARTS = (0, 1, 3, 1)  # images of each process
COUNT = sum(PARTS)
LABELS = torch.tensor([1.0, 0.0, 1.0, 1.0, 0.0])
GROUPS = torch.tensor([0, 0, 1, 0, 0])


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Dropout(0.5),
        lambda: nn.Dropout2d(0.5),
        lambda: torchvision.ops.StochasticDepth(0.5, "row"),
        lambda: torchvision.ops.StochasticDepth(0.5, "batch"),
        lambda: timm.layers.DropPath(0.5),
        lambda: DropConnect(0.5),
    ],
)
def test_processes_draw_the_masks_of_one_process(make: Callable[[], nn.Module]) -> None:
    inputs = torch.rand(COUNT, 4, 3, 3, generator=torch.Generator().manual_seed(3)) + 1
    torch.manual_seed(1)
    whole = make()(inputs)
    assert draws_rows(make())
    for rank, own in enumerate(PARTS):
        before = sum(PARTS[:rank])
        torch.manual_seed(1)
        shared = SharedDropout(make(), RankRows(before=before, own=own, total=COUNT))
        torch.testing.assert_close(
            shared(inputs[before : before + own]), whole[before : before + own]
        )
    assert not torch.equal(whole, inputs)


def test_rows_in_another_order_than_in_one_process_are_refused() -> None:
    for rows, count in (
        (RankRows(own=2, total=4, has_copies=True), 2),
        (RankRows(own=2, total=4), 6),
    ):
        with pytest.raises(JobError, match="other masks in several processes"):
            SharedDropout(nn.Dropout(0.5), rows)(torch.ones(count, 3))
        assert len(SharedDropout(nn.Dropout(0.5), rows).eval()(torch.ones(count, 3))) == count
    assert not draws_rows(nn.Dropout(0.0))


def test_copy_of_a_model_in_processes_has_batch_norms_of_its_own_that_activate() -> None:
    model = nn.Sequential(timm.layers.BatchNormAct2d(3)).eval()
    inputs = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(4))
    before = model(inputs)
    with sync_batch_layers(model, RankRows()):
        copied = copy.deepcopy(model)
        for parameter in copied[0].parameters():
            nn.init.zeros_(parameter)
        torch.testing.assert_close(model(inputs), before)
        assert not copied(inputs).any()
    assert torch.equal(model(inputs), before)
    assert (before == 0).any()


@pytest.fixture
def group_of_one(tmp_path: Path) -> Iterator[None]:
    """A group of processes in which the batch norms of this one compute their statistics."""
    dist.init_process_group("gloo", f"file://{tmp_path}/group", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


class Noise(nn.Module):
    """A layer that draws for each image, as none that processes can share."""

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs + torch.randn_like(inputs)


@pytest.mark.parametrize(
    ("layer", "drawn", "named"),
    [
        (nn.Dropout(0.5), 0, ""),
        (PointDropout(), 0, ""),
        (Noise(), 0, "layer 0.1 draws"),
        (nn.AlphaDropout(0.5), 0, "layer 0.1 draws"),
        (nn.ReLU(), 1, "the training step draws"),
    ],
)
def test_draws_for_the_images_of_one_process_are_refused_by_name(
    layer: nn.Module, drawn: int, named: str
) -> None:
    inner = nn.Sequential(nn.Linear(136, 136), layer)
    model = nn.Sequential(inner, nn.Linear(136, 1))
    rows = RankRows(own=2, total=4)

    def step() -> None:
        with refuse_own_draws(model):
            model(torch.ones(2, 5, 136))
            torch.rand(drawn)

    with sync_batch_layers(model, rows):
        if named:
            with pytest.raises(JobError, match=f"^{named}"):
                step()
        else:
            step()
    assert not model[1]._forward_hooks
    assert inner[1] is layer


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name in OFTEN else pytest.mark.night) for name in SPECS],
)
def test_networks_that_draw_for_the_images_of_one_process_declare_it(
    name: str, group_of_one: None
) -> None:
    spec = SPECS[name]
    model = assemble(name, BuildOptions(weights="none")).network.train()
    side = spec.input_size or max(spec.side_step or 0, 128)
    shape: tuple[int, ...] = (2, 3, side, side)
    if spec.frames is not None:
        frames = max(spec.frames, 4)
        shape = (2, frames, 68, 2) if spec.inputs == LANDMARKS else (2, 3, frames, side, side)
    images = torch.rand(shape)
    rows = RankRows(own=2, total=4, whole_clips=True)
    draws = pytest.raises(JobError, match=OWN_DRAWS) if spec.own_draws else nullcontext()
    with sync_batch_layers(model, rows), draws, refuse_own_draws(model):
        model(images)


@pytest.mark.parametrize("name", [name for name, spec in objectives().items() if spec.mean])
def test_gradients_of_parts_are_those_of_the_batch(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    single: Callable[[Tensor], Tensor] = Tensor.double
    monkeypatch.setattr(Tensor, "float", single)  # everything in float64, so that rounding is out
    torch.manual_seed(2)
    model = nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 1)).double()
    inputs = 9 * torch.randn(COUNT, 6, dtype=torch.float64)

    def gradients(begin: int, end: int) -> list[Tensor]:
        objective = make_objective(name)
        columns = {"demographic": GROUPS}
        facts = TrainingFacts(
            labels=LABELS, columns=columns, names={"demographic": ("old", "young")}
        )
        objective.prepare(facts, ObjectiveOptions())
        batch = Batch(
            inputs[begin:end],
            LABELS[begin:end, None],
            torch.arange(begin, end),
            {"demographic": GROUPS[begin:end]},
        )
        with refuse_own_draws(model):  # declared as a mean: several processes share its batch
            loss, _ = objective.training_step(model, batch)
        return list(torch.autograd.grad(loss * (end - begin) / COUNT, list(model.parameters())))

    parts = [gradients(sum(PARTS[:rank]), sum(PARTS[: rank + 1])) for rank in range(len(PARTS))]
    for whole, *shares in zip(gradients(0, COUNT), *parts, strict=True):
        torch.testing.assert_close(torch.stack(shares).sum(0), whole, rtol=1e-9, atol=1e-12)
