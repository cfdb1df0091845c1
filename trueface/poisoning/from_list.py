"""Lists of images whose labels are to be flipped: names or keys, a record of ours, or an old one.

A text file has one a line, a JSON file a list of them. A name is "pre:StyleGAN2/x/00012", a key
the same without the modifier. Of the original system's records, which name files, those are
found by their path below Real/ or Fake/.
"""

import json
import logging
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from trueface.data.folder_names import MODIFIERS
from trueface.data.image_folders import CLASSES
from trueface.data.index import Image
from trueface.legacy.original_runs import OldPoison, read_poison
from trueface.legacy.pickle_machine import shown
from trueface.poisoning.poison_record import read_record
from trueface.runtime.errors import DataError, RecordError

OLD_SUFFIXES = frozenset({".pkl", ".pickle"})

log = logging.getLogger(__name__)


def read_list(path: Path, images: Sequence[Image]) -> tuple[str, ...]:
    """Return the names and keys that a file lists, for `label_flips.choose`.

    Args:
        path: a text, JSON or old pickle file.
        images: the training split in the defined order; only an old record is matched with it.

    Raises:
        DataError: the file cannot be read, or lists nothing.
        RecordError: a record that is broken, or an old one that was not made of these images.
    """
    if path.suffix.lower() in OLD_SUFFIXES:
        return _old_names(path, read_poison(path), images)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"the poison list {path} cannot be read: {error}") from error
    if text.lstrip().startswith("{"):
        return read_record(path).keys
    names = _of_json(path, text) if text.lstrip().startswith("[") else _of_lines(text)
    if not names:
        raise DataError(f"the poison list {path} names no image; give one a line")
    return names


def _of_lines(text: str) -> tuple[str, ...]:
    return tuple(line for line in map(str.strip, text.splitlines()) if line)


def _of_json(path: Path, text: str) -> tuple[str, ...]:
    try:
        names = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"the poison list {path} is no JSON: {error}") from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DataError(f"the poison list {path} has more in it than names such as pre:FFHQ/00012")
    return tuple(names)


def _old_names(path: Path, record: OldPoison, images: Sequence[Image]) -> tuple[str, ...]:
    """Return the names of an old record's images."""
    same_total = record.total == len(images)
    lookup = _ImageIndex(images)
    positions = [
        lookup.position(file, index if same_total else None)
        for index, (file, _) in zip(record.indices, record.samples, strict=True)
    ]
    missing = [at for at, place in enumerate(positions) if place is None]
    if len(missing) == len(positions) and same_total and _same_names(record, images):
        log.warning("list=%s reason=its folders have other names here; its positions count", path)
        positions, missing = list(record.indices), []
    if missing:
        raise RecordError(
            f"{path} was not made of this training split: {len(missing)} of its {len(positions)} "
            f"images are not in it, such as {shown(record.samples[missing[0]][0])}; it counts "
            f"{record.total} images, the training split has {len(images)}; the original system "
            "wrote the record of its validation split over that of the training; leave "
            "poison_list out to choose anew"
        )
    places = [place for place in positions if place is not None]
    labels = [images[place].label for place in places]
    unflipped = sum(
        label == recorded for label, (_, recorded) in zip(labels, record.samples, strict=True)
    )
    if unflipped:
        raise RecordError(
            f"{path} was not made of this training split: {unflipped} of its {len(positions)} flipped "
            "labels are those that the images have; leave poison_list out to choose anew"
        )
    return tuple(images[place].name for place in places)


class _ImageIndex:
    """The training images by name and by key, to find those of old paths."""

    def __init__(self, images: Sequence[Image]) -> None:
        self.names: dict[str, list[int]] = defaultdict(list)
        self.keys: dict[str, list[int]] = defaultdict(list)
        for position, image in enumerate(images):
            self.names[image.name].append(position)
            self.keys[image.key].append(position)

    def position(self, file: str, index: int | None) -> int | None:
        """Return the position of an old path's image; None where it is missing or ambiguous."""
        modifier, key = _modifier_and_key(file)
        places = self.names.get(f"{modifier}:{key}", []) if modifier else self.keys.get(key, [])
        if len(places) == 1:
            return places[0]
        return index if index in places else None


def _modifier_and_key(file: str) -> tuple[str, str]:
    """Return modifier and key of a path; the modifier is "" where its folder is unknown."""
    parts = file.removesuffix(PurePosixPath(file).suffix).split("/")
    classes = [at for at, part in enumerate(parts) if part.casefold() in CLASSES]
    if not classes:
        return "", file
    above, key = "/".join(parts[: classes[-1]]), "/".join(parts[classes[-1] + 1 :])
    for modifier, folders in MODIFIERS.items():
        if any(f"/{above}".endswith(f"/{folder}") for folder in folders):
            return modifier, key
    return "", key


def _same_names(record: OldPoison, images: Sequence[Image]) -> bool:
    """Return whether the images at the positions of a record have the names of its files."""
    return all(
        PurePosixPath(file).stem == images[index].key.rpartition("/")[2]
        for index, (file, _) in zip(record.indices, record.samples, strict=True)
    )
