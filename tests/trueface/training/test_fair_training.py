"""Trainings with groups from the first step to the last, on features of two groups."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from launcher.api import JobError
from tests.trueface.training.build_groups import (
    Features,
    a_set,
    fpr_gap,
    trained,
)
from tests.trueface.training.test_resume import Killed, Mortal, run
from tests.trueface.training.test_trainer import checkered, same, settings
from trueface.data.batch import Batch

# 90 % of the men are real, 90 % of the women are fake
SKEWED = (180, 20, 20, 180)
EVEN = a_set((400, 400, 400, 400), seed=9)
CHECKED = a_set((60, 60, 60, 60), seed=8, shuffled=False)


@pytest.fixture(scope="module")
def plain_gap() -> float:
    """Return the gap of a training that ignores the groups."""
    return fpr_gap(trained(a_set(SKEWED), CHECKED)[0], EVEN)


@pytest.mark.parametrize("fair", ["reweight", "oversample", "dro", "mix", "cvar2"])
def test_planted_label_skew_makes_gap_and_cell_weighting_reduces_it(
    plain_gap: float, fair: str
) -> None:
    assert plain_gap > 0.4
    objective = "bce" if fair == "oversample" else fair
    drawn = fair in {"oversample", "dro", "mix"}
    model, done = trained(a_set(SKEWED, drawn=drawn), CHECKED, objective=objective)
    assert abs(fpr_gap(model, EVEN)) < plain_gap / 2
    assert done.chosen.val_accuracy > 0.65


def test_epoch_with_best_worst_cell_is_kept_and_recorded() -> None:
    model, done = trained(a_set(SKEWED), CHECKED, select="worst-cell", num_epochs=8)
    worst = [epoch.val_worst_cell_accuracy for epoch in done.epochs]
    assert all(value is not None and 0 <= value <= 1 for value in worst)
    assert done.chosen.val_worst_cell_accuracy == max(filter(None, worst))

    with torch.inference_mode():
        right = (model(CHECKED.images).flatten() > 0) == (CHECKED.labels == 1)
    cells = [float(right[CHECKED.cells == cell].double().mean()) for cell in range(4)]
    assert min(cells) == pytest.approx(done.chosen.val_worst_cell_accuracy)


def test_early_stopping_counts_epochs_without_better_worst_cell() -> None:
    _, done = trained(a_set(SKEWED), CHECKED, select="worst-cell", num_epochs=40, early_stop=3)
    assert len(done.epochs) == done.chosen.epoch + 3 < 40


def test_cell_selection_requires_validation_groups() -> None:
    @dataclass
    class Nameless(Features):
        def __call__(self, epoch: int) -> Iterator[Batch]:
            for batch in super().__call__(epoch):
                yield batch._replace(columns={})

    checked = Nameless(CHECKED.images, CHECKED.labels, CHECKED.groups, shuffled=False)
    with pytest.raises(
        JobError, match="select: worst-cell needs the group of every validation image"
    ):
        trained(a_set(SKEWED), checked, select="worst-cell", num_epochs=1)


@dataclass
class Grouped:
    """The checkered images, every third of a woman."""

    def __len__(self) -> int:
        return len(checkered(0))

    @property
    def image_set(self) -> Any:
        labels = checkered(0).labels.flatten().long()
        groups = (torch.arange(len(labels)) % 3 == 0).long()
        return Features(torch.empty(0), labels, groups).image_set

    def __call__(self, epoch: int) -> Iterator[Batch]:
        columns = self.image_set.columns
        for batch in checkered(0)(epoch):
            chosen = {name: values[batch.indices] for name, values in columns.items()}
            yield batch._replace(columns=chosen)


@pytest.mark.parametrize("fair", ["dro", "mix"])
def test_killed_training_resumes_with_cell_weights_and_same_draws(
    tmp_path: Path, fair: str
) -> None:
    chosen = settings(
        num_epochs=3, fair=fair, dro_step=1.0, freeze=True, select="last", checkpoint_every=1
    )
    whole, expected = run(tmp_path / "whole", chosen, Grouped())
    with pytest.raises(Killed):
        run(tmp_path / "killed", chosen, Mortal(Grouped(), 1, 2))
    model, done = run(tmp_path / "killed", chosen, Grouped())
    assert same(model, whole)
    assert [epoch.loss for epoch in done.epochs] == [epoch.loss for epoch in expected.epochs]
