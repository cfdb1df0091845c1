"""The word `search` of an entry: its values are chosen by results, one combination per trial.

A file is planned without these entries. Each trial plans it again with one of them, whose `search` is then a `matrix`
with one value per name.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from launcher.experiments.kind_interface import Kind, Role
from launcher.experiments.taskfile.nodes import (
    MappingNode,
    Node,
    ScalarNode,
    SequenceNode,
    plain_value,
)
from launcher.system.errors import (
    Problems,
    SourceLocation,
    did_you_mean,
    list_known_names,
    nearest,
)
from launcher.system.files import Json

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

    entry: int  # the search's number among the entries with a search
    texts: Mapping[str, str]
    labels: Mapping[str, str] = {}  # name → text in the names of jobs, where this text differs


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
                planned.append(_with_matrix(node, pair[0], self.chosen))
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
        elif words is None or not isinstance(value, MappingNode):
            message = "search: expected a metric, a number of trials and values"
        elif words.keys() - {*KEYS}:
            _refuse_keys(value, problems)
        elif not isinstance(words.get(VALUES), dict) or not words.get("metric"):
            message = "search: metric or values are missing"
        elif node.find_pair("matrix") is not None:
            message, hint = "search: the entry also has a matrix", "remove one of them"
        elif combination:
            message, hint = "search: the file also has a matrix", "remove one of them"
        if message:
            problems.add_error(key, SEARCH, message, hint)
        self.found.append(SearchEntry(kind.name, not kind.entry, key.place, words or {}))


def _refuse_keys(search: MappingNode, problems: Problems) -> None:
    """Report each key that a search does not have."""
    for key, _ in search.pairs:
        if key.text not in KEYS:
            hint = did_you_mean(nearest(key.text, KEYS))
            notes = (list_known_names(key.text, KEYS),)
            problems.add_error(key, SEARCH, f"search: unknown key {key.text!r}", hint, *notes)


def _with_matrix(node: MappingNode, key: ScalarNode, chosen_values: ChosenValues) -> MappingNode:
    """Return an entry with one combination of values instead of its search."""
    values = tuple(
        (
            replace(key, text=name, length=len(name)),
            _as_only_value(key, text, chosen_values.labels.get(name)),
        )
        for name, text in chosen_values.texts.items()
    )
    matrix = MappingNode(key.source, key.line, key.column, values)
    others = tuple(pair for pair in node.pairs if pair[0].text != SEARCH)
    return replace(node, pairs=(*others, (replace(key, text="matrix"), matrix)))


def _as_only_value(key: ScalarNode, text: str, label: str | None) -> Node:
    """Return one value as the values of a name in a matrix."""
    word = replace(key, text=text, plain=True)
    word = replace(word, plain=word.value is not None)
    if label is not None:
        return MappingNode(key.source, key.line, key.column, ((replace(key, text=label), word),))
    return SequenceNode(key.source, key.line, key.column, (word,))
