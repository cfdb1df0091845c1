import pytest
import torch

from launcher.api import JobError
from tests.trueface.training.build_groups import a_set, facts_of
from trueface.training.cells import (
    Subgroups,
    balanced_weights,
    merge_small_groups,
    subgroup_ids,
    worst_subgroup_accuracy,
)
from trueface.training.objectives.protocol import TrainingFacts


def test_cells_are_counted_by_class_and_group() -> None:
    cells = Subgroups.from_training_facts(facts_of(a_set((5, 3, 0, 2))), "dro")
    assert cells.counts.tolist() == [5, 3, 0, 2]
    assert cells.names == ("men", "women")
    assert cells.has_images.tolist() == [True, True, False, True]


def test_images_without_groups_are_refused_with_responsible_setting() -> None:
    with pytest.raises(JobError, match=r"fair: daw needs the group .* in attributes"):
        Subgroups.from_training_facts(TrainingFacts(), "daw")


def test_comparison_of_one_group_is_refused_by_name() -> None:
    facts = facts_of(a_set((5, 0, 4, 0)))
    with pytest.raises(
        JobError, match=r"all 9 training images are in one group, men\. Choose another"
    ):
        Subgroups.from_training_facts(facts, "dro", compares=True)
    assert Subgroups.from_training_facts(facts, "reweight").groups == 2


def test_balanced_weights_sum_to_number_of_images_and_empty_cells_have_none() -> None:
    counts = torch.tensor([90, 10, 0, 40])
    weights = balanced_weights(counts)
    assert float((weights * counts).sum()) == pytest.approx(140)
    assert weights[2] == 0
    totals = (weights * counts)[counts > 0]
    assert totals.tolist() == pytest.approx([140 / 3] * 3)


def test_small_groups_of_batch_are_merged() -> None:
    groups = torch.tensor([0, 0, 0, 1, 2, 2, 3])
    joined, count = merge_small_groups(groups, 2, count=4)
    assert joined.tolist() == [0, 0, 0, 4, 2, 2, 4]
    assert count == 5


def test_group_of_one_without_partner_is_added_to_largest() -> None:
    assert merge_small_groups(torch.tensor([0, 1, 1, 1, 2, 2]), 2, count=4)[0].tolist() == [
        1,
        1,
        1,
        1,
        2,
        2,
    ]
    assert merge_small_groups(torch.tensor([3]), 2, count=4)[0].tolist() == [3]


def test_cells_are_merged_within_their_class_only() -> None:
    labels, groups = torch.tensor([0, 0, 0, 0, 1, 1, 1]), torch.tensor([0, 0, 1, 2, 0, 1, 2])
    joined, _ = merge_small_groups(subgroup_ids(labels, groups, 3), 2, count=6, blocks=2)
    assert joined.tolist() == [0, 0, 6, 6, 7, 7, 7]


def test_groups_are_not_merged_if_one_image_is_enough() -> None:
    groups = torch.tensor([0, 1, 2])
    assert merge_small_groups(groups, 1, count=3) == (groups, 3)


def test_worst_cell_has_lowest_accuracy() -> None:
    assert worst_subgroup_accuracy([True, True, False], [0, 0, 3]) == 0.0
    cells = [0, 0, 0, 0, 7, 7, 3]
    assert worst_subgroup_accuracy([True, True, True, False, True, False, True], cells) == 0.5
