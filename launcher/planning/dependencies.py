"""What steps read and write: in which order they run, which needs which, and what no job makes.

Where folders are made or jobs are named, steps go in the order of their files: each behind those that make what
it reads, and those that it names. A training may read such a folder, and the job that makes it another training's
model, so that no order by kind holds for all of them.

The jobs that entries name in `after` and `after_any` are steps of the plan:

after: command/prepare          a job, as the dry run lists it
after: prepare                  a program or folder, by the name of its entry; of swept ones those with equal values
after: prepare@size=8           those of its jobs that have this value
after: "all:pre~relabel"        the job that makes this model; without its variant: all of them
after: train/all:pre            the same, of one kind
after: "train/*"                every other job that matches
"""

import contextlib
import heapq
import itertools
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import translate
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from launcher.context import FOLDERS, INPUTS, OUTPUTS, file_fault
from launcher.draft import Draft, Input, absolute_path
from launcher.errors import (
    MOST_PROBLEMS,
    Error,
    IdError,
    Place,
    Problems,
    known_words,
    nearest,
    question,
)
from launcher.ids import ModelId, canonical, parse_model
from launcher.kind_interface import Role
from launcher.planning.expansion import MAKING, Step
from launcher.planning.model_graph import has_values, without_variants
from launcher.taskfile.entries import FREE, Follows
from launcher.taskfile.nodes import Scalar, listed

MISSING = "missing-input"
UNKNOWN_JOB = "unknown-job"
EXPECTED = "expected-input"
MOST_FILE_NAME = 255  # bytes of one name in a path, on every file system we know
MOST_LISTED = 5  # missing paths named in one warning
FOLDER_SETTING = "cwd"  # of a program
LISTED = "launcher run FILE --dry-run --all"
MOST_PAIRS = 1_000_000  # of a job and one that it names: a plan stays within memory
_GLOB = re.compile(r"[*?\[]")


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
                known = names.meant(at.value)
                tied = names.tied(at.value, step)
                meant = [name for name in tied if name != step.name]
                pairs += len(meant)
                if pairs > MOST_PAIRS:
                    message = f"{word}: this name leads to more than {MOST_PAIRS:,} dependencies between jobs"
                    hint = (
                        "let one program wait for all of them, and the jobs wait for that program"
                    )
                    problems.blame(at.node, "too-many-jobs", message, hint)
                    return {}
                for name in meant:
                    places[-1].setdefault(name, at.node.place)
                if known and not meant:
                    problems.blame(at.node, *_no_partner(word, at.value, step, alone=bool(tied)))
                elif not known and whole:  # else a broken entry may be the one that is meant
                    unknown += 1
                    # the nearest name is looked for, which takes long, only where it is shown
                    why = names.unknown(word, at.value, helped=unknown <= MOST_PROBLEMS)
                    problems.blame(at.node, UNKNOWN_JOB, *why)
                    places[-1].setdefault(at.value, at.node.place)
        done, ended = places
        ended = {name: place for name, place in ended.items() if name not in done}
        if done or ended:
            before[step.name] = Before(done, ended)
    return before


def _no_partner(word: str, text: str, step: Step, *, alone: bool) -> tuple[str, str, str]:
    """Return what to say of a text behind `word` that means no job for this step; `alone`: but itself."""
    if alone:
        message = f"{word}: {text!r} matches only {step.name} itself"
        return UNKNOWN_JOB, message, "name another job, or remove it"
    values = ", ".join(f"{key}={value}" for key, value in step.swept)
    message = f"{word}: no job of {text!r} has the values of {step.name.partition('@')[0]}@{values}"
    hint = "sweep the same values in both, or remove the sweep from one of them"
    return "no-partner", message, hint


