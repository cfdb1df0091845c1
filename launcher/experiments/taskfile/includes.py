"""`include:` and `${NAME}` in a task file: other files that precede it, and values of the environment.

Sections are joined, the included ones first. Under `defaults`, `resources`, `subsets`, `modifiers`
and `matrix`, the including file overrides the included one key by key, as it does for `name` and similar keys. A
matrix that is a list in one of the files is replaced as a whole.

`${NAME:-other}` stands for `other` if NAME is not set or empty, as in a shell; `$${` is a literal `${`.
Variables are expanded only in values, never in keys. Their text is not parsed as YAML, so it cannot add an entry.
"""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from launcher.experiments.taskfile.nodes import (
    MappingNode,
    Node,
    ScalarNode,
    SequenceNode,
    as_list,
    is_null,
)
from launcher.experiments.taskfile.yaml_tree import read_document, wide_colons
from launcher.system.errors import (
    Problem,
    Problems,
    SourceLocation,
    TaskFileError,
    UsageError,
    nearest,
)
from launcher.system.lazy_regex import compile_lazily

CODE = "variable"
MOST_FILES = 50
WORD = "include"

_MARK = compile_lazily(r"\$(?P<plain>\$\{)|\$\{(?P<inside>[^}]*)(?P<end>\}?)")
_INSIDE = compile_lazily(r"(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<other>.*))?", re.DOTALL)
_REPLACED = frozenset({"phases", "matrix"})  # lists that are replaced as a whole
_MERGED = frozenset({"defaults", "resources", "subsets", "modifiers", "matrix"})


@dataclass(slots=True)
class IncludeReader:
    """Reads a task file and all included files, each file once.

    Attributes:
        include: Returns the text of another file.
        transforms: Functions that replace the tree of one file before files are joined.
        problems: List to which problems of included files and keys are added.
        files: Files in the order in which they were opened, the task file first.
        is_complete: False if an included file could not be read.
    """

    include: Callable[[str], str]
    transforms: Sequence[Callable[[MappingNode], MappingNode]]
    problems: Problems
    files: list[str] = field(default_factory=list)
    is_complete: bool = True

    def read_tree(self, text: str, file: str, included_from: tuple[str, ...] = ()) -> MappingNode:
        """Return the tree of one file with those that it includes; `included_from` has the files above it.

        Raises:
            TaskFileError: the file is not a YAML mapping.
        """
        self.files.append(file)
        root = read_document(text, file, self.problems)
        if not isinstance(root, MappingNode):
            fault = "is empty" if root is None else "is not a mapping"
            first = text.splitlines()[0] if text.strip() else ""
            place = (
                SourceLocation(file=file, line=1, column=1, text=first)
                if root is None
                else root.place
            )
            begin = "train: []" if included_from else "name: my-study"
            message = f"the task file {fault}; begin it with '{begin}'"
            self.problems.add_error(place, "no-mapping", message)
            self.problems += wide_colons(self.problems)
            raise TaskFileError(self.problems)
        for each in self.transforms:
            root = each(root)
        own = replace(root, pairs=tuple(pair for pair in root.pairs if pair[0].text != WORD))
        whole = replace(own, pairs=())
        for node in [node for key, node in root.pairs if key.text == WORD]:
            for path in as_list(node):
                included = self._read_included(path, file, (*included_from, file))
                whole = whole if included is None else merge_files(whole, included)
        return merge_files(whole, own)

    def _read_included(
        self, node: Node, file: str, included_from: tuple[str, ...]
    ) -> MappingNode | None:
        if not isinstance(node, ScalarNode) or node.value is None:
            self._report_error(
                node, "wrong-type", "include: expected the path of another task file"
            )
            return None
        path = os.path.normpath(os.path.join(os.path.dirname(file), node.text))  # noqa: PTH118,PTH120  # names, not files
        if path in included_from:
            circle = " → ".join((*included_from[included_from.index(path) :], path))
            hint = "remove one of these includes"
            self._report_error(node, "include-circle", f"{path} includes itself: {circle}", hint)
        elif path not in self.files and len(self.files) >= MOST_FILES:
            message, hint = f"more than {MOST_FILES} files are included", "merge some of them"
            self._report_error(node, "include", message, hint)
        elif path not in self.files:
            try:
                return self.read_tree(self.include(path), path, included_from)
            except TaskFileError as error:
                self.is_complete = False
                self.problems += [each for each in error.problems if each not in self.problems]
            except UsageError as error:
                self._report_error(node, "include", str(error))
        return None

    def _report_error(self, node: Node, code: str, message: str, hint: str = "") -> None:
        self.is_complete = False
        self.problems.add_error(node, code, message, hint)


