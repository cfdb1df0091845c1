"""Dependencies of steps: their order, their links by files and names, and inputs that no job makes.

If a plan makes folders or its entries name jobs, steps are sorted by their files. Each step follows the steps that
make its inputs, and those that it names. A training may read such a folder, and the job that makes the folder may read
another training's model, so no order by kind fits all jobs.

The jobs that entries name in `after` and `after_any` are steps of the plan:

    after: command/prepare          a job, as the dry run lists it
    after: prepare                  a program or folder, by the name of its entry; if swept, the jobs with equal values
    after: prepare@size=8           the jobs of the entry that have this value
    after: "all:pre~relabel"        the job that makes this model; without a variant, the jobs of all variants
    after: train/all:pre            the same, of one kind
    after: "train/*"                every other job that matches
"""

import contextlib
import heapq
import itertools
import os
import re
import shlex
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import translate
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from launcher.experiments.draft import Draft, Input
from launcher.experiments.kind_interface import Role
from launcher.experiments.planning.expansion import MODEL_MAKING_ROLES, PlannedStep
from launcher.experiments.planning.model_graph import (
    Comparable,
    comparable_text,
    comparable_value,
    has_values,
    without_variants,
)
from launcher.experiments.taskfile.entries import NO_DEPENDENCIES, NamedDependencies
from launcher.experiments.taskfile.nodes import ScalarNode, as_list
from launcher.ids import ModelId, canonical, parse_model
from launcher.provenance.file_patterns import existing_files
from launcher.provenance.folder_contents import FOLDER_END
from launcher.queue.jobs.context import (
    FOLDER_PLACEHOLDERS,
    INPUTS,
    OUTPUTS,
    file_obstacle,
    folders_above,
)
from launcher.queue.jobs.run_folders import absolute_path
from launcher.system.errors import (
    MOST_PROBLEMS,
    Error,
    IdError,
    Problems,
    SourceLocation,
    did_you_mean,
    list_known_names,
    nearest,
)
from launcher.system.lazy_regex import compile_lazily
from launcher.system.real_paths import RealPaths

MISSING_CODE = "missing-input"
UNKNOWN_JOB_CODE = "unknown-job"
EXPECTED_CODE = "expected-input"
MOST_FILE_NAME = 255  # bytes of one name in a path, on every file system we know
MOST_LISTED = 5  # missing paths named in one warning
FOLDER_SETTING = "cwd"  # setting of a program
MOST_LISTED_NAMES = "launcher run FILE --dry-run --all"
MOST_PAIRS = 1_000_000  # pairs of a job and one that it names: a plan stays within memory
_GLOB = compile_lazily(r"[*?\[]")
# (function that makes values comparable, common keys) → values → names
_TiedNames = dict[tuple[Comparable, tuple[str, ...]], dict[tuple[str, ...], list[str]]]


class Predecessors(NamedTuple):
    """The steps that a step follows, each with the place that names it."""

    done: Mapping[str, SourceLocation]  # jobs that must be done
    ended: Mapping[str, SourceLocation]  # jobs that must have ended in any state


NO_PREDECESSORS = Predecessors({}, {})


def find_predecessors(
    steps: Sequence[PlannedStep], *, whole: bool, problems: Problems
) -> dict[str, Predecessors]:
    """Return name → predecessors of each step that names some.

    Args:
        steps: every step of the plan.
        whole: every entry could be read, so an unknown name is an error.
        problems: errors of unknown names are added to it.
    """
    following = [step for step in steps if step.follows.texts != NO_DEPENDENCIES.texts]
    if not following:
        return {}
    names = StepNames(steps)
    before: dict[str, Predecessors] = {}
    unknown = pairs = 0
    for step in following:
        places: list[dict[str, SourceLocation]] = []
        for word, named in zip(NamedDependencies._fields, step.follows, strict=True):
            places.append({})
            for at in named:
                known = names.resolve_names(at.value)
                tied = names.matching_names(at.value, step)
                meant = [name for name in tied if name != step.name]
                pairs += len(meant)
                if pairs > MOST_PAIRS:
                    message = f"{word}: this name leads to more than {MOST_PAIRS:,} dependencies between jobs"
                    hint = (
                        "let one program wait for all of them, and the jobs wait for that program"
                    )
                    problems.add_error(at.node, "too-many-jobs", message, hint)
                    return {}
                for name in meant:
                    places[-1].setdefault(name, at.node.place)
                if known and not meant:
                    problems.add_error(
                        at.node, *_no_partner_text(word, at.value, step, alone=bool(tied))
                    )
                elif not known and whole:  # otherwise an invalid entry may have this name
                    unknown += 1
                    # searching the nearest name is slow, so it is done only if it is shown
                    why = names.unknown_name_texts(
                        word, at.value, has_help=unknown <= MOST_PROBLEMS
                    )
                    problems.add_error(at.node, UNKNOWN_JOB_CODE, *why)
                    places[-1].setdefault(at.value, at.node.place)
        done, ended = places
        ended = {name: place for name, place in ended.items() if name not in done}
        if done or ended:
            before[step.name] = Predecessors(done, ended)
    return before


