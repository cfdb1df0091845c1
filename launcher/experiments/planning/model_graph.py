"""The models of a task file: which it makes, in which order, from which others, and which its other entries name.

Each model comes from an entry, a poison or method, and a variant. A file may name a model before the entry that makes
it, with its data in another order, or as a union of the same images. Two entries with the same model make it once. A
model that is named without its variant means all its variants that the file makes in the same combination of the
matrix.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from typing import NamedTuple

from launcher.experiments.kind_interface import Kind, Role
from launcher.experiments.taskfile.entries import (
    FolderEntry,
    Located,
    MethodEntry,
    ScoringEntry,
    TaskFile,
    TrainEntry,
    Variant,
    VariantName,
    kind_of_role,
)
from launcher.experiments.taskfile.nodes import ScalarNode
from launcher.experiments.taskfile.settings import differences
from launcher.experiments.taskfile.values import unknown_word
from launcher.ids import DataId, ModelId, Poison, Stage, canonical, normalise
from launcher.queue.jobs.params import parse_number, read_number
from launcher.system.errors import (
    MOST_PROBLEMS,
    Problems,
    SourceLocation,
    UnknownName,
    did_you_mean,
    nearest,
)

MOST_LISTED = 8  # models named in a message


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ModelRequest:
    """The request of one entry: a model, or one for each variant of its base."""

    entry: TrainEntry | MethodEntry
    reader: Kind  # knows which images the model's data IDs mean
    node: ScalarNode  # the word that sets the model apart: its data, poison or method
    plain: ModelId  # the ID, with the base as it is written, without variants
    base: Located[ModelId] | None
    variant: Variant
    labels_kind: Kind | None = None  # decides which of the model's labels are wrong

    @property
    def name(self) -> VariantName:
        """The swept settings of this request, those of its labels only where some are wrong."""
        if self.labels_kind is not None:
            return self.variant.name
        own = self.entry.kind.settings.model_fields
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


def made_models_note(names: Iterable[str]) -> tuple[str, ...]:
    """Return the note of a message that lists what a file makes; none if that is nothing."""
    once = list(dict.fromkeys(names))
    more = f" and {len(once) - MOST_LISTED} more" if len(once) > MOST_LISTED else ""
    return (f"this file makes: {', '.join(once[:MOST_LISTED])}{more}",) if once else ()


def comparable_value(value: str) -> str:
    """Return a text that is equal for equal values of a setting; 0 and 0.0 are equal."""
    number = read_number(value)
    try:
        return value if number is None else str(float(number))
    except OverflowError:  # an integer of hundreds of digits
        return value


def comparable_text(value: str) -> str:
    """Return a text that is equal for equal values of a program: 1e-4 and 0.0001, but not 007 and 7."""
    number = parse_number(value)
    return number if isinstance(number, str) else comparable_value(value)


Comparable = Callable[[str], str]


def has_values(
    variant: Iterable[tuple[str, str]],
    pairs: Iterable[tuple[str, str]],
    comparable: Comparable = comparable_value,
) -> bool:
    """Return whether a variant contains some values."""
    values = dict(variant)
    return all(
        key in values and comparable(values[key]) == comparable(value) for key, value in pairs
    )


def same_value(first: str, second: str) -> bool:
    """Return whether two values of a swept setting are equal as words or as numbers."""
    return first == second or comparable_value(first) == comparable_value(second)


class _FilePoison(NamedTuple):
    """The only poison of a file, as `poison_rate` of the original.

    The models of such a file can also be named without it, as in the original.
    """

    poison: Poison | None
    clean: frozenset[str]  # names, without the poison, of models trained only with it

    def add_to_model(self, located_id: Located[ModelId]) -> Located[ModelId]:
        """Return the model with the poison in every stage that has it without saying so."""
        if self.poison is None or not self.clean:
            return located_id
        stages: list[Stage] = []
        name = ""
        for stage in located_id.value.stages:
            trained = _clean_name(replace(stage, methods=()), self.poison)
            silent = stage.poison is None and name + trained in self.clean
            stages.append(replace(stage, poison=self.poison) if silent else stage)
            name += f"{_clean_name(stage, self.poison)}#"
        return Located(ModelId(tuple(stages)), located_id.node)


def _file_poison(trainings: Sequence[TrainEntry]) -> _FilePoison:
    """Return the poison that all trainings of a file have that say nothing themselves."""
    wide = [entry for entry in trainings if entry.is_file_poison]
    poison = wide[0].label_changes[0].value if wide else None

    def name(entry: TrainEntry) -> str:
        start = () if entry.base is None else entry.base.value.stages
        return "#".join(_clean_name(stage, poison) for stage in (*start, Stage(entry.data.value)))

    own = {
        name(entry)
        for entry in trainings
        if not entry.is_file_poison
        and (not entry.label_changes or any(p.value is None for p in entry.label_changes))
    }
    return _FilePoison(poison=poison, clean=frozenset({name(entry) for entry in wide} - own))


def _clean_name(stage: Stage, poison: Poison | None) -> str:
    """Return a stage without that poison and without its variant, its data in one order."""
    shown = None if stage.poison == poison else stage.poison
    return str(Stage(canonical(stage.data), shown, stage.methods))


def _trainings(entry: TrainEntry, base: Located[ModelId] | None) -> Iterator[ModelRequest]:
    """Give a request for each poison and variant of a training."""
    clean: Located[Poison | None] = Located(None, entry.data.node)
    start = () if base is None else without_variants(base.value).stages
    for poison in entry.label_changes or (clean,):
        plain = ModelId((*start, Stage(entry.data.value, poison.value)))
        for variant in entry.variants:
            yield ModelRequest(
                entry=entry,
                reader=entry.kind,
                node=poison.node,
                plain=plain,
                base=base,
                variant=variant,
                labels_kind=None if poison.value is None else entry.labels_kind,
            )


def _unlearnings(
    entry: MethodEntry, kinds: Mapping[str, Kind], bases: Iterable[Located[ModelId]]
) -> Iterator[ModelRequest]:
    """Give a request for each method and variant of an unlearning of each of some models."""
    reader = kind_of_role(kinds, entry.kind, Role.TRAIN) or entry.kind
    for base in bases:
        for method, variants in entry.methods:
            plain = without_variants(base.value).unlearned(method.value)
            for variant in variants:
                yield ModelRequest(
                    entry=entry,
                    reader=reader,
                    node=method.node,
                    plain=plain,
                    base=base,
                    variant=variant,
                )


class _NamedModel(NamedTuple):
    """A model under the name that an entry gives it, and under that by which it is made."""

    name: ModelId
    model: ModelId


class PlannedModels:
    """The models of a task file, and those that its tests, benchmarks and folders name.

    Attributes:
        models_in_order: each model once, after the one that it starts from.
    """

    def __init__(self, task: TaskFile, on_disk: Callable[[str], bool], problems: Problems) -> None:
        """Sort every model after the one that it starts from.

        Args:
            task: the file; it keeps its entries alive, so that their id() stays unique.
            on_disk: returns whether an earlier run made the model of an ID.
            problems: errors and warnings are added to it.
        """
        self._task, self._on_disk, self._problems = task, on_disk, problems
        makers = [each for each in task.entries if isinstance(each, TrainEntry | MethodEntry)]
        self._poison = _file_poison([each for each in makers if isinstance(each, TrainEntry)])
        self._requests = list(self._iterate_requests(makers))
        self._readers = {request.reader.name: request.reader for request in self._requests}
        self._by_plain: dict[str, list[ModelRequest]] = {}
        self._by_variant: dict[tuple[str, VariantName | int], list[ModelRequest]] = {}
        for request in self._requests:
            plain = str(request.plain)
            self._by_plain.setdefault(plain, []).append(request)
            for key in (tuple(sorted(request.name)), request.entry.combination):
                self._by_variant.setdefault((plain, key), []).append(request)
        self._by_meaning: dict[str, list[ModelRequest]] | None = None  # made when first needed
        self._placed_models: dict[ModelRequest, tuple[_NamedModel, ...]] = {}
        # pairs of entries that make the same
        self._reported: set[tuple[SourceLocation, SourceLocation]] = set()
        self._by_identity: dict[str, PlannedModel] = {}
        self._by_model: dict[str, PlannedModel] = {}
        self._images_of: dict[tuple[str, DataId], str] = {}  # (kind, data) → what it means
        for request in self._requests:
            self._place_models(request)
        self.models_in_order = tuple(self._by_model.values())
        # by the id() of the word in an entry
        self._models_by_word: dict[int, tuple[ModelId, ...]] = {}
        for entry in task.entries:
            if isinstance(entry, ScoringEntry):
                for word in (*entry.models, *entry.others.values()):
                    self._models_by_word[id(word)] = self._find(
                        self._poison.add_to_model(word), entry.combination
                    )
            elif isinstance(entry, FolderEntry):
                for word in (word for way in entry.variants for word in way.models.values()):
                    self._models_by_word[id(word)] = self._find_by_partial_variant(
                        word, entry.combination
                    )

    def models_of_word(self, word: Located[ModelId]) -> tuple[ModelId, ...]:
        """Return the models that a word of an entry stands for, made here or earlier."""
        return self._models_by_word[id(word)]

    def _iterate_requests(
        self, makers: Iterable[TrainEntry | MethodEntry]
    ) -> Iterator[ModelRequest]:
        """Give what entries ask for, the trainings of each combination before its unlearnings."""
        for _, group in groupby(makers, key=lambda entry: entry.combination):
            entries = list(group)
            poisoned: dict[str, Located[ModelId]] = {}
            for training in (each for each in entries if isinstance(each, TrainEntry)):
                base = training.base and self._poison.add_to_model(training.base)
                for request in _trainings(training, base):
                    if request.plain.last.poison:
                        poisoned[str(request.plain)] = Located(request.plain, request.node)
                    yield request
            for entry in (each for each in entries if isinstance(each, MethodEntry)):
                named = entry.base and self._poison.add_to_model(entry.base)
                if not named and not poisoned:
                    message = "nothing to unlearn: no training of this file is poisoned"
                    hint = "write poison: 20 in a training's entry, or below defaults"
                    self._problems.add_error(entry, "nothing-poisoned", message, hint)
                bases = [named] if named else poisoned.values()
                yield from _unlearnings(entry, self._task.kinds, bases)

    def _find_by_partial_variant(
        self, located_id: Located[ModelId], combination: int
    ) -> tuple[ModelId, ...]:
        """Return the models of an ID whose variant may be partial.

        `a:b~uce@scale=2` means all models with this value, whatever else is swept in the entry or the file. A
        complete variant means only its model. Otherwise the result is that of `_find`.
        """
        located_id = self._poison.add_to_model(located_id)
        value = located_id.value
        plain = without_variants(value)
        requests = [] if plain == value else self._by_plain.get(str(plain), [])
        fitting = [
            made
            for request in requests
            if request.entry.combination == combination
            for made in self._placed_models[request]
            if _has_values(made.name, value)
        ]
        whole = [made for made in fitting if _has_named_variants(value, made.name)]
        models = dict.fromkeys(made.model for made in whole or fitting)
        return tuple(models) or self._find(located_id, combination)

    def _find(self, located_id: Located[ModelId], combination: int) -> tuple[ModelId, ...]:
        """Return the models of a name, from this file or an earlier run; report an error if there are none.

        All models that may make one of these models are sorted before.

        Args:
            located_id: the written ID, with the poison of the file; without a variant it means all variants.
            combination: that of the file's matrix; models of another combination match only if no other model does.
        """
        requests = self._candidates(located_id.value, combination)
        placed = [made for request in requests for made in self._placed_models[request]]
        fitting = [made for made in placed if _has_named_variants(located_id.value, made.name)]
        exact = [made for made in fitting if made.name == located_id.value]
        models = tuple(dict.fromkeys(made.model for made in exact or fitting))
        plain = {str(without_variants(model)) for model in models}
        # the word is equal to none of these models, which are made in different ways
        if len(plain) > 1:
            message = f"{located_id.value} matches several models of this file"
            hint = "write the ID of one of them as in its entry"
            note = f"matching models: {', '.join(sorted(plain))}"
            self._problems.add_error(located_id.node, "ambiguous-model", message, hint, note)
            return ()
        if models:
            return models
        if requests and not placed:
            return ()  # the model's maker has errors, which are reported
        if self._on_disk(str(located_id.value)):
            return (located_id.value,)
        if self._task.whole:  # after an error the broken entry may be the one that makes the model
            self._report_unknown_model(located_id)
        return ()

    def _candidates(self, model: ModelId, combination: int) -> list[ModelRequest]:
        """Return the requests of which one or more may make `model`."""
        plain = without_variants(model)
        text = str(plain)
        # those of other combinations may come later, in their turn
        exact: VariantName | int = (
            combination if plain == model else tuple(sorted(model.last.variant))
        )
        candidates = self._by_variant.get((text, exact)) or self._by_plain.get(text)
        if candidates is None and not self._on_disk(str(model)):
            candidates = self._with_same_meaning(plain)
            if plain == model:
                candidates = [
                    request for request in candidates if request.entry.combination == combination
                ] or candidates
        return candidates or []

    def _place_models(self, request: ModelRequest) -> None:
        """Put the models of a request behind what they start from, and that behind its own start."""
        waiting = [request]
        while waiting:  # no recursion: chains may be of any length
            current = waiting[-1]
            base, combination = current.base, current.entry.combination
            starts = [] if base is None else self._candidates(base.value, combination)
            if before := [start for start in starts if start not in self._placed_models]:
                waiting += reversed(before)
                continue
            waiting.pop()
            if current not in self._placed_models:
                bases = (None,) if base is None else self._find(base, combination)
                self._placed_models[current] = tuple(
                    made for start in bases for made in self._add_model(current, start)
                )

    def _add_model(self, request: ModelRequest, base: ModelId | None) -> tuple[_NamedModel, ...]:
        planned = PlannedModel(request=request, model=_model(request, base), base=base)
        try:
            kept = self._by_identity.setdefault(self._model_identity(planned), planned)
        except UnknownName as error:  # a model of an earlier run, with words of another laboratory
            node = request.node if request.base is None else request.base.node
            self._problems.append(unknown_word(error, node))
            return ()
        if kept is not planned:
            entries = (kept.request.node.place, request.node.place)
            again = kept.request.entry.place == request.entry.place and kept.model == planned.model
            if not again and entries not in self._reported:
                self._note_made_once(kept, planned)
                self._reported.add(entries)
        else:
            kept = self._by_model.setdefault(str(planned.model), planned)
            if kept is not planned:
                self._report_duplicate_model(kept, planned)
        return (_NamedModel(planned.model, kept.model),)

    def _note_made_once(self, kept_model: PlannedModel, other_model: PlannedModel) -> None:
        """Note that two entries ask for the same model."""
        first, second = str(kept_model.model), str(other_model.model)
        message = f"{second} is the same model as {first}; it is made once, under that name"
        if first == second:
            message = f"{second} is listed twice; it is made once"
        at = other_model.request.node
        self._problems.add_warning(
            at, "same-model", message, "", _first_entry_note(kept_model, other_model)
        )

    def _report_duplicate_model(self, kept_model: PlannedModel, other_model: PlannedModel) -> None:
        """Blame two entries that make one model with different settings."""
        before, after = (
            kept_model.request.variant.settings.values,
            other_model.request.variant.settings.values,
        )
        message = f"{other_model.model} is listed twice, with different settings"
        hint = "sweep these settings in a matrix, or move one entry to its own task file"
        notes = (
            _first_entry_note(kept_model, other_model),
            *differences(before, after)[:MOST_LISTED],
        )
        self._problems.add_error(other_model.request.node, "duplicate-job", message, hint, *notes)

    def _model_identity(self, planned_model: PlannedModel) -> str:
        """Return a text that is equal for two models made from the same images in the same way."""
        request, last = planned_model.request, planned_model.model.last
        labels = None if request.labels_kind is None else request.variant.labels_settings
        named = (request.reader.name, last.data)
        if named not in self._images_of:  # a sweep makes many models from the same data
            self._images_of[named] = str(canonical(_images_of_kind(request.reader, last.data)))
        parts = [
            request.entry.kind.name,
            None if planned_model.base is None else str(planned_model.base),
            self._images_of[named],
            None if last.poison is None else str(last.poison),
            list(last.methods),
            request.variant.settings.text,
            None if labels is None else labels.text,
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
                yield str(normalise(model, partial(_images_of_kind, reader)))
            except UnknownName:
                continue

    def _similar_names(self, left_out: str) -> Iterator[str]:
        """Give the models that can be made, without those that would start from `left_out`."""
        for name, requests in self._by_plain.items():
            if name.startswith((f"{left_out}#", f"{left_out}~")):
                continue
            for request in requests:
                if request in self._placed_models:
                    yield from (str(made.model) for made in self._placed_models[request])
                elif request.base is None:
                    yield name

    def _report_unknown_model(self, located_id: Located[ModelId]) -> None:
        for stage in located_id.value.stages:
            errors: list[UnknownName] = []
            for reader in self._readers.values():
                try:
                    _images_of_kind(reader, stage.data)
                except UnknownName as error:
                    errors.append(error)
            if errors and len(errors) == len(self._readers):  # else one of the kinds knows the word
                self._problems.append(unknown_word(errors[0], located_id.node))
                return
        text = str(located_id.value)
        names = list(dict.fromkeys(self._similar_names(text)))
        # a file with hundreds of these is not helped by hundreds of slow suggestions
        close = nearest(text, names) if len(self._problems) < MOST_PROBLEMS else None
        message = f"model {text!r} is neither made by this file nor in the run folder"
        hint = did_you_mean(close)
        self._problems.add_error(
            located_id.node, "unknown-model", message, hint, *made_models_note(names)
        )


def _has_named_variants(model_id: ModelId, model: ModelId) -> bool:
    """Return whether each named variant is that of the model."""
    stages = zip(model_id.stages, model.stages, strict=True)
    return all(
        not first.variant or set(first.variant) == set(second.variant) for first, second in stages
    )


def _has_values(model: ModelId, model_id: ModelId) -> bool:
    """Return whether a model has the swept values of a name in each stage."""
    stages = zip(model_id.stages, model.stages, strict=True)
    return all(has_values(second.variant, first.variant) for first, second in stages)


def _model(request: ModelRequest, base: ModelId | None) -> ModelId:
    """Return the request's model with its base as the plan calls it, and its variant."""
    last = request.plain.last
    if request.entry.kind.role is not Role.METHOD or base is None:
        stage = replace(last, variant=request.name)
        return ModelId((stage,)) if base is None else base.then(stage)
    method = last.methods[-1]
    variant = dict(base.last.variant)
    for key, value in request.name:
        if key not in variant:
            variant[key] = value
        elif key not in request.variant.file_swept_names or variant[key] != value:
            variant[f"{method}.{key}"] = value  # the training may have another value of the setting
    planned = base.unlearned(method)
    return ModelId((*planned.stages[:-1], replace(planned.last, variant=tuple(variant.items()))))


def _images_of_kind(kind: Kind, data: DataId) -> DataId:
    return kind.elementary(kind.images(data))


def _first_entry_note(first: PlannedModel, second: PlannedModel) -> str:
    place = first.request.node.place
    file = "" if place.file == second.request.node.place.file else f"{place.file}, "
    return f"first in {file}line {place.line}"
