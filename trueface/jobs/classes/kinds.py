"""The kinds `classify` and `forget`, as the launcher plans them: no torch here."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from launcher.api import DataId, Draft, Role, UsageError, parse_model
from trueface.data.vocabulary import (
    ClassFolders,
    Vocabulary,
    class_data,
    class_number,
    find_classes,
    sort_of,
)
from trueface.jobs.job_kind import (
    EPOCHS,
    JobKind,
    base_inputs,
    command_line,
    device_flag,
    model_files,
    model_of,
    named_inputs,
)
from trueface.jobs.refusals import no_tensorboard
from trueface.runtime import paths
from trueface.runtime.errors import DataError
from trueface.training.class_settings import ClassifySettings
from trueface.unlearning.registry import Goal, Situation, refusal
from trueface.unlearning.settings import SINGLE, ForgetSettings, differences

UNKNOWN_CLASSES = 3  # of data that is not there yet: enough for every method


def place_of(draft: Draft) -> ClassFolders | None:
    """Return where a job's data set lies; None where it does not, or not yet.

    Raises:
        UsageError: its data ID names none.
    """
    root, sort = draft.path(draft.settings["data_root"]), sort_of(draft.data or "")

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
        sort_of(draft.data or "")
    except UsageError as error:
        yield str(error)


def _has_base(draft: Draft, *_: object) -> Iterator[str]:
    if draft.base is not None:
        yield f"{draft.model}: classify does not start from another model. Write model: null"


def _unfit_forgetting(draft: Draft, makers: Sequence[Draft], _: Vocabulary) -> Iterator[str]:
    settings = draft.settings
    goal: Goal = "instances" if settings["forget_fraction"] else "class"
    if _again(settings, makers):
        yield SINGLE.format(base=draft.base)
        return
    try:
        place = place_of(draft)
        if place is not None and goal == "class":
            class_number(place.names, settings["forget_class"])
    except UsageError as error:
        yield str(error)
        return
    classes = UNKNOWN_CLASSES if place is None else len(place.names)
    where = Situation(goal=goal, classes=classes)
    if reason := refusal(settings["method"], where, force=settings["force"]):
        yield reason


def _again(settings: Mapping[str, Any], makers: Sequence[Draft]) -> bool:
    """Tell whether images shall be forgotten, or were, in one of several forgettings."""
    earlier = [maker.settings for maker in makers if maker.kind == "forget"]
    return bool(earlier) and any(maker.get("forget_fraction") for maker in (settings, *earlier))


def _other_base(draft: Draft, makers: Sequence[Draft], _: Vocabulary) -> Iterator[str]:
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


def _meant(_: Vocabulary, data: DataId) -> DataId:
    return class_data(data)


INPUTS = (named_inputs({"data_root": "the data folder"}), base_inputs)
CLASSIFY = JobKind(
    name="classify",
    role=Role.TRAIN,
    summary="train a classifier of image classes",
    entry="trueface.jobs.classes.classification:classify",
    settings=ClassifySettings,
    means=_meant,
    takes_words=False,
    reads=INPUTS,
    makes=model_files(paths.history),
    line=_line,
    refuses=(_of_both, _has_base, no_tensorboard),
    epochs=EPOCHS,
)
FORGET = JobKind(
    name="forget",
    role=Role.METHOD,
    summary="unlearn a class or images of a classifier",
    entry="trueface.jobs.classes.forgetting:forget",
    settings=ForgetSettings,
    means=_meant,
    takes_words=False,
    reads=INPUTS,
    makes=model_files(paths.unlearning),
    line=_line,
    refuses=(_of_both, _other_base, _unfit_forgetting),
)
