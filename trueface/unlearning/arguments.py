"""What a caller gives to an unlearning, checked before anything is done."""

from collections.abc import Mapping
from typing import Any, get_args

import torch
from pydantic import ValidationError
from torch import nn

from trueface.data.examples import Examples
from trueface.models.logits import wide
from trueface.runtime.errors import JobError, UnknownName, UsageError
from trueface.runtime.precision import autocast
from trueface.runtime.progress import Watch
from trueface.unlearning.applicability import Goal
from trueface.unlearning.hyperparameters import OPTIONS, Options


def check_sorts(
    model: object, forget: object, retain: object, validation: object, goal: str | None
) -> None:
    """Refuse what is no model, no samples, or no goal.

    Raises:
        UsageError: so it is.
    """
    if not isinstance(model, nn.Module):
        raise UsageError(f"the model is a {type(model).__name__}, and not a torch module")
    halves = {one.dtype for one in model.parameters() if one.dtype.itemsize < 4}
    if any(dtype.is_floating_point for dtype in halves):
        raise UsageError(
            f"the model's weights are {', '.join(map(str, halves))}: their small steps would be lost; "
            'give it in float32, and Watch(precision="bf16") for the arithmetic'
        )
    for what, some in (("forget", forget), ("retain", retain), ("validation", validation)):
        if not isinstance(some, Examples) and not (what == "retain" and some is None):
            raise UsageError(
                f"{what} is a {type(some).__name__}: make it with trueface.unlearning.examples(inputs, "
                "labels), or examples_of(dataset, name)"
            )
    if goal is not None and goal not in get_args(Goal):
        raise UnknownName("goal", goal, get_args(Goal))


def options_of(name: str, given: Options | Mapping[str, Any]) -> Options:
    """Return a method's options.

    Raises:
        UsageError: they are another method's, or it does not take them.
    """
    if isinstance(given, Options):
        if not isinstance(given, OPTIONS[name]):
            wanted = OPTIONS[name].__name__
            raise UsageError(f"options of {name}: these are {type(given).__name__}, not {wanted}")
        return given
    try:
        return OPTIONS[name].model_validate(dict(given))
    except ValidationError as error:
        told = [f"{one['loc'][0]}: {one['msg']}" for one in error.errors(include_url=False)]
        known = ", ".join(OPTIONS[name].model_fields)
        raise UsageError(f"options of {name}: {'; '.join(told)} (it has {known})") from error


def classes_of(model: nn.Module, forget: Examples, watch: Watch) -> int:
    """Return how many classes the model tells apart."""
    if not len(forget):
        raise JobError("there is nothing to forget: the forget set is empty")
    model.eval()
    with torch.inference_mode(), autocast(watch.device, watch.precision):
        for batch in forget.batches("trained", epoch=None, batch_size=2):
            return int(wide(model(batch.inputs.to(watch.device))).shape[1])
    raise JobError(f"not one of {len(forget)} samples to forget could be read")


def goal_of(forget: Examples, retain: Examples | None) -> Goal:
    """Return what the labels say: wrong ones, classes that are not kept, or some samples."""
    if forget.true is not None and forget.true != forget.trained:
        return "flips"
    if retain is not None and not set(forget.trained) & set(retain.trained):
        return "class"
    return "instances"


def check(forget: Examples, retain: Examples | None, validation: Examples, classes: int) -> None:
    """Refuse samples that leave nothing to do, or that the model cannot know.

    Raises:
        JobError: so it is.
    """
    if retain is not None and not len(retain):
        raise JobError("everything would be forgotten: nothing of the training set is kept")
    if retain is not None and retain.source.identity == forget.source.identity:
        both = len(set(forget.positions) & set(retain.positions))
        if both:
            raise JobError(
                f"{both} of {len(forget)} samples that are to be forgotten are among those that are "
                "kept: give as `retain` the rest of the training set alone"
            )
    if not len(validation):
        raise JobError(
            "there is no validation sample of what is kept, so no result could be chosen"
        )
    for what, some in (("forget", forget), ("retain", retain), ("validation", validation)):
        if some is not None and not set(some.trained) <= set(range(classes)):
            odd = sorted(set(some.trained) - set(range(classes)))
            raise JobError(
                f"the {what} set has class {odd[0]}, and the model tells {classes} classes apart "
                f"(0 to {classes - 1})"
            )
