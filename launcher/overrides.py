"""`--set key=value` on the command line: stronger than all that a task file says.

The key is a setting (`lr`), one of a kind (`train.lr`), or a word of the file (`name`, `phases`, `reuse`,
`resources.cpus`, `matrix.seed`). The value is YAML, as in a file; errors point into the argument.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from launcher.document import Fields, Node, Scalar, Source, read_document
from launcher.errors import Problem, TaskFileError
from launcher.kinds import Kind
from launcher.oldnames import POISON_RATE, current
from launcher.settings import known_settings, unknown_key

FILE = "--set"  # what errors call the argument

_SINGLE = ("name", "about", "phases", "reuse")
_NESTED = ("resources", "matrix", "subsets", "modifiers")


@dataclass(slots=True)
class Overrides:
    """All that the command line sets."""

    words: list[Fields] = field(default_factory=list)  # to be laid over the file
    settings: dict[str, tuple[Scalar, Node]] = field(default_factory=dict)
    kind_settings: dict[str, dict[str, tuple[Scalar, Node]]] = field(default_factory=dict)
    resources: Fields | None = None


def read_overrides(
    arguments: Sequence[str], kinds: Mapping[str, Kind], problems: list[Problem]
) -> Overrides:
    """Read every `key=value`; what cannot be is added to `problems`."""
    made = Overrides()
    for argument in arguments:
        key_text, equals, _ = argument.partition("=")
        source = Source(file=FILE, lines=(argument,))
        key = Scalar(source, 0, 0, len(key_text), key_text, plain=True)
        if not equals or not key_text:
            message = f"expected key=value, got {argument!r}"
            problems.append(Problem(code="set", message=message, place=key.place))
            continue
        node = _value(argument, len(key_text) + 1, source, problems)
        if node is not None:
            _enter(made, key, node, kinds, problems)
    return made


def _value(text: str, start: int, source: Source, problems: list[Problem]) -> Node | None:
    if "\n" in text or "\r" in text:
        message = "expected one line"
        problems.append(Problem(code="set", message=message, place=source.place(0, 0)))
        return None
    try:
        # as many spaces as the key is long, so that places in it are places in the argument
        node = read_document(" " * start + text[start:], FILE, problems, source)
    except TaskFileError as error:
        problems.extend(error.problems)
        return None
    return Scalar(source, 0, start, 1, "", plain=True) if node is None else node


def _enter(
    made: Overrides,
    key: Scalar,
    node: Node,
    kinds: Mapping[str, Kind],
    problems: list[Problem],
) -> None:
    first, dot, rest = key.text.partition(".")
    inner = replace(key, column=len(first) + 1, length=len(rest), text=rest)
    if first in kinds and dot:
        now = current(inner, [kinds[first]], problems)
        if now.text in known_settings(kinds[first]):
            made.kind_settings.setdefault(first, {})[now.text] = (now, node)
        else:
            known = known_settings(kinds[first])
            problems.append(unknown_key(now, f"a setting of {first}", known))
    elif first in _NESTED and dot:
        fields = Fields(key.source, 0, key.column, ((inner, node),))
        outer = replace(key, length=len(first), text=first)
        if first == "resources":
            pairs = () if made.resources is None else made.resources.pairs
            made.resources = replace(fields, pairs=(*pairs, *fields.pairs))
        else:
            made.words.append(Fields(key.source, 0, 0, ((outer, fields),)))
    elif key.text in _SINGLE or key.text == POISON_RATE:
        made.words.append(Fields(key.source, 0, 0, ((key, node),)))
    else:
        _enter_setting(made, key, node, kinds, problems)


def _enter_setting(
    made: Overrides,
    key: Scalar,
    node: Node,
    kinds: Mapping[str, Kind],
    problems: list[Problem],
) -> None:
    now = current(key, kinds.values(), problems)
    known = {name for kind in kinds.values() for name in known_settings(kind)}
    if now.text in known:
        made.settings[now.text] = (now, node)
    else:
        nested = [f"{word}.…" for word in _NESTED]
        problems.append(unknown_key(now, "a setting of any kind", _all(known, nested)))


def _all(known: Iterable[str], nested: Iterable[str]) -> list[str]:
    return [*known, *_SINGLE, *nested]
