"""The steps of a plan: one job each before its files are known; which are the same, which are named, in which order.

The jobs that entries name in `after` and `after_any` are steps of the plan:

after: command/prepare          a job, as the dry run lists it
after: prepare                  a program or folder, by the name of its entry
after: "all:pre~relabel"        the job that makes this model; without its variant: all of them
after: train/all:pre            the same, of one kind
after: "train/*"                every other job that matches

Where folders are made or jobs are named, steps go in the order of their files: each behind those that make what
it reads, and those that it names. A training may read such a folder, and the job that makes it another training's
model, so that no order by kind holds for all of them.
"""

import heapq
import itertools
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from fnmatch import translate
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from launcher.draft import Input, absolute_path
from launcher.errors import (
    MOST_PROBLEMS,
    Error,
    IdError,
    Place,
    Problem,
    Severity,
    known_words,
    nearest,
)
from launcher.ids import ModelId, canonical, parse_data, parse_model
from launcher.job_options.registry import JobRequest
from launcher.kind_interface import Kind, Role
from launcher.system.files import Json
from launcher.taskfile.entries import FREE, Follows
from launcher.taskfile.parser import TaskFile
from launcher.taskfile.settings import Settled, spelt
from launcher.taskfile.values import At

SCORING = frozenset({Role.TEST, Role.BENCHMARK})  # they begin with a model, and make none


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
    """Return settings of which some values are those that a plan found out.

    Args:
        kind: whose settings.
        settled: as the task file gives them.
        values: that take the place of those of the file.
    """
    if not values:
        return settled
    whole = {**settled.values, **values}
    decisive = kind.settings.decisive(whole)
    return settled._replace(values=whole, text=json.dumps(decisive, sort_keys=True))


def without_doubles(steps: Iterable[Step], problems: list[Problem]) -> Iterator[Step]:
    """Leave out jobs that are asked for twice; two that differ under one name are an error."""
    by_name: dict[str, Step] = {}
    tests = _SameTests()
    for step in steps:
        other = by_name.setdefault(step.name, step)
        if other is step:
            same = tests.first(step)
            if same is step:
                yield step
                continue
            message = f"{step.name} is the same test as {same.name}: it runs once, under that name"
            problems.append(_double("same-data", message, same, step, Severity.WARNING))
        elif other.follows.texts != step.follows.texts:
            message = f"{step.name} is asked for twice, with different words after it"
            problems.append(_double("duplicate-job", message, other, step, Severity.ERROR))
        elif dict(other.settings.values) == dict(step.settings.values):
            if other.place == step.place:
                continue  # one entry, in two combinations of the matrix that do not concern it
            message = f"{step.name} is asked for twice: it runs once"
            problems.append(_double("listed-twice", message, other, step, Severity.WARNING))
        else:
            message = f"{step.name} is asked for twice, with different settings"
            problems.append(_double("duplicate-job", message, other, step, Severity.ERROR))


class _SameTests:
    """Finds tests of one model on the same images, in whatever words these are named."""

    def __init__(self) -> None:
        self._images: dict[tuple[str, str], str] = {}  # (kind, data ID) → its images
        self._first: dict[tuple[str, str | None, str, str], Step] = {}

    def first(self, step: Step) -> Step:
        """Return the first test that is the same as this one; the step itself if there is none."""
        if step.kind.role not in SCORING or step.images is None:
            return step
        named = (step.kind.name, step.images)
        if named not in self._images:
            meant = canonical(step.kind.elementary(parse_data(step.images)))
            self._images[named] = str(meant)
        key = (step.kind.name, step.model, self._images[named], step.settings.text)
        return self._first.setdefault(key, step)


def _double(code: str, message: str, first: Step, second: Step, severity: Severity) -> Problem:
    before, after = first.settings.values, second.settings.values
    differences = [
        f"{name}: {spelt(before.get(name))} and {spelt(after[name])}"
        for name in after
        if before.get(name) != after[name]
    ]
    return Problem(
        code=code,
        message=message,
        severity=severity,
        place=second.place,
        notes=(f"first in line {first.place.line}", *differences),
    )


