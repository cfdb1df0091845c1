import pytest
import torch
from torch.nn import functional

from trueface.training.objectives.ldam import ldam_loss, ldam_margins


def test_margins_follow_the_fourth_root_and_the_rarest_label_has_the_largest() -> None:
    margins = ldam_margins(torch.tensor([10000, 16, 81]))
    expected = [0.5 * (16 / 10000) ** 0.25, 0.5, 0.5 * (16 / 81) ** 0.25]
    assert margins.tolist() == pytest.approx(expected)


def test_a_label_without_images_has_no_margin_and_takes_none_from_others() -> None:
    assert ldam_margins(torch.tensor([0, 16, 1])).tolist() == pytest.approx([0.0, 0.25, 0.5])
    assert ldam_margins(torch.tensor([0, 0])).tolist() == [0.0, 0.0]


def test_the_loss_takes_the_margin_from_the_right_logit_and_scales() -> None:
    logits, labels = torch.tensor([[0.2, -0.1, 0.4], [0.0, 0.3, 0.1]]), torch.tensor([2, 0])
    margins = torch.tensor([0.1, 0.2, 0.5])
    moved = torch.tensor([[0.2, -0.1, -0.1], [-0.1, 0.3, 0.1]])
    expected = functional.cross_entropy(30 * moved, labels)
    torch.testing.assert_close(ldam_loss(logits, labels, margins), expected)
