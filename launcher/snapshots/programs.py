"""Which programs run only the code of a snapshot, and the import paths that they need for it.

Programs that may start others with code of the working folder are refused when they are queued.
"""

import importlib.machinery
import os
import re
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from launcher.snapshots.copies import Manifest
from launcher.snapshots.source_files import snapshot_error
from launcher.system.executables import (
    is_python,
    is_shell,
    python_flags,
    script_of,
    without_wrappers,
)
from launcher.system.project_imports import import_hooks, linked_packages

SAFE_PATH = "PYTHONSAFEPATH"
PYTHON_PATH = "PYTHONPATH"
_FIRST_SAFE_PATH = (3, 11)  # version of Python that knows `SAFE_PATH`
_VERSION_TIMEOUT_S = 10.0  # for an interpreter on a slow disk
_OWN_VARIABLES = (f"{PYTHON_PATH}=", f"{SAFE_PATH}=")
_VERSION = re.compile(r"(?:python|pypy)(\d)\.(\d+)")
_HEAD_BYTES = 512  # a script that pip has written names its interpreter in them
_SUFFIXES = tuple(importlib.machinery.all_suffixes())


class StartedProgram(NamedTuple):
    """A command line, and where it starts."""

    argv: Sequence[str]
    folder: str
    environment: Mapping[str, str]


class PythonStart(NamedTuple):
    """How a command line starts Python."""

    interpreter: str  # its path; '' if the script names it
    script: str = ""  # as typed; '' for a module and for text after -c
    is_module: bool = False  # a module, or text after -c: modules are looked for in the folder
    is_safe: bool = False  # the folder of the script is not an import path


def python_start(program: StartedProgram, manifest: Manifest, top: str) -> PythonStart:
    """Return how a program starts Python.

    Args:
        program: The program.
        manifest: The copied files.
        top: Folder of the working tree.

    Raises:
        UsageError: It may run code that is not copied; the message has the reason.
    """
    words = without_wrappers(program.argv)
    wrappers = program.argv[: len(program.argv) - len(words)]
    for word in wrappers:
        if word.startswith(_OWN_VARIABLES):
            variable = word.partition("=")[0]
            raise snapshot_error(
                top, f"{variable} is set in the command line. Set it with --env {variable}=…"
            )
    if not words or "{" in words[0]:
        raise snapshot_error(top, "the program is known only when the job starts")
    start, path = describe_start(words, program.environment), _program_path(words[0], program)
    if path is None:
        raise snapshot_error(top, f"the program {words[0]!r} does not exist")
    if start.interpreter:
        if {*"EI"} & {*python_flags(words)}:
            raise snapshot_error(top, "with -E and -I Python ignores PYTHONPATH. Remove the option")
        if start.script:
            _check_script(program, start.script, manifest, top)
        elif start.is_module:
            _check_module_folder(program, path, manifest, top)
        else:
            raise snapshot_error(top, f"{words[0]!r} has no script. Name a script or a module")
        return start._replace(interpreter=_checked_interpreter(path, top))
    interpreter = _script_interpreter(path) or ""
    name = relative_name(path, top)
    if name is None or not is_python(interpreter):
        raise snapshot_error(top, _refusal(words[0], path, name, interpreter))
    if "/" not in interpreter:
        search_path = program.environment.get("PATH", os.defpath)
        interpreter = shutil.which(interpreter, path=search_path) or interpreter
    return start._replace(interpreter=_checked_interpreter(interpreter, top))


def relative_name(path: str, top: str) -> str | None:
    """Return the name of a path relative to the top of a tree; None if it is outside."""
    for place, above in ((path, top), (os.path.realpath(path), os.path.realpath(top))):
        if place == above:
            return ""
        if place.startswith(f"{above}/"):
            return place[len(above) + 1 :]
    return None


