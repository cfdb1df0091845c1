"""Patterns of file names in the `inputs` of programs, such as `models/grid-*.npz`.

`*`, `?` and `[…]` match within one name of a path. As in a shell, they do not match a dot at its beginning.
"""

import os
import re
from collections.abc import Iterable
from fnmatch import fnmatchcase
from glob import glob

_WILDCARD = re.compile(r"[*?\[]")
RECURSIVE = "**"  # has no meaning here
OUTPUTS_OF = "outputs:"  # in a task file, before the name of an entry: its outputs


def is_pattern(name: str) -> bool:
    """Return whether a file name of an entry contains a wildcard."""
    return _WILDCARD.search(name) is not None


def stands_for_files(name: str) -> bool:
    """Return whether an input of a task file is a pattern, or means the outputs of an entry."""
    return name.startswith(OUTPUTS_OF) or is_pattern(name)


def matches(path: str, pattern: str) -> bool:
    """Return whether an absolute path matches an absolute pattern."""
    names, wanted = path.split("/"), pattern.split("/")
    return len(names) == len(wanted) and all(map(_name_matches, names, wanted))


def _name_matches(name: str, pattern: str) -> bool:
    if name.startswith(".") and not pattern.startswith("."):
        return False
    return fnmatchcase(name, pattern)


def existing_files(pattern: str) -> list[str]:
    """Return the files that match an absolute pattern, without folders."""
    return [path for path in glob(pattern) if not os.path.isdir(path)]  # noqa: PTH112, PTH207  # texts


def matching_paths(pattern: str, made: Iterable[str], existing: Iterable[str]) -> list[str]:
    """Return the paths that match a pattern in the order of their names: files that jobs make, and existing ones."""
    return sorted({*existing, *(path for path in made if matches(path, pattern))})


def name_from(path: str, folder: str, project: str) -> str:
    """Return the name of a file for a program: relative if both are in the project, otherwise absolute.

    Args:
        path: Absolute path of the file.
        folder: Folder in which the program starts; it may begin with a placeholder.
        project: Folder of the project.
    """
    inside = folder.startswith("/") and all(
        os.path.commonpath([project, each]) == project for each in (path, folder)
    )
    return os.path.relpath(path, folder) if inside else path