def merge_files(first: MappingNode, second: MappingNode, *, is_top: bool = True) -> MappingNode:
    """Return the keys of both files. Lists of a common key are joined; otherwise `second` wins.

    In nested mappings, such as those of a kind, `second` wins key by key.
    """
    pairs = {key.text: (key, node) for key, node in first.pairs}
    for key, node in second.pairs:
        before = pairs[key.text][1] if key.text in pairs else None
        if isinstance(before, MappingNode) and isinstance(node, MappingNode):
            both = not is_top or key.text in _MERGED
            pairs[key.text] = (key, merge_files(before, node, is_top=False) if both else node)
        elif not is_top or before is None or not is_null(node):
            if is_top and isinstance(before, SequenceNode) and isinstance(node, SequenceNode):
                whole = key.text in _REPLACED
                node = node if whole else replace(node, nodes=before.nodes + node.nodes)
            pairs[key.text] = (key, node)
    return replace(second, pairs=tuple(pairs.values()))


def fill_variables(
    root: MappingNode, environment: Mapping[str, str], problems: Problems
) -> MappingNode:
    """Return the tree with every variable expanded; unknown variables are added to `problems`."""
    if not any("${" in line for line in root.source.lines):
        return root
    filling = _VariableFiller(environment, problems)
    return replace(root, pairs=tuple((key, filling.fill_node(node)) for key, node in root.pairs))


def without_follow_up_problems(problems: Problems) -> list[Problem]:
    """Return the problems without those of values with an unknown variable, which are consequences."""
    lacking = [each.place for each in problems if each.code == CODE and each.place is not None]
    return [
        each
        for each in problems
        if each.code == CODE or not _is_at_missing_variable(each.place, lacking)
    ]


def _is_at_missing_variable(
    place: SourceLocation | None, missing_places: Sequence[SourceLocation]
) -> bool:
    return place is not None and any(
        (place.file, place.line) == (variable.file, variable.line)
        # a value starts at most a quote and a few words before its variable
        and place.column <= variable.column < place.column + place.length
        for variable in missing_places
    )


class _VariableFiller:
    """Expands variables in a tree; a node that is used several times (by an alias) is expanded once."""

    def __init__(self, environment: Mapping[str, str], problems: Problems) -> None:
        self.environment = environment
        self.problems = problems
        self.filled_nodes: dict[int, Node] = {}  # by id() of the node

    def fill_node(self, node: Node) -> Node:
        if id(node) not in self.filled_nodes:
            self.filled_nodes[id(node)] = self._fill_children(node)
        return self.filled_nodes[id(node)]

    def _fill_children(self, node: Node) -> Node:
        match node:
            case ScalarNode():
                return self._fill_text(node) if "${" in node.text else node
            case SequenceNode(nodes=nodes):
                return replace(node, nodes=tuple(map(self.fill_node, nodes)))
            case MappingNode(pairs=pairs):
                return replace(
                    node, pairs=tuple((key, self.fill_node(value)) for key, value in pairs)
                )

    def _fill_text(self, node: ScalarNode) -> ScalarNode:
        text, end = "", 0
        marks = list(_MARK.finditer(node.text))
        for mark in marks:
            text += node.text[end : mark.start()] + self._variable_value(node, mark)
            end = mark.end()
        # inside braces a variable must be quoted; its value may still be a number
        alone = len(marks) == 1 and marks[0][0] == node.text and not marks[0]["plain"]
        return replace(node, text=text + node.text[end:], plain=node.plain or alone)

    def _variable_value(self, node: ScalarNode, mark: re.Match[str]) -> str:
        if mark["plain"]:
            return "${"
        inside = _INSIDE.fullmatch(mark["inside"]) if mark["end"] else None
        place = node.part_place(mark.start(), mark.end() - mark.start())
        if inside is None:
            message = "expected ${NAME} or ${NAME:-default}"
            self.problems.add_error(place, CODE, message, "for the characters ${, write $${")
            return ""
        name, other = inside["name"], inside["other"]
        value = self.environment.get(name) or other
        if value is None and name not in self.environment:
            close = nearest(name, self.environment)
            hint = f"did you mean {close}?" if close else f"set it, or write ${{{name}:-default}}"
            message = f"the environment variable {name} is not set"
            self.problems.add_error(place, CODE, message, hint)
        return value or ""
