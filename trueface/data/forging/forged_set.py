"""A set of real and forged faces in the layout of TrueFace, created completely or not at all.

<root>/PreSocial/Real/Faces/<name>.jpg            each face, compressed again
<root>/PreSocial/Fake/Forged-<type>/<name>.jpg    its fake, compressed in the same way
<root>/forged.json                                the marker file: faces and settings

The same faces and settings give the same bytes, in any order of the table and with any number of
processes.

Its tables have the columns of seed 002. It contains splits, and words for data IDs:

`<root>/faces.csv`                         All images. `spe_label` is 0 for real, 1 to 5 for the type.
`<root>/csv/realtrain.csv, faketrain.csv`  The five tables of seed 002, if the faces have groups.
`<root>/csv/realval.csv, fakeval.csv, test.csv`
`<root>/splits/train.json, val.json, test.json`
`<root>/dataset.yaml`                      A file to include in a task file.

A contact sheet shows a few faces before a set is made, each next to its fakes of every type.
"""

import io
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageDraw

from trueface.data.forging.blending import (
    Pixels,
    Thumbnails,
    encode_face,
    forge_face,
    nearest_faces,
    quality_of,
    resize_like,
    thumbnail,
)
from trueface.data.forging.plan import MARK, ForgingPlan, Pair, limit_faces, make_plan, read_faces
from trueface.data.forging.registry import SPECS, parse_types
from trueface.data.forging.set_tables import write_tables
from trueface.data.forging.settings import ForgeSettings
from trueface.data.loading.decoding import decode_array
from trueface.runtime.artifact import Artifact
from trueface.runtime.digests import sha256_hex
from trueface.runtime.errors import BadImageError, DataError
from trueface.runtime.files import Json, write_atomic
from trueface.runtime.process_pool import chunks_of, map_chunks, process_in_chunks
from trueface.runtime.rng import numpy_rng

SCHEMA = 1
RECIPE = 1  # to be raised whenever the same faces and settings would give other images
CHUNK = 32  # pairs that a process makes before it reports
Progress = Callable[[int, int], None]

log = logging.getLogger(__name__)
ROWS = 6  # faces, of as many groups as there are
LOOKED_AT = 40  # faces of each group among which donors are looked for
SIDE, GAP, TITLE = 192, 6, 16  # pixels


@dataclass(frozen=True, slots=True, kw_only=True)
class ForgedPair:
    """A pair to be made, and the faces that may lend it a part."""

    pair: Pair
    donors: tuple[tuple[Path, str], ...]  # file and where it is named, the nearest first


def make_forged(
    root: Path,
    faces: Path,
    settings: ForgeSettings,
    *,
    workers: int | None = None,
    progress: Progress | None = None,
) -> dict[str, Json]:
    """Make a forged set and return the content of its marker file. Keep an existing set.

    Args:
        root: absolute. Missing, empty, or with a set of the same faces and settings.
        faces: a table or a folder.
        settings: `data_root` and `faces` are those above.
        workers: processes. None uses one for each available core.
        progress: called with the number of pairs made and their total. While another process writes
            the folder, both are 0. An exception from it ends the work, and nothing is kept.

    Raises:
        DataError: the table or an image of it cannot be read; the folder holds something else, or
            cannot be written.
        UsageError: the faces do not have these cells.
        MachineError: a process was killed.
    """
    table = read_faces(faces)
    plan = make_plan(table, settings)
    mark: dict[str, Json] = {
        "schema": SCHEMA,
        "recipe": RECIPE,
        "settings": settings.model_dump(mode="json", exclude={"data_root", "faces"}),
        "faces_sha256": _digest(plan),
    }
    done = {**mark, **_counts(plan)}
    artifact = Artifact("forged set", root, MARK, mark)
    with artifact.lock_place(progress):
        if artifact.is_complete(
            (path for pair in plan.pairs for path, _ in pair.images), _describe_other
        ):
            return done
        for reason in remarks(plan):
            log.warning("faces=%s %s", faces, reason)
        with artifact.create_folder(done) as folder:
            _make(
                folder, plan, settings, workers, doing=f"forged faces for {root}", progress=progress
            )
            write_tables(folder, root, plan)
    return done