class _Names:
    """The names under which the steps of a plan are known."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self._steps = steps
        self._named = {step.name: step for step in steps}
        # (text, what a step that follows it sweeps, is that a program) → keys that both sweep → values → names
        self._tied: dict[
            tuple[str, frozenset[str], bool],
            dict[tuple[str, ...], dict[tuple[str, ...], list[str]]],
        ] = {}
        self._matching: dict[str, tuple[str, ...]] = {}  # by glob, or name and values
        self._by_word: dict[str, dict[str, None]] = {step.name: {step.name: None} for step in steps}
        for step in steps:
            for word in _words(step):
                for known in (word, f"{step.kind.name}/{word}"):
                    self._by_word.setdefault(known, {})[step.name] = None

    def meant(self, text: str) -> Iterable[str]:
        """Return the names of the steps for which a text stands."""
        if text in self._by_word:
            return self._by_word[text]
        if text in self._matching:
            return self._matching[text]
        if _GLOB.search(text):
            pattern = re.compile(translate(text))
            matching = (step.name for step in self._steps if pattern.match(step.name))
            return self._matching.setdefault(text, tuple(matching))
        kind, slash, rest = text.partition("/")
        if selected := self._selected(text):
            return self._matching.setdefault(text, selected)
        try:
            model = _key(parse_model(rest if slash else text))
        except IdError:
            return ()
        return self._by_word.get(f"{kind}/{model}" if slash else model, ())

    def _selected(self, text: str) -> tuple[str, ...]:
        """Return the names of the swept programs and folders that have the values behind `@`."""
        wanted = _pairs(text)
        of_name = self._by_word.get(text.partition("@")[0], ()) if wanted else ()
        steps = (self._named[each] for each in of_name)
        return tuple(
            step.name for step in steps if step.model is None and has_values(step.swept, wanted)
        )

    def tied(self, text: str, step: Step) -> Iterable[str]:
        """Return the names of the steps that a text means to one that follows them.

        If one of two is a swept program, only those meet that have equal values of what both sweep.
        """
        meant = self.meant(text)
        if not step.swept or text in self._named or _GLOB.search(text):
            return meant
        is_program = not step.kind.entry
        chosen = {key for key, _ in _pairs(text)}  # whatever the step has there
        own = {key: _plain(value) for key, value in step.swept if key not in chosen}
        asked = (text, frozenset(own), is_program)
        if asked not in self._tied:
            by_values: dict[tuple[str, ...], dict[tuple[str, ...], list[str]]] = {}
            for other in (self._named[name] for name in meant):
                ties = is_program or not other.kind.entry
                pairs = [(key, value) for key, value in other.swept if ties and key in own]
                of_keys = by_values.setdefault(tuple(key for key, _ in pairs), {})
                of_keys.setdefault(tuple(_plain(value) for _, value in pairs), []).append(
                    other.name
                )
            self._tied[asked] = by_values
        return [
            name
            for keys, names in self._tied[asked].items()
            for name in names.get(tuple(own[key] for key in keys), ())
        ]

    def unknown(self, word: str, text: str, *, helped: bool) -> tuple[str, ...]:
        """Return what to say of a text behind `word` that means no step; `helped`: with the nearest one."""
        verb = "matches" if _GLOB.search(text) else "is named"
        message = f"{word}: no job of this file {verb} {text!r}"
        if not helped:
            return (message,)
        return (
            message,
            question(nearest(text, self._by_word)),
            known_words(text, [step.name for step in self._steps], LISTED),
            "to follow a job of another run: launcher add --after JOB -- PROGRAM",
        )


def _words(step: Step) -> Iterator[str]:
    """Give the words that mean a step, besides its name."""
    if step.model is None:
        rest = step.name.partition("/")[2]
        yield rest
        if step.swept:
            yield rest.partition("@")[0]
    elif step.kind.role in MAKING:
        model = parse_model(step.model)
        yield step.model
        yield _key(model)
        yield _key(without_variants(model))


def _pairs(text: str) -> list[tuple[str, str]]:
    """Return the values that a name has behind `@`."""
    pairs = (pair.partition("=") for pair in text.partition("@")[2].split(","))
    return [(key, value) for key, equals, value in pairs if equals]


def _plain(value: str) -> str:
    """Return a text that is equal for equal values of a sweep, as `same_value` has it."""
    try:
        return str(float(value))
    except ValueError:
        return value


def _key(model: ModelId) -> str:
    """Return a text that is equal for all ways to write a model's ID."""
    return str(ModelId(tuple(replace(stage, data=canonical(stage.data)) for stage in model.stages)))


class Disk(NamedTuple):
    """What a plan asks about the disk."""

    root: Path  # relative paths start here
    exists: Callable[[Path], bool]
    is_folder: Callable[[Path], bool]
    content: Callable[[Path], str]  # a digest of a file
    is_link: Callable[[Path], bool] = Path.is_symlink

    def has(self, path: str) -> bool:
        """Tell whether a path of the settings is there."""
        try:
            return self.exists(absolute_path(self.root, path))
        except Error:  # the home folder of a user that does not exist
            return False


