"""Reads YAML text into a tree of nodes, or reports errors with their locations.

The tree is built from events, not by a constructor, so a file cannot create objects. Depth and size are
limited while reading (an alias counts once per use).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

import yaml

from launcher.experiments.taskfile.nodes import (
    MappingNode,
    Node,
    ScalarNode,
    SequenceNode,
    SourceFile,
    as_list,
)
from launcher.system.errors import Problem, Problems, Severity, SourceLocation, TaskFileError
from launcher.system.lazy_regex import compile_lazily

MOST_BYTES = 4 * 2**20  # 10,000 entries take about 1 MiB
MOST_NODES = 500_000  # 10,000 entries have about 100,000
MOST_DEPTH = 20  # a task file needs five
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_LINE_END = compile_lazily("\r\n|[\n\r\x85\u2028\u2029]")  # line ends of YAML 1.1
_FORBIDDEN = compile_lazily("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_STRING_TAG = "tag:yaml.org,2002:str"
# a full-width colon after a probable key, which YAML reads as a letter
_WIDE_COLON = compile_lazily(r"(?:^\s*(?:- +)*|[{,]\s*)[A-Za-z_][A-Za-z0-9_.]*(?P<colon>\uff1a)")
_WIDE_COLON_MESSAGE = "YAML reads this full-width colon as a letter; write ':' and a space"


_BRACED = compile_lazily(r"[^\s,\[\]{}]*\{\w+\}[^\s,\[\]{}]*")  # a word with a value between braces


# A comment that looks like a part of a value: `#3` after a word, `#b]` in a list.
_NUMBER_SIGN = compile_lazily(r"\s+(?P<comment>#\d.*)")
_CLOSING_COMMENT = compile_lazily(r"\s(?P<comment>#[^\s\]}]*[\]}].*)")
_COMMENT_HINT = "'#' after a space starts a comment; quote the value if it contains '#'"

_NESTED = "exceeded maximum nesting depth"  # the message of the parser since PyYAML 6.0.4
_TOO_DEEP = f"more than {MOST_DEPTH} levels of nesting"

# The most frequent intention of users, by a part of the parser's message.
_SYNTAX_HINTS = {
    "mapping values are not allowed": "quote a value that contains ': ', or correct the indentation",
    "found character that cannot start any token": "quote a value that begins with this character",
    "did not find expected ',' or ']'": "a bracket is not closed before this",
    "did not find expected ',' or '}'": "a brace is not closed before this",
    "could not find expected ':'": "write ': ' after a key",
    "did not find expected key": "check the indentation of this line",
    "did not find expected '-' indicator": "check the indentation of this line",
    "found unexpected end of stream": "a quote is not closed",
}


def read_document(
    text: str, file: str, problems: Problems, source: SourceFile | None = None
) -> Node | None:
    """Return the tree of the only document in `text`, None if it contains only comments.

    Problems of single keys (duplicates, tags) are added to `problems`. Locations refer to
    `source`, which is the text itself by default.

    Raises:
        TaskFileError: the text is not YAML, too large or too deep, or has more than one document.
    """
    source = source or SourceFile(file=file, lines=tuple(_LINE_END.split(text)))
    if len(text) > MOST_BYTES:
        _stop(
            source.place(0, 0),
            "too-large",
            f"a task file has at most {MOST_BYTES:,} characters; split it, and join the parts with include",
        )
    if bad := _FORBIDDEN.search(text):
        before = _LINE_END.split(text[: bad.start()])
        place = source.place(len(before) - 1, len(before[-1]))
        _stop(place, "yaml-syntax", f"a task file cannot contain the character {bad[0]!r}")
    try:
        return _TreeBuilder(source, problems).build(yaml.parse(text, Loader=_LOADER))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        if error.problem == _NESTED and mark is not None:  # the parser reads ahead of the builder
            _stop(source.place(mark.line, mark.column), "too-deep", _TOO_DEEP)
        syntax = _syntax_problem(source, error)
        # a comment with a closing bracket is not a second problem
        faulty = syntax.place, syntax.hint
        others = [problem for problem in problems if (problem.place, problem.hint) != faulty]
        raise TaskFileError([*others, syntax]) from error
    except yaml.YAMLError as error:
        _stop(source.place(0, 0), "yaml-syntax", f"not valid YAML: {error}")


@dataclass(slots=True)
class _OpenNode:
    """A list or mapping whose end was not read yet."""

    event: Any
    nodes: list[Node] = field(default_factory=list)
    size: int = 1
    depth: int = 1


class _TreeBuilder:
    """Builds the tree from the parser's events."""

    def __init__(self, source: SourceFile, problems: Problems) -> None:
        self.source = source
        self.problems = problems
        self.stack: list[_OpenNode] = []
        self.anchors: dict[str, tuple[Node, int, int]] = {}  # with size and depth
        self.root: Node | None = None

    def build(self, events: Iterable[Any]) -> Node | None:
        for event in events:
            match event:
                case yaml.ScalarEvent():
                    self._add(event, event.anchor, self._scalar(event), 1, 0)
                case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                    self._refuse_tag(event)
                    self.stack.append(_OpenNode(event))
                    self._refuse_depth(event, 0)
                case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                    done = self.stack.pop()
                    self._add(event, done.event.anchor, self._close(done), done.size, done.depth)
                case yaml.AliasEvent():
                    if event.anchor not in self.anchors:
                        message = (
                            f"no anchor '&{event.anchor}' ends before the alias '*{event.anchor}'"
                        )
                        self._stop(event, "yaml-alias", message)
                    self._refuse_depth(event, self.anchors[event.anchor][2])
                    self._add(event, None, *self.anchors[event.anchor])
                case yaml.DocumentStartEvent() if self.root is not None:
                    self._stop(
                        event, "yaml-syntax", "a task file is a single YAML document; remove '---'"
                    )
        empty = isinstance(self.root, ScalarNode) and self.root.value is None
        return None if empty else self.root

    def _add(self, event: Any, anchor: str | None, node: Node, size: int, depth: int) -> None:
        if anchor is not None:
            self.anchors[anchor] = (node, size, depth)
        if not self.stack:
            self.root = node
            return
        parent = self.stack[-1]
        parent.nodes.append(node)
        parent.size += size
        parent.depth = max(parent.depth, depth + 1)
        if parent.size > MOST_NODES:
            self._stop(
                event,
                "too-large",
                f"more than {MOST_NODES:,} values, with all aliases expanded; split the file",
            )

    def _scalar(self, event: Any) -> ScalarNode:
        self._refuse_tag(event)
        start, end = event.start_mark, event.end_mark
        if start.line == end.line:
            length = end.column - start.column
        else:
            length = len(self.source.lines[start.line]) - start.column
        plain = not event.style and event.tag is None
        if "\0" in event.value:
            self._stop(event, "yaml-syntax", "a string cannot contain the character '\\x00'")
        scalar = ScalarNode(self.source, start.line, start.column, length, event.value, plain)
        if plain and not isinstance(scalar.value, bool | int | float):
            self._warn_of_comment(end.line, end.column)
        return scalar

    def _warn_of_comment(self, line: int, column: int) -> None:
        """Warn about a number sign after a text: YAML reads the rest as a comment."""
        text = self.source.lines[line] if line < len(self.source.lines) else ""
        if found := _NUMBER_SIGN.match(text, column):
            comment = found["comment"].rstrip()
            place = self.source.place(line, found.start("comment"), len(comment))
            message = f"{comment!r} is a comment, not part of the value"
            self.problems.add_warning(place, "comment", message, _COMMENT_HINT)

    def _close(self, open_node: _OpenNode) -> Node:
        mark = open_node.event.start_mark
        if isinstance(open_node.event, yaml.SequenceStartEvent):
            return SequenceNode(self.source, mark.line, mark.column, tuple(open_node.nodes))
        pairs: dict[str, tuple[ScalarNode, Node]] = {}
        merged: list[tuple[ScalarNode, Node]] = []
        written = zip(open_node.nodes[::2], open_node.nodes[1::2], strict=True)
        for key, node in _calls_joined(written) if open_node.event.flow_style else written:
            if not isinstance(key, ScalarNode):
                self.problems.add_error(key, "yaml-key", "a key must be a single word")
            elif key.plain and key.text == "<<":
                merged += self._iterate_merged(key, node)
            elif key.text in pairs:
                note = f"first given in line {pairs[key.text][0].line + 1}"
                self.problems.add_error(
                    key, "duplicate-key", f"{key.text!r} is given twice", "", note
                )
            else:
                pairs[key.text] = (key, node)
        for key, node in merged:
            pairs.setdefault(key.text, (key, node))
        return MappingNode(self.source, mark.line, mark.column, tuple(pairs.values()))

    def _iterate_merged(self, key: ScalarNode, node: Node) -> Iterator[tuple[ScalarNode, Node]]:
        for item in as_list(node):
            if isinstance(item, MappingNode):
                yield from item.pairs
            else:
                self.problems.add_error(key, "yaml-merge", "'<<' merges only mappings")

    def _refuse_depth(self, event: Any, more: int) -> None:
        if len(self.stack) + more > MOST_DEPTH:
            self._stop(event, "too-deep", _TOO_DEEP)

    def _refuse_tag(self, event: Any) -> None:
        if event.tag not in (None, "!", _STRING_TAG):
            message = f"task files cannot contain tags such as {event.tag!r}"
            self.problems.add_error(self._place(event), "yaml-tag", message)

    def _place(self, event: Any) -> SourceLocation:
        return self.source.place(event.start_mark.line, event.start_mark.column)

    def _stop(self, event: Any, code: str, message: str) -> NoReturn:
        self.problems.add_error(self._place(event), code, message)
        raise TaskFileError(self.problems)


