"""The paths that PATH gives for the programs of command lines: found when jobs are queued, used when they start.

A command line names its program, which wrappers such as `env` may start. A script also names its interpreter, often as
`#!/usr/bin/env python`. A shell script starts programs of the virtual environment in which it was queued. Any other word may
name a program, too, which a wrapper that is not known starts.
"""

import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

from launcher.system.executables import is_assignment, is_python, is_shell
from launcher.system.files import open_descriptor

ENVIRONMENT_FOLDERS = ("VIRTUAL_ENV", "CONDA_PREFIX")  # variables that name an environment
_HEAD_BYTES = 256  # bytes that Linux reads of the first line of a script
_PATH = "PATH"
# wrapper → its options that take the next word; after them, the number of words before the program
_WRAPPERS: Mapping[str, tuple[frozenset[str], int]] = {
    "env": (frozenset({"-u", "-C", "--unset", "--chdir"}), 0),
    "nice": (frozenset({"-n", "--adjustment"}), 0),
    "nohup": (frozenset(), 0),
    "time": (frozenset({"-f", "-o", "--format", "--output"}), 0),
    "setsid": (frozenset(), 0),
    "stdbuf": (frozenset({"-i", "-o", "-e", "--input", "--output", "--error"}), 0),
    "ionice": (frozenset({"-c", "-n", "--class", "--classdata"}), 0),
    "timeout": (frozenset({"-k", "-s", "--kill-after", "--signal"}), 1),
}
_SPLIT = ("-S", "--split-string")  # options of env behind which a script has more than one word
_EMPTY = ("-", "-i", "--ignore-environment")  # options of env that remove PATH
# a name in a word, which may be a line for a shell or an option with a value
_NAME = re.compile(r"(?:^-S|(?<![^\s;&|()<>'\"`=]))([^\s;&|()<>'\"`=-][^\s;&|()<>'\"`=]*)")


class ProgramGone(Exception):
    """A program or folder that was found when a job was queued does not exist now."""

    def __init__(self, name: str, path: str) -> None:
        """Begin.

        Args:
            name: The name that was looked up, or a variable.
            path: The path that it had.
        """
        super().__init__(f"{name}: {path}")
        self.name, self.path = name, path


class Start(NamedTuple):
    """Where and with which variables a program starts."""

    folder: str
    environment: Mapping[str, str]
    # variables that are the job's own; a name that its own PATH finds is not that of another job
    own: Mapping[str, str]


# returns the path of a name ('' if it has none) by the key under which it is stored, its text in messages, and its
# path now
_Find = Callable[[str, str, str], str]


def find_paths(argv: Sequence[str], start: Start) -> dict[str, str]:
    """Return the paths of the programs of a command line, and of the environment of a shell script, as they are now.

    Args:
        argv: Program and arguments.
        start: Where it starts.
    """
    found: dict[str, str] = {}

    def find(key: str, _: str, present: str) -> str:
        if present:
            found[key] = present
        return present

    _walk(argv, start, find)
    return found | find_named_paths(named_words(argv), start, program_index(argv)[1])


def named_words(argv: Collection[str]) -> set[str]:
    """Return the names in a command line that may be programs, also those in a word with a line for a shell."""
    return {name for word in argv for name in _NAME.findall(word)}


def find_named_paths(words: Collection[str], start: Start, set_path: str) -> dict[str, str]:
    """Return the paths of the words that name a Python or a program of a virtual or conda environment.

    Words may also name scripts, whose interpreters count as words. With a shell, the folder of the environment counts.

    Args:
        words: Words of `named_words`.
        start: Where their command line starts.
        set_path: PATH that `env` sets in it; '' if it does not.
    """
    folders, words = _program_folders(start), _with_interpreters(words, start)
    found = {
        key: folder for key, folder in _folders_of_shells(words, start) if _exists(key, folder)
    }
    for key, word in _keys_of(words, start, set_path):
        if not is_python(word) and not any(map(_is_executable, _paths_in(folders, word, start))):
            continue  # the words of a long sweep are not looked up in all of PATH
        path = (
            key
            if "/" in word
            else _find_executable(_search_path(start, set_path), word, start.folder)
        )
        if _is_executable(path) and _is_of_environment(word, path, folders):
            found[key] = path
    return found


