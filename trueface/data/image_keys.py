"""Matches keys of a split to images on disk, also after a network has renamed the files."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from trueface.data.index import (
    Image,
)
from trueface.data.vocabulary import UNSHARED

KEPT = 5  # social networks rename files, but keep the five digits they start with


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchedImages:
    """The images of a split among those on disk."""

    images: tuple[Image, ...]
    renamed: int  # images matched only by the first characters of their name
    unknown: int  # images on disk that are in no list


def match(images: Sequence[Image], keys: frozenset[str], others: frozenset[str]) -> MatchedImages:
    """Return the images that `keys` name, in the same order.

    An image is found by its whole key. Social networks rename files. Therefore the first five
    characters of its name are sufficient under three conditions. It is a shared copy, no list
    contains its key, and no other image of the same folder matches better. A sixth digit must not
    turn them into another number.

    Args:
        images: any.
        keys: of the requested split.
        others: keys of the other lists of the split.
    """
    strangers = [image for image in images if image.key not in keys and image.key not in others]
    shared = [image for image in strangers if image.modifier not in UNSHARED]
    renamed = _match_short_keys(images, shared, keys | others) if shared else {}
    fallen = {image.file for image in strangers if renamed.get(image.file) in keys}
    chosen = [image for image in images if image.key in keys or (fallen and image.file in fallen)]
    return MatchedImages(
        images=tuple(chosen), renamed=len(fallen), unknown=len(strangers) - len(renamed)
    )


def match_lists(
    images: Sequence[Image], lists: Mapping[str, Iterable[str]]
) -> dict[str, MatchedImages]:
    """Find those of `images` that each list of a split names; see `match`."""
    keys = {name: frozenset(members) for name, members in lists.items()}
    return {
        name: match(images, own, frozenset().union(*(keys[each] for each in keys if each != name)))
        for name, own in keys.items()
    }


def images_by_picture(images: Sequence[Image]) -> tuple[tuple[Image, ...], ...]:
    """Return the images of each picture together: a shared copy shows the same one.

    Copies have one key under several modifiers; where a network renamed its copy, the first five
    characters of the name decide, as in `match`. Files of one key under one modifier, 00012.png
    beside 00012.jpg, are pictures of their own.

    Returns:
        Pictures in an order that follows from names alone, whatever the order of `images`; the
        copies of each in the same order.
    """
    copies: dict[tuple[int, str, int], list[Image]] = defaultdict(list)
    times: Counter[tuple[int, str, str]] = Counter()
    strangers: list[Image] = []
    ordered = sorted(
        images, key=lambda image: (image.modifier not in UNSHARED, image.key, image.file)
    )
    originals = {(image.label, image.key) for image in ordered if image.modifier in UNSHARED}
    for image in ordered:
        if image.modifier not in UNSHARED and (image.label, image.key) not in originals:
            strangers.append(image)
            continue
        file = image.label, image.key, image.modifier
        copies[image.label, image.key, times[file]].append(image)
        times[file] += 1
    shorts: dict[tuple[int, str], list[tuple[int, str, int]]] = defaultdict(list)
    for picture in copies:
        shorts[picture[0], short_key(picture[1])].append(picture)
    lone: list[Image] = []
    for image in strangers:
        same = shorts.get((image.label, short_key(image.key)), [])
        taken = {copy.modifier for copy in copies[same[0]]} if len(same) == 1 else {image.modifier}
        if (
            image.modifier in taken
        ):  # no original, several, or one that has its copy of this network
            lone.append(image)
        else:
            copies[same[0]].append(image)
    whole = _whole_keys(lone)
    for image in lone:
        key = whole.get(image.file, image.key)
        file = image.label, key, image.modifier
        copies[image.label, key, times[file]].append(image)
        times[file] += 1
    return tuple(tuple(copies[picture]) for picture in sorted(copies))


def _whole_keys(copies: Sequence[Image]) -> dict[str, str]:
    """Return the first key of the same picture, by file, for copies of lost originals.

    First characters decide where each network has one such copy, and no sixth digit makes another
    number; copies that have the same key already need nothing.
    """
    together: dict[tuple[int, str], list[Image]] = defaultdict(list)
    for image in copies:
        if not _longer_number(image.key):
            together[image.label, short_key(image.key)].append(image)
    return {
        image.file: same_key[0].key
        for same_key in together.values()
        if len({image.modifier for image in same_key}) == len(same_key)
        for image in same_key
    }


def short_key(key: str) -> str:
    """Return a key, or a path, with the first characters of its name only."""
    folder, slash, name = key.rpartition("/")
    return f"{folder}{slash}{name[:KEPT]}"


def method_of(key: str) -> str:
    """Return the method's folder that a key begins with; "" of a key without a folder."""
    return key.partition("/")[0] if "/" in key else ""


def _match_short_keys(
    images: Sequence[Image], strangers: Sequence[Image], split_keys: frozenset[str]
) -> dict[str, str]:
    """Return the keys of the split that stand for images by their first characters, by file.

    Args:
        images: all of them.
        strangers: those that may be renamed, as their whole key is in no list.
        split_keys: the keys of all lists.
    """
    shorts = {
        image.file: short_key(image.key) for image in strangers if not _longer_number(image.key)
    }
    if split_keys.isdisjoint(shorts.values()):
        return {}
    # an image that is there under its own name has a better claim to it than any other
    claimed = {image.file.rpartition(".")[0] for image in images if image.file not in shorts}
    keys = {}
    for file, short in shorts.items():
        claim = short_key(file)
        if short in split_keys and claim not in claimed:
            claimed.add(claim)
            keys[file] = short
    return keys


def _longer_number(key: str) -> bool:
    return key.rpartition("/")[2][KEPT : KEPT + 1].isdecimal()
