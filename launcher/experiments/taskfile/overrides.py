"""`--set key=value` on the command line, which overrides the task file.

The key is a setting (`lr`), one of a kind (`train.lr`), a swept name of a program (`lr`, `command.lr`), or `poison`.
It can also be a word of the file: `name`, `phases`, `reuse`, `share`, `notify`, `resources.cpus`,
`resources.train.cpus`, `matrix.seed`. The value is YAML, as in a file; errors have their location in the argument.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from launcher.experiments.kind_interface import Kind, Role
from launcher.experiments.taskfile.includes import merge_files
from launcher.experiments.taskfile.legacy_names import OLD_WORDS, SWITCHES, LegacyAction, translate
from launcher.experiments.taskfile.nodes import (
    GivenSetting,
    MappingNode,
    Node,
    ScalarNode,
    SequenceNode,
    SourceFile,
)
from launcher.experiments.taskfile.scope import EVERY
from launcher.experiments.taskfile.searches import KEYS as SEARCH_KEYS
from launcher.experiments.taskfile.searches import SEARCH
from launcher.experiments.taskfile.settings import (
    ALL_WORDS,
    TWO_NAMES,
    KnownSettings,
    known_settings,
    report_duplicate_key,
    unknown_key,
)
from launcher.experiments.taskfile.yaml_tree import read_document
from launcher.queue.job_options.registry import job_options, old_option_names
from launcher.system.errors import Problem, Problems, TaskFileError

OPTION = "--set"  # the name of the argument in errors, instead of a file

_SINGLE = ("name", "about", "phases", "reuse", "share", "notify", "pass_env")
_NESTED = ("resources", "matrix", "subsets", "modifiers")
_BY_KIND = ("resources", "matrix")


@dataclass(slots=True)
class Overrides:
    """The overrides of the command line."""

    words: list[MappingNode] = field(default_factory=list)  # merged over the file
    settings: dict[str, dict[str, GivenSetting]] = field(default_factory=dict)  # a `Layer`
    # for all kinds, or for one below its name
    resources: list[MappingNode] = field(default_factory=list)
    labels: Node | None = None  # labels of every training
    wanted: LegacyAction | None = None  # requested by a word of the original
    # the problems of names that are not settings, unless a program is swept over them
    unmatched: dict[str, Problem] = field(default_factory=dict)


def read_overrides(
    arguments: Sequence[str], kinds: Mapping[str, Kind], problems: Problems
) -> Overrides:
    """Read every `key=value`; invalid ones are added to `problems`."""
    made = Overrides()
    sorting = _OverrideSorter(made, kinds, known_settings(kinds.values(), ALL_WORDS), problems)
    for argument in arguments:
        key_text, equals, _ = argument.partition("=")
        source = SourceFile(file=OPTION, lines=(argument,))
        name = key_text.strip()
        key = ScalarNode(
            source, 0, len(key_text) - len(key_text.lstrip()), len(name), name, plain=True
        )
        if not equals or not name:
            message = f"expected KEY=VALUE, got {argument!r}"
            problems.add_error(key, "set", message, "for example lr=0.01")
            continue
        node = _value(argument, len(key_text) + 1, source, problems)
        if node is not None:
            sorting.sort_key(key, node)
    return made


def _value(text: str, start: int, source: SourceFile, problems: Problems) -> Node | None:
    if "\n" in text or "\r" in text:
        problems.add_error(source.place(0, 0), "set", "expected one line")
        return None
    try:
        # padded by the length of the key, so locations in the value are locations in the argument
        node = read_document(" " * start + text[start:], OPTION, problems, source)
    except TaskFileError as error:
        problems += [problem for problem in error.problems if problem not in problems]
        return None
    return ScalarNode(source, 0, start, 1, "", plain=True) if node is None else node


@dataclass(frozen=True, slots=True)
class _OverrideSorter:
    """Sorts overrides by their targets."""

    overrides: Overrides
    kinds: Mapping[str, Kind]
    all_settings: KnownSettings  # the settings of all kinds
    problems: Problems

    def sort_key(self, key: ScalarNode, node: Node) -> None:
        """Add one key to its target."""
        first, inner = _split(key)
        kind = self.kinds.get(first.text)
        if kind is not None and inner is not None:
            self._sort_kind_key(kind, inner, node)
        elif first.text in _NESTED and inner is not None:
            self._sort_nested_key(first, inner, node)
        elif kind is not None and kind.role is Role.LABELS:
            self.overrides.labels = node
        elif key.text in OLD_WORDS and key.text not in self.all_settings.names:
            self._translate_old_word(key, node)
        elif key.text in _SINGLE:
            self.overrides.words.append(_nested_fields(key, node))
        elif inner is not None and first.text in self.all_settings.names:
            message = f"{first.text!r} can only be set as a whole"
            hint = f"write --set {first.text}=VALUE; a mapping is {{KEY: VALUE, …}}"
            self.problems.add_error(first, "set", message, hint)
        elif inner is not None:
            words = [*self.kinds, *_NESTED]
            what, hint = "a job type or a key of the file", _search_hint(first.text)
            self.problems.append(unknown_key(first, what, words, hint=hint))
        else:
            self._add_setting(key, node)

    def _sort_kind_key(self, kind: Kind, key: ScalarNode, node: Node) -> None:
        settings = known_settings([kind])
        now = settings.current_key(key, self.problems)
        if now.text in settings.names:
            self.overrides.settings.setdefault(kind.name, {})[now.text] = GivenSetting(now, node)
        elif now.text.startswith("resources."):
            option = now.with_text(now.text.removeprefix("resources."))
            self._add_resource(
                _nested_fields(now.with_text(kind.name), _nested_fields(option, node))
            )
        elif kind.entry:
            self.problems.append(settings.unknown_key_problem(now, f"a setting of {kind.name}"))
        else:
            self.overrides.settings.setdefault(kind.name, {})[now.text] = GivenSetting(now, node)
            self.overrides.unmatched[now.text] = settings.unknown_key_problem(
                now, f"a setting of {kind.name}"
            )

    def _sort_nested_key(self, word: ScalarNode, key: ScalarNode, node: Node) -> None:
        fields = _nested_fields(key, node)
        kind, inner = _split(key)
        if word.text in _BY_KIND and inner is not None and kind.text in self.kinds:
            fields = _nested_fields(kind, _nested_fields(inner, node))
        if word.text == "resources":
            self._add_resource(fields)
        else:
            self.overrides.words.append(_nested_fields(word, fields))

    def _add_resource(self, fields: MappingNode) -> None:
        """Add a resource, unless it is given under another of its names."""
        key, path = _current_resource_key(fields)
        for other, taken in map(_current_resource_key, self.overrides.resources):
            if taken == path and other.text != key.text:
                report_duplicate_key(key, path[-1], TWO_NAMES, self.problems)
                return
        self.overrides.resources.append(fields)

    def _translate_old_word(self, key: ScalarNode, node: Node) -> None:
        """Add the current form of a word of the original."""
        root, wanted = translate(_nested_fields(key, node), self.kinds, self.problems)
        if key.text in SWITCHES:
            self.overrides.wanted = wanted
        for today, value in root.pairs:
            if today.text == "resources" and isinstance(value, MappingNode):
                self.overrides.resources.append(value)
            elif today.text == "defaults" and isinstance(value, MappingNode):
                self.overrides.labels = value.pairs[0][1]
            else:
                self.overrides.words.append(_nested_fields(today, value))

    def _add_setting(self, key: ScalarNode, node: Node) -> None:
        now = self.all_settings.current_key(key, self.problems)
        if now.text in self.all_settings.names:
            self.overrides.settings.setdefault(EVERY, {})[now.text] = GivenSetting(now, node)
            return
        hint = ""
        if now.text in job_options() or now.text in old_option_names():
            hint = f"write --set resources.{old_option_names().get(now.text, now.text)}=…"
        elif now.text in (*_NESTED, *self.kinds):
            hint = f"set one key of it: --set {now.text}.KEY=VALUE"
        else:
            hint = _search_hint(now.text)
        words = [*self.all_settings.names, *_SINGLE]
        self.overrides.settings.setdefault(EVERY, {})[now.text] = GivenSetting(now, node)
        self.overrides.unmatched[now.text] = unknown_key(
            now,
            "a setting of any job type",
            words,
            hint=hint,
            old=self.all_settings.current_by_old_name,
            constants=self.all_settings.constants,
        )


def _search_hint(word: str) -> str:
    """Return where a key of a search is changed; '' for another word."""
    return f"change {SEARCH}: of an entry in the file" if word in (SEARCH, *SEARCH_KEYS) else ""


def apply_overrides(root: MappingNode, overrides: Overrides, problems: Problems) -> MappingNode:
    """Return a file with its words replaced by those of the command line."""
    for fields in overrides.words:
        key = _find_tied_sweep(root, fields)
        if key is None:
            root = merge_files(root, fields)
            continue
        message = (
            f"{key.text} may be tied to other settings, because the matrix of the file is a list"
        )
        hint = f"to use one value for all combinations: --set {key.text}=VALUE"
        problems.add_error(key, "set", message, hint)
    return root


def _find_tied_sweep(root: MappingNode, fields: MappingNode) -> ScalarNode | None:
    """Return the key of a sweep that would replace a list of combinations, None if there is none."""
    key, node = fields.pairs[0]
    if key.text != "matrix":
        return None
    below: Node | None = root
    while isinstance(below, MappingNode) and isinstance(node, MappingNode):
        below = next((inner for name, inner in below.pairs if name.text == key.text), None)
        key, node = node.pairs[0]
        if isinstance(below, SequenceNode):
            return key
    return None


def _split(key: ScalarNode) -> tuple[ScalarNode, ScalarNode | None]:
    """Return the parts of a key before and after its first point."""
    first, point, rest = key.text.partition(".")
    head = replace(key, length=len(first), text=first)
    inner = replace(key, column=key.column + len(first) + 1, length=len(rest), text=rest)
    return head, inner if point else None


def _current_resource_key(fields: MappingNode) -> tuple[ScalarNode, tuple[str, ...]]:
    """Return the key of one resource, optionally below a kind, with its current name."""
    key, node = fields.pairs[0]
    below = (key.text,) if isinstance(node, MappingNode) else ()
    if isinstance(node, MappingNode):
        key = node.pairs[0][0]
    return key, (*below, old_option_names().get(key.text, key.text))


def _nested_fields(key: ScalarNode, node: Node) -> MappingNode:
    return MappingNode(key.source, key.line, key.column, ((key, node),))