def use_paths(argv: Sequence[str], start: Start, paths: Mapping[str, str]) -> tuple[str, ...]:
    """Return a command line that starts the programs that were found earlier.

    It is unchanged if PATH still gives these.

    Args:
        argv: Program and arguments.
        start: Where it starts.
        paths: Paths of `find_paths`. A name without a path is looked up when the program starts.

    Raises:
        ProgramGone: One of the paths does not exist.
    """

    def find(key: str, text: str, present: str) -> str:
        path = paths.get(key, present)
        if path != present and not _exists(key, path):
            raise ProgramGone(text, path)
        return path

    words = _walk(argv, start, find)
    for word, path in _stored_names(argv, start, paths):
        if not _exists(word, path):
            raise ProgramGone(word, path)
    return words


def used_paths(argv: Sequence[str], start: Start, paths: Mapping[str, str]) -> list[str]:
    """Return the stored paths that a command line needs, without those that it names itself.

    Args:
        argv: Program and arguments.
        start: Where it starts.
        paths: Paths of `find_paths`.
    """
    used = dict[str, None]()

    def find(key: str, _: str, present: str) -> str:
        path = paths.get(key, "")
        if path and path not in argv:
            used[path] = None
        return path or present

    _walk(argv, start, find)
    used.update((path, None) for _, path in _stored_names(argv, start, paths) if path not in argv)
    return [*used]


def program_index(argv: Sequence[str]) -> tuple[int, str]:
    """Return which word of a command line names the program, and the PATH that `env` sets for it, if it does.

    The index is -1 if options of a wrapper are not known.
    """
    at, path = 0, ""
    while at < len(argv):
        wrapper = _WRAPPERS.get(argv[at].rpartition("/")[2])
        if wrapper is None:
            return at, path
        is_env, (with_value, operands) = argv[at].rpartition("/")[2] == "env", wrapper
        at += 1
        while at < len(argv) and argv[at].startswith("-") and argv[at] != "--":
            if is_env and argv[at].startswith(_SPLIT):
                return -1, path
            path = os.defpath if is_env and argv[at] in _EMPTY else path
            at += 2 if argv[at] in with_value else 1
        at += (at < len(argv) and argv[at] == "--") + operands
        while is_env and at < len(argv) and is_assignment(argv[at]):
            name, _, text = argv[at].partition("=")
            path = text if name == _PATH else path
            at += 1
    return -1, path


def _search_path(start: Start, set_path: str) -> str:
    return set_path or start.environment.get(_PATH, os.defpath)


def _program_folders(start: Start) -> set[str]:
    """Return the folders with the programs of the virtual or conda environment in which a job was queued."""
    folders = (start.environment.get(variable) for variable in ENVIRONMENT_FOLDERS)
    return {f"{os.path.normpath(folder)}/bin" for folder in folders if folder}


def _with_interpreters(words: Collection[str], start: Start) -> set[str]:
    """Return words and the interpreters of the scripts that they name as paths."""
    paths = (_resolve(word, start) for word in words if "/" in word)
    return {*words, *filter(None, (_interpreter_of(path)[0] for path in paths))}


def _folders_of_shells(words: Collection[str], start: Start) -> Iterator[tuple[str, str]]:
    """Yield the variables and folders of the environment if a word names a shell, which may start its programs."""
    if not any(map(is_shell, words)):
        return
    for variable in ENVIRONMENT_FOLDERS:
        folder = start.environment.get(variable)
        if folder and variable not in start.own:
            yield f"${variable}", folder


def _paths_in(folders: Collection[str], word: str, start: Start) -> Iterator[str]:
    """Yield the paths that a word can have in folders of programs."""
    if "/" not in word:
        yield from (f"{folder}/{word}" for folder in folders)
    elif (path := _resolve(word, start)).rpartition("/")[0] in folders:
        yield path


def _is_of_environment(word: str, path: str, folders: Collection[str]) -> bool:
    return is_python(word) or path.rpartition("/")[0] in folders


