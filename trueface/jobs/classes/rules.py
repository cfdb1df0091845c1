"""The rules and checks of the job types `classify` and `forget`: no torch here. See `trueface.jobs.rule`."""

from collections.abc import Iterator, Mapping, Sequence

from launcher.api import Draft, UsageError
from trueface.data.vocabulary import (
    DataIdResolver,
    class_dataset_type,
    class_index,
    find_classes,
)
from trueface.jobs.rule import PlanCheck, Rule
from trueface.jobs.rules import (
    describe_no_mean,
    refuse_base,
    refuse_flipped_labels,
    refuse_tensorboard,
    unfit_accumulation,
    unfit_precision,
)
from trueface.runtime.errors import DataError
from trueface.training.objectives.registry import objectives

UNKNOWN_CLASSES = 3  # classes of data that is not there yet: enough for every method


def _class_names(draft: Draft) -> tuple[str, ...]:
    """Return the classes in a job's data folder, or () if the folder has no such data set (yet).

    Raises:
        UsageError: the path begins with the home folder of an unknown user.
    """
    root = draft.path(draft.settings["data_root"])

    def names() -> tuple[str, ...]:
        try:
            return find_classes(class_dataset_type(draft.data or ""), root).names
        except (UsageError, DataError, OSError):  # another rule or the job reports it
            return ()

    return draft.once(("class names", draft.data, str(root)), names)


def _unknown_data_set(draft: Draft) -> Iterator[str]:
    try:
        class_dataset_type(draft.data or "")
    except UsageError as error:
        yield str(error)


def _unfit_method(draft: Draft) -> Iterator[str]:
    """Yield why the method cannot forget the class or the images."""
    # slow to import, and the start of a training needs no methods
    from trueface.unlearning.registry import TaskProperties, refusal
    from trueface.unlearning.settings import conflicts

    settings = draft.settings
    try:
        names = _class_names(draft)
        if names and not settings["forget_fraction"]:
            class_index(names, settings["forget_class"])
    except UsageError as error:
        yield str(error)
        return
    task = TaskProperties(
        goal="instances" if settings["forget_fraction"] else "class",
        classes=len(names) or UNKNOWN_CLASSES,
    )
    if reason := refusal(settings["method"], task, force=settings["force"]):
        yield reason
    yield from conflicts(settings, task.goal, task.classes)


@PlanCheck
def check_repetition(draft: Draft, makers: Sequence[Draft], _: DataIdResolver) -> Iterator[str]:
    """Refuse to forget images (not a class) in one of several unlearnings."""
    earlier = [maker.settings for maker in makers if maker.kind == "forget"]
    if earlier and any(each.get("forget_fraction") for each in (draft.settings, *earlier)):
        from trueface.unlearning.settings import SINGLE  # as above

        yield SINGLE.format(base=draft.base)


@PlanCheck
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


def _refuse_accumulation(draft: Draft) -> Iterator[str]:
    """Refuse steps of several batches with a loss that is not a mean over images."""
    if draft.settings["accumulate"] > 1 and not objectives()[draft.settings["objective"]].mean:
        yield describe_no_mean(draft)


RULES: Mapping[str, Sequence[Rule | PlanCheck]] = {
    "classify": (
        refuse_flipped_labels,
        _unknown_data_set,
        refuse_base,
        refuse_tensorboard,
        _refuse_accumulation,
    ),
    "forget": (
        refuse_flipped_labels,
        _unknown_data_set,
        check_base,
        check_repetition,
        _unfit_method,
        unfit_precision,
        unfit_accumulation,
    ),
}
