"""The words of a command line that name files of code and configuration."""

import os
import re
from collections.abc import Iterator, Sequence
from itertools import chain, pairwise

from launcher.system.lazy_regex import compile_lazily

_OTHER_SCRIPTS = frozenset({".sh", ".bash", ".r", ".jl", ".pl", ".rb", ".lua", ".js"})
CODE_SUFFIXES = frozenset(
    {
        *(".py", ".pyw", ".ipynb", *_OTHER_SCRIPTS),
        *(".yaml", ".yml", ".json", ".toml", ".ini", ".cfg", ".conf", ".gin"),
    }
)
_MOST_SHELL_TEXT = 4096  # characters of an argument that may be a command of a shell
_OPTION = compile_lazily(r"(-{0,2}[A-Za-z_][\w.-]*)=(.+)", re.DOTALL)
# part of option names
_OUTPUT = compile_lazily(r"out|log|result|metric|save|report", re.IGNORECASE)


def has_code_suffix(name: str) -> bool:
    """Return whether a name is that of a file of code or configuration."""
    return os.path.splitext(name)[1].lower() in CODE_SUFFIXES  # noqa: PTH122  # a text


def is_other_script(name: str) -> bool:
    """Return whether a name is that of a script for another program than Python."""
    return os.path.splitext(name)[1].lower() in _OTHER_SCRIPTS  # noqa: PTH122  # a text


def names_output(option: str) -> bool:
    """Return whether the value of an option names a file that the program writes."""
    return _OUTPUT.search(option) is not None


def code_words(argv: Sequence[str]) -> Iterator[str]:
    """Yield the names of files of code and configuration in a command line, without those that it writes."""
    words = chain.from_iterable(
        word.split() if " " in word and len(word) < _MOST_SHELL_TEXT else (word,) for word in argv
    )  # words of `sh -c 'python train.py > log'`, too
    for before, word in pairwise(("", *words)):
        if word.rpartition(".")[1] and (found := _OPTION.fullmatch(word)):
            option, word = found.groups()
        else:
            option = before if before.startswith("-") else ""
        if not names_output(option) and has_code_suffix(word):
            yield word
