"""Paths of the submit host as the nodes of a backend see them."""

import sys
from pathlib import Path, PurePosixPath

from launcher.backends.settings import BackendSettings


def path_on_node(settings: BackendSettings, path: Path | str) -> str:
    """Return where nodes see a path: by the longest entry of `paths` that it lies in, else as it is here."""
    here = PurePosixPath(path)
    for prefix, there in sorted(settings.paths.items(), key=lambda entry: -len(entry[0])):
        if here.is_relative_to(prefix):
            return str(PurePosixPath(there) / here.relative_to(prefix))
    return str(here)


def interpreter_on_node(settings: BackendSettings) -> str:
    """Return the interpreter that a pilot runs in: that of the configuration, else ours."""
    return settings.python or path_on_node(settings, sys.executable)
