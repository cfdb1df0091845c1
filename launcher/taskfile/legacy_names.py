"""The names of the original launcher.py, understood as today's, each with a note that tells it.

Settings have old names of their own (`Settings.aliases`); here are those of the launcher itself.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from launcher.errors import Problem, Severity
from launcher.job_options.registry import renamed_options
from launcher.kind_interface import Kind, Role
from launcher.taskfile.includes import merged
from launcher.taskfile.yaml_tree import Fields, Items, Node, Scalar

LABELS_RATE = "poison_rate"  # a share; today's `poison` counts in percent

# Words of the original that are another word today, wherever it has its value.
_RENAMED: Mapping[str, str] = {
    "run_name": "name",
    "train_list": "train",
    "data_list": "autotest",
    "test_list": "autotest",
}
_COMMANDS: Mapping[str, str] = {
    "only_list": "is launcher run FILE --dry-run today",
    "dry_run": "is launcher run FILE --dry-run today",
    "parse": "is launcher results today",
    "merge_real": "is launcher results today, which joins real images with each set of fakes",
    "features": "has no effect, as in the original",
}
_OLD = "old-name"
_LISTING = frozenset({"only_list", "dry_run"})
SWITCHES = frozenset({*_LISTING, "parse"})  # what a file is wanted for
OLD_WORDS = (*_RENAMED, *_COMMANDS, "device_override", "min_vram", "clean_run", LABELS_RATE)


class Wanted(StrEnum):
    """What a file of the original wants `launcher run` to do with it."""

    RUN = "run"
    LIST = "list"  # as --dry-run
    RESULTS = "results"  # as `launcher results`


@dataclass(slots=True)
class Translated:
    """A file in today's words."""

    root: Fields
    wanted: Wanted = Wanted.RUN


def translate(root: Fields, kinds: Mapping[str, Kind], problems: list[Problem]) -> Translated:
    """Return a task file with old words at its top replaced; settings there go below defaults."""
    return _Translation(kinds, problems).of(_with_resources_of_today(root, kinds, problems))


def current(key: Scalar, kinds: Iterable[Kind], problems: list[Problem]) -> Scalar:
    """Return the key of a setting by its name of today; note that there is one if it was old."""
    for kind in kinds:
        if key.text in kind.settings.model_fields:
            return key
    for kind in kinds:
        today = kind.settings.aliases.get(key.text)
        if today is not None:
            problems.append(old_note(key, f"{key.text} is called {today} today"))
            return replace(key, text=today)
    return key


def resources_today(asked: Fields, problems: list[Problem]) -> Fields:
    """Return resources by their names of today; note which have older ones, blame what is there twice."""
    pairs: dict[str, tuple[Scalar, Node]] = {}
    for key, node in asked.pairs:
        name = renamed_options().get(key.text, key.text)
        if name != key.text:
            problems.append(old_note(key, f"{key.text} is called {name} today"))
        if name in pairs:
            message = f"{name!r} is given twice, by its name of today and by an old one"
            problems.append(_twice(key, message))
        else:
            pairs[name] = (replace(key, text=name), node)
    return replace(asked, pairs=tuple(pairs.values()))


def _with_resources_of_today(
    root: Fields, kinds: Mapping[str, Kind], problems: list[Problem]
) -> Fields:
    """Return a file with the resources at its top by their names of today, before it is merged."""

    def today(key: Scalar, node: Node) -> Node:
        if key.text != "resources" or not isinstance(node, Fields):
            return node
        inner = [
            (name, resources_today(value, problems))
            if name.text in kinds and isinstance(value, Fields)
            else (name, value)
            for name, value in node.pairs
        ]
        return resources_today(replace(node, pairs=tuple(inner)), problems)

    return replace(root, pairs=tuple((key, today(key, node)) for key, node in root.pairs))


def percent_of_rate(key: Scalar, node: Node, problems: list[Problem]) -> Node:
    """Return poisons in percent where the original gave a share from 0 to 1."""
    problems.append(old_note(key, "poison_rate is called poison today, and counts in percent"))
    if isinstance(node, Items):
        return replace(node, nodes=tuple(_percent(node, problems) for node in node.nodes))
    return _percent(node, problems)


def _percent(node: Node, problems: list[Problem]) -> Node:
    if not isinstance(node, Scalar) or not isinstance(node.value, int | float):
        return node
    share = node.value
    if 0 <= share <= 1:
        return replace(node, text=f"{share * 100:.6f}".rstrip("0").rstrip("."), plain=True)
    message = f"poison_rate: expected a share from 0 to 1, got {node.text}"
    problems.append(Problem(code="poison", message=message, place=node.place))
    return replace(node, text="0", plain=True)


