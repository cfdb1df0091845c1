"""Which part of the laboratory changes or shows pixels, and is refused for networks of landmarks. No torch here."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from launcher.api import Draft, UsageError, parse_data, parse_model
from trueface.corruptions.registry import NONE
from trueface.data.augmentations.registry import SPECS
from trueface.data.folders import CALIBRATED_LANDMARKS
from trueface.data.index import part_files
from trueface.data.vocabulary import DataIdResolver
from trueface.jobs.clip_parts import TRAIN, settings_behind
from trueface.jobs.rule import PlanCheck
from trueface.models.registry import needs_pixels, reads_landmarks, spec_of
from trueface.poisoning.poison_record import PATCH
from trueface.runtime.errors import DataError
from trueface.training.objectives.registry import choice, objectives, used_objective

FLIP_PROB = 0.5  # the default, which does nothing to landmarks; other values are refused
CHANGES = (
    "resize_prob",
    "blur_prob",
    "jpeg_prob",
    "sbi",
)  # settings of trainings that change pixels
OF_TESTS = ("corrupt", "attack", "trigger", "save_images", "test_crops")


def pixel_part(settings: Mapping[str, Any]) -> str:
    """Return the setting of a test or benchmark that changes or shows pixels, as written; '' if none does."""
    for name in OF_TESTS:
        value = settings.get(name)
        words = [value] if isinstance(value, str) else value
        if isinstance(words, Sequence):
            words = [str(word) for word in words if word != NONE]
            if words:
                return f"{name}: {', '.join(words)}"
        elif value:
            return f"{name}: {str(value).lower()}"
    return ""


def refuse_pixel_training(draft: Draft) -> Iterator[str]:
    """Yield what a training of landmarks does not take."""
    settings, name = draft.settings, draft.settings["model"]
    if not reads_landmarks(name):
        return
    with suppress(UsageError):
        poison = parse_model(draft.model or "").last.poison
        if poison is not None and poison.kind == PATCH:
            yield f"{draft.model}: {needs_pixels(f'poison: {poison}', name)}"
    for setting in CHANGES:
        if settings[setting]:
            yield f"{draft.model}: {needs_pixels(f'{setting}: {settings[setting]:g}', name)}"
    if settings["flip_prob"] not in {0, FLIP_PROB}:
        user = f"flip_prob: {settings['flip_prob']:g}"
        yield f"{draft.model}: {needs_pixels(user, name)}"
    for augmentation in SPECS.values():
        for field, facts in augmentation.settings.model_fields.items():
            if settings.get(field, facts.default) != facts.default:
                yield f"{draft.model}: {needs_pixels(f'{field}: {settings[field]}', name)}"
    own = next(each.name for each in objectives().values() if each.network == name)
    if used_objective(settings) != own:
        yield (
            f"{draft.model}: model {name} learns by objective: {own}, the sum of the losses of its networks, not by "
            f"{choice(settings)}. Set objective: {own}."
        )


@PlanCheck
def check_landmarks(
    draft: Draft, makers: Sequence[Draft], vocabulary: DataIdResolver
) -> Iterator[str]:
    """Yield that the videos of a job have no landmarks, if its model reads them and the videos exist."""
    settings = draft.settings if draft.kind == TRAIN else settings_behind(draft, makers)
    name, data = settings.get("model") or settings.get("architecture"), draft.images or draft.data
    if not isinstance(name, str) or not reads_landmarks(name) or data is None:
        return
    root = draft.path(draft.settings["data_root"])
    vocabulary = vocabulary.with_layout(draft.settings["layout"])
    key = ("landmarks", root, data, vocabulary)
    if draft.once(key, partial(_lacks_landmarks, root, data, vocabulary)):
        yield (
            f"{draft.model}: model {name} reads landmarks, but no video of {data} in {root} has calibrated landmarks. "
            "Import the videos with trueface import --landmarks."
        )


@PlanCheck
def check_stored_images(
    draft: Draft, makers: Sequence[Draft], vocabulary: DataIdResolver
) -> Iterator[str]:
    """Yield that the images of a job show something else than its model reads, if they exist."""
    settings = draft.settings if draft.kind == TRAIN else settings_behind(draft, makers)
    name, data = settings.get("model") or settings.get("architecture"), draft.images or draft.data
    side = spec_of(name).stored_side if isinstance(name, str) else None
    if not isinstance(name, str) or side is None or data is None:
        return
    root = draft.path(draft.settings["data_root"])
    vocabulary = vocabulary.with_layout(draft.settings["layout"])
    found = draft.once(
        ("sides", root, data, vocabulary), partial(_first_size, root, data, vocabulary)
    )
    if found is None:
        return
    file, size = found
    if min(size) > side:
        yield (
            f"{draft.model}: model {name} reads {spec_of(name).stored_as} of {side} by {side} pixels, but {file} has "
            f"{size[0]} by {size[1]}. Make them with trueface import mouths, and set data_root to them."
        )


def _first_size(
    root: Path, data: str, vocabulary: DataIdResolver
) -> tuple[str, tuple[int, int]] | None:
    """Return the first image of a data ID that can be read, with its width and height."""
    from trueface.runtime.image_files import open_image  # Pillow: few plans need it

    try:
        for part in parse_data(data):
            for file in part_files(root, part, vocabulary):
                # a broken header is reported elsewhere
                with suppress(OSError, ValueError, SyntaxError), open_image(file) as image:
                    return file, image.size
    except (UsageError, DataError, OSError):  # reported elsewhere
        return None
    return None


def _lacks_landmarks(root: Path, data: str, vocabulary: DataIdResolver) -> bool:
    """Return whether there are videos, and none has calibrated landmarks."""
    try:
        folders = {
            file.rpartition("/")[0]
            for part in parse_data(data)
            for file in part_files(root, part, vocabulary)
        }
    except (UsageError, DataError, OSError):  # reported elsewhere
        return False
    return bool(folders) and not any(
        (Path(folder) / CALIBRATED_LANDMARKS).exists() for folder in folders
    )


@PlanCheck
def check_landmark_model(draft: Draft, makers: Sequence[Draft], _: DataIdResolver) -> Iterator[str]:
    """Yield what a test or benchmark does to pixels, if its model reads landmarks."""
    settings = settings_behind(draft, makers)
    name = settings.get("model") or settings.get("architecture")
    if not isinstance(name, str) or not reads_landmarks(name):
        return
    if part := pixel_part(draft.settings):
        yield f"{draft.model}: {needs_pixels(part, name)}"
