"""`--set key=value` on the command line: stronger than all that a task file says.

The key is a setting (`lr`), one of a kind (`train.lr`), `poison`, or a word of the file (`name`, `phases`, `reuse`,
`share`, `notify`, `resources.cpus`, `resources.train.cpus`, `matrix.seed`). The value is YAML, as in a file; errors
point into the argument.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from launcher.errors import Problem, TaskFileError
from launcher.job_options.registry import job_options, renamed_options
from launcher.kind_interface import Kind, Role
from launcher.taskfile.includes import merged
from launcher.taskfile.legacy_names import (
    OLD_WORDS,
    SWITCHES,
    Wanted,
    current,
    translate,
)
from launcher.taskfile.settings import OPTION, all_settings, known_settings, old_names, unknown_key
from launcher.taskfile.yaml_tree import Fields, Items, Node, Scalar, Source, read_document

FILE = OPTION

_SINGLE = ("name", "about", "phases", "reuse", "share", "notify", "pass_env")
_NESTED = ("resources", "matrix", "subsets", "modifiers")
_BY_KIND = ("resources", "matrix")

_Settings = dict[str, tuple[Scalar, Node]]


@dataclass(slots=True)
class Overrides:
    """All that the command line sets."""

    words: list[Fields] = field(default_factory=list)  # to be laid over the file
    settings: _Settings = field(default_factory=dict)
    kind_settings: dict[str, _Settings] = field(default_factory=dict)
    resources: list[Fields] = field(default_factory=list)  # for all kinds, or below the name of one
    labels: Node | None = None  # of every training
    wanted: Wanted | None = None  # as a word of the original asks


def read_overrides(
    arguments: Sequence[str], kinds: Mapping[str, Kind], problems: list[Problem]
) -> Overrides:
    """Read every `key=value`; what cannot be is added to `problems`."""
    made = Overrides()
    reading = _Reading(made, kinds, problems)
    for argument in arguments:
        key_text, equals, _ = argument.partition("=")
        source = Source(file=FILE, lines=(argument,))
        start = len(key_text) - len(key_text.lstrip())
        name = key_text.strip()
        key = Scalar(source, 0, start, len(name), name, plain=True)
        if not equals or not name:
            message = f"expected key=value, got {argument!r}"
            hint = "write it as lr=0.01"
            problems.append(Problem(code="set", message=message, place=key.place, hint=hint))
            continue
        node = _value(argument, len(key_text) + 1, source, problems)
        if node is not None:
            reading.enter(key, node)
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
        problems.extend(problem for problem in error.problems if problem not in problems)
        return None
    return Scalar(source, 0, start, 1, "", plain=True) if node is None else node


class _Reading(NamedTuple):
    """Sorts what is set."""

    made: Overrides
    kinds: Mapping[str, Kind]
    problems: list[Problem]

    def enter(self, key: Scalar, node: Node) -> None:
        """Enter one key, whichever it is."""
        first, dot, rest = key.text.partition(".")
        head = replace(key, length=len(first), text=first)
        inner = replace(
            key, column=key.column + len(first) + 1, length=max(1, len(rest)), text=rest
        )
        kind = self.kinds.get(first)
        if kind is not None and dot:
            self._of_kind(kind, inner, node)
        elif first in _NESTED and dot:
            self._nested(head, inner, node)
        elif kind is not None and kind.role is Role.LABELS:
            self.made.labels = node
        elif key.text in OLD_WORDS and key.text not in self._settings():
            self._old(key, node)
        elif key.text in _SINGLE:
            self.made.words.append(_fields(key, node))
        elif dot:
            words = [*self.kinds, *_NESTED]
            self.problems.append(unknown_key(head, "a kind of jobs or a word of the file", words))
        else:
            self._setting(key, node)

    def _of_kind(self, kind: Kind, key: Scalar, node: Node) -> None:
        now = current(key, [kind], self.problems)
        names = known_settings(kind)
        if now.text in names:
            self.made.kind_settings.setdefault(kind.name, {})[now.text] = (now, node)
        elif now.text.startswith("resources."):
            rest = now.text.partition(".")[2]
            name = replace(key, length=len(kind.name), text=kind.name)
            outer = _fields(name, _fields(replace(key, text=rest), node))
            self._resource(outer)
        else:
            what, where = f"a setting of {kind.name}", all_settings(kind)
            self.problems.append(unknown_key(now, what, names, where=where, old=old_names([kind])))

    def _nested(self, word: Scalar, key: Scalar, node: Node) -> None:
        kind, dot, rest = key.text.partition(".")
        fields = _fields(key, node)
        if word.text in _BY_KIND and dot and kind in self.kinds:
            inner = replace(key, column=key.column + len(kind) + 1, length=len(rest), text=rest)
            fields = _fields(replace(key, length=len(kind), text=kind), _fields(inner, node))
        if word.text == "resources":
            self._resource(fields)
        else:
            self.made.words.append(_fields(word, fields))

    def _resource(self, fields: Fields) -> None:
        """Enter a resource, unless it is there by another of its names."""
        key, path = _resource_named(fields)
        for other, taken in map(_resource_named, self.made.resources):
            if taken == path and other.text != key.text:
                message = f"{path[-1]!r} is given twice, by its name of today and by an old one"
                hint = "leave one of them out"
                self.problems.append(
                    Problem(code="duplicate-key", message=message, place=key.place, hint=hint)
                )
                return
        self.made.resources.append(fields)

    def _old(self, key: Scalar, node: Node) -> None:
        """Enter a word of the original by what it is today."""
        translated = translate(_fields(key, node), self.kinds, self.problems)
        if key.text in SWITCHES:
            self.made.wanted = translated.wanted
        for today, value in translated.root.pairs:
            if today.text == "resources" and isinstance(value, Fields):
                self.made.resources.append(value)
            elif today.text == "defaults" and isinstance(value, Fields):
                self.made.labels = value.pairs[0][1]
            else:
                self.made.words.append(_fields(today, value))

    def _setting(self, key: Scalar, node: Node) -> None:
        now = current(key, self.kinds.values(), self.problems)
        names = self._settings()
        if now.text in names:
            self.made.settings[now.text] = (now, node)
            return
        hint = ""
        if now.text in job_options() or now.text in renamed_options():
            hint = f"--set resources.{renamed_options().get(now.text, now.text)}=…"
        elif now.text in (*_NESTED, *self.kinds):
            hint = f"one key of it at a time: --set {now.text}.KEY=VALUE"
        what = "a setting of any kind"
        old = old_names(self.kinds.values())
        self.problems.append(unknown_key(now, what, [*names, *_SINGLE], hint=hint, old=old))

    def _settings(self) -> set[str]:
        return {name for kind in self.kinds.values() for name in known_settings(kind)}


def laid_over(root: Fields, overrides: Overrides, problems: list[Problem]) -> Fields:
    """Return a file with the words of the command line in the place of its own."""
    for fields in overrides.words:
        key = _tied(root, fields)
        if key is None:
            root = merged(root, fields)
            continue
        message = f"{key.text} may be tied to other settings: the matrix of the file is a list"
        hint = f"--set {key.text}=VALUE takes one value in place of all of its own"
        problems.append(Problem(code="set", message=message, place=key.place, hint=hint))
    return root


def _tied(root: Fields, fields: Fields) -> Scalar | None:
    """Return the key of a sweep that is laid over a list of combinations; None if it is none."""
    key, node = fields.pairs[0]
    if key.text != "matrix":
        return None
    below: Node | None = root
    while isinstance(below, Fields) and isinstance(node, Fields):
        below = next((inner for name, inner in below.pairs if name.text == key.text), None)
        key, node = node.pairs[0]
        if isinstance(below, Items):
            return key
    return None


def _resource_named(fields: Fields) -> tuple[Scalar, tuple[str, ...]]:
    """Return the key of one resource, and by its name of today where it stands: below a kind's, too."""
    key, node = fields.pairs[0]
    below = (key.text,) if isinstance(node, Fields) else ()
    if isinstance(node, Fields):
        key = node.pairs[0][0]
    return key, (*below, renamed_options().get(key.text, key.text))


def _fields(key: Scalar, node: Node) -> Fields:
    return Fields(key.source, key.line, key.column, ((key, node),))
