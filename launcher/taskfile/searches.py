"""The word `search` of an entry: its values are chosen by results, one combination per trial.

A file is planned without these entries. Each trial plans it again with one of them, whose `search` is then a `matrix`
with one value per name.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from launcher.errors import Problems, SourceLocation
from launcher.kind_interface import Kind, Role
from launcher.system.files import Json
from launcher.taskfile.nodes import MappingNode, Node, ScalarNode, SequenceNode, plain_value

SEARCH, VALUES = "search", "values"
KEYS = ("metric", "trials", VALUES, "parallel", "sampler", "pruner", "repeat", "seed")
_EXAMPLE = "search: {metric: val_loss, trials: 20, values: {lr: 1e-5..1e-1:log}}"


class SearchEntry(NamedTuple):
    """A search of a task file."""

    kind: str
    is_program: bool
    place: SourceLocation
    words: Mapping[str, Json]


class ChosenValues(NamedTuple):
    """The values of a trial."""

    entry: int  # its number among the entries with a search
    texts: Mapping[str, str]


class SearchReader(NamedTuple):
    """Collects the searches of a file while its entries are read."""

    found: list[SearchEntry]
    chosen: ChosenValues | None = None

    def entries(
        self, kind: Kind, nodes: Sequence[Node], problems: Problems, *, combination: int
    ) -> list[Node]:
        """Return the entries of a section that are planned: those without a search, and that of a trial."""
        planned: list[Node] = []
        for node in nodes:
            pair = node.find_pair(SEARCH) if isinstance(node, MappingNode) else None
            if pair is None or not isinstance(node, MappingNode):
                planned.append(node)
                continue
            self._add(kind, node, pair, problems, combination=combination)
            if self.chosen is not None and self.chosen.entry == len(self.found) - 1:
                planned.append(_with_matrix(node, pair[0], self.chosen.texts))
        return planned

    def _add(
        self,
        kind: Kind,
        node: MappingNode,
        pair: tuple[ScalarNode, Node],
        problems: Problems,
        *,
        combination: int,
    ) -> None:
        key, value = pair
        words = plain_value(value) if isinstance(value, MappingNode) else None
        message, hint = "", f"write {_EXAMPLE}"
        if kind.entry and kind.role not in (Role.TRAIN, Role.METHOD):
            message, hint = f"{kind.name} jobs have no search", "a search varies models or programs"
        elif words is None:
            message = "search: expected a metric, a number of trials and values"
        elif unknown := next((name for name in words if name not in KEYS), None):
            message, hint = f"search: unknown key {unknown!r}", f"known: {', '.join(KEYS)}"
        elif not isinstance(words.get(VALUES), dict) or not words.get("metric"):
            message = "search: metric or values are missing"
        elif node.find_pair("matrix") is not None:
            message, hint = "search: the entry also has a matrix", "remove one of them"
        elif combination:
            message, hint = "search: the file also has a matrix", "remove one of them"
        if message:
            problems.add_error(key, SEARCH, message, hint)
        self.found.append(SearchEntry(kind.name, not kind.entry, key.place, words or {}))


def _with_matrix(node: MappingNode, key: ScalarNode, texts: Mapping[str, str]) -> MappingNode:
    """Return an entry with one combination of values instead of its search."""
    values = tuple(
        (
            replace(key, text=name, length=len(name)),
            SequenceNode(
                key.source, key.line, key.column, (replace(word, plain=word.value is not None),)
            ),
        )
        for name, text in texts.items()
        for word in (replace(key, text=text, plain=True),)
    )
    matrix = MappingNode(key.source, key.line, key.column, values)
    others = tuple(pair for pair in node.pairs if pair[0].text != SEARCH)
    return replace(node, pairs=(*others, (replace(key, text="matrix"), matrix)))
