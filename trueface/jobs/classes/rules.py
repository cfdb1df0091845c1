"""The rules and checks of the job types `classify` and `forget`: no torch here. See `trueface.jobs.rule`."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from launcher.api import Draft, UsageError, parse_model
from trueface.data.vocabulary import (
    ClassFolders,
    DataIdResolver,
    class_dataset_type,
    class_index,
    find_classes,
)
from trueface.jobs.rule import Check, Rule
from trueface.jobs.rules import TENSORBOARD
from trueface.runtime.errors import DataError

UNKNOWN_CLASSES = 3  # of data that is not there yet: enough for every method


def find_class_folders(draft: Draft) -> ClassFolders | None:
    """Return the folder of a job's dataset, or None if it does not exist (yet).

    Raises:
        UsageError: its data ID names none.
    """
    root, sort = draft.path(draft.settings["data_root"]), class_dataset_type(draft.data or "")

    def find() -> ClassFolders | None:
        try:
            return find_classes(sort, root)
        except (DataError, OSError):  # the job says why, if it is still so then
            return None

    return draft.once(("classes", sort, str(root)), find)


@Rule
def _unknown_data_set(draft: Draft) -> Iterator[str]:
    try:
        class_dataset_type(draft.data or "")
    except UsageError as error:
        yield str(error)


def check_forgetting(draft: Draft, makers: Sequence[Draft], _: DataIdResolver) -> Iterator[str]:
    """Yield why the class or the images cannot be forgotten by the method; the job asks it of its images."""
    # slow to import, and the start of a training needs no methods
    from trueface.unlearning.registry import Goal, TaskProperties, refusal
    from trueface.unlearning.settings import SINGLE

    settings = draft.settings
    goal: Goal = "instances" if settings["forget_fraction"] else "class"
    if _repeats_forgetting(settings, makers):
        yield SINGLE.format(base=draft.base)
        return
    try:
        place = find_class_folders(draft)
        if place is not None and goal == "class":
            class_index(place.names, settings["forget_class"])
    except UsageError as error:
        yield str(error)
        return
    classes = UNKNOWN_CLASSES if place is None else len(place.names)
    where = TaskProperties(goal=goal, classes=classes)
    if reason := refusal(settings["method"], where, force=settings["force"]):
        yield reason


def _repeats_forgetting(settings: Mapping[str, Any], makers: Sequence[Draft]) -> bool:
    """Return whether images (not a class) are forgotten in one of several unlearnings."""
    earlier = [maker.settings for maker in makers if maker.kind == "forget"]
    return bool(earlier) and any(maker.get("forget_fraction") for maker in (settings, *earlier))


def check_base(draft: Draft, makers: Sequence[Draft], _: DataIdResolver) -> Iterator[str]:
    """Refuse settings that differ from those of the base's training, which are the model's own."""
    if not makers:
        return
    from trueface.unlearning.settings import differences  # as above

    trained = makers[0].settings
    for key in differences(trained, draft.settings):
        yield (
            f"{makers[0].model} is trained with {key}: {trained.get(key)}, but this unlearning has "
            f"{draft.settings[key]}. Give both the same value, such as under defaults."
        )


_BOTH = (
    Rule(
        lambda draft: parse_model(draft.model or "").last.poison,
        "{model}: {kind} does not support flipped labels. Leave out '%' in the ID.",
    ),
    _unknown_data_set,
)
RULES: Mapping[str, Sequence[Check]] = {
    "classify": (
        *_BOTH,
        Rule(
            lambda draft: draft.base is not None,
            "{model}: classify does not start from another model. Write model: null",
        ),
        TENSORBOARD,
    ),
    "forget": (*_BOTH, check_base, check_forgetting),
}