def _describe_other(key: str, stored_identity: Mapping[str, Json]) -> str:
    noun = "faces" if key == "faces_sha256" else "settings"
    settings = json.dumps(stored_identity.get("settings"))
    return f"a forged set with other {noun} ({settings}, recipe {stored_identity.get('recipe')})"


def remarks(plan: ForgingPlan) -> Iterator[str]:
    """Yield what is worth a warning, each in words."""
    if plan.lonely:
        yield (
            f"{plan.lonely} fakes have no donor, because their faces are the only ones of their "
            "group and list. They are self-blended instead."
        )
    for name, keys in plan.lists.items():
        if not keys:
            yield f"the list {name} is empty"


def read_face(file: Path, named_in: str) -> Pixels:
    """Return the pixels of an image file, (H, W, 3) RGB.

    Args:
        file: in one of `image_files.FORMATS`.
        named_in: table and line that name the file, for the message.

    Raises:
        DataError: it is missing, cut off, or no image.
    """
    try:
        return decode_array(file)
    except BadImageError as error:
        raise DataError(
            f"{named_in}: cannot decode {file}: {error.reason}. Fix the file or leave it out."
        ) from error


def forged_pairs(plan: ForgingPlan, thumbnails: Sequence[Thumbnails]) -> list[ForgedPair]:
    """Return the pairs of images to make.

    Args:
        plan: all pairs.
        thumbnails: of the face of each pair. Empty if no type needs a donor.
    """
    donors: dict[int, tuple[tuple[Path, str], ...]] = {}
    for places in plan.lenders.values() if thumbnails else ():
        near = nearest_faces(np.stack([thumbnails[position] for position in places]))
        for position, others in zip(places, near.tolist(), strict=True):
            lending = (plan.pairs[places[other]].face for other in others)
            donors[position] = tuple((face.file, face.named_in) for face in lending)
    return [
        ForgedPair(pair=pair, donors=donors.get(position, ()) if pair.spec.needs_donor else ())
        for position, pair in enumerate(plan.pairs)
        if pair.images
    ]


def make_pair_images(work: ForgedPair, settings: ForgeSettings) -> Iterator[tuple[str, bytes]]:
    """Yield each kept image of a pair, as a file below the data root: real, then fake.

    Raises:
        DataError: an image cannot be decoded.
    """
    pair = work.pair
    face = read_face(pair.face.file, pair.face.named_in)
    rng = numpy_rng(f"forge/{settings.seed}/{pair.face.path}")
    quality, draw = quality_of(rng), rng.random()
    for path, number in pair.images:
        if number == 0:
            yield path, encode_face(face, quality)
            continue
        donor = None
        if pair.spec.needs_donor:
            donor = resize_like(read_face(*work.donors[int(draw * len(work.donors))]), face.shape)
        pixels = forge_face(face, donor, pair.spec, rng, settings.strength)
        yield path, encode_face(pixels, quality)


def _make(
    folder: Path,
    plan: ForgingPlan,
    settings: ForgeSettings,
    workers: int | None,
    *,
    doing: str,
    progress: Progress | None,
) -> None:
    thumbnails: list[Thumbnails] = []
    if any(pair.spec.needs_donor for pair in plan.pairs):
        for part in map_chunks(_thumbnails, chunks_of(plan.pairs, CHUNK), workers, doing=doing):
            thumbnails += part
    works = forged_pairs(plan, thumbnails)
    for above in {path.rpartition("/")[0] for work in works for path, _ in work.pair.images}:
        (folder / above).mkdir(parents=True)
    write, total = partial(_write, folder, settings), len(plan.pairs)
    process_in_chunks(write, works, CHUNK, workers, doing=doing, total=total, progress=progress)


