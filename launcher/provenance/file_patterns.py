"""Patterns of file names in the `inputs` of programs, such as `models/grid-*.npz`.

`*`, `?` and `[…]` match within one name of a path. As in a shell, they do not match a dot at its beginning, and a
pattern that ends with a slash matches folders only.
"""

import os
from collections.abc import Collection, Iterable
from fnmatch import fnmatchcase
from glob import glob

from launcher.provenance.folder_contents import FOLDER_END
from launcher.system.lazy_regex import compile_lazily

_WILDCARD = compile_lazily(r"[*?\[]")
RECURSIVE = "**"  # has no meaning here
OUTPUTS_OF = "outputs:"  # in a task file, before the name of an entry: its outputs


def is_pattern(name: str) -> bool:
    """Return whether a file name of an entry contains a wildcard."""
    return _WILDCARD.search(name) is not None


def is_pattern_or_outputs(name: str) -> bool:
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
    """Return the files that match an absolute pattern, without folders; if it ends with a slash, the folders."""
    wants_folders = pattern.endswith(FOLDER_END)
    return [path for path in glob(pattern) if os.path.isdir(path) == wants_folders]  # noqa: PTH112, PTH207  # texts


def matching_paths(pattern: str, made_paths: Collection[str], existing: Iterable[str]) -> list[str]:
    """Return the paths that match a pattern in the order of their names: files that jobs make, and existing ones.

    Args:
        pattern: Absolute pattern.
        made_paths: Paths that jobs make; folders end with a slash, and contain the rest of a pattern without wildcards.
        existing: Existing paths that match.
    """
    found = {*existing, *(path for path in made_paths if matches(path, pattern))}
    for folder in made_paths:
        rest = _pattern_below(folder, pattern)
        if rest and not is_pattern(rest):
            found.add(folder + rest)
    return sorted(found)


def folder_around(pattern: str, paths: Iterable[str]) -> str:
    """Return a folder that a job makes and in which a pattern has wildcards; '' if there is none."""
    return next((folder for folder in paths if is_pattern(_pattern_below(folder, pattern))), "")


def _pattern_below(folder: str, pattern: str) -> str:
    """Return the part of a pattern below a folder that matches its beginning; '' if the path is no such folder."""
    if not folder.endswith(FOLDER_END):
        return ""
    depth = folder.count("/")
    parts = pattern.split("/")
    return "/".join(parts[depth:]) if matches(folder, "/".join([*parts[:depth], ""])) else ""


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
    end = FOLDER_END if path.endswith(FOLDER_END) else ""
    return os.path.relpath(path, folder) + end if inside else path
