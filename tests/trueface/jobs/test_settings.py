from typing import Any

import pytest
from pydantic import ValidationError

from launcher.api import Settings
from launcher.experiments.kinds import installed_kinds
from trueface.data.settings import DrawSettings, SampleSettings, TestSettings
from trueface.generators.diffusion.settings import DiffuserSettings
from trueface.generators.translation.settings import TranslatorSettings
from trueface.poisoning.poison_record import PoisonSettings
from trueface.training.settings import TrainSettings
from trueface.unlearning.settings import UnlearnSettings

KINDS = (TrainSettings, TestSettings, PoisonSettings, UnlearnSettings, SampleSettings)
WHERE: dict[str, Any] = {"data_root": "data", "split_path": "splits"}


@pytest.mark.parametrize("kind", ["train", "classify", "unlearn", "forget", "diffuser", "denoiser"])
def test_launch_of_the_steps_is_part_of_a_hash_unless_it_is_off(kind: str) -> None:
    settings = installed_kinds([kind])[kind].settings
    fields = settings.model_fields
    plain = {name: field.default for name, field in fields.items()}
    assert plain["accelerate"] == "off"
    assert "accelerate" not in settings.decisive(plain)  # the hash of earlier versions
    changed = settings.decisive({**plain, "accelerate": "graph"})
    assert changed == {**settings.decisive(plain), "accelerate": "graph"}
    assert "accelerate" in settings.costs - settings.neutral


def test_tests_in_half_precision_have_another_hash_than_before_their_head_was_in_float32() -> None:
    plain = TestSettings(**WHERE).model_dump(mode="json")
    assert "revisions" not in TestSettings.decisive(plain)
    half = TestSettings.decisive({**plain, "precision": "bf16"})
    assert half["revisions"] == ["last layer in float32"]


@pytest.mark.parametrize(
    ("kind", "given", "revisions"),
    [
        ("train", {}, None),
        ("train", {"model": "f3net"}, ["f3net: published bands"]),
        ("train", {"optimizer": "sgd", "schedule": "onecycle"}, None),
        (
            "train",
            {"optimizer": "sgd", "schedule": "onecycle", "momentum": 0.9},
            ["onecycle: momentum held"],
        ),
        ("unlearn", {"method": "relabel"}, None),
        ("unlearn", {"method": "relabel", "known": 0.5}, ["copies of an image together"]),
        ("unlearn", {"method": "relabel", "find": True}, ["copies of an image together"]),
        ("unlearn", {"method": "iwu"}, ["iwu: epochs of the authors"]),
        ("unlearn", {"method": "fisher"}, ["fisher: last layer as other layers"]),
        ("forget", {"method": "fisher", "afterwards": False}, None),
        ("forget", {"method": "retrain"}, ["copies of an image together"]),
        ("checkpoint", {"architecture": "tv/resnet18"}, None),
    ],
)
def test_hash_names_changes_of_results_only_where_they_apply(
    kind: str, given: dict[str, Any], revisions: list[str] | None
) -> None:
    settings = installed_kinds([kind])[kind].settings
    plain = {name: field.default for name, field in settings.model_fields.items()}
    assert settings.decisive({**plain, **given}).get("revisions") == revisions


def test_only_known_launches_of_steps_are_accepted() -> None:
    with pytest.raises(ValidationError, match="'off' or 'graph'"):
        TrainSettings(**WHERE, accelerate="jit")


def test_defaults_equal_those_of_the_original() -> None:
    made = TrainSettings(**WHERE)
    assert (made.model, made.freeze, made.num_epochs, made.lr) == ("nodown", False, 100, 1e-4)
    assert (made.batch_size, made.lr_decay_epochs, made.dropout) == (64, -1, 0.0)
    assert (made.resize_prob, made.resize_size, made.patch_size) == (0.0, 256, -1)
    assert (made.resize_scale, made.resize_ratio) == ((1.0, 1.0), (1.0, 1.0))
    assert (made.jpeg_prob, made.jpeg_qual) == (0.0, (75, 75))
    assert (made.blur_prob, made.blur_sigma) == (0.0, (0.5, 0.5))
    assert PoisonSettings(**WHERE).poison_seed == 42


@pytest.mark.parametrize(
    ("given", "read"),
    [(0.5, (0.5, 0.5)), ([0.5], (0.5, 0.5)), ([0.2, 1], (0.2, 1.0)), (["0.2", "1.0"], (0.2, 1.0))],
)
def test_a_range_is_one_number_or_two(given: object, read: tuple[float, float]) -> None:
    assert TrainSettings(**WHERE, resize_scale=given).resize_scale == read


# settings of a disruption during training
OF_DISRUPTION = {
    f"adversarial_{name}" for name in ("attack", "target", "eps", "steps", "step_size")
}


@pytest.mark.parametrize(
    ("kind", "values", "idle"),
    [
        (TranslatorSettings, {"gan": "hinge"}, OF_DISRUPTION),
        (TranslatorSettings, {"gan": "wgan-gp"}, OF_DISRUPTION),
        (TranslatorSettings, {"weights": "a.pt"}, {"num_steps", "adversarial", *OF_DISRUPTION}),
        (TranslatorSettings, {"adversarial": "both"}, set()),
        (
            TranslatorSettings,
            {"adversarial": "both", "adversarial_attack": "fgsm"},
            {"adversarial_steps", "adversarial_step_size"},
        ),
        (DiffuserSettings, {"network": "mlp"}, {"unshuffle", "attention"}),
        (DiffuserSettings, {"network": "unet"}, set()),
        (DrawSettings, {"content": "resized"}, set()),
        (DrawSettings, {"content": "noise"}, {"crop"}),
    ],
)
def test_settings_without_effect_are_listed(
    kind: type[Settings], values: dict[str, Any], idle: set[str]
) -> None:
    assert set(kind.without_effect(values)) == idle


