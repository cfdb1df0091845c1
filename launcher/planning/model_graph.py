"""Which models a task file makes, in which order, from which others.

Its entries ask for models: each of an entry, a poison or method, a variant. A file may name a model before the entry
that makes it, in another order of its data, or as a union of the same images; two entries that mean the same model
make it once. A model that is named without its variant stands for all variants of it that are made here, in the same
combination of the matrix.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

from launcher.errors import MOST_PROBLEMS, Place, Problem, Severity, UnknownName, nearest
from launcher.ids import DataId, ModelId, Poison, Stage, canonical, normalise
from launcher.job_options.registry import JobRequest
from launcher.kind_interface import Kind, Role
from launcher.taskfile.entries import (
    FREE,
    Follows,
    MethodEntry,
    Name,
    TrainEntry,
    Variant,
    companion,
)
from launcher.taskfile.parser import TaskFile
from launcher.taskfile.settings import known_settings, spelt
from launcher.taskfile.values import At, unknown_word
from launcher.taskfile.yaml_tree import Scalar


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ModelRequest:
    """What one entry asks for: a model, or one for each variant of its base."""

    kind: Kind
    reader: Kind  # knows which images the model's data IDs mean
    place: Place
    node: Scalar  # the word that sets it apart: its data, its poison or its method
    combination: int
    plain: ModelId  # with its base as it is written, without variants
    base: At[ModelId] | None
    variant: Variant
    job_request: JobRequest
    follows: Follows = FREE
    labels_kind: Kind | None = None
    labels_job_request: JobRequest | None = None

    @property
    def name(self) -> tuple[tuple[str, str], ...]:
        """The swept settings of this request, those of a poison only where there is one."""
        if self.labels_kind is not None:
            return self.variant.name
        own = known_settings(self.kind)
        return tuple(pair for pair in self.variant.name if pair[0] in own)


class PlannedModel(NamedTuple):
    """A model that the plan makes, and the one it starts from."""

    request: ModelRequest
    model: ModelId
    base: ModelId | None


def without_variants(model: ModelId) -> ModelId:
    """Return the model as it would be called if nothing was swept."""
    if not any(stage.variant for stage in model.stages):
        return model
    return ModelId(tuple(replace(stage, variant=()) for stage in model.stages))


def has_values(variant: Iterable[tuple[str, str]], wanted: Iterable[tuple[str, str]]) -> bool:
    """Tell whether a variant has some values, whatever else it has; 0 and 0.0 are one value."""
    values = dict(variant)
    return all(key in values and same_value(values[key], value) for key, value in wanted)


def same_value(first: str, second: str) -> bool:
    """Tell whether two values of a swept setting are the same, as words or as numbers."""
    if first == second:
        return True
    try:
        return float(first) == float(second)
    except ValueError:  # one of them is no number
        return False


class FilePoison(NamedTuple):
    """The one poison that a whole file has, as `poison_rate` of the original was.

    The models of such a file are named without it, too, as the original named them.
    """

    poison: Poison | None
    clean: frozenset[str]  # names without it of what is made with it, and not without

    def with_poison(self, model: ModelId) -> ModelId:
        """Return the model with the poison in every stage that has it without saying so."""
        if self.poison is None or not self.clean:
            return model
        stages: list[Stage] = []
        name = ""
        for stage in model.stages:
            trained = _clean_name(replace(stage, methods=()), self.poison)
            silent = stage.poison is None and name + trained in self.clean
            stages.append(replace(stage, poison=self.poison) if silent else stage)
            name += f"{_clean_name(stage, self.poison)}#"
        return ModelId(tuple(stages))


def file_poison(task: TaskFile) -> FilePoison:
    """Return the poison that all trainings of a file have that say nothing themselves."""
    trainings = [entry for entry in task.entries if isinstance(entry, TrainEntry)]
    wide = [entry for entry in trainings if entry.wide]
    poison = wide[0].label_changes[0].value if wide else None

    def name(entry: TrainEntry) -> str:
        start = () if entry.base is None else entry.base.value.stages
        return "#".join(_clean_name(stage, poison) for stage in (*start, Stage(entry.data.value)))

    own = {
        name(entry)
        for entry in trainings
        if not entry.wide
        and (not entry.label_changes or any(p.value is None for p in entry.label_changes))
    }
    return FilePoison(poison=poison, clean=frozenset({name(entry) for entry in wide} - own))


def _clean_name(stage: Stage, poison: Poison | None) -> str:
    """Return a stage without that poison and without its variant, its data in one order."""
    shown = None if stage.poison == poison else stage.poison
    return str(Stage(canonical(stage.data), shown, stage.methods))


def model_requests(
    task: TaskFile, shared_poison: FilePoison, problems: list[Problem]
) -> Iterator[ModelRequest]:
    """Give a request for each poison and variant of each training, then for each of each unlearning.

    Combinations of the file's matrix come one after another.
    """
    by_combination: dict[int, list[TrainEntry | MethodEntry]] = {}
    for entry in task.entries:
        if isinstance(entry, TrainEntry | MethodEntry):
            by_combination.setdefault(entry.combination, []).append(entry)
    for _, entries in sorted(by_combination.items()):
        trained: list[ModelRequest] = []
        for entry in entries:
            if isinstance(entry, TrainEntry):
                trained += _trainings(entry, shared_poison)
        yield from trained
        poisoned = {str(request.plain): request for request in trained if request.plain.last.poison}
        for entry in entries:
            if isinstance(entry, MethodEntry):
                named = entry.base and At(
                    shared_poison.with_poison(entry.base.value), entry.base.node
                )
                bases = [At(request.plain, request.node) for request in poisoned.values()]
                yield from _method_jobs(entry, task.kinds, [named] if named else bases, problems)


def _trainings(entry: TrainEntry, shared_poison: FilePoison) -> Iterator[ModelRequest]:
    clean: At[Poison | None] = At(None, entry.data.node)
    base = entry.base and At(shared_poison.with_poison(entry.base.value), entry.base.node)
    for poison in entry.label_changes or (clean,):
        stage = Stage(entry.data.value, poison.value)
        start = () if base is None else without_variants(base.value).stages
        plain = ModelId((*start, stage))
        for variant in entry.variants:
            yield ModelRequest(
                kind=entry.kind,
                reader=entry.kind,
                place=entry.place,
                node=poison.node,
                combination=entry.combination,
                plain=plain,
                base=base,
                variant=variant,
                job_request=entry.request,
                follows=entry.follows,
                labels_kind=None if poison.value is None else entry.labels_kind,
                labels_job_request=entry.labels_request,
            )


def _method_jobs(
    entry: MethodEntry,
    kinds: Mapping[str, Kind],
    bases: Sequence[At[ModelId]],
    problems: list[Problem],
) -> Iterator[ModelRequest]:
    reader = companion(kinds, entry.kind, Role.TRAIN) or entry.kind
    if not bases:
        message = "no training of this file is poisoned, so there is nothing to unlearn"
        hint = "write poison: 20 in a training's entry, or below defaults"
        place = entry.place
        problems.append(Problem(code="nothing-poisoned", message=message, place=place, hint=hint))
    for base in bases:
        for method, variants in entry.methods:
            for variant in variants:
                yield ModelRequest(
                    kind=entry.kind,
                    reader=reader,
                    place=entry.place,
                    node=method.node,
                    combination=entry.combination,
                    plain=without_variants(base.value).unlearned(method.value),
                    base=base,
                    variant=variant,
                    job_request=entry.request,
                    follows=entry.follows,
                )


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


class NamedModel(NamedTuple):
    """A model under the name that an entry gives it, and under that by which it is made."""

    name: ModelId
    model: ModelId


class ModelGraph:
    """The models of a task file; places each one behind what it starts from."""

    def __init__(
        self, task: TaskFile, on_disk: Callable[[str], bool], problems: list[Problem]
    ) -> None:
        self._task, self._on_disk, self._problems = task, on_disk, problems
        self._shared_poison = file_poison(task)
        self._requests = list(model_requests(task, self._shared_poison, problems))
        self._readers = {request.reader.name: request.reader for request in self._requests}
        self._by_plain: dict[str, list[ModelRequest]] = {}
        self._by_variant: dict[tuple[str, Name | int], list[ModelRequest]] = {}
        for request in self._requests:
            plain = str(request.plain)
            self._by_plain.setdefault(plain, []).append(request)
            for key in (tuple(sorted(request.name)), request.combination):
                self._by_variant.setdefault((plain, key), []).append(request)
        self._by_meaning: dict[str, list[ModelRequest]] | None = None  # made when first needed
        self._placed: dict[ModelRequest, tuple[NamedModel, ...]] = {}
        self._reported: set[tuple[Place, Place]] = set()  # pairs of entries that make the same
        self._by_identity: dict[str, PlannedModel] = {}
        self._by_model: dict[str, PlannedModel] = {}
        self._images_of: dict[tuple[str, DataId], str] = {}  # (kind, data) → what it means

    def in_order(self) -> list[PlannedModel]:
        """Return every model once, each behind the one it starts from."""
        for request in self._requests:
            self._place(request)
        return list(self._by_model.values())

    def makes(self, model: ModelId) -> bool:
        """Tell whether this file makes `model`."""
        return str(model) in self._by_model

    def find(self, named: At[ModelId], combination: int) -> tuple[ModelId, ...]:
        """Return the models that are meant, made here or earlier; blame its place if there are none.

        Args:
            named: as it is written; without variants it stands for all of them.
            combination: of the file's matrix; the models of another are meant only if none is.
        """
        return self._find(At(self._shared_poison.with_poison(named.value), named.node), combination)

    def having(self, named: At[ModelId], combination: int) -> tuple[ModelId, ...]:
        """Return the models that are meant by an ID whose variant may be given in part.

        `a:b~uce@scale=2` are all that have this value, whatever else of them is swept, here or in the
        whole file; one whose variant it gives in full is meant alone. Else as `find`.
        """
        value = self._shared_poison.with_poison(named.value)
        plain = without_variants(value)
        if plain == value:
            return self.find(named, combination)
        requests = self._by_plain.get(str(plain), [])
        here = [request for request in requests if request.combination == combination]
        for request in here:
            self._place(request)
        made = [named_model for request in here for named_model in self._placed[request]]
        fitting = [named_model for named_model in made if _has_values(named_model.name, value)]
        whole = [named_model for named_model in fitting if _fits(value, named_model.name)]
        models = dict.fromkeys(named_model.model for named_model in whole or fitting)
        return tuple(models) or self.find(named, combination)

    def _find(self, named: At[ModelId], combination: int) -> tuple[ModelId, ...]:
        requests = self._candidates(named.value, combination)
        for request in requests:
            self._place(request)
        models = _meant(
            named.value,
            [named_model for request in requests for named_model in self._placed[request]],
        )
        plain = {str(without_variants(model)) for model in models}
        if len(plain) > 1:  # in other words than any of them, which are made in different ways
            self._problems.append(ambiguous_model(named, plain))
            return ()
        if models:
            return models
        if requests and not any(self._placed[request] for request in requests):
            return ()  # what makes it has errors, which are reported
        if self._on_disk(str(named.value)):
            return (named.value,)
        if self._task.whole:  # else the broken entry may be the one that makes it
            self._problems.append(self._unknown(named))
        return ()

    def _candidates(self, model: ModelId, combination: int) -> list[ModelRequest]:
        """Return the requests of which one or more may make `model`."""
        plain = without_variants(model)
        text = str(plain)
        # those of other combinations may come later, in their turn
        exact: Name | int = combination if plain == model else tuple(sorted(model.last.variant))
        candidates = self._by_variant.get((text, exact)) or self._by_plain.get(text)
        if candidates is None and not self._on_disk(str(model)):
            candidates = self._with_same_meaning(plain)
            if plain == model:
                candidates = [
                    request for request in candidates if request.combination == combination
                ] or candidates
        return candidates or []

    def _place(self, request: ModelRequest) -> None:
        """Put the models of a request behind what they start from, and that behind its own start."""
        waiting = [] if request in self._placed else [request]
        while waiting:  # no recursion: chains may be of any length
            current = waiting[-1]
            named = current.base
            bases = [] if named is None else self._candidates(named.value, current.combination)
            before = [base for base in bases if base not in self._placed]
            if before:
                waiting += reversed(before)
                continue
            waiting.pop()
            if current not in self._placed:
                self._placed[current] = self._planned(current)

    def _planned(self, request: ModelRequest) -> tuple[NamedModel, ...]:
        if request.base is None:
            return self._enter(request, None)
        bases = self._find(request.base, request.combination)
        return tuple(named_model for base in bases for named_model in self._enter(request, base))

    def _enter(self, request: ModelRequest, base: ModelId | None) -> tuple[NamedModel, ...]:
        planned = PlannedModel(request=request, model=_model(request, base), base=base)
        try:
            kept = self._by_identity.setdefault(self._identity(planned), planned)
        except UnknownName as error:  # a model of an earlier run, with words of another laboratory
            node = request.node if request.base is None else request.base.node
            self._problems.append(unknown_word(error, node))
            return ()
        if kept is not planned:
            entries = (kept.request.node.place, request.node.place)
            again = kept.request.place == request.place and kept.model == planned.model
            if not again and entries not in self._reported:
                self._problems.append(made_once(kept, planned))
                self._reported.add(entries)
        else:
            kept = self._by_model.setdefault(str(planned.model), planned)
            if kept is not planned:
                self._problems.append(made_twice(kept, planned))
        return (NamedModel(planned.model, kept.model),)

    def _identity(self, planned: PlannedModel) -> str:
        """Return a text that is equal for two models made from the same images in the same way."""
        request, last = planned.request, planned.model.last
        poison = None if request.labels_kind is None else request.variant.labels_settings
        named = (request.reader.name, last.data)
        if named not in self._images_of:  # a sweep makes many models from the same data
            self._images_of[named] = str(canonical(_images(request.reader, last.data)))
        parts = [
            request.kind.name,
            None if planned.base is None else str(planned.base),
            self._images_of[named],
            None if last.poison is None else str(last.poison),
            list(last.methods),
            request.variant.settings.text,
            None if poison is None else poison.text,
        ]
        return json.dumps(parts)

    def _with_same_meaning(self, plain: ModelId) -> list[ModelRequest]:
        if self._by_meaning is None:
            self._by_meaning = {}
            for request in self._requests:
                for meaning in self._meanings(request.plain):
                    self._by_meaning.setdefault(meaning, []).append(request)
        matches = (self._by_meaning.get(meaning) for meaning in self._meanings(plain))
        return next((requests for requests in matches if requests), [])

    def _meanings(self, model: ModelId) -> Iterator[str]:
        for reader in self._readers.values():
            try:
                yield str(normalise(model, partial(_images, reader)))
            except UnknownName:
                continue

    def _similar_names(self, but: str) -> Iterator[str]:
        """Give the models that can be made, without those that would start from `but`."""
        for name, requests in self._by_plain.items():
            if name.startswith((f"{but}#", f"{but}~")):
                continue
            for request in requests:
                if request in self._placed:
                    yield from (str(named_model.model) for named_model in self._placed[request])
                elif request.base is None:
                    yield name

    def _unknown(self, named: At[ModelId]) -> Problem:
        for stage in named.value.stages:
            errors: list[UnknownName] = []
            for reader in self._readers.values():
                try:
                    _images(reader, stage.data)
                except UnknownName as error:
                    errors.append(error)
            if errors and len(errors) == len(self._readers):  # else one of the kinds knows the word
                return unknown_word(errors[0], named.node)
        text = str(named.value)
        names = list(dict.fromkeys(self._similar_names(text)))
        # a file with hundreds of these is not helped by hundreds of slow suggestions
        close = nearest(text, names) if len(self._problems) < MOST_PROBLEMS else None
        notes = [f"made here: {', '.join(names[:MOST_LISTED])}"] if names else []
        if len(names) > MOST_LISTED:
            notes[0] += f" and {len(names) - MOST_LISTED} more"
        return Problem(
            code="unknown-model",
            message=f"model {text!r} is neither made here nor in the folder of the run",
            place=named.node.place,
            hint=f"did you mean '{close}'?" if close else "",
            notes=tuple(notes),
        )


def _meant(named: ModelId, models: Iterable[NamedModel]) -> tuple[ModelId, ...]:
    """Return those of some models that `named` stands for."""
    fitting = [named_model for named_model in models if _fits(named, named_model.name)]
    exact = [named_model for named_model in fitting if named_model.name == named]
    return tuple(dict.fromkeys(named_model.model for named_model in exact or fitting))


def _fits(named: ModelId, model: ModelId) -> bool:
    """Tell whether each variant that is named is the one that the model has."""
    stages = zip(named.stages, model.stages, strict=True)
    return all(
        not first.variant or set(first.variant) == set(second.variant) for first, second in stages
    )


def _has_values(model: ModelId, named: ModelId) -> bool:
    """Tell whether a model has the swept values that a name has, in each stage."""
    stages = zip(named.stages, model.stages, strict=True)
    return all(has_values(second.variant, first.variant) for first, second in stages)


def _model(request: ModelRequest, base: ModelId | None) -> ModelId:
    """Return the request's model with its base as the plan calls it, and its variant."""
    last = request.plain.last
    if request.kind.role is not Role.METHOD or base is None:
        stage = replace(last, variant=request.name)
        return ModelId((stage,)) if base is None else base.then(stage)
    method = last.methods[-1]
    variant = dict(base.last.variant)
    for key, value in request.name:
        if key not in variant:
            variant[key] = value
        elif key not in request.variant.paired or variant[key] != value:
            variant[f"{method}.{key}"] = value  # the training's value of it is another matter
    planned = base.unlearned(method)
    return ModelId((*planned.stages[:-1], replace(planned.last, variant=tuple(variant.items()))))


def _images(kind: Kind, data: DataId) -> DataId:
    return kind.elementary(kind.images(data))