def _no_partner_text(
    word: str, text: str, step: PlannedStep, *, alone: bool
) -> tuple[str, str, str]:
    """Return the message on a text behind `word` that matches no job, or only the step itself (`alone`)."""
    if alone:
        message = f"{word}: {text!r} matches only {step.name} itself"
        return UNKNOWN_JOB_CODE, message, "name another job, or remove it"
    values = ", ".join(f"{key}={value}" for key, value in step.swept)
    message = f"{word}: no job of {text!r} has the values of {step.name.partition('@')[0]}@{values}"
    hint = "sweep the same values in both, or remove the sweep from one of them"
    return "no-partner", message, hint


class StepNames:
    """The names under which the steps of a plan are known."""

    def __init__(self, steps: Sequence[PlannedStep]) -> None:
        self._steps = steps
        self._step_by_name = {step.name: step for step in steps}
        # (text, swept keys of the following step, is it a program) → common keys → values → names
        self._tied_by_values: dict[
            tuple[str, frozenset[str], bool],
            _TiedNames,
        ] = {}
        self._resolved: dict[str, tuple[str, ...]] = {}  # by glob, or name and values
        self._names_by_word: dict[str, dict[str, None]] = {
            step.name: {step.name: None} for step in steps
        }
        for step in steps:
            for word in _words(step):
                for known in (word, f"{step.kind.name}/{word}"):
                    self._names_by_word.setdefault(known, {})[step.name] = None

    def resolve_names(self, text: str) -> Iterable[str]:
        """Return the names of the steps that a text matches."""
        if text in self._names_by_word:
            return self._names_by_word[text]
        if text in self._resolved:
            return self._resolved[text]
        if _GLOB.search(text):
            pattern = re.compile(translate(text))
            matching = (step.name for step in self._steps if pattern.match(step.name))
            return self._resolved.setdefault(text, tuple(matching))
        kind, slash, rest = text.partition("/")
        if selected := self._names_with_values(text):
            return self._resolved.setdefault(text, selected)
        try:
            model = _model_key(parse_model(rest if slash else text))
        except IdError:
            return ()
        return self._names_by_word.get(f"{kind}/{model}" if slash else model, ())

    def _names_with_values(self, text: str) -> tuple[str, ...]:
        """Return the names of the swept programs and folders with the values after `@`."""
        wanted = _pairs(text)
        of_name = self._names_by_word.get(text.partition("@")[0], ()) if wanted else ()
        steps = (self._step_by_name[each] for each in of_name)
        return tuple(
            step.name
            for step in steps
            if step.model is None
            and has_values(step.swept, wanted, _choose_comparison(_is_program(step)))
        )

    def matching_names(self, text: str, step: PlannedStep) -> Iterable[str]:
        """Return the names of the steps that a text matches for the step that follows them.

        If one of both is a swept program, only steps with equal values of the common keys match.
        """
        meant = self.resolve_names(text)
        if not step.swept or text in self._step_by_name or _GLOB.search(text):
            return meant
        is_program = _is_program(step)
        chosen = {key for key, _ in _pairs(text)}  # values chosen in the text override the step's
        own = {key: value for key, value in step.swept if key not in chosen}
        asked = (text, frozenset(own), is_program)
        if asked not in self._tied_by_values:
            by_values: _TiedNames = {}
            for other in (self._step_by_name[name] for name in meant):
                ties = is_program or _is_program(other)
                comparable = _choose_comparison(is_program and _is_program(other))
                pairs = [(key, value) for key, value in other.swept if ties and key in own]
                of_keys = by_values.setdefault((comparable, tuple(key for key, _ in pairs)), {})
                of_keys.setdefault(tuple(comparable(value) for _, value in pairs), []).append(
                    other.name
                )
            self._tied_by_values[asked] = by_values
        return [
            name
            for (comparable, keys), names in self._tied_by_values[asked].items()
            for name in names.get(tuple(comparable(own[key]) for key in keys), ())
        ]

    def unknown_name_texts(self, word: str, text: str, *, has_help: bool) -> tuple[str, ...]:
        """Return the message on a text behind `word` that matches no step, with the nearest name if `has_help`."""
        verb = "matches" if _GLOB.search(text) else "is named"
        message = f"{word}: no job of this file {verb} {text!r}"
        if not has_help:
            return (message,)
        return (
            message,
            did_you_mean(nearest(text, self._names_by_word)),
            list_known_names(text, [step.name for step in self._steps], MOST_LISTED_NAMES),
            "to follow a job of another run: launcher add --after JOB -- PROGRAM",
        )


