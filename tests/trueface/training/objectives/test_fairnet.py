"""The training of the disentangling network: losses, refused settings, and steps.

Reconstruction and contrast of pairs are checked on numbers that can be added by hand.
"""

from collections import Counter
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from launcher.api import JobError
from tests.trueface.training.test_trainer import settings, slim
from trueface.data.batch import Batch
from trueface.data.loading.pass_order import epoch_order
from trueface.jobs.rules import refuse_fairness
from trueface.models.blocks.disentangling import DisentanglingNetwork
from trueface.models.detectors import Detector, build_detector
from trueface.models.registry import spec_of
from trueface.training.config import ObjectiveOptions
from trueface.training.group_losses import ldam_loss, ldam_margins
from trueface.training.objectives import fairnet
from trueface.training.objectives.fairnet import (
    WEIGHTS,
    ClassPairs,
    FairNetLosses,
    contrast,
    permute_within_kind,
    reconstruction,
    triplet,
)
from trueface.training.objectives.protocol import TrainingFacts
from trueface.training.objectives.registry import make_objective

torch.set_num_threads(1)

LABELS = torch.tensor([0.0, 1, 0, 1, 0, 1, 0, 1])
COLUMNS = {
    "demographic": torch.tensor([0, 0, 1, 1, 1, 1, 2, 2]),
    "forgery": torch.tensor([0, 1, 0, 2, 0, 1, 0, 5]),
}


def batch(*chosen: int) -> Batch:
    """Return some of eight images, all where none is named; fakes carry a checkerboard."""
    places = torch.tensor(chosen or range(len(LABELS)))
    rng = torch.Generator().manual_seed(0)
    pixels = torch.randint(100, 140, (len(LABELS), 3, 32, 32), generator=rng)
    pixels[LABELS == 1, :, ::2, ::2] += 40
    columns = {name: values[places] for name, values in COLUMNS.items()}
    return Batch(pixels.to(torch.uint8)[places], LABELS[places, None], places, columns)


def prepared(**options: Any) -> FairNetLosses:
    objective = cast(FairNetLosses, make_objective("fairnet"))
    objective.prepare(TrainingFacts(labels=LABELS, columns=COLUMNS), ObjectiveOptions(**options))
    return objective


@pytest.fixture(scope="module")
def model() -> Detector:
    return build_detector("fairnet", weights="none", seed=1)


class Feed:
    """The eight images in two batches."""

    image_set = SimpleNamespace(
        labels=LABELS.long().tolist(),
        columns=COLUMNS,
        column_names={},
        pseudo_fake_indices=lambda *_: [],
    )

    def __len__(self) -> int:
        return len(LABELS)

    def __call__(self, epoch: int) -> Iterator[Batch]:
        order = epoch_order(range(8), shuffle_seed=1, epoch=epoch, cells=self.image_set.labels)
        yield batch(*order[:4])
        yield batch(*order[4:])


def test_loss_is_weighted_sum_of_its_six_terms(
    model: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fairnet, "FUSION_SMOOTH", 1e-6)
    torch.manual_seed(0)
    loss, logs = prepared(fair_alpha_in=1, fair_alpha_out=1).training_step(model, batch())
    given = {name: torch.as_tensor(value) for name, value in logs.items() if name != "correct"}
    assert given.keys() == WEIGHTS.keys()
    total = torch.stack([WEIGHTS[name] * value for name, value in given.items()]).sum()
    torch.testing.assert_close(loss.detach(), total)
    with torch.no_grad():
        assert isinstance(model.network, DisentanglingNetwork)
        parts = model.network.forward_parts(model.normalize_pixels(batch().inputs))
        each = functional.cross_entropy(parts.fused, LABELS.long(), reduction="none")
        margins = ldam_margins(torch.tensor([2, 4, 2]))
        groups, types = COLUMNS["demographic"], COLUMNS["forgery"]
        expected = {
            "shared": functional.cross_entropy(parts.shared, LABELS.long()),
            "specific": functional.cross_entropy(parts.specific[:, :6], types),
            "demographic": ldam_loss(parts.demographic[:, :3], groups, margins),
        }
        for name, value in expected.items():
            torch.testing.assert_close(given[name], value)
        of_groups = torch.stack([each[groups == number].mean() for number in range(3)])
    # with shares of one it is the mean over groups of the mean over images, except for λ²
    torch.testing.assert_close(given["fused"], of_groups.mean(), rtol=0, atol=1e-4)


def test_shares_of_bi_level_loss_are_used(model: Detector) -> None:
    losses = [
        float(
            prepared(fair_alpha_in=share, fair_alpha_out=share).training_step(model, batch())[1][
                "fused"
            ]
        )
        for share in (1.0, 0.25)
    ]
    assert losses[1] > losses[0]


def test_batch_of_reals_has_neither_reconstruction_nor_contrast(model: Detector) -> None:
    loss, logs = prepared().training_step(model, batch(0, 2, 4))
    assert WEIGHTS.keys() - logs.keys() == {"reconstruction", "contrast"}
    assert loss.isfinite()


