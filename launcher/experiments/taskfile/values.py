"""The words of the experiment language: IDs, label changes, and user-defined words.

Each reader returns its result with the location, or reports the problem and returns None.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeVar

from launcher.experiments.kind_interface import Kind, Role
from launcher.experiments.taskfile.entries import Located
from launcher.experiments.taskfile.language import ALL_POISONED
from launcher.experiments.taskfile.nodes import (
    MappingNode,
    Node,
    ScalarNode,
    SequenceNode,
    as_list,
    is_null,
)
from launcher.experiments.taskfile.scope import Scope
from launcher.experiments.taskfile.settings import accepted_value, all_settings
from launcher.experiments.taskfile.yaml_tree import MOST_BYTES, read_document
from launcher.ids import (
    DataId,
    ModelId,
    Poison,
    Words,
    find_word,
    parse_data,
    parse_model,
    parse_poison,
)
from launcher.system.errors import (
    IdError,
    Problem,
    Problems,
    TaskFileError,
    UnknownName,
    UsageError,
    did_you_mean,
    nearest,
)
from launcher.system.lazy_regex import compile_lazily

T = TypeVar("T")
_CUT_BY_COMMENT = compile_lazily(r"\s+(?P<rest>#[A-Za-z0-9]\S*:\S+)")


def all_or_none(results: Iterable[T | None]) -> tuple[T, ...] | None:
    """Return all results, or None if one is missing. All values are read first to report their errors."""
    every = tuple(results)
    whole = tuple(read for read in every if read is not None)
    return whole if len(whole) == len(every) else None


def read_model(node: Node, kind: Kind, scope: Scope) -> Located[ModelId] | None:
    """Read a model ID; the plan checks whether the model exists."""
    if not isinstance(node, ScalarNode):
        scope.problems.add_error(node, "wrong-type", "expected one model ID")
        return None
    _warn_comment(node, scope)
    try:
        return Located(parse_model(node.text), node)
    except IdError as error:
        hint = ""
        if node.text.casefold() in {"none", ""}:
            hint = "write null for a new model"
        elif kind.role is Role.METHOD and nearest(node.text, [ALL_POISONED]):
            hint = f"did you mean '{ALL_POISONED}' (every model with flipped labels)?"
        elif ":" not in node.text and "model" in kind.settings.model_fields:
            meant = accepted_value(kind, "model", node.text)
            hint = f"write an architecture below settings: {{model: {meant or '…'}}}"
            hint += "" if meant else f"; list them: {all_settings(kind)}"
        place = node.part_place(error.offset, error.length)
        scope.problems.add_error(place, "id", f"model: {error.message}", hint)
        return None


def read_data(node: Node, kinds: Iterable[Kind], scope: Scope) -> Located[DataId] | None:
    """Read a data ID; the kinds that use it check its words."""
    if not isinstance(node, ScalarNode):
        hint = "join data IDs with '&'" if isinstance(node, SequenceNode) else ""
        scope.problems.add_error(node, "wrong-type", "expected one data ID", hint)
        return None
    _warn_comment(node, scope)
    try:
        data = parse_data(node.text)
        for kind in kinds:
            try:
                kind.elementary(kind.images(data))
            except UnknownName as error:
                scope.problems.append(
                    unknown_word(error, node, _find_declaring_file(error, kind, scope))
                )
                return None
    except IdError as error:
        mark = next((mark for mark in "#%~@" if mark in node.text), "")
        hint = f"only model IDs contain '{mark}'" if mark else ""
        scope.problems.add_error(
            node.part_place(error.offset, error.length), "id", f"data: {error.message}", hint
        )
        return None
    return Located(data, node)


def _find_declaring_file(error: UnknownName, kind: Kind, scope: Scope) -> Path | None:
    """Return a task file that defines a word, in a folder of the defaults; see `Settings.word_files`."""
    given = scope.effective_settings(kind, {})
    for setting, name in kind.settings.word_files.items():
        folder = given[setting].node if setting in given else None
        if isinstance(folder, ScalarNode) and _declares(
            file := Path(folder.text).absolute() / name, error.name
        ):
            return file
    return None


def _declares(file: Path, word: str) -> bool:
    """Return whether a task file has a subset or modifier of that name; false for an invalid file."""
    try:
        with file.open("rb") as opened:
            text = opened.read(MOST_BYTES + 1).decode()
        root = read_document(text, str(file), Problems())
    except (OSError, ValueError, TaskFileError):
        return False
    sections = (
        [root.find_value(name) for name in ("subsets", "modifiers")]
        if isinstance(root, MappingNode)
        else []
    )
    return any(
        isinstance(each, MappingNode) and each.find_pair(word) is not None for each in sections
    )


def _warn_comment(node: ScalarNode, scope: Scope) -> None:
    """Warn about a chain that YAML has cut: a '#' after a space starts a comment."""
    line = node.source.lines[node.line] if node.line < len(node.source.lines) else ""
    if node.plain and (cut := _CUT_BY_COMMENT.match(line, node.column + node.length)):
        place = node.source.place(node.line, cut.start("rest"), len(cut["rest"]))
        message = "this is a comment because '#' follows a space"
        scope.problems.add_warning(
            place, "comment", message, "put quotes around the whole ID, and remove its spaces"
        )


def unknown_word(
    error: UnknownName, node: ScalarNode, declaring_file: Path | None = None
) -> Problem:
    """Return the problem of a subset or modifier that a plugin package does not know.

    Args:
        error: Error of the plugin package.
        node: Node of the word.
        declaring_file: A task file that defines it and can be included.
    """
    hint = did_you_mean(error.suggestion)
    if declaring_file is not None:
        hint = f"add to the task file: include: {declaring_file}"
    span = find_word(node.text, error.name, modifier="modifier" in error.what)
    return Problem(
        code="unknown-name",
        message=f"unknown {error.what} {error.name!r}",
        place=node.place if span is None else node.part_place(*span),
        hint=hint,
        notes=(error.listing,),
    )


def read_label_changes(node: Node, scope: Scope) -> tuple[Located[Poison | None], ...] | None:
    """Read one poison or a list of poisons; return None if one is invalid."""
    nodes = as_list(node)
    if not nodes:
        scope.problems.add_error(node, "wrong-type", "expected at least one percentage such as 20")
    return all_or_none(_read_poison(node, scope) for node in nodes) or None


def _read_poison(node: Node, scope: Scope) -> Located[Poison | None] | None:
    if not isinstance(node, ScalarNode):
        scope.problems.add_error(node, "wrong-type", "expected a percentage such as 20")
        return None
    if node.value is None:
        return Located(None, node)
    try:
        poison = parse_poison(node.text)
    except IdError as error:
        hint = f"write {node.text.rstrip('% ')}" if node.text.endswith("%") else ""
        scope.problems.add_error(node, "poison", f"poison: {error.message}", hint)
        return None
    if poison is not None and poison.rate < 0.01:
        share = poison.percent
        message = f"poison {share} is read as {share} percent of the labels"
        hint = f"for a rate of {share}, write {float(share) * 100:g}"
        scope.problems.add_warning(node, "small-poison", message, hint)
    return Located(poison, node)


def kinds_with(
    root: MappingNode, kinds: Mapping[str, Kind], words: Words, problems: Problems
) -> tuple[Mapping[str, Kind], Words]:
    """Return the kinds with the user-defined subsets and modifiers, and these words.

    Args:
        root: Root of the file; its words override those of the configuration.
        kinds: Installed kinds.
        words: Words of the user's configuration.
        problems: List to which problems are added.
    """
    by_section: dict[str, dict[str, tuple[str, ...]]] = {
        "subsets": dict(words.subsets),
        "modifiers": dict(words.modifiers),
    }
    for section, node in ((key.text, node) for key, node in root.pairs if key.text in by_section):
        if not isinstance(node, MappingNode):
            if not is_null(node):
                message = f"{section}: expected names such as {{mine: MyFolder}}"
                problems.add_error(node, "wrong-type", message)
            continue
        for key, value in node.pairs:
            folders = _read_word_folders(section, key, value, kinds, problems)
            if folders:
                by_section[section][key.text] = folders
    whole = Words(subsets=by_section["subsets"], modifiers=by_section["modifiers"])
    if not whole:
        return kinds, whole
    try:
        return {name: kind.with_words(whole) for name, kind in kinds.items()}, whole
    except (
        UsageError
    ) as error:  # from the configuration: the words of the file were checked one by one
        message = f"cannot use the subsets and modifiers of the configuration: {error}"
        problems.add_error(None, "words", message)
        return kinds, whole


def _read_word_folders(
    section: str, key: ScalarNode, node: Node, kinds: Mapping[str, Kind], problems: Problems
) -> tuple[str, ...]:
    nodes = as_list(node)
    texts = tuple(
        node.text for node in nodes if isinstance(node, ScalarNode) and node.value is not None
    )
    if len(texts) < len(nodes) or not texts:
        message = f"{section}: expected a folder, a pattern of folders, or a list of them"
        problems.add_error(node, "wrong-type", message)
        return ()
    try:
        for kind in kinds.values():
            kind.with_words(Words(**{section: {key.text: texts}}))
    except UsageError as error:
        problems.add_error(key, "words", str(error))
        return ()
    return texts
