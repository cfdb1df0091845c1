"""The paths that programs write, found by a path, by a folder around it, or by a folder that contains them."""

from collections.abc import Iterator
from typing import Generic, TypeVar

from launcher.queue.jobs.context import folders_above

Owner = TypeVar("Owner")


class OutputIndex(Generic[Owner]):
    """The writers of paths. Paths are normalized and have no slash at the end."""

    def __init__(self) -> None:
        """Start without paths."""
        self._owners: dict[str, list[Owner]] = {}
        self._folders: dict[str, list[Owner]] = {}  # owners that write everything in a folder
        self._inside: dict[str, list[str]] | None = None  # built for the first folder

    def add(self, path: str, owner: Owner, *, is_folder: bool) -> None:
        """Record the writer of a path."""
        self._owners.setdefault(path, []).append(owner)
        if is_folder:
            self._folders.setdefault(path, []).append(owner)
        if self._inside is not None:
            self._add_inside(self._inside, path)

    def find(self, path: str, *, is_folder: bool) -> list[Owner]:
        """Return the writers of a path, of a folder around it, and, if it is a folder, of the paths in it."""
        found = [*self._owners.get(path, ())]
        if self._folders:
            found += [
                each for above in folders_above(path) for each in self._folders.get(above, ())
            ]
        return [*found, *self._owners_in(path)] if is_folder else found

    def _owners_in(self, folder: str) -> Iterator[Owner]:
        if self._inside is None:
            self._inside = {}
            for path in self._owners:
                self._add_inside(self._inside, path)
        for path in dict.fromkeys(self._inside.get(folder, ())):
            yield from self._owners[path]

    @staticmethod
    def _add_inside(paths_by_folder: dict[str, list[str]], path: str) -> None:
        for above in folders_above(path):
            paths_by_folder.setdefault(above, []).append(path)