def _thumbnails(pairs: Sequence[Pair]) -> list[Thumbnails]:
    return [thumbnail(read_face(pair.face.file, pair.face.named_in)) for pair in pairs]


def _write(folder: Path, settings: ForgeSettings, works: Sequence[ForgedPair]) -> None:
    for work in works:
        for path, content in make_pair_images(work, settings):
            (folder / path).write_bytes(content)


def _digest(plan: ForgingPlan) -> str:
    """Return a digest of all rows and of their files' sizes."""
    rows = sorted(
        [face.path, face.split, face.file.stat().st_size, sorted(face.columns.items())]
        for face in plan.table.faces
    )
    return sha256_hex(json.dumps(rows))


def _counts(plan: ForgingPlan) -> dict[str, Json]:
    groups = sorted({group for _, group in plan.lenders if group})
    types: Mapping[str, Json] = dict(plan.counts)
    return {
        "images": sum(plan.counts.values()),
        "types": dict(types),
        "keys": {name: len(keys) for name, keys in plan.lists.items()},
        "groups": list(groups),
        "without_donor": plan.lonely,
    }


def write_contact_sheet(path: Path, faces: Path, settings: ForgeSettings) -> int:
    """Write a PNG with one row per face and its group, and one column for real and each type.

    Donors are those of the set if it has at most 40 faces per group, otherwise of the first 40. A
    type that needs a donor stays empty if a face is the only one of its group. Returns the number
    of rows.

    Raises:
        DataError: the faces cannot be read, or there is none.
    """
    rows = list(_sheet_rows(faces, settings))
    if not rows:
        raise DataError(f"{faces} has no faces. A preview needs at least one.")
    titles = ("real", *(spec.name for spec in parse_types(settings.types)))
    height = TITLE + len(rows) * (SIDE + TITLE + GAP)
    sheet = PIL.Image.new("RGB", (len(titles) * (SIDE + GAP) + GAP, height), "white")
    draw = PIL.ImageDraw.Draw(sheet)
    for column, title in enumerate(titles):
        draw.text((GAP + column * (SIDE + GAP), 2), title, fill="black")
    for number, (title, pictures) in enumerate(rows):
        top = TITLE + number * (SIDE + TITLE + GAP)
        # the built-in font has Latin letters only
        draw.text((GAP, top), title.encode("ascii", "replace").decode(), fill="black")
        for column, pixels in enumerate(pictures):
            if pixels is not None:
                image = PIL.Image.fromarray(pixels).resize((SIDE, SIDE))
                sheet.paste(image, (GAP + column * (SIDE + GAP), top + TITLE))
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, buffer.getvalue())
    return len(rows)


def _sheet_rows(faces: Path, settings: ForgeSettings) -> Iterator[tuple[str, list[Pixels | None]]]:
    """Yield each face's title and its pictures: itself, then a fake of each type."""
    cells = limit_faces(
        read_faces(faces).faces, dict.fromkeys(settings.limits, LOOKED_AT), settings.seed
    )
    splits = {split for split, _ in cells}
    shown = "train" if "train" in splits else min(splits, default="")
    groups = [members for (split, _), members in cells.items() if split == shown]
    for number in range(ROWS if groups else 0):
        members, row = groups[number % len(groups)], number // len(groups)
        if row >= len(members):
            continue
        pixels = [read_face(face.file, face.named_in) for face in members]
        near = nearest_faces(np.stack([thumbnail(each) for each in pixels]))[row]
        face, own = members[row], pixels[row]
        rng = numpy_rng(f"forge/{settings.seed}/{face.path}")
        donor = resize_like(pixels[near[0]], own.shape) if len(near) else None
        fakes = [
            None
            if SPECS[spec.name].needs_donor and donor is None
            else forge_face(own, donor, spec, rng, settings.strength)
            for spec in parse_types(settings.types)
        ]
        yield f"{face.group} {face.path}".strip(), [own, *fakes]
