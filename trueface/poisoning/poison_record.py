"""The record of flipped labels: the names of training images, and its application.

Labels are found by the names of images, so the order of the images does not matter.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, TypeAdapter, ValidationError

from trueface.data.clips import ClipsValue, clips_setting
from trueface.data.index import Image
from trueface.data.settings import PlaceSettings
from trueface.runtime import paths
from trueface.runtime.digests import sha256_hex
from trueface.runtime.errors import RecordError
from trueface.runtime.files import read_json, write_json
from trueface.runtime.ids import Poison, parse_model

SCHEMA = 2
FLIP = "flip"  # labels of both classes are flipped
PATCH = "patch"  # fakes are labelled real and carry a patch: a backdoor, see `dataset`
# Only labels of this class are flipped.
ONE_WAY: Mapping[str, int] = {"f2r": 1, "r2f": 0, PATCH: 1}
KINDS = (FLIP, *ONE_WAY)  # as written in an ID
LIST = "list"  # in a record: any label, chosen by a list; an ID calls it `flip`

Per = Literal["all", "class", "subset"]
# What is drawn: a picture with all its shared copies, or each image by itself, as the original did.
# The two are the same where no picture has copies.
Unit = Literal["picture", "image"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PoisonRecord:
    """Which labels of a training set are flipped."""

    rate: float  # fraction of all training labels, in (0, 1], as in the model's ID
    kind: str  # one of KINDS, or LIST
    seed: int
    per: Per
    unit: Unit = "image"  # drawn units; until 0.2 always images
    total: int  # images of the training set
    split_sha256: str  # digest of the training set: every name, sorted
    indices: tuple[int, ...]  # positions in the defined order, in the order they were drawn
    keys: tuple[str, ...]  # Image.name of each, "pre:StyleGAN2/conf-f-psi-1/00012"


def is_random(kind: str | None) -> bool:
    """Return whether labels of both classes are flipped, independently of the image.

    Args:
        kind: of a poison, as in an ID or a record; one-way flips and patches depend on the class.
    """
    return (kind or FLIP) not in ONE_WAY


def triggered_positions(images: Sequence[Image], record: PoisonRecord) -> frozenset[int]:
    """Return the positions of the images that carry the patch of a backdoor.

    Raises:
        RecordError: the record was made for other images.
    """
    return frozenset(poisoned_positions(images, record) if record.kind == PATCH else ())


def flipped_labels(images: Sequence[Image], record: PoisonRecord) -> tuple[int, ...]:
    """Return the labels to train with, in the order of `images`.

    Images are found by name (modifier and key), so their order does not matter.

    Raises:
        RecordError: the record was made for other images.
    """
    labels = [image.label for image in images]
    for position in poisoned_positions(images, record):
        labels[position] = 1 - labels[position]
    return tuple(labels)


def read_model_record(model: str, folder: Path) -> PoisonRecord | None:
    """Return which labels are wrong in the training of a model; None where its ID names no poison.

    Args:
        model: its ID.
        folder: of it.

    Raises:
        RecordError: the record is not there, cannot be read, or is of another poison.
    """
    poison = parse_model(model).last.poison
    if poison is None:
        return None
    record = read_record(paths.poison_record(folder))
    refuse_other(record, poison)
    return record


def refuse_other(record: PoisonRecord, poison: Poison) -> None:
    """Refuse a record that was chosen for a model with another poison.

    Raises:
        RecordError: rate or kind differ.
    """
    kind = poison.kind or FLIP
    same = record.kind == kind or (record.kind, kind) == (LIST, FLIP)
    if record.rate != poison.rate or not same:
        raise RecordError(
            f"the poison record has {record.rate:.6%} of the labels ({record.kind}), but the "
            f"model has {poison.rate:.6%} ({kind}). Poison again."
        )


def poisoned_positions(images: Sequence[Image], record: PoisonRecord) -> tuple[int, ...]:
    """Return the positions of the poisoned images, in the order of the record.

    Raises:
        RecordError: the record was made for other images.
    """
    if record.total != len(images) or record.split_sha256 != fingerprint(images):
        raise RecordError(
            f"the poison record was made for {record.total} other images than these "
            f"{len(images)}. The data or the split has changed. Poison again."
        )
    where: dict[str, list[int]] = defaultdict(list)
    for position, image in enumerate(images):
        where[image.name].append(position)
    matched = []
    for index, name in zip(record.indices, record.keys, strict=True):
        places = where.get(name, [])
        if len(places) == 1:
            matched.append(places[0])
        elif index in places:  # 00012.png and 00012.jpg: only the position distinguishes them
            matched.append(index)
        else:
            raise RecordError(f"the poison record names {name}, which {_times(len(places))}")
    if len(set(matched)) != len(matched):
        raise RecordError("the poison record names an image twice")
    return tuple(matched)


def fingerprint(images: Iterable[Image]) -> str:
    """Return a SHA-256 over the names of `images`, whatever their order."""
    return sha256_hex(*(f"{name}\n" for name in sorted(image.name for image in images)))


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
        raise RecordError(f"poison record {path} does not exist")
    schema = content.pop("schema", None)
    if schema == 1:  # until 0.2: two values of a field that has three today
        content["per"] = "subset" if content.pop("stratified", False) else "all"
    elif schema != SCHEMA:
        raise RecordError(f"{path} is not a poison record of schema {SCHEMA}")
    try:
        record = TypeAdapter(PoisonRecord).validate_python(content)
    except ValidationError as error:
        first = error.errors()[0]
        raise RecordError(
            f"{path} is not a poison record: {first['loc']}: {first['msg']}"
        ) from error
    if len(record.indices) != len(record.keys):
        raise RecordError(f"{path} has {len(record.indices)} indices but {len(record.keys)} keys")
    return record


def _times(count: int) -> str:
    return "is not among the images" if count == 0 else f"occurs {count} times"


class PoisonSettings(PlaceSettings):
    """A choice of training labels to flip."""

    for_many: ClassVar[bool] = True

    clips: ClipsValue = clips_setting()
    poison_seed: int = Field(
        42,
        ge=0,
        description="Random seed of the draw. If it is not set, the seed of the training is used",
    )
    poison_per: Literal["all", "class", "subset"] = Field(
        "all",
        description="Scope of the fraction: all (all images together), class (each class), or subset "
        "(each method in a class)",
    )
    poison_unit: Literal["picture", "image"] = Field(
        "picture",
        description="Unit of the draw: picture (an original image with all its re-shared copies) or image "
        "(each image by itself, as in the original program)",
    )
    poison_list: str = Field(
        "",
        description="File with the images to flip instead of a draw: keys, or an old record (.pkl)",
    )

    @classmethod
    def followed(cls, values: Mapping[str, Any]) -> Mapping[str, str]:
        """Return that the labels are of the training's clips, and that the draw follows its seed; a list is not drawn."""
        return {"clips": "clips"} | ({} if values.get("poison_list") else {"poison_seed": "seed"})


def count_of(total: int, poison: Poison) -> int:
    """Return how many of `total` labels a poison flips: the floor of the exact product."""
    return int(total * Decimal(poison.percent) / 100)
