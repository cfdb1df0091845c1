"""Split files, and the images on disk for training, validation and test.

A split is a folder with train.json, val.json and test.json, or one JSON file with an object of the
three lists. Each list contains keys, `<Method>/<Subset>/<name>` without suffix. Keys name no
modifier, so that one split serves an image and its shared copies. A backslash in a key is read as a
slash. A key names the image on disk of exactly that name, or one that a social network renamed (see
`image_keys`).
"""

import contextlib
import json
import logging
import secrets
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Literal

from trueface.data.image_keys import match, method_of, short_key
from trueface.data.index import (
    Image,
    ImageSurvey,
    dangling_links,
    describe_links,
    part_files,
    survey,
)
from trueface.data.splits.stray_keys import describe_stray, select_by_sources, stray_keys
from trueface.data.vocabulary import BUILT_IN, UNSHARED, DataIdResolver
from trueface.runtime.digests import sha256_hex
from trueface.runtime.errors import DataError
from trueface.runtime.files import write_atomic
from trueface.runtime.ids import DataId

NAMES = ("train", "val", "test")
# folders that say which list their images are of, in small letters
LISTS: Mapping[str, str] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
SHOWN = 3  # examples in a message
MOST_SOURCES = 20  # lines of a log; a set of faces may have a folder per person

OnMissingImage = Literal["stop", "skip", "keep"]
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitList:
    """One list of a split, and the keys of the others."""

    name: str  # "train", "val" or "test"
    keys: frozenset[str]
    others: frozenset[str]  # keys of the other lists that are not in this one
    sha256: str  # SHA-256 of the sorted keys
    path: Path | None = field(default=None, compare=False)  # file from which it was read

    def lacks(self, key: str) -> bool:
        """Return whether neither this list nor another one of the split has a key."""
        return key not in self.keys and key not in self.others

    def __str__(self) -> str:
        return f"list {self.name!r}" + (f" of split {self.path}" if self.path else "")


@lru_cache(maxsize=256)  # a plan asks for the same ones thousands of times
def split_files(split_path: Path, names: tuple[str, ...] = NAMES) -> tuple[Path, ...]:
    """Return the files that hold the named lists; by the name of `split_path` alone."""
    if split_path.suffix == ".json":
        return (split_path,)
    return tuple(split_path / f"{name}.json" for name in names)


def load_split(split_path: Path, name: str) -> SplitList:
    """Read one list of a split.

    Raises:
        DataError: no such file, or not lists of keys.
    """
    lists = read_lists(split_path)
    if name not in lists:
        files = ", ".join(map(str, split_files(split_path, (name,))))
        raise DataError(f"list {name!r} of split {split_path} does not exist. Expected {files}.")
    keys = frozenset(lists[name])
    others = frozenset().union(*(lists[other] for other in lists if other != name))
    if shared := keys & others:
        log.warning(
            "split=%s list=%s reason=%d keys are also in another list, such as %s",
            split_path, name, len(shared), min(shared),
        )  # fmt: skip
    return SplitList(
        name=name, keys=keys, others=others - keys, sha256=keys_digest(keys), path=split_path
    )


def _describe_no_match(images: Sequence[Image], split: SplitList) -> str:
    """Return why none of the images is in a list, with an example and the remedy."""
    remedy = "Make a split of these images: trueface splits"
    if not split.keys:
        return f"{split} is empty. {remedy}"
    example = f", such as {images[0].key} and {min(split.keys)}" if images else ""
    return f"none of the {len(images)} images is in {split}: the keys of both differ{example}. {remedy}"


def select(images: Sequence[Image], split: SplitList) -> tuple[Image, ...]:
    """Return those of `images` that are in `split`, in the same order; see `match`.

    Raises:
        DataError: none of them is.
    """
    selection = match(images, split.keys, split.others)
    if not selection.images:
        raise DataError(_describe_no_match(images, split))
    log.info(
        "split=%s images=%d renamed=%d unknown=%d",
        split.name, len(selection.images), selection.renamed, selection.unknown,
    )  # fmt: skip
    return selection.images


