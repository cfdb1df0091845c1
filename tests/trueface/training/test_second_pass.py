"""Steps at weights that were moved to where the loss is higher."""

import copy
import logging
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD

from launcher.api import JobError
from tests.trueface.training.test_trainer import (
    checkered,
    same,
    settings,
    state,
    tiny,
    trained,
)
from trueface.data.batch import Batch
from trueface.models.detectors import Detector, set_train_mode
from trueface.runtime.errors import UsageError
from trueface.runtime.progress import RunContext
from trueface.training.ineffective_settings import ineffective_settings
from trueface.training.loop import Perturbation, awp, make_perturbation, read_rng_state, sam
from trueface.training.objectives.protocol import Logs, Objective
from trueface.training.objectives.registry import make_objective
from trueface.training.settings import TrainSettings
from trueface.training.trainer import fit

torch.set_num_threads(1)

RADIUS, SHARE = 0.05, 0.006
BATCH = next(checkered(0)(0))
BOTH = [pytest.param(sam(RADIUS), id="sam"), pytest.param(awp(SHARE), id="awp")]


def a_model(dropout: float = 0.0) -> Detector:
    model = tiny(dropout)
    set_train_mode(model, fixed_statistics=False)
    return model


def loss_of(model: nn.Module) -> Tensor:
    loss: Tensor = make_objective("bce").training_step(model, BATCH)[0]
    return loss


def first_pass(model: Detector, moving: Perturbation) -> AbstractContextManager[None]:
    """Take the first pass of a step; return the context of the second."""
    draws = read_rng_state("cpu")
    model.zero_grad()
    loss_of(model).backward()  # type: ignore[no-untyped-call]  # torch
    return moving.perturb_weights(model, "cpu", draws)


def moves(model: Detector, moving: Perturbation) -> dict[str, Tensor]:
    """Return how far each parameter stands from its place during the second pass."""
    before = {name: value.detach().double() for name, value in model.named_parameters()}
    before = {name: value.clone() for name, value in before.items()}
    with first_pass(model, moving):
        return {
            name: value.detach().double() - before[name] for name, value in model.named_parameters()
        }


def test_sam_moves_all_parameters_together_by_radius_along_gradient() -> None:
    model = a_model()
    steps = moves(model, sam(RADIUS))
    assert float(sum(step.square().sum() for step in steps.values())) ** 0.5 == pytest.approx(
        RADIUS, rel=1e-6
    )
    gradient = model.network.get_parameter("fc.weight").grad
    assert gradient is not None
    assert torch.cosine_similarity(
        steps["network.fc.weight"].flatten(), gradient.double().flatten(), dim=0
    ) == pytest.approx(1, abs=1e-4)


def test_awp_moves_each_weight_by_share_of_its_norm() -> None:
    model = a_model()
    steps = moves(model, awp(SHARE))
    for name, value in model.named_parameters():
        share = SHARE if value.ndim > 1 else 0.0
        expected = share * float(value.detach().double().norm())
        assert float(steps[name].norm()) == pytest.approx(expected, rel=1e-5), name


def test_awp_direction_matches_published_proxy() -> None:
    model = a_model()
    proxy = copy.deepcopy(model)
    descent = SGD(proxy.parameters(), lr=0.01)
    (-loss_of(proxy)).backward()  # type: ignore[no-untyped-call]  # torch
    descent.step()
    steps = moves(model, awp(SHARE))
    for (name, value), after in zip(model.named_parameters(), proxy.parameters(), strict=True):
        if value.ndim > 1:
            way = (after - value).detach()
            expected = SHARE * value.detach().norm() / (way.norm() + 1e-20) * way
            # the proxy's way is a difference of weights, which has fewer digits
            torch.testing.assert_close(steps[name].float(), expected, rtol=2e-3, atol=1e-6)


@pytest.mark.parametrize("moving", BOTH)
def test_weights_are_restored_bit_by_bit_and_batch_statistics_updated_once(
    moving: Perturbation,
) -> None:
    model, once = a_model(), a_model()
    loss_of(once)
    with first_pass(model, moving):
        loss_of(model).backward()  # type: ignore[no-untyped-call]  # torch
    assert same(model, once)
    assert int(model.network.get_buffer("bn.num_batches_tracked")) == 1


@pytest.mark.parametrize("moving", BOTH)
@pytest.mark.parametrize("value", [0.0, float("inf"), float("nan")])
def test_zero_gradient_moves_nothing(moving: Perturbation, value: float) -> None:
    model = a_model()
    before = copy.deepcopy(model)
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, value)
    with moving.perturb_weights(model, "cpu", read_rng_state("cpu")):
        assert same(model, before)


