"""Why tables of attributes do not fit a job, as far as their headers tell."""

import os
from collections.abc import Iterator
from functools import partial

from launcher.api import Draft
from trueface.data.attributes.attributes import attribute_files, columns_in
from trueface.data.attributes.cells import GROUPS_BY
from trueface.data.attributes.table import FORGERY, FORGERY_GROUP
from trueface.runtime.errors import DataError, UnknownName
from trueface.training.fairness.settings import needs_groups
from trueface.training.objectives.registry import objectives, used_objective


def unreadable_attributes(draft: Draft) -> Iterator[str]:
    """Yield what is wrong in the headers of a job's tables of attributes."""
    if isinstance(columns := _columns(draft), str):
        yield columns


def unfit_attributes(draft: Draft) -> Iterator[str]:
    """Yield why the tables of attributes do not give what a training needs."""
    columns = _columns(draft)
    if isinstance(columns, str):
        yield columns
        return
    if columns is None:
        return
    settings = draft.settings
    by, needed = settings["groups_by"], objectives()[used_objective(settings)].columns
    if by not in columns and (needs_groups(settings) or by != GROUPS_BY):
        yield f"groups_by: {UnknownName('column of attributes', by, columns)}"
    if FORGERY_GROUP in needed and FORGERY_GROUP not in columns:
        yield f"{draft.model} learns kinds of forgeries, and attributes has no column {FORGERY}"


def _columns(draft: Draft) -> tuple[str, ...] | str | None:
    """Return the columns of groups, or what is wrong; None where there is no table to be read yet."""
    text = draft.settings.get("attributes", "")
    return draft.once(("attributes", text), partial(_read, draft, text)) if text else None


def _read(draft: Draft, text: str) -> tuple[str, ...] | str | None:
    files = attribute_files(text, draft.path)
    # what an earlier job makes is read when it is there; of what is absent the plan says so itself
    if not all(os.path.isfile(file) for file in files):  # noqa: PTH113  # takes any name
        return None
    try:
        return columns_in(files)
    except DataError as error:
        return str(error)
