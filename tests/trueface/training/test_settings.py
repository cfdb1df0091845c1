"""What trainings of groups are set to, the rules of the rate, and which objectives and parts there are."""

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch.nn import Parameter
from torch.optim import SGD

from trueface.data.augmentations.registry import ALLOWED
from trueface.runtime.declarations import Registry
from trueface.runtime.errors import DeclarationError, UnknownName
from trueface.runtime.field_types import Settings
from trueface.training.class_settings import ClassifySettings
from trueface.training.config import TrainerConfig, needs_groups
from trueface.training.ineffective_settings import ineffective_qualities, ineffective_settings
from trueface.training.objectives.bce import BinaryCrossEntropy
from trueface.training.objectives.registry import (
    make_objective,
    objectives,
    other_objective,
    plugin_modules,
    register_objective,
)
from trueface.training.parts import registry
from trueface.training.parts.registry import PartSpec, conflicts
from trueface.training.schedules import RULES, current_lr, make_schedule
from trueface.training.settings import MOMENTUM, TrainSettings


def settings(**given: Any) -> TrainSettings:
    return TrainSettings.model_validate({"data_root": "data", "split_path": "splits", **given})


def test_fair_selects_objective_instead_of_default() -> None:
    chosen = settings(fair="dro", dro_step=0.05)
    assert (chosen.trainer.objective, chosen.trainer.options.dro_step) == ("dro", 0.05)
    assert chosen.columns_read == ("demographic",)
    assert chosen.balances_subgroups
    assert not settings(fair="daw").balances_subgroups


def test_training_uses_the_fused_optimizer_and_cycles_momentum_unless_it_is_set() -> None:
    plain, held = (
        settings().trainer,
        settings(optimizer="sgd", schedule="onecycle", momentum=0.5).trainer,
    )
    assert (plain.fused, plain.momentum, plain.cycle_momentum) == (True, MOMENTUM, True)
    assert (held.momentum, held.cycle_momentum) == (0.5, False)


def test_oversampling_keeps_objective_and_requires_groups() -> None:
    chosen = settings(fair="oversample", objective="ce")
    assert chosen.trainer.objective == "ce"
    assert chosen.columns_read == ("demographic",)
    assert chosen.balances_subgroups


def test_training_without_fair_requires_no_groups_and_keeps_its_hash() -> None:
    plain = settings()
    assert (plain.trainer.objective, plain.columns_read) == ("bce", ())
    decisive = TrainSettings.decisive(plain.model_dump(mode="json"))
    assert not {"fair", "fair_min", "fair_alpha_in", "dro_step"} & set(decisive)
    assert TrainSettings.decisive(settings(fair="dag").model_dump(mode="json"))["fair"] == "dag"


def test_unknown_name_is_refused_and_share_is_validated() -> None:
    with pytest.raises(ValidationError, match="Did you mean 'daw'"):
        settings(fair="dwa")
    for alpha in (0, 1.1):
        with pytest.raises(ValidationError, match="fair_alpha_in"):
            settings(fair="daw", fair_alpha_in=alpha)


def test_options_unused_by_chosen_method_have_no_effect() -> None:
    reasons = TrainSettings.without_effect(settings(fair="dag").model_dump())
    assert reasons["fair_alpha_in"] == "fair: dag does not use it"
    assert "fair_alpha_out" not in reasons
    assert "dro_step" not in TrainSettings.without_effect(settings(fair="dro").model_dump())


def test_group_column_has_no_effect_without_table() -> None:
    values = settings(groups_by="gender").model_dump()
    assert TrainSettings.without_effect(values)["groups_by"] == "attributes is empty"
    values = settings(groups_by="gender", attributes="faces.csv").model_dump()
    assert "groups_by" not in TrainSettings.without_effect(values)


def test_trainings_that_require_groups() -> None:
    ways = {"none": "", "dag": "", "oversample": "fair: oversample", "mix": "fair: mix"}
    assert {way: needs_groups({"fair": way}) for way in ways} == ways
    assert needs_groups({"fair": "none", "select": "worst-cell"}) == "select: worst-cell"


@pytest.mark.parametrize("schedule", sorted(RULES))
def test_learning_rate_rises_to_maximum_and_decays_to_zero(schedule: str) -> None:
    rate = RULES[schedule]
    fractions = [rate(step, 100) for step in range(100)]
    top = fractions.index(max(fractions))
    assert max(fractions) == pytest.approx(1)
    assert fractions[: top + 1] == sorted(fractions[: top + 1])
    assert fractions[top:] == sorted(fractions[top:], reverse=True)
    assert 0 < fractions[0] < 0.5
    assert 0 < fractions[-1] < 0.001
    assert all(0 < rate(0, total) <= 1 for total in (1, 2, 3))


