"""SEGA's mask."""

import pytest
import torch

from trueface.erasing.methods.abo import sparse_edit, top_tail


@pytest.mark.parametrize("quantile", [0.0, 0.5, 0.9, 0.95, 0.99])
def test_the_mask_keeps_exactly_its_share_of_each_images_entries(quantile: float) -> None:
    edit = torch.randn(3, 2, 10, 10, generator=torch.Generator().manual_seed(1))
    kept = top_tail(edit, quantile).flatten(1)
    assert kept.sum(1).tolist() == [round((1 - quantile) * 200)] * 3
    strength = edit.abs().flatten(1)
    for image, mask in zip(strength, kept, strict=True):
        if not mask.all():
            assert image[mask].min() >= image[~mask].max()


def test_equal_entries_do_not_add_to_the_mask() -> None:
    assert int(top_tail(torch.ones(1, 1, 4, 5), 0.75).sum()) == 5


def test_what_is_not_in_the_tail_is_not_edited() -> None:
    edit = torch.tensor([-3.0, 1.0, 2.0, -0.5]).reshape(1, 1, 2, 2)
    assert sparse_edit(edit, 0.5, 10.0).flatten().tolist() == [-30.0, 0.0, 20.0, 0.0]
