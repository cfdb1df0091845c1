"""Which images are for training, validation and testing: read, make and check split files.

A split is a folder with train.json, val.json and test.json, each a list of keys ("<Method>/
<Subset>/<name>", no suffix), or one JSON file with an object of the three lists. Keys name no
modifier, so that one split serves an image and its shared copies.
"""

import hashlib
import json
import logging
import random
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from launcher.api import DataId, write_atomic
from trueface.errors import DataError
from trueface.index import Image, list_parts
from trueface.subsets import BUILT_IN, Vocabulary

NAMES = ("train", "val", "test")
SHARES = (0.8, 0.1)  # training, validation; the rest is for testing, as in the published splits
KEPT = 5  # social networks rename files, but keep the five digits they start with

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """One list of a split, and what the others hold."""

    name: str  # "train", "val" or "test"
    keys: frozenset[str]
    others: frozenset[str]  # keys of the other lists that are not in this one
    sha256: str  # of the sorted keys


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The images of a split among those on disk."""

    images: tuple[Image, ...]
    renamed: int  # how many of them were matched by the first characters of their name only
    unknown: int  # how many images on disk are in no list at all


@lru_cache(maxsize=256)  # a plan asks for the same ones thousands of times
def split_files(split_path: Path, names: tuple[str, ...] = NAMES) -> tuple[Path, ...]:
    """Return the files that hold the named lists; by the name of `split_path` alone."""
    if split_path.suffix == ".json":
        return (split_path,)
    return tuple(split_path / f"{name}.json" for name in names)


def load_split(split_path: Path, name: str) -> Split:
    """Read one list of a split.

    Raises:
        DataError: no such file, or not lists of keys.
    """
    lists = _read(split_path)
    if name not in lists:
        files = ", ".join(map(str, split_files(split_path, (name,))))
        raise DataError(f"no list {name!r} of split {split_path}: looked for {files}")
    keys = frozenset(lists[name])
    others = frozenset().union(*(lists[other] for other in lists if other != name))
    if shared := keys & others:
        log.warning(
            "split=%s list=%s reason=%d keys stand in another list too, such as %s",
            split_path, name, len(shared), min(shared),
        )  # fmt: skip
    return Split(name=name, keys=keys, others=others - keys, sha256=digest(keys))


def select(images: Sequence[Image], split: Split) -> tuple[Image, ...]:
    """Return those of `images` that are in `split`, in the same order; see `match`.

    Raises:
        DataError: none of them is.
    """
    selection = match(images, split)
    if not selection.images:
        raise DataError(f"none of {len(images)} images is in the split's list {split.name!r}")
    log.info(
        "split=%s images=%d renamed=%d unknown=%d",
        split.name, len(selection.images), selection.renamed, selection.unknown,
    )  # fmt: skip
    return selection.images


def match(images: Sequence[Image], split: Split) -> Selection:
    """Find those of `images` that are in `split`, in the same order.

    An image is found by its whole key. Only where no list knows the key, and no other image of
    the same folder has a better claim, the first five characters of its name decide: social
    networks rename files.
    """
    known = split.keys | split.others
    claimed = {image.file.rpartition(".")[0] for image in images if image.key in known}
    chosen, renamed, unknown = [], 0, 0
    for image in images:
        if image.key in known:
            if image.key in split.keys:
                chosen.append(image)
            continue
        short = _short(image.key)
        claim = _short(image.file)
        if short not in known or claim in claimed:
            unknown += 1
            continue
        claimed.add(claim)
        if short in split.keys:
            renamed += 1
            chosen.append(image)
    return Selection(images=tuple(chosen), renamed=renamed, unknown=unknown)


def split_images(
    data_root: Path, data: DataId, split: Split, vocabulary: Vocabulary = BUILT_IN
) -> tuple[Image, ...]:
    """Return the images of `data` that are on disk and in `split`, in the defined order.

    A part of which no image is in the split is told in the log.

    Raises:
        DataError: a part has no image on disk, or no image at all is in the split.
    """
    parts = list_parts(data_root, data, vocabulary)
    chosen = select([image for images in parts.values() for image in images], split)
    files = {image.file for image in chosen}
    for part, images in parts.items():
        if images and files.isdisjoint(image.file for image in images):
            log.warning("part=%s split=%s reason=no image of it in the split", part, split.name)
    return chosen


def make_splits(
    images: Iterable[Image], *, seed: int, shares: tuple[float, float] = SHARES
) -> dict[str, tuple[str, ...]]:
    """Divide keys into the three lists, the same shares in each folder.

    Keys are sorted before they are shuffled, so that the result depends on the keys and the seed
    alone; all copies of a key fall into the same list.

    Args:
        images: under any modifiers.
        seed: of the shuffle.
        shares: of training and validation, both in [0, 1] with a sum of at most 1.
    """
    folders: dict[str, set[str]] = defaultdict(set)
    for image in images:
        folders[image.key.rpartition("/")[0]].add(image.key)
    lists: dict[str, list[str]] = {name: [] for name in NAMES}
    for folder in sorted(folders):
        keys = sorted(folders[folder])
        random.Random(f"splits/{seed}/{folder}").shuffle(keys)
        first = int(len(keys) * shares[0])
        second = int(len(keys) * (shares[0] + shares[1]))
        for name, chosen in zip(
            NAMES, (keys[:first], keys[first:second], keys[second:]), strict=True
        ):
            lists[name] += sorted(chosen)
    return {name: tuple(keys) for name, keys in lists.items()}


def write_splits(folder: Path, lists: Mapping[str, Sequence[str]]) -> None:
    """Write each list as <name>.json into `folder`, each file whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, keys in lists.items():
        text = json.dumps(list(keys), indent=4, ensure_ascii=False)
        write_atomic(folder / f"{name}.json", text + "\n")


def read_list(file: Path, name: str) -> frozenset[str]:
    """Read one list of one of the files that `split_files` names; empty where it is not in it.

    Raises:
        DataError: it cannot be read, or holds no list of keys.
    """
    content = _json(file)
    if isinstance(content, dict):
        content = content.get(name, [])
    return frozenset(_keys(file, content))


def digest(keys: Iterable[str]) -> str:
    """Return a digest of a list's keys, whatever their order."""
    return hashlib.sha256("\n".join(sorted(keys)).encode(errors="surrogateescape")).hexdigest()


def _read(split_path: Path) -> dict[str, list[str]]:
    if split_path.is_file():
        content = _json(split_path)
        if not isinstance(content, dict):
            raise DataError(f"{split_path} holds no object with {', '.join(NAMES)}")
        return {name: _keys(split_path, content[name]) for name in NAMES if name in content}
    if not split_path.is_dir():
        raise DataError(
            f"no split {split_path}; make one with: trueface splits DATA_ROOT --out {split_path}"
        )
    files = {name: split_path / f"{name}.json" for name in NAMES}
    return {name: _keys(path, _json(path)) for name, path in files.items() if path.is_file()}


def _json(path: Path) -> object:
    try:
        content: object = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read split {path}: {error}") from error
    return content


def _keys(path: Path, content: object) -> list[str]:
    if not isinstance(content, list) or not all(isinstance(key, str) for key in content):
        raise DataError(f"{path} holds no list of keys such as StyleGAN2/conf-f-psi-1/00012")
    return content


def _short(key: str) -> str:
    folder, slash, name = key.rpartition("/")
    return f"{folder}{slash}{name[:KEPT]}"