def test_other_networks_features_and_images_without_groups_are_refused(model: Detector) -> None:
    objective = prepared()
    with pytest.raises(JobError, match=r"needs model fairnet.* got model slim18"):
        objective.training_step(slim(), batch())
    with pytest.raises(JobError, match="Leave out freeze"):
        objective.training_step(model, batch()._replace(inputs=torch.zeros(8, 128)))
    with pytest.raises(JobError, match=r"but forgery is missing\. Name CSV files"):
        make_objective("fairnet").prepare(
            TrainingFacts(labels=LABELS, columns={"demographic": COLUMNS["demographic"]}),
            ObjectiveOptions(),
        )
    many = {**COLUMNS, "demographic": torch.arange(8) * 20}
    with pytest.raises(JobError, match="supports at most 64 groups, got 141"):
        make_objective("fairnet").prepare(
            TrainingFacts(labels=LABELS, columns=many), ObjectiveOptions()
        )


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        (
            {"model": "slim18"},
            "objective: fairnet needs the parts of model fairnet, but model is slim18",
        ),
        ({"freeze": True}, "trains the whole network. Leave out freeze."),
        ({"attributes": ""}, "objective: fairnet needs the groups of the images"),
    ],
)
def test_unsupported_training_is_refused_during_planning(
    changed: dict[str, Any], reason: str
) -> None:
    usual: dict[str, Any] = {
        "model": "fairnet/timm/legacy_xception", "objective": "fairnet", "attributes": "a.csv",
        "fair": "none", "freeze": False,
    }  # fmt: skip
    draft = cast(Any, SimpleNamespace(settings={**usual, **changed}, model="t(gan:pre)"))
    (refusal,) = refuse_fairness(draft)
    assert reason in refusal
    draft = cast(Any, SimpleNamespace(settings=usual, model="t(gan:pre)"))
    assert not [*refuse_fairness(draft)]


def test_every_batch_of_even_size_has_equally_many_reals_and_fakes() -> None:
    chosen = settings(model="fairnet", objective="fairnet")
    assert chosen.balances_classes
    assert not settings().balances_classes
    labels = [1] * 20 + [0] * 6
    order = epoch_order(range(26), shuffle_seed=1, epoch=3, cells=labels)
    halves = [Counter(labels[at] for at in order[start : start + 4]) for start in range(0, 24, 4)]
    assert halves == [Counter({0: 2, 1: 2})] * 6


def tiny() -> Detector:
    """Return the network with encoders of one convolution, a sixteenth as wide as published."""
    torch.manual_seed(1)
    encoders = [nn.Sequential(nn.Conv2d(3, 32, 4, stride=4), nn.ReLU()) for _ in range(3)]
    return Detector(spec_of("fairnet"), DisentanglingNetwork(*encoders, width=32))


PAIRS = ClassPairs(real=torch.tensor([0]), fake=torch.tensor([1]))


def test_first_images_of_each_class_are_paired_if_halves_differ() -> None:
    pairs = ClassPairs.from_labels(torch.tensor([1.0, 0, 1, 1, 0, 1]))
    assert [each.tolist() for each in pairs] == [[1, 4], [0, 2]]
    assert [len(each) for each in ClassPairs.from_labels(torch.ones(3))] == [0, 0]


def test_each_image_is_reconstructed_with_own_and_other_forgery() -> None:
    def of_forgery(forgery: Tensor, content: Tensor, size: tuple[int, int]) -> Tensor:
        return (forgery + content).expand(-1, 3, *size)

    def maps(real: float, fake: float) -> Tensor:
        return torch.tensor([real, fake]).view(2, 1, 1, 1)

    content = maps(0.0, 0.5)
    parts = SimpleNamespace(
        forgery=maps(0.1, 0.3), content_styled_features=lambda chosen: content[chosen]
    )
    images = maps(0.0, 0.5).expand(2, 3, 2, 2)
    network = SimpleNamespace(decoder=of_forgery)
    loss = reconstruction(cast(Any, network), cast(Any, parts), images, PAIRS)
    # own forgery .1 and .3, that of the other .3 and .1
    torch.testing.assert_close(loss, torch.tensor(0.8))


def test_triplet_loss_is_distance_difference_plus_margin_of_three() -> None:
    anchor, positive = torch.tensor([[0.0, 0.0]]), torch.tensor([[3.0, 4.0]])
    torch.testing.assert_close(
        triplet(anchor, positive, torch.tensor([[0.0, 6.0]])), torch.tensor(2.0), rtol=0, atol=1e-5
    )
    assert triplet(anchor, positive, torch.tensor([[0.0, 9.0]])) == 0


def test_permutation_keeps_kind_at_every_position() -> None:
    torch.manual_seed(0)
    kinds = torch.tensor([0, 2, 1, 0, 2, 0, 5])
    drawn = [permute_within_kind(kinds) for _ in range(20)]
    assert all(torch.equal(kinds[each], kinds) for each in drawn)
    assert all(each.sort().values.tolist() == list(range(7)) for each in drawn)
    assert len({tuple(each.tolist()) for each in drawn}) > 1


def test_separated_classes_have_zero_contrast_loss_and_equal_ones_three_each() -> None:
    labels, types = torch.tensor([0, 1, 0, 1]), torch.tensor([0, 3, 0, 3])
    pairs = ClassPairs.from_labels(labels)
    apart = 10.0 * labels[:, None].repeat(1, 2)
    assert contrast(apart, apart, types, pairs) == 0
    torch.testing.assert_close(contrast(0 * apart, 0 * apart, types, pairs), torch.tensor(12.0))
    torch.testing.assert_close(contrast(apart, 0 * apart, types, pairs), torch.tensor(6.0))
