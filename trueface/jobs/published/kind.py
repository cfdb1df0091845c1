"""The kind `checkpoint`: a job makes a model of a run from a published file. No torch here."""

from collections.abc import Iterator

from launcher.api import DataId, Draft, Input, Role, UnknownName, UsageError
from trueface.data.vocabulary import PUBLISHED, DataIdResolver
from trueface.jobs.job_kind import (
    JobKind,
    command_line,
    inputs_from_settings,
    model_files,
    model_of,
)
from trueface.jobs.published.rules import RULES
from trueface.models.published_settings import PublishedSettings
from trueface.runtime import paths


def _resolve_name(_: DataIdResolver, data: DataId) -> DataId:
    """Return a data ID such as `published:cnndetection`.

    Raises:
        UnknownName: another subset.
        UsageError: a union.
    """
    parts = tuple(data)
    for part in parts:
        if part.subset != PUBLISHED:
            raise UnknownName("subset of a published model", part.subset, (PUBLISHED,))
    if len(parts) > 1:
        raise UsageError(f"{data}: a published model has one name, such as {parts[0]}")
    return data


def _weight_files(draft: Draft, _: DataIdResolver) -> Iterator[Input]:
    """Yield the files of the weights."""
    settings = PublishedSettings.model_validate(draft.settings)
    for name, file in settings.weight_files.items():
        part = f" ({name})" if name else ""
        yield Input(path=draft.path(file), what=f"the published checkpoint{part}")


def _line(draft: Draft) -> Iterator[str]:
    """Return the command line of `trueface checkpoint`."""
    head = ("checkpoint", model_of(draft), "--name", draft.run)
    return command_line(draft, PublishedSettings, *head)


CHECKPOINT = JobKind(
    name="checkpoint",
    role=Role.TRAIN,
    summary="take a published checkpoint over, without training",
    entry="trueface.jobs.published.adoption:adopt",
    settings=PublishedSettings,
    resolve_data=_resolve_name,
    accepts_custom_words=False,
    input_readers=(
        _weight_files,
        inputs_from_settings(
            {"base_weights": "the file of the tensors that the published checkpoint does not have"}
        ),
    ),
    list_outputs=model_files(paths.provenance),
    build_command=_line,
    rules=RULES["checkpoint"],
)
