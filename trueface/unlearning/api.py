"""The request and result of an unlearning method, and the call that applies one.

A method works on samples, classes and a torch model: it knows neither files nor data IDs nor the
launcher, and nothing of detectors. It is a function from `Request` to `Result`, in a file of
`trueface.unlearning.methods`, below `@register_method`.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar, get_args

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from trueface.data.examples import CostCounter, Examples
from trueface.evaluation.forward import predict_examples
from trueface.models.logits import as_multiclass_logits
from trueface.predictions.predictions import Predictions
from trueface.runtime import memory
from trueface.runtime.errors import JobError, UnknownName, UsageError
from trueface.runtime.precision import autocast
from trueface.runtime.progress import RunContext
from trueface.runtime.timer import now
from trueface.unlearning import registry
from trueface.unlearning.cache import Cache, fingerprint
from trueface.unlearning.hyperparameters import DescentOptions, Options
from trueface.unlearning.optimization import Step, TrainFunction, default_training
from trueface.unlearning.registry import (
    METHODS,
    Goal,
    TaskProperties,
    admit,
    load,
    refuse_precision,
)


def check_argument_types(
    model: object, forget: object, retain: object, validation: object, goal: str | None
) -> None:
    """Reject an invalid model, invalid samples or an invalid goal.

    Raises:
        UsageError: with the invalid argument, and a valid form.
    """
    if not isinstance(model, nn.Module):
        raise UsageError(f"the model is not a torch module but a {type(model).__name__}")
    halves = {weight.dtype for weight in model.parameters() if weight.dtype.itemsize < 4}
    if any(dtype.is_floating_point for dtype in halves):
        raise UsageError(
            f"the model's weights are {', '.join(map(str, halves))}, which loses small steps. Convert "
            'the model to float32 and pass RunContext(precision="bf16") for the arithmetic.'
        )
    for name, samples in (("forget", forget), ("retain", retain), ("validation", validation)):
        if not isinstance(samples, Examples) and not (name == "retain" and samples is None):
            raise UsageError(
                f"{name} is a {type(samples).__name__}. Create it with "
                "trueface.unlearning.examples(inputs, labels) or examples_of(dataset, name)."
            )
    if goal is not None and goal not in get_args(Goal):
        raise UnknownName("goal", goal, get_args(Goal))


def options_of(method: registry.Method, options: Options | Mapping[str, Any]) -> Options:
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
                f"options of {method.name}: expected {own.__name__}, got {type(options).__name__}"
            )
        return (
            options
            if isinstance(options, own)
            else own.model_validate(options.model_dump(exclude_unset=True))
        )
    try:
        return own.model_validate(dict(options))
    except ValidationError as error:
        reasons = [f"{part['loc'][0]}: {part['msg']}" for part in error.errors(include_url=False)]
        names = ", ".join(own.model_fields)
        raise UsageError(
            f"options of {method.name}: {'; '.join(reasons)} (options: {names})"
        ) from error


def classes_of(model: nn.Module, forget: Examples, watch: RunContext) -> int:
    """Return the number of classes of a model."""
    if not len(forget):
        raise JobError("the forget set is empty")
    model.eval()
    with torch.inference_mode(), autocast(watch.device, watch.precision):
        for batch in forget.batches("trained", epoch=None, batch_size=2):
            return int(as_multiclass_logits(model(batch.inputs.to(watch.device))).shape[1])
    raise JobError(f"none of the {len(forget)} samples of the forget set could be read")


def infer_goal(forget: Examples, retain: Examples | None) -> Goal:
    """Return the goal by the labels: flips, classes outside of the retain set, or some samples."""
    if forget.true is not None and forget.true != forget.trained:
        return "flips"
    if retain is not None and not set(forget.trained) & set(retain.trained):
        return "class"
    return "instances"


def check_example_sets(
    forget: Examples, retain: Examples | None, validation: Examples, classes: int
) -> None:
    """Refuse samples that leave nothing to do, or whose classes the model does not have.

    Raises:
        JobError: with the invalid sample.
    """
    if retain is not None and not len(retain):
        raise JobError("the retain set is empty, so everything would be forgotten")
    if retain is not None and retain.source.identity == forget.source.identity:
        both = len(set(forget.positions) & set(retain.positions))
        if both:
            raise JobError(
                f"{both} of {len(forget)} samples of the forget set are also in the retain set. "
                "Pass only the rest of the training set as `retain`."
            )
    if not len(validation):
        raise JobError("validation contains no sample of a kept class, so no result can be chosen")
    for name, samples in (("forget", forget), ("retain", retain), ("validation", validation)):
        if samples is not None and not set(samples.trained) <= set(range(classes)):
            odd = sorted(set(samples.trained) - set(range(classes)))
            raise JobError(
                f"the {name} set has class {odd[0]}, but the model has {classes} classes "
                f"(0 to {classes - 1})"
            )


NOTABLE_LOSS = 0.1  # loss of validation accuracy, 0 to 1, that is worth a note
Own = TypeVar("Own", bound=Options)


SETS = ("forget", "validation")  # on which each model is measured


def accuracies_of(predictions: Mapping[str, Predictions]) -> dict[str, float | None]:
    """Return accuracies in 0 … 1: on the forget set against both labels, on validation."""
    return {
        "forget_accuracy_trained": predictions["forget"].accuracy("trained"),
        "forget_accuracy_true": predictions["forget"].accuracy("true"),
        "val_accuracy": predictions["validation"].accuracy("trained"),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The inputs that a method may use."""

    model: nn.Module  # as it was trained; the method may change it in place
    forget: Examples  # samples whose influence shall go
    retain: Examples | None  # the rest of the training set; None: it must not be read
    validation: Examples  # clean, never part of the training; what chooses between results
    options: Options  # options of this method
    goal: Goal
    classes: int  # K; 2 for a single logit
    fresh: Callable[[], nn.Module] | None  # a new model, as that one was before its training
    learn: TrainFunction  # trains models of this kind
    cache: Cache
    meter: CostCounter
    watch: RunContext
    seed: int
    ids: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # IDs of the samples of SETS

    def own(self, kind: type[Own]) -> Own:
        """Return the method's options."""
        if not isinstance(self.options, kind):
            raise TypeError(
                f"expected options of type {kind.__name__}, got {type(self.options).__name__}"
            )
        return self.options

    def logits(self, inputs: Tensor, model: nn.Module | None = None) -> Tensor:
        """Return wide logits (B, K) float32 of a batch, on the device, at the wanted precision."""
        with autocast(self.watch.device, self.watch.precision):
            return as_multiclass_logits(
                (model or self.model)(inputs.to(self.watch.device, non_blocking=True))
            )

    def predict_sets(
        self,
        model: nn.Module | None = None,
        names: Collection[str] = SETS,
        *,
        count_cost: bool = False,
    ) -> dict[str, Predictions]:
        """Return predictions of the forget set and of validation.

        Args:
            model: None: the one at hand.
            names: which of both.
            count_cost: the method uses them, so their time and samples count as the method's.

        Raises:
            JobError: a logit is not finite.
        """
        model = self.model if model is None else model
        sets = {"forget": self.forget, "validation": self.validation}
        with nullcontext() if count_cost else self.meter.pause_counting():
            return {
                name: predict_examples(model, sets[name], self.watch, self.ids.get(name))
                for name in names
            }


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The result of a method."""

    model: nn.Module
    log: tuple[Step, ...] = ()  # steps from 1, in order
    notes: tuple[str, ...] = ()  # remarks on the run for the user, a sentence each
    # predictions of a model for SETS, if the method has made them, and the fingerprint of that model
    predictions: Mapping[str, Predictions] | None = None
    predicted_model: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnlearningReport:
    """The unlearned model, its cost and its measurements."""

    model: nn.Module
    log: tuple[Step, ...]  # the first is the model before unlearning, the last the returned one
    seconds: float  # time of the method alone, without what the cache holds or was made for it
    samples_read: int  # samples of both sets in that time, repeated ones counted again
    cached_seconds: float  # time, now or earlier, for making what the method read from the cache
    cached_samples: int
    peak_bytes: int | None  # most memory while the method ran; None: unknown
    notes: tuple[str, ...]
    predictions: Mapping[str, Predictions]  # predictions of the unlearned model, for SETS


def run(
    name: str,
    model: nn.Module,
    *,
    forget: Examples,
    validation: Examples,
    retain: Examples | None = None,
    options: Options | Mapping[str, Any] | None = None,
    goal: Goal | None = None,
    fresh: Callable[[], nn.Module] | None = None,
    learn: TrainFunction = default_training,
    cache: Path | None = None,
    watch: RunContext | None = None,
    seed: int = 0,
    force: bool = False,
    situation: TaskProperties | None = None,
) -> UnlearningReport:
    """Apply the method called `name` to a model, which may be changed in place.

    Any torch classifier will do: one logit (positive = class 1) or K of them. Samples come as
    `trueface.data.examples.Examples`; make them with `examples` from tensors, with `examples_of`
    from a torch data set.

    Args:
        name: a key of `METHODS`.
        model: on the device of `watch`.
        forget: what shall go; of flipped labels `trained` is the flipped one, `true` the true one.
        validation: clean samples that were not trained on; those of a class that shall go are left
            out.
        retain: the rest of the training set. None if it must not be read.
        options: hyperparameters that differ from the paper's; the method's file has them all.
        goal: "flips" (flipped labels), "class" or "instances". None derives it from the labels.
        fresh: makes the model as it was before its training, on any device; for methods that need an
            untrained model.
        learn: how such models are trained; for methods that are trainings.
        cache: folder for results that later calls can reuse. None disables it.
        watch: device, precision, progress, stop; None: the model's device, fp32.
        seed: of every random choice.
        force: apply a method that is known not to work here all the same.
        situation: further facts, such as the rate of flips. None derives them from the samples.

    Raises:
        UnknownName: there is no such method.
        UsageError: an option that it does not have; or it cannot work here, and why.
        JobError: stopped, an empty forget or retain set, or a non-finite result.
    """
    request = make_request(
        name,
        model,
        forget=forget,
        validation=validation,
        retain=retain,
        options=options,
        goal=goal,
        fresh=fresh,
        learn=learn,
        cache=cache,
        watch=watch,
        seed=seed,
    )
    situation = replace(
        situation or TaskProperties(goal=request.goal),
        goal=request.goal,
        classes=request.classes,
        retain=retain is not None,
        true=forget.true is not None,
    )
    return apply_method(name, request, forced_reason=admit(name, situation, force=force))


def make_request(
    name: str,
    model: nn.Module,
    *,
    forget: Examples,
    validation: Examples,
    retain: Examples | None = None,
    options: Options | Mapping[str, Any] | None = None,
    goal: Goal | None = None,
    fresh: Callable[[], nn.Module] | None = None,
    learn: TrainFunction = default_training,
    cache: Path | None = None,
    watch: RunContext | None = None,
    seed: int = 0,
) -> Request:
    """Check the arguments of `run`, and return them as a method is given them.

    Raises:
        UnknownName: there is no such method.
        UsageError: an option that it does not have, or an invalid argument.
        JobError: an empty forget or retain set, or classes that the model does not have.
    """
    if name not in METHODS:
        raise UnknownName("unlearning method", name, METHODS, where="launcher help unlearning")
    watch, meter = watch or RunContext(device=_device(model)), CostCounter()
    chosen = options_of(load(name).method, {} if options is None else options)
    check_argument_types(model, forget, retain, validation, goal)
    classes = classes_of(model, forget, watch)
    goal = goal or infer_goal(forget, retain)
    if goal == "class":  # predictions on a forgotten class say nothing about the retain set
        validation = validation.without_classes(set(forget.trained))
    check_example_sets(forget, retain, validation, classes)
    is_plain = learn is default_training
    if reason := refuse_precision(name, watch.precision, is_plain=is_plain):
        raise UsageError(reason)
    return Request(
        model=model,
        forget=forget.count_reads(meter.add),
        retain=None if retain is None else retain.count_reads(meter.add),
        validation=validation,
        options=chosen,
        goal=goal,
        classes=classes,
        fresh=fresh,
        learn=learn,
        cache=Cache(cache, meter),
        meter=meter,
        watch=watch,
        seed=seed,
    )


def apply_method(
    name: str,
    request: Request,
    *,
    forced_reason: str | None = None,
    predictions_before: Mapping[str, Predictions] | None = None,
) -> UnlearningReport:
    """Apply a method; return its result with its cost and its measurements before and after.

    Args:
        name: of the method.
        request: as `make_request` returns it.
        forced_reason: the reason for which it is known not to work here, or None. See `registry.admit`.
        predictions_before: predictions of the model before unlearning, for any of SETS. The others are made.

    Raises:
        JobError: stopped, or a non-finite result.
    """
    meter, device, chosen = request.meter, request.watch.device, request.options
    notes: tuple[str, ...] = () if forced_reason is None else (f"forced: {forced_reason}",)
    notes += tuple(
        f"{key} has no effect here: {reason}"
        for key, reason in chosen.without_effect(request.goal, request.classes).items()
        if key in chosen.model_fields_set
    )
    known = predictions_before or {}
    others = request.predict_sets(names=[part for part in SETS if part not in known])
    first = Step(step=0, metrics=accuracies_of({**others, **known}))
    meter.samples, meter.making_seconds, meter.saved_seconds = 0, 0.0, 0.0
    memory.reset_peak_memory(device)
    began = now()
    torch.manual_seed(request.seed)
    applied = load(name).function(request)
    result: Result = applied if isinstance(applied, Result) else applied.run()
    seconds = now() - began - meter.making_seconds + meter.saved_seconds
    samples, peak_bytes = meter.samples, memory.peak_memory_bytes(device)
    result.model.eval()
    _refuse_broken(result.model)
    number = max((step.step for step in result.log), default=0) + 1
    request.watch.begin_phase("measures")
    predictions = result.predictions
    if predictions is None or result.predicted_model != fingerprint(result.model):
        predictions = request.predict_sets(result.model)
    last = Step(step=number, metrics=accuracies_of(predictions))
    return UnlearningReport(
        model=result.model,
        log=(first, *result.log, last),
        seconds=seconds,
        samples_read=samples,
        cached_seconds=meter.cached_seconds,
        cached_samples=meter.cached_samples,
        peak_bytes=peak_bytes,
        notes=(
            *notes,
            *result.notes,
            *_warnings(first.metrics, last.metrics, request, own_warnings=result.notes),
        ),
        predictions=predictions,
    )


def _refuse_broken(model: nn.Module) -> None:
    """Reject non-finite weights, even if all predictions are finite."""
    for key, value in model.state_dict().items():
        broken = int((~value.isfinite()).sum()) if value.is_floating_point() else 0
        if broken:
            raise JobError(
                f"{broken} of {value.numel()} values of {key} are not finite, so the model is "
                "broken. Choose a lower lr or fewer steps."
            )


def _warnings(
    measures_before: Mapping[str, float | None],
    measures_after: Mapping[str, float | None],
    request: Request,
    *,
    own_warnings: tuple[str, ...],
) -> Iterator[str]:
    """Yield remarks for the user that apply to any method."""
    first, last = measures_before["val_accuracy"], measures_after["val_accuracy"]
    if first is not None and last is not None and last < first - NOTABLE_LOSS:
        yield f"validation accuracy fell from {first:.1%} to {last:.1%}"
    trained = measures_before["forget_accuracy_trained"]
    steps = (
        isinstance(request.options, DescentOptions) and not own_warnings
    )  # otherwise it has its own note
    if (
        steps
        and request.goal != "flips"
        and trained
        and trained == measures_after["forget_accuracy_trained"]
    ):
        yield (
            f"predictions on the forget set are unchanged ({trained:.1%} match the trained labels). "
            "Choose a higher lr or more epochs."
        )


def _device(model: nn.Module) -> str:
    return next((str(parameter.device) for parameter in model.parameters()), "cpu")
