"""The objectives that treat groups alike, each against its formula."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from launcher.api import JobError
from tests.trueface.training.build_groups import Flat, a_set, facts_of
from trueface.data.batch import Batch
from trueface.training.cells import cvar
from trueface.training.config import ObjectiveOptions
from trueface.training.group_losses import ldam_loss, ldam_margins
from trueface.training.objectives.mix import draw_partners
from trueface.training.objectives.protocol import Logs, Objective
from trueface.training.objectives.registry import fair_names, make_objective, objectives

LABELS = torch.tensor([0, 0, 0, 1, 1, 1, 0, 1])
GROUPS = torch.tensor([0, 0, 1, 1, 0, 1, 1, 0])
LOGITS = torch.tensor([2.0, -1.0, 0.5, 0.5, -0.3, 1.7, -2.0, 0.1])
LOSSES = functional.binary_cross_entropy_with_logits(LOGITS, LABELS.float(), reduction="none")
CELLS = 2 * LABELS + GROUPS
COUNTS = (30, 10, 5, 15)
FAIR = [name for name in fair_names() if name in objectives()]


def batch(logits: Tensor = LOGITS, chosen: Tensor | None = None) -> Batch:
    at = torch.arange(len(logits)) if chosen is None else chosen
    return Batch(logits[at, None], LABELS[at, None].float(), at, {"demographic": GROUPS[at]})


def prepared(name: str, counts: tuple[int, int, int, int] = COUNTS, **options: float) -> Objective:
    objective: Objective = make_objective(name)
    objective.prepare(facts_of(a_set(counts)), ObjectiveOptions(**options))
    return objective


def step(objective: Objective, images: Batch | None = None) -> tuple[Tensor, Logs]:
    return objective.training_step(Flat(), batch() if images is None else images)


def mean_of(cell: int) -> Tensor:
    return LOSSES[cell == CELLS].mean()


def test_reweighting_gives_every_cell_equal_weight() -> None:
    loss, logs = step(prepared("reweight"))
    each = torch.tensor([60 / (4 * count) for count in COUNTS])
    torch.testing.assert_close(loss, (each[CELLS] * LOSSES).mean())
    assert int(logs["correct"]) == int(((LOGITS > 0) == (LABELS > 0)).sum())


def test_dag_is_cvar_over_images() -> None:
    torch.testing.assert_close(step(prepared("dag", fair_alpha_out=0.3))[0], cvar(LOSSES, 0.3))


def test_daw_is_cvar_over_groups_and_cvar2_over_cells() -> None:
    groups = torch.stack([cvar(LOSSES[group == GROUPS], 0.9) for group in range(2)])
    torch.testing.assert_close(step(prepared("daw"))[0], cvar(groups, 0.5))
    cells = torch.stack([cvar(LOSSES[cell == CELLS], 0.9) for cell in range(4)])
    torch.testing.assert_close(step(prepared("cvar2"))[0], cvar(cells, 0.5))


def test_published_flags_of_fused_have_an_effect_and_smoothing_is_small() -> None:
    plain = step(prepared("daw"))[0]
    torch.testing.assert_close(step(prepared("fused"))[0], plain, atol=0.0021, rtol=0)
    assert abs(step(prepared("fused", fair_alpha_in=0.3))[0] - plain) > 0.01
    assert abs(step(prepared("fused", fair_alpha_out=1.0))[0] - plain) > 0.01


def test_one_group_in_batch_is_cvar_over_its_images() -> None:
    only = (GROUPS == 0).nonzero().flatten()
    loss, _ = step(prepared("daw"), batch(chosen=only))
    torch.testing.assert_close(loss, cvar(LOSSES[only], 0.9))


def test_dro_raises_weight_of_high_loss_cells_once_per_step() -> None:
    objective = prepared("dro", dro_step=0.5)
    means = torch.stack([mean_of(cell) for cell in range(4)])
    weights = (0.5 * means).exp() / (0.5 * means).exp().sum()
    for _ in range(2):  # a second pass, at perturbed weights of the model, counts no more
        torch.testing.assert_close(step(objective)[0], (weights * means).sum())
    objective.stepped()
    torch.testing.assert_close(objective.state()["dro_weights"].float(), weights)
    weights = weights * (0.5 * means).exp()
    loss, _ = step(objective)
    torch.testing.assert_close(loss, (weights / weights.sum() * means).sum())


def test_dro_ignores_cells_without_training_images_and_cells_absent_from_batch() -> None:
    objective = prepared("dro", (30, 10, 0, 15), dro_step=1.0)
    present = (CELLS == 1).nonzero().flatten()
    step(objective, batch(100 * LOGITS, chosen=present))
    objective.stepped()
    weights = objective.state()["dro_weights"]
    assert weights[2] == 0
    assert weights[0] == weights[3]
    assert float(weights.sum()) == pytest.approx(1)


def test_ldam_uses_larger_margin_for_rarer_cells() -> None:
    loss, _ = step(prepared("ldam"))
    margins = 0.5 * (5 / torch.tensor(COUNTS)) ** 0.25
    signed = (2 * LABELS - 1) * LOGITS - margins[CELLS]
    torch.testing.assert_close(loss, functional.softplus(-30 * signed).mean())


def test_partners_have_same_class_and_other_group() -> None:
    torch.manual_seed(0)
    for _ in range(20):
        partners, share = draw_partners(CELLS, 2, 2.0)
        assert torch.equal(LABELS[partners], LABELS)
        assert (GROUPS[partners] != GROUPS).all()
        assert ((share > 0) & (share < 1)).all()


def test_mixing_weight_is_beta_distributed() -> None:
    torch.manual_seed(0)
    share = torch.cat([draw_partners(torch.arange(400) % 2, 2, 10.0)[1] for _ in range(10)])
    assert float(share.mean()) == pytest.approx(0.5, abs=0.015)
    assert float(share.var()) == pytest.approx(1 / 84, rel=0.1)


def test_image_without_partner_is_unchanged_and_pixels_are_mixed_by_weight() -> None:
    pixels = torch.tensor([0, 51, 255], dtype=torch.uint8).view(3, 1, 1, 1)
    images = Batch(
        pixels,
        torch.tensor([[0.0], [1.0], [1.0]]),
        torch.arange(3),
        {"demographic": torch.tensor([0, 0, 1])},
    )
    seen: list[Tensor] = []

    class Seeing(Flat):
        def forward(self, inputs: Tensor) -> Tensor:
            seen.append(inputs)
            return super().forward(inputs)

    prepared("mix").training_step(Seeing(), images)
    whole = images._replace(inputs=pixels + torch.tensor(255, dtype=torch.uint8) * (pixels == 0))
    prepared("mix").training_step(Seeing(), whole)
    assert [float(inputs.flatten()[0]) for inputs in seen] == [0.0, 1.0]
    assert ((seen[0].flatten()[1:] > 0.2) & (seen[0].flatten()[1:] < 1.0)).all()


def test_mixing_requires_class_with_two_groups() -> None:
    with pytest.raises(JobError, match="each class has images of one group only"):
        prepared("mix", (5, 0, 0, 5))


def test_class_of_single_group_is_reported_as_not_mixed(caplog: pytest.LogCaptureFixture) -> None:
    prepared("mix", (5, 5, 0, 5))
    assert "class=fake group=women effect=its images are not mixed" in caplog.text
    caplog.clear()
    prepared("mix", (5, 5, 0, 0))
    prepared("mix")
    assert not caplog.records


@pytest.mark.parametrize("name", [name for name in FAIR if name not in {"dag", "reweight", "ldam"}])
def test_single_training_group_is_refused_if_groups_are_compared(name: str) -> None:
    with pytest.raises(JobError, match=f"fair: {name} compares groups, .* in one group, women"):
        prepared(name, (0, 5, 0, 5))


@pytest.mark.parametrize("name", FAIR)
def test_batch_of_one_image_has_a_loss(name: str) -> None:
    objective = prepared(name)
    logits = LOGITS.clone().requires_grad_()
    loss, _ = step(objective, batch(logits, torch.tensor([2])))
    (gradient,) = torch.autograd.grad(loss, logits)
    assert loss.isfinite()
    assert gradient[2] > 0
    assert gradient.count_nonzero() == 1


def test_margins_follow_fourth_root_and_label_without_images_has_none() -> None:
    expected = [0.5 * (16 / 10000) ** 0.25, 0.5, 0.5 * (16 / 81) ** 0.25]
    assert ldam_margins(torch.tensor([10000, 16, 81])).tolist() == pytest.approx(expected)
    assert ldam_margins(torch.tensor([0, 16, 1])).tolist() == pytest.approx([0.0, 0.25, 0.5])
    assert ldam_margins(torch.tensor([0, 0])).tolist() == [0.0, 0.0]


def test_multiclass_loss_subtracts_margin_from_target_logit_and_scales() -> None:
    logits, labels = torch.tensor([[0.2, -0.1, 0.4], [0.0, 0.3, 0.1]]), torch.tensor([2, 0])
    moved = torch.tensor([[0.2, -0.1, -0.1], [-0.1, 0.3, 0.1]])
    torch.testing.assert_close(
        ldam_loss(logits, labels, torch.tensor([0.1, 0.2, 0.5])),
        functional.cross_entropy(30 * moved, labels),
    )