def _choose_comparison(are_texts: bool) -> Comparable:
    """Return the function that compares swept values: those of programs are texts, others are settings."""
    return comparable_text if are_texts else comparable_value


def _is_program(step: PlannedStep) -> bool:
    return not step.kind.entry


def _words(step: PlannedStep) -> Iterator[str]:
    """Yield the aliases of a step."""
    if step.model is None:
        rest = step.name.partition("/")[2]
        yield rest
        if step.swept:
            yield rest.partition("@")[0]
    elif step.kind.role in MODEL_MAKING_ROLES:
        model = parse_model(step.model)
        yield step.model
        yield _model_key(model)
        yield _model_key(without_variants(model))


def _pairs(text: str) -> list[tuple[str, str]]:
    """Return the values of a name after `@`."""
    pairs = (pair.partition("=") for pair in text.partition("@")[2].split(","))
    return [(key, value) for key, equals, value in pairs if equals]


def _model_key(model: ModelId) -> str:
    """Return a text that is equal for all ways to write a model's ID."""
    return str(ModelId(tuple(replace(stage, data=canonical(stage.data)) for stage in model.stages)))


class PlanDisk(NamedTuple):
    """The questions of a plan about the disk."""

    root: Path  # relative paths start here
    exists: Callable[[Path], bool]
    is_folder: Callable[[Path], bool]
    content_digest: Callable[[Path], str]  # a digest of a file
    is_link: Callable[[Path], bool] = Path.is_symlink
    matching_files: Callable[[str], Sequence[str]] = existing_files  # lists the files of a pattern
    real: RealPaths = RealPaths()

    def path_exists(self, path: str) -> bool:
        """Return whether a path of the settings exists."""
        try:
            return self.exists(absolute_path(self.root, path))
        except Error:  # the home folder of a user that does not exist
            return False


def memoize_path_check(check: Callable[[Path], bool]) -> Callable[[Path], bool]:
    """Return a cached predicate of paths; it is false for invalid paths."""
    answers: dict[str, bool] = {}

    def answer(path: Path) -> bool:
        text = str(path)  # comparing Path objects takes longer
        known = answers.get(text)
        if known is None:
            try:
                known = check(path)
            except (OSError, ValueError):  # a name too long, or with a character no name may have
                known = False
            answers[text] = known
        return known

    return answer


class PreparedStep(NamedTuple):
    """A step with the files and command line that its kind returned."""

    step: PlannedStep
    draft: Draft
    makers: tuple[Draft, ...]  # the steps that make its model, first to last
    inputs: tuple[Input, ...]
    outputs: tuple[Path, ...]
    argv: tuple[str, ...]


def named_folders(prepared_step: PreparedStep, setting: str, real: RealPaths) -> frozenset[str]:
    """Return the locations of a program's inputs or outputs whose names end with a slash: folders with all files."""
    names = (
        None if prepared_step.step.kind.entry else prepared_step.step.settings.values.get(setting)
    )
    if not isinstance(names, list):
        return frozenset()
    paths = (
        prepared_step.outputs
        if setting == OUTPUTS
        else [file.path for file in prepared_step.inputs]
    )
    named = (
        path for name, path in zip(names, paths, strict=False) if str(name).endswith(FOLDER_END)
    )
    if setting == OUTPUTS:
        return frozenset(real.locate(_normalize(path)) for path in named)
    return frozenset(target for path in named for target in real.targets(_normalize(path)))


