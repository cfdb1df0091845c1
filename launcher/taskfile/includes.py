"""`include:` and `${NAME}` in a task file: other files that come before it, and values of the environment.

Sections are joined, the included ones first; under `defaults`, `resources`, `subsets`, `modifiers`
and `matrix` what the including file says wins, key by key, as it does for `name` and the like. A matrix
that is a list, in either file, is taken or replaced as a whole.

`${NAME:-other}` stands for `other` where NAME is not set or empty, as in a shell; `$${` is a plain `${`.
Only values are filled in, never keys, and what comes in is no YAML: it cannot add an entry.
"""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from launcher.errors import Place, Problem, Problems, TaskFileError, UsageError, nearest
from launcher.taskfile.nodes import Fields, Items, Node, Scalar, is_null, listed
from launcher.taskfile.yaml_tree import read_document, wide_colons

CODE = "variable"
MOST_FILES = 50
WORD = "include"

_MARK = re.compile(r"\$(?P<plain>\$\{)|\$\{(?P<inside>[^}]*)(?P<end>\}?)")
_INSIDE = re.compile(r"(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<other>.*))?", re.DOTALL)
_REPLACED = frozenset({"phases", "matrix"})  # a list of theirs is whole
_MERGED = frozenset({"defaults", "resources", "subsets", "modifiers", "matrix"})


@dataclass(slots=True)
class Reading:
    """Reads a task file and all that it includes, each file once.

    Attributes:
        include: gives the text of another file.
        passes: each takes one file and returns what is put in its place, before files are joined.
        problems: what is wrong with included files, and with single keys, is added here.
        files: in the order in which they were opened, the task file first.
        sound: False when an included file could not be read.
    """

    include: Callable[[str], str]
    passes: Sequence[Callable[[Fields], Fields]]
    problems: Problems
    files: list[str] = field(default_factory=list)
    sound: bool = True

    def of(self, text: str, file: str, above: tuple[str, ...] = ()) -> Fields:
        """Return the tree of one file with those that it includes; `above` includes it.

        Raises:
            TaskFileError: it is not a YAML mapping, so that nothing more can be said.
        """
        self.files.append(file)
        root = read_document(text, file, self.problems)
        if not isinstance(root, Fields):
            fault = "is empty" if root is None else "is not a mapping"
            first = text.splitlines()[0] if text.strip() else ""
            place = Place(file=file, line=1, column=1, text=first) if root is None else root.place
            begin = "train: []" if above else "name: my-study"
            message = f"the task file {fault}; begin it with '{begin}'"
            self.problems.blame(place, "no-mapping", message)
            self.problems += wide_colons(self.problems)
            raise TaskFileError(self.problems)
        for each in self.passes:
            root = each(root)
        own = replace(root, pairs=tuple(pair for pair in root.pairs if pair[0].text != WORD))
        whole = replace(own, pairs=())
        for node in [node for key, node in root.pairs if key.text == WORD]:
            for path in listed(node):
                included = self._included(path, file, (*above, file))
                whole = whole if included is None else merged(whole, included)
        return merged(whole, own)

    def _included(self, node: Node, file: str, above: tuple[str, ...]) -> Fields | None:
        if not isinstance(node, Scalar) or node.value is None:
            self._blame(node, "wrong-type", "include: expected the path of another task file")
            return None
        path = os.path.normpath(os.path.join(os.path.dirname(file), node.text))  # noqa: PTH118,PTH120  # names, no files
        if path in above:
            circle = " → ".join((*above[above.index(path) :], path))
            hint = "remove one of these includes"
            self._blame(node, "include-circle", f"{path} includes itself: {circle}", hint)
        elif path not in self.files and len(self.files) >= MOST_FILES:
            message, hint = f"more than {MOST_FILES} files are included", "merge some of them"
            self._blame(node, "include", message, hint)
        elif path not in self.files:
            try:
                return self.of(self.include(path), path, above)
            except TaskFileError as error:
                self.sound = False
                self.problems += [each for each in error.problems if each not in self.problems]
            except UsageError as error:
                self._blame(node, "include", str(error))
        return None

    def _blame(self, node: Node, code: str, message: str, hint: str = "") -> None:
        self.sound = False
        self.problems.blame(node, code, message, hint)


