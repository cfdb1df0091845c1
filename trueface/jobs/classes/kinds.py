"""The kinds `classify` and `forget`, as the launcher plans them: no torch here."""

from collections.abc import Iterator

from launcher.api import DataId, Draft, Role
from trueface.data.vocabulary import (
    DataIdResolver,
    class_data,
)
from trueface.jobs.classes.rules import RULES
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
from trueface.runtime import paths
from trueface.training.class_settings import ClassifySettings
from trueface.unlearning.settings import ForgetSettings


def _line(draft: Draft) -> Iterator[str]:
    """Return a command line that does the same."""
    base = ("--base", draft.base) if draft.base else ()
    head = (draft.kind, model_of(draft), "--name", draft.run, *base, *device_flag(draft))
    settings = ForgetSettings if draft.kind == FORGET.name else ClassifySettings
    return command_line(draft, settings, *head, excluded_settings=("method",))


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
    rules=RULES["classify"],
    reported_validation=frozenset({"val_accuracy"}),
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
    rules=RULES["forget"],
    reported_validation=frozenset(),
)