def asked_once(ask: Callable[[Path], bool]) -> Callable[[Path], bool]:
    """Return a question about paths that asks once for each; no is the answer for what cannot be a path."""
    answers: dict[str, bool] = {}

    def answer(path: Path) -> bool:
        text = str(path)  # a path compares itself part by part
        known = answers.get(text)
        if known is None:
            try:
                known = ask(path)
            except (OSError, ValueError):  # a name too long, or with a character no name may have
                known = False
            answers[text] = known
        return known

    return answer


class PreparedStep(NamedTuple):
    """A step, and what its kind says of it."""

    step: Step
    draft: Draft
    makers: tuple[Draft, ...]  # the steps from which its model comes, first to last
    inputs: tuple[Input, ...]
    outputs: tuple[Path, ...]
    argv: tuple[str, ...]


class Links(NamedTuple):
    """What a job has before it."""

    needs: tuple[str, ...]  # earlier jobs that make what it reads, or that it names
    given: tuple[Path, ...]  # what it reads that is there, and that no job makes
    programs: frozenset[str]  # the nearest ones before it, of which nobody knows what they make
    ended: tuple[str, ...] = ()  # earlier jobs that it names, and that must have ended


@dataclass(slots=True)
class _Lack:
    """A path that a job reads and no job makes."""

    path: str
    what: str
    place: Place
    jobs: list[str] = field(default_factory=list)
    remedy: str = ""
    by: str = ""  # the program before these jobs that may make it


