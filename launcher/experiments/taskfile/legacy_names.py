"""The names of the original launcher.py, translated to current names, each with a note.

Old names of settings are in `Settings.aliases`; this module contains those of the launcher itself.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from launcher.experiments.kind_interface import Kind, Role
from launcher.experiments.taskfile.includes import merge_files
from launcher.experiments.taskfile.nodes import MappingNode, Node, ScalarNode, SequenceNode, is_null
from launcher.experiments.taskfile.scope import with_current_names
from launcher.experiments.taskfile.settings import (
    TWO_NAMES,
    KnownSettings,
    known_settings,
    report_duplicate_key,
)
from launcher.system.errors import Problem, Problems

LABELS_RATE = "poison_rate"  # a fraction; the current `poison` is in percent

# Words of the original with another name for the same value.
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
_OLD_NAME_CODE = "old-name"
OLD_WORDS = (*_RENAMED, *_COMMANDS, "device_override", "min_vram", "clean_run", LABELS_RATE)


class LegacyAction(StrEnum):
    """The action that a file of the original requests from `launcher run`."""

    RUN = "run"
    LIST = "list"  # as --dry-run
    RESULTS = "results"  # as `launcher results`


SWITCHES = {
    "only_list": LegacyAction.LIST,
    "dry_run": LegacyAction.LIST,
    "parse": LegacyAction.RESULTS,
}


def translate(
    root: MappingNode, kinds: Mapping[str, Kind], problems: Problems
) -> tuple[MappingNode, LegacyAction]:
    """Return a task file with old words at its top level replaced, and the requested action.

    Settings at the top level move to defaults.
    """
    root = replace(
        root,
        pairs=tuple(
            (key, _with_current_resources(key, node, kinds, problems)) for key, node in root.pairs
        ),
    )
    settings = known_settings(kinds.values())
    old = [
        pair
        for pair in root.pairs
        if pair[0].text in OLD_WORDS
        or (
            pair[0].text not in kinds
            and pair[0].text in {*settings.names, *settings.current_by_old_name}
        )
    ]
    if not old:
        return root, LegacyAction.RUN
    kept = {key.text: (key, node) for key, node in root.pairs if (key, node) not in old}
    translation = _LegacyTranslator(kinds, settings, problems, kept)
    for key, node in old:
        translation.translate_word(key, node)
    return replace(root, pairs=tuple(translation.pairs.values())), translation.wanted


def _with_current_resources(
    key: ScalarNode, node: Node, kinds: Mapping[str, Kind], problems: Problems
) -> Node:
    """Return the node of a key; the names of resources become current ones, before files are merged."""
    if key.text != "resources" or not isinstance(node, MappingNode):
        return node
    inner = [
        (name, with_current_names(value, problems))
        if name.text in kinds and isinstance(value, MappingNode)
        else (name, value)
        for name, value in node.pairs
    ]
    return with_current_names(replace(node, pairs=tuple(inner)), problems)


def percent_of_rate(key: ScalarNode, node: Node, problems: Problems) -> Node:
    """Return poisons in percent from the fractions (0 to 1) of the original."""
    problems.add_warning(
        key, _OLD_NAME_CODE, "poison_rate is now called poison, and is a percentage"
    )
    if isinstance(node, SequenceNode):
        return replace(node, nodes=tuple(_percent(node, problems) for node in node.nodes))
    return _percent(node, problems)


def _percent(node: Node, problems: Problems) -> Node:
    if not isinstance(node, ScalarNode) or not isinstance(node.value, int | float):
        return node
    share = node.value
    if 0 <= share <= 1:
        return replace(node, text=f"{share * 100:.6f}".rstrip("0").rstrip("."), plain=True)
    message = f"poison_rate: expected a fraction from 0 to 1, got {node.text}"
    problems.add_error(node, "poison", message)
    return replace(node, text="0", plain=True)


@dataclass(slots=True)
class _LegacyTranslator:
    """Moves old words to their current position."""

    kinds: Mapping[str, Kind]
    settings: KnownSettings  # settings of all kinds
    problems: Problems
    pairs: dict[str, tuple[ScalarNode, Node]]
    wanted: LegacyAction = LegacyAction.RUN

    def translate_word(self, key: ScalarNode, node: Node) -> None:
        """Replace one old word by its current form, with a note."""
        word = key.text
        if word in _COMMANDS:
            self._note_old_name(key, _COMMANDS[word])
            if (
                self._read_truth(key, node)
                and word in SWITCHES
                and self.wanted is not LegacyAction.RESULTS
            ):
                self.wanted = SWITCHES[word]
        elif word == "clean_run":
            self._translate_clean(key, node)
        elif word in _RENAMED:
            self._translate_renamed(key, node)
        elif word == LABELS_RATE:
            labels = percent_of_rate(key, node, self.problems)
            for name in [name for name, kind in self.kinds.items() if kind.role is Role.LABELS][:1]:
                self._add_to_section("defaults", key.with_text(name), labels)
        elif word == "device_override":
            self._note_old_name(key, "is now resources: {device: …}")
            if isinstance(node, ScalarNode) and (node.value is None or node.text == "None"):
                node = replace(node, text="auto", plain=False)
            self._add_to_section("resources", key.with_text("device"), node)
        elif word == "min_vram":
            self._note_old_name(key, "is now resources: {vram: 16GiB}")
            if isinstance(node, ScalarNode) and isinstance(node.value, int):
                node = replace(node, text=f"{node.value}MiB", plain=False)
            self._add_to_section("resources", key.with_text("vram"), node)
        else:  # a setting that was a variable of the original
            now = self.settings.current_key(key, Problems())
            self._note_old_name(key, f"is now defaults: {{{now.text}: …}}")
            self._add_to_section("defaults", now, node)

    def _note_old_name(self, key: ScalarNode, old_name: str, hint: str = "") -> None:
        self.problems.add_warning(key, _OLD_NAME_CODE, f"{key.text} {old_name}", hint)

    def _translate_renamed(self, key: ScalarNode, node: Node) -> None:
        today = _RENAMED[key.text]
        if key.text == "test_list" and isinstance(node, SequenceNode):
            # the original's list of tests contains entries; autotest contains data IDs
            today = "test" if any(isinstance(node, MappingNode) for node in node.nodes) else today
        self._note_old_name(key, f"is now called {today}")
        self._add_pair(key.with_text(today), node)

    def _translate_clean(self, key: ScalarNode, node: Node) -> None:
        clean = self._read_truth(key, node)
        if clean is None or not isinstance(node, ScalarNode):
            return
        today = "nothing" if clean else "weights"
        said = f"is read as reuse: {today}, as in the original code"
        self._note_old_name(key, said, "write reuse: results, weights or nothing")
        self._add_pair(key.with_text("reuse"), replace(node, text=today, plain=False))

    def _add_pair(self, key: ScalarNode, node: Node) -> None:
        if key.text in self.pairs:
            report_duplicate_key(key, key.text, TWO_NAMES, self.problems)
        else:
            self.pairs[key.text] = (key, node)

    def _add_to_section(self, section: str, key: ScalarNode, node: Node) -> None:
        """Move a top-level word below `defaults` or `resources`, where it must not exist already."""
        inner = MappingNode(key.source, key.line, key.column, ((key, node),))
        name, there = self.pairs.get(section, (key.with_text(section), None))
        if there is None or is_null(there):
            self.pairs[section] = (key.with_text(section), inner)
        elif isinstance(there, MappingNode):  # the reader of the section reports another type
            given = {
                self.settings.current_key(word, Problems()).text: (word, value)
                for word, value in there.pairs
            }
            first, value = given.get(key.text, (None, None))
            if first is not None and not isinstance(value, MappingNode):
                how = f"twice, here and in line {first.line + 1}"
                report_duplicate_key(key, key.text, how, self.problems)
            else:
                self.pairs[section] = (name, merge_files(inner, there))

    def _read_truth(self, key: ScalarNode, node: Node) -> bool | None:
        """Return the value of a boolean variable of the original; None, with a problem, if it is not a boolean."""
        value = node.value if isinstance(node, ScalarNode) else None
        if isinstance(value, bool):
            return value
        self.problems.add_error(node, "wrong-type", f"{key.text}: expected true or false")
        return None


def merge_notes(problems: Iterable[Problem]) -> list[Problem]:
    """Return the problems with all notes about old names of one file merged at the first location."""
    by_file: dict[str, list[Problem]] = {}
    others: list[Problem] = []
    for problem in dict.fromkeys(problems):
        if problem.code == _OLD_NAME_CODE and problem.place is not None:
            by_file.setdefault(problem.place.file, []).append(problem)
        else:
            others.append(problem)
    return [*others, *(_merge_into_one(notes) for notes in by_file.values())]


def _merge_into_one(notes: list[Problem]) -> Problem:
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