def _calls_joined(pairs: Iterable[tuple[Node, Node]]) -> list[tuple[Node, Node]]:
    """Return the pairs between braces: `{a: f(1, 2)}` has one, which YAML splits at the comma."""
    joined: list[tuple[Node, Node]] = []
    for key, node in pairs:
        before = joined[-1][1] if joined else None
        if (
            isinstance(before, ScalarNode)
            and before.plain
            and before.text.count("(") > before.text.count(")")
            and isinstance(key, ScalarNode)
            and isinstance(node, ScalarNode)
            and not node.length
        ):
            length = key.column + key.length - before.column
            length = length if key.line == before.line else before.length
            whole = replace(before, text=f"{before.text}, {key.text}", length=length)
            joined[-1] = (joined[-1][0], whole)
        else:
            joined.append((key, node))
    return joined


def _stop(place: SourceLocation, code: str, message: str) -> NoReturn:
    raise TaskFileError([Problem(code=code, message=message, place=place)])


def _syntax_problem(source: SourceFile, error: yaml.MarkedYAMLError) -> Problem:
    fault = error.problem or "cannot be read"
    mark, begun = error.problem_mark, error.context_mark
    at_end = mark is None or _is_past(source, mark.line)
    shown = begun if at_end and begun is not None else mark
    line, column = (shown.line, shown.column) if shown is not None else (0, 0)
    if at_end and (begun is None or _is_past(source, begun.line)):
        line, column = _last_open(source.lines)
    place = source.place(line, column)
    hint = next((hint for piece, hint in _SYNTAX_HINTS.items() if piece in fault), "")
    if at_end or (begun is not None and shown is begun):
        hint = "this is not closed"
    for braced in _BRACED.finditer(place.text):
        if braced.start() <= column <= braced.end():
            hint = f'write "{braced[0]}", in quotes'
    if "${" in place.text[: column + 1]:
        hint = "inside braces and brackets, quote a value that contains ${…}"
    if place.text[column : column + 1] == "\t":
        hint = "indent with spaces, not tabs"
    first = line if begun is None else min(begun.line, line)
    for number, text in enumerate(source.lines[first : line + 1], first):
        if found := _WIDE_COLON.search(text):
            place, hint = source.place(number, found.start("colon")), _WIDE_COLON_MESSAGE
    notes = []
    comment = _comment_that_closes(source, first, line)
    if comment is not None:
        place, hint = comment, _COMMENT_HINT
    elif error.context and begun is not None and begun.line != line:
        notes.append(f"{error.context} that begins in line {begun.line + 1}")
    return Problem(
        code="yaml-syntax",
        message=f"not valid YAML: {fault}",
        place=place,
        hint=hint,
        notes=tuple(notes),
    )


