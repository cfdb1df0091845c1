"""What a page shows of a run of generators: rows of a results table, made folders, detectors, strips of tiles."""

import base64
import io
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import PIL.Image

from trueface.data.image_headers import BROKEN
from trueface.evaluation.over_seeds import NO_VALUE
from trueface.evaluation.score_tables import without_seed
from trueface.report.json_fields import mapping_of, number_of, text_of
from trueface.report.svg import three_digits
from trueface.runtime import paths
from trueface.runtime.files import Json, read_json
from trueface.runtime.ids import model_folder_name

DEVIATION = "_sd"  # behind the key of a mean


MADE = "made"  # in a run's folder
RECORD = "made.json"
METRICS = "metrics.json"
CLEAN, DISRUPTED, PURIFIED = "clean", "disrupted", "purified"
KINDS = {"disrupt": DISRUPTED, "purify": PURIFIED}
LONGEST_CHAIN = 8  # of folders made of folders
MOST_TILE_PX = 96  # larger ones are made smaller; the page enlarges small ones without smoothing
MOST_PIXELS = 1 << 26  # of a picture that is read


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """A mean over seeds."""

    mean: float
    sd: float | None = None  # None: one seed

    def text(self, digits: int) -> str:
        """Return "0.117 ± 0.003"."""
        spread = "" if self.sd is None else f" ± {self.sd:.{digits}f}"
        return f"{self.mean:.{digits}f}{spread}"

    def cell(self, digits: int) -> str:
        """Return the same for a cell of a table, the deviation in small below."""
        spread = "" if self.sd is None else f"<small>± {self.sd:.{digits}f}</small>"
        return f"{self.mean:.{digits}f}{spread}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A method: a purifier, or a way of erasing."""

    name: str
    record: Mapping[str, Json]

    def value(self, key: str) -> Value | None:
        """Return a column; None where it was not measured."""
        mean = number_of(self.record, key)
        if mean is None:
            return None
        return Value(mean=mean, sd=number_of(self.record, key + DEVIATION))

    def mean(self, key: str) -> float | None:
        """Return the mean of a column; None where it was not measured."""
        return number_of(self.record, key)

    def cell(self, key: str, digits: int) -> str:
        """Return a column for a cell of a table; a dash where it was not measured."""
        value = self.value(key)
        return NO_VALUE if value is None else value.cell(digits)

    def short(self, key: str, factor: float = 1.0) -> str:
        """Return a column in three digits, for seconds and counts."""
        mean = self.mean(key)
        return NO_VALUE if mean is None else three_digits(mean * factor)


def rows_of(records: Sequence[Mapping[str, Json]]) -> tuple[Row, ...]:
    """Return the rows that name a method, in their order."""
    several = has_several(records)
    return tuple(
        Row(name=named(record, several=several), record=record)
        for record in records
        if text_of(record, "method")
    )


def has_several(records: Iterable[Mapping[str, Json]]) -> bool:
    """Tell whether records are of more than one concept."""
    return len({text_of(record, "concept") for record in records}) > 1


def named(record: Mapping[str, Json], *, several: bool) -> str:
    """Return the method of a record; with its concept where a run has several."""
    method, concept = text_of(record, "method"), text_of(record, "concept")
    return f"{method} ({concept})" if several and concept else method


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A folder that a job made."""

    name: str  # entry and variant: "restored@purifier=jpeg75"
    path: Path
    kind: str
    facts: Mapping[str, Json]  # of made.json
    measures: Mapping[str, Json]  # of metrics.json; empty where there is none

    @property
    def settings(self) -> Mapping[str, Json]:
        """The settings of its job."""
        return mapping_of(self.facts, "settings")


def made_folders(run_folder: Path, kind: str) -> tuple[Made, ...]:
    """Return what jobs of a kind made in a run, by name; folders that are being made are left out."""
    place = run_folder / MADE
    if not place.is_dir():
        return ()
    return tuple(
        made
        for path in sorted(place.iterdir())
        if not path.name.startswith(".") and (made := _read(path)) is not None and made.kind == kind
    )


def tests_of(folders: Sequence[Made]) -> list[tuple[str, str]]:
    """Return the folders as the tests that a kind's table takes: no model, and a name."""
    return [("", made.name) for made in folders]


