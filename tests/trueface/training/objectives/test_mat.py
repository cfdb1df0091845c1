"""The losses of MAT: independent regions, images blurred by attention, and centres that resume."""

import pytest
import torch
from torch import Tensor

from launcher.api import JobError
from tests.trueface.models.build import untrained
from trueface.data.batch import Batch
from trueface.training.objectives.mat import RATE, blur_by_attention, regional_independence
from trueface.training.objectives.registry import make_objective

torch.set_num_threads(1)


def test_regions_are_drawn_to_centres_beyond_margin_of_class_and_centres_apart() -> None:
    centres = torch.tensor([[0.0, 0.0], [0.6, 0.0]])
    regions = torch.tensor([[[1.0, 0.0], [0.6, 0.0]], [[0.0, 0.0], [0.6, 1.0]]])
    labels = torch.tensor([[0.0], [1.0]])
    # real: 1 - .2, and 0; fake: 0 + .8, and 1 + .8; centres: .8 - .6, twice
    expected = (0.8 + 0.0 + 0.8 + 1.8) / 2 + 2 * 0.2
    assert float(regional_independence(regions, centres, labels)) == pytest.approx(expected)


def test_image_is_blurred_where_the_drawn_attention_map_is_low() -> None:
    pixels = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    attention = torch.zeros(2, 4, 2, 2)
    attention[:, :, :, 1] = 3.0  # the right edge of every map
    result = blur_by_attention(pixels, attention)
    assert torch.allclose(result[..., -1], pixels[..., -1])
    assert result[..., 0].std() < 0.5 * pixels[..., 0].std()
    flat = torch.full_like(pixels, 0.3)
    assert torch.allclose(blur_by_attention(flat, attention), flat, atol=1e-6)


def test_centres_follow_the_batches_and_resume() -> None:
    model = untrained("mat").train()
    pixels = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    batch = Batch(pixels, torch.tensor([[0.0], [1.0], [0.0], [1.0]]), torch.arange(4))

    def step(objective: object) -> Tensor:
        torch.manual_seed(2)
        loss, logs = objective.training_step(model, batch)  # type: ignore[attr-defined]
        assert 0 <= int(logs["correct"]) <= 4
        return loss  # type: ignore[no-any-return]

    first = make_objective("mat")
    first.begin_epoch(0, 0, 1)
    assert not first.state()["centres"].any()
    step(first).backward()  # type: ignore[no-untyped-call]  # torch
    assert all(each.grad is not None for each in model.parameters())
    first.stepped()
    centres = first.state()["centres"]
    assert torch.allclose(centres.norm(dim=1), torch.full((4,), RATE), rtol=0.5)
    second = make_objective("mat")
    second.restore(first.state())
    model.eval()
    assert torch.equal(step(first), step(second))


def test_other_networks_are_refused() -> None:
    batch = Batch(torch.rand(2, 3, 16, 16), torch.ones(2, 1), torch.arange(2))
    with pytest.raises(JobError, match="Set model: mat"):
        make_objective("mat").training_step(untrained("mesonet", side=16), batch)