@dataclass(slots=True)
class _Translation:
    kinds: Mapping[str, Kind]
    problems: list[Problem]
    pairs: dict[str, tuple[Scalar, Node]] = field(default_factory=dict)
    wanted: Wanted = Wanted.RUN

    def of(self, root: Fields) -> Translated:
        old = [pair for pair in root.pairs if self._is_old(pair[0].text)]
        if not old:
            return Translated(root)
        special: Mapping[str, Callable[[Scalar, Node], None]] = {
            "device_override": self._device,
            "min_vram": self._vram,
            "clean_run": self._clean,
            LABELS_RATE: self._rate,
        }
        self.pairs = {key.text: (key, node) for key, node in root.pairs if (key, node) not in old}
        for key, node in old:
            if key.text in special:
                special[key.text](key, node)
            elif key.text in _COMMANDS:
                self._command(key, node)
            elif key.text in _RENAMED:
                self._rename(key, node)
            else:
                self._setting(key, node)
        whole = replace(root, pairs=tuple(self.pairs.values()))
        return Translated(whole, self.wanted)

    def _is_old(self, word: str) -> bool:
        if word in OLD_WORDS:
            return True
        settings = [kind.settings for kind in self.kinds.values()]
        return word not in self.kinds and any(
            word in setting.model_fields or word in setting.aliases for setting in settings
        )

    def _setting(self, key: Scalar, node: Node) -> None:
        """Put a setting that stands at the top, as a variable of the original did, in its place."""
        now = current(key, self.kinds.values(), [])
        self.problems.append(old_note(key, f"{key.text} is defaults: {{{now.text}: …}} today"))
        self._below(now, node, "defaults")

    def _rename(self, key: Scalar, node: Node) -> None:
        today = _RENAMED[key.text]
        if key.text == "test_list" and isinstance(node, Items):
            # the original's list of tests holds entries; what autotest was given, data IDs
            today = "test" if any(isinstance(node, Fields) for node in node.nodes) else today
        self.problems.append(old_note(key, f"{key.text} is called {today} today"))
        self._put(replace(key, text=today), node)

    def _put(self, key: Scalar, node: Node) -> None:
        if key.text in self.pairs:
            message = f"{key.text!r} is given twice, by its name of today and by an old one"
            self.problems.append(_twice(key, message))
        else:
            self.pairs[key.text] = (key, node)

    def _below(self, key: Scalar, node: Node, section: str) -> None:
        """Put a word of the top below `defaults` or `resources`; it must not stand there already."""
        inner = Fields(key.source, key.line, key.column, ((key, node),))
        there = self.pairs.get(section)
        if there is None or (isinstance(there[1], Scalar) and there[1].value is None):
            self.pairs[section] = (replace(key, text=section), inner)
            return
        if not isinstance(there[1], Fields):
            return  # its reader reports that it is none
        kinds = list(self.kinds.values())
        given = {current(word, kinds, []).text: (word, value) for word, value in there[1].pairs}
        first, value = given.get(key.text, (None, None))
        if first is not None and not isinstance(value, Fields):
            message = f"{key.text!r} is given twice, here and in line {first.line + 1}"
            self.problems.append(_twice(key, message))
            return
        both = merged(inner, there[1])
        self.pairs[section] = (there[0], both)

    def _device(self, key: Scalar, node: Node) -> None:
        self.problems.append(old_note(key, "device_override is resources: {device: …} today"))
        if isinstance(node, Scalar) and (node.value is None or node.text == "None"):
            node = replace(node, text="auto", plain=False)
        self._below(replace(key, text="device"), node, "resources")

    def _vram(self, key: Scalar, node: Node) -> None:
        if isinstance(node, Scalar) and isinstance(node.value, int):
            node = replace(node, text=f"{node.value}MiB", plain=False)
        self.problems.append(old_note(key, "min_vram is resources: {vram: 16GiB} today"))
        self._below(replace(key, text="vram"), node, "resources")

    def _clean(self, key: Scalar, node: Node) -> None:
        clean = self._truth(key, node)
        if clean is None or not isinstance(node, Scalar):
            return
        today = "nothing" if clean else "weights"
        message = (
            f"clean_run meant two things; it is read as in the original's code, as reuse: {today}"
        )
        hint = "say reuse: results, weights or nothing"
        self.problems.append(old_note(key, message)._replace(hint=hint))
        self._put(replace(key, text="reuse"), replace(node, text=today, plain=False))

    def _rate(self, key: Scalar, node: Node) -> None:
        labels = percent_of_rate(key, node, self.problems)
        name = next((name for name, kind in self.kinds.items() if kind.role is Role.LABELS), None)
        if name is not None:
            self._below(replace(key, text=name), labels, "defaults")

    def _command(self, key: Scalar, node: Node) -> None:
        self.problems.append(old_note(key, f"{key.text} {_COMMANDS[key.text]}"))
        if not self._truth(key, node):
            return
        if key.text in _LISTING and self.wanted is Wanted.RUN:
            self.wanted = Wanted.LIST
        elif key.text == "parse":
            self.wanted = Wanted.RESULTS

    def _truth(self, key: Scalar, node: Node) -> bool | None:
        """Return what a variable of the original says; None, and a problem, if it is no truth."""
        value = node.value if isinstance(node, Scalar) else None
        if isinstance(value, bool):
            return value
        message = f"{key.text}: expected true or false"
        self.problems.append(Problem(code="wrong-type", message=message, place=node.place))
        return None


def gathered(problems: Iterable[Problem]) -> list[Problem]:
    """Return the problems with all notes on old names of one file as one, told at the first."""
    by_file: dict[str, list[Problem]] = {}
    others: list[Problem] = []
    for problem in dict.fromkeys(problems):
        if problem.code == _OLD and problem.place is not None:
            by_file.setdefault(problem.place.file, []).append(problem)
        else:
            others.append(problem)
    return [*others, *(_as_one(notes) for notes in by_file.values())]


def _as_one(notes: list[Problem]) -> Problem:
    if len(notes) == 1:
        return notes[0]
    lines = [(note.place.line if note.place else 0, note) for note in notes]
    listing = [
        f"line {line}: {note.message}" + (f"; {note.hint}" if note.hint else "")
        for line, note in sorted(lines, key=lambda pair: pair[0])
    ]
    first = min(lines, key=lambda pair: pair[0])[1]
    message = f"{len(notes)} old names are understood; today they are others"
    return first._replace(message=message, hint="", notes=tuple(listing))


def _twice(key: Scalar, message: str) -> Problem:
    hint = "leave one of them out"
    return Problem(code="duplicate-key", message=message, place=key.place, hint=hint)


def old_note(key: Scalar, message: str) -> Problem:
    """Return the note on a word of the original, where it stands."""
    return Problem(code="old-name", message=message, severity=Severity.WARNING, place=key.place)
