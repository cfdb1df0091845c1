"""Nodes of a task file: words, lists and mappings, each with its location in the file.

A plain word is read by the rules of YAML 1.2, so `no`, `1:30` and `010` are not converted.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from launcher.system.errors import SourceLocation
from launcher.system.lazy_regex import compile_lazily

# booleans of YAML 1.1 or 1.2, in lower case
TRUTHS = frozenset({"yes", "no", "on", "off", "true", "false"})
_NULL = compile_lazily(r"|~|null|Null|NULL")
_TRUE = compile_lazily(r"true|True|TRUE")
_FALSE = compile_lazily(r"false|False|FALSE")
_WHOLE = compile_lazily(r"[-+]?(?:0|[1-9][0-9]{0,17})")
_NUMBER = compile_lazily(r"[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?")


class SourceFile(NamedTuple):
    """The file of a node."""

    file: str
    lines: tuple[str, ...]

    def place(self, line: int, column: int, length: int = 1) -> SourceLocation:
        """Return a location; the arguments line and column count from 0, as in the parser."""
        text = self.lines[line] if line < len(self.lines) else ""
        return SourceLocation(
            file=self.file, line=line + 1, column=column + 1, text=text, length=length
        )


@dataclass(frozen=True, slots=True)
class ScalarNode:
    """One word or text; `plain` if it was written without quotes."""

    source: SourceFile = field(repr=False, compare=False)
    line: int
    column: int
    length: int  # length of the node's text on the first line, with quotes
    text: str
    plain: bool

    @property
    def value(self) -> bool | int | float | str | None:
        """The value by YAML 1.2; a word that is not completely a decimal number stays text."""
        text = self.text
        if not self.plain:
            return text
        if _WHOLE.fullmatch(text):
            return int(text)
        if _NUMBER.fullmatch(text):
            return float(text)
        if _NULL.fullmatch(text):
            return None
        if _TRUE.fullmatch(text):
            return True
        return False if _FALSE.fullmatch(text) else text

    @property
    def place(self) -> SourceLocation:
        """The location of the whole word."""
        return self.source.place(self.line, self.column, max(1, self.length))

    def with_text(self, text: str) -> "ScalarNode":
        """Return a word at the same location with another text."""
        return replace(self, text=text)

    def part_place(self, offset: int, length: int) -> SourceLocation:
        """Return the location of some characters of the text, or of the whole text if it is unclear."""
        start = self.column + (0 if self.plain else 1)
        line = self.source.lines[self.line] if self.line < len(self.source.lines) else ""
        if line[start : start + len(self.text)] != self.text:
            return self.place
        return self.source.place(self.line, start + offset, length)


@dataclass(frozen=True, slots=True)
class SequenceNode:
    """A list of nodes."""

    source: SourceFile = field(repr=False, compare=False)
    line: int
    column: int
    nodes: tuple["Node", ...]

    @property
    def place(self) -> SourceLocation:
        """The start of the list."""
        return self.source.place(self.line, self.column)


@dataclass(frozen=True, slots=True)
class MappingNode:
    """Distinct keys with their nodes, in the order of the file."""

    source: SourceFile = field(repr=False, compare=False)
    line: int
    column: int
    pairs: tuple[tuple[ScalarNode, "Node"], ...]

    @property
    def place(self) -> SourceLocation:
        """The location of the first key, or of the braces of an empty mapping."""
        return self.pairs[0][0].place if self.pairs else self.source.place(self.line, self.column)

    def find_pair(self, word: str) -> tuple[ScalarNode, "Node"] | None:
        """Return a key with its node."""
        return next((pair for pair in self.pairs if pair[0].text == word), None)

    def find_value(self, word: str) -> "Node | None":
        """Return the node of a key, None if it is missing or null."""
        pair = self.find_pair(word)
        return pair and node_or_none(pair[1])


Node = ScalarNode | SequenceNode | MappingNode


class GivenSetting(NamedTuple):
    """A setting as given in the file: its key and its value."""

    key: ScalarNode
    node: Node
    label: str | None = None  # the label of the value in a sweep; None: derived from the value
    kind: str = ""  # the kind of the sweep, if the setting is for a single kind

    @property
    def name(self) -> str:
        """The name of the setting for `--set`: `lr`, or `train.lr`."""
        return f"{self.kind}.{self.key.text}" if self.kind else self.key.text


GivenSettings = Mapping[str, GivenSetting]  # by the name of the setting


def as_list(node: Node | None) -> tuple[Node, ...]:
    """Return the nodes of a list; a single value means a list of one, None an empty list."""
    if node is None:
        return ()
    return node.nodes if isinstance(node, SequenceNode) else (node,)


def is_null(node: Node | None) -> bool:
    """Return whether a node is null."""
    return node is None or (isinstance(node, ScalarNode) and node.value is None)


def node_or_none(node: Node | None) -> Node | None:
    """Return a node, None if it is null."""
    return None if is_null(node) else node


def plain_value(node: Node) -> Any:  # the border to pydantic: any YAML value
    """Return a node as Python values: dicts, lists, numbers, texts, booleans and None."""
    match node:
        case ScalarNode():
            return node.value
        case SequenceNode(nodes=nodes):
            return [plain_value(node) for node in nodes]
        case MappingNode(pairs=pairs):
            return {key.text: plain_value(value) for key, value in pairs}