def _comment_that_closes(source: SourceFile, first: int, last: int) -> SourceLocation | None:
    """Return the first comment of some lines that contains a closing bracket or brace."""
    for number, text in enumerate(source.lines[first : last + 1], first):
        if found := _CLOSING_COMMENT.search(text):
            return source.place(number, found.start("comment"), len(found["comment"].rstrip()))
    return None


def wide_colons(problems: Iterable[Problem]) -> list[Problem]:
    """Return an error for each full-width colon after a key in an invalid line."""
    lines = {  # distinct: a file may be one line with thousands of errors
        (place.file, place.line): place
        for problem in problems
        if (place := problem.place) is not None and problem.severity is Severity.ERROR
    }
    return [
        Problem("yaml-key", _WIDE_COLON_MESSAGE, place=place._replace(column=found.end(), length=1))
        for place in lines.values()
        for found in _WIDE_COLON.finditer(place.text)
    ]


def _is_past(source: SourceFile, line: int) -> bool:
    """Return whether a line and all later lines have no text."""
    return not any(text.strip() for text in source.lines[line:])


def _last_open(lines: Sequence[str]) -> tuple[int, int]:
    """Return the possible location of the last open bracket: in the last line with text."""
    last = max((number for number, line in enumerate(lines) if line.strip()), default=0)
    text = lines[last] if lines else ""
    return last, max(text.rfind("["), text.rfind("{"), 0)
