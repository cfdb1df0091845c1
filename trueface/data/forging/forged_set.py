"""A set of real faces and forged ones in the layout of TrueFace: whole, or not there at all.

<root>/PreSocial/Real/Faces/<name>.jpg            each face, compressed once more
<root>/PreSocial/Fake/Forged-<type>/<name>.jpg    its fake, compressed alike
<root>/forged.json                                the mark: of which faces and settings
and what `tables` writes. The same faces and settings give the same bytes, in any order of the table
and with any number of processes.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from trueface.data.forging.blending import forged, stream
from trueface.data.forging.donors import Thumbnails, nearest, thumbnail
from trueface.data.forging.jpeg import encoded, like, quality_of, read_face
from trueface.data.forging.listing import read_faces
from trueface.data.forging.plan import ForgingPlan, Pair, plan_of
from trueface.data.forging.settings import MARK, ForgeSettings
from trueface.data.forging.tables import write_tables
from trueface.runtime.artifact import Artifact
from trueface.runtime.files import Json
from trueface.runtime.process_pool import chunks_of, spread

SCHEMA = 1
RECIPE = 1  # to be raised whenever the same faces and settings would give other images
CHUNK = 32  # pairs that a process makes before it reports
Progress = Callable[[int, int], None]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
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
    """Make a forged set; return what its mark says. One that is there already is left as it is.

    Args:
        root: absolute; absent, empty, or holding a set of the same faces and settings.
        faces: a table or a folder.
        settings: what to make; `data_root` and `faces` are those above.
        workers: processes; None: one for each core that we may use.
        progress: called with the number of pairs made and their total; what it raises ends the
            work, and nothing of it stays.

    Raises:
        DataError: the table or an image of it cannot be read; the folder holds something else, or
            cannot be written.
        UsageError: cells that the faces do not have.
        MachineError: a process was killed.
    """
    table = read_faces(faces)
    plan = plan_of(table, settings)
    mark: dict[str, Json] = {
        "schema": SCHEMA,
        "recipe": RECIPE,
        "settings": settings.model_dump(mode="json", exclude={"data_root", "faces"}),
        "faces_sha256": _digest(plan),
    }
    done = {**mark, **_counts(plan)}
    artifact = Artifact("forged set", root, MARK, mark)
    if artifact.is_there((path for pair in plan.pairs for path, _ in pair.images), _other):
        return done
    for reason in remarks(plan):
        log.warning("faces=%s %s", faces, reason)
    with artifact.made(done) as folder:
        doing = f"forged faces for {root}"
        for made in _made(folder, plan, settings, workers, doing=doing):
            if progress is not None:
                progress(made, len(plan.pairs))
        write_tables(folder, root, plan)
    return done


def _other(key: str, stored: Mapping[str, Json]) -> str:
    what = "faces" if key == "faces_sha256" else "settings"
    settings = json.dumps(stored.get("settings"))
    return f"a forged set of other {what} ({settings}, recipe {stored.get('recipe')})"


def remarks(plan: ForgingPlan) -> Iterator[str]:
    """Yield what is worth a warning, each in words."""
    if plan.lonely:
        yield (
            f"without a donor: {plan.lonely}, the only faces of their group and list; they are "
            "self-blended in the place of the types that need a donor"
        )
    if plan.table.contradictions:
        yield (
            f"{plan.table.contradictions} rows have an intersec_label that contradicts their columns "
            "ismale, isasian, iswhite, isblack; the columns count"
        )
    for name, keys in plan.lists.items():
        if not keys:
            yield f"the list {name} is empty"


def works_of(plan: ForgingPlan, thumbnails: Sequence[Thumbnails]) -> list[Work]:
    """Return what is to be made.

    Args:
        plan: all pairs.
        thumbnails: of the face of each pair; none where no type needs a donor.
    """
    donors: dict[int, tuple[tuple[Path, str], ...]] = {}
    for places in plan.lenders.values() if thumbnails else ():
        near = nearest(np.stack([thumbnails[place] for place in places]))
        for place, others in zip(places, near.tolist(), strict=True):
            lending = (plan.pairs[places[other]].face for other in others)
            donors[place] = tuple((face.file, face.place) for face in lending)
    return [
        Work(pair=pair, donors=donors.get(place, ()) if pair.spec.needs_donor else ())
        for place, pair in enumerate(plan.pairs)
        if pair.images
    ]


def images_of(work: Work, settings: ForgeSettings) -> Iterator[tuple[str, bytes]]:
    """Yield each kept image of a pair, as a file below the data root: real, then fake.

    Raises:
        DataError: an image cannot be decoded.
    """
    pair = work.pair
    face = read_face(pair.face.file, pair.face.place)
    chance = stream("forge", settings.seed, pair.face.path)
    quality, draw = quality_of(chance), chance.random()
    for path, number in pair.images:
        if number == 0:
            yield path, encoded(face, quality)
            continue
        donor = None
        if pair.spec.needs_donor:
            donor = like(read_face(*work.donors[int(draw * len(work.donors))]), face.shape)
        pixels = forged(face, donor, pair.spec, chance, settings.strength)
        yield path, encoded(pixels, quality)


def _made(
    folder: Path, plan: ForgingPlan, settings: ForgeSettings, workers: int | None, *, doing: str
) -> Iterator[int]:
    """Make all images; yield how many pairs there are after each chunk."""
    thumbnails: list[Thumbnails] = []
    if any(pair.spec.needs_donor for pair in plan.pairs):
        for part in spread(_thumbnails, chunks_of(plan.pairs, CHUNK), workers, doing=doing):
            thumbnails += part
    works = works_of(plan, thumbnails)
    for above in {path.rpartition("/")[0] for work in works for path, _ in work.pair.images}:
        (folder / above).mkdir(parents=True)
    done = len(plan.pairs) - len(works)
    write = partial(_write, folder, settings)
    for count in spread(write, chunks_of(works, CHUNK), workers, doing=doing):
        done += count
        yield done


def _thumbnails(pairs: Sequence[Pair]) -> list[Thumbnails]:
    return [thumbnail(read_face(pair.face.file, pair.face.place)) for pair in pairs]


def _write(folder: Path, settings: ForgeSettings, works: Sequence[Work]) -> int:
    for work in works:
        for path, content in images_of(work, settings):
            (folder / path).write_bytes(content)
    return len(works)


def _digest(plan: ForgingPlan) -> str:
    """Return a digest of all rows and of their files' sizes."""
    rows = sorted(
        [face.path, face.split, face.file.stat().st_size, sorted(face.columns.items())]
        for face in plan.table.faces
    )
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


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
