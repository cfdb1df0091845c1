"""Chooses the training labels to flip: by rule and seed, or from a list.

The default rule is that of the original system, `random.Random(seed).sample(range(n), floor(n *
rate))` over the images in their defined order, so that old records can be reproduced. The floor is
exact. Floating point in the original lost a label at 29, 57 and 58 %. If the images contain several
copies of a picture, pictures are drawn, and all copies of a picture share their label: see `Unit`.
Only the labels of the training split are ever flipped.

A list contains names or keys, or is a record of this or the original system. A text file has one
name per line, a JSON file a list of them. A name is "pre:StyleGAN2/x/00012", a key is the same
without the modifier. Records of the original system contain files, which are found by their path
below Real/ or Fake/.
"""

import json
import logging
import random
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from trueface.data.image_folders import CLASSES
from trueface.data.image_keys import images_by_picture
from trueface.data.index import Image
from trueface.data.vocabulary import MODIFIERS
from trueface.poisoning.poison_record import (
    FLIP,
    KINDS,
    LIST,
    ONE_WAY,
    Per,
    PoisonRecord,
    Unit,
    count_of,
    fingerprint,
    read_record,
)
from trueface.runtime.errors import DataError, RecordError, UnknownName
from trueface.runtime.ids import Poison
from trueface.runtime.original.pickle_machine import shorten_for_message
from trueface.runtime.original.runs import OldPoison, read_poison
from trueface.runtime.rng import seeded_python_rng

SEED = 42  # the original's constant
LEEWAY = 0.005  # fraction of the labels by which a list's rate may differ from that of the ID


def choose_flips(
    images: Sequence[Image],
    poison: Poison,
    seed: int = SEED,
    *,
    flip_unit: Per = "all",
    unit: Unit = "picture",
    listed_names: Sequence[str] | None = None,
) -> PoisonRecord:
    """Choose the labels to flip.

    Args:
        images: the training split in the defined order.
        poison: fraction of all labels; kinds `f2r` and `patch` draw from the fakes only, `r2f`
            from the reals.
        seed: of the draw.
        flip_unit: draw the same fraction of each class, or of each method in it, to within one image. The
            total is the same.
        unit: of the draw. Pictures with copies, and videos with clips, are drawn while their labels stay within the rate.
            The count is lower by less than the number of copies of a picture (in each group of
            `flip_unit`), and the order of `images` does not matter.
        listed_names: names or keys to flip instead of a draw. A key means every copy of the picture.
            Their number must match the rate of `poison` to within half a point or one image.

    Raises:
        DataError: The class has fewer images than labels to flip, or there is no label to flip. Also
            if a list does not match the images, the rate or the kind of poison.
        UnknownName: an unknown kind of poison.
    """
    kind = poison.kind or FLIP
    if kind not in KINDS:
        raise UnknownName("kind of poison", kind, KINDS)
    if listed_names is None:
        rng = seeded_python_rng(seed)
        groups = _copies_by_picture(images) if unit == "picture" else None
        if groups is None:
            unit, indices = "image", _draw_flips(images, poison, rng, flip_unit)
        else:
            indices = _draw_pictures(images, groups, poison, rng, flip_unit)
    else:
        indices = _find_listed_images(images, poison, listed_names)
        kind = LIST if kind == FLIP else kind
    return PoisonRecord(
        rate=poison.rate,
        kind=kind,
        seed=seed,
        per=flip_unit if listed_names is None else "all",
        unit=unit if listed_names is None else "image",
        total=len(images),
        split_sha256=fingerprint(images),
        indices=tuple(indices),
        keys=tuple(images[index].name for index in indices),
    )


def _draw_flips(
    images: Sequence[Image], poison: Poison, rng: random.Random, flip_unit: Per
) -> Sequence[int]:
    candidates = _candidates(images, poison.kind or FLIP)
    count = _count(images, candidates, poison)
    if flip_unit == "all":
        return rng.sample(candidates, count)
    ordered = _group_candidates(images, candidates, flip_unit)
    shares = _apportion([len(group) for group in ordered], count)
    return [
        index
        for group, share in zip(ordered, shares, strict=True)
        for index in rng.sample(group, share)
    ]


