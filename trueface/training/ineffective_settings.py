"""Settings of trainings that other settings override or switch off. This module does not import torch."""

from collections.abc import Callable, Mapping
from typing import Any

from trueface.data.augmentations.registry import SPECS
from trueface.models.registry import may_draw, model_name, normalizes_itself, reads_landmarks
from trueface.training.config import WORST_CELL
from trueface.training.objectives.registry import objectives, used_objective

# settings that change original images alone
OF_ORIGINALS = ("sbi", "jpeg_prob", "blur_prob")
ONLY_RESHARED = "it changes original images, but all training images are re-shared"
CHANCES = ("resize_prob", "blur_prob", "jpeg_prob", "flip_prob")
# a range of an augmentation, and the setting that says how often it is used
RANGES = (
    ("blur_sigma", "blur_prob"),
    ("jpeg_qual", "jpeg_prob"),
    ("resize_scale", "resize_prob"),
    ("resize_ratio", "resize_prob"),
)
# read only by a training of detectors or classes, and by unlearnings that train in the same way
OF_STEPS = frozenset(
    {
        "accelerate", "accumulate", "awp", "awp_from", "compile", "early_stop", "ema", "ema_warmup", "lr",
        "lr_decay_epochs", "lr_gamma", "momentum", "num_epochs", "optimizer", "sam", "schedule", "select",
        "weight_decay",
    }
)  # fmt: skip
OF_PIXELS = (
    "augment_cycle", "augment_seed", "channels_last", "decode", "flip_prob", "normalization", "patch_size",
    "resize_size", "test_crops",
)  # fmt: skip
AWP_FROM = 3  # the default of awp_from
LAST = "last"  # value of the setting `select`
WHOLE = (1.0, 1.0)  # range of a crop that keeps its image
EQUAL_VIEWS = "the augmentation makes equal views of each image"
ONLY_CLOSED_FORM = "only a training in closed form uses it"


def ineffective_settings(values: Mapping[str, Any]) -> dict[str, str]:
    """Return those of these settings without effect for other values, complete or not, each with the reason."""
    return {
        **_idle_for_landmarks(values),
        **_idle_for_raw_pixels(values),
        **_idle_in_steps(values),
        **_idle_in_schedule(values),
        **_idle_if_frozen(values),
        **ineffective_augmentation(values),
    }


def _idle_for_landmarks(values: Mapping[str, Any]) -> dict[str, str]:
    """Return the settings that change pixels, if the network reads landmarks."""
    if not reads_landmarks(str(values.get("model", ""))):
        return {}
    return dict.fromkeys(OF_PIXELS, f"model {values['model']} reads landmarks, not pixels")


def _idle_for_raw_pixels(values: Mapping[str, Any]) -> dict[str, str]:
    """Return the normalization, if the network normalizes pixels itself."""
    name = str(values.get("model", ""))
    if not normalizes_itself(name):
        return {}
    return {"normalization": f"model {name} normalizes pixels itself"}


def ineffective_augmentation(values: Mapping[str, Any]) -> dict[str, str]:
    """Return the settings of the augmentation without effect, each with the reason."""
    idle = {name: f"{chance} is 0" for name, chance in RANGES if not values.get(chance, 0.0)}
    if not _is_random(values):
        reason = "nothing in the augmentation is random"
        idle |= dict.fromkeys(("augment_cycle", "augment_seed"), reason)
    if values.get("test_crops") and (reason := _without_patches(values)):
        idle["test_crops"] = reason
    return idle


def ineffective_views(values: Mapping[str, Any]) -> dict[str, str]:
    """Return the options that weigh the difference between views of an image, if all views are equal."""
    spec = objectives().get(used_objective(values))
    if spec is None or not has_equal_views(values):
        return {}
    return dict.fromkeys(spec.view_options, EQUAL_VIEWS)


def has_equal_views(values: Mapping[str, Any]) -> bool:
    """Return whether an objective compares views of each image whose pixels and features are always equal."""
    spec = objectives().get(used_objective(values))
    if spec is None or spec.views == 1 or _draws_different_views(values):
        return False
    try:
        return not may_draw(model_name(str(values.get("model", "nodown"))))
    except ValueError:  # reported where the name is checked
        return False


