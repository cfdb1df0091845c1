"""The files of Python modules in folders; nothing is imported."""

import os
from collections.abc import Iterator, Sequence
from functools import cache


class ModuleFiles:
    """Finds the files of modules; each folder is listed once.

    Args:
        suffixes: suffixes of such files, the preferred one first.
    """

    def __init__(self, suffixes: Sequence[str] = (".py",)) -> None:
        self._suffixes = suffixes
        self.names_in = cache(_names_in)

    def find(self, folder: str, parts: Sequence[str]) -> Iterator[str | None]:
        """Yield the files of the packages of a module and of the module; None for a package without a file.

        There are fewer if one of them does not exist.

        Args:
            folder: that contains the outermost package.
            parts: parts of the module's dotted name.
        """
        for part in parts:
            below, is_there = f"{folder}/{part}", part in self.names_in(folder)
            package = self.find_in_folder(below, "__init__") if is_there else None
            module = None if package else self.find_in_folder(folder, part)
            if package or module or is_there:
                yield package or module
            if module or not is_there:
                return
            folder = below

    def find_in_folder(self, folder: str, name: str) -> str | None:
        """Return the file of a folder with a module of this name."""
        names = self.names_in(folder)
        suffix = next((each for each in self._suffixes if f"{name}{each}" in names), None)
        return None if suffix is None else f"{folder}/{name}{suffix}"


def _names_in(folder: str) -> frozenset[str]:
    try:
        return frozenset(os.listdir(folder))  # noqa: PTH208  # a path of each would cost more than all else
    except OSError:
        return frozenset()
