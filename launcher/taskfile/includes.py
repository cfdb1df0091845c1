"""`include:` and `${NAME}` in a task file: other files that come before it, and values of the environment.

Sections are joined, the included ones first; under `defaults`, `resources`, `subsets`, `modifiers`
and `matrix` what the including file says wins, key by key, as it does for `name` and the like. A matrix
that is a list, in either file, is taken or replaced as a whole.

`${NAME:-other}` stands for `other` where NAME is not set or empty, as in a shell; `$${` is a plain `${`.
Only values are filled in, never keys, and what comes in is no YAML: it cannot add an entry.
"""

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from launcher.errors import Place, Problem, TaskFileError, UsageError, nearest
from launcher.taskfile.yaml_tree import Fields, Items, Node, Scalar, read_document

CODE = "variable"

_MARK = re.compile(r"\$(?P<plain>\$\{)|\$\{(?P<inside>[^}]*)(?P<end>\}?)")
_INSIDE = re.compile(r"(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<other>.*))?", re.DOTALL)


def filled(root: Fields, environment: Mapping[str, str], problems: list[Problem]) -> Fields:
    """Return the tree with every variable filled in; what cannot be is added to `problems`."""
    filling = _Filling(environment, problems)
    return replace(root, pairs=tuple((key, filling.of(node)) for key, node in root.pairs))


def without_echoes(problems: Iterable[Problem]) -> list[Problem]:
    """Return the problems without those of values that lack a variable: they say nothing more."""
    every = list(problems)
    lacking = [
        problem.place for problem in every if problem.code == CODE and problem.place is not None
    ]
    return [
        problem for problem in every if problem.code == CODE or not _lies_at(problem.place, lacking)
    ]


def _lies_at(place: Place | None, lacking: Iterable[Place]) -> bool:
    if place is None:
        return False
    return any(
        (place.file, place.line) == (variable.file, variable.line)
        # a value begins at most a quote and a few words before the variable in it
        and place.column <= variable.column < place.column + place.length
        for variable in lacking
    )


class _Filling:
    """Fills in a tree; a node that is used several times (by an alias) is filled in once."""

    def __init__(self, environment: Mapping[str, str], problems: list[Problem]) -> None:
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
            message = "expected ${NAME} or ${NAME:-other}"
            hint = "a plain ${ is written $${"
            self.problems.append(Problem(code=CODE, message=message, place=place, hint=hint))
            return ""
        value = self.environment.get(inside["name"], "")
        if value or inside["other"] is not None:
            return value or str(inside["other"])
        if inside["name"] in self.environment:
            return value
        close = nearest(inside["name"], self.environment)
        hint = f"did you mean {close}?" if close else f"write ${{{inside['name']}:-other}}"
        message = f"the environment has no variable {inside['name']}"
        self.problems.append(Problem(code=CODE, message=message, place=place, hint=hint))
        return ""


MOST_FILES = 50
WORD = "include"

_REPLACED = frozenset({"phases", "matrix"})  # a list of theirs is whole
_MERGED = frozenset({"defaults", "resources", "subsets", "modifiers", "matrix"})


class MergedFile(NamedTuple):
    """A task file with all that it includes."""

    root: Fields
    files: tuple[str, ...]  # in the order in which they were opened, the task file first
    sound: bool  # False when an included file could not be read


def read_merged(
    text: str,
    file: str,
    include: Callable[[str], str],
    environment: Mapping[str, str],
    translated: Callable[[Fields], Fields],
    problems: list[Problem],
) -> MergedFile:
    """Read a task file and all that it includes, each file once.

    Args:
        text: of the task file.
        file: its name, for errors and for the paths of what it includes.
        include: gives the text of another file.
        environment: for every ${NAME} in a value.
        translated: gives one file in today's words; files are merged when all speak the same.
        problems: what is wrong with included files, and with single keys, is added here.

    Raises:
        TaskFileError: the task file itself is not a YAML mapping, so that nothing more can be said.
    """
    reading = _Reading(include, environment, translated, problems)
    root = reading.of(text, file, ())
    return MergedFile(root=root, files=tuple(reading.files), sound=reading.sound)


