"""Which training labels are wrong: chosen by rule and seed, written down by key, applied by key.

The default rule is that of the original system, `random.Random(seed).sample(range(n),
int(n * rate))` over the images in their defined order, so that old records can be reproduced.
Only the labels of the training split are ever flipped.
"""

import hashlib
import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from launcher.api import Poison, UnknownName, read_json, write_json
from trueface.errors import DataError, RecordError
from trueface.index import Image

SCHEMA = 1
SEED = 42  # the original's constant
FLIP = "flip"  # any label is turned round
ONE_WAY = {"f2r": 1, "r2f": 0}  # only images of this label are turned round
KINDS = (FLIP, *ONE_WAY)


@dataclass(frozen=True, slots=True, kw_only=True)
class PoisonRecord:
    """Which labels of a training set are wrong."""

    rate: float  # share of all training labels, in (0, 1]
    kind: str  # one of KINDS
    seed: int
    stratified: bool
    total: int  # images of the training set
    split_sha256: str  # of the training set: every name, sorted
    indices: tuple[int, ...]  # positions in the defined order, in the order they were drawn
    keys: tuple[str, ...]  # Image.name of each, "pre:StyleGAN2/conf-f-psi-1/00012"


def choose(
    images: Sequence[Image], poison: Poison, seed: int = SEED, *, stratified: bool = False
) -> PoisonRecord:
    """Choose whose labels are flipped.

    Args:
        images: the training split in the defined order.
        poison: share of all labels; kind `f2r` draws from the fakes only, `r2f` from the reals.
        seed: of the draw.
        stratified: draw the same share of each (label, method) group instead, to within one
            image; the total is the same.

    Raises:
        DataError: fewer images of the wanted class than labels to flip, or none to flip.
        UnknownName: a kind of poison that is not known.
    """
    kind = poison.kind or FLIP
    if kind not in KINDS:
        raise UnknownName("kind of poison", kind, KINDS)
    count = int(len(images) * poison.rate)
    candidates = _candidates(images, kind)
    if not 0 < count <= len(candidates):
        raise DataError(
            f"poison {poison} of {len(images)} images is impossible: {count} labels to flip, "
            f"{len(candidates)} images to choose from"
        )
    draw = random.Random(seed)
    if stratified:
        indices = _stratified(images, candidates, count, draw)
    else:
        indices = draw.sample(candidates, count)
    return PoisonRecord(
        rate=poison.rate,
        kind=kind,
        seed=seed,
        stratified=stratified,
        total=len(images),
        split_sha256=fingerprint(images),
        indices=tuple(indices),
        keys=tuple(images[index].name for index in indices),
    )


def flipped(images: Sequence[Image], record: PoisonRecord) -> tuple[int, ...]:
    """Return the labels as trained, in the order of `images`.

    Images are found by name (modifier and key), so that their order does not matter.

    Raises:
        RecordError: the record was made for other images.
    """
    labels = [image.label for image in images]
    for position in positions(images, record):
        labels[position] = 1 - labels[position]
    return tuple(labels)


def refuse_other(record: PoisonRecord, wanted: Poison) -> None:
    """Refuse a record that was chosen for a model of another poison.

    Raises:
        RecordError: share or kind differ.
    """
    kind = wanted.kind or FLIP
    if (record.rate, record.kind) != (wanted.rate, kind):
        raise RecordError(
            f"the poison record is of {record.rate:.6%} of the labels ({record.kind}), the model "
            f"says {wanted.rate:.6%} ({kind}); poison again"
        )


def positions(images: Sequence[Image], record: PoisonRecord) -> tuple[int, ...]:
    """Return where in `images` the poisoned ones are, in the order of the record.

    Raises:
        RecordError: the record was made for other images.
    """
    if record.total != len(images) or record.split_sha256 != fingerprint(images):
        raise RecordError(
            f"the poison record is of {record.total} other images than the {len(images)} at hand: "
            "data or splits have changed since; poison again"
        )
    where: dict[str, list[int]] = defaultdict(list)
    for position, image in enumerate(images):
        where[image.name].append(position)
    found = []
    for index, name in zip(record.indices, record.keys, strict=True):
        places = where.get(name, [])
        if len(places) == 1:
            found.append(places[0])
        elif index in places:  # 00012.png beside 00012.jpg: here only the position tells which
            found.append(index)
        else:
            raise RecordError(f"the poison record names {name}, which {_times(len(places))}")
    if len(set(found)) != len(found):
        raise RecordError("the poison record names an image twice")
    return tuple(found)


def fingerprint(images: Iterable[Image]) -> str:
    """Return a SHA-256 over the names of `images`, whatever their order."""
    digest = hashlib.sha256()
    for name in sorted(image.name for image in images):
        digest.update(name.encode(errors="surrogateescape") + b"\n")
    return digest.hexdigest()


def write_record(path: Path, record: PoisonRecord) -> None:
    """Write `record` atomically as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fields: dict[str, Any] = asdict(record)
    write_json(path, {"schema": SCHEMA, **fields})


def read_record(path: Path) -> PoisonRecord:
    """Read a record.

    Raises:
        RecordError: no such file, or not a record.
    """
    content = read_json(path)
    if content is None:
        raise RecordError(f"no poison record in {path}")
    if content.pop("schema", None) != SCHEMA:
        raise RecordError(f"{path} is not a poison record of schema {SCHEMA}")
    try:
        record = TypeAdapter(PoisonRecord).validate_python(content)
    except ValidationError as error:
        first = error.errors()[0]
        raise RecordError(
            f"{path} is not a poison record: {first['loc']}: {first['msg']}"
        ) from error
    if len(record.indices) != len(record.keys):
        raise RecordError(f"{path} has {len(record.indices)} indices, {len(record.keys)} keys")
    return record


def _candidates(images: Sequence[Image], kind: str) -> Sequence[int]:
    if kind == FLIP:
        return range(len(images))
    return [index for index, image in enumerate(images) if image.label == ONE_WAY[kind]]


def _stratified(
    images: Sequence[Image], candidates: Sequence[int], count: int, draw: random.Random
) -> list[int]:
    groups: dict[tuple[int, str], list[int]] = defaultdict(list)
    for index in candidates:
        groups[images[index].label, images[index].method].append(index)
    ordered = [groups[group] for group in sorted(groups)]
    shares = _apportion([len(group) for group in ordered], count)
    return [
        index
        for group, share in zip(ordered, shares, strict=True)
        for index in draw.sample(group, share)
    ]


def _apportion(sizes: Sequence[int], count: int) -> list[int]:
    """Return how many of each group, as near to the same share as whole numbers allow."""
    total = sum(sizes)
    shares = [size * count // total for size in sizes]
    # largest remainder first; ties go to the earlier group
    order = sorted(range(len(sizes)), key=lambda group: -(sizes[group] * count % total))
    for group in order[: count - sum(shares)]:
        shares[group] += 1
    return shares


def _times(count: int) -> str:
    return "is not among the images" if count == 0 else f"is there {count} times"
