"""The words that a person adds to data IDs, and what they may be: see `subsets`."""

import re
from collections.abc import Container, Iterable
from pathlib import PurePosixPath

from launcher.api import UsageError

_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+\-]*")


def check_word(what: str, word: str, folders: Iterable[str], known: Container[str]) -> None:
    """Refuse a word that could not be read, or would not mean one thing.

    Args:
        what: subset or modifier.
        word: a person's own.
        folders: what it stands for.
        known: words that mean something already.

    Raises:
        UsageError: it is refused.
    """
    if _WORD.fullmatch(word) is None:
        raise UsageError(
            f"{word!r} cannot be the name of a {what}: take a letter or digit, "
            "then letters, digits and any of _.+-"
        )
    if word in known:
        raise UsageError(f"{what} {word!r} exists already; give yours another name")
    if not tuple(folders):
        raise UsageError(f"{what} {word!r} names no folder")
    for folder in folders:
        if reason := _fault(what, folder):
            raise UsageError(f"{what} {word!r}: {folder!r} {reason}")


def _fault(what: str, folder: str) -> str:
    """Return why `folder` cannot be what a word stands for; empty if it can."""
    if not folder.strip():
        return "is no folder"
    if not folder.isprintable() or "," in folder:  # a comma stands between two on a command line
        return "holds a comma or a character that cannot be printed; rename the folder, or link it"
    if what == "subset" and ("/" in folder or folder in {".", ".."}):
        return "is not the name of one folder right below Real/ and Fake/, such as StyleGAN2"
    if folder.startswith("/") or ".." in PurePosixPath(folder).parts:
        return "leads outside the data root; name a folder below it, and link it there"
    return ""