def import_paths(
    interpreter: str, python_path: Iterable[str], manifest: Manifest, top: str
) -> list[str]:
    """Return the folders of a tree in which an interpreter looks for modules, relative to the top.

    Args:
        interpreter: Its path.
        python_path: Absolute folders, such as those of PYTHONPATH.
        manifest: The copied files.
        top: Folder of the working tree.

    Raises:
        UsageError: Modules of the tree are found in another way, or are not copied.
    """
    if hook := next(import_hooks(interpreter, top), ""):
        raise snapshot_error(
            top,
            f"{hook} finds modules by an import hook that is unknown to launcher. "
            "Install the project with pip install -e and setuptools, or set PYTHONPATH",
        )
    folders, packages = linked_packages(interpreter)
    paths = [*python_path, *folders]
    for package, place in packages:
        if relative_name(place, top) is None:
            continue
        above = _folder_of_package(package, place)
        if above is None:
            raise snapshot_error(
                top, f"the package {package} is in {place}, a folder of another name"
            )
        paths.append(above)
    known, found = {"", *manifest.folders()}, dict[str, None]()
    for path in paths:
        name = relative_name(os.path.normpath(path), top)
        if name is None or not os.path.isdir(path):  # noqa: PTH112  # a text
            continue
        if name not in known:
            raise snapshot_error(top, f"git ignores the import path {path}. Track its files")
        if os.pathsep in name:
            raise snapshot_error(top, f"the import path {path} contains {os.pathsep!r}")
        found[name] = None
    return [*found]


def code_folders(
    start: PythonStart, argv: Sequence[str], folder: str, manifest: Manifest, top: str
) -> list[str]:
    """Return the folders of a program's own code, relative to the top: import paths before all others.

    Args:
        start: How it starts Python.
        argv: Its command line.
        folder: Folder in which it starts.
        manifest: The copied files.
        top: Folder of the working tree.
    """
    scripts = [start.script] if start.script and not start.is_safe else []
    if start.is_module:  # python -m torch.distributed.run train.py
        scripts += [word for word in argv if word.endswith(".py")]
    found = dict[str, None]()
    for script in scripts:
        name = relative_name(os.path.normpath(os.path.join(folder, script)), top)  # noqa: PTH118  # a text
        if name is not None and name in manifest:
            name = relative_name(os.path.realpath(f"{top}/{name}"), top) or name
            found[name.rpartition("/")[0]] = None
    if start.is_module and (name := relative_name(folder, top)) is not None:
        found[name] = None
    return [*found]


def refuse_hidden_modules(top: str, added: Iterable[str], known: Iterable[str]) -> None:
    """Refuse import paths before those of Python that hide modules of the standard library.

    Args:
        top: Folder of the working tree.
        added: New import paths, relative to the top.
        known: Folders that come before the standard library anyway.

    Raises:
        UsageError: A module is hidden that is not hidden now.
    """
    hidden = {name for folder in known for name in _standard_names(folder)}
    for folder in added:
        for name, file in _standard_names(f"{top}/{folder}" if folder else top).items():
            if name not in hidden:
                where = f"{folder}/{file}" if folder else file
                raise snapshot_error(
                    top, f"{where} would hide {name} of the standard library. Rename it"
                )


def _standard_names(folder: str) -> dict[str, str]:
    """Return the modules in a folder that have the name of one of the standard library, and their files."""
    try:
        entries = sorted(os.listdir(folder or "."))  # noqa: PTH208  # names only
    except OSError:
        return {}
    found = dict[str, str]()
    for entry in entries:
        suffix = next((each for each in _SUFFIXES if entry.endswith(each)), None)
        if suffix is None and not os.path.isfile(f"{folder}/{entry}/__init__.py"):  # noqa: PTH113  # a text
            continue
        name = entry.removesuffix(suffix or "").partition(".")[0]
        if name in sys.stdlib_module_names and name not in sys.builtin_module_names:
            found.setdefault(name, entry)
    return found


def describe_start(argv: Sequence[str], environment: Mapping[str, str]) -> PythonStart:
    """Return how a command line starts Python, without a check of its files."""
    words = without_wrappers(argv)
    if not words:
        return PythonStart("")
    if not is_python(words[0]):
        return PythonStart("", words[0])
    flags, script = python_flags(words), script_of(words)
    is_module = not script and flags.endswith(("c", "m"))
    is_safe = "P" in flags or bool(environment.get(SAFE_PATH))
    return PythonStart(words[0], script, is_module, is_safe and not is_module)


def _check_script(program: StartedProgram, script: str, manifest: Manifest, top: str) -> None:
    """Refuse a script that is not copied.

    Raises:
        UsageError: It is not.
    """
    if "{" in script or ("{" in program.folder and not os.path.isabs(script)):  # noqa: PTH117  # a text
        raise snapshot_error(top, "the script is known only when the job starts")
    place = os.path.normpath(os.path.join(program.folder, script))  # noqa: PTH118  # a text
    name = relative_name(place, top)
    if name is None:
        raise snapshot_error(top, f"the script {script} is outside of the repository")
    if name not in manifest:
        is_there = os.path.lexists(place)
        why = "is ignored by git, or no file of code" if is_there else "does not exist"
        raise snapshot_error(top, f"the script {script} {why}")


