"""Folders and words of imported sources: what data IDs call them."""

import re
from collections.abc import Collection, Iterable, Mapping

from trueface.data.folder_names import FLAT, SUBSET_UNIONS, SUBSETS
from trueface.data.imports.images import REAL

_BUILT_IN = {folder: word for word, folder in SUBSETS.items()}
_TAKEN = frozenset({*SUBSETS, *FLAT, *SUBSET_UNIONS, "all"})
_ENDS = re.compile(r"[-_. ]?(real|fake)$", re.IGNORECASE)
_STARTS = re.compile(r"^(real|0_real)(?=[-_. A-Z]|$)[-_. ]?")
_BAD = re.compile(r"[^A-Za-z0-9_.+-]+")


def folder_of(source: str, label: int, fakes: Collection[str]) -> str:
    """Return the folder of a source below Real/ or Fake/, as IDs can name it.

    A word of an ID names a folder in both: photographs that lie beside the fakes of one name get a
    folder of their own.

    Args:
        source: its name in the data set.
        label: of its images.
        fakes: sources that have fake images.
    """
    name = "".join(c if c.isprintable() and c not in ",/" else "_" for c in source).strip()
    name = "_" + name[1:] if name.startswith(".") else name or "images"
    return f"real{_capital(name)}" if label == REAL and source in fakes else name


def words(sources: Iterable[tuple[str, int]], taken: Mapping[str, str]) -> dict[str, str]:
    """Return the word of each folder that needs one; those of TrueFace's folders have theirs.

    Args:
        sources: folders, and the label of their images.
        taken: folder → word, as an earlier import gave them; these stay.
    """
    given = dict(taken)
    used = {*_TAKEN, *given.values()}
    for folder, label in sources:
        if folder in _BUILT_IN and _BUILT_IN[folder].startswith("real") is (label == REAL):
            continue
        if folder not in given:
            word = _word(folder, label)
            while word in used:
                word = _next(word)
            given[folder] = word
            used.add(word)
    return given


def word_of(folder: str, given: Mapping[str, str]) -> str:
    """Return the word of a folder, the laboratory's own or the one that `words` gave."""
    return given.get(folder) or _BUILT_IN[folder]


def _word(folder: str, label: int) -> str:
    name = _BAD.sub("-", folder).strip("-_.+") or "images"
    if label == REAL:  # `real` at the beginning is what makes a subset one of real images
        short = _STARTS.sub("", _ENDS.sub("", name)) or ("" if name.casefold() == "real" else name)
        return f"real{_capital(short) or 'Images'}"
    short = _ENDS.sub("", name) or name
    return (
        short if not short.startswith("real") and short not in _TAKEN else f"fake{_capital(short)}"
    )


def _capital(name: str) -> str:
    return name[:1].upper() + name[1:]


def _next(word: str) -> str:
    match = re.fullmatch(r"(.*?)(\d*)", word)
    stem, number = match.groups() if match else (word, "")
    return f"{stem}{int(number or 1) + 1}"