def _read(path: Path) -> Made | None:
    facts = read_json(path / RECORD)
    if facts is None:
        return None
    return Made(
        name=path.name,
        path=path,
        kind=text_of(facts, "kind"),
        facts=facts,
        measures=read_json(path / METRICS) or {},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Detector:
    """Detectors that differ in nothing but their seed, on one test."""

    model: str
    trained_on: str  # "clean", "disrupted", "purified (jpeg75)"
    tested_on: str
    auc: tuple[float, ...]  # of each seed
    accuracy: tuple[float, ...]

    @property
    def record(self) -> dict[str, Json]:
        """What `--json` prints of it."""
        return {
            "model": self.model,
            "trained_on": self.trained_on,
            "data": self.tested_on,
            "auc": [*self.auc],
            "accuracy": [*self.accuracy],
        }


def detectors(run_folder: Path, rows: Sequence[Mapping[str, Json]]) -> tuple[Detector, ...]:
    """Return the detectors of a run, those trained on clean images first.

    Args:
        run_folder: runs/<run>.
        rows: of `launcher results`; rows that pool others are left out.
    """
    groups: dict[tuple[str, str, str], list[Mapping[str, Json]]] = {}
    for row in rows:
        if row.get("pooled") is not False:
            continue
        model = text_of(row, "model")
        key = without_seed(model), trained_on(run_folder, model), text_of(row, "data")
        groups.setdefault(key, []).append(row)
    made = [
        Detector(
            model=model,
            trained_on=condition,
            tested_on=data,
            auc=_values(of, "auc"),
            accuracy=_values(of, "accuracy"),
        )
        for (model, condition, data), of in groups.items()
    ]
    return tuple(sorted(made, key=lambda each: each.trained_on != CLEAN))


def trained_on(run_folder: Path, model: str) -> str:
    """Return from which images the training images of a detector were made.

    Its data root is a folder that a job made of others; `made.json` of each names its source.
    """
    provenance = read_json(paths.provenance(run_folder / model_folder_name(model))) or {}
    root = Path(text_of(provenance, "data_root"))
    project = run_folder.parent.parent
    for _ in range(LONGEST_CHAIN):
        facts = read_json(root / RECORD) if root.parent.name == MADE else None
        if facts is None:
            break
        kind = text_of(facts, "kind")
        if kind in KINDS:
            purifier = text_of(mapping_of(facts, "settings"), "purifier")
            return f"{PURIFIED} ({purifier})" if kind == "purify" else KINDS[kind]
        root = project / text_of(facts, "source")
    return CLEAN


def _values(rows: Sequence[Mapping[str, Json]], name: str) -> tuple[float, ...]:
    values = (number_of(mapping_of(row, name), "value") for row in rows)
    return tuple(value for value in values if value is not None)


def strip(path: Path, *, tiles: int, row: int = 0) -> str | None:
    """Return a row of a picture of square tiles as a data URL; None where there is no such row.

    Args:
        path: a PNG without margins, `tiles` tiles wide.
        tiles: how many stand side by side.
        row: which row of tiles, from 0.
    """
    picture = _opened(path)
    side = 0 if picture is None else picture.width // tiles
    if picture is None or side < 1 or (row + 1) * side > picture.height:
        return None
    return _url(picture.crop((0, row * side, tiles * side, (row + 1) * side)), side)


def tile(path: Path, *, rows: int, row: int, column: int) -> str | None:
    """Return one tile of a picture of square tiles, `rows` tiles high; None where there is none."""
    picture = _opened(path)
    side = 0 if picture is None or rows < 1 else picture.height // rows
    if picture is None or side < 1 or row >= rows or (column + 1) * side > picture.width:
        return None
    corner = column * side, row * side
    return _url(picture.crop((*corner, corner[0] + side, corner[1] + side)), side)


def _opened(path: Path) -> PIL.Image.Image | None:
    try:
        with PIL.Image.open(path, formats=("PNG",)) as file:
            if file.width * file.height > MOST_PIXELS:
                return None
            return file.convert("RGB")
    except (*BROKEN, MemoryError, zlib.error):
        return None


def _url(picture: PIL.Image.Image, side: int) -> str:
    if side > MOST_TILE_PX:
        size = tuple(max(round(length * MOST_TILE_PX / side), 1) for length in picture.size)
        picture = picture.resize((size[0], size[1]), PIL.Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "png", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