def merged(first: Fields, second: Fields, *, is_top: bool = True) -> Fields:
    """Return the keys of both files; where both have one, lists are joined and `second` wins the rest.

    Below the top, of mappings such as those of a kind, `second` wins key by key.
    """
    pairs = {key.text: (key, node) for key, node in first.pairs}
    for key, node in second.pairs:
        before = pairs[key.text][1] if key.text in pairs else None
        if isinstance(before, Fields) and isinstance(node, Fields):
            both = not is_top or key.text in _MERGED
            pairs[key.text] = (key, merged(before, node, is_top=False) if both else node)
        elif not is_top or before is None or not is_null(node):
            if is_top and isinstance(before, Items) and isinstance(node, Items):
                whole = key.text in _REPLACED
                node = node if whole else replace(node, nodes=before.nodes + node.nodes)
            pairs[key.text] = (key, node)
    return replace(second, pairs=tuple(pairs.values()))


def filled(root: Fields, environment: Mapping[str, str], problems: Problems) -> Fields:
    """Return the tree with every variable filled in; what cannot be is added to `problems`."""
    if not any("${" in line for line in root.source.lines):
        return root
    filling = _Filling(environment, problems)
    return replace(root, pairs=tuple((key, filling.of(node)) for key, node in root.pairs))


def without_echoes(problems: Problems) -> list[Problem]:
    """Return the problems without those of values that lack a variable: they say nothing more."""
    lacking = [each.place for each in problems if each.code == CODE and each.place is not None]
    return [each for each in problems if each.code == CODE or not _lies_at(each.place, lacking)]


def _lies_at(place: Place | None, lacking: Sequence[Place]) -> bool:
    return place is not None and any(
        (place.file, place.line) == (variable.file, variable.line)
        # a value begins at most a quote and a few words before the variable in it
        and place.column <= variable.column < place.column + place.length
        for variable in lacking
    )


class _Filling:
    """Fills in a tree; a node that is used several times (by an alias) is filled in once."""

    def __init__(self, environment: Mapping[str, str], problems: Problems) -> None:
        self.environment = environment
        self.problems = problems
        self.done: dict[int, Node] = {}  # by id() of the node

    def of(self, node: Node) -> Node:
        if id(node) not in self.done:
            self.done[id(node)] = self._filled(node)
        return self.done[id(node)]

    def _filled(self, node: Node) -> Node:
        match node:
            case Scalar():
                return self._text(node) if "${" in node.text else node
            case Items(nodes=nodes):
                return replace(node, nodes=tuple(map(self.of, nodes)))
            case Fields(pairs=pairs):
                return replace(node, pairs=tuple((key, self.of(value)) for key, value in pairs))

    def _text(self, node: Scalar) -> Scalar:
        text, end = "", 0
        marks = list(_MARK.finditer(node.text))
        for mark in marks:
            text += node.text[end : mark.start()] + self._value(node, mark)
            end = mark.end()
        # inside braces a variable must stand in quotes; it may be a number for all that
        alone = len(marks) == 1 and marks[0][0] == node.text and not marks[0]["plain"]
        return replace(node, text=text + node.text[end:], plain=node.plain or alone)

    def _value(self, node: Scalar, mark: re.Match[str]) -> str:
        if mark["plain"]:
            return "${"
        inside = _INSIDE.fullmatch(mark["inside"]) if mark["end"] else None
        place = node.part(mark.start(), mark.end() - mark.start())
        if inside is None:
            message = "expected ${NAME} or ${NAME:-default}"
            self.problems.blame(place, CODE, message, "for the characters ${, write $${")
            return ""
        name, other = inside["name"], inside["other"]
        value = self.environment.get(name) or other
        if value is None and name not in self.environment:
            close = nearest(name, self.environment)
            hint = f"did you mean {close}?" if close else f"set it, or write ${{{name}:-default}}"
            message = f"the environment variable {name} is not set"
            self.problems.blame(place, CODE, message, hint)
        return value or ""
