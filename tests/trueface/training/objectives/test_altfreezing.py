"""Objective altfreezing: which weights move in which steps."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import cast

import pytest
import torch
from torch import Tensor, nn

from launcher.api import JobError
from tests.trueface.training.build_groups import CONFIG
from trueface.data.batch import Batch
from trueface.models.registry import load_model_maker
from trueface.runtime.progress import RunContext
from trueface.training.config import ObjectiveOptions, TrainerConfig
from trueface.training.objectives.altfreezing import AltFreezing, group_weights
from trueface.training.objectives.protocol import TrainingFacts
from trueface.training.trainer import fit

torch.set_num_threads(1)

SPATIAL, TEMPORAL = {"spatial.weight", "spatial.bias"}, {"temporal.weight", "temporal.bias"}
SHARED = {
    "stem.weight", "stem.bias", "point.weight", "point.bias", "norm.weight", "norm.bias", "fc.weight", "fc.bias",
}  # fmt: skip


class Network(nn.Module):
    """A network of clips with a kernel of each kind."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.spatial = nn.Conv3d(3, 2, (3, 3, 3)), nn.Conv3d(2, 2, (1, 2, 2))
        self.temporal, self.point = nn.Conv3d(2, 2, (2, 1, 1)), nn.Conv3d(2, 2, 1)
        self.norm, self.fc = nn.BatchNorm3d(2), nn.Linear(2, 1)

    def forward(self, clips: Tensor) -> Tensor:
        """Return logits (B, 1) of clips (B, 3, T, H, W)."""
        maps = self.norm(self.point(self.temporal(self.spatial(self.stem(clips)))))
        return self.fc(maps.sigmoid().mean((2, 3, 4)))  # type: ignore[no-any-return]  # torch


@dataclass(frozen=True)
class Clips:
    """Clips of noise in memory."""

    batches: int

    def __len__(self) -> int:
        return 2 * self.batches

    def __call__(self, epoch: int) -> Iterator[Batch]:
        for step in range(self.batches):
            rng = torch.Generator().manual_seed(100 * epoch + step)
            clips = torch.randn(2, 3, 6, 6, 6, generator=rng)
            yield Batch(clips, torch.tensor([[0.0], [1.0]]), torch.arange(2))


class Watched(AltFreezing):
    """The objective, which notes the parameters that each step moves."""

    def __init__(self) -> None:
        self.moved: list[set[str]] = []

    def before_step(self, model: nn.Module) -> None:
        super().before_step(model)
        self.model = model
        self.before = values(model)

    def stepped(self) -> None:
        super().stepped()
        after = values(self.model)
        self.moved.append(
            {name for name, each in after.items() if not torch.equal(each, self.before[name])}
        )


def values(model: nn.Module) -> Mapping[str, Tensor]:
    return {name: each.detach().clone() for name, each in model.named_parameters()}


def steps_of(batches: int, **changed: object) -> list[set[str]]:
    """Return the parameters that each step of a training moves."""
    torch.manual_seed(1)
    objective = Watched()
    plain = {
        "objective": "altfreezing", "batch_size": 2, "num_epochs": 1, "lr": 0.1, "momentum": 0.9, "weight_decay": 0.1,
        "options": ObjectiveOptions(altfreezing_steps=2),
    }  # fmt: skip
    config = TrainerConfig(**{**CONFIG, **plain, **changed})
    fit(Network(), Clips(batches), Clips(1), config, watch=RunContext(), objective=objective)
    return objective.moved


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_spatial_and_temporal_kernels_are_frozen_in_turn(optimizer: str) -> None:
    moved = steps_of(7, optimizer=optimizer)
    first, second = SHARED | TEMPORAL, SHARED | SPATIAL
    assert moved == [first, first, second, second, first, first, second]


def test_turn_is_counted_in_steps_of_the_optimizer_and_not_ended_by_an_epoch() -> None:
    first, second = SHARED | TEMPORAL, SHARED | SPATIAL
    assert steps_of(6, accumulate=2) == [first, first, second]
    assert steps_of(3, num_epochs=2) == [first, first, second, second, first, first]


def test_resumed_training_is_in_the_turn_in_which_it_was_interrupted() -> None:
    objective, resumed = AltFreezing(), AltFreezing()
    for each in (objective, resumed):
        each.prepare(TrainingFacts(), ObjectiveOptions(altfreezing_steps=2))
    for _ in range(3):
        objective.stepped()
    resumed.restore(objective.state())
    model = Network()
    model(torch.randn(2, 3, 6, 6, 6)).sum().backward()
    resumed.before_step(model)
    assert {name for name, each in model.named_parameters() if each.grad is None} == TEMPORAL


def test_groups_of_altfreezing_are_those_of_its_authors_program() -> None:
    with torch.device("meta"):
        network = cast(nn.Module, load_model_maker("altfreezing")())
    sizes = {name: each.numel() for name, each in network.named_parameters()}
    groups = group_weights(network)
    counts = [(len(group), sum(sizes[name] for name in group)) for group in groups]
    assert counts == [(16, 11_317_248), (9, 5_517_312)]
    assert sum(sizes.values()) == 27_225_921


@pytest.mark.parametrize(
    "layer", [nn.Conv3d(2, 2, 3), nn.Conv3d(2, 2, (1, 3, 3)), nn.Conv2d(2, 2, 3)]
)
def test_network_without_both_kinds_of_kernels_is_refused(layer: nn.Module) -> None:
    with pytest.raises(
        JobError, match="needs a network with kernels of 1 × k × k and of k × 1 × 1"
    ):
        group_weights(nn.Sequential(layer, nn.Linear(2, 1)))
