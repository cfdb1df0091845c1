"""Features of two groups that a linear layer can tell apart, and feeds of them."""

from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from trueface.data.batch import Batch
from trueface.data.loading.pass_order import epoch_order
from trueface.runtime.progress import RunContext
from trueface.training.cells import subgroup_ids
from trueface.training.config import TrainerConfig
from trueface.training.objectives.protocol import TrainingFacts
from trueface.training.trainer import TrainingResult, fit

NAMES = ("men", "women")
SIZE = 40
CONFIG: dict[str, Any] = {
    "objective": "bce", "num_epochs": 10, "batch_size": SIZE, "seed": 1, "lr": 0.05, "optimizer": "adam",
    "weight_decay": 0.0, "schedule": "plateau", "select": "last",
}  # fmt: skip


class Flat(nn.Module):
    """Gives its inputs back as logits."""

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs.flatten(1)


@dataclass
class Features:
    """A set of features with labels and groups, shuffled or drawn by cell, or in order."""

    images: Tensor  # (N, F)
    labels: Tensor  # (N,)
    groups: Tensor  # (N,)
    shuffled: bool = True
    drawn: bool = False

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def image_set(self) -> SimpleNamespace:
        return SimpleNamespace(
            labels=self.labels.tolist(),
            columns={"demographic": self.groups},
            column_names={"demographic": NAMES},
            pseudo_fake_indices=lambda *_: [],
        )

    @property
    def cells(self) -> Tensor:
        return subgroup_ids(self.labels, self.groups, len(NAMES))

    def __call__(self, epoch: int) -> Iterator[Batch]:
        cells = self.cells.tolist() if self.drawn else None
        seed = 1 if self.shuffled else None
        order = epoch_order(range(len(self)), shuffle_seed=seed, epoch=epoch, cells=cells)
        for at in range(0, len(order), SIZE):
            chosen = torch.tensor(order[at : at + SIZE])
            columns = {"demographic": self.groups[chosen]}
            labels = self.labels[chosen, None].float()
            yield Batch(self.images[chosen], labels, chosen, columns)


def a_set(
    counts: tuple[int, int, int, int], seed: int = 0, *, shuffled: bool = True, drawn: bool = False
) -> Features:
    """Return so many features of real men, real women, fake men, fake women."""
    rng = torch.Generator().manual_seed(seed)
    cells = torch.repeat_interleave(torch.arange(4), torch.tensor(counts))
    labels, groups = cells // 2, cells % 2
    noise = torch.randn(len(cells), 4, generator=rng)
    weak = noise[:, 0] + 0.7 * (2 * labels - 1)  # a weak feature of fakes
    strong = noise[:, 1] / 3 + (2 * groups - 1)  # a strong feature of the group
    images = torch.stack([weak, strong, noise[:, 2], noise[:, 3]], 1)
    return Features(images, labels, groups, shuffled=shuffled, drawn=drawn)


def facts_of(features: Features) -> TrainingFacts:
    return TrainingFacts.from_feed(features)


def trained(
    training: Features, validation: Features, **changed: Any
) -> tuple[nn.Module, TrainingResult]:
    torch.manual_seed(0)
    model = nn.Linear(4, 1)
    config = TrainerConfig(**{**CONFIG, **changed})
    return model, fit(model, training, validation, config, watch=RunContext())


def fpr_gap(model: nn.Module, tested: Features) -> float:
    """Return how much more often real women are called fake than real men, in 0 … 1."""
    with torch.inference_mode():
        called = (model(tested.images).flatten() > 0).double()
    men, women = (called[tested.cells == cell].mean() for cell in (0, 1))
    return float(women - men)