class Dependencies:
    """Which job makes which path, and so which needs which."""

    def __init__(
        self, steps: Sequence[PreparedStep], before: Mapping[str, Before], disk: Disk
    ) -> None:
        """Connect steps.

        Args:
            steps: in the order in which they would run if none read what another one makes.
            before: those that come before others because these name them.
            disk: tells what is there.
        """
        self._disk = disk
        self.problems = Problems()
        self._makers: dict[str, str] = {}  # path → job
        self._fillers: dict[str, list[str]] = {}  # folder in which data jobs write → jobs
        self._folders: dict[str, dict[str, None]] = {}  # folder → those that jobs make in it
        self._lacks: dict[str, _Lack] = {}
        self._expected: dict[str, _Lack] = {}  # of jobs behind a program: it may make them
        self._order: dict[str, int] = {}  # job → its place in the plan
        self.programs: set[str] = set()
        self._silent: set[str] = set()  # programs of which no output is named
        self._absent: set[str] = (
            set()
        )  # what entries name, and no job is called: it may make anything
        self._unknown: dict[str, frozenset[str]] = {}  # job → those of these two that are before it
        self._places: dict[
            str, dict[str, Place]
        ] = {}  # program → path that its entry names → where
        self.links: dict[str, Links] = {}
        for prepared in steps:
            self._enter(prepared)
        is_sorted = not before and not any(
            each.step.kind.role is Role.FOLDER or (each.outputs and not each.step.kind.entry)
            for each in steps
        )
        self.steps = steps if is_sorted else self._sorted(steps, before)
        for prepared in self.steps:
            self._connect(prepared, before.get(prepared.step.name, NOTHING))

    def _enter(self, prepared: PreparedStep) -> None:
        """Enter what a job writes; blame it where another one writes the same."""
        step, paths = prepared.step, [_normal(path) for path in prepared.outputs]
        if step.kind.role is Role.FOLDER and paths:
            within, _, name = paths[0].rpartition("/")
            self._folders.setdefault(within, {})[name] = None
        if not step.kind.entry:
            self.programs.add(step.name)
            if prepared.inputs or paths:
                self._check_files(prepared)
            if not paths:
                self._silent.add(step.name)
        for path in paths:
            if len(path) > MOST_FILE_NAME:
                longest = max(path.split("/"), key=lambda name: len(name.encode()))
                if len(longest.encode()) > MOST_FILE_NAME:
                    message = (
                        f"{step.name} would write a file whose name has {len(longest)} characters"
                    )
                    self.problems.blame(step, "long-name", message)
            if step.kind.role is Role.DATA:
                for above in _with_parents(path):
                    self._fillers.setdefault(above, []).append(step.name)
        for other in sorted({self._makers.setdefault(path, step.name) for path in paths}):
            if other != step.name:
                message = f"{step.name} and {other} would write the same files"
                hint = "give one of them another name or folder"
                path = next(path for path in paths if self._makers[path] == other)
                at = self._places.get(step.name, {}).get(path, step.place)
                self.problems.blame(at, "same-output", message, hint)

    def _check_files(self, prepared: PreparedStep) -> None:
        """Blame what no program can read or make as a file; know where its entry names which path."""
        step, inputs = prepared.step, {_normal(file.path) for file in prepared.inputs}
        places = self._places.setdefault(step.name, {})
        files = ((INPUTS, [file.path for file in prepared.inputs]), (OUTPUTS, prepared.outputs))
        for setting, paths in files:
            given = step.settings.given.get(setting)
            nodes = () if given is None else listed(given.node)
            for place, path in enumerate(paths):
                node = nodes[place] if place < len(nodes) else None
                at = step.place if node is None else node.place
                places.setdefault(_normal(path), at)
                fault, hint = file_fault(
                    path,
                    str(self._disk.root),
                    is_output=setting == OUTPUTS,
                    name=node.text if isinstance(node, Scalar) else "",
                    is_link=self._disk.is_link,
                    is_folder=self._disk.is_folder,
                )
                if setting == OUTPUTS and _normal(path) in inputs:
                    fault, hint = (
                        "is an input and an output of one program",
                        "let it write another file",
                    )
                if fault:
                    message = f"{setting}: {self._short(str(path))!r} {fault}"
                    self.problems.blame(at, setting, message, hint)

    def _sorted(
        self, steps: Sequence[PreparedStep], before: Mapping[str, Before]
    ) -> list[PreparedStep]:
        """Return the steps, each behind those that it needs; else they keep their order."""
        needs = self._needs(steps, before)
        followers: list[list[int]] = [[] for _ in steps]
        for at, makers in enumerate(needs):
            for maker in makers:
                followers[maker].append(at)
        waits = [len(makers) for makers in needs]
        ready = [at for at, count in enumerate(waits) if not count]
        heapq.heapify(ready)
        placed = [False] * len(steps)
        order: list[PreparedStep] = []
        while len(order) < len(steps):
            if not ready:  # each of the others waits for one of them
                circle = _circle(needs, placed)
                ready.append(min(circle))
                self._blame_circle([steps[at].step for at in circle], steps[ready[0]].step, before)
            at = heapq.heappop(ready)
            if placed[at]:
                continue
            placed[at] = True
            order.append(steps[at])
            for follower in followers[at]:
                waits[follower] -= 1
                if not waits[follower] and not placed[follower]:
                    heapq.heappush(ready, follower)
        return order

    def _needs(self, steps: Sequence[PreparedStep], before: Mapping[str, Before]) -> list[set[int]]:
        """Return for each step those that it names, and those that make what it reads or a folder around it."""
        places = {prepared.step.name: at for at, prepared in enumerate(steps)}
        needs: list[set[int]] = []
        for at, (step, *_, inputs, _, _) in enumerate(steps):
            named = before.get(step.name, NOTHING)
            makers = {places[name] for name in (*named.done, *named.ended) if name in places}
            for path in (_normal(file.path) for file in inputs):
                makers |= {places[maker] for maker in self._makers_around(path)}
                # of those that fill one folder together, each waits for those before it
                fillers = (places[name] for name in self._fillers.get(path, ()))
                makers |= {maker for maker in fillers if maker < at}
            needs.append(makers - {at})
        return needs

    def _blame_circle(self, steps: Sequence[Step], at: Step, before: Mapping[str, Before]) -> None:
        """Blame a circle, each step of which waits for the next; what the file says, not its kinds."""
        chain = [step.name for step in (*steps, steps[0])]
        names = " → ".join(chain)
        for job, other in itertools.pairwise(chain):
            named = before.get(job, NOTHING)
            if word := named.done.get(other) or named.ended.get(other):
                message = f"these jobs wait for each other, so none can start: {names}"
                hint = "remove one of them from after or after_any"
                self.problems.blame(word, "cycle", message, hint)
                return
        read = (
            place
            for job, other in itertools.pairwise(chain)
            for path, place in self._places.get(job, {}).items()
            if self._makers.get(path) == other
        )
        place = next(read, None)
        if place is not None or any(step.kind.role is Role.FOLDER for step in steps):
            message = f"these jobs read each other's output, so none can start: {names}"
            hint = "let one of them read a file that exists, or the output of another job"
            self.problems.blame(place or at, "cycle", message, hint)

    def _connect(self, prepared: PreparedStep, before: Before) -> None:
        """Link a job with the earlier ones that make what it reads, and with those that it names.

        What a program makes is not known. A job behind one may read what is not there yet, and what is there
        is taken for the program's: the identity of the program stands for it in the job's hash.
        """
        step = prepared.step
        needs = {name for name in before.done if name in self._order}
        absent = before.done.keys() - needs
        self._absent |= absent
        others: list[Input] = []
        for file in prepared.inputs:
            makers = self._makers_of(file)
            needs.update(makers)
            if not makers:
                others.append(file)
        programs = self._programs_before(needs)
        own = frozenset(need for need in needs if need in self._silent) | absent
        unknown = _joined(own, *(self._unknown[need] for need in needs))
        self._unknown[step.name] = unknown
        # its entry tells all that a program reads, so that what nothing makes is a slip
        may_make = programs if step.kind.entry else unknown
        if self._absent:
            may_make |= unknown & self._absent
        given: list[Path] = []
        for file in others:
            if not self._disk.exists(file.path):
                self._lack(step, file, min(may_make, default=""))
            elif not programs:
                given.append(file.path)
        ended = [name for name in before.ended if name in self._order and name not in needs]
        self.links[step.name] = Links(
            self._in_order(needs), tuple(given), programs, self._in_order(ended)
        )
        self._order[step.name] = len(self._order)
        named = "" if step.kind.entry else str(step.settings.values.get(FOLDER_SETTING, ""))
        if named and not named.startswith(FOLDERS):
            self._check_folder(step, named, follows=bool(needs or step.follows != FREE))

    def _check_folder(self, step: Step, named: str, *, follows: bool) -> None:
        """Blame a program that cannot start in its folder; a job before it, if any follows, may make that."""
        given, disk = step.settings.given.get(FOLDER_SETTING), self._disk
        try:
            path = absolute_path(disk.root, named)
            if disk.is_folder(path) or (follows and not disk.exists(path)):
                return
            fault = f"the folder {named!r} does not exist"
            hint = f"create it with mkdir -p {named}, or name the job that makes it in after"
            if disk.exists(path):
                fault = f"{named!r} is a file, not a folder"
                hint = "name the folder that contains it"
        except Error as error:
            fault, hint = str(error), "write an absolute path, or one relative to the project"
        at = step if given is None else given.node
        self.problems.blame(at, FOLDER_SETTING, f"{FOLDER_SETTING}: {fault}", hint)

    def _in_order(self, names: Iterable[str]) -> tuple[str, ...]:
        return tuple(sorted(names, key=self._order.__getitem__))

    def _makers_of(self, file: Input) -> list[str]:
        """Return the jobs until now that make a path, or a folder in which it lies."""
        path = _normal(file.path)
        makers = (*self._fillers.get(path, ()), *self._makers_around(path))
        return [name for name in makers if name in self._order]

    def _makers_around(self, path: str) -> list[str]:
        """Return the jobs that make a path, or a folder in which it lies, wherever they stand."""
        above = _with_parents(path)
        if self._makers.keys().isdisjoint(above):  # as almost always, and faster
            return []
        return [self._makers[folder] for folder in above if folder in self._makers]

    def _programs_before(self, needs: Collection[str]) -> frozenset[str]:
        """Return the nearest programs before a job; jobs behind the same ones share the set."""
        sets = {self.links[need].programs for need in needs if need not in self.programs}
        return _joined(frozenset(need for need in needs if need in self.programs), *sets)

    def behind(self, inputs: Iterable[Input], user: str) -> Links:
        """Return what a job has before it that arises beside the plan's.

        Args:
            inputs: what it reads.
            user: a job that reads that, too; what programs before it make is theirs.
        """
        programs = self.links[user].programs
        needs: set[str] = {*programs}
        given = []
        for file in inputs:
            makers = self._makers_of(file)
            if not makers and not programs and self._disk.exists(file.path):
                given.append(file.path)
            needs.update(makers)
        return Links(self._in_order(needs), tuple(given), programs)

    def _lack(self, step: Step, file: Input, program: str) -> None:
        """Enter a path that is not there; a program before the job, if there is one, may make it."""
        path = _normal(file.path)
        lacks = self._expected if program else self._lacks
        if path not in lacks:
            remedy = "" if program else file.remedy
            place = self._place(step, path)
            lacks[path] = _Lack(path, file.what, place, remedy=remedy, by=program)
        lacks[path].jobs.append(step.name)

    def lacks_of(self, step: Step, left_out: str, outputs: Iterable[Path]) -> None:
        """Enter what a step needs of a job that `phases` leaves out, and that is not there yet."""
        absent = next((path for path in outputs if not self._disk.exists(path)), None)
        if absent is not None:
            path, what = _normal(absent), f"the output of {left_out} (left out by phases)"
            self._lacks.setdefault(path, _Lack(path, what, step.place)).jobs.append(step.name)

    def missing_inputs(self) -> Problems:
        """Return a warning for each place that asks for paths which are not there."""
        warnings = Problems()
        by_place: dict[tuple[Place, str], list[_Lack]] = {}
        for lack in (*self._lacks.values(), *self._expected.values()):
            by_place.setdefault((lack.place, lack.by), []).append(lack)
        for lacks in by_place.values():
            self._note_missing(lacks, warnings)
        return warnings

    def _note_missing(self, lacks: Sequence[_Lack], warnings: Problems) -> None:
        """Note what nothing makes, or what a program has to make as far as is known."""
        first, several = lacks[0], len(lacks) > 1
        notes = [f"read by {_first(first.jobs)}"]
        if several:
            notes = [f"{lack.what}: {self._short(lack.path)}" for lack in lacks[:MOST_LISTED]]
        if len(lacks) > MOST_LISTED:
            notes.append(f"and {len(lacks) - MOST_LISTED} more")
        if program := first.by:
            them = "them" if several else "it"
            what = f"{len(lacks)} inputs are" if several else f"{first.what} is"
            message = f"{what} not there yet"
            message += "" if several else f": {self._short(first.path)}"
            message += f"; {program} runs first and must make {them}"
            hint = f"if {program} is done, run it again: launcher retry --force {program}"
            warnings.note(first.place, EXPECTED, message, hint, *notes)
            return
        message = f"{first.what} is missing, and no job makes it: {self._short(first.path)}"
        if several:
            message = f"{len(lacks)} inputs are missing, and no job makes them"
        remedies = dict.fromkeys(lack.remedy for lack in lacks if lack.remedy)
        remedies |= dict.fromkeys(note for lack in lacks if (note := self._beside(lack.path)))
        warnings.note(first.place, MISSING, message, "", *notes, *remedies)

    def _place(self, step: Step, path: str) -> Place:
        """Return where the file says this path: at the setting from which it comes."""
        if path in (named := self._places.get(step.name, {})):
            return named[path]
        best, length = step.place, 0
        for node in (said.node for said in step.settings.given.values()):
            if not isinstance(node, Scalar) or not node.text:
                continue
            with contextlib.suppress(RuntimeError):  # "~nobody": no path, then
                given = os.path.normpath(self._disk.root / Path(node.text).expanduser())
                if len(given) > length and (path == given or path.startswith(given + "/")):
                    best, length = node.place, len(given)
        return best

    def _beside(self, path: str) -> str:
        """Return which folders the plan makes where it makes not the one of a path; '' elsewhere."""
        for above in _with_parents(path):
            within, _, name = above.rpartition("/")
            if made := self._folders.get(within):
                alike = [other for other in made if other.partition("@")[0] == name] or [*made]
                more = ", …" if len(alike) > MOST_LISTED else ""
                return f"made in {self._short(within)}: {', '.join(alike[:MOST_LISTED])}{more}"
        return ""

    def _short(self, path: str) -> str:
        return path.removeprefix(f"{self._disk.root}/")


def _joined(*sets: frozenset[str]) -> frozenset[str]:
    """Return all that is in some sets: the very same set where it is one that holds all of it."""
    some = {each for each in sets if each}
    return next(iter(some)) if len(some) == 1 else frozenset().union(*some)


def _circle(needs: Sequence[Iterable[int]], placed: Sequence[bool]) -> list[int]:
    """Return steps that wait for one another, each for the next and the last for the first."""
    seen: dict[int, None] = {}
    at = placed.index(False)
    while at not in seen:  # each that is left waits for another one that is left
        seen[at] = None
        at = min(maker for maker in needs[at] if not placed[maker])
    path = list(seen)
    return path[path.index(at) :]


def _normal(path: Path) -> str:
    text = str(path)
    return os.path.normpath(text) if ".." in text else text  # a Path has tidied up all the rest


def _first(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"


@lru_cache(maxsize=4096)
def _with_parents(path: str) -> tuple[str, ...]:
    paths = [path]
    while len(above := paths[-1].rpartition("/")[0]) > 0:
        paths.append(above)
    return tuple(paths)
