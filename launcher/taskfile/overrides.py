"""`--set key=value` on the command line: stronger than all that a task file says.

The key is a setting (`lr`), one of a kind (`train.lr`), what a program is swept over (`lr`, `command.lr`), `poison`, or a word of the file (`name`, `phases`, `reuse`,
`share`, `notify`, `resources.cpus`, `resources.train.cpus`, `matrix.seed`). The value is YAML, as in a file; errors
point into the argument.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from launcher.errors import Problem, Problems, TaskFileError
from launcher.job_options.registry import job_options, renamed_options
from launcher.kind_interface import Kind, Role
from launcher.taskfile.includes import merged
from launcher.taskfile.legacy_names import OLD_WORDS, SWITCHES, Wanted, translate
from launcher.taskfile.nodes import Fields, Items, Node, Said, Scalar, Source
from launcher.taskfile.scope import EVERY
from launcher.taskfile.settings import ALL_WORDS, TWO_NAMES, Known, blame_twice, known, unknown_key
from launcher.taskfile.yaml_tree import read_document

OPTION = "--set"  # what errors call this argument; there is no file beside it to look into

_SINGLE = ("name", "about", "phases", "reuse", "share", "notify", "pass_env")
_NESTED = ("resources", "matrix", "subsets", "modifiers")
_BY_KIND = ("resources", "matrix")


@dataclass(slots=True)
class Overrides:
    """All that the command line sets."""

    words: list[Fields] = field(default_factory=list)  # to be laid over the file
    settings: dict[str, dict[str, Said]] = field(default_factory=dict)  # a `Layer`
    resources: list[Fields] = field(default_factory=list)  # for all kinds, or below the name of one
    labels: Node | None = None  # of every training
    wanted: Wanted | None = None  # as a word of the original asks
    # what to say of names that are no settings, if no program is swept over them either
    free: dict[str, Problem] = field(default_factory=dict)


def read_overrides(
    arguments: Sequence[str], kinds: Mapping[str, Kind], problems: Problems
) -> Overrides:
    """Read every `key=value`; what cannot be is added to `problems`."""
    made = Overrides()
    sorting = _Sorting(made, kinds, known(kinds.values(), ALL_WORDS), problems)
    for argument in arguments:
        key_text, equals, _ = argument.partition("=")
        source = Source(file=OPTION, lines=(argument,))
        name = key_text.strip()
        key = Scalar(source, 0, len(key_text) - len(key_text.lstrip()), len(name), name, plain=True)
        if not equals or not name:
            message = f"expected KEY=VALUE, got {argument!r}"
            problems.blame(key, "set", message, "for example lr=0.01")
            continue
        node = _value(argument, len(key_text) + 1, source, problems)
        if node is not None:
            sorting.enter(key, node)
    return made


def _value(text: str, start: int, source: Source, problems: Problems) -> Node | None:
    if "\n" in text or "\r" in text:
        problems.blame(source.place(0, 0), "set", "expected one line")
        return None
    try:
        # as many spaces as the key is long, so that places in it are places in the argument
        node = read_document(" " * start + text[start:], OPTION, problems, source)
    except TaskFileError as error:
        problems += [problem for problem in error.problems if problem not in problems]
        return None
    return Scalar(source, 0, start, 1, "", plain=True) if node is None else node


@dataclass(frozen=True, slots=True)
class _Sorting:
    """Sorts what is set."""

    made: Overrides
    kinds: Mapping[str, Kind]
    every: Known  # the settings of all kinds
    problems: Problems

    def enter(self, key: Scalar, node: Node) -> None:
        """Enter one key, whichever it is."""
        first, inner = _split(key)
        kind = self.kinds.get(first.text)
        if kind is not None and inner is not None:
            self._of_kind(kind, inner, node)
        elif first.text in _NESTED and inner is not None:
            self._nested(first, inner, node)
        elif kind is not None and kind.role is Role.LABELS:
            self.made.labels = node
        elif key.text in OLD_WORDS and key.text not in self.every.names:
            self._old(key, node)
        elif key.text in _SINGLE:
            self.made.words.append(_fields(key, node))
        elif inner is not None:
            words = [*self.kinds, *_NESTED]
            self.problems.append(unknown_key(first, "a job type or a key of the file", words))
        else:
            self._setting(key, node)

    def _of_kind(self, kind: Kind, key: Scalar, node: Node) -> None:
        settings = known([kind])
        now = settings.today(key, self.problems)
        if now.text in settings.names:
            self.made.settings.setdefault(kind.name, {})[now.text] = Said(now, node)
        elif now.text.startswith("resources."):
            option = now.named(now.text.removeprefix("resources."))
            self._resource(_fields(now.named(kind.name), _fields(option, node)))
        elif kind.entry:
            self.problems.append(settings.unknown(now, f"a setting of {kind.name}"))
        else:
            self.made.settings.setdefault(kind.name, {})[now.text] = Said(now, node)
            self.made.free[now.text] = settings.unknown(now, f"a setting of {kind.name}")

    def _nested(self, word: Scalar, key: Scalar, node: Node) -> None:
        fields = _fields(key, node)
        kind, inner = _split(key)
        if word.text in _BY_KIND and inner is not None and kind.text in self.kinds:
            fields = _fields(kind, _fields(inner, node))
        if word.text == "resources":
            self._resource(fields)
        else:
            self.made.words.append(_fields(word, fields))

    def _resource(self, fields: Fields) -> None:
        """Enter a resource, unless it is there by another of its names."""
        key, path = _resource_named(fields)
        for other, taken in map(_resource_named, self.made.resources):
            if taken == path and other.text != key.text:
                blame_twice(key, path[-1], TWO_NAMES, self.problems)
                return
        self.made.resources.append(fields)

    def _old(self, key: Scalar, node: Node) -> None:
        """Enter a word of the original by what it is today."""
        root, wanted = translate(_fields(key, node), self.kinds, self.problems)
        if key.text in SWITCHES:
            self.made.wanted = wanted
        for today, value in root.pairs:
            if today.text == "resources" and isinstance(value, Fields):
                self.made.resources.append(value)
            elif today.text == "defaults" and isinstance(value, Fields):
                self.made.labels = value.pairs[0][1]
            else:
                self.made.words.append(_fields(today, value))

    def _setting(self, key: Scalar, node: Node) -> None:
        now = self.every.today(key, self.problems)
        if now.text in self.every.names:
            self.made.settings.setdefault(EVERY, {})[now.text] = Said(now, node)
            return
        hint = ""
        if now.text in job_options() or now.text in renamed_options():
            hint = f"write --set resources.{renamed_options().get(now.text, now.text)}=…"
        elif now.text in (*_NESTED, *self.kinds):
            hint = f"set one key of it: --set {now.text}.KEY=VALUE"
        words = [*self.every.names, *_SINGLE]
        self.made.settings.setdefault(EVERY, {})[now.text] = Said(now, node)
        self.made.free[now.text] = unknown_key(
            now, "a setting of any job type", words, hint=hint, old=self.every.old
        )


def laid_over(root: Fields, overrides: Overrides, problems: Problems) -> Fields:
    """Return a file with the words of the command line in the place of its own."""
    for fields in overrides.words:
        key = _tied(root, fields)
        if key is None:
            root = merged(root, fields)
            continue
        message = (
            f"{key.text} may be tied to other settings, because the matrix of the file is a list"
        )
        hint = f"to use one value for all combinations: --set {key.text}=VALUE"
        problems.blame(key, "set", message, hint)
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


def _split(key: Scalar) -> tuple[Scalar, Scalar | None]:
    """Return what stands before the first point of a key, and what stands behind it."""
    first, point, rest = key.text.partition(".")
    head = replace(key, length=len(first), text=first)
    inner = replace(key, column=key.column + len(first) + 1, length=len(rest), text=rest)
    return head, inner if point else None


def _resource_named(fields: Fields) -> tuple[Scalar, tuple[str, ...]]:
    """Return the key of one resource, and by its name of today where it stands: below a kind's, too."""
    key, node = fields.pairs[0]
    below = (key.text,) if isinstance(node, Fields) else ()
    if isinstance(node, Fields):
        key = node.pairs[0][0]
    return key, (*below, renamed_options().get(key.text, key.text))


def _fields(key: Scalar, node: Node) -> Fields:
    return Fields(key.source, key.line, key.column, ((key, node),))
