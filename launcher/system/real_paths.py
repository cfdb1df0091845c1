"""Real locations of paths: a file that is named directly and through a linked folder is one file."""

import os
from collections.abc import Iterable


class RealPaths:
    """Resolves the links in the folders of paths; each folder is looked up once."""

    def __init__(self) -> None:
        """Start without known folders."""
        self._folders: dict[str, str] = {}

    def locate(self, path: str) -> str:
        """Return a normalized path with the links in its folder resolved; its last name may be a link itself.

        A path that is not absolute is returned unchanged. A slash at the end stays.
        """
        folder = path.rstrip("/").rpartition("/")[0]
        if not folder or not path.startswith("/"):
            return path
        real = self._folders.get(folder)
        if real is None:
            real = self._folders[folder] = _real_path(folder)
        return f"{'' if real == '/' else real}{path[len(folder) :]}"

    def targets(self, path: str) -> tuple[str, ...]:
        """Return the location of a path, and that of the file to which it links."""
        path = self.locate(path)
        target = _real_path(path) if os.path.islink(path) else path  # noqa: PTH114  # faster
        return (path,) if target == path else (path, target)

    def respell(self, paths: Iterable[str], pattern: str) -> set[str]:
        """Return paths in which the folder of a pattern is spelled as in the pattern, if that is their folder."""
        names = pattern.split("/")
        at = next((at for at, name in enumerate(names) if set("*?[") & {*name}), len(names) - 1)
        folder = "/".join(names[:at])
        real = self.locate(f"{folder}/x")[:-2]
        if real == folder:
            return {path if path.startswith(f"{folder}/") else self.locate(path) for path in paths}
        located = map(self.locate, paths)
        inside = f"{real}/"
        return {folder + path[len(real) :] if path.startswith(inside) else path for path in located}


def _real_path(path: str) -> str:
    try:
        return os.path.realpath(path)
    except ValueError:  # no file can have such a name
        return path
