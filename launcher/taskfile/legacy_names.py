"""The names of the original launcher.py, understood as today's, each with a note that tells it.

Settings have old names of their own (`Settings.aliases`); here are those of the launcher itself.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from launcher.errors import Problem, Problems
from launcher.kind_interface import Kind, Role
from launcher.taskfile.includes import merged
from launcher.taskfile.nodes import Fields, Items, Node, Scalar, is_null
from launcher.taskfile.scope import resources_today
from launcher.taskfile.settings import TWO_NAMES, Known, blame_twice, known

LABELS_RATE = "poison_rate"  # a share; today's `poison` counts in percent

# Words of the original that are another word today, wherever it has its value.
_RENAMED: Mapping[str, str] = {
    "run_name": "name",
    "train_list": "train",
    "data_list": "autotest",
    "test_list": "autotest",
}
_COMMANDS: Mapping[str, str] = {
    "only_list": "is now launcher run FILE --dry-run",
    "dry_run": "is now launcher run FILE --dry-run",
    "parse": "is now launcher results",
    "merge_real": "is now launcher results, which pairs real images with each set of fakes",
    "features": "has no effect, as in the original",
}
_OLD = "old-name"
OLD_WORDS = (*_RENAMED, *_COMMANDS, "device_override", "min_vram", "clean_run", LABELS_RATE)


class Wanted(StrEnum):
    """What a file of the original wants `launcher run` to do with it."""

    RUN = "run"
    LIST = "list"  # as --dry-run
    RESULTS = "results"  # as `launcher results`


SWITCHES = {"only_list": Wanted.LIST, "dry_run": Wanted.LIST, "parse": Wanted.RESULTS}


def translate(root: Fields, kinds: Mapping[str, Kind], problems: Problems) -> tuple[Fields, Wanted]:
    """Return a task file with old words at its top replaced, and what these want to be done with it.

    Settings there go below defaults.
    """
    root = replace(
        root, pairs=tuple((key, _of_today(key, node, kinds, problems)) for key, node in root.pairs)
    )
    settings = known(kinds.values())
    old = [
        pair
        for pair in root.pairs
        if pair[0].text in OLD_WORDS
        or (pair[0].text not in kinds and pair[0].text in {*settings.names, *settings.old})
    ]
    if not old:
        return root, Wanted.RUN
    kept = {key.text: (key, node) for key, node in root.pairs if (key, node) not in old}
    translation = _Translation(kinds, settings, problems, kept)
    for key, node in old:
        translation.enter(key, node)
    return replace(root, pairs=tuple(translation.pairs.values())), translation.wanted


def _of_today(key: Scalar, node: Node, kinds: Mapping[str, Kind], problems: Problems) -> Node:
    """Return what a file asks for by the names of today, before it is merged with others."""
    if key.text != "resources" or not isinstance(node, Fields):
        return node
    inner = [
        (name, resources_today(value, problems))
        if name.text in kinds and isinstance(value, Fields)
        else (name, value)
        for name, value in node.pairs
    ]
    return resources_today(replace(node, pairs=tuple(inner)), problems)


def percent_of_rate(key: Scalar, node: Node, problems: Problems) -> Node:
    """Return poisons in percent where the original gave a share from 0 to 1."""
    problems.note(key, _OLD, "poison_rate is now called poison, and is a percentage")
    if isinstance(node, Items):
        return replace(node, nodes=tuple(_percent(node, problems) for node in node.nodes))
    return _percent(node, problems)


def _percent(node: Node, problems: Problems) -> Node:
    if not isinstance(node, Scalar) or not isinstance(node.value, int | float):
        return node
    share = node.value
    if 0 <= share <= 1:
        return replace(node, text=f"{share * 100:.6f}".rstrip("0").rstrip("."), plain=True)
    message = f"poison_rate: expected a fraction from 0 to 1, got {node.text}"
    problems.blame(node, "poison", message)
    return replace(node, text="0", plain=True)


@dataclass(slots=True)
class _Translation:
    """Puts old words where they stand today."""

    kinds: Mapping[str, Kind]
    settings: Known  # of all kinds
    problems: Problems
    pairs: dict[str, tuple[Scalar, Node]]
    wanted: Wanted = Wanted.RUN

    def enter(self, key: Scalar, node: Node) -> None:
        """Enter one old word by what it is today, with a note that tells it."""
        word = key.text
        if word in _COMMANDS:
            self._note(key, _COMMANDS[word])
            if self._truth(key, node) and word in SWITCHES and self.wanted is not Wanted.RESULTS:
                self.wanted = SWITCHES[word]
        elif word == "clean_run":
            self._clean(key, node)
        elif word in _RENAMED:
            self._rename(key, node)
        elif word == LABELS_RATE:
            labels = percent_of_rate(key, node, self.problems)
            for name in [name for name, kind in self.kinds.items() if kind.role is Role.LABELS][:1]:
                self._below("defaults", key.named(name), labels)
        elif word == "device_override":
            self._note(key, "is now resources: {device: …}")
            if isinstance(node, Scalar) and (node.value is None or node.text == "None"):
                node = replace(node, text="auto", plain=False)
            self._below("resources", key.named("device"), node)
        elif word == "min_vram":
            self._note(key, "is now resources: {vram: 16GiB}")
            if isinstance(node, Scalar) and isinstance(node.value, int):
                node = replace(node, text=f"{node.value}MiB", plain=False)
            self._below("resources", key.named("vram"), node)
        else:  # a setting, as a variable of the original
            now = self.settings.today(key, Problems())
            self._note(key, f"is now defaults: {{{now.text}: …}}")
            self._below("defaults", now, node)

    def _note(self, key: Scalar, said: str, hint: str = "") -> None:
        self.problems.note(key, _OLD, f"{key.text} {said}", hint)

    def _rename(self, key: Scalar, node: Node) -> None:
        today = _RENAMED[key.text]
        if key.text == "test_list" and isinstance(node, Items):
            # the original's list of tests holds entries; what autotest was given, data IDs
            today = "test" if any(isinstance(node, Fields) for node in node.nodes) else today
        self._note(key, f"is now called {today}")
        self._put(key.named(today), node)

    def _clean(self, key: Scalar, node: Node) -> None:
        clean = self._truth(key, node)
        if clean is None or not isinstance(node, Scalar):
            return
        today = "nothing" if clean else "weights"
        said = f"is read as reuse: {today}, as in the original code"
        self._note(key, said, "write reuse: results, weights or nothing")
        self._put(key.named("reuse"), replace(node, text=today, plain=False))

    def _put(self, key: Scalar, node: Node) -> None:
        if key.text in self.pairs:
            blame_twice(key, key.text, TWO_NAMES, self.problems)
        else:
            self.pairs[key.text] = (key, node)

    def _below(self, section: str, key: Scalar, node: Node) -> None:
        """Put a word of the top below `defaults` or `resources`; it must not stand there already."""
        inner = Fields(key.source, key.line, key.column, ((key, node),))
        name, there = self.pairs.get(section, (key.named(section), None))
        if there is None or is_null(there):
            self.pairs[section] = (key.named(section), inner)
        elif isinstance(there, Fields):  # else its reader reports that it is none
            given = {
                self.settings.today(word, Problems()).text: (word, value)
                for word, value in there.pairs
            }
            first, value = given.get(key.text, (None, None))
            if first is not None and not isinstance(value, Fields):
                how = f"twice, here and in line {first.line + 1}"
                blame_twice(key, key.text, how, self.problems)
            else:
                self.pairs[section] = (name, merged(inner, there))

    def _truth(self, key: Scalar, node: Node) -> bool | None:
        """Return what a variable of the original says; None, and a problem, if it is no truth."""
        value = node.value if isinstance(node, Scalar) else None
        if isinstance(value, bool):
            return value
        self.problems.blame(node, "wrong-type", f"{key.text}: expected true or false")
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
    message = f"the file uses {len(notes)} old names, which still work"
    return first._replace(message=message, hint="", notes=tuple(listing))
