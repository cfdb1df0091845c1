"""A drawn set of images: whole, or not there at all.

portraits, resized     A/<name>.png, B/…, C/…    70, 20 and 10 %; each with its attributes.csv
shapes                 train/<class>/<name>.png, test/<class>/…    80 and 20 % of each class
drawn.json             the mark: of which settings, and of which photographs
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import PIL.Image

from trueface.data.drawn.layout import (
    CSV,
    AttributeTable,
    numbered,
    parts_of,
    read_table,
    shape_files,
    table_text,
)
from trueface.data.drawn.pictures import (
    ATTRIBUTES,
    Pixels,
    attributes_of,
    draw_portrait,
    draw_shape,
    small_square,
)
from trueface.data.drawn.settings import MARK, DrawSettings
from trueface.data.made.folders import image_names, stem
from trueface.runtime.artifact import Artifact
from trueface.runtime.errors import DataError
from trueface.runtime.files import Json, write_atomic
from trueface.runtime.process_pool import chunks_of, spread

SCHEMA = 1
RECIPE = 1  # to be raised whenever the same settings would give other images
CHUNK = 64  # images between two reports
WORTH = 4000  # photographs from which on it is worth to start processes
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Work:
    """An image to be made."""

    file: str  # below the data root, without suffix
    what: str  # a shape, the relative name of a photograph, or the name of a portrait


@dataclass(frozen=True, slots=True)
class Plan:
    """All that is in a set."""

    works: tuple[Work, ...]
    tables: Mapping[str, str] = field(default_factory=dict)  # file below the root → its text
    counts: Mapping[str, int] = field(default_factory=dict)  # images of each part
    facts: Mapping[str, Json] = field(default_factory=dict)  # of the source, for the mark


def make_drawn(
    root: Path,
    settings: DrawSettings,
    *,
    source: Path | None = None,
    attributes: Path | None = None,
    progress: Progress | None = None,
) -> dict[str, Json]:
    """Make a drawn set; return what its mark says. One that is there already is left as it is.

    Args:
        root: absent, empty, or holding a set of the same settings.
        settings: what to make; places in it are those above.
        source: folder of photographs, for `resized`.
        attributes: their table, if there is one.
        progress: called with the number of images made and their total; what it raises ends the
            work, and nothing of it stays.

    Raises:
        DataError: the folder holds something else, or cannot be written; the source is at fault.
        MachineError: a process was killed.
    """
    plan = _plan(settings, source, attributes)
    places = {"data_root", "source", "attributes"}
    mark: dict[str, Json] = {
        "schema": SCHEMA,
        "recipe": RECIPE,
        "settings": settings.model_dump(mode="json", exclude=places),
        **plan.facts,
    }
    done: dict[str, Json] = {**mark, "images": len(plan.works), "parts": dict(plan.counts)}
    artifact = Artifact("drawn set", root, MARK, mark)
    if artifact.is_there((f"{work.file}.png" for work in plan.works), _other):
        return done
    with artifact.made(done) as folder:
        files = [*(work.file for work in plan.works), *plan.tables]
        for above in sorted({file.rpartition("/")[0] for file in files}):
            (folder / above).mkdir(parents=True, exist_ok=True)
        doing = f"made images for {root}"
        _draw_all(folder, plan.works, settings, source, doing=doing, progress=progress)
        for name, text in plan.tables.items():
            write_atomic(folder / name, text)
    return done


def _other(_key: str, stored: Mapping[str, Json]) -> str:
    settings = json.dumps(stored.get("settings"))
    return f"a drawn set of other settings or photographs ({settings})"


def _plan(settings: DrawSettings, source: Path | None, attributes: Path | None) -> Plan:
    if settings.content == "shapes":
        files = shape_files(settings.images)
        works = tuple(Work(file, shape) for shape, file in files)
        return Plan(works, counts=_counted(work.file.partition("/")[0] for work in works))
    if settings.content == "portraits":
        names = numbered(settings.images)
        rows = {
            name: tuple(map(int, attributes_of(name, settings.seed).values())) for name in names
        }
        return _divided(names, settings.seed, ATTRIBUTES, rows)
    if source is None:
        raise ValueError("content: resized needs a source")
    table = read_table(attributes) if attributes else None
    names = _photographs(source, settings)
    rows = _rows(table, names)
    plan = _divided(names, settings.seed, table.names if table else (), rows)
    sizes = [[name, (source / name).stat().st_size] for name in names]
    facts = json.dumps([sizes, sorted(rows.items())])
    return Plan(
        plan.works,
        plan.tables,
        plan.counts,
        {"source_sha256": hashlib.sha256(facts.encode()).hexdigest()},
    )


def _photographs(source: Path, settings: DrawSettings) -> tuple[str, ...]:
    """Return the names of the photographs that are taken, sorted.

    Raises:
        DataError: there is none, fewer than asked for, or two have the same name but for the suffix.
    """
    names = image_names(source)
    if settings.images > len(names):
        raise DataError(
            f"{source} holds {len(names)} photographs, and images is {settings.images}; 0 takes all"
        )
    return image_names(source, limit=settings.images)


def _rows(table: AttributeTable | None, names: Sequence[str]) -> dict[str, tuple[int, ...]]:
    if table is None:
        return {}
    return {name: tuple(row) for name, row in zip(names, table.of(names), strict=True)}


def _divided(
    names: Sequence[str],
    seed: int,
    columns: Sequence[str],
    rows: Mapping[str, tuple[int, ...]],
) -> Plan:
    parts = parts_of(names, seed)
    works = tuple(
        Work(f"{part}/{stem(name)}", name) for part, inside in parts.items() for name in inside
    )
    tables = {}
    for part, inside in parts.items() if columns else ():
        held = {f"{stem(name)}.png": rows[name] for name in inside}
        tables[f"{part}/{CSV}"] = table_text(columns, held)
    return Plan(works, tables, {part: len(inside) for part, inside in parts.items()})


def _counted(parts: Iterable[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for part in parts:
        counts[part] = counts.get(part, 0) + 1
    return counts


def _draw_all(
    folder: Path,
    works: Sequence[Work],
    settings: DrawSettings,
    source: Path | None,
    *,
    doing: str,
    progress: Progress | None,
) -> None:
    many = settings.content == "resized" and len(works) >= WORTH
    done = 0
    draw, workers = partial(_draw, folder, settings, source), None if many else 1
    for count in spread(draw, chunks_of(works, CHUNK), workers, doing=doing):
        done += count
        if progress is not None:
            progress(done, len(works))


def _draw(folder: Path, settings: DrawSettings, source: Path | None, works: Sequence[Work]) -> int:
    for work in works:
        pixels = _pixels(work, settings, source)
        picture = PIL.Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
        picture.save(folder / f"{work.file}.png", compress_level=1)
    return len(works)


def _pixels(work: Work, settings: DrawSettings, source: Path | None) -> Pixels:
    size, channels = settings.size, settings.channels
    if source is not None:
        return small_square(source / work.what, crop=settings.crop, size=size, channels=channels)
    if settings.content == "shapes":
        return draw_shape(work.what, work.file, seed=settings.seed, size=size, channels=channels)
    return draw_portrait(work.what, seed=settings.seed, size=size, channels=channels)
