"""The nodes of a YAML tree: every key and value knows its place in the file.

A plain word means what YAML 1.2 says, so that `no`, `1:30` and `010` do not turn into something else.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from launcher.errors import Place

# words that YAML 1.1 or 1.2 takes for true or false, in small letters
TRUTHS = frozenset({"yes", "no", "on", "off", "true", "false"})
_NULL = re.compile(r"|~|null|Null|NULL")
_TRUE = re.compile(r"true|True|TRUE")
_FALSE = re.compile(r"false|False|FALSE")
_WHOLE = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})")
_NUMBER = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?")


class Source(NamedTuple):
    """The file that a node was read from."""

    file: str
    lines: tuple[str, ...]

    def place(self, line: int, column: int, length: int = 1) -> Place:
        """Return a place; line and column count from 0 here, as the parser counts."""
        text = self.lines[line] if line < len(self.lines) else ""
        return Place(file=self.file, line=line + 1, column=column + 1, text=text, length=length)


@dataclass(frozen=True, slots=True)
class Scalar:
    """One word or text; `plain` when it was written without quotes."""

    source: Source = field(repr=False, compare=False)
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
    def place(self) -> Place:
        """Where the whole word stands."""
        return self.source.place(self.line, self.column, max(1, self.length))

    def part(self, offset: int, length: int) -> Place:
        """Return where `length` characters of the text stand, or the whole where that is unclear."""
        start = self.column + (0 if self.plain else 1)
        line = self.source.lines[self.line] if self.line < len(self.source.lines) else ""
        if line[start : start + len(self.text)] != self.text:
            return self.place
        return self.source.place(self.line, start + offset, length)


@dataclass(frozen=True, slots=True)
class Items:
    """A list of nodes."""

    source: Source = field(repr=False, compare=False)
    line: int
    column: int
    nodes: tuple["Node", ...]

    @property
    def place(self) -> Place:
        """Where the list begins."""
        return self.source.place(self.line, self.column)


@dataclass(frozen=True, slots=True)
class Fields:
    """Keys with their nodes, in the order of the file; no key twice."""

    source: Source = field(repr=False, compare=False)
    line: int
    column: int
    pairs: tuple[tuple[Scalar, "Node"], ...]

    @property
    def place(self) -> Place:
        """Where the first key stands, or the braces of an empty mapping."""
        return self.pairs[0][0].place if self.pairs else self.source.place(self.line, self.column)


Node = Scalar | Items | Fields
Given = Mapping[str, tuple[Scalar, Node]]  # setting → where its key stands, and its value


def plain_value(node: Node) -> Any:  # the border to pydantic: any YAML value
    """Return a node as Python values: dicts, lists, numbers, text, truth and None."""
    match node:
        case Scalar():
            return node.value
        case Items(nodes=nodes):
            return [plain_value(node) for node in nodes]
        case Fields(pairs=pairs):
            return {key.text: plain_value(value) for key, value in pairs}