class JobLinks(NamedTuple):
    """The predecessors and external inputs of a job."""

    dependencies: tuple[str, ...]  # earlier jobs that make its inputs, or that it names
    external_inputs: tuple[Path, ...]  # existing inputs that no job makes
    programs: frozenset[str]  # the nearest programs before the job, whose outputs are unknown
    awaited: tuple[str, ...] = ()  # earlier jobs that it names, and that must have ended


@dataclass(slots=True)
class _MissingInput:
    """A path that a job reads and no job makes."""

    path: str
    what: str
    place: SourceLocation
    jobs: list[str] = field(default_factory=list)
    remedy: str = ""
    program: str = ""  # the program before these jobs that may make the file


class DependencyGraph:
    """The graph of jobs: which job makes which path, and which jobs depend on it."""

    def __init__(
        self,
        steps: Sequence[PreparedStep],
        predecessors: Mapping[str, Predecessors],
        disk: PlanDisk,
    ) -> None:
        """Connect steps.

        Args:
            steps: steps in the order in which they run if none reads an output of another.
            predecessors: predecessors that steps name.
            disk: the existing files.
        """
        self._disk = disk
        self.problems = Problems()
        self._makers: dict[str, str] = {}  # path → job
        self._fillers: dict[str, list[str]] = {}  # folder into which data jobs write → jobs
        self._folders: dict[str, dict[str, None]] = {}  # folder → folders that jobs make in it
        # folder with all its files → program that makes it
        self._output_folders: dict[str, str] = {}
        # folder that a program reads with all its files → jobs that make a path in it
        self._inner_makers: dict[str, list[str]] = {
            folder: [] for prepared in steps for folder in self._named_folders(prepared, INPUTS)
        }
        self._missing: dict[str, _MissingInput] = {}
        self._expected: dict[str, _MissingInput] = {}  # inputs that an earlier program may make
        self._order: dict[str, int] = {}  # job → its position in the plan
        self.programs: set[str] = set()
        self._programs_without_outputs: set[str] = set()  # programs without declared outputs
        self._absent: set[str] = set()  # names in entries that match no job, and may make anything
        self._unknown: dict[
            str, frozenset[str]
        ] = {}  # job → names of the two sets above that the job depends on
        # program → path that its entry names → where
        self._places: dict[str, dict[str, SourceLocation]] = {}
        self.links: dict[str, JobLinks] = {}
        for prepared in steps:
            self._add_outputs(prepared)
        if self._output_folders or self._inner_makers:
            for prepared in steps:
                self._check_nested_outputs(prepared)
                self._check_input_types(prepared)
        is_sorted = not predecessors and not any(
            each.step.kind.role is Role.FOLDER or (each.outputs and not each.step.kind.entry)
            for each in steps
        )
        self.steps = steps if is_sorted else self._sort_by_dependencies(steps, predecessors)
        for prepared in self.steps:
            self._link_step(prepared, predecessors.get(prepared.step.name, NO_PREDECESSORS))

    def _add_outputs(self, prepared_step: PreparedStep) -> None:
        """Record the outputs of a job; report an output that another job writes."""
        step, paths = prepared_step.step, [*map(self._locate, prepared_step.outputs)]
        if step.kind.role is Role.FOLDER and paths:
            within, _, name = paths[0].rpartition("/")
            self._folders.setdefault(within, {})[name] = None
        if not step.kind.entry:
            self.programs.add(step.name)
            if prepared_step.inputs or paths:
                self._check_files(prepared_step)
            if not paths:
                self._programs_without_outputs.add(step.name)
        for path in paths:
            if len(path) > MOST_FILE_NAME:
                longest = max(path.split("/"), key=lambda name: len(name.encode()))
                if len(longest.encode()) > MOST_FILE_NAME:
                    message = (
                        f"{step.name} would write a file whose name has {len(longest)} characters"
                    )
                    self.problems.add_error(step, "long-name", message)
            if step.kind.role is Role.DATA:
                for above in _with_parents(path):
                    self._fillers.setdefault(above, []).append(step.name)
            for above in folders_above(path) if self._inner_makers else ():
                if above in self._inner_makers:
                    self._inner_makers[above].append(step.name)
        for folder in self._named_folders(prepared_step, OUTPUTS):
            self._output_folders.setdefault(folder, step.name)
        for other in sorted({self._makers.setdefault(path, step.name) for path in paths}):
            if other != step.name:
                message = f"{step.name} and {other} would write the same files"
                hint = "give one of them another name or folder"
                path = next(path for path in paths if self._makers[path] == other)
                at = self._places.get(step.name, {}).get(path, step.place)
                self.problems.add_error(at, "same-output", message, hint)

    def _check_nested_outputs(self, prepared_step: PreparedStep) -> None:
        """Report outputs in a folder that a program makes."""
        step = prepared_step.step
        for path in map(self._locate, prepared_step.outputs):
            folder = next(filter(self._output_folders.__contains__, folders_above(path)), None)
            if folder is None:
                continue
            maker = self._output_folders[folder]
            both = self._relative_path(path), f"{self._relative_path(folder)}/"
            message = f"{step.name} would write {both[0]}, and {maker} would write {both[1]}"
            hint = "let one of them write to another folder"
            if maker == step.name:
                message = f"{step.name} lists {both[0]} and {both[1]}"
                hint = "remove the first: everything in the folder counts"
            at = self._places.get(step.name, {}).get(path, step.place)
            self.problems.add_error(at, "same-output", message, hint)

    def _check_input_types(self, prepared_step: PreparedStep) -> None:
        """Report inputs of a program that are named as files and made as folders, and the reverse."""
        step, folders = prepared_step.step, self._named_folders(prepared_step, INPUTS)
        for path in (
            [] if step.kind.entry else [self._locate(file.path) for file in prepared_step.inputs]
        ):
            maker, is_folder = self._makers.get(path), path in self._output_folders
            if maker not in self.programs or maker == step.name or is_folder == (path in folders):
                continue
            fault, hint = "a file", "remove the / at the end of its name"
            if is_folder:
                fault = "a folder"
                hint = "add / to its name if the program reads all of it, or name files in it"
            message = f"inputs: {self._relative_path(path)!r} is {fault} that {maker} makes"
            self.problems.add_error(self._place(step, path, path), INPUTS, message, hint)

    def _check_files(self, prepared_step: PreparedStep) -> None:
        """Report paths that no program can read or write as a file, and record their places in the entry."""
        step, inputs = (
            prepared_step.step,
            {self._locate(file.path) for file in prepared_step.inputs},
        )
        places = self._places.setdefault(step.name, {})
        files = (
            (INPUTS, [file.path for file in prepared_step.inputs]),
            (OUTPUTS, prepared_step.outputs),
        )
        for setting, paths in files:
            given = step.settings.given.get(setting)
            nodes = () if given is None else as_list(given.node)
            names = step.settings.values.get(setting)
            for place, path in enumerate(paths):
                node = nodes[place] if place < len(nodes) else None
                at = step.place if node is None else node.place
                places.setdefault(self._locate(path), at)
                fault, hint = file_obstacle(
                    path,
                    str(self._disk.root),
                    is_output=setting == OUTPUTS,
                    name=str(names[place]) if isinstance(names, list) else "",
                    is_link=self._disk.is_link,
                    is_folder=self._disk.is_folder,
                    exists=self._disk.exists,
                )
                if setting == OUTPUTS and self._locate(path) in inputs:
                    fault, hint = (
                        "is an input and an output of one program",
                        "let it write another file",
                    )
                elif setting == OUTPUTS and not fault:
                    fault, hint = self._overlap_fault(prepared_step, self._locate(path))
                if fault:
                    message = f"{setting}: {self._relative_path(str(path))!r} {fault}"
                    self.problems.add_error(at, setting, message, hint)

    def _overlap_fault(self, prepared_step: PreparedStep, path: str) -> tuple[str, str]:
        """Return why an output of a program overlaps with its inputs, with a remedy; '' if it does not."""
        hint = "let it write to another folder"
        for folder in self._named_folders(prepared_step, INPUTS).intersection(folders_above(path)):
            return f"is in the input {self._relative_path(folder)}/ of the same program", hint
        if path in self._named_folders(prepared_step, OUTPUTS):
            for read in (self._locate(file.path) for file in prepared_step.inputs):
                if path in folders_above(read):
                    return (
                        f"contains the input {self._relative_path(read)} of the same program",
                        hint,
                    )
        return "", ""

    def _sort_by_dependencies(
        self, steps: Sequence[PreparedStep], predecessors: Mapping[str, Predecessors]
    ) -> list[PreparedStep]:
        """Return the steps in topological order; otherwise they keep their order."""
        needs = self._needs(steps, predecessors)
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
            if not ready:  # each of the other steps waits for another one of them
                circle = _find_cycle(needs, placed)
                ready.append(min(circle))
                self._report_cycle(
                    [steps[at].step for at in circle], steps[ready[0]].step, predecessors
                )
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

    def _needs(
        self, steps: Sequence[PreparedStep], predecessors: Mapping[str, Predecessors]
    ) -> list[set[int]]:
        """Return for each step those that it names, and those that make its inputs or a folder around them."""
        places = {prepared.step.name: at for at, prepared in enumerate(steps)}
        needs: list[set[int]] = []
        for at, (step, *_, inputs, _, _) in enumerate(steps):
            named = predecessors.get(step.name, NO_PREDECESSORS)
            makers = {places[name] for name in (*named.done, *named.ended) if name in places}
            for path in (path for file in inputs for path in self._targets(file.path)):
                makers |= {places[maker] for maker in self._makers_around(path)}
                # each of the jobs that fill one folder together waits for those before it
                fillers = (places[name] for name in self._fillers.get(path, ()))
                makers |= {maker for maker in fillers if maker < at}
                makers |= {places[name] for name in self._inner_makers.get(path, ())}
            needs.append(makers - {at})
        return needs

    def _report_cycle(
        self,
        steps: Sequence[PlannedStep],
        step_in_cycle: PlannedStep,
        predecessors: Mapping[str, Predecessors],
    ) -> None:
        """Report a cycle of steps at the entries of the file that cause it."""
        chain = [step.name for step in (*steps, steps[0])]
        names = " → ".join(chain)
        for job, other in itertools.pairwise(chain):
            named = predecessors.get(job, NO_PREDECESSORS)
            if word := named.done.get(other) or named.ended.get(other):
                message = f"these jobs wait for each other, so none can start: {names}"
                hint = "remove one of them from after or after_any"
                self.problems.add_error(word, "cycle", message, hint)
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
            self.problems.add_error(place or step_in_cycle, "cycle", message, hint)

    def _link_step(self, prepared_step: PreparedStep, predecessors: Predecessors) -> None:
        """Link a job with the earlier jobs that make its inputs, and with those that it names.

        The outputs of a program are unknown. A job behind one may read a file that does not exist yet. An
        existing file counts as made by the program, whose identity represents it in the job's hash.
        """
        step = prepared_step.step
        needs = {name for name in predecessors.done if name in self._order}
        absent = predecessors.done.keys() - needs
        self._absent |= absent
        others: list[Input] = []
        for file in prepared_step.inputs:
            makers = self._makers_of(file)
            needs.update(makers)
            if not makers:
                others.append(file)
        programs = self._programs_before(needs)
        own = frozenset(need for need in needs if need in self._programs_without_outputs) | absent
        unknown = _union_of_sets(own, *(self._unknown[need] for need in needs))
        self._unknown[step.name] = unknown
        # a program's entry lists all its inputs, so one that no job makes is a typo
        may_make = programs if step.kind.entry else unknown
        if self._absent:
            may_make |= unknown & self._absent
        given: list[Path] = []
        for file in others:
            if not self._disk.exists(file.path):
                self._add_missing_input(step, file, min(may_make, default=""))
            elif not programs:
                given.append(file.path)
        ended = [name for name in predecessors.ended if name in self._order and name not in needs]
        self.links[step.name] = JobLinks(
            self._sort_by_plan(needs), tuple(given), programs, self._sort_by_plan(ended)
        )
        self._order[step.name] = len(self._order)
        named = "" if step.kind.entry else str(step.settings.values.get(FOLDER_SETTING, ""))
        if named and not named.startswith(FOLDER_PLACEHOLDERS):
            self._check_folder(step, named, follows=bool(needs or step.follows != NO_DEPENDENCIES))

    def _check_folder(self, step: PlannedStep, named_folder: str, *, follows: bool) -> None:
        """Report a program whose working folder does not exist, unless an earlier job may make it."""
        given, disk = step.settings.given.get(FOLDER_SETTING), self._disk
        try:
            path = absolute_path(disk.root, named_folder)
            if disk.is_folder(path) or (follows and not disk.exists(path)):
                return
            fault = f"the folder {named_folder!r} does not exist"
            hint = f"create it with mkdir -p {named_folder}, or name the job that makes it in after"
            if disk.exists(path):
                fault = f"{named_folder!r} is a file, not a folder"
                hint = "name the folder that contains it"
        except Error as error:
            fault, hint = str(error), "write an absolute path, or one relative to the project"
        at = step if given is None else given.node
        note = file_folder_note(at.place.file, named_folder, disk.root, disk.exists)
        notes = [note] if note else []
        self.problems.add_error(at, FOLDER_SETTING, f"{FOLDER_SETTING}: {fault}", hint, *notes)

    def _locate(self, path: Path) -> str:
        return self._disk.real.locate(_normalize(path))

    def _targets(self, path: Path) -> tuple[str, ...]:
        """Return the locations by which the makers of an input are found."""
        location = self._locate(path)
        return self._disk.real.targets(location) if self._disk.is_link(path) else (location,)

    def _named_folders(self, prepared_step: PreparedStep, setting: str) -> frozenset[str]:
        return named_folders(prepared_step, setting, self._disk.real)

    def _sort_by_plan(self, names: Iterable[str]) -> tuple[str, ...]:
        return tuple(sorted(names, key=self._order.__getitem__))

    def _makers_of(self, file: Input) -> list[str]:
        """Return the earlier jobs that make a path, or a folder that contains it."""
        makers: dict[str, None] = {}
        for path in self._targets(file.path):
            inside = (*self._fillers.get(path, ()), *self._inner_makers.get(path, ()))
            makers |= dict.fromkeys((*inside, *self._makers_around(path)))
        return [name for name in makers if name in self._order]

    def _makers_around(self, path: str) -> list[str]:
        """Return all jobs of the plan that make a path, or a folder that contains it."""
        above = _with_parents(path)
        if self._makers.keys().isdisjoint(above):  # the usual case, which is faster
            return []
        return [self._makers[folder] for folder in above if folder in self._makers]

    def _programs_before(self, needs: Collection[str]) -> frozenset[str]:
        """Return the nearest programs before a job; jobs behind the same ones share the set."""
        sets = {self.links[need].programs for need in needs if need not in self.programs}
        return _union_of_sets(frozenset(need for need in needs if need in self.programs), *sets)

    def link_inputs(self, inputs: Iterable[Input], user: str) -> JobLinks:
        """Return the dependencies and external inputs of a job that is added to the plan.

        Args:
            inputs: the paths that it reads.
            user: a job of the plan that also reads them; it determines the programs before the new job.
        """
        programs = self.links[user].programs
        needs: set[str] = {*programs}
        given = []
        for file in inputs:
            makers = self._makers_of(file)
            if not makers and not programs and self._disk.exists(file.path):
                given.append(file.path)
            needs.update(makers)
        return JobLinks(self._sort_by_plan(needs), tuple(given), programs)

    def _add_missing_input(self, step: PlannedStep, file: Input, program: str) -> None:
        """Record a missing path; a program before the job may make it."""
        path = _normalize(file.path)
        lacks = self._expected if program else self._missing
        if path not in lacks:
            remedy = "" if program else file.remedy
            place = self._place(step, path, self._locate(file.path))
            lacks[path] = _MissingInput(path, file.what, place, remedy=remedy, program=program)
        lacks[path].jobs.append(step.name)

    def add_left_out_outputs(
        self, step: PlannedStep, left_out: str, outputs: Iterable[Path]
    ) -> None:
        """Record a missing output of a job that `phases` leaves out."""
        absent = next((path for path in outputs if not self._disk.exists(path)), None)
        if absent is not None:
            path, what = _normalize(absent), f"the output of {left_out} (left out by phases)"
            self._missing.setdefault(path, _MissingInput(path, what, step.place)).jobs.append(
                step.name
            )

    def missing_inputs(self) -> Problems:
        """Return a warning for each place of the file that needs missing paths."""
        warnings = Problems()
        by_place: dict[tuple[SourceLocation, str], list[_MissingInput]] = {}
        for lack in (*self._missing.values(), *self._expected.values()):
            by_place.setdefault((lack.place, lack.program), []).append(lack)
        for lacks in by_place.values():
            self._note_missing(lacks, warnings)
        return warnings

    def _note_missing(self, lacks: Sequence[_MissingInput], warnings: Problems) -> None:
        """Add a warning on inputs that no job makes, or that only a program may make."""
        first, several = lacks[0], len(lacks) > 1
        notes = [f"read by {_first_names(first.jobs)}"]
        if several:
            notes = [
                f"{lack.what}: {self._relative_path(lack.path)}" for lack in lacks[:MOST_LISTED]
            ]
        if len(lacks) > MOST_LISTED:
            notes.append(f"and {len(lacks) - MOST_LISTED} more")
        if program := first.program:
            them = "them" if several else "it"
            what = f"{len(lacks)} inputs are" if several else f"{first.what} is"
            message = f"{what} not there yet"
            message += "" if several else f": {self._relative_path(first.path)}"
            message += f"; {program} runs first and must make {them}"
            hint = f"if {program} is done, run it again: launcher retry --force {program}"
            warnings.add_warning(first.place, EXPECTED_CODE, message, hint, *notes)
            return
        message = f"{first.what} is missing, and no job makes it: {self._relative_path(first.path)}"
        if several:
            message = f"{len(lacks)} inputs are missing, and no job makes them"
        remedies = dict.fromkeys(lack.remedy for lack in lacks if lack.remedy)
        remedies |= dict.fromkeys(
            note for lack in lacks if (note := self._sibling_folders_note(lack.path))
        )
        names = (self._relative_path(lack.path) for lack in lacks)
        file = first.place.file
        notes += [
            note
            for name in names
            if (note := file_folder_note(file, name, self._disk.root, self._disk.exists))
        ][:1]
        warnings.add_warning(first.place, MISSING_CODE, message, "", *notes, *remedies)

    def _place(self, step: PlannedStep, path: str, location: str) -> SourceLocation:
        """Return the place of the setting that contains a path, which has a real location."""
        if location in (named := self._places.get(step.name, {})):
            return named[location]
        best, length = step.place, 0
        for node in (said.node for said in step.settings.given.values()):
            if not isinstance(node, ScalarNode) or not node.text:
                continue
            with contextlib.suppress(RuntimeError):  # "~nobody" is not a path: no such user exists
                given = os.path.normpath(self._disk.root / Path(node.text).expanduser())
                if len(given) > length and (path == given or path.startswith(given + "/")):
                    best, length = node.place, len(given)
        return best

    def _sibling_folders_note(self, path: str) -> str:
        """Return a hint with the folders that the plan makes next to a missing one; '' if there is none."""
        for above in _with_parents(self._disk.real.locate(path)):
            within, _, name = above.rpartition("/")
            if made := self._folders.get(within):
                alike = [other for other in made if other.partition("@")[0] == name] or [*made]
                more = ", …" if len(alike) > MOST_LISTED else ""
                return (
                    f"made in {self._relative_path(within)}: {', '.join(alike[:MOST_LISTED])}{more}"
                )
        return ""

    def _relative_path(self, path: str) -> str:
        root = self._disk.real.locate(f"{self._disk.root}/.")[:-1]
        return path.removeprefix(f"{self._disk.root}/").removeprefix(root)


