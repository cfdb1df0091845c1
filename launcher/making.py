"""Which models a task file makes, in which order, from which others.

A file may name a model before the entry that makes it, in another order of its data, or as a union
of the same images; two entries that mean the same model make it once.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

from launcher.document import Scalar
from launcher.entries import TrainEntry, UnlearnEntry, companion
from launcher.errors import MOST_PROBLEMS, Place, Problem, Severity, UnknownName, nearest
from launcher.ids import DataId, ModelId, Poison, Stage, canonical, normalise
from launcher.kinds import Kind, Role
from launcher.settings import Settled
from launcher.taskfile import TaskFile
from launcher.written import Asked, At, unknown_word

MOST_ID_BYTES = 255  # a model's ID is the name of its folder
MOST_LISTED = 8  # models named in a message


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """A model that one entry asks for."""

    kind: Kind
    reader: Kind  # knows which images the model's data IDs mean
    place: Place
    node: Scalar  # the word that sets it apart: its data, its poison or its method
    written: ModelId  # with its base as it is written in the file
    base: At[ModelId] | None
    settings: Settled
    asked: Asked
    poison_kind: Kind | None = None
    poison_settings: Settled | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A model that the plan makes, and the one it starts from."""

    wish: Wish
    model: ModelId
    base: ModelId | None


class Makings:
    """The models of a task file; places each one behind what it starts from."""

    def __init__(
        self,
        task: TaskFile,
        kinds: Mapping[str, Kind],
        on_disk: Callable[[str], bool],
        problems: list[Problem],
    ) -> None:
        self._task, self._on_disk, self._problems = task, on_disk, problems
        self._wishes = [wish for wish in _wishes(task, kinds) if not _too_long(wish, problems)]
        self._readers = {wish.reader.name: wish.reader for wish in self._wishes}
        self._by_written: dict[str, Wish] = {}
        for wish in self._wishes:
            self._by_written.setdefault(str(wish.written), wish)
        self._by_meaning: dict[str, Wish] | None = None  # made when a name is not found as written
        self._placed: dict[int, ModelId | None] = {}  # by id() of the wish
        self._by_identity: dict[str, Made] = {}
        self._by_model: dict[str, Made] = {}

    def in_order(self) -> list[Made]:
        """Return every model once, each behind the one it starts from."""
        for wish in self._wishes:
            self._place(wish)
        return list(self._by_model.values())

    def makes(self, model: ModelId) -> bool:
        """Tell whether this file makes `model`."""
        return str(model) in self._by_model

    def find(self, named: At[ModelId]) -> ModelId | None:
        """Return the model that is meant, made here or earlier; blame its place if there is none."""
        text = str(named.value)
        wish = self._by_written.get(text)
        if wish is None and self._on_disk(text):
            return named.value
        if wish is None:
            wish = self._of_same_meaning(named.value)
        if wish is not None:
            return self._place(wish)
        if self._task.whole:  # else the broken entry may be the one that makes it
            self._problems.append(self._unknown(named))
        return None

    def _place(self, wish: Wish) -> ModelId | None:
        """Put a model behind its base; return the model that fulfils the wish."""
        if id(wish) in self._placed:
            return self._placed[id(wish)]
        base = None if wish.base is None else self.find(wish.base)
        if wish.base is not None and base is None:
            self._placed[id(wish)] = None
            return None
        made = Made(wish=wish, model=_model(wish, base), base=base)
        try:
            kept = self._by_identity.setdefault(_identity(made), made)
        except UnknownName as error:  # a model of an earlier run, with words of another laboratory
            node = wish.node if wish.base is None else wish.base.node
            self._problems.append(unknown_word(error, node))
            self._placed[id(wish)] = None
            return None
        if kept is not made:
            self._problems.append(_told_once(kept, made))
        else:
            kept = self._by_model.setdefault(str(made.model), made)
            if kept is not made:
                self._problems.append(_clash(kept, made))
        self._placed[id(wish)] = kept.model
        return kept.model

    def _of_same_meaning(self, model: ModelId) -> Wish | None:
        if self._by_meaning is None:
            self._by_meaning = {}
            for wish in self._wishes:
                for meaning in self._meanings(wish.written):
                    self._by_meaning.setdefault(meaning, wish)
        found = (self._by_meaning.get(meaning) for meaning in self._meanings(model))
        return next((wish for wish in found if wish is not None), None)

    def _meanings(self, model: ModelId) -> Iterator[str]:
        for reader in self._readers.values():
            try:
                yield str(normalise(model, partial(_images, reader)))
            except UnknownName:
                continue

    def _sound_names(self, but: str) -> Iterator[str]:
        """Give the models that can be made, without those that would start from `but`."""
        for name, wish in self._by_written.items():
            broken = id(wish) in self._placed and self._placed[id(wish)] is None
            if not broken and not name.startswith((f"{but}#", f"{but}~")):
                yield name

    def _unknown(self, named: At[ModelId]) -> Problem:
        for stage in named.value.stages:
            for reader in self._readers.values():
                try:
                    _images(reader, stage.data)
                except UnknownName as error:
                    return unknown_word(error, named.node)
        text, known = str(named.value), [*self._sound_names(str(named.value))]
        # a file with hundreds of these is not helped by hundreds of slow suggestions
        close = nearest(text, known) if len(self._problems) < MOST_PROBLEMS else None
        notes = [f"made here: {', '.join(known[:MOST_LISTED])}"] if known else []
        if len(known) > MOST_LISTED:
            notes[0] += f" and {len(known) - MOST_LISTED} more"
        return Problem(
            code="unknown-model",
            message=f"model {text!r} is neither made here nor in the folder of the run",
            place=named.node.place,
            hint=f"did you mean '{close}'?" if close else "",
            notes=tuple(notes),
        )