def split_images(
    data_root: Path,
    data: DataId,
    split: SplitList,
    vocabulary: DataIdResolver = BUILT_IN,
    *,
    missing: OnMissingImage = "stop",
) -> tuple[Image, ...]:
    """Return the images of `data` that are on disk and in `split`, in the defined order.

    A link that leads nowhere is a missing image.

    Args:
        data_root: the data root.
        data: which images.
        split: one list of a split.
        vocabulary: what the words of `data` mean, and which layout the folders have.
        missing: whether to stop where keys of unshared images have no file though the folder of
            their method is there, or to log a warning. Missing shared copies are only logged.
            "keep" does not look where links lead, for callers that open no file.

    Raises:
        DataError: a part has no image on disk, or none in the split; images are missing.
    """
    on_disk = survey(data_root, data, vocabulary)
    for remark in on_disk.remarks:
        log.info("data_root=%s %s", data_root, remark)
    chosen = select(on_disk.images, split)
    _refuse_idle(data_root, on_disk, chosen, split, vocabulary)
    _log_sources(on_disk, chosen, split)
    strangers = (image.key for image in on_disk.images if split.lacks(image.key))
    lacking = _missing_keys(chosen, split)
    stray = stray_keys(lacking, strangers, data_root, vocabulary)
    sources = frozenset().union(*on_disk.methods.values())
    own = select_by_sources(stray, sources, data_root, vocabulary) if stray else []
    others = sorted(set(stray).difference(own))
    outcomes: tuple[tuple[list[str], OnMissingImage], ...] = ((others, "skip"), (own, missing))
    for keys, then in outcomes:
        if keys:
            message = f"{len(keys)} of {len(split.keys)} keys of {split} belong to no subset and to no folder"
            message = f"{message} of {data_root}, such as {', '.join(keys[:SHOWN])}"
            _report_missing(message, then, describe_stray(keys, data_root, vocabulary))
    for modifier, keys in _iter_missing_keys(on_disk, chosen, split):
        if modifier not in UNSHARED:
            log.info("missing=%d modifier=%s split=%s", len(keys), modifier, split.name)
        else:
            message = f"{len(keys)} images of {split} have no file in {modifier!r}"
            _report_missing(f"{message} of {data_root}, such as {', '.join(keys[:SHOWN])}", missing)
    return chosen if missing == "keep" else _without_dangling(chosen, on_disk, split, missing)


def _without_dangling(
    selection: Sequence[Image], on_disk: ImageSurvey, split: SplitList, missing: OnMissingImage
) -> tuple[Image, ...]:
    """Return the images that are there behind their links.

    Raises:
        DataError: an unshared image is not, and shall stop the work; or none is there.
    """
    dangling = set(dangling_links((image.file for image in selection), on_disk.links))
    if not dangling:
        return tuple(selection)
    there = tuple(image for image in selection if image.file not in dangling)
    lost = [i.file for i in selection if i.file in dangling and i.modifier in UNSHARED]
    if lost or not there:
        lost = lost or sorted(dangling)
        message = f"{len(lost)} of {len(selection)} images of {split} are broken links"
        _report_missing(f"{message}, such as {describe_links(lost)}", missing if there else "stop")
    log.info("missing=%d reason=broken links split=%s", len(dangling), split.name)
    return there


def _report_missing(message: str, missing: OnMissingImage, remedy: str = "Restore them") -> None:
    """Stop for images that are missing, or log a warning.

    Raises:
        DataError: they shall stop the work.
    """
    if missing != "stop":
        log.warning("%s. They are left out.", message)
        return
    raise DataError(
        f"{message}. {remedy}, make a split of the images on disk with trueface splits, or "
        "set missing_images: skip."
    )


def read_lists(split_path: Path) -> dict[str, list[str]]:
    """Read the existing lists of a split, by name, in the order of its files.

    Raises:
        DataError: no split, or not lists of keys.
    """
    if split_path.is_file():
        content = _json(split_path)
        if not isinstance(content, dict):
            raise DataError(f"{split_path} is not a JSON object with {', '.join(NAMES)}")
        return {name: _keys(split_path, content[name]) for name in NAMES if name in content}
    if not split_path.is_dir():
        raise DataError(
            f"split {split_path} does not exist. Make one: trueface splits DATA_ROOT --out "
            f"{split_path}"
        )
    files = {name: split_path / f"{name}.json" for name in NAMES}
    return {name: _keys(path, _json(path)) for name, path in files.items() if path.is_file()}


