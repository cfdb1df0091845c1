"""Parses task files into entries: reads YAML with positions and finds all errors in one pass.

    name: quickstart
    about: one line
    include: common.yaml
    defaults: {lr: 0.001, data_root: data/quickstart}
    resources: {cpus: 2, train: {vram: 16GiB}}
    matrix: {seed: [1, 2, 3]}
    train: [{model: null, data: gan2:pre, poison: [0, 20]}]
    autotest: [real:pre, gan2:pre]

Sections are the names of the installed kinds. `plan` derives the jobs of a file. A text becomes a tree of
nodes with locations (`yaml_tree`), and the tree goes through these passes, in this order:

1. `fill_variables` expands ${NAME} in each file, and `translate` replaces old words by current ones.
2. `IncludeReader.read_tree` joins the files. An including file overrides the included ones.
3. `apply_overrides` replaces words of the file by those of `--set`. `kinds_with` adds user-defined words to the kinds.
4. `read_scope`, `sweeps_of_file` and `layers_of` make a `Scope` for each combination of the matrix.
5. `_raw_entry` of `sections` sorts the keys of each entry and combines it with its own matrix. The precedence of values is
   defined in `Scope.effective_settings`, weakest first: defaults, matrix, those of a kind, the entry, its matrix, --set,
   --set of a kind.
6. `resolve_settings` checks all values and reports invalid ones with their locations; entries contain the checked values.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from launcher.experiments.kind_interface import Kind, Role
from launcher.experiments.taskfile.entries import (
    Entry,
    FolderEntry,
    MethodEntry,
    PlainEntry,
    TaskFile,
    TrainEntry,
    Variant,
    order_problems,
    task_file_kinds,
)
from launcher.experiments.taskfile.header import read_header, read_scope
from launcher.experiments.taskfile.includes import (
    IncludeReader,
    fill_variables,
    without_follow_up_problems,
)
from launcher.experiments.taskfile.ineffective import report_ineffective
from launcher.experiments.taskfile.language import RESOURCE_HINTS, TOP
from launcher.experiments.taskfile.legacy_names import LegacyAction, merge_notes, translate
from launcher.experiments.taskfile.matrix import Sweep, layers_of, sweeps_of_file
from launcher.experiments.taskfile.nodes import MappingNode, ScalarNode, as_list, is_null
from launcher.experiments.taskfile.overrides import Overrides, apply_overrides, read_overrides
from launcher.experiments.taskfile.scope import EVERY, Scope
from launcher.experiments.taskfile.searches import ChosenValues, SearchReader
from launcher.experiments.taskfile.sections import read_auto_test, read_section
from launcher.experiments.taskfile.settings import unknown_key
from launcher.experiments.taskfile.values import kinds_with
from launcher.experiments.taskfile.yaml_tree import wide_colons
from launcher.ids import NO_WORDS, Words
from launcher.system.errors import (
    MOST_LISTED,
    MOST_LISTED_ALWAYS,
    Problem,
    Problems,
    TaskFileError,
    UsageError,
)

_MAKERS = (Role.TRAIN, Role.METHOD)


@dataclass(frozen=True, slots=True, kw_only=True)
class ParseContext:
    """The inputs of a task file other than its text."""

    kinds: Mapping[str, Kind]
    environment: Mapping[str, str] = field(default_factory=dict)  # variables for `${NAME}`
    settings: Sequence[str] = ()  # "key=value", which override the file
    words: Words = NO_WORDS  # words of the user's configuration
    now: float = field(default_factory=time.time)  # seconds since 1970, for `not_before`
    unusable: Mapping[str, str] = field(default_factory=dict)  # kind → why it cannot be loaded
    chosen: ChosenValues | None = None  # the values of a trial


def parse(
    text: str,
    *,
    file: str,
    context: ParseContext,
    include: Callable[[str], str] | None = None,
) -> TaskFile:
    """Read the text of a task file.

    Its errors with locations are stored in `problems`, so `plan` can report them together with its own
    errors. A file with an error cannot be planned.

    Args:
        text: Text of the file.
        file: Name of the file in errors; paths of included files start in its folder.
        context: Installed kinds, environment and overrides.
        include: Returns the text of another file; without it no file can be included.

    Raises:
        TaskFileError: the file is not a YAML mapping, or has a section of an installed kind that
            cannot be loaded.
    """
    problems = Problems()
    language = task_file_kinds(context.kinds)
    shared = {name: kind for name, kind in context.kinds.items() if name not in language}
    overrides = read_overrides(context.settings, language, problems)
    wanted: list[LegacyAction] = []  # by file: the task file is read completely last

    def today(root: MappingNode) -> MappingNode:
        root, wants = translate(root, language, problems)
        wanted.append(wants)
        return root

    passes = (lambda root: fill_variables(root, context.environment, problems), today)
    reading = IncludeReader(include or _refuse_include, passes, problems)
    root = reading.read_tree(text, file)
    _refuse_unusable(
        root, {**context.unusable, **{name: _automatic_kind_error(name) for name in shared}}
    )
    root = apply_overrides(root, overrides, problems)
    kinds, words = kinds_with(root, language, context.words, problems)
    searches = SearchReader([], context.chosen)
    scope = Scope(kinds=kinds, problems=problems, now=context.now, searches=searches)
    of_run = read_header(root, scope)
    scope = read_scope(root, scope, overrides, of_run["reuse"], shared)
    entries, whole = _sections(root, scope)
    problems += _unswept_name_problems(overrides, root, entries, kinds)
    if not problems.has_errors():
        _report_unused_settings(overrides, entries, kinds, problems)
    problems[:] = without_follow_up_problems(problems)
    if not reading.is_complete:  # a missing word may be in a file that could not be read
        problems[:] = [each for each in problems if each.code != "missing-setting"]
    problems += wide_colons(problems)
    return TaskFile(
        **of_run,
        file=file,
        files=tuple(reading.files),
        entries=entries,
        kinds={**kinds, **shared},
        shared_requests={name: scope.requests[name] for name in shared if name in scope.requests},
        words=words,
        wanted=overrides.wanted
        or next((each for each in wanted if each is not LegacyAction.RUN), LegacyAction.RUN),
        problems=order_problems(merge_notes(problems), reading.files),
        whole=whole and reading.is_complete,
        searches=tuple(searches.found),
    )


def _unswept_name_problems(
    overrides: Overrides, root: MappingNode, entries: Iterable[Entry], kinds: Mapping[str, Kind]
) -> list[Problem]:
    """Return the problems of names on the command line that no program sweeps."""
    programs = [each for each in entries if isinstance(each, PlainEntry) and not each.kind.entry]
    sections = [node for key, node in root.pairs if key.text in kinds and not kinds[key.text].entry]
    if len(programs) < sum(len(as_list(node)) for node in sections):
        return []  # an entry that could not be read may define the names
    swept = {name for entry in programs for name in entry.swept_names}
    return [problem for name, problem in overrides.unmatched.items() if name not in swept]


def _report_unused_settings(
    overrides: Overrides, entries: Iterable[Entry], kinds: Mapping[str, Kind], problems: Problems
) -> None:
    """Report each setting on the command line that no job of the file has."""
    used_kinds: dict[str, Kind] = {}
    used = {
        (EVERY, name)
        for entry in entries
        if isinstance(entry, PlainEntry)
        for name in entry.swept_names
    }
    for entry in entries:
        labels = entry.labels_kind if isinstance(entry, TrainEntry) else None
        used_kinds |= {kind.name: kind for kind in (entry.kind, labels) if kind is not None}
    for name, kind in used_kinds.items():
        used.update((layer, key) for layer in (EVERY, name) for key in kind.settings.model_fields)
    for layer, given in overrides.settings.items():
        for name, said in given.items():
            if (layer, name) in used or (layer in used_kinds and (EVERY, name) in used):
                continue
            what = f"{layer} job" if layer else "job"
            message = f"{name} has no effect here: no {what} of this file has this setting"
            having = [kind.name for kind in kinds.values() if name in kind.settings.model_fields]
            hint = "remove it" if layer else f"it is a setting of {_list_words(having)}"
            problems.add_warning(said.key, "no-effect", message, hint)
    for key, _ in (pair for fields in overrides.resources for pair in fields.pairs):
        if key.text in kinds and key.text not in used_kinds:
            message = f"resources.{key.text} has no effect here: the file has no {key.text} job"
            problems.add_warning(key, "no-effect", message, "remove it")


def _list_words(words: Sequence[str]) -> str:
    more = len(words) - MOST_LISTED
    return ", ".join(words[:MOST_LISTED]) + (f" and {more} more" if more > 0 else "")


def _refuse_unusable(root: MappingNode, unusable: Mapping[str, str]) -> None:
    """Refuse a section of a kind that cannot be loaded.

    Further errors about this kind would only be consequences.

    Raises:
        TaskFileError: there is such a section; the message has the reason for each.
    """
    problems = Problems()
    for key, _ in root.pairs:
        if key.text in unusable:
            problems.add_error(key, "unusable-kind", unusable[key.text])
    if problems:
        raise TaskFileError(problems)


def _automatic_kind_error(kind: str) -> str:
    return (
        f"{kind} jobs are created automatically when jobs repeat the same work; remove this section"
    )


def _refuse_include(path: str) -> str:
    raise UsageError(f"cannot include {path}: other files are not available here")


def _sections(root: MappingNode, scope: Scope) -> tuple[tuple[Entry, ...], bool]:
    """Read every section; those of models and tests once per combination of the file's matrix.

    Returns the entries, and whether all entries that make models could be read.
    """
    problems = scope.problems
    sweeps = sweeps_of_file(root.find_value("matrix"), scope)
    entries: list[Entry] = []
    whole = True
    for number, chosen in enumerate(layers_of(sweeps, problems)):
        for entry in _entries(root, replace(scope, combination=number, file_combination=chosen)):
            if entry is None:
                whole = False
            else:
                entries.append(entry)
    auto = root.find_pair("autotest")
    if auto is not None and not is_null(auto[1]) and not problems:
        makes = any(isinstance(entry, TrainEntry | MethodEntry) for entry in entries)
        _report_untested(auto[0], scope, makes_models=makes)
    if whole:
        _report_unused_sweeps(sweeps, entries, scope)
        report_ineffective(entries, problems)
    if not entries and not problems and not scope.searches.found:
        names = sorted(_names(scope.kinds))
        hint = f"add a section: {', '.join(names)}"
        if len(names) > MOST_LISTED_ALWAYS:
            hint = "add a section; list the job types: launcher kinds"
        problems.add_error(root, "no-jobs", "the file defines no jobs", hint)
    return tuple(entries), whole


def _report_untested(key: ScalarNode, scope: Scope, *, makes_models: bool) -> None:
    """Report which models `autotest` leaves out, or that there are none."""
    if scope.searches.chosen is not None:  # the plan of the file has reported it
        return
    searched = [each for each in scope.searches.found if not each.is_program]
    if searched:
        lines = " and ".join(dict.fromkeys(str(each.place.line) for each in searched))
        message = f"autotest does not test the trials of the {'searches' if len(searched) > 1 else 'search'} in line {lines}"
        hint = "train the best values in an entry of their own"
        scope.problems.add_warning(key, "no-models", message, hint)
    elif not makes_models:
        message = "autotest has no effect because this file makes no models"
        scope.problems.add_warning(key, "no-models", message)


def _entries(root: MappingNode, scope: Scope) -> Iterator[Entry | None]:
    """Yield the entries of one combination; None for an unreadable entry that might make models."""
    kinds = scope.kinds
    sections = [(kinds[key.text], node) for key, node in root.pairs if key.text in kinds]
    for key, node in root.pairs:
        kind = kinds.get(key.text)
        if key.text == "autotest":
            makers = [kind for kind, _ in sections if kind.role in _MAKERS]
            yield from read_auto_test(key, node, makers, scope)
        elif kind is not None and kind.role in (Role.DATA, Role.PLAIN):
            if not scope.combination:  # the matrix does not apply to entries without combinations
                here = replace(scope, file_combination={})
                yield from (each for each in read_section(kind, node, here) if each is not None)
        elif kind is not None:
            read = read_section(kind, node, scope)
            yield from (each for each in read if each is not None or kind.role in _MAKERS)
        elif key.text not in TOP:
            hint = RESOURCE_HINTS.get(key.text, "")
            what, words = "a section of a task file", (*TOP, *_names(kinds))
            scope.problems.append(unknown_key(key, what, words, hint=hint))
            yield None


def _names(kinds: Mapping[str, Kind]) -> tuple[str, ...]:
    return tuple(name for name, kind in kinds.items() if kind.role is not Role.LABELS)


def _report_unused_sweeps(sweeps: Sequence[Sweep], entries: Iterable[Entry], scope: Scope) -> None:
    """Report a sweep that no entry uses: it would make the same models repeatedly."""
    used: set[str] = set()
    for entry in entries if sweeps else ():
        used |= {key for variant in _variants(entry) for key in variant.file_swept_names}
    forced = {key for name, given in scope.forced.items() if name != EVERY for key in given}
    for swept in (swept for sweep in sweeps for swept in sweep[0]):
        name = swept.key.text
        if name in forced and name not in used:
            message = f"--set replaces this sweep of {name}"
            scope.problems.add_warning(swept.key, "matrix", message)
        elif name not in used:
            message = f"matrix: {name!r} changes no model, because each has its own {name} or none"
            hint = f"remove {name} from defaults and entries, or sweep it there"
            scope.problems.add_error(swept.key, "matrix", message, hint)


def _variants(entry: Entry) -> Iterable[Variant]:
    match entry:
        case TrainEntry():
            return entry.variants
        case MethodEntry():
            return [variant for _, variants in entry.methods for variant in variants]
        case FolderEntry():
            return [each.variant for each in entry.variants]
    return ()
