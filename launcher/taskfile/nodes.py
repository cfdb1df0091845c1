"""Nodes of a task file: words, lists and mappings, each with its place in the file.

A plain word means what YAML 1.2 says, so that `no`, `1:30` and `010` do not turn into something else.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from launcher.errors import SourceLocation

# words that YAML 1.1 or 1.2 takes for true or false, in small letters
TRUTHS = frozenset({"yes", "no", "on", "off", "true", "false"})
_NULL = re.compile(r"|~|null|Null|NULL")
_TRUE = re.compile(r"true|True|TRUE")
_FALSE = re.compile(r"false|False|FALSE")
_WHOLE = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})")
_NUMBER = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?")


class SourceFile(NamedTuple):
    """The file that a node was read from."""

    file: str
    lines: tuple[str, ...]

    def place(self, line: int, column: int, length: int = 1) -> SourceLocation:
        """Return a place; line and column count from 0 here, as the parser counts."""
        text = self.lines[line] if line < len(self.lines) else ""
        return SourceLocation(
            file=self.file, line=line + 1, column=column + 1, text=text, length=length
        )


@dataclass(frozen=True, slots=True)
class ScalarNode:
    """One word or text; `plain` when it was written without quotes."""

    source: SourceFile = field(repr=False, compare=False)
    line: int
    column: int
    length: int  # of what the file shows on its first line, quotes included
    text: str
    plain: bool

    @property
    def value(self) -> bool | int | float | str | None:
        """What the word means by YAML 1.2; what is no decimal number in full stays text."""
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
        """Where the whole word stands."""
        return self.source.place(self.line, self.column, max(1, self.length))

    def with_text(self, text: str) -> "ScalarNode":
        """Return a word that stands here and says something else."""
        return replace(self, text=text)

    def part_place(self, offset: int, length: int) -> SourceLocation:
        """Return where `job_length_s` characters of the text stand, or the whole where that is unclear."""
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
        """Where the list begins."""
        return self.source.place(self.line, self.column)


@dataclass(frozen=True, slots=True)
class MappingNode:
    """Keys with their nodes, in the order of the file; no key twice."""

    source: SourceFile = field(repr=False, compare=False)
    line: int
    column: int
    pairs: tuple[tuple[ScalarNode, "Node"], ...]

    @property
    def place(self) -> SourceLocation:
        """Where the first key stands, or the braces of an empty mapping."""
        return self.pairs[0][0].place if self.pairs else self.source.place(self.line, self.column)

    def find_pair(self, word: str) -> tuple[ScalarNode, "Node"] | None:
        """Return a key with its node."""
        return next((pair for pair in self.pairs if pair[0].text == word), None)

    def find_value(self, word: str) -> "Node | None":
        """Return what stands behind a key; None where that is nothing."""
        pair = self.find_pair(word)
        return pair and node_or_none(pair[1])


Node = ScalarNode | SequenceNode | MappingNode


class GivenSetting(NamedTuple):
    """What is said of a setting: where its key stands, and its value."""

    key: ScalarNode
    node: Node
    label: str | None = None  # what a sweep calls the value; None: its value tells
    kind: str = ""  # whose sweep it is, where it is one of a single kind

    @property
    def name(self) -> str:
        """The setting as `--set` names it: `lr`, or `train.lr`."""
        return f"{self.kind}.{self.key.text}" if self.kind else self.key.text


GivenSettings = Mapping[str, GivenSetting]  # by the name of the setting


def as_list(node: Node | None) -> tuple[Node, ...]:
    """Return the nodes of a list; a single value stands for a list of one, None for an empty one."""
    if node is None:
        return ()
    return node.nodes if isinstance(node, SequenceNode) else (node,)


def is_null(node: Node | None) -> bool:
    """Tell whether nothing is written there."""
    return node is None or (isinstance(node, ScalarNode) and node.value is None)


def node_or_none(node: Node | None) -> Node | None:
    """Return a node; None where nothing is written there."""
    return None if is_null(node) else node


def plain_value(node: Node) -> Any:  # the border to pydantic: any YAML value
    """Return a node as Python values: dicts, lists, numbers, text, truth and None."""
    match node:
        case ScalarNode():
            return node.value
        case SequenceNode(nodes=nodes):
            return [plain_value(node) for node in nodes]
        case MappingNode(pairs=pairs):
            return {key.text: plain_value(value) for key, value in pairs}
