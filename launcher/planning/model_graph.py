"""Which models a task file makes, in which order, from which others.

A file may name a model before the entry that makes it, in another order of its data, or as a union
of the same images; two entries that mean the same model make it once. A model that is named without
its variant stands for all variants of it that are made here, in the same combination of the matrix.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial

from launcher.errors import MOST_PROBLEMS, Place, Problem, Severity, UnknownName, nearest
from launcher.ids import DataId, ModelId, canonical, normalise
from launcher.kinds import Kind, Role
from launcher.planning.model_requests import Wish, file_poison, wishes_of, without_variants
from launcher.taskfile.entries import Name
from launcher.taskfile.parser import TaskFile
from launcher.taskfile.settings import spelt
from launcher.taskfile.values import At, unknown_word

MOST_LISTED = 8  # models named in a message


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A model that the plan makes, and the one it starts from."""

    wish: Wish
    model: ModelId
    base: ModelId | None


@dataclass(frozen=True, slots=True)
class Found:
    """A model under the name that an entry gives it, and under that by which it is made."""

    name: ModelId
    model: ModelId


class Makings:
    """The models of a task file; places each one behind what it starts from."""

    def __init__(
        self, task: TaskFile, on_disk: Callable[[str], bool], problems: list[Problem]
    ) -> None:
        self._task, self._on_disk, self._problems = task, on_disk, problems
        self._everywhere = file_poison(task)
        self._wishes = list(wishes_of(task, self._everywhere, problems))
        self._readers = {wish.reader.name: wish.reader for wish in self._wishes}
        self._by_plain: dict[str, list[Wish]] = {}
        self._by_variant: dict[tuple[str, Name | int], list[Wish]] = {}
        for wish in self._wishes:
            plain = str(wish.plain)
            self._by_plain.setdefault(plain, []).append(wish)
            for key in (tuple(sorted(wish.name)), wish.combination):
                self._by_variant.setdefault((plain, key), []).append(wish)
        self._by_meaning: dict[str, list[Wish]] | None = None  # made when first needed
        self._placed: dict[Wish, tuple[Found, ...]] = {}
        self._told: set[tuple[Place, Place]] = set()  # pairs of entries that make the same
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

    def find(self, named: At[ModelId], combination: int) -> tuple[ModelId, ...]:
        """Return the models that are meant, made here or earlier; blame its place if there are none.

        Args:
            named: as it is written; without variants it stands for all of them.
            combination: of the file's matrix; the models of another are meant only if none is.
        """
        return self._find(At(self._everywhere.told(named.value), named.node), combination)

    def _find(self, named: At[ModelId], combination: int) -> tuple[ModelId, ...]:
        wishes = self._candidates(named.value, combination)
        for wish in wishes:
            self._place(wish)
        models = _meant(named.value, [one for wish in wishes for one in self._placed[wish]])
        plain = {str(without_variants(model)) for model in models}
        if len(plain) > 1:  # in other words than any of them, which are made in different ways
            self._problems.append(_ambiguous(named, plain))
            return ()
        if models:
            return models
        if wishes and not any(self._placed[wish] for wish in wishes):
            return ()  # what makes it is broken, and said to be
        if self._on_disk(str(named.value)):
            return (named.value,)
        if self._task.whole:  # else the broken entry may be the one that makes it
            self._problems.append(self._unknown(named))
        return ()

    def _candidates(self, model: ModelId, combination: int) -> list[Wish]:
        """Return the wishes of which one or more may make `model`."""
        plain = without_variants(model)
        text = str(plain)
        # those of other combinations may come later, in their turn
        exact: Name | int = combination if plain == model else tuple(sorted(model.last.variant))
        found = self._by_variant.get((text, exact)) or self._by_plain.get(text)
        if found is None and not self._on_disk(str(model)):
            found = self._of_same_meaning(plain)
            if plain == model:
                found = [wish for wish in found if wish.combination == combination] or found
        return found or []

    def _place(self, wish: Wish) -> None:
        """Put the models of a wish behind what they start from, and that behind its own start."""
        waiting = [] if wish in self._placed else [wish]
        while waiting:  # no recursion: chains may be of any length
            one = waiting[-1]
            named = one.base
            bases = [] if named is None else self._candidates(named.value, one.combination)
            before = [base for base in bases if base not in self._placed]
            if before:
                waiting += reversed(before)
                continue
            waiting.pop()
            if one not in self._placed:
                self._placed[one] = self._made(one)

    def _made(self, wish: Wish) -> tuple[Found, ...]:
        if wish.base is None:
            return self._enter(wish, None)
        bases = self._find(wish.base, wish.combination)
        return tuple(found for base in bases for found in self._enter(wish, base))

    def _enter(self, wish: Wish, base: ModelId | None) -> tuple[Found, ...]:
        made = Made(wish=wish, model=_model(wish, base), base=base)
        try:
            kept = self._by_identity.setdefault(_identity(made), made)
        except UnknownName as error:  # a model of an earlier run, with words of another laboratory
            node = wish.node if wish.base is None else wish.base.node
            self._problems.append(unknown_word(error, node))
            return ()
        if kept is not made:
            entries = (kept.wish.node.place, wish.node.place)
            again = kept.wish.place == wish.place and kept.model == made.model
            if not again and entries not in self._told:
                self._problems.append(_told_once(kept, made))
                self._told.add(entries)
        else:
            kept = self._by_model.setdefault(str(made.model), made)
            if kept is not made:
                self._problems.append(_clash(kept, made))
        return (Found(made.model, kept.model),)

    def _of_same_meaning(self, plain: ModelId) -> list[Wish]:
        if self._by_meaning is None:
            self._by_meaning = {}
            for wish in self._wishes:
                for meaning in self._meanings(wish.plain):
                    self._by_meaning.setdefault(meaning, []).append(wish)
        found = (self._by_meaning.get(meaning) for meaning in self._meanings(plain))
        return next((wishes for wishes in found if wishes), [])

    def _meanings(self, model: ModelId) -> Iterator[str]:
        for reader in self._readers.values():
            try:
                yield str(normalise(model, partial(_images, reader)))
            except UnknownName:
                continue

    def _sound_names(self, but: str) -> Iterator[str]:
        """Give the models that can be made, without those that would start from `but`."""
        for name, wishes in self._by_plain.items():
            if name.startswith((f"{but}#", f"{but}~")):
                continue
            for wish in wishes:
                if wish in self._placed:
                    yield from (str(one.model) for one in self._placed[wish])
                elif wish.base is None:
                    yield name

    def _unknown(self, named: At[ModelId]) -> Problem:
        for stage in named.value.stages:
            for reader in self._readers.values():
                try:
                    _images(reader, stage.data)
                except UnknownName as error:
                    return unknown_word(error, named.node)
        text = str(named.value)
        known = list(dict.fromkeys(self._sound_names(text)))
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


