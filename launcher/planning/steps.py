"""The steps of a plan: one job each before its files are known; which are the same, and which are named by others.

The jobs that entries name in `after` and `after_any` are steps of the plan:

after: command/prepare          a job, as the dry run lists it
after: prepare                  a program or folder, by the name of its entry
after: "all:pre~relabel"        the job that makes this model; without its variant: all of them
after: train/all:pre            the same, of one kind
after: "train/*"                every other job that matches
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from fnmatch import translate
from typing import NamedTuple

from launcher.errors import MOST_PROBLEMS, IdError, Place, Problems, known_words, nearest, question
from launcher.ids import ModelId, canonical, parse_data, parse_model
from launcher.job_options.registry import JobRequest
from launcher.kind_interface import Kind, Role
from launcher.system.files import Json
from launcher.taskfile.entries import FREE, At, Follows
from launcher.taskfile.settings import Settled, completed, spelt

SCORING = frozenset({Role.TEST, Role.BENCHMARK})  # they begin with a model, and make none
MAKING = frozenset({Role.TRAIN, Role.METHOD})  # they make a model
LISTED = "`launcher run FILE --dry-run --all`"
MOST_PAIRS = 1_000_000  # of a job and one that it names: a plan stays within memory
_GLOB = re.compile(r"[*?\[]")


class Step(NamedTuple):
    """One job before its files are known."""

    kind: Kind
    name: str
    place: Place
    settings: Settled
    request: JobRequest
    model: str | None = None
    base: str | None = None
    data: str | None = None
    images: str | None = None
    follows: Follows = FREE
    condition: str = ""  # of a test, see `launcher.kind_interface`


def with_values(kind: Kind, settled: Settled, values: Mapping[str, Json]) -> Settled:
    """Return a kind's settings of which some values are those that a plan found out."""
    if not values:
        return settled
    return completed(kind, {**settled.values, **values}, settled.given)


def differences(before: Mapping[str, Json], after: Mapping[str, Json]) -> list[str]:
    """Return in a few words each in which settings two jobs differ."""
    return [
        f"{name}: {spelt(before.get(name))} and {spelt(value)}"
        for name, value in after.items()
        if before.get(name) != value
    ]


def without_doubles(steps: Iterable[Step], problems: Problems) -> Iterator[Step]:
    """Leave out jobs that are asked for twice; two that differ under one name are an error."""
    by_name: dict[str, Step] = {}
    by_test: dict[tuple[str, str | None, str, str], Step] = {}
    images: dict[tuple[str, str], str] = {}  # (kind, data ID) → its images, in whatever words
    for step in steps:
        other = by_name.setdefault(step.name, step)
        if other is step:
            same = step
            if step.kind.role in SCORING and step.images is not None:
                named = (step.kind.name, step.images)
                if named not in images:
                    meant = step.kind.elementary(parse_data(step.images))
                    images[named] = str(canonical(meant))
                key = (step.kind.name, step.model, images[named], step.settings.text)
                same = by_test.setdefault(key, step)
            if same is step:
                yield step
                continue
            message = f"{step.name} is the same test as {same.name}: it runs once, under that name"
            problems.note(step, "same-data", message, "", *_beside(same, step))
        elif other.follows.texts != step.follows.texts:
            message = f"{step.name} is asked for twice, with different words after it"
            problems.blame(step, "duplicate-job", message, "", *_beside(other, step))
        elif dict(other.settings.values) != dict(step.settings.values):
            message = f"{step.name} is asked for twice, with different settings"
            problems.blame(step, "duplicate-job", message, "", *_beside(other, step))
        elif other.place != step.place:  # else one entry, in combinations that do not concern it
            message = f"{step.name} is asked for twice: it runs once"
            problems.note(step, "listed-twice", message, "", *_beside(other, step))


def _beside(first: Step, second: Step) -> list[str]:
    changed = differences(first.settings.values, second.settings.values)
    return [f"first in line {first.place.line}", *changed]


class Before(NamedTuple):
    """The steps behind which a step runs, each with the word that names it."""

    done: Mapping[str, Place]  # they must be done
    ended: Mapping[str, Place]  # they must have ended, done or not


NOTHING = Before({}, {})


