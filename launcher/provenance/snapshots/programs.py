"""Programs that are queued with a snapshot: how they start Python, and the few that cannot follow a snapshot."""

import os
import shutil
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from launcher.provenance.git_files import find_repository
from launcher.provenance.project_imports import is_project_path
from launcher.provenance.snapshots.copies import Manifest
from launcher.provenance.snapshots.source_files import snapshot_error
from launcher.provenance.snapshots.startup.launcher_snapshot.notes import PYTHON_PATH
from launcher.system.executables import (
    is_python,
    module_of,
    python_flags,
    script_of,
    without_wrappers,
)

_HEAD_BYTES = 512  # a script that pip has written names its interpreter in them
_IGNORING = "EIS"  # options of Python that ignore PYTHONPATH, or `sitecustomize`
_CLEARING = {"-", "-i", "--ignore-environment"}  # options of `env`
_SCRIPT_SUFFIXES = (".py", ".pyw")


class StartedProgram(NamedTuple):
    """A command line, and where it starts."""

    argv: Sequence[str]
    folder: str
    environment: Mapping[str, str]


def relative_name(path: str, top: str) -> str | None:
    """Return the name of a path relative to the top of a tree; None if it is outside."""
    for place, above in ((path, top), (os.path.realpath(path), os.path.realpath(top))):
        if place == above:
            return ""
        if place.startswith(f"{above}/"):
            return place[len(above) + 1 :]
    return None


def find_top(folder: str, programs: Sequence[StartedProgram] = ()) -> str:
    """Return the folder of the working tree around a folder.

    Args:
        folder: The folder in which a command queues programs.
        programs: The programs.

    Raises:
        UsageError: There is none, or a script belongs to another one.
    """
    repository = find_repository(folder)
    for program in programs:
        path = _script_path(program)
        own = find_repository(os.path.dirname(os.path.realpath(path))) if path else None  # noqa: PTH120  # a text
        is_elsewhere = own is not None and (repository is None or own.top != repository.top)
        if own is not None and is_elsewhere and is_project_path(path):
            raise snapshot_error(
                folder,
                f"the script {path} is in the repository {own.top}. "
                f"Change to its folder: cd {own.top}",
            )
    if repository is not None:
        return repository.top
    raise snapshot_error(folder, f"it is not in a git repository. {_advice(folder, programs)}")


def _advice(folder: str, programs: Sequence[StartedProgram]) -> str:
    """Return what to do about a folder without a repository; a repository is made only around the programs' code."""
    for program in programs:
        path = _script_path(program)
        if path and relative_name(path, folder) is None:
            return f"Change to the folder of the script, and make it a repository: cd {os.path.dirname(path)}"  # noqa: PTH120  # a text
        if path:
            return "To make it one: git init"
        module = module_of(program.argv).partition(".")[0]
        if module and any(
            os.path.exists(os.path.join(program.folder, f"{module}{end}"))  # noqa: PTH110, PTH118  # texts
            for end in ("", *_SCRIPT_SUFFIXES)
        ):
            return "To make it one: git init"
    return "Change to the folder of the project" if programs else "To make it one: git init"


def _script_path(program: StartedProgram) -> str:
    """Return the absolute path of an existing script that a program runs; '' if there is none."""
    words = without_wrappers(program.argv)
    script = script_of(words) or (words[0] if words and "/" in words[0] else "")
    if not script or "{" in script:
        return ""
    path = os.path.normpath(os.path.join(program.folder, os.path.expanduser(script)))  # noqa: PTH111, PTH118  # texts
    return path if os.path.isfile(path) and not is_python(path) else ""  # noqa: PTH113  # as above


def check_program(program: StartedProgram, files: Manifest, top: str) -> None:
    """Refuse a program that cannot follow a snapshot, or whose script is not in it.

    Args:
        program: The program.
        files: The copied files.
        top: Folder of the working tree.

    Raises:
        UsageError: The message has the reason.
    """
    words = without_wrappers(program.argv)
    for word in program.argv[: len(program.argv) - len(words)]:
        if word.startswith(f"{PYTHON_PATH}="):
            raise snapshot_error(
                top, f"{PYTHON_PATH} is set in the command line. Set it with --env {PYTHON_PATH}=…"
            )
    if words and words[0] in _CLEARING:
        raise snapshot_error(top, f"env {words[0]} removes the variables of the job. Remove it")
    if not words or not is_python(words[0]):
        return
    if ignoring := {*_IGNORING} & {*python_flags(words)}:
        option = f"-{min(ignoring)}"
        raise snapshot_error(
            top, f"with {option} Python does not read the snapshot. Remove the option"
        )
    if script := script_of(words):
        _check_script(program, script, files, top)


def _check_script(program: StartedProgram, script: str, files: Manifest, top: str) -> None:
    """Refuse a script that is not copied; one of an installed package is not a part of the project.

    Raises:
        UsageError: The snapshot does not contain the script.
    """
    if "{" in script or ("{" in program.folder and not os.path.isabs(script)):  # noqa: PTH117  # a text
        return  # known only when the job starts
    place = os.path.normpath(os.path.join(program.folder, script))  # noqa: PTH118  # a text
    name = relative_name(place, top)
    is_there = os.path.lexists(place)
    if is_there and (not is_project_path(place) or _is_console_script(place)):
        return
    if name is None:
        raise snapshot_error(top, f"the script {script} is outside of the repository")
    if name not in files:
        why = "is ignored by git, or too large" if is_there else "does not exist"
        raise snapshot_error(top, f"the script {script} {why}")


def _is_console_script(path: str) -> bool:
    """Return whether a file is in the folder of an interpreter, as pip installs it."""
    folder = os.path.dirname(path)  # noqa: PTH120  # a text
    return os.path.exists(f"{folder}/python") or os.path.exists(f"{folder}/python3")  # noqa: PTH110  # as above


def runs_python(program: StartedProgram) -> bool:
    """Return whether a command line starts Python, or a script for it, without a shell."""
    words = without_wrappers(program.argv)
    if not words:
        return False
    if is_python(words[0]):
        return True
    if "/" in words[0]:
        path = os.path.join(program.folder, words[0])  # noqa: PTH118  # a text
    else:
        path = shutil.which(words[0], path=program.environment.get("PATH", os.defpath)) or ""
    head = _head(path)
    # pip writes a second line if the path of the interpreter is too long
    return head.startswith(b"#!") and b"python" in b"".join(head.split(b"\n")[:2])


def unheld_script(program: StartedProgram, files: Manifest, top: str) -> str:
    """Return the name of a script of the copy that another program than Python reads as it is; '' if there is none."""
    words = without_wrappers(program.argv)
    path = _script_path(program)
    name = relative_name(path, top) if path else None
    if not name or name not in files or is_python(words[0]) or runs_python(program):
        return ""
    return name


def _head(path: str) -> bytes:
    try:
        with open(path, "rb") as file:  # noqa: PTH123  # a text
            return file.read(_HEAD_BYTES)
    except (OSError, ValueError):
        return b""
