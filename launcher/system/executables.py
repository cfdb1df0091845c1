"""Why a program cannot be started as it is written: it is missing, its interpreter is, or the script that it runs."""

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

from launcher.system.lazy_regex import compile_lazily

_MOST_HEAD_BYTES = 256  # bytes that Linux reads of the first line of a script
_ELF = b"\x7fELF"
_WRAPPERS = {"env", "nice", "nohup", "time", "setsid"}  # without options: the program follows
_VARIABLE = compile_lazily(r"\w+=.*", re.DOTALL)
_PYTHON = compile_lazily(r"(?:python|pypy)[\d.]*")
# interpreter → options that take the next word, letters of options that replace the script
_INTERPRETERS: Mapping[str, tuple[frozenset[str], str]] = {
    "python": (frozenset({"-W", "-X", "--check-hash-based-pycs"}), "cmhV"),
    "sh": (frozenset({"-o", "+o", "-O", "+O", "--rcfile", "--init-file"}), "cs"),
    "perl": (frozenset({"-I"}), "eEhvV"),
    "ruby": (frozenset({"-I", "-r", "-C"}), "ehv"),
    "Rscript": (frozenset(), "e"),
    "julia": (frozenset({"-p", "-t", "-L", "-J"}), "eEhv"),
}
# options that are followed by text or a module in place of a script, such as -c, -lc and -um
_REPLACEMENTS = compile_lazily(r"-[A-Za-z]*[cm]")
_MODULE = compile_lazily(r"-[A-Za-z]*m")
_MOST_TEXT = 60  # characters of such a text; the digest of a longer one stands for it
_SHELLS = {"sh", "bash", "dash", "zsh", "ksh"}


def find_program(name: str, environment: Mapping[str, str]) -> str | None:
    """Return the path of a program in the PATH of an environment; None if it is not there."""
    import shutil  # 2 ms, mostly for archives; lists of jobs need no program

    return shutil.which(name, path=environment.get("PATH", os.defpath))


def missing_program(program: str, folder: Path, environment: Mapping[str, str]) -> str:
    """Return why a program cannot be started as it is typed, from its folder; empty if it can.

    Args:
        program: the first word of a command line.
        folder: folder in which the program is started.
        environment: with its PATH.
    """
    if "/" not in program:
        executable = find_program(program, environment)
        return "" if executable else f"{program!r} is not in PATH"
    path = folder / program
    try:
        if not path.exists():
            return f"program {program!r} does not exist"
        if path.is_dir() or not os.access(path, os.X_OK):
            return f"{program!r} is not executable. Make it executable with chmod +x"
    except (OSError, ValueError):  # a name that no file can have
        return f"program {program!r} does not exist"
    return interpreter_fault(path, program)


def is_assignment(word: str) -> bool:
    """Return whether a word sets a variable if `env` gets it before a program, such as `SEED=1`."""
    return _VARIABLE.fullmatch(word) is not None


def interpreter_fault(path: Path, name: str) -> str:
    """Return why Linux cannot start an executable file that exists; empty if no reason is known.

    Args:
        path: path of the file.
        name: name of the file in the message.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_MOST_HEAD_BYTES)
    except (OSError, ValueError):  # a file may be executable and not readable
        return ""
    if not head.startswith(b"#!"):
        if head.startswith(_ELF) or b"\0" in head:
            return ""
        return f"{name!r} has no interpreter line. Write #!/bin/sh as its first line"
    line = head[2:].partition(b"\n")[0]
    interpreter = os.fsdecode(line.strip(b" \t").partition(b" ")[0].partition(b"\t")[0])
    if interpreter.endswith("\r"):
        return (
            f"{name!r} has Windows line ends, so its interpreter is {interpreter!r}. "
            f"Convert it: sed -i 's/\\r$//' {name}"
        )
    if interpreter and not Path(interpreter).exists():
        return f"{name!r} names the interpreter {interpreter!r}, which does not exist"
    return ""


def missing_script(argv: Sequence[str], folder: Path) -> str:
    """Return that the script of an interpreter does not exist; empty if it does, or if there is none.

    Other words of a command line are not checked: they may name outputs.

    Args:
        argv: the program and its arguments.
        folder: folder in which the program is started.
    """
    script = script_of(argv)
    if not script or "{" in script:  # a folder that is filled in when the job starts
        return ""
    try:
        if (folder / script).exists():
            return ""
    except (OSError, ValueError):
        pass  # a name that no file can have
    return f"script {script!r} for {argv[0]!r} does not exist"


def without_wrappers(argv: Sequence[str]) -> list[str]:
    """Return a command line from the program on that `env`, `nice` and the like start."""
    words = [*argv]
    while words and (words[0].rpartition("/")[2] in _WRAPPERS or is_assignment(words[0])):
        del words[0]
    return words


def is_python(program: str) -> bool:
    """Return whether a program is an interpreter of Python, by its name."""
    return _PYTHON.fullmatch(program.rpartition("/")[2]) is not None


def is_shell(program: str) -> bool:
    """Return whether a program is a shell, by its name."""
    return program.rpartition("/")[2] in _SHELLS


def python_flags(words: Sequence[str]) -> str:
    """Return the letters of Python's options before its script; "c" or "m" is the last one if it has no script.

    Args:
        words: the interpreter and its arguments.
    """
    letters, rest = "", [*words[1:]]
    while rest and rest[0].startswith("-") and rest[0] not in {"-", "--"}:
        word = rest.pop(0)
        if word in _INTERPRETERS["python"][0]:
            del rest[:1]
        elif not word.startswith("--"):
            for letter in word[1:]:
                letters += letter
                if letter in "cm":
                    return letters
                if letter in "WX":  # the value of the option follows
                    break
    return letters


def script_of(argv: Sequence[str]) -> str:
    """Return the script that an interpreter is asked to run; empty if there is none, or none is known."""
    words = without_wrappers(argv)
    if not words:
        return ""
    interpreter = words.pop(0).rpartition("/")[2]
    name = "python" if _PYTHON.fullmatch(interpreter) else interpreter
    with_value, instead = _INTERPRETERS.get("sh" if name in _SHELLS else name, (None, ""))
    if with_value is None:
        return ""
    while words:
        word = words.pop(0)
        if word == "--":
            return words[0] if words else ""
        if not word.startswith(("-", "+")):
            return word
        letters = "" if word.startswith("--") else word[1:]
        if word == "-" or set(letters) & set(instead) or word in {"--help", "--version"}:
            return ""
        if word in with_value:
            del words[:1]
    return ""


def module_of(argv: Sequence[str]) -> str:
    """Return the module that Python is asked to run with `-m`; empty if there is none."""
    words = without_wrappers(argv)
    if not words or script_of(words) or not is_python(words[0]):
        return ""
    return next((after for word, after in pairwise(words) if _MODULE.fullmatch(word)), "")


def program_of(argv: Sequence[str]) -> str:
    """Return which program a command line runs: its first word, and the script of an interpreter.

    Text that an interpreter is given in place of a script (`-c`), and a module (`-m`), count as its script.

    Args:
        argv: the program and its arguments.
    """
    words = without_wrappers(argv)
    if not words:
        return ""
    name, *rest = words
    if script := script_of(words):
        return f"{name} {script}"
    text = next((after for word, after in pairwise(rest) if _REPLACEMENTS.fullmatch(word)), "")
    if len(text) > _MOST_TEXT:
        text = hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:16]
    return f"{name} {text}".rstrip()