@pytest.mark.parametrize("off", [{"sam": 0.0}, {"awp": SHARE, "awp_from": 2}])
def test_training_without_perturbation_equals_plain_training(off: dict[str, Any]) -> None:
    def model(**moved: Any) -> Detector:
        torch.manual_seed(1)
        return trained(tiny(dropout=0.2), num_epochs=1, **moved)[0]

    plain = model()
    assert same(model(**off), plain)
    assert not same(model(sam=RADIUS), plain)


def test_half_precision_moves_by_same_radius_at_any_scale(tmp_path: Path) -> None:
    half, _ = trained(precision="fp16", sam=RADIUS, num_epochs=1, lr=1e-3, optimizer="sgd")
    full, _ = trained(sam=RADIUS, num_epochs=1, lr=1e-3, optimizer="sgd")
    assert all(value.isfinite().all() for value in state(half).values())
    weights = [model.network.get_parameter("fc.weight") for model in (half, full)]
    torch.testing.assert_close(*weights, rtol=0.05, atol=0.02)


class TwoTerms(Objective):
    """BCE and a further term, which pulls all weights to nothing."""

    def __init__(self) -> None:
        self.losses = list[float]()

    def training_step(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Logs]:
        loss, logs = make_objective("bce").training_step(model, batch)
        self.losses.append(float(loss.detach()))
        pull = torch.stack([each.square().sum() for each in model.parameters()]).sum()
        return loss + pull, {**logs, "pull": pull.detach()}


class NamedAscent(TwoTerms):
    """It lets AWP climb BCE alone."""

    def ascent_step(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Logs]:
        loss, logs = make_objective("bce").training_step(model, batch)
        self.losses.append(float(loss.detach()))
        return loss, logs


def ascent(objective: TwoTerms, **moved: Any) -> tuple[float, set[str]]:
    """Return the increase of the BCE in the second pass of a first step, and logged values."""
    reports: list[dict[str, float]] = []
    fit(
        tiny(), checkered(0, 8), checkered(1, 8),
        settings(num_epochs=1, **moved).trainer, objective=objective,
        watch=RunContext(progress=lambda **metrics: reports.append(metrics)),
    )  # fmt: skip
    first, second = objective.losses[:2]
    steps = [report for report in reports if "val_loss" not in report]  # not an epoch's end
    return second - first, set(steps[-1])


def test_awp_ascends_loss_term_named_by_objective() -> None:
    named, logged = ascent(NamedAscent(), awp=SHARE, awp_from=1)
    assert named > ascent(TwoTerms(), awp=SHARE, awp_from=1)[0]
    assert "pull" in logged  # a term of the second pass, which has all terms
    assert ascent(NamedAscent(), sam=RADIUS) == ascent(TwoTerms(), sam=RADIUS)


class OwnPass(TwoTerms):
    """An objective with a second pass of its own."""

    def perturbed(self, model: nn.Module) -> AbstractContextManager[None]:
        return nullcontext()


def test_two_second_passes_are_refused() -> None:
    with pytest.raises(UsageError, match="set one of them to 0"):
        settings(sam=RADIUS, awp=SHARE)
    with pytest.raises(UsageError, match="set one of them to 0"):
        make_perturbation(replace(settings().trainer, sam=RADIUS, awp=SHARE))
    with pytest.raises(JobError, match=r"and sam: 0.05 each need a second pass"):
        fit(
            tiny(), checkered(0, 8), checkered(1, 8),
            settings(sam=RADIUS).trainer, watch=RunContext(), objective=OwnPass(),
        )  # fmt: skip


def test_awp_with_frozen_backbone_reports_that_only_last_layer_moves(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        make_perturbation(settings(awp=SHARE, freeze=True).trainer)
    assert "only the last layer is perturbed" in caplog.text


def test_settings_without_effect_are_named() -> None:
    assert {"awp_from", "momentum"} <= set(ineffective_settings(settings().model_dump()))
    used = settings(optimizer="sgd", awp=SHARE, schedule="onecycle", num_epochs=3).model_dump()
    assert not {"awp_from", "momentum"} & set(ineffective_settings(used))
    assert set(ineffective_settings(used)) <= set(TrainSettings.without_effect(used))
    fitted = settings(model="layers/slim18", sam=RADIUS).model_dump()
    assert {"sam", "awp", "momentum", "lr_gamma"} <= set(TrainSettings.without_effect(fitted))


def test_results_from_before_perturbations_stay_valid() -> None:
    plain = TrainSettings.decisive(settings().model_dump())
    assert not {"sam", "awp", "awp_from", "momentum", "lr_gamma"} & set(plain)
    assert "sam" in TrainSettings.decisive(settings(sam=RADIUS).model_dump())
