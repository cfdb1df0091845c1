"""Lets a Python process of a job read the code of its project from the copy, under the original names.

The text of modules, of scripts and of files that Python opens to read comes from the copy. A file is read as it is now
if a job of a snapshot of this project has written it since the copy was made (`HeldFiles.is_current`). What a process
loads from elsewhere, and Python children that do not get here, are noted in the attempt's folder at once.
"""

from __future__ import annotations

import _io
import builtins
import os
import posix
import sys

from .functions import IoFunctions, OsFunctions
from .held_files import HeldFiles, real_path
from .modules import Importing
from .notes import CHILD, OFF, VARIABLE, Notes, describe_command, read_text
from .processes import ProcessFunctions

TYPE_CHECKING = False  # the module typing takes several milliseconds to load
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

_OWN = "launcher"  # the package and the console script
_ATTEMPT_VARIABLE = "LAUNCHER_ATTEMPT"  # as in `launcher.system.process_trees`


def start(folder: str, environ: Mapping[str, str]) -> None:
    """Follow the snapshot that the environment of this process names.

    Args:
        folder: This folder, as PYTHONPATH has it.
        environ: The environment.
    """
    attempt, snapshot = environ.get(_ATTEMPT_VARIABLE, ""), environ.get(VARIABLE, "")
    if snapshot == OFF or not snapshot:
        if attempt and snapshot:
            Notes(attempt).add(
                CHILD, describe_command(sys.argv or [sys.executable]) + f", with {VARIABLE}={OFF}"
            )
        return
    files = HeldFiles(snapshot, Notes(attempt))
    if not _is_own_command(read_text("/proc/self/cmdline").split("\0"), files):
        follow(files, folder)


def _is_own_command(words: Sequence[str], files: HeldFiles) -> bool:
    """Return whether a process is a command of launcher, which sees all files as they are now."""
    for number, word in enumerate(words[1:], 1):
        if word == "-m" or not word.startswith("-"):
            if word == "-m":
                module = "".join(words[number + 1 : number + 2])
                name = module.replace(".", "/")
                own = f"/{name}.py", f"/{name}/__main__.py"  # the project has such a package
                is_held = any(f"/{each}".endswith(own) for each in files.names)
                return module.partition(".")[0] == _OWN and not is_held
            folder, _, name = word.rpartition("/")
            return name == _OWN and real_path(folder) == real_path(f"{sys.prefix}/bin")
        if word[:2] == "-c":
            return False
    return False


def follow(files: HeldFiles, folder: str) -> None:
    """Let this process follow a snapshot, which must be done once.

    Args:
        files: The files of its copy.
        folder: This folder, as PYTHONPATH has it.
    """
    Importing(files).install()
    io_functions, os_functions = IoFunctions(files), OsFunctions(files)
    processes = ProcessFunctions(files, folder)
    replaced: dict[int, Any] = {}
    for module, functions, names in (
        (
            posix,
            os_functions,
            (
                "stat",
                "lstat",
                "open",
                "rename",
                "replace",
                "remove",
                "unlink",
                "truncate",
                "link",
                "symlink",
            ),
        ),
        (
            posix,
            processes,
            ("putenv", "unsetenv", "system", "execv", "execve", "posix_spawn", "posix_spawnp"),
        ),
        (_io, io_functions, ("open", "open_code")),
    ):
        for name in names:
            replaced[id(getattr(module, name))] = getattr(functions, name)
    _io.open, _io.open_code = io_functions.open, io_functions.open_code
    builtins.open = io_functions.open
    try:
        import _posixsubprocess
    except ImportError:  # without `subprocess` the program starts no child
        pass
    else:
        processes.real_fork_exec = _posixsubprocess.fork_exec
        replaced[id(_posixsubprocess.fork_exec)] = processes.fork_exec
        _posixsubprocess.fork_exec = processes.fork_exec  # type: ignore[assignment]
    for name in (
        "supports_dir_fd",
        "supports_fd",
        "supports_follow_symlinks",
        "supports_effective_ids",
    ):
        supporting = getattr(os, name)
        supporting.update([replaced[id(each)] for each in supporting if id(each) in replaced])
    _replace_everywhere(replaced)


def _replace_everywhere(replacements: Mapping[int, Any]) -> None:
    """Replace functions in the modules that were loaded before, under whatever names they have them."""
    spaces = [
        module.__dict__
        for name, module in list(sys.modules.items())
        if name != "posix" and not name.startswith(__name__) and hasattr(module, "__dict__")
    ]
    for space in spaces:
        for name, value in list(space.items()):
            if id(value) in replacements:
                space[name] = replacements[id(value)]
    accessor = getattr(sys.modules.get("pathlib"), "_NormalAccessor", None)  # until Python 3.10
    for holder in (accessor, os.environ, os.environb):  # the latter two until Python 3.8
        for name, value in list(getattr(holder, "__dict__", {}).items()):
            plain = getattr(value, "__func__", value)
            if id(plain) in replacements:
                setattr(holder, name, replacements[id(plain)])
