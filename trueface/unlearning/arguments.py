"""Checks of the arguments of `api.run`, made before anything is done."""

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
from trueface.unlearning.hyperparameters import Options, TrainingOptions
from trueface.unlearning.registry import METHODS, Goal, Method


def check_sorts(
    model: object, forget: object, retain: object, validation: object, goal: str | None
) -> None:
    """Refuse what is no model, no samples, or no goal.

    Raises:
        UsageError: says which, and how to make it.
    """
    if not isinstance(model, nn.Module):
        raise UsageError(f"the model is a {type(model).__name__}, and not a torch module")
    halves = {weight.dtype for weight in model.parameters() if weight.dtype.itemsize < 4}
    if any(dtype.is_floating_point for dtype in halves):
        raise UsageError(
            f"the model's weights are {', '.join(map(str, halves))}: their small steps would be lost; "
            'give it in float32, and Watch(precision="bf16") for the arithmetic'
        )
    for what, samples in (("forget", forget), ("retain", retain), ("validation", validation)):
        if not isinstance(samples, Examples) and not (what == "retain" and samples is None):
            raise UsageError(
                f"{what} is a {type(samples).__name__}: make it with trueface.unlearning.examples(inputs, "
                "labels), or examples_of(dataset, name)"
            )
    if goal is not None and goal not in get_args(Goal):
        raise UnknownName("goal", goal, get_args(Goal))


def options_of(method: Method, options: Options | Mapping[str, Any]) -> Options:
    """Return hyperparameters as the class that the method's imported file has.

    Args:
        method: as its file registered it.
        options: values by name, or an object: of that class, or of its twin, which was read from
            the file's text for settings.

    Raises:
        UsageError: they are another method's, or it does not take them.
    """
    own, declared = method.hyperparameters, METHODS[method.name].hyperparameters
    if isinstance(options, Options):
        if not isinstance(options, (own, declared)):
            raise UsageError(
                f"options of {method.name}: these are {type(options).__name__}, not {own.__name__}"
            )
        return options if isinstance(options, own) else own.model_validate(options.model_dump())
    try:
        return own.model_validate(dict(options))
    except ValidationError as error:
        reasons = [f"{part['loc'][0]}: {part['msg']}" for part in error.errors(include_url=False)]
        names = ", ".join(own.model_fields)
        raise UsageError(
            f"options of {method.name}: {'; '.join(reasons)} (it has {names})"
        ) from error


def check_precision(name: str, options: Options, precision: str, *, plain: bool) -> None:
    """Refuse fp16 where nothing scales the gradients.

    Args:
        name: of the method.
        options: of the method; `TrainingOptions` are of a method that is a training.
        precision: of the network's arithmetic.
        plain: such trainings are `learn_plainly`, which does not scale them either.

    Raises:
        UsageError: fp16.
    """
    if precision == "fp16" and (plain or type(options) is not TrainingOptions):
        raise UsageError(
            f"{name} does not scale its gradients, and those of fp16 would vanish; take bf16 or fp32"
        )


def classes_of(model: nn.Module, forget: Examples, watch: Watch) -> int:
    """Return the number of classes of a model."""
    if not len(forget):
        raise JobError("there is nothing to forget: the forget set is empty")
    model.eval()
    with torch.inference_mode(), autocast(watch.device, watch.precision):
        for batch in forget.batches("trained", epoch=None, batch_size=2):
            return int(wide(model(batch.inputs.to(watch.device))).shape[1])
    raise JobError(f"not one of {len(forget)} samples to forget could be read")


def goal_of(forget: Examples, retain: Examples | None) -> Goal:
    """Return what the labels say: flipped ones, classes that are not kept, or some samples."""
    if forget.true is not None and forget.true != forget.trained:
        return "flips"
    if retain is not None and not set(forget.trained) & set(retain.trained):
        return "class"
    return "instances"


def check(forget: Examples, retain: Examples | None, validation: Examples, classes: int) -> None:
    """Refuse samples that leave nothing to do, or whose classes the model does not have.

    Raises:
        JobError: says which.
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
    for what, samples in (("forget", forget), ("retain", retain), ("validation", validation)):
        if samples is not None and not set(samples.trained) <= set(range(classes)):
            odd = sorted(set(samples.trained) - set(range(classes)))
            raise JobError(
                f"the {what} set has class {odd[0]}, and the model tells {classes} classes apart "
                f"(0 to {classes - 1})"
            )
