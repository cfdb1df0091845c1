"""Subsets and modifiers of the user: from the task file, and from the user's configuration."""

from collections.abc import Mapping

from launcher.errors import Problem, UsageError
from launcher.ids import Words
from launcher.kind_interface import Kind
from launcher.taskfile.values import is_null, listed
from launcher.taskfile.yaml_tree import Fields, Node, Scalar


def kinds_with(
    root: Fields, kinds: Mapping[str, Kind], words: Words, problems: list[Problem]
) -> tuple[Mapping[str, Kind], Words]:
    """Return the kinds with the user's subsets and modifiers, and these.

    Args:
        root: the file; its words win over those of the configuration.
        kinds: as they are installed.
        words: of the user's configuration.
        problems: where complaints are added.
    """
    by_section: dict[str, dict[str, tuple[str, ...]]] = {
        "subsets": dict(words.subsets),
        "modifiers": dict(words.modifiers),
    }
    for section, node in ((key.text, node) for key, node in root.pairs if key.text in by_section):
        if not isinstance(node, Fields):
            if not is_null(node):
                message = f"{section}: expected words such as {{mine: MyFolder}}"
                problems.append(Problem(code="wrong-type", message=message, place=node.place))
            continue
        for key, value in node.pairs:
            folders = _folders(section, key, value, kinds, problems)
            if folders:
                by_section[section][key.text] = folders
    whole = Words(subsets=by_section["subsets"], modifiers=by_section["modifiers"])
    if not whole:
        return kinds, whole
    try:
        return {name: kind.with_words(whole) for name, kind in kinds.items()}, whole
    except UsageError as error:  # of the configuration: what the file says was tried word by word
        message = f"the configuration's words cannot be used: {error}"
        problems.append(Problem(code="words", message=message))
        return kinds, whole


def _folders(
    section: str, key: Scalar, node: Node, kinds: Mapping[str, Kind], problems: list[Problem]
) -> tuple[str, ...]:
    nodes = listed(node)
    texts = tuple(
        node.text for node in nodes if isinstance(node, Scalar) and node.value is not None
    )
    if len(texts) < len(nodes) or not texts:
        message = f"{section}: expected a folder, a pattern of folders, or a list of them"
        problems.append(Problem(code="wrong-type", message=message, place=node.place))
        return ()
    try:
        for kind in kinds.values():
            kind.with_words(Words(**{section: {key.text: texts}}))
    except UsageError as error:
        problems.append(Problem(code="words", message=str(error), place=key.place))
        return ()
    return texts