def _draw_pictures(
    images: Sequence[Image],
    copies: Sequence[Sequence[int]],
    poison: Poison,
    rng: random.Random,
    flip_unit: Per,
) -> Sequence[int]:
    """Return the positions of the copies of the pictures that are drawn.

    Args:
        images: all.
        copies: the positions of each picture's copies, in an order that follows from names.
        poison: see `choose_flips`.
        rng: random numbers.
        flip_unit: see `choose_flips`.
    """
    candidates = frozenset(_candidates(images, poison.kind or FLIP))
    # copies share their label
    of_first = {group[0]: group for group in copies if group[0] in candidates}
    count = _count(images, [position for group in of_first.values() for position in group], poison)
    ordered = (
        [list(of_first)]
        if flip_unit == "all"
        else _group_candidates(images, list(of_first), flip_unit)
    )
    sizes = [sum(len(of_first[position]) for position in group) for group in ordered]
    drawn: list[int] = []
    for group, share in zip(ordered, _apportion(sizes, count), strict=True):
        left = share
        for position in rng.sample(group, len(group)):
            if len(of_first[position]) <= left:
                drawn += of_first[position]
                left -= len(of_first[position])
    if not drawn:
        raise DataError(
            f"poison {poison} of {len(images)} images is impossible: {count} labels are to be "
            "flipped, but every picture has more copies. Raise the poison, or set poison_unit: "
            "image."
        )
    return drawn


def _copies_by_picture(images: Sequence[Image]) -> list[tuple[int, ...]] | None:
    """Return the positions of each picture's copies, or of each video's clips; None where none has a second one."""
    if images and images[0].frames:
        return _clips_by_video(images)
    if len({image.modifier for image in images}) < 2:  # the usual case: no copies
        return None
    groups = images_by_picture(images)
    if len(groups) == len(images):
        return None
    places = {image.file: position for position, image in enumerate(images)}
    return [tuple(places[image.file] for image in group) for group in groups]


def _clips_by_video(images: Sequence[Image]) -> list[tuple[int, ...]]:
    """Return the positions of the clips of each video, all of its copies included."""
    groups: dict[tuple[int, str], list[int]] = defaultdict(list)
    for position, clip in enumerate(images):
        groups[clip.label, clip.key.rpartition("/")[0]].append(position)
    return [tuple(group) for _, group in sorted(groups.items())]


def _count(images: Sequence[Image], candidates: Sequence[int], poison: Poison) -> int:
    """Return how many labels to flip.

    Raises:
        DataError: none, or more than there are.
    """
    count = count_of(len(images), poison)
    if not 0 < count <= len(candidates):
        advice = "Raise the poison"
        if count:  # there are images, then
            most = 100 * len(candidates) // len(images)
            advice = f"At most {most} % of all labels can be flipped"
        raise DataError(
            f"poison {poison} of {len(images)} images is impossible: {count} labels are to be "
            f"flipped, and {len(candidates)} images can be chosen. {advice}."
        )
    return count


def _group_candidates(
    images: Sequence[Image], candidates: Sequence[int], flip_unit: Per
) -> list[list[int]]:
    """Return candidates by class, or by method in it, in the order of the classes and methods."""
    groups: dict[tuple[int, str], list[int]] = defaultdict(list)
    for index in candidates:
        image = images[index]
        groups[image.label, image.method if flip_unit == "subset" else ""].append(index)
    return [groups[group] for group in sorted(groups)]


def _candidates(images: Sequence[Image], kind: str) -> Sequence[int]:
    if kind == FLIP:
        return range(len(images))
    return [index for index, image in enumerate(images) if image.label == ONE_WAY[kind]]


def _find_listed_images(
    images: Sequence[Image], poison: Poison, listed_names: Sequence[str]
) -> Sequence[int]:
    """Return the positions of the listed images, each once, in the order of the list."""
    lookup = _ImageIndex(images)
    names, copies = lookup.names, lookup.keys
    unknown = [entry for entry in listed_names if entry not in names and entry not in copies]
    if unknown:
        raise DataError(
            f"{len(unknown)} of the {len(listed_names)} images in the poison list are not among the "
            f"{len(images)} training images, such as {unknown[0]!r}. A key is the path in Real/ "
            "or Fake/ without suffix."
        )
    positions: dict[int, None] = {}
    for entry in listed_names:
        places = names[entry] if entry in names else copies[entry]
        if len({images[position].name for position in places}) < len(places):
            raise DataError(
                f"the poison list names {entry}, but two files of different types have this name"
            )
        positions.update(dict.fromkeys(places))
    _refuse_unlike(images, poison, tuple(positions))
    return tuple(positions)


