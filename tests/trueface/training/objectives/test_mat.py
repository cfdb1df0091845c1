"""The losses of MAT: independent regions, images degraded by attention, and centres that resume."""

import pytest
import torch
from torch import Tensor

from launcher.api import JobError
from tests.trueface.models.build import untrained
from trueface.data.batch import Batch
from trueface.models.blocks.multi_attention import ATTENTIONS, MultiAttention
from trueface.training.objectives import mat
from trueface.training.objectives.mat import (
    RATE,
    degrade_by_attention,
    draw_maps,
    regional_independence,
    soft_threshold,
)
from trueface.training.objectives.registry import make_objective

torch.set_num_threads(1)


def test_regions_are_drawn_to_centres_beyond_margin_of_class_and_centres_apart() -> None:
    centres = torch.tensor([[0.0, 0.0], [0.6, 0.0]])
    regions = torch.tensor([[[1.0, 0.0], [0.6, 0.0]], [[0.0, 0.0], [0.6, 1.0]]])
    labels = torch.tensor([[0.0], [1.0]])
    # real: 1 - .2, and 0; fake: 0 + .8, and 1 + .8; centres: .8 - .6, twice
    expected = (0.8 + 0.0 + 0.8 + 1.8) / 2 + 2 * 0.2
    assert float(regional_independence(regions, centres, labels)) == pytest.approx(expected)


def test_image_is_blurred_and_noisy_where_the_drawn_attention_map_is_high() -> None:
    torch.manual_seed(1)
    pixels = torch.randn(2, 3, 64, 64)
    attention = torch.ones(2, ATTENTIONS, 4, 4)
    attention[..., 0] = 0  # the left edge of every map
    result = degrade_by_attention(pixels, attention)
    assert torch.allclose(result[..., 0], pixels[..., 0], atol=1e-6)
    assert result[..., 40:].std() < 0.6 * pixels[..., 40:].std()
    flat = torch.full_like(pixels, 0.3)
    noise = degrade_by_attention(flat, attention)[..., 40:] - 0.3
    assert (
        0.02 < noise.std() < 0.1
    )  # 0.1 on the smaller image, means of neighbours, times 0.6 to 0.9
    assert noise.mean().abs() < 0.01
    assert torch.allclose(degrade_by_attention(flat, 0 * attention), flat, atol=1e-6)


def test_map_is_divided_by_its_largest_value_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mat, "THRESHOLDS", (0.5, 0.5))
    monkeypatch.setattr(mat, "STEEPNESS", (4.0, 4.0))
    torch.manual_seed(1)
    pixels = torch.randn(1, 3, 64, 64).sign()
    attention = torch.full((1, ATTENTIONS, 4, 4), 6.0)
    attention[..., 2:] = 3
    # pixels that the blur evens out keep 1 - soft_threshold(1, .5, 4), or that of .5
    remains = (degrade_by_attention(pixels, attention) * pixels).mean((0, 1, 2))
    assert remains[:20].mean() == pytest.approx(1 - 0.7616, abs=0.03)
    assert remains[-20:].mean() == pytest.approx(1 - 0.3808, abs=0.03)


def test_soft_threshold_is_zero_for_no_attention() -> None:
    values = soft_threshold(torch.tensor([0.0, 0.5, 1.0]), 0.5, 4.0)
    # 1 / (1 + e²) is subtracted from 1 / (1 + e²), 1 / 2 and 1 / (1 + e⁻²)
    torch.testing.assert_close(values, torch.tensor([0.0, 0.3807971, 0.7615942]))


def test_maps_are_drawn_in_proportion_to_the_root_of_their_sum_and_one() -> None:
    torch.manual_seed(1)
    sums = torch.tensor([0.0, 3.0, 8.0, 99.0])
    drawn = draw_maps((sums / 4)[None, :, None, None].expand(4000, ATTENTIONS, 2, 2))
    shares = drawn.bincount(minlength=ATTENTIONS) / len(drawn)
    assert shares.tolist() == pytest.approx([1 / 16, 2 / 16, 3 / 16, 10 / 16], abs=0.02)


def test_dropped_attention_map_weights_neither_textures_nor_last_maps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = untrained("mat")
    network = model.network
    assert isinstance(network, MultiAttention)
    pixels = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    network.dropout.register_forward_hook(lambda *_: torch.tensor([[[1.0], [0.0], [0.0], [0.0]]]))
    inputs: dict[str, Tensor] = {}
    for name in ("projection_local", "project_final"):
        network.get_submodule(name).register_forward_pre_hook(
            lambda _, given, name=name: inputs.update({name: given[0]})
        )
    last = torch.randn(1, network.net.width, 2, 2, generator=torch.Generator().manual_seed(2))
    monkeypatch.setattr(network.net, "last_maps", lambda _: last)
    maps = torch.rand(1, ATTENTIONS, 4, 4, generator=torch.Generator().manual_seed(2))
    wholes = []
    for attention in (maps, maps * torch.tensor([1.0, 0, 0, 0])[:, None, None], maps.flip(1)):
        hook = network.attentions.register_forward_hook(lambda *_, attention=attention: attention)
        with hook, torch.no_grad():
            network.parts(pixels)
        assert not inputs["projection_local"].reshape(ATTENTIONS, -1)[1:].any()
        wholes.append(inputs["project_final"])
    torch.testing.assert_close(wholes[0], wholes[1])
    assert not torch.allclose(wholes[0], wholes[2], rtol=0.01)


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