LISTED = "`launcher run FILE --dry-run --all`"
MOST_PAIRS = 1_000_000  # of a job and one that it names: a plan stays within memory
_MAKERS = frozenset({Role.TRAIN, Role.METHOD})
_GLOB = re.compile(r"[*?\[]")


class Before(NamedTuple):
    """The steps behind which a step runs, each with the word that names it."""

    done: Mapping[str, Place]  # they must be done
    ended: Mapping[str, Place]  # they must have ended, done or not

    @property
    def names(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Their names."""
        return tuple(self.done), tuple(self.ended)


NOTHING = Before({}, {})


def steps_before(
    steps: Sequence[Step], task: TaskFile, problems: list[Problem]
) -> dict[str, Before]:
    """Return behind which steps others run, by their names; nothing of a step that names none.

    Args:
        steps: every step of the plan.
        task: the file.
        problems: where a name that means nothing is blamed.
    """
    following = [step for step in steps if step.follows.after or step.follows.after_any]
    names = _Names(steps, task)
    before: dict[str, Before] = {}
    for step in following:
        done = names.meant("after", step.follows.after, step, problems)
        ended = names.meant("after_any", step.follows.after_any, step, problems)
        ended = {name: place for name, place in ended.items() if name not in done}
        if done or ended:
            before[step.name] = Before(done, ended)
    return before if names.are_few else {}


class _Names:
    """The names under which the steps of a plan are known."""

    def __init__(self, steps: Sequence[Step], task: TaskFile) -> None:
        self._steps, self._task = steps, task
        self._matching: dict[str, tuple[str, ...]] = {}  # by glob
        self._unknown = 0  # names that meant nothing
        self._pairs = 0  # of a job and one that it names

    @cached_property
    def _by_word(self) -> dict[str, dict[str, None]]:
        words: dict[str, dict[str, None]] = {step.name: {step.name: None} for step in self._steps}
        for step in self._steps:
            for word in _words(step):
                words.setdefault(word, {})[step.name] = None
                words.setdefault(f"{step.kind.name}/{word}", {})[step.name] = None
        return words

    @property
    def are_few(self) -> bool:
        """Whether the plan of what was named until now stays within memory."""
        return self._pairs <= MOST_PAIRS

    def meant(
        self, word: str, named: Iterable[At[str]], step: Step, problems: list[Problem]
    ) -> dict[str, Place]:
        """Return the steps that some names mean; blame those that mean none.

        Args:
            word: of the language: `after` or `after_any`.
            named: as the entry has them.
            step: which names them.
            problems: where complaints are added.
        """
        places: dict[str, Place] = {}
        for at in named:
            names = [name for name in self._find(at.value) if name != step.name]
            were_few = self.are_few
            self._pairs += len(names)
            if not self.are_few:
                problems += [_too_many(word, at)] if were_few else []
                return {}
            place = at.node.place
            places |= {name: place for name in names if name not in places}
            if not names and (problem := self._problem(word, at, step)) is not None:
                problems.append(problem)
        return places

    def _find(self, text: str) -> Iterable[str]:
        if text in self._by_word:
            return self._by_word[text]
        if _GLOB.search(text):
            if text not in self._matching:
                pattern = re.compile(translate(text))
                matching = (step.name for step in self._steps if pattern.match(step.name))
                self._matching[text] = tuple(matching)
            return self._matching[text]
        kind, slash, rest = text.partition("/")
        model = _model_key(rest if slash else text)
        return self._by_word.get(f"{kind}/{model}" if slash else model, ()) if model else ()

    def _problem(self, word: str, at: At[str], step: Step) -> Problem | None:
        """Return what is wrong with a name that means no other step; None where that is not sure."""
        if step.name in self._find(at.value):
            return Problem(
                code="unknown-job",
                message=f"{word}: {step.name} cannot follow itself, and {at.value!r} means no other job",
                place=at.node.place,
                hint="name another job, or leave it out",
            )
        if self._task.errors:
            return None  # an entry that could not be read may be the one that is meant
        verb = "matches" if _GLOB.search(at.value) else "is called"
        message = f"{word}: no job of this file {verb} {at.value!r}"
        self._unknown += 1
        if self._unknown > MOST_PROBLEMS:  # which are not shown: to look for the nearest takes long
            return Problem(code="unknown-job", message=message, place=at.node.place)
        close = nearest(at.value, self._by_word)
        return Problem(
            code="unknown-job",
            message=message,
            place=at.node.place,
            hint=f"did you mean '{close}'?" if close else "",
            notes=(
                known_words(at.value, [step.name for step in self._steps], LISTED),
                "a program follows a job of another run by `launcher add --after JOB -- PROGRAM`",
            ),
        )


def _too_many(word: str, at: At[str]) -> Problem:
    return Problem(
        code="too-many-jobs",
        message=f"{word}: with this name, jobs of this file wait for others in more than {MOST_PAIRS:,} pairs",
        place=at.node.place,
        hint="let one program follow them all, and the jobs follow that program",
    )


def _words(step: Step) -> Iterator[str]:
    """Give the words that mean a step, besides its name."""
    if step.model is None:
        rest = step.name.partition("/")[2]
        yield rest
        if step.kind.role is Role.FOLDER:
            yield rest.partition("@")[0]
    elif step.kind.role in _MAKERS:
        model = parse_model(step.model)
        yield step.model
        yield _key(model)
        yield _key(_plain(model))


def _model_key(text: str) -> str:
    """Return a text that is equal for all ways to write a model's ID; '' if it is none."""
    try:
        return _key(parse_model(text))
    except IdError:
        return ""


def _key(model: ModelId) -> str:
    return str(ModelId(tuple(replace(stage, data=canonical(stage.data)) for stage in model.stages)))


def _plain(model: ModelId) -> ModelId:
    return ModelId(tuple(replace(stage, variant=()) for stage in model.stages))


SETTING = "cwd"


class ProgramFolders(NamedTuple):
    """Looks at the folders that entries of programs name."""

    root: Path  # relative ones start here
    exists: Callable[[Path], bool]
    is_folder: Callable[[Path], bool]

    def problem(self, step: Step, *, follows: bool) -> Problem | None:
        """Return why a step cannot start in its folder; None if it may.

        Args:
            step: of any kind.
            follows: whether a job runs before it, which may make the folder.
        """
        named = "" if step.kind.entry else str(step.settings.values.get(SETTING, ""))
        if not named:
            return None
        try:
            path = absolute_path(self.root, named)
        except Error as error:
            return _problem(step, f"{SETTING}: {error}", "give a path from the project, or from /")
        if self.is_folder(path) or (follows and not self.exists(path)):
            return None
        if self.exists(path):
            message = f"{SETTING}: {named!r} is a file, and a program starts in a folder"
            return _problem(step, message, "name the folder in which it lies")
        hint = f"make it with mkdir -p {named}, or name the job that makes it: after: JOB"
        return _problem(step, f"{SETTING}: there is no folder {named!r}", hint)


def _problem(step: Step, message: str, hint: str) -> Problem:
    given = step.settings.given.get(SETTING)
    place = step.place if given is None else given[1].place
    return Problem(code=SETTING, message=message, place=place, hint=hint)


class StepFiles(NamedTuple):
    """A step, and what its kind says that it reads and writes."""

    step: Step
    inputs: Sequence[Input]
    outputs: Sequence[os.PathLike[str]]


Named = Mapping[str, Mapping[str, Place]]  # step → the steps that it names, and where
_NONE: Named = {}


def in_order_of_files(
    steps: Sequence[StepFiles], problems: list[Problem], named: Named = _NONE
) -> list[Step]:
    """Return the steps, each behind those that make what it reads; else they keep their order.

    Args:
        steps: in the order in which they would run if none read what another one makes.
        problems: where a circle is blamed.
        named: the steps that come before others because these name them.
    """
    needs = _needs(steps, named)
    followers: list[list[int]] = [[] for _ in steps]
    for at, makers in enumerate(needs):
        for maker in makers:
            followers[maker].append(at)
    waits = [len(makers) for makers in needs]
    ready = [at for at, count in enumerate(waits) if not count]
    heapq.heapify(ready)
    placed = [False] * len(steps)
    order: list[Step] = []
    while len(order) < len(steps):
        if not ready:  # each of the others waits for one of them
            ready.append(_released(steps, needs, placed, problems, named))
        at = heapq.heappop(ready)
        if placed[at]:
            continue
        placed[at] = True
        order.append(steps[at].step)
        for follower in followers[at]:
            waits[follower] -= 1
            if not waits[follower] and not placed[follower]:
                heapq.heappush(ready, follower)
    return order


def _needs(steps: Sequence[StepFiles], named: Named) -> list[set[int]]:
    """Return for each step those that it names, and those that make what it reads or a folder around it."""
    place_of = {step.name: at for at, (step, _, _) in enumerate(steps)} if named else {}
    makers: dict[str, int] = {}
    filled: dict[str, list[int]] = {}  # folder in which data jobs write → these
    for at, (step, _, outputs) in enumerate(steps):
        for path in map(_normal, outputs):
            makers.setdefault(path, at)
            if step.kind.role is Role.DATA:
                for above in _with_parents(path):
                    filled.setdefault(above, []).append(at)
    needs: list[set[int]] = []
    for at, (step, inputs, _) in enumerate(steps):
        paths = [_normal(file.path) for file in inputs]
        own = {makers[above] for path in paths for above in _with_parents(path) if above in makers}
        # of those that fill one folder together, each waits for those before it
        own |= {maker for path in paths for maker in filled.get(path, ()) if maker < at}
        own |= {place_of[name] for name in named.get(step.name, ()) if name in place_of}
        needs.append(own - {at})
    return needs


def _released(
    steps: Sequence[StepFiles],
    needs: Sequence[Iterable[int]],
    placed: Sequence[bool],
    problems: list[Problem],
    named: Named,
) -> int:
    """Return a step of a circle, which is placed in spite of it; blame what the file says, not its kinds."""
    first = placed.index(False)
    seen: dict[int, None] = {}
    at = first
    while at not in seen:  # each that is left waits for another one that is left
        seen[at] = None
        at = min(maker for maker in needs[at] if not placed[maker])
    path = list(seen)
    circle = path[path.index(at) :]
    chain = [steps[each].step.name for each in [*circle, circle[0]]]
    names = " → ".join(chain)
    words = (named.get(job, {}).get(before) for job, before in itertools.pairwise(chain))
    if word := next((place for place in words if place is not None), None):
        problems.append(
            Problem(
                code="cycle",
                message=f"each of these waits for the next, so none can begin: {names}",
                place=word,
                hint="take one of them out of after or after_any",
            )
        )
        return min(circle)
    if not any(steps[each].step.kind.role is Role.FOLDER for each in circle):
        return min(circle)
    problems.append(
        Problem(
            code="cycle",
            message=f"these read what the others make, so none can begin: {names}",
            place=steps[min(circle)].step.place,
            hint="let one of them read what another job makes, or what is there",
        )
    )
    return min(circle)


def _normal(path: os.PathLike[str]) -> str:
    return os.path.normpath(path)


def _with_parents(path: str) -> Iterator[str]:
    yield path
    while (above := path.rpartition("/")[0]) and above != path:
        yield above
        path = above
