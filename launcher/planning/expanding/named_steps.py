"""The jobs that entries name in `after` and `after_any`: which steps of the plan are meant.

after: command/prepare          a job, as the dry run lists it
after: prepare                  a program or folder, by the name of its entry
after: "all:pre~relabel"        the job that makes this model; without its variant: all of them
after: train/all:pre            the same, of one kind
after: "train/*"                every other job that matches
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import translate
from functools import cached_property

from launcher.errors import MOST_PROBLEMS, IdError, Place, Problem, known_words, nearest
from launcher.ids import ModelId, canonical, parse_model
from launcher.kind_interface import Role
from launcher.planning.expanding.step import Step
from launcher.taskfile.parser import TaskFile
from launcher.taskfile.values import At

LISTED = "`launcher run FILE --dry-run --all`"
MOST_PAIRS = 1_000_000  # of a job and one that it names: a plan stays within memory
_MAKERS = frozenset({Role.TRAIN, Role.UNLEARN})
_GLOB = re.compile(r"[*?\[]")


@dataclass(frozen=True, slots=True)
class Before:
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