@pytest.mark.parametrize(("rows", "steps"), [(1, 12), (3, 4)])
def test_schedule_covers_all_steps_of_training(rows: int, steps: int) -> None:
    optimizer = SGD([Parameter(torch.zeros(1))])
    config = TrainerConfig.from_settings(
        settings(batch_size=4, num_epochs=2),
        lr=0.5,
        schedule="warmup_cosine",
        rows_per_image=rows,
    )
    schedule = make_schedule(optimizer, config, images=23)
    for step in range(steps):
        schedule.begin_step()
        assert current_lr(optimizer) == 0.5 * RULES["warmup_cosine"](step, steps)
        schedule.end_step()


@pytest.mark.parametrize("momentum", [None, 0.0, 0.3, 0.9])
def test_only_a_momentum_that_is_not_set_moves_with_the_cycle(momentum: float | None) -> None:
    config = settings(optimizer="sgd", schedule="onecycle", momentum=momentum).trainer
    optimizer = SGD([Parameter(torch.zeros(1))], momentum=config.momentum)
    schedule = make_schedule(optimizer, config, images=640)
    seen = set()
    for _ in range(8):
        seen.add(optimizer.param_groups[0]["momentum"])
        optimizer.step()
        schedule.end_step()
    assert (len(seen) > 1) if momentum is None else (seen == {momentum})


def test_hash_has_the_momentum_only_if_it_changes_the_training() -> None:
    def text(**given: Any) -> dict[str, Any]:
        return TrainSettings.decisive(settings(**given).model_dump(mode="json"))

    assert text(momentum=0.9) == text()
    assert text(optimizer="sgd", momentum=0.9) == text(optimizer="sgd")
    assert settings(momentum=0.9).neutral_to_results == settings().neutral_to_results
    cycled = {"optimizer": "sgd", "schedule": "onecycle"}
    assert text(**cycled) == {**text(), **cycled}
    held = {"momentum": 0.9, "revisions": ["onecycle: momentum held"]}
    assert text(**cycled, momentum=0.9) == {**text(), **cycled, **held}
    assert "momentum" not in settings(**cycled, momentum=0.9).neutral_to_results


@pytest.mark.parametrize(
    ("given", "idle"),
    [
        ({"optimizer": "adam"}, "momentum"),
        ({"schedule": "onecycle"}, "lr_decay_epochs"),
        ({"schedule": "onecycle"}, "lr_gamma"),
        ({"lr_decay_epochs": 0}, "lr_gamma"),
        ({"lr_decay_epochs": 9, "num_epochs": 9}, "lr_decay_epochs"),
        ({"early_stop": 9, "num_epochs": 9}, "early_stop"),
        ({"awp": 0.0}, "awp_from"),
        ({"ema": 0.0}, "ema_warmup"),
        ({"freeze": False}, "freeze_bn"),
        ({"freeze": True}, "compile"),
        ({"flip_prob": 0.0}, "augment_cycle"),
        ({"blur_prob": 0.0}, "blur_sigma"),
        ({"jpeg_prob": 0.0}, "jpeg_qual"),
        ({"resize_prob": 0.0}, "resize_scale"),
        ({"resize_prob": 0.0}, "resize_ratio"),
        ({"test_crops": 4, "patch_size": -1}, "test_crops"),
        ({"qualities": ""}, "quality_batch"),
        ({"collab": 0.0}, "collab_width"),
        ({"solver": "gradient"}, "penalty"),
        ({"solver": "ridge"}, "shot_weight"),
        ({"solver": "ridge"}, "jpeg_qual"),
    ],
)
def test_settings_that_others_override_or_switch_off_are_named(
    given: dict[str, Any], idle: str
) -> None:
    assert idle in TrainSettings.without_effect(settings(**given).model_dump())


def test_settings_that_others_switch_on_have_an_effect() -> None:
    used = settings(
        optimizer="sgd",
        lr_decay_epochs=5,
        early_stop=5,
        awp=0.1,
        ema=0.5,
        freeze=True,
        freeze_bn=False,
        blur_prob=0.5,
        jpeg_prob=0.5,
        resize_prob=0.5,
        test_crops=4,
        patch_size=64,
        qualities="raw,jpeg30",
        collab=0.1,
    )
    assert not ineffective_settings(used.model_dump())
    assert not ineffective_qualities(used.model_dump())


PLACES = {"data_root": "data", "split_path": "splits"}


def test_objectives_are_listed_with_declarations_of_their_files() -> None:
    known = objectives()
    assert {"bce", "ce"} <= set(known)
    assert (known["bce"].binary, known["ce"].binary) == (True, False)
    assert known["bce"].summary == "binary cross-entropy"