def steps_before(steps: Sequence[Step], *, whole: bool, problems: Problems) -> dict[str, Before]:
    """Return behind which steps others run, by their names; nothing of a step that names none.

    Args:
        steps: every step of the plan.
        whole: every entry could be read, so that a name which means nothing is wrong.
        problems: where such a name is blamed.
    """
    following = [step for step in steps if step.follows.texts != FREE.texts]
    if not following:
        return {}
    names = _Names(steps)
    before: dict[str, Before] = {}
    unknown = pairs = 0
    for step in following:
        places: list[dict[str, Place]] = []
        for word, named in zip(Follows._fields, step.follows, strict=True):
            places.append({})
            for at in named:
                meant = [name for name in names.meant(at.value) if name != step.name]
                pairs += len(meant)
                if pairs > MOST_PAIRS:
                    message = f"{word}: with this name, jobs of this file wait for others in more than {MOST_PAIRS:,} pairs"
                    hint = "let one program follow them all, and the jobs follow that program"
                    problems.blame(at.node, "too-many-jobs", message, hint)
                    return {}
                place = at.node.place
                for name in meant:
                    places[-1].setdefault(name, place)
                if not meant and step.name in names.meant(at.value):
                    message = f"{word}: {step.name} cannot follow itself, and {at.value!r} means no other job"
                    hint = "name another job, or leave it out"
                    problems.blame(at.node, "unknown-job", message, hint)
                elif not meant and whole:  # else a broken entry may be the one that is meant
                    unknown += 1
                    # the nearest name is looked for, which takes long, only where it is shown
                    names.blame(word, at, problems, helped=unknown <= MOST_PROBLEMS)
        done, ended = places
        ended = {name: place for name, place in ended.items() if name not in done}
        if done or ended:
            before[step.name] = Before(done, ended)
    return before


class _Names:
    """The names under which the steps of a plan are known."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self._steps = steps
        self._matching: dict[str, tuple[str, ...]] = {}  # by glob
        self._by_word: dict[str, dict[str, None]] = {step.name: {step.name: None} for step in steps}
        for step in steps:
            for word in _words(step):
                for known in (word, f"{step.kind.name}/{word}"):
                    self._by_word.setdefault(known, {})[step.name] = None

    def meant(self, text: str) -> Iterable[str]:
        """Return the names of the steps for which a text stands."""
        if text in self._by_word:
            return self._by_word[text]
        if _GLOB.search(text):
            if text not in self._matching:
                pattern = re.compile(translate(text))
                matching = (step.name for step in self._steps if pattern.match(step.name))
                self._matching[text] = tuple(matching)
            return self._matching[text]
        kind, slash, rest = text.partition("/")
        try:
            model = _key(parse_model(rest if slash else text))
        except IdError:
            return ()
        return self._by_word.get(f"{kind}/{model}" if slash else model, ())

    def blame(self, word: str, at: At[str], problems: Problems, *, helped: bool) -> None:
        """Blame a name behind `word` that means no step; `helped`: with the nearest one."""
        verb = "matches" if _GLOB.search(at.value) else "is called"
        message = f"{word}: no job of this file {verb} {at.value!r}"
        if not helped:
            problems.blame(at.node, "unknown-job", message)
            return
        problems.blame(
            at.node,
            "unknown-job",
            message,
            question(nearest(at.value, self._by_word)),
            known_words(at.value, [step.name for step in self._steps], LISTED),
            "a program follows a job of another run by `launcher add --after JOB -- PROGRAM`",
        )


def _words(step: Step) -> Iterator[str]:
    """Give the words that mean a step, besides its name."""
    if step.model is None:
        rest = step.name.partition("/")[2]
        yield rest
        if step.kind.role is Role.FOLDER:
            yield rest.partition("@")[0]
    elif step.kind.role in MAKING:
        model = parse_model(step.model)
        yield step.model
        yield _key(model)
        yield _key(without_variants(model))


def without_variants(model: ModelId) -> ModelId:
    """Return the model as it would be called if nothing was swept."""
    if not any(stage.variant for stage in model.stages):
        return model
    return ModelId(tuple(replace(stage, variant=()) for stage in model.stages))


def _key(model: ModelId) -> str:
    """Return a text that is equal for all ways to write a model's ID."""
    return str(ModelId(tuple(replace(stage, data=canonical(stage.data)) for stage in model.stages)))
