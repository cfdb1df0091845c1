"""Comparison of a planned training with its base and its teacher: how images reach each network. No torch here."""

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from launcher.api import Draft, read_json
from trueface.data.settings import other_decoding
from trueface.jobs.lineage import planned_teacher
from trueface.runtime import paths
from trueface.training.image_lists import ancestor
from trueface.training.input_differences import iter_differences, unfit_teacher


def find_unfit_models(draft: Draft) -> Iterator[str]:
    """Yield why the images of a training do not fit its teacher, or its base of an earlier run."""
    base = (
        draft.base and not draft.plan_makers.get(draft.base) and _find_settings(draft, draft.base)
    )
    # a published base has its own check, and one of this plan another
    if base and "resize_size" in base and (differs := other_decoding(base, draft.settings)):
        yield f"{draft.base} is trained with {differs}. Use the same value in both."
    teacher = planned_teacher(draft)
    earlier = _find_settings(draft, teacher) if teacher else None
    if earlier and (reason := unfit_teacher(teacher, earlier, draft.settings)):
        yield f"{draft.model}: {reason}"


def find_unlike_models(draft: Draft) -> Iterator[str]:
    """Yield warnings of settings in which images reach the base or teacher differently."""
    if draft.base and (earlier := _find_settings(draft, draft.base)):
        for differs in iter_differences(earlier, draft.settings, keeps_normalization=True):
            name = differs.partition(":")[0]
            remedy = "Leave it out" if name == "normalization" else "Use the same value"
            yield (
                f"{draft.model}: its base {draft.base} was trained with {differs}. {remedy} if the network shall "
                "see the same kind of images."
            )
    teacher = planned_teacher(draft)
    if teacher and (earlier := _find_settings(draft, teacher)):
        is_kept = draft.base is not None  # the normalization of the base is not compared
        for differs in iter_differences(earlier, draft.settings, keeps_normalization=is_kept):
            yield (
                f"{draft.model}: its teacher {teacher} was trained with {differs}. Use the same value if both "
                "networks shall see the same images."
            )


def _find_settings(draft: Draft, model: str) -> Mapping[str, Any] | None:
    """Return the settings of the job that makes or made a model, None if they are not known here."""
    if makers := draft.plan_makers.get(model):
        return makers[-1].settings
    folder = ancestor(model, draft.model_folder).folder
    return None if folder is None else draft.once(("made with", folder), partial(_read, folder))


def _read(folder: Path) -> Mapping[str, Any] | None:
    try:
        settings = (read_json(paths.provenance(folder)) or {}).get("settings")
    except (OSError, ValueError):  # a name that no file system takes
        return None
    return settings if isinstance(settings, dict) else None