def test_name_gives_objective_and_its_module() -> None:
    assert isinstance(make_objective("bce"), BinaryCrossEntropy)
    assert plugin_modules("bce") == (BinaryCrossEntropy.__module__,)
    with pytest.raises(UnknownName, match="unknown objective 'bse'"):
        make_objective("bse")


def test_detectors_and_class_networks_have_separate_defaults() -> None:
    assert TrainSettings.model_validate(PLACES).trainer.objective == "bce"
    assert ClassifySettings(data_root="data").trainer.objective == "ce"
    assert TrainSettings.model_validate({**PLACES, "objective": "ce"}).trainer.objective == "ce"


def test_single_logit_objective_is_refused_for_class_networks() -> None:
    with pytest.raises(ValidationError, match="bce"):
        ClassifySettings.model_validate({"data_root": "data", "objective": "bce"})
    with pytest.raises(ValidationError, match="focl"):
        TrainSettings.model_validate({**PLACES, "objective": "focl"})


def test_default_is_omitted_from_job_hash_and_others_are_included() -> None:
    default = TrainSettings.model_validate(PLACES).model_dump(mode="json")
    other = {**default, "objective": "ce"}
    assert "objective" not in TrainSettings.decisive(default)
    assert TrainSettings.decisive(other)["objective"] == "ce"


def test_column_that_no_batch_carries_is_refused_at_declaration() -> None:
    register_objective("mine", summary="of groups", columns=("group",))
    with pytest.raises(
        ValueError,
        match=r"columns of mine: 'path' is not a known column\. Known columns: quality, group",
    ):
        register_objective("mine", summary="of paths", columns=("path",))


def test_settings_from_before_choice_existed_mean_the_default() -> None:
    assert other_objective({}, {"objective": "bce"}) == ""
    assert other_objective({"objective": "ce"}, {"objective": "bce"}) == (
        "objective: ce, and this is objective: bce"
    )


NOWHERE = {"data_root": "", "split_path": ""}
PART = """
from pydantic import Field
from trueface.runtime.field_types import Settings
from trueface.training.parts.registry import register_part
import torch

class Own(Settings):
    {field}

@register_part("third", settings=Own, conflicts={{"qualities": "no {{third}} of {{model}}"}})
class Third:
    pass
"""


def dumped(**changed: Any) -> dict[str, Any]:
    return TrainSettings.model_validate({**NOWHERE, **changed}).model_dump(mode="json")


@pytest.mark.parametrize(
    ("changed", "others", "said"),
    [
        ({}, ("ridge", "poison", "shards"), ["m is fitted in closed form, which uses one process"]),
        ({}, ("poison",), []),
        ({"sbi": 0.5}, ("poison",), ["sbi cannot be used with poison"]),
        ({"sbi": 0.5}, (), []),
        ({"shots": 3}, ("poison",), ["shots cannot be used with poison"]),
        ({"qualities": "raw"}, ("ridge",), ["qualities: m is fitted in closed form"]),
        ({"qualities": "raw,jpeg40"}, ("shards",), []),
        ({"qualities": "raw,jpeg40", "collab": 0.1}, ("shards",), ["collab measures"]),
        (
            {"qualities": "raw,jpeg40", "collab": 0.1, "compile": True},
            (),
            ["collab cannot be used with compile"],
        ),
    ],
)
def test_incompatible_pairs_are_refused(
    changed: dict[str, Any], others: tuple[str, ...], said: list[str]
) -> None:
    answers = list(conflicts(dumped(**changed), others, "m"))
    assert len(answers) == len(said)
    assert all(answer.startswith(start) for answer, start in zip(answers, said, strict=True))


class Base(Settings):
    """Settings of every training."""


def declare(folder: Path, monkeypatch: pytest.MonkeyPatch, field: str) -> None:
    """Let a part with one setting be the only one."""
    package = folder / "its_own_parts"
    package.mkdir()
    (package / "third.py").write_text(PART.format(field=field))
    monkeypatch.syspath_prepend(folder)
    allowed = (*ALLOWED, registry.__name__)
    parts = Registry(package.name, PartSpec, decorator="register_part", modules=allowed)
    monkeypatch.setattr(registry, "PARTS", parts)


def test_part_with_settings_is_built_if_one_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    declare(tmp_path, monkeypatch, "third: int = 4")
    made = registry.with_parts(Base)
    assert "third" in made.model_fields
    assert made.added == {"third"}
    assert [*made.modules["third"](4), *made.modules["third"](5)] == ["its_own_parts.third"]
    given = {"qualities": "raw"}
    assert list(conflicts({**given, "third": 4}, (), "m")) == []
    assert list(conflicts({**given, "third": 5}, (), "m")) == ["no 5 of m"]


def test_setting_of_part_requires_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    declare(tmp_path, monkeypatch, "third: int")
    with pytest.raises(DeclarationError, match="setting third needs a default"):
        registry.with_parts(Base)