def _keys_of(words: Collection[str], start: Start, set_path: str) -> Iterator[tuple[str, str]]:
    """Yield the keys under which the paths of words are stored, with the words."""
    own_path = set_path or start.own.get(_PATH, "")
    for word in sorted(words):
        yield _resolve(word, start) if "/" in word else _key_of(word, own_path), word


def _key_of(word: str, own_path: str) -> str:
    return f"{_PATH}={own_path}:{word}" if own_path else word


def _stored_names(
    argv: Sequence[str], start: Start, paths: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    """Yield the words and variables whose paths `find_named_paths` returns, with these."""
    folders, words = _program_folders(start), _with_interpreters(named_words(argv), start)
    yield from ((key, paths[key]) for key, _ in _folders_of_shells(words, start) if key in paths)
    for key, word in _keys_of(words, start, program_index(argv)[1]):
        path = paths.get(key, "")
        if path and _is_of_environment(word, path, folders):
            yield word, path


def _walk(argv: Sequence[str], start: Start, find: _Find) -> tuple[str, ...]:
    """Look up the names that a command line needs; return it with paths in place of names that PATH does not give.

    Args:
        argv: Program and arguments.
        start: Where it starts.
        find: Returns the path of a name; '' if it has none.
    """
    words = [*argv]
    at, set_path = program_index(argv)
    if at < 0:
        return tuple(words)
    own_path = set_path or start.own.get(_PATH, "")
    search_path, folders = _search_path(start, own_path), _program_folders(start)

    def look_up(word: str) -> tuple[str, str]:
        """Return the path of a word, and the word or the path that starts it."""
        if "/" in word:
            path = _resolve(word, start)
            if is_shell(word) or _is_of_environment(word, path, folders):
                find(path, word, path if _is_executable(path) else "")
            return path, word
        present = _find_executable(search_path, word, start.folder)
        path = find(_key_of(word, own_path), word, present)
        return path, word if path == present else path

    program, words[at] = look_up(argv[at])
    interpreter, between, is_looked_up = _interpreter_of(program)
    if interpreter and is_looked_up:
        path, started = look_up(interpreter)
        if started != interpreter:  # as Linux starts a script, with another interpreter
            script = words[at] if "/" in words[at] else program
            words[at : at + 1] = [started, *between, script]
        interpreter = path or interpreter
    elif interpreter:
        find(interpreter, interpreter, interpreter if _is_executable(interpreter) else "")
    for key, folder in _folders_of_shells([interpreter or program], start):
        find(key, key, folder if _exists(key, folder) else "")
    return tuple(words)


def _interpreter_of(program: str) -> tuple[str, list[str], bool]:
    """Return the interpreter of a script, its arguments before the script, and whether `env` looks it up."""
    if not _is_executable(program):  # reading from a pipe would wait
        return "", [], False
    try:
        with open_descriptor(program, os.O_RDONLY) as descriptor:
            head = os.read(descriptor, _HEAD_BYTES)
    except (OSError, ValueError):
        return "", [], False
    if not head.startswith(b"#!"):
        return "", [], False
    line = os.fsdecode(head[2:].partition(b"\n")[0]).strip(" \t")
    interpreter, _, rest = line.partition(" ")
    if interpreter.rpartition("/")[2] != "env":
        return interpreter, [], False
    words = rest.split()
    if words and words[0] in _SPLIT:
        del words[0]
    elif len(words) > 1:  # Linux gives the words to env as one word
        return "", [], False
    if not words or words[0].startswith("-") or is_assignment(words[0]):
        return "", [], False
    return words[0], words[1:], True


def _resolve(word: str, start: Start) -> str:
    return os.path.normpath(os.path.join(start.folder, word))  # noqa: PTH118  # for each start


def _find_executable(search_path: str, word: str, folder: str) -> str:
    for place in search_path.split(os.pathsep):
        path = os.path.join(folder, place, word)  # noqa: PTH118  # several for each start
        if _is_executable(path):
            return path
    return ""


def _is_executable(path: str) -> bool:
    try:
        return os.path.isfile(path) and os.access(path, os.X_OK)  # noqa: PTH113  # as above
    except ValueError:  # a name that no file can have
        return False


def _exists(key: str, path: str) -> bool:
    return os.path.isdir(path) if key.startswith("$") else _is_executable(path)  # noqa: PTH112  # as above
