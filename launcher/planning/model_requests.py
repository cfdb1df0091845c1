"""What the entries of a task file ask for: models, each of an entry, a poison or method, a variant."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from launcher.errors import Place, Problem
from launcher.ids import ModelId, Poison, Stage, canonical
from launcher.job_options.request import JobRequest
from launcher.kind_interface import Kind, Role
from launcher.taskfile.entries import (
    FREE,
    Follows,
    TrainEntry,
    UnlearnEntry,
    Variant,
    companion,
)
from launcher.taskfile.parser import TaskFile
from launcher.taskfile.settings import known_settings
from launcher.taskfile.values import At
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
    poison_kind: Kind | None = None
    poison_job_request: JobRequest | None = None

    @property
    def name(self) -> tuple[tuple[str, str], ...]:
        """The swept settings of this request, those of a poison only where there is one."""
        if self.poison_kind is not None:
            return self.variant.name
        own = known_settings(self.kind)
        return tuple(pair for pair in self.variant.name if pair[0] in own)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedModel:
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


@dataclass(frozen=True, slots=True, kw_only=True)
class FilePoison:
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
    poison = wide[0].poisons[0].value if wide else None

    def name(entry: TrainEntry) -> str:
        start = () if entry.base is None else entry.base.value.stages
        return "#".join(_clean_name(stage, poison) for stage in (*start, Stage(entry.data.value)))

    own = {
        name(entry)
        for entry in trainings
        if not entry.wide and (not entry.poisons or any(p.value is None for p in entry.poisons))
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
    by_combination: dict[int, list[TrainEntry | UnlearnEntry]] = {}
    for entry in task.entries:
        if isinstance(entry, TrainEntry | UnlearnEntry):
            by_combination.setdefault(entry.combination, []).append(entry)
    for _, entries in sorted(by_combination.items()):
        trained: list[ModelRequest] = []
        for entry in entries:
            if isinstance(entry, TrainEntry):
                trained += _trainings(entry, shared_poison)
        yield from trained
        poisoned = {str(request.plain): request for request in trained if request.plain.last.poison}
        for entry in entries:
            if isinstance(entry, UnlearnEntry):
                named = entry.base and At(
                    shared_poison.with_poison(entry.base.value), entry.base.node
                )
                bases = [At(request.plain, request.node) for request in poisoned.values()]
                yield from _unlearnings(entry, task.kinds, [named] if named else bases, problems)


def _trainings(entry: TrainEntry, shared_poison: FilePoison) -> Iterator[ModelRequest]:
    clean: At[Poison | None] = At(None, entry.data.node)
    base = entry.base and At(shared_poison.with_poison(entry.base.value), entry.base.node)
    for poison in entry.poisons or (clean,):
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
                poison_kind=None if poison.value is None else entry.poison_kind,
                poison_job_request=entry.poison_request,
            )


def _unlearnings(
    entry: UnlearnEntry,
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
