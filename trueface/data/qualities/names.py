"""How the qualities of a training are written: `raw, jpeg75, half+jpeg30`. No torch here.

A quality is a chain of corruptions, as a test has it in `corrupt`, or a word of the training's list of
files (`quality_list`), such as the c23 and c40 of video sets, whose files lie on the disk.
"""

import re
from collections.abc import Collection, Iterable
from typing import Any

from trueface.corruptions.grammar import ALIASES, NONE, RAW, canonical
from trueface.corruptions.grammar import missing_programs as missing_for
from trueface.corruptions.grammar import modules_of as modules_of_chain

SEPARATOR = ","
MOST = 16  # qualities of a training: each is one more pass through the network
_FILES = re.compile(r"[A-Za-z0-9_.-]+")
_MARK = "files:"  # before a quality that is a word of the list of files


def joined(value: Any) -> Any:
    """Return a list of qualities as the text that settings hold; anything else as it is."""
    if isinstance(value, list | tuple) and all(isinstance(each, str) for each in value):
        return SEPARATOR.join(value)
    return value


def listed(text: str) -> tuple[str, ...]:
    """Return the qualities of a text, in their order; of an empty text none."""
    return tuple(word.strip() for word in text.split(SEPARATOR)) if text.strip() else ()


def spelt(text: str) -> str:
    """Return qualities in their one spelling: `none, jpeg050` is `raw,jpeg50`.

    A word `files:NAME` stands for the files that the training's list has under NAME; see `with_files`.

    Raises:
        ValueError: an unknown corruption, a strength outside its range, a quality that stands there
            twice, or too many.
    """
    words = [_spelt(word) for word in listed(text)]
    twice = [word for at, word in enumerate(words) if word in words[:at]]
    if twice:
        raise ValueError(f"quality {twice[0]} stands there twice: leave one of them out")
    if len(words) > MOST:
        raise ValueError(f"{len(words)} qualities, and {MOST} at most are taken")
    return SEPARATOR.join(words)


def with_files(text: str) -> str:
    """Return qualities beside a list of files: `c23`, and what is no corruption, are words of that list."""
    return SEPARATOR.join(_with_files(word) for word in listed(text))


def files_of(quality: str) -> str | None:
    """Return the word of the list of files that a quality stands for; None: it is a chain."""
    return quality.removeprefix(_MARK) if quality.startswith(_MARK) else None


def chain_of(quality: str) -> str:
    """Return a quality as a chain of corruptions; that of files is none."""
    return NONE if quality == RAW or files_of(quality) is not None else quality


def modules_of(text: str) -> tuple[str, ...]:
    """Return the modules of the kinds of corruption in qualities: they are imported by name."""
    modules = (module for word in listed(text) for module in modules_of_chain(chain_of(word)))
    return tuple(dict.fromkeys(modules))


def missing_programs(text: str) -> tuple[str, ...]:
    """Return why some qualities cannot be made on this machine, in words."""
    return tuple(reason for word in listed(text) for reason in missing_for(chain_of(word)))


def lacking(text: str, columns: Collection[str]) -> Iterable[str]:
    """Yield the words of files among qualities that a list does not have."""
    names = (files_of(word) for word in listed(text))
    return (name for name in names if name is not None and name not in columns)


def _with_files(word: str) -> str:
    if word not in ALIASES:
        try:
            canonical(word)
        except ValueError:
            return word if word.startswith(_MARK) else f"{_MARK}{word}"
        return word
    return f"{_MARK}{word}"


def _spelt(word: str) -> str:
    name = files_of(word)
    if name is not None:
        if not _FILES.fullmatch(name):
            raise ValueError(f"{word!r}: write files: and a word of the list, such as files:c23")
        return word
    if not word:
        raise ValueError("a quality is missing between two commas: write such as raw, jpeg75")
    chain = canonical(word)
    return RAW if chain == NONE else chain
