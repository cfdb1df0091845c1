"""The loss term and the measurements of the collaboration of qualities.

The dependence between features is the HSIC in its three forms.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from launcher.api import JobError
from tests.trueface.training.test_trainer import Pixels, checkered, settings, slim
from trueface.data.batch import Batch
from trueface.data.quality_feed import COLUMN
from trueface.models.detectors import Detector
from trueface.runtime.progress import RunContext
from trueface.training.collaboration import CollaborationObjective
from trueface.training.dependence import (
    FORMS,
    cca,
    hsic_biased,
    hsic_normalised,
    mean_shuffled_nhsic,
    pairs,
    rbf_kernel_matrix,
    sum_over_pairs,
)
from trueface.training.hidden_layers import select_layers
from trueface.training.objectives.registry import make_objective
from trueface.training.quality_settings import CollaborationOptions
from trueface.training.settings import TrainSettings
from trueface.training.trainer import fit

torch.set_num_threads(1)

ITEMS, QUALITIES = 8, 2
OPTIONS = CollaborationOptions(
    weight=0.5,
    form="normalised",
    width="median",
    layers={"layer3": 0.25, "layer4": 0.5},
    qualities=2,
)
IN_TWO = {"qualities": "raw, jpeg75", "collab": 0.5, "collab_layers": "layer3=.25, layer4=.5"}


@dataclass
class Doubled:
    """Images in two qualities: as they are, and darker."""

    images: Pixels

    def __len__(self) -> int:
        return QUALITIES * len(self.images)

    def __call__(self, epoch: int) -> Iterator[Batch]:
        for batch in self.images(epoch):
            yield double_batch(batch)


def double_batch(batch: Batch) -> Batch:
    items = len(batch.labels)
    return Batch(
        torch.cat([batch.inputs, batch.inputs // 2]),
        batch.labels.repeat(QUALITIES, 1),
        batch.indices.repeat(QUALITIES),
        {COLUMN: torch.arange(QUALITIES).repeat_interleave(items)},
    )


def a_batch() -> Batch:
    return next(iter(Doubled(checkered(0, ITEMS))(0)))


def a_model() -> Detector:
    return slim().eval()


def collaborating(**changed: Any) -> CollaborationObjective:
    made = CollaborationObjective(make_objective("bce"), replace(OPTIONS, **changed))
    made.begin_epoch(0, 0, 1)
    return made


def pooled_outputs(model: Detector, images: Tensor, layer: str) -> Tensor:
    kept: list[Tensor] = []
    hook = model.network.get_submodule(layer).register_forward_hook(
        lambda _module, _inputs, output: kept.append(output.mean((2, 3)))
    )
    model(images)
    hook.remove()
    return kept[0]


def test_loss_is_mean_over_qualities_minus_weighted_layer_dependence() -> None:
    model, batch = a_model(), a_batch()
    loss, logs = collaborating().training_step(model, batch)
    plain = functional.binary_cross_entropy_with_logits(model(batch.inputs), batch.labels)
    dependence = sum(
        weight
        * sum_over_pairs(
            "normalised",
            [
                rbf_kernel_matrix(each)
                for each in pooled_outputs(model, batch.inputs, name).chunk(QUALITIES)
            ],
        )
        for name, weight in OPTIONS.layers.items()
    )
    torch.testing.assert_close(loss, plain - 0.5 * torch.as_tensor(dependence).float())
    torch.testing.assert_close(torch.as_tensor(logs["collab"]), loss - plain)


def test_weights_are_perturbed_by_classification_loss_only() -> None:
    model, batch = a_model(), a_batch()
    loss, logs = collaborating().ascent_step(model, batch)
    expected, _ = make_objective("bce").training_step(model, batch)
    torch.testing.assert_close(loss, expected)
    assert "collab" not in logs


def test_small_last_batch_uses_classification_loss_only() -> None:
    model, batch = a_model(), next(iter(checkered(0, 8)(0)))
    few = double_batch(Batch(batch.inputs[:3], batch.labels[:3], batch.indices[:3]))
    loss, _ = collaborating().training_step(model, few)
    torch.testing.assert_close(loss, make_objective("bce").training_step(model, few)[0])


def test_batch_without_chunks_and_unknown_layer_are_refused() -> None:
    model, batch = a_model(), a_batch()
    mixed = batch._replace(columns={COLUMN: batch.columns[COLUMN].flip(0)})
    with pytest.raises(JobError, match="quality_batch: paired"):
        collaborating().training_step(model, mixed)
    with pytest.raises(JobError, match=r"no layer 'layer9'\. Its layers: conv1, .*layer4"):
        collaborating(layers={"layer9": 1.0}).training_step(model, batch)


def test_hidden_layers_of_head_are_used_if_backbone_is_frozen() -> None:
    class Deep(nn.Linear):
        def __init__(self) -> None:
            super().__init__(4, 1)
            self.hidden = nn.Linear(6, 4)

        def forward(self, input: Tensor) -> Tensor:  # noqa: A002  # torch's
            return super().forward(self.hidden(input).relu())

    layers = select_layers(Deep(), OPTIONS.layers, features=True)
    assert [(name, weight) for name, (_, weight) in layers.items()] == [("head.hidden", 0.5)]
    with pytest.raises(JobError, match="no hidden layer"):
        select_layers(a_model(), OPTIONS.layers, features=True)
    features = torch.randn(2 * ITEMS, 6, generator=torch.Generator().manual_seed(0))
    _, logs = collaborating().training_step(Deep(), a_batch()._replace(inputs=features))
    assert logs["collab"] < 0


def in_two(**changed: Any) -> TrainSettings:
    return settings(**{**IN_TWO, "batch_size": 8, "select": "last", **changed})


def collaboration_objective(asked: TrainSettings) -> CollaborationObjective:
    options = asked.collaboration
    assert options is not None
    return CollaborationObjective(make_objective("bce"), options)


def test_dependence_term_without_effect_is_warned_about(
    caplog: pytest.LogCaptureFixture,
) -> None:
    notes: dict[str, Any] = {}
    for form, width in (("plain", 6), ("normalised", "median")):
        wanted = in_two(num_epochs=1, collab=0.002 if form == "plain" else 0.5, collab_form=form,
                      collab_width=width)  # fmt: skip
        with caplog.at_level(logging.WARNING):
            done = fit(
                slim(), Doubled(checkered(0)), checkered(1),
                wanted.trainer, watch=RunContext(), objective=collaboration_objective(wanted),
            )  # fmt: skip
        notes[form] = done.notes
    (idle,) = notes["plain"]["warnings"]
    assert "below 0.001" in str(idle)
    assert str(idle) in caplog.text
    assert "warnings" not in notes["normalised"]
    (measured,) = notes["normalised"]["collaboration"]
    assert measured["gradient_share"] == notes["normalised"]["collab_gradient_share"] > 1e-3
    assert 0 < measured["nhsic_permuted"] < measured["nhsic"] <= 1


def test_collaboration_raises_dependence_between_qualities() -> None:
    last: dict[float, Any] = {}
    for weight in (1e-9, 5.0):
        model = slim()
        wanted = in_two(num_epochs=3, collab=weight)
        done = fit(
            model, Doubled(checkered(0)), checkered(1), wanted.trainer, watch=RunContext(),
            objective=collaboration_objective(wanted),
        )  # fmt: skip
        notes: Any = done.notes
        last[weight] = notes["collaboration"][-1]["nhsic"]
    assert last[5.0] > last[1e-9]


MEASURED = 24


def features(seed: int, width: int = 6, items: int = MEASURED) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(items, width, dtype=torch.float64, generator=rng)


def grams(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    return rbf_kernel_matrix(first), rbf_kernel_matrix(second)


def test_biased_form_is_trace_of_its_definition() -> None:
    this, other = grams(features(0), features(1))
    centre = torch.eye(MEASURED, dtype=torch.float64) - 1 / MEASURED
    trace = torch.trace(this @ centre @ other @ centre) / (MEASURED - 1) ** 2
    assert abs(hsic_biased(this, other) - trace) <= 1e-9


def test_cca_form_is_trace_with_one_sided_centring_as_published() -> None:
    this, other = grams(features(0), features(1))
    eye = torch.eye(MEASURED, dtype=torch.float64)
    halves = [each @ (eye - 1 / MEASURED) for each in (this, other)]
    first, second = (half @ torch.linalg.inv(half + 1e-5 * MEASURED * eye) for half in halves)
    assert abs(cca(this, other) - torch.trace(first @ second)) <= 1e-6


def test_dependence_of_features_on_themselves_is_maximal_and_of_constants_zero() -> None:
    same, other = grams(features(0), features(1))
    assert abs(hsic_normalised(same, same) - 1) <= 1e-12
    assert (
        hsic_normalised(rbf_kernel_matrix(torch.ones(MEASURED, 3, requires_grad=True)), same) == 0
    )
    turn, _ = torch.linalg.qr(features(7, width=6, items=6))
    turned = hsic_normalised(rbf_kernel_matrix(features(0) @ turn), other)
    assert abs(turned - hsic_normalised(same, other)) <= 1e-9  # turning changes nothing


def test_independent_features_are_near_shuffled_baseline_and_copies_far_above() -> None:
    apart = [rbf_kernel_matrix(features(seed)) for seed in (0, 1)]
    # the diagonal alone makes the measure large
    assert hsic_normalised(*apart) > 0.2
    assert abs(hsic_normalised(*apart) - mean_shuffled_nhsic(apart)) < 0.05
    alike = [apart[0], rbf_kernel_matrix(features(0) + 0.1 * features(2))]
    assert hsic_normalised(*alike) > mean_shuffled_nhsic(alike) + 0.3


@pytest.mark.parametrize("name", FORMS)
def test_sum_over_pairs_does_not_depend_on_quality_order(name: str) -> None:
    three = [rbf_kernel_matrix(features(seed)) for seed in range(3)]
    expected = sum(
        FORMS[name](three[this], three[other]) for this, other in ((0, 1), (0, 2), (1, 2))
    )
    assert abs(sum_over_pairs(name, three) - expected) <= 1e-9
    assert abs(sum_over_pairs(name, three[::-1]) - expected) <= 1e-9
    assert pairs(3) == 3


def test_published_kernel_widths_are_uninformative() -> None:
    wide = features(0, width=2048).abs()
    # sigma 6 alone: all items are infinitely far apart; with dim they are all alike
    assert torch.allclose(
        rbf_kernel_matrix(wide, 6.0), torch.eye(MEASURED, dtype=torch.float64), atol=1e-6
    )
    assert rbf_kernel_matrix(wide, "dim").min() > 0.9
    assert 0.5 < rbf_kernel_matrix(wide, "median").median() < 0.7
