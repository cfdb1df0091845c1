"""A picture of a few faces, each beside its fakes of every type."""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageDraw

from trueface.data.forging.blending import Pixels, forged
from trueface.data.forging.faces import limited, read_faces
from trueface.data.forging.pictures import like, nearest, read_face, thumbnail
from trueface.data.forging.registry import SPECS, parse_types
from trueface.data.forging.settings import ForgeSettings
from trueface.runtime.errors import DataError
from trueface.runtime.files import write_atomic
from trueface.runtime.rng import stream

ROWS = 6  # faces, of as many groups as there are
LOOKED_AT = 40  # faces of each group among which donors are looked for
SIDE, GAP, TITLE = 192, 6, 16  # pixels


def write_contact_sheet(path: Path, faces: Path, settings: ForgeSettings) -> int:
    """Write a PNG: a row for each face with its group, a column for real and for each type.

    Donors are those of the set where it has no more than 40 faces a group; else of the first 40.
    A type that needs a donor stays empty where a face is alone in its group. Returns the rows.

    Raises:
        DataError: the faces cannot be read, or there is none.
    """
    rows = list(_rows(faces, settings))
    if not rows:
        raise DataError(f"no face in {faces}; a picture needs at least one")
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


def _rows(faces: Path, settings: ForgeSettings) -> Iterator[tuple[str, list[Pixels | None]]]:
    """Yield each face's title and its pictures: itself, then a fake of each type."""
    cells = limited(
        read_faces(faces).faces, dict.fromkeys(settings.limits, LOOKED_AT), settings.seed
    )
    splits = {split for split, _ in cells}
    shown = "train" if "train" in splits else min(splits, default="")
    groups = [members for (split, _), members in cells.items() if split == shown]
    for number in range(ROWS if groups else 0):
        members, place = groups[number % len(groups)], number // len(groups)
        if place >= len(members):
            continue
        pixels = [read_face(face.file, face.place) for face in members]
        near = nearest(np.stack([thumbnail(each) for each in pixels]))[place]
        face, own = members[place], pixels[place]
        chance = stream("forge", settings.seed, face.path)
        donor = like(pixels[near[0]], own.shape) if len(near) else None
        fakes = [
            None
            if SPECS[spec.name].needs_donor and donor is None
            else forged(own, donor, spec, chance, settings.strength)
            for spec in parse_types(settings.types)
        ]
        yield f"{face.group} {face.path}".strip(), [own, *fakes]