def _refuse_unlike(images: Sequence[Image], poison: Poison, flipped_rows: Sequence[int]) -> None:
    """Refuse a list whose rate or class differs from the model's ID."""
    total, expected = len(images), len(images) * poison.rate
    if not flipped_rows or abs(len(flipped_rows) - expected) > max(1, LEEWAY * total):
        raise DataError(
            f"the poison list names {len(flipped_rows)} of {total} training images "
            f"({len(flipped_rows) / total:.2%}), but the model's ID has {poison}. Name the model "
            f"%{100 * len(flipped_rows) / total:.3g}."
        )
    label = ONE_WAY.get(poison.kind or FLIP)
    others = [
        position
        for position in flipped_rows
        if label is not None and images[position].label != label
    ]
    if others:
        raise DataError(
            f"poison {poison} flips only {'fakes' if label else 'real images'}, but {len(others)} "
            f"of the {len(flipped_rows)} images in its list have the other label, such as "
            f"{images[others[0]].name}"
        )


def _apportion(sizes: Sequence[int], count: int) -> list[int]:
    """Return how many of each group, as near to the same share as whole numbers allow."""
    total = sum(sizes)
    shares = [size * count // total for size in sizes]
    # largest remainder first; ties go to the earlier group
    order = sorted(range(len(sizes)), key=lambda group: -(sizes[group] * count % total))
    for group in order[: count - sum(shares)]:
        shares[group] += 1
    return shares


OLD_SUFFIXES = frozenset({".pkl", ".pickle"})

log = logging.getLogger(__name__)


def read_list(path: Path, images: Sequence[Image]) -> tuple[str, ...]:
    """Return the names and keys that a file lists, for `label_flips.choose_flips`.

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
    names = _parse_json(path, text) if text.lstrip().startswith("[") else _parse_lines(text)
    if not names:
        raise DataError(f"the poison list {path} contains no images. Write one per line.")
    return names


def _parse_lines(text: str) -> tuple[str, ...]:
    return tuple(line for line in map(str.strip, text.splitlines()) if line)


def _parse_json(path: Path, text: str) -> tuple[str, ...]:
    try:
        names = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"the poison list {path} is not valid JSON: {error}") from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DataError(f"the poison list {path} must contain only names, such as pre:FFHQ/00012")
    return tuple(names)


def _old_names(path: Path, record: OldPoison, images: Sequence[Image]) -> tuple[str, ...]:
    """Return the names of an old record's images."""
    same_total = record.total == len(images)
    lookup = _ImageIndex(images)
    positions = [
        lookup.position(file, index if same_total else None)
        for index, (file, _) in zip(record.indices, record.samples, strict=True)
    ]
    missing = [at for at, position in enumerate(positions) if position is None]
    if len(missing) == len(positions) and same_total and _same_names(record, images):
        log.warning(
            "list=%s reason=its folders have other names here, so its positions are used", path
        )
        positions, missing = list(record.indices), []
    if missing:
        raise RecordError(
            f"{path} was not made from this training split: {len(missing)} of its "
            f"{len(positions)} images are not in it, such as "
            f"{shorten_for_message(record.samples[missing[0]][0])}. The record counts {record.total} images, "
            f"the training split has {len(images)}. The original program overwrote the record of "
            "the training split with that of the validation split. Leave poison_list out to "
            "choose the images again."
        )
    places = [position for position in positions if position is not None]
    labels = [images[position].label for position in places]
    unflipped = sum(
        label == recorded for label, (_, recorded) in zip(labels, record.samples, strict=True)
    )
    if unflipped:
        raise RecordError(
            f"{path} was not made from this training split: {unflipped} of its {len(positions)} "
            "flipped labels are equal to the labels of the images. Leave poison_list out to "
            "choose the images again."
        )
    return tuple(images[position].name for position in places)


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
