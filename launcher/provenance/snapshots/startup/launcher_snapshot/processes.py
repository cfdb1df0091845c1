"""Functions that start programs: they keep the snapshot in the environment, and note what they cannot keep."""

from __future__ import annotations

import os
import posix
from _io import open as _open

from .functions import Functions
from .notes import CHILD, OFF, PROGRAM, PYTHON_PATH, VARIABLE, describe_command

TYPE_CHECKING = False  # the module typing takes several milliseconds to load
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from .held_files import HeldFiles

_SHELLS = frozenset({"sh", "bash", "dash", "zsh", "ksh", "env"})
_OWN = "-m launcher."
# programs that libraries start to learn something, and that write no file of a project
_QUERIES = frozenset(
    {
        *("ldconfig", "ld", "gcc", "cc", "objdump", "uname", "lscpu", "lsb_release", "hostname"),
        *("file", "which", "git", "nvidia-smi", "nvcc", "ptxas", "rocm-smi", "rocminfo"),
    }
)
_VERSION = "0123456789.tdm"  # characters behind the name of an interpreter


class ProcessFunctions(Functions):
    """Functions that start programs: they keep the snapshot in the environment, and note what they cannot keep."""

    module = "os"

    def __init__(self, files: HeldFiles, folder: str) -> None:
        super().__init__(files)
        self._folder = folder

    def putenv(self, name: Any, value: Any) -> None:
        """Set a variable for all children; os.environ has it as the program wrote it."""
        if os.fsdecode(name) == PYTHON_PATH:
            value = self._with_folder(os.fsdecode(value))
        posix.putenv(name, value)

    def unsetenv(self, name: Any) -> None:
        if os.fsdecode(name) == PYTHON_PATH:
            posix.putenv(name, self._folder)
        else:
            posix.unsetenv(name)

    def system(self, command: Any) -> int:
        self._check("sh", ["sh", "-c", command], None)
        return posix.system(command)

    def execv(self, path: Any, argv: Any, /) -> None:
        self._check(path, argv, None)
        posix.execv(path, argv)

    def execve(self, path: Any, argv: Any, env: Mapping[Any, Any]) -> None:
        posix.execve(path, argv, self._run_checked(path, argv, env))

    def posix_spawn(self, path: Any, argv: Any, env: Mapping[Any, Any], /, **options: Any) -> int:
        return posix.posix_spawn(path, argv, self._run_checked(path, argv, env), **options)

    def posix_spawnp(self, path: Any, argv: Any, env: Mapping[Any, Any], /, **options: Any) -> int:
        return posix.posix_spawnp(path, argv, self._run_checked(path, argv, env), **options)

    def _run_checked(self, path: Any, argv: Any, env: Mapping[Any, Any] | None) -> Any:
        if env is None:  # subprocess passes None since Python 3.13
            self._check(path, argv, None)
            return None
        changed = self._check(path, argv, {os.fsdecode(key): os.fsdecode(env[key]) for key in env})
        if changed is None:
            return env
        kept = {key: env[key] for key in env if os.fsdecode(key) != PYTHON_PATH}
        return {**kept, PYTHON_PATH: changed}

    def _with_folder(self, paths: str) -> str:
        if self._folder in paths.split(":"):
            return paths
        return f"{self._folder}:{paths}" if paths else self._folder

    def _check(self, path: Any, argv: Any, env: Mapping[str, str] | None) -> str | None:
        """Note a program that may run other code; return PYTHONPATH with which it follows, None if it is so."""
        words = [os.fsdecode(word) for word in argv]
        program = os.fsdecode(path)
        name = program.rpartition("/")[2]
        if not (is_python := _is_python(program)) and name not in _SHELLS:
            if name not in _QUERIES:
                self._files.notes.add(PROGRAM, name)
            return None
        if not is_python:
            self._files.notes.add(PROGRAM, name)
        if _OWN in " ".join(words[:4]):  # launcher starts a process that does not belong to the job
            return None
        if env is None:  # `putenv` has kept the variable
            env = {VARIABLE: os.environ.get(VARIABLE, ""), PYTHON_PATH: self._folder}
        value = env.get(VARIABLE, "")
        if not value or value == OFF:
            self._files.notes.add(CHILD, f"{describe_command(words)}, without {VARIABLE}")
        elif is_python and (flag := _ignoring_option(words)):
            self._files.notes.add(CHILD, f"{describe_command(words)}, with {flag}")
        elif not is_python and self._loses_variables(name, words):
            self._files.notes.add(
                CHILD, f"{describe_command(words)}, which may replace {PYTHON_PATH}"
            )
        elif self._folder not in (paths := env.get(PYTHON_PATH, "")).split(":"):
            return self._with_folder(paths)
        return None

    def _loses_variables(self, name: str, words: Sequence[str]) -> bool:
        """Return whether a shell or `env` starts programs that do not see the snapshot, as its words say."""
        if name == "env":
            words = ["env", *words[1:]]
        return any(
            lost_variables(line)
            for line in " ".join(words).splitlines()
            if self._folder not in line
        )

    def fork_exec(
        self,
        args: Sequence[Any],
        executables: Sequence[Any],
        close_fds: Any,
        pass_fds: Any,
        cwd: Any,
        env: Any,
        *rest: Any,
    ) -> int:
        """Start a program for the module subprocess, with the environment as a list of `NAME=value` or None."""
        path = next((each for each in executables if posix.access(each, posix.F_OK)), args[0])
        listed = None
        if env is not None:
            pairs = [os.fsdecode(entry).partition("=") for entry in env]
            listed = {key: value for key, _, value in pairs}
        changed = self._check(path, args, listed)
        if changed is not None and env is not None:
            mark = PYTHON_PATH.encode() + b"="
            env = [entry for entry in env if not entry.startswith(mark)]
            env.append(mark + os.fsencode(changed))
        return self.real_fork_exec(args, executables, close_fds, pass_fds, cwd, env, *rest)  # type: ignore[no-any-return]

    real_fork_exec: Any = None


def lost_variables(text: str) -> bool:
    """Return whether the text of a shell script starts programs that do not see the snapshot."""
    return any(_replaces_path(line) or " env -i " in f" {line} " for line in text.splitlines())


def _replaces_path(line: str) -> bool:
    mark = f"{PYTHON_PATH}="
    value = line.partition(mark)[2]
    return (
        mark in line.partition("#")[0]
        and f"${PYTHON_PATH}" not in value
        and f"${{{PYTHON_PATH}" not in value
    )


def _is_python(program: str) -> bool:
    """Return whether a program is an interpreter of Python, or a script for one."""
    name = program.rpartition("/")[2]
    for known in ("python", "pypy"):
        if name.startswith(known) and not name[len(known) :].strip(_VERSION):
            return True
    if "/" not in program:
        return False
    try:
        with _open(program, "rb") as file:
            first = file.read(256).partition(b"\n")[0]
    except OSError:
        return False
    return first.startswith(b"#!") and b"python" in first


def _ignoring_option(words: Sequence[str]) -> str:
    """Return the option by which Python does not read the snapshot; '' if there is none."""
    for word in words[1:]:
        if not word.startswith("-") or word == "-" or word.startswith("--"):
            return ""
        for letter in word[1:]:
            if letter in "IES":
                return f"-{letter}"
            if letter in "cmWX":
                break
        if word[-1:] in {"c", "m"}:
            return ""
    return ""