def file_folder_note(
    task_file: str, name: str, root: Path, exists: Callable[[Path], bool] = Path.exists
) -> str:
    """Return the note that a missing file exists beside the task file, where its author expected it; '' if not.

    Args:
        task_file: Path of the task file, as typed.
        name: Path of the missing file, which starts in `root` if it is relative.
        root: Current folder.
        exists: Whether there is a file.
    """
    folder = Path(task_file).parent
    if folder == Path() or Path(name).is_absolute() or not exists(root / folder / name):
        return ""
    return (
        f"{name} exists in {folder}, but paths start in the current folder. "
        f"To run the file there: cd {shlex.quote(str(folder))}"
    )


def _union_of_sets(*sets: frozenset[str]) -> frozenset[str]:
    """Return the union of sets; the same object if one of them contains all elements."""
    some = {each for each in sets if each}
    return next(iter(some)) if len(some) == 1 else frozenset().union(*some)


def _find_cycle(needs: Sequence[Iterable[int]], is_placed: Sequence[bool]) -> list[int]:
    """Return a cycle of steps: each waits for the next, and the last for the first."""
    seen: dict[int, None] = {}
    at = is_placed.index(False)
    while at not in seen:  # each that is left waits for another one that is left
        seen[at] = None
        at = min(maker for maker in needs[at] if not is_placed[maker])
    path = list(seen)
    return path[path.index(at) :]


def _normalize(path: Path) -> str:
    text = str(path)
    return os.path.normpath(text) if ".." in text else text  # a Path has tidied up all the rest


def _first_names(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"


@lru_cache(maxsize=4096)
def _with_parents(path: str) -> tuple[str, ...]:
    paths = [path]
    while len(above := paths[-1].rpartition("/")[0]) > 0:
        paths.append(above)
    return tuple(paths)
