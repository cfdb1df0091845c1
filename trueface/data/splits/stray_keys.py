"""Keys of a split that are written another way than the images on disk.

A key whose folder is not there may be one of another subset, and is left out. A key whose folder no
subset and no folder of the data root has is a mistake: another case, or a prefix too many or too few.
It stops a job only if it may name an image of the job.
"""

import os
import posixpath
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from trueface.data.folders import is_folder, is_image
from trueface.data.image_folders import CLASSES, matching
from trueface.data.image_keys import method_of
from trueface.data.vocabulary import DataIdResolver

DEPTH = 2  # folders above those of the classes: TrueFace_PostSocial/Facebook


def stray_keys(
    lacking: Collection[str],
    unlisted_keys: Iterable[str],
    data_root: Path,
    vocabulary: DataIdResolver,
) -> list[str]:
    """Return the keys, sorted, that belong to no subset and to no folder of the data root.

    Args:
        lacking: keys without an image among those that were looked for.
        unlisted_keys: keys of images that no list names. A key without a folder is a mistake only if one
            of them has its name, because lists may contain subsets that are not in this data root.
        data_root: the data root.
        vocabulary: the known subsets.
    """
    known = vocabulary.methods("all")
    unknown = {method for method in map(method_of, set(lacking)) if not known.holds(method)}
    if unknown:
        unknown -= set(_method_folders(data_root, vocabulary))
    if not unknown:
        return []
    names = {key.rpartition("/")[2] for key in unlisted_keys} if "" in unknown else set()
    return sorted(
        key for key in lacking if method_of(key) in unknown and ("/" in key or key in names)
    )


def select_by_sources(
    keys: Iterable[str], sources: Collection[str], data_root: Path, vocabulary: DataIdResolver
) -> list[str]:
    """Return those of some stray keys that may name an image of some sources, in their order.

    A key does not if its first folder, after Real/ or Fake/, is another source's and none is of these.
    Case and punctuation do not count. A key that may be either is one of these, so that no image is lost.

    Args:
        keys: the stray keys.
        sources: folders of the images that are used.
        data_root: the data root.
        vocabulary: the known subsets.
    """
    used = {_normalize_name(name) for name in sources}
    known = {*vocabulary.methods("all").folders, *_method_folders(data_root, vocabulary)}
    others = {_normalize_name(name) for name in known if not set(name) & set("*?[")}
    others -= {*used, ""}
    return [key for key in keys if _may_be_of(key, used, others)]


def _may_be_of(key: str, used_folders: set[str], others: set[str]) -> bool:
    parts = [_normalize_name(part) for part in key.split("/")[:-1] if part != "."]
    if parts and parts[0] in CLASSES:
        del parts[0]
    return not parts or parts[0] not in others or not used_folders.isdisjoint(parts)


def _normalize_name(name: str) -> str:
    return "".join(filter(str.isalnum, name.casefold()))


def describe_stray(keys: Collection[str], data_root: Path, vocabulary: DataIdResolver) -> str:
    """Return the remedy for stray keys: another form, the folder that the first one belongs to, or that there is none."""
    first = min(keys)
    plain = posixpath.normpath(first)
    there = sorted(filter(None, set(_method_folders(data_root, vocabulary))))
    if plain != first and method_of(plain) in there:
        return f"Write them without // and ./, such as {plain}"
    parts = first.casefold().split("/")
    same = [name for name in there if name.casefold() in parts]
    folder = f"a folder such as {(same or there or ['FFHQ'])[0]}/"
    if method := "" if same else method_of(plain):
        return f"{data_root} has no folder {method}. Add its images, begin the keys with {folder}"
    return f"Begin them with {folder}"


def _method_folders(data_root: Path, vocabulary: DataIdResolver) -> Iterator[str]:
    """Yield the folders right below Real/ or Fake/, of all modifiers; "" for images in these."""
    waiting = [(data_root, DEPTH)]
    waiting += [
        (folder, 0)
        for _, names in vocabulary.modifiers
        for name in names
        for folder in matching(data_root, name)
    ]
    while waiting:
        folder, depth = waiting.pop()
        for name in _folders(folder):
            if name.casefold() in CLASSES:
                yield from _folders(folder / name)
                if any(is_image(each) for each in os.listdir(folder / name)):  # noqa: PTH208  # names are enough
                    yield ""
            elif depth:
                waiting.append((folder / name, depth - 1))


def _folders(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return [e.name for e in entries if is_folder(e) and not e.name.startswith(".")]
    except OSError:
        return []