def _meant(named: ModelId, found: Iterable[Found]) -> tuple[ModelId, ...]:
    """Return those of the models found that `named` stands for."""
    fitting = [one for one in found if _fits(named, one.name)]
    exact = [one for one in fitting if one.name == named]
    return tuple(dict.fromkeys(one.model for one in exact or fitting))


def _ambiguous(named: At[ModelId], plain: Iterable[str]) -> Problem:
    return Problem(
        code="ambiguous-model",
        message=f"{named.value} names images on which several models are trained here",
        place=named.node.place,
        hint="write one of them as it is written in its entry",
        notes=(f"they are {' and '.join(sorted(plain))}",),
    )


def _fits(named: ModelId, model: ModelId) -> bool:
    """Tell whether each variant that is named is the one that the model has."""
    stages = zip(named.stages, model.stages, strict=True)
    return all(not one.variant or set(one.variant) == set(two.variant) for one, two in stages)


def _model(wish: Wish, base: ModelId | None) -> ModelId:
    """Return the wish's model with its base as the plan calls it, and its variant."""
    last = wish.plain.last
    if wish.kind.role is not Role.UNLEARN or base is None:
        stage = replace(last, variant=wish.name)
        return ModelId((stage,)) if base is None else base.then(stage)
    method = last.methods[-1]
    variant = dict(base.last.variant)
    for key, value in wish.name:
        if key not in variant:
            variant[key] = value
        elif key not in wish.variant.paired or variant[key] != value:
            variant[f"{method}.{key}"] = value  # the training's value of it is another matter
    made = base.unlearned(method)
    return ModelId((*made.stages[:-1], replace(made.last, variant=tuple(variant.items()))))


def _identity(made: Made) -> str:
    """Return a text that is equal for two models made from the same images in the same way."""
    wish, last = made.wish, made.model.last
    poison = None if wish.poison_kind is None else wish.variant.poison_settings
    parts = [
        wish.kind.name,
        None if made.base is None else str(made.base),
        str(canonical(_images(wish.reader, last.data))),
        None if last.poison is None else str(last.poison),
        list(last.methods),
        wish.variant.settings.text,
        None if poison is None else poison.text,
    ]
    return json.dumps(parts)


def _images(kind: Kind, data: DataId) -> DataId:
    return kind.elementary(kind.images(data))


def _told_once(kept: Made, again: Made) -> Problem:
    first, second = str(kept.model), str(again.model)
    if first == second:
        message = f"{second} is listed twice: it is made once"
    else:
        message = f"{second} is the same model as {first}: it is made once, under that name"
    return Problem(
        code="same-model",
        message=message,
        severity=Severity.WARNING,
        place=again.wish.node.place,
        notes=(f"first in {_line(kept, again)}",),
    )


def _clash(kept: Made, again: Made) -> Problem:
    before, after = kept.wish.variant.settings.values, again.wish.variant.settings.values
    changed = [name for name in after if before.get(name) != after[name]]
    differences = [
        f"{name}: {spelt(before.get(name))} and {spelt(after[name])}" for name in changed
    ]
    return Problem(
        code="duplicate-job",
        message=f"{again.model} would be made twice, in different ways",
        place=again.wish.node.place,
        hint="sweep what differs with matrix, or give one of them a task file of its own",
        notes=(f"first in {_line(kept, again)}", *differences[:MOST_LISTED]),
    )


def _line(first: Made, second: Made) -> str:
    place = first.wish.node.place
    file = "" if place.file == second.wish.node.place.file else f"{place.file}, "
    return f"{file}line {place.line}"
