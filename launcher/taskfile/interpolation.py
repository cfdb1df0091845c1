"""`${NAME}` in a task file: filled in from the environment, or refused at its place.

`${NAME:-other}` stands for `other` where NAME is not set or empty, as in a shell; `$${` is a plain `${`.
Only values are filled in, never keys, and what comes in is no YAML: it cannot add an entry.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace

from launcher.errors import Place, Problem, nearest
from launcher.taskfile.yaml_tree import Fields, Items, Node, Scalar

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
