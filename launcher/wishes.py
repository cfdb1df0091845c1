"""What the entries of a task file ask for: models, each of an entry, a poison or method, a variant."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from launcher.document import Scalar
from launcher.entries import TrainEntry, UnlearnEntry, Variant, companion
from launcher.errors import Place, Problem
from launcher.ids import ModelId, Poison, Stage
from launcher.kinds import Kind, Role
from launcher.scope import Asked
from launcher.settings import known_settings
from launcher.taskfile import TaskFile
from launcher.written import At


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Wish:
    """What one entry asks for: a model, or one for each variant of its base."""

    kind: Kind
    reader: Kind  # knows which images the model's data IDs mean
    place: Place
    node: Scalar  # the word that sets it apart: its data, its poison or its method
    combination: int
    plain: ModelId  # with its base as it is written, without variants
    base: At[ModelId] | None
    variant: Variant
    asked: Asked
    poison_kind: Kind | None = None
    poison_asked: Asked | None = None

    @property
    def name(self) -> tuple[tuple[str, str], ...]:
        """The swept settings of this wish, those of a poison only where there is one."""
        if self.poison_kind is not None:
            return self.variant.name
        known = known_settings(self.kind)
        return tuple(pair for pair in self.variant.name if pair[0] in known)


def without_variants(model: ModelId) -> ModelId:
    """Return the model as it would be called if nothing was swept."""
    if not any(stage.variant for stage in model.stages):
        return model
    return ModelId(tuple(replace(stage, variant=()) for stage in model.stages))


def wishes_of(task: TaskFile, problems: list[Problem]) -> Iterator[Wish]:
    """Give a wish for each poison and variant of each training, then for each of each unlearning.

    Combinations of the file's matrix come one after another.
    """
    for number in sorted({_combination(entry) for entry in task.entries}):
        trained: list[Wish] = []
        entries = [entry for entry in task.entries if _combination(entry) == number]
        for entry in entries:
            if isinstance(entry, TrainEntry):
                trained += _trainings(entry)
        yield from trained
        poisoned = {str(wish.plain): wish for wish in trained if wish.plain.last.poison}
        for entry in entries:
            if isinstance(entry, UnlearnEntry):
                yield from _unlearnings(entry, task.kinds, list(poisoned.values()), problems)


def _combination(entry: object) -> int:
    return entry.combination if isinstance(entry, TrainEntry | UnlearnEntry) else 0


def _trainings(entry: TrainEntry) -> Iterator[Wish]:
    clean: At[Poison | None] = At(None, entry.data.node)
    base = entry.base
    for poison in entry.poisons or (clean,):
        stage = Stage(entry.data.value, poison.value)
        plain = ModelId((stage,)) if base is None else without_variants(base.value).then(stage)
        for variant in entry.variants:
            yield Wish(
                kind=entry.kind,
                reader=entry.kind,
                place=entry.place,
                node=poison.node,
                combination=entry.combination,
                plain=plain,
                base=base,
                variant=variant,
                asked=entry.asked,
                poison_kind=None if poison.value is None else entry.poison_kind,
                poison_asked=entry.poison_asked,
            )


def _unlearnings(
    entry: UnlearnEntry,
    kinds: Mapping[str, Kind],
    poisoned: list[Wish],
    problems: list[Problem],
) -> Iterator[Wish]:
    reader = companion(kinds, entry.kind, Role.TRAIN) or entry.kind
    bases = [entry.base] if entry.base is not None else [At(w.plain, w.node) for w in poisoned]
    if not bases:
        message = "no training of this file is poisoned, so there is nothing to unlearn"
        problems.append(Problem(code="nothing-poisoned", message=message, place=entry.place))
    for base in bases:
        for method, variants in entry.methods:
            for variant in variants:
                yield Wish(
                    kind=entry.kind,
                    reader=reader,
                    place=entry.place,
                    node=method.node,
                    combination=entry.combination,
                    plain=without_variants(base.value).unlearned(method.value),
                    base=base,
                    variant=variant,
                    asked=entry.asked,
                )
