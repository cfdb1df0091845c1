"""Objective caddm: swapped faces, the targets of the anchors, and their losses."""

import pytest
import torch
from torch import Tensor

from launcher.api import JobError
from tests.trueface.models.build import undrawn
from tests.trueface.models.test_authors_margins import numbers_of
from trueface.data.batch import Batch
from trueface.data.quality_feed import COLUMN
from trueface.models.blocks.caddm import SIDE, Detections, anchors
from trueface.training.objectives.caddm import (
    WHOLE,
    CaddmLosses,
    anchor_losses,
    swap_faces,
    targets_of,
)

torch.set_num_threads(1)

IS_FAKE = torch.tensor([True, False])
WINDOW = (44 / SIDE, 88 / SIDE, 124 / SIDE, 128 / SIDE)


def pictures() -> Tensor:
    """Return a fake, a real image, and both real images, (4, 3, 224, 224) in 0 … 255."""
    fake, real = numbers_of("image", (2, 3, SIDE, SIDE)) * 20 + 128
    other = fake.clone()
    other[:, 60:100, 90:150] += 60  # a rectangle in which fake and real image differ
    return torch.stack([fake, real, other, real]).round()


def test_losses_of_anchors_are_those_of_the_authors_code() -> None:
    boxes = [torch.tensor([WHOLE]), torch.tensor([WHOLE, WINDOW]), torch.empty(0, 4)]
    targets = targets_of(boxes, anchors())
    assert targets.is_swapped.sum(1).tolist() == [2, 3, 0]
    parts = Detections(
        logit=torch.empty(3, 1),
        places=numbers_of("places", (3, 168, 4)),
        classes=numbers_of("classes", (3, 168, 2)),
    )
    losses = [float(each) for each in anchor_losses(parts, targets)]
    assert losses == pytest.approx([2.1783621, 7.0558028], rel=1e-5)


def test_swapped_fakes_have_boxes_and_real_images_stay() -> None:
    images, forms = pictures(), set()
    for seed in range(28):
        torch.manual_seed(seed)
        swapped, boxes = swap_faces(images[:2], images[2:], IS_FAKE)
        assert torch.equal(swapped[1], images[1])
        assert not len(boxes[1])
        assert swapped.min() >= 0
        assert swapped.max() <= 255
        own = torch.equal(swapped[0], images[0])
        forms.add("fake" if own else len(boxes[0]))
        if len(boxes[0]) > 1:  # outside of the window it is the real image
            left, top, right, bottom = (boxes[0][1] * SIDE).tolist()
            changed = (swapped[0] != images[2]).any(0).nonzero()
            assert (changed >= torch.tensor([top, left]) - 2).all()
            assert (changed < torch.tensor([bottom, right]) + 2).all()
    assert forms == {"fake", 1, 2}


def test_step_learns_from_pairs_and_refuses_a_fake_without_its_real_image() -> None:
    model, images = undrawn("caddm").train(), pictures().to(torch.uint8)
    labels = IS_FAKE.float()[:, None].repeat(2, 1)
    columns = {COLUMN: torch.tensor([0, 0, 1, 1])}
    batch = Batch(images, labels, torch.arange(4), columns)
    loss, logs = CaddmLosses().training_step(model, batch)
    loss.backward()  # type: ignore[no-untyped-call]
    assert all(each.grad is not None for each in model.parameters())
    assert float(logs["classes"]) > 0
    same = batch._replace(inputs=images[[0, 1, 0, 1]])
    with pytest.raises(JobError, match="a fake is equal to its real image"):
        CaddmLosses().training_step(model, same)