def _wishes(task: TaskFile, kinds: Mapping[str, Kind]) -> Iterator[Wish]:
    """Give a wish for each poison of each training, then for each method of each unlearning."""
    for entry in task.entries:
        if isinstance(entry, TrainEntry):
            yield from _trainings(entry)
    for entry in task.entries:
        if isinstance(entry, UnlearnEntry):
            reader = companion(kinds, entry.kind, Role.TRAIN) or entry.kind
            for method, settings in entry.methods:
                yield Wish(
                    kind=entry.kind,
                    reader=reader,
                    place=entry.place,
                    node=method.node,
                    written=entry.base.value.unlearned(method.value),
                    base=entry.base,
                    settings=settings,
                    asked=entry.asked,
                )


def _trainings(entry: TrainEntry) -> Iterator[Wish]:
    clean: At[Poison | None] = At(None, entry.data.node)
    for poison in entry.poisons or (clean,):
        stage = Stage(entry.data.value, poison.value)
        base = entry.base
        yield Wish(
            kind=entry.kind,
            reader=entry.kind,
            place=entry.place,
            node=poison.node,
            written=ModelId((stage,)) if base is None else base.value.then(stage),
            base=base,
            settings=entry.settings,
            asked=entry.asked,
            poison_kind=None if poison.value is None else entry.poison_kind,
            poison_settings=None if poison.value is None else entry.poison_settings,
        )


def _model(wish: Wish, base: ModelId | None) -> ModelId:
    """Return the wish's model with its base as the plan calls it."""
    last = wish.written.last
    if base is None:
        return ModelId((last,))
    if wish.kind.role is Role.UNLEARN:
        return base.unlearned(last.methods[-1])
    return base.then(last)


def _identity(made: Made) -> str:
    """Return a text that is equal for two models made from the same images in the same way."""
    wish, last = made.wish, made.model.last
    settings = {
        name: value
        for name, value in wish.settings.values.items()
        if name not in wish.kind.settings.neutral
    }
    poison = wish.poison_settings
    parts = [
        wish.kind.name,
        None if made.base is None else str(made.base),
        str(canonical(_images(wish.reader, last.data))),
        None if last.poison is None else str(last.poison),
        list(last.methods),
        settings,
        None if poison is None else dict(poison.values),
    ]
    return json.dumps(parts, sort_keys=True)


def _images(kind: Kind, data: DataId) -> DataId:
    return kind.elementary(kind.images(data))


def _too_long(wish: Wish, problems: list[Problem]) -> bool:
    size = len(str(wish.written))  # IDs are ASCII
    if size > MOST_ID_BYTES:
        message = f"the ID of this model has {size} characters, its folder's name has room for "
        problems.append(
            Problem(code="long-id", message=f"{message}{MOST_ID_BYTES}", place=wish.node.place)
        )
    return size > MOST_ID_BYTES


def _told_once(kept: Made, again: Made) -> Problem:
    first, second = str(kept.model), str(again.wish.written)
    if first == second:
        message = f"{second} is listed twice: it is made once"
    else:
        message = f"{second} is the same model as {first}: it is made once, under that name"
    return Problem(
        code="same-model",
        message=message,
        severity=Severity.WARNING,
        place=again.wish.node.place,
        notes=(f"first in line {kept.wish.node.place.line}",),
    )


def _clash(kept: Made, again: Made) -> Problem:
    before, after = kept.wish.settings.values, again.wish.settings.values
    changed = [name for name in after if before.get(name) != after[name]]
    differences = [f"{name}: {before.get(name)} and {after[name]}" for name in changed]
    return Problem(
        code="duplicate-job",
        message=f"{again.model} would be made twice, in different ways",
        place=again.wish.node.place,
        hint="give one of them a task file of its own, with another name",
        notes=(f"first in line {kept.wish.node.place.line}", *differences[:MOST_LISTED]),
    )