def merged(first: Fields, second: Fields) -> Fields:
    """Return the keys of both; where both have one, lists are joined and `second` wins the rest."""
    pairs = {key.text: (key, node) for key, node in first.pairs}
    for key, node in second.pairs:
        before = pairs[key.text][1] if key.text in pairs else None
        if isinstance(before, Items) and isinstance(node, Items) and key.text not in _REPLACED:
            pairs[key.text] = (key, replace(node, nodes=before.nodes + node.nodes))
        elif isinstance(before, Fields) and isinstance(node, Fields) and key.text in _MERGED:
            pairs[key.text] = (key, _overlaid(before, node))
        elif before is None or not _is_empty(node):
            pairs[key.text] = (key, node)
    return replace(second, pairs=tuple(pairs.values()))


def _overlaid(first: Fields, second: Fields) -> Fields:
    """Return the keys of both, `second`'s before; mappings in them (those of a kind) alike."""
    pairs = {key.text: (key, node) for key, node in first.pairs}
    for key, node in second.pairs:
        before = pairs[key.text][1] if key.text in pairs else None
        both = isinstance(before, Fields) and isinstance(node, Fields)
        if both and isinstance(before, Fields) and isinstance(node, Fields):
            pairs[key.text] = (key, _overlaid(before, node))
        else:
            pairs[key.text] = (key, node)
    return replace(second, pairs=tuple(pairs.values()))


@dataclass(slots=True)
class _Reading:
    """Opens files, each once."""

    include: Callable[[str], str]
    environment: Mapping[str, str]
    translated: Callable[[Fields], Fields]
    problems: list[Problem]
    files: list[str] = field(default_factory=list)
    sound: bool = True

    def of(self, text: str, file: str, above: tuple[str, ...]) -> Fields:
        """Return the tree of one file with those that it includes; `above` includes it."""
        self.files.append(file)
        root = read_document(text, file, self.problems)
        if not isinstance(root, Fields):
            fault = "is empty" if root is None else "is not a mapping"
            first = text.splitlines()[0] if text.strip() else ""
            place = Place(file=file, line=1, column=1, text=first) if root is None else root.place
            begin = "train: []" if above else "name: my-study"
            message = f"the task file {fault}: begin with '{begin}'"
            problem = Problem(code="no-mapping", message=message, place=place)
            raise TaskFileError([*self.problems, problem])
        if "${" in text:
            root = filled(root, self.environment, self.problems)
        root = self.translated(root)
        named = [node for key, node in root.pairs if key.text == WORD]
        own = replace(root, pairs=tuple(pair for pair in root.pairs if pair[0].text != WORD))
        whole = replace(own, pairs=())
        for node in named:
            for path in node.nodes if isinstance(node, Items) else (node,):
                included = self._included(path, file, (*above, file))
                whole = whole if included is None else merged(whole, included)
        return merged(whole, own)

    def _included(self, node: Node, file: str, above: Sequence[str]) -> Fields | None:
        if not isinstance(node, Scalar) or node.value is None:
            self._blame(node, "wrong-type", "include: expected the path of another task file")
            return None
        path = os.path.normpath(os.path.join(os.path.dirname(file), node.text))  # noqa: PTH118,PTH120  # names, no files
        if path in above:
            circle = " → ".join((*above[above.index(path) :], path))
            hint = "leave one of these includes out"
            self._blame(node, "include-circle", f"{path} includes itself: {circle}", hint)
            return None
        if path in self.files:
            return None
        if len(self.files) >= MOST_FILES:
            message, hint = f"more than {MOST_FILES} files are included", "join some of them"
            self._blame(node, "include", message, hint)
            return None
        try:
            return self.of(self.include(path), path, tuple(above))
        except TaskFileError as error:
            self.sound = False
            self.problems += [problem for problem in error.problems if problem not in self.problems]
        except UsageError as error:
            self._blame(node, "include", str(error))
        return None

    def _blame(self, node: Node, code: str, message: str, hint: str = "") -> None:
        self.sound = False
        self.problems.append(Problem(code=code, message=message, place=node.place, hint=hint))


def _is_empty(node: Node) -> bool:
    return isinstance(node, Scalar) and node.value is None