def _check_module_folder(program: StartedProgram, path: str, manifest: Manifest, top: str) -> None:
    """Refuse a program whose modules Python finds in its folder, and not in the copy.

    Raises:
        UsageError: They are not copied, or Python is too old.
    """
    if python_version(path) < _FIRST_SAFE_PATH:
        raise snapshot_error(
            top, f"{path} is older than Python 3.11, and with -m it finds modules in its folder"
        )
    folder = relative_name(program.folder, top)
    if folder is None or folder not in {"", *manifest.folders()}:
        raise snapshot_error(
            top, f"with -m modules are found in {program.folder}, which is not copied"
        )


@lru_cache(maxsize=64)
def python_version(interpreter: str) -> tuple[int, int]:
    """Return the version of an interpreter; (0, 0) if it is unknown."""
    real = os.path.realpath(interpreter)
    if real == os.path.realpath(sys.executable):
        return sys.version_info[:2]
    if found := _VERSION.fullmatch(real.rpartition("/")[2]):
        return int(found[1]), int(found[2])
    import subprocess  # few interpreters have no version in their name

    text = "import sys; print(*sys.version_info[:2])"
    try:
        process = subprocess.run(
            [interpreter, "-I", "-S", "-c", text],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_VERSION_TIMEOUT_S,
            check=True,
        )
        major, minor = process.stdout.split()
        return int(major), int(minor)
    except (OSError, ValueError, subprocess.SubprocessError):
        return 0, 0


def _program_path(word: str, program: StartedProgram) -> str | None:
    if "/" in word:
        path = os.path.normpath(os.path.join(program.folder, os.path.expanduser(word)))  # noqa: PTH111, PTH118  # texts
        return path if os.path.isfile(path) else None  # noqa: PTH113  # as above
    return shutil.which(word, path=program.environment.get("PATH", os.defpath))


def _checked_interpreter(path: str, top: str) -> str:
    """Return an interpreter, unless it is a script that chooses another one.

    Raises:
        UsageError: It is.
    """
    if _head(path).startswith(b"#!"):
        raise snapshot_error(
            top,
            f"{path} is a script that chooses an interpreter. Write the path of the interpreter",
        )
    return path


def _refusal(word: str, path: str, name: str | None, interpreter: str) -> str:
    """Return why a program that is not Python is refused."""
    if is_shell(word) or is_shell(interpreter):
        return (
            f"{word!r} is a shell script, or a shell, whose programs would read the working folder. "
            "Queue the programs themselves"
        )
    if is_python(interpreter) and name is None:
        return (
            f"{word!r} is a console script outside of the repository ({path}). "
            "Write python -m and its module"
        )
    return f"{word!r} is not Python, and it would read the working folder"


def _script_interpreter(path: str) -> str | None:
    """Return the interpreter that the first line of a script names; None if it is not a script."""
    head = _head(path)
    if not head.startswith(b"#!"):
        return None
    first, _, rest = head[2:].partition(b"\n")
    words = os.fsdecode(first).split()
    if rest.startswith(b"'''exec' "):  # pip writes this if the path is too long
        words = os.fsdecode(rest[len(b"'''exec' ") :].partition(b"\n")[0]).split()
    if not words:
        return None
    if words[0].rpartition("/")[2] == "env":
        words = [word for word in words[1:] if not word.startswith("-") and "=" not in word]
    return words[0].strip('"') if words else None


def _head(path: str) -> bytes:
    try:
        with Path(path).open("rb") as file:
            return file.read(_HEAD_BYTES)
    except OSError:
        return b""


def _folder_of_package(package: str, place: str) -> str | None:
    """Return the import path by which a package is found under its own name; None if there is none."""
    path = package.replace(".", "/")
    for end in (f"/{path}", f"/{path}.py", f"/{path}/__init__.py"):
        if place.endswith(end):
            return place.removesuffix(end)
    return None


def folders_of_variable(environment: Mapping[str, str], folder: str) -> Iterator[str]:
    """Yield the absolute folders of PYTHONPATH."""
    for path in environment.get(PYTHON_PATH, "").split(os.pathsep):
        if path:
            yield os.path.normpath(os.path.join(folder, path))  # noqa: PTH118  # a text