def _draws_different_views(values: Mapping[str, Any]) -> bool:
    """Return whether the augmentation can make two different images of one."""
    further = [field for spec in SPECS.values() for field in spec.settings.model_fields.items()]
    ranges = (
        ("blur_prob", "blur_sigma", (0.5, 0.5)),
        ("jpeg_prob", "jpeg_qual", (75, 75)),
    )
    crops = [tuple(values.get(name, WHOLE)) != WHOLE for name in ("resize_scale", "resize_ratio")]
    return (
        0 < values.get("flip_prob", 0.5) < 1
        or 0 < values.get("resize_prob", 0.0) < 1
        or (bool(values.get("resize_prob")) and any(crops))
        or any(
            0 < (chance := values.get(prob, 0.0)) < 1
            or (chance == 1 and len(set(values.get(name, default))) > 1)
            for prob, name, default in ranges
        )
        or not _without_patches(values)
        or any(values.get(key, field.default) != field.default for key, field in further)
    )


def ineffective_on_reshared(
    values: Mapping[str, Any], find: Callable[[Mapping[str, Any]], Mapping[str, str]]
) -> dict[str, str]:
    """Return the settings without effect on training images that are all re-shared, each with the reason.

    Args:
        values: of a training.
        find: returns the settings without effect on any images, such as `without_effect` of its settings.
    """
    used = [name for name in OF_ORIGINALS if values.get(name)]
    before, after = find(values), find({**values, **dict.fromkeys(used, 0.0)})
    idle = dict.fromkeys((*used, *after), ONLY_RESHARED)
    return {name: reason for name, reason in idle.items() if name not in before}


def ineffective_qualities(values: Mapping[str, Any]) -> dict[str, str]:
    """Return the settings of qualities without effect, each with the reason."""
    idle = {} if values.get("qualities") else {"quality_batch": "qualities is empty"}
    if not values.get("collab"):
        idle |= dict.fromkeys(("collab_form", "collab_width", "collab_layers"), "collab is 0")
    return idle


def _idle_in_steps(values: Mapping[str, Any]) -> dict[str, str]:
    idle = {}
    if values.get("optimizer", "sgd") != "sgd":
        idle["momentum"] = "only optimizer: sgd uses it"
    epochs, begins = _epochs(values), values.get("awp_from", AWP_FROM)
    if not values.get("awp"):
        idle["awp_from"] = "awp is 0"
    elif epochs is not None and begins > epochs:
        idle["awp"] = f"awp_from is {begins}, but the last epoch is {epochs}"
        if epochs < AWP_FROM:  # so that the default gives the same model
            idle["awp_from"] = f"the last epoch is {epochs}"
    # worst-cell needs the groups of images, and last says that no validation decides
    if epochs == 1 and values.get("select") not in {WORST_CELL, LAST}:
        idle["select"] = "the training has one epoch"
    if not values.get("ema"):
        idle["ema_warmup"] = "ema is 0"
    return idle


def _epochs(values: Mapping[str, Any]) -> int | None:
    """Return the number of epochs, that of an unlearning if it has its own."""
    epochs = values.get("unlearn_epochs")
    return values.get("num_epochs") if epochs is None else epochs


def _idle_in_schedule(values: Mapping[str, Any]) -> dict[str, str]:
    schedule, epochs = values.get("schedule", "plateau"), _epochs(values)
    falls_after = values.get("lr_decay_epochs", -1)
    idle = {}
    if schedule not in {"plateau", "step"}:
        idle["lr_gamma"] = "only the schedules plateau and step use it"
        idle["lr_decay_epochs"] = f"schedule {schedule} sets the learning rate"
    elif falls_after <= 0:
        idle["lr_gamma"] = f"lr never falls with lr_decay_epochs: {falls_after}"
    elif epochs is not None and falls_after >= epochs:
        idle["lr_decay_epochs"] = "the training does not have more epochs"
    early_stop = values.get("early_stop") or 0
    if epochs is not None and early_stop >= epochs:
        idle["early_stop"] = "the training does not have more epochs"
    return idle


def _idle_if_frozen(values: Mapping[str, Any]) -> dict[str, str]:
    freeze, freeze_bn = values.get("freeze", False), values.get("freeze_bn", True)
    if not freeze:
        return {"freeze_bn": "freeze is false"}
    return {"compile": "a frozen training runs only the last layer"} if freeze_bn else {}


def _is_random(values: Mapping[str, Any]) -> bool:
    """Return whether anything in the augmentation is random."""
    further = [field for spec in SPECS.values() for field in spec.settings.model_fields.items()]
    return (
        any(values.get(key) for key in CHANCES)
        or (values.get("patch_size") or 0) > 0
        or bool(values.get("sbi"))
        or bool(values.get("qualities"))  # their corruptions are drawn with the same seed
        or any(values.get(key, field.default) != field.default for key, field in further)
    )


def _without_patches(values: Mapping[str, Any]) -> str:
    """Return why the patches of a test or validation are whole crops, or ''."""
    patch, crop = values.get("patch_size", -1), values.get("resize_size", 256)
    return f"patch_size is {patch}, so each patch is the whole crop" if not 0 < patch < crop else ""
