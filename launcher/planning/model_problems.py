"""The problems of models that a task file names or makes: ambiguous, listed twice, made in two ways."""

from collections.abc import Iterable

from launcher.errors import Problem, Severity
from launcher.ids import ModelId
from launcher.planning.model_requests import (
    PlannedModel,
)
from launcher.taskfile.settings import spelt
from launcher.taskfile.values import At

MOST_LISTED = 8  # models named in a message


def ambiguous_model(named: At[ModelId], plain: Iterable[str]) -> Problem:
    """Return the problem of an ID that stands for models with several `plain` IDs."""
    return Problem(
        code="ambiguous-model",
        message=f"{named.value} names images on which several models are trained here",
        place=named.node.place,
        hint="write one of them as it is written in its entry",
        notes=(f"they are {' and '.join(sorted(plain))}",),
    )


def made_once(kept: PlannedModel, again: PlannedModel) -> Problem:
    """Return the warning that two entries ask for the same model."""
    first, second = str(kept.model), str(again.model)
    if first == second:
        message = f"{second} is listed twice: it is made once"
    else:
        message = f"{second} is the same model as {first}: it is made once, under that name"
    return Problem(
        code="same-model",
        message=message,
        severity=Severity.WARNING,
        place=again.request.node.place,
        notes=(f"first in {_line(kept, again)}",),
    )


def made_twice(kept: PlannedModel, again: PlannedModel) -> Problem:
    """Return the problem of two entries that make one model with different settings."""
    before, after = kept.request.variant.settings.values, again.request.variant.settings.values
    changed = [name for name in after if before.get(name) != after[name]]
    differences = [
        f"{name}: {spelt(before.get(name))} and {spelt(after[name])}" for name in changed
    ]
    return Problem(
        code="duplicate-job",
        message=f"{again.model} would be made twice, in different ways",
        place=again.request.node.place,
        hint="sweep what differs with matrix, or give one of them a task file of its own",
        notes=(f"first in {_line(kept, again)}", *differences[:MOST_LISTED]),
    )


def _line(first: PlannedModel, second: PlannedModel) -> str:
    place = first.request.node.place
    file = "" if place.file == second.request.node.place.file else f"{place.file}, "
    return f"{file}line {place.line}"
