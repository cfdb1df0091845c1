"""A task file, read: YAML with positions becomes entries; all errors are found in one pass.

    name: quickstart
    about: one line
    include: common.yaml
    defaults: {lr: 0.001, data_root: data/quickstart}
    resources: {cpus: 2, train: {vram: 16GiB}}
    matrix: {seed: [1, 2, 3]}
    train: [{model: null, data: gan2:pre, poison: [0, 20]}]
    autotest: [real:pre, gan2:pre]

Sections are the names of the installed kinds. What a file asks for is worked out by `plan`. A text passes through, in
this order:

1. `yaml_tree`: a tree of nodes that know their places; then, of each file, ${NAME} (`includes`) and old names
   (`legacy_names`), and all files joined (`includes`).
2. `overrides`: words that `--set` says in the place of the file's, and `values`: the user's own words.
3. `header`: what holds for all entries; a `Scope` for each combination of the file's matrix.
4. `sections` and `entry_reader`: each entry in each of its ways. Which value of a setting wins is the order in
   `Scope.given`, weakest first: defaults, matrix, those of a kind, the entry, its matrix, --set, --set of a kind.
5. `settings.settle`: the one check of all values, which says where each stands that cannot be.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from launcher.errors import Problem, Severity, TaskFileError, UsageError
from launcher.ids import NO_WORDS, Words
from launcher.job_options.notifications import RunNotify
from launcher.job_options.registry import JobRequest
from launcher.kind_interface import Kind, Role
from launcher.taskfile.entries import (
    AutoTest,
    Entry,
    FolderEntry,
    MethodEntry,
    TrainEntry,
    written,
)
from launcher.taskfile.header import TOP, Header, Reuse, read_header
from launcher.taskfile.includes import read_merged, without_echoes
from launcher.taskfile.legacy_names import Wanted, gathered, translate
from launcher.taskfile.overrides import laid_over, read_overrides
from launcher.taskfile.resources import RESOURCE_HINTS
from launcher.taskfile.scope import Scope
from launcher.taskfile.sections import read_auto_test, read_section
from launcher.taskfile.settings import unknown_key
from launcher.taskfile.values import kinds_with
from launcher.taskfile.yaml_tree import Fields, Scalar

_MAKERS = (Role.TRAIN, Role.METHOD)


@dataclass(frozen=True, slots=True, kw_only=True)
class ParseContext:
    """What a task file may depend on besides its text."""

    kinds: Mapping[str, Kind]
    environment: Mapping[str, str] = field(default_factory=dict)  # for ${NAME}
    settings: Sequence[str] = ()  # "key=value", stronger than the file
    words: Words = NO_WORDS  # of the user's configuration
    now: float = field(default_factory=time.time)  # seconds since 1970, for `not_before`
    unusable: Mapping[str, str] = field(default_factory=dict)  # kind → why it cannot be had


class TaskFile(NamedTuple):
    """What a task file says, entry by entry, in its order."""

    file: str  # as its reader named it
    files: tuple[str, ...]  # with those that it includes
    name: str  # of the run: one safe folder name
    about: str
    entries: tuple[Entry, ...]
    kinds: Mapping[str, Kind]  # every installed one, with the words of the user
    shared_requests: Mapping[
        str, JobRequest
    ]  # what `resources` says of kinds that arise by themselves
    words: Words  # subsets and modifiers of the user
    phases: tuple[str, ...]  # kinds of jobs that are wanted; empty: all
    reuse: Reuse
    share: float | None  # of the machine, beside other runs that wait; None: as it was, 1 at first
    notify: RunNotify  # what its owner is told of it
    pass_env: tuple[str, ...]  # variables that its jobs remember though they look like secrets
    wanted: Wanted
    problems: tuple[Problem, ...]  # found while reading; `plan` raises the errors with its own
    whole: bool  # False when an entry that makes models could not be read

    @property
    def errors(self) -> tuple[Problem, ...]:
        """The problems for which nothing may be queued."""
        return tuple(problem for problem in self.problems if problem.severity is Severity.ERROR)

    def in_order(self, problems: Iterable[Problem]) -> tuple[Problem, ...]:
        """Return each problem once, in the order of the files and of the lines in them."""
        return _in_order(problems, self.files)


class _Sections(NamedTuple):
    """The entries of a file, and whether all that makes models could be read."""

    entries: tuple[Entry, ...]
    whole: bool


def parse(
    text: str,
    *,
    file: str,
    context: ParseContext,
    include: Callable[[str], str] | None = None,
) -> TaskFile:
    """Read the text of a task file.

    Its located errors are kept in `problems`, so that `plan` can tell them together with what
    only a plan finds; nothing can be planned while there is one.

    Args:
        text: of the file.
        file: what its errors call it; the paths of what it includes start in its folder.
        context: installed kinds, environment, what the command line sets.
        include: gives the text of another file; none can be included without it.

    Raises:
        TaskFileError: it is not a YAML mapping, or has a section of a kind that is installed but
            cannot be loaded, so that nothing more can be said.
    """
    problems: list[Problem] = []
    language = written(context.kinds)
    shared = {name: kind for name, kind in context.kinds.items() if name not in language}
    overrides = read_overrides(context.settings, language, problems)
    wanted: list[Wanted] = []  # by each file: the task file is the last to be read in full

    def translated(root: Fields) -> Fields:
        translated_file = translate(root, language, problems)
        wanted.append(translated_file.wanted)
        return translated_file.root

    read = read_merged(text, file, include or _refuse, context.environment, translated, problems)
    _refuse_unusable(read.root, {**context.unusable, **{name: _arises(name) for name in shared}})
    root = laid_over(read.root, overrides, problems)
    kinds, words = kinds_with(root, language, context.words, problems)
    header = read_header(root, kinds, overrides, problems, context.now, shared=shared)
    sections = _sections(root, header.scopes)
    _blame_unused(header, sections, problems)
    if not sections.entries and not problems:
        kind_names = ", ".join(sorted(_names(kinds)))
        place, hint = root.place, f"add a section: {kind_names}"
        message = "the file asks for no job"
        problems.append(Problem(code="no-jobs", message=message, place=place, hint=hint))
    return TaskFile(
        file=file,
        files=read.files,
        name=header.name,
        about=header.about,
        entries=sections.entries,
        kinds={**kinds, **shared},
        shared_requests=header.shared_requests,
        words=words,
        phases=header.phases,
        reuse=header.reuse,
        share=header.share,
        notify=header.notify,
        pass_env=header.pass_env,
        wanted=overrides.wanted
        or next((word for word in wanted if word is not Wanted.RUN), Wanted.RUN),
        problems=_in_order(gathered(_sure(problems, read.sound)), read.files),
        whole=sections.whole and read.sound,
    )


def _refuse_unusable(root: Fields, unusable: Mapping[str, str]) -> None:
    """Refuse a section of a kind that cannot be had.

    All that the file says of this kind would be wrong, too, and say nothing to its reader.

    Raises:
        TaskFileError: names each such section, and why.
    """
    problems = [
        Problem(code="unusable-kind", message=unusable[key.text], place=key.place)
        for key, _ in root.pairs
        if key.text in unusable
    ]
    if problems:
        raise TaskFileError(problems)


def _arises(kind: str) -> str:
    return f"{kind} jobs arise by themselves where jobs repeat the same work; remove this section"


def _sure(problems: Iterable[Problem], sound: bool) -> list[Problem]:
    """Return the problems without those that are but echoes of others.

    What seems to be missing may stand in an included file that could not be read.
    """
    return [
        problem
        for problem in without_echoes(problems)
        if sound or problem.code != "missing-setting"
    ]


def _refuse(path: str) -> str:
    raise UsageError(f"cannot include {path}: there are no files here")


def _in_order(problems: Iterable[Problem], files: Sequence[str]) -> tuple[Problem, ...]:
    rank = {file: number for number, file in enumerate(files)}

    def at(problem: Problem) -> tuple[int, int, int]:
        if problem.place is None:
            return (-1, 0, 0)
        return (rank.get(problem.place.file, -1), problem.place.line, problem.place.column)

    return tuple(sorted(dict.fromkeys(problems), key=at))


def _names(kinds: Mapping[str, Kind]) -> tuple[str, ...]:
    return tuple(name for name, kind in kinds.items() if kind.role is not Role.LABELS)


def _sections(root: Fields, scopes: Sequence[Scope]) -> _Sections:
    """Read every section, those of models and tests once for each combination of the matrix."""
    entries: list[Entry] = []
    whole = True
    for scope in scopes:
        read = _read_sections(root, scope)
        entries += read.entries
        whole &= read.whole
    _warn_untested(root, entries, scopes[0])
    return _Sections(entries=tuple(entries), whole=whole)


def _read_sections(root: Fields, scope: Scope) -> _Sections:
    entries: list[Entry] = []
    whole = True
    makers = [scope.kinds[key.text] for key, node in root.pairs if _makes(key, scope)]
    for key, node in root.pairs:
        if key.text == "autotest":
            auto = read_auto_test(key, node, makers, scope)
            entries += [] if auto is None else [auto]
        elif key.text in scope.kinds:
            kind = scope.kinds[key.text]
            here = scope
            if kind.role in (Role.DATA, Role.PLAIN):  # no matrix has a part in these
                if scope.combination:
                    continue
                here = replace(scope, chosen={}, kind_chosen={})
            read = list(read_section(kind, node, here))
            entries += [entry for entry in read if entry is not None]
            whole &= kind.role not in _MAKERS or None not in read
        elif key.text not in TOP:
            words = (*TOP, *_names(scope.kinds))
            hint = RESOURCE_HINTS.get(key.text, "")
            problem = unknown_key(key, "a section of a task file", words, hint=hint)
            scope.problems.append(problem)
            whole = False
    return _Sections(entries=tuple(entries), whole=whole)


def _makes(key: Scalar, scope: Scope) -> bool:
    kind = scope.kinds.get(key.text)
    return kind is not None and kind.role in _MAKERS


def _blame_unused(header: Header, sections: _Sections, problems: list[Problem]) -> None:
    """Blame a sweep in which no entry takes part: it would make the same models again and again."""
    if not header.sweeps or not sections.whole:
        return
    used: set[str] = set()
    for entry in sections.entries:
        if isinstance(entry, TrainEntry):
            used |= {key for variant in entry.variants for key in variant.paired}
        elif isinstance(entry, MethodEntry):
            used |= {
                key
                for _, variants in entry.methods
                for variant in variants
                for key in variant.paired
            }
        elif isinstance(entry, FolderEntry):
            used |= {key for each in entry.variants for key in each.variant.paired}
    forced = {key for given in header.scopes[0].kind_forced.values() for key in given}
    for key in (swept.key for sweep in header.sweeps for swept in sweep.first):
        name = key.text
        if name in forced and name not in used:
            message = f"--set takes the place of this sweep of {name}"
            header.scopes[0].note(key.place, "matrix", message)
        elif name not in used:
            message = f"matrix: {name!r} changes no model: each has a {name} of its own, or none"
            hint = f"take {name} out of defaults and entries, or sweep it in them"
            place = key.place
            problems.append(Problem(code="matrix", message=message, place=place, hint=hint))


def _warn_untested(root: Fields, read: Iterable[Entry], scope: Scope) -> None:
    """Warn of an autotest in a file that makes no model."""
    entries = list(read)
    auto = next((entry for entry in entries if isinstance(entry, AutoTest)), None)
    makes = any(isinstance(entry, TrainEntry | MethodEntry) for entry in entries)
    if auto is not None and not makes and not scope.problems:
        key = next(key for key, _ in root.pairs if key.text == "autotest")
        message = "autotest tests the models that this file makes, and it makes none"
        scope.note(key.place, "no-models", message)