def write_splits(split_path: Path, lists: Mapping[str, Sequence[str]]) -> None:
    """Write lists as a folder or as one .json file, depending on the name of `split_path`.

    A folder is created completely or not at all. In an existing folder each file is replaced
    atomically, and all of them together after all are safe on disk. A list that the new split does
    not have is deleted before. Only a crash between two renames leaves files of two splits.
    """
    split_path.parent.mkdir(parents=True, exist_ok=True)
    if split_path.suffix == ".json":
        write_atomic(split_path, _text({name: list(keys) for name, keys in lists.items()}))
        return
    there = split_path.exists()
    fresh = (split_path if there else split_path.parent) / f".{secrets.token_hex(8)}.tmp"
    fresh.mkdir()
    try:
        for name, keys in lists.items():
            write_atomic(fresh / f"{name}.json", _text(list(keys)))
        if there:
            for name in lists:
                # kept until the end: to free the blocks of a list takes longer than all renames
                with contextlib.suppress(OSError):
                    (fresh / f"{name}.old").hardlink_to(split_path / f"{name}.json")
            for name in (name for name in NAMES if name not in lists):
                (split_path / f"{name}.json").unlink(missing_ok=True)
            for name in lists:
                (fresh / f"{name}.json").replace(split_path / f"{name}.json")
        else:
            fresh.rename(split_path)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def read_list(file: Path, name: str) -> frozenset[str]:
    """Read one list of one of the files that `split_files` names; empty where it is not in it.

    Raises:
        DataError: it cannot be read, or holds no list of keys.
    """
    content = _json(file)
    if isinstance(content, dict):
        content = content.get(name, [])
    return frozenset(_keys(file, content))


def keys_digest(keys: Iterable[str]) -> str:
    """Return a digest of a list's keys, whatever their order."""
    return sha256_hex("\n".join(sorted(keys)))


def _text(content: object) -> str:
    return json.dumps(content, indent=4, ensure_ascii=False) + "\n"


def _json(path: Path) -> object:
    try:
        content: object = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read split {path}: {error}") from error
    return content


def _keys(path: Path, content: object) -> list[str]:
    if not isinstance(content, list) or not all(isinstance(key, str) for key in content):
        raise DataError(f"{path} is not a list of keys such as StyleGAN2/conf-f-psi-1/00012")
    # programs on Windows write backslashes
    return [key.replace("\\", "/") for key in content]


def _refuse_idle(
    data_root: Path,
    on_disk: ImageSurvey,
    selection: Sequence[Image],
    split: SplitList,
    vocabulary: DataIdResolver,
) -> None:
    """Refuse a part of which no image is in the split, whether it shares its images or not."""
    files = {image.file for image in selection} if len(on_disk.parts) > 1 else set()
    for part, images in on_disk.parts.items():
        if not files or any(image.file in files for image in images):
            continue
        if files.isdisjoint(of_part := set(part_files(data_root, part, vocabulary))):
            raise DataError(
                f"none of the {len(of_part)} images of {part} in {data_root} is in {split}. Leave "
                f"{part} out of the data ID, or make a split with it: trueface splits"
            )


def _missing_keys(images: Iterable[Image], split: SplitList) -> frozenset[str]:
    """Return the keys of a list that none of its images has, in full or by its first characters."""
    there = {image.key for image in images}
    return split.keys - there - {short_key(key) for key in there - split.keys}


def _log_sources(on_disk: ImageSurvey, selection: Sequence[Image], split: SplitList) -> None:
    """Log how many images of each source a list uses, of how many on disk."""
    counts = Counter((image.method, image.modifier) for image in on_disk.images)
    used = Counter((image.method, image.modifier) for image in selection)
    listed = Counter(map(method_of, split.keys))
    for source, count in sorted(counts.items())[:MOST_SOURCES]:
        log.info(
            "split=%s source=%s modifier=%s used=%d listed=%d on_disk=%d",
            split.name, source[0] or ".", source[1], used[source], listed[source[0]], count,
        )  # fmt: skip
    if len(counts) > MOST_SOURCES:
        log.info("split=%s further sources=%d", split.name, len(counts) - MOST_SOURCES)


def _iter_missing_keys(
    on_disk: ImageSurvey, selection: Sequence[Image], split: SplitList
) -> Iterator[tuple[str, list[str]]]:
    """Yield (modifier, keys without a file) where there are any, of methods whose folder is there."""
    there: dict[str, list[Image]] = defaultdict(list)
    for image in selection:
        there[image.modifier].append(image)
    for modifier, methods in on_disk.methods.items():
        lacking = _missing_keys(there[modifier], split)
        keys = sorted(key for key in lacking if method_of(key) in methods)
        if keys:
            yield modifier, keys