def test_diffuser_with_imported_weights_depends_on_import_code() -> None:
    of = DiffuserSettings.modules["weights"]
    assert (of(""), of("sd")) == ((), ("trueface.generators.jobs.stable_diffusion",))


def test_unknown_model_is_rejected_with_nearest_name() -> None:
    with pytest.raises(ValidationError, match="Did you mean 'nodown'"):
        TrainSettings(**WHERE, model="nodwon")


def test_unknown_unlearning_method_is_rejected_with_nearest_name() -> None:
    with pytest.raises(ValidationError, match="Did you mean 'relabel'"):
        UnlearnSettings(**WHERE, method="relable")


@pytest.mark.parametrize(
    "wrong",
    [
        {"modle": "nodown"},
        {"lr": 0},
        {"lr": "inf"},
        {"lr": "nan"},
        {"num_epochs": 0},
        {"batch_size": 0},
        {"dropout": 1},
        {"resize_prob": 1.5},
        {"resize_scale": [1.0, 0.2]},
        {"resize_scale": [0.0, 1.0]},
        {"resize_scale": [0.1, 0.2, 0.3]},
        {"resize_scale": [0.1, float("inf")]},
        {"jpeg_qual": [0, 50]},
        {"jpeg_qual": 101},
        {"jpeg_qual": 30.5},
        {"on_bad_image": "ignore"},
        {"test_crops": -1},
    ],
)
def test_value_out_of_range_is_rejected(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        TrainSettings(**WHERE, **wrong)


@pytest.mark.parametrize("settings", [TrainSettings, TestSettings, PoisonSettings])
def test_data_and_split_are_required(
    settings: type[TrainSettings | TestSettings | PoisonSettings],
) -> None:
    with pytest.raises(ValidationError, match="split_path"):
        settings.model_validate({"data_root": "data"})


def test_settings_round_trip_through_json() -> None:
    made = TrainSettings(**WHERE, resize_scale=[0.2, 1.0], jpeg_qual=[30, 100])
    assert TrainSettings.model_validate(made.model_dump(mode="json")) == made


def test_each_setting_has_a_description() -> None:
    for settings in (TrainSettings, TestSettings, PoisonSettings, UnlearnSettings, SampleSettings):
        assert all(field.description for field in settings.model_fields.values())


def test_loader_processes_and_shared_features_do_not_change_the_job_hash() -> None:
    assert UnlearnSettings.neutral == {"cache", "num_threads"}
    neutral = {"cache", "num_threads", "checkpoint_every", "processes", "resume", "tensorboard"}
    assert TrainSettings.neutral == neutral


@pytest.mark.parametrize("kind", KINDS)
def test_old_names_map_to_existing_settings(kind: type[Settings]) -> None:
    assert set(kind.aliases.values()) <= set(kind.model_fields)
    assert kind.aliases.keys().isdisjoint(kind.model_fields)
    assert kind.aliases["dataset_path"] == "data_root"


def test_the_names_of_the_original_launcher_are_known() -> None:
    for kind in (TrainSettings, UnlearnSettings):
        assert dict(kind.aliases) == {
            "dataset_path": "data_root",
            "training_epochs": "num_epochs",
            "learning_rate": "lr",
            "learning_dropoff": "lr_decay_epochs",
            "model_flag": "model",
            "model_freeze": "freeze",
        }


@pytest.mark.parametrize("kind", KINDS)
def test_cost_keys_are_existing_settings(kind: type[Settings]) -> None:
    assert kind.costs
    assert kind.costs <= set(kind.model_fields)


@pytest.mark.parametrize(
    ("given", "read"),
    [
        (64, 8),
        (16, 2),
        (7, 1),
        (1, 1),
        (-8, 1),
        ("16", 2),
        (16.0, 2),
        ("16.0", 2),
        (None, None),
        ("x", "x"),
        ("", ""),
        (True, True),
        (16.5, 16.5),
        (float("inf"), float("inf")),
        ([16], [16]),
    ],
)
def test_test_uses_an_eighth_of_shared_batch_size(given: object, read: object) -> None:
    assert TestSettings.shared["batch_size"](given) == read


def test_default_test_batch_size_follows_the_same_rule() -> None:
    rule = TestSettings.shared["batch_size"]
    assert TestSettings(**WHERE).batch_size == rule(TrainSettings(**WHERE).batch_size) == 8


def test_shared_patch_size_does_not_crop_tests() -> None:
    assert TestSettings.shared["patch_size"](96) == -1


def test_only_training_has_warm_start_and_saved_optimizer() -> None:
    own = {"warm_start", "optimizer_state", "save_optimizer"}
    assert own <= set(TrainSettings.model_fields)
    assert own.isdisjoint(UnlearnSettings.model_fields)


def test_blur_requires_images_larger_than_mirrored_border() -> None:
    with pytest.raises(
        ValidationError, match="a blur needs a resize_size of at least 8 pixels, not 7"
    ):
        TrainSettings(**WHERE, resize_size=7, blur_prob=0.5)
    for given in ({"resize_size": 8, "blur_prob": 0.5}, {"resize_size": 7}):
        assert TrainSettings(**WHERE | given).blur_sigma == (0.5, 0.5)
