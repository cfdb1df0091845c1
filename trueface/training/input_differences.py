"""Differences between the images of a training and those that its base or teacher was made for. No torch here."""

from collections.abc import Iterator, Mapping
from typing import Any

from trueface.data.settings import other_decoding

OWN = "model"  # the normalization that a network's own numbers decide


def iter_differences(
    base_settings: Mapping[str, Any], own_settings: Mapping[str, Any], *, keeps_normalization: bool
) -> Iterator[str]:
    """Yield each setting in which images reach two networks differently, with both values.

    Args:
        base_settings: settings of the job that made the base or teacher: a training, or a published checkpoint.
        own_settings: settings of the training.
        keeps_normalization: whether the training takes over the earlier normalization if it sets none.
    """
    names = ("crop" if _is_published(base_settings) else "resize_size", "resize_size")
    sizes = [
        settings.get(name)
        for settings, name in zip((base_settings, own_settings), names, strict=True)
    ]
    if None not in sizes and sizes[0] != sizes[1]:
        yield f"{names[0]}: {sizes[0]}, and this job uses {names[1]}: {sizes[1]}"
    patches = [max(settings.get("patch_size", 0), 0) for settings in (base_settings, own_settings)]
    if patches[0] != patches[1]:
        yield f"patch_size: {patches[0]}, and this job uses patch_size: {patches[1]}"
    normalizations = _normalization(base_settings), _normalization(own_settings)
    is_kept = keeps_normalization and normalizations[1] == OWN
    if normalizations[0] != normalizations[1] and not is_kept:
        yield (
            f"normalization: {normalizations[0]}, and this job uses normalization: {normalizations[1]}"
        )


def unfit_teacher(
    teacher: str, base_settings: Mapping[str, Any], own_settings: Mapping[str, Any]
) -> str:
    """Return why a teacher would see images that are decoded or resized otherwise than its own; '' if not.

    Args:
        teacher: for the sentence.
        base_settings: settings of the job that made it.
        own_settings: settings of the training.
    """
    if _is_published(base_settings):
        if not base_settings.get("resize"):
            return ""
        return (
            f"teacher {teacher} was published with images that are resized to {base_settings['resize']} pixels. The "
            "training does not do this. Take it over with resize: 0 and give images of that size, or use another "
            "teacher."
        )
    if differs := other_decoding(base_settings, own_settings):
        return f"teacher {teacher} is trained with {differs}. Use the same value in both trainings."
    return ""


def _is_published(settings: Mapping[str, Any]) -> bool:
    """Return whether settings are those of a checkpoint that others published."""
    return "resize_size" not in settings and "crop" in settings


def _normalization(settings: Mapping[str, Any]) -> str:
    if settings.get("mean"):
        return f"{settings['mean']}/{settings['std']}"
    return str(settings.get("normalization", OWN))
