"""The kinds `classify` and `forget`, as the launcher plans them: no torch here."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from launcher.api import DataId, Draft, Role, UsageError, parse_model
from trueface.data.vocabulary import (
    ClassFolders,
    DataIdResolver,
    class_data,
    class_dataset_type,
    class_index,
    find_classes,
)
from trueface.jobs.job_kind import (
    EPOCHS,
    JobKind,
    base_inputs,
    command_line,
    device_flag,
    inputs_from_settings,
    model_files,
    model_of,
)
from trueface.jobs.refusals import check_tensorboard
from trueface.runtime import paths
from trueface.runtime.errors import DataError
from trueface.training.class_settings import ClassifySettings
from trueface.unlearning.registry import Goal, TaskProperties, refusal
from trueface.unlearning.settings import SINGLE, ForgetSettings, differences

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


def _of_both(draft: Draft, *_: object) -> Iterator[str]:
    if parse_model(model_of(draft)).last.poison is not None:
        yield f"{draft.model}: {draft.kind} does not support flipped labels. Leave out '%' in the ID."
    try:
        class_dataset_type(draft.data or "")
    except UsageError as error:
        yield str(error)


def _has_base(draft: Draft, *_: object) -> Iterator[str]:
    if draft.base is not None:
        yield f"{draft.model}: classify does not start from another model. Write model: null"


def _unfit_forgetting(draft: Draft, makers: Sequence[Draft], _: DataIdResolver) -> Iterator[str]:
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


def _other_base(draft: Draft, makers: Sequence[Draft], _: DataIdResolver) -> Iterator[str]:
    """Refuse settings that differ from those of the base's training, which are the model's own."""
    if not makers:
        return
    trained = makers[0].settings
    for key in differences(trained, draft.settings):
        yield (
            f"{makers[0].model} is trained with {key}: {trained.get(key)}, but this unlearning has "
            f"{draft.settings[key]}. Give both the same value, such as under defaults."
        )


def _line(draft: Draft) -> Iterator[str]:
    """Return a command line that does the same."""
    base = ("--base", draft.base) if draft.base else ()
    head = (draft.kind, model_of(draft), "--name", draft.run, *base, *device_flag(draft))
    settings = ForgetSettings if draft.kind == FORGET.name else ClassifySettings
    return command_line(draft, settings, *head, without=("method",))


def _resolve_class_data(_: DataIdResolver, data: DataId) -> DataId:
    return class_data(data)


INPUTS = (inputs_from_settings({"data_root": "the data folder"}), base_inputs)
CLASSIFY = JobKind(
    name="classify",
    role=Role.TRAIN,
    summary="train a classifier of image classes",
    entry="trueface.jobs.classes.classification:classify",
    settings=ClassifySettings,
    resolve_data=_resolve_class_data,
    accepts_custom_words=False,
    input_readers=INPUTS,
    list_outputs=model_files(paths.history),
    build_command=_line,
    refusal_checks=(_of_both, _has_base, check_tensorboard),
    epochs=EPOCHS,
)
FORGET = JobKind(
    name="forget",
    role=Role.METHOD,
    summary="unlearn a class or images of a classifier",
    entry="trueface.jobs.classes.forgetting:forget",
    settings=ForgetSettings,
    resolve_data=_resolve_class_data,
    accepts_custom_words=False,
    input_readers=INPUTS,
    list_outputs=model_files(paths.unlearning),
    build_command=_line,
    refusal_checks=(_of_both, _other_base, _unfit_forgetting),
)
