"""A CSV table of paths and labels: for sets whose folders say nothing."""

import csv
import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple, TextIO

from trueface.data.attribute_table import CLASSES as LABELS
from trueface.data.folders import READ, is_image
from trueface.data.group_names import is_missing, unify_names
from trueface.data.imports.people import people_of_video
from trueface.data.imports.registry import (
    CLASSES,
    REAL,
    ImportedImage,
    LayoutOptions,
    is_video,
    register_layout,
)
from trueface.data.splits.split_files import LISTS
from trueface.data.tables import LABEL_WORDS, TableLine, open_table, parse_rows, read_csv
from trueface.runtime.errors import DataError

# columns by their names in small letters; the first of each is the documented one
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "path": ("path", "file", "filename", "image"),
    "label": ("label", "class", "target"),
    "source": ("source", "generator", "method"),
    "split": ("split", "list", "set"),
    "modifier": ("modifier", "version"),
    "video": ("video",),
}
NEEDED = ("path", "label")
# columns of groups: "group", and "group2" or "group_2" for a second group of the same kind
GROUPS = ("group", "prompt", "identity")
_GROUP = re.compile(rf"({'|'.join(GROUPS)})[ _-]?\d*")
_LABELS = {**CLASSES, **LABEL_WORDS}
SEPARATORS = ",;\t"
# columns in which a word for a missing value, such as nan, counts as an empty cell
OPTIONAL = frozenset({"source", "split", "modifier", "video"})

log = logging.getLogger(__name__)


@register_layout(
    "csv",
    summary="a CSV table: path,label[,source][,group][,group2][,split][,modifier][,video]",
    expects="a .csv file whose first line names the columns path and label, separated by commas, "
    "semicolons or tabs, or a folder with one such file",
    tables=("*.csv",),
)
class CsvTable:
    """A row is an image; a relative path starts at the table's folder."""

    def fits(self, folder: Path) -> bool:
        """Return whether the file, or the only .csv file of the folder, has path and label.

        Raises:
            DataError: the file cannot be read, or is not text in UTF-8.
        """
        path = _table(folder)
        if path is None:
            return False
        if path == folder:  # named by the user, who wants to know what is wrong with it
            with open_table(path) as file:
                return _has_columns(file)
        with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
            return _has_columns(file)

    def images(self, folder: Path, options: LayoutOptions) -> Iterator[ImportedImage]:
        """Yield the image of each row.

        Raises:
            DataError: rows that cannot be; the first of them with their lines.
        """
        path = _table(folder)
        if path is None:
            raise DataError(f"no CSV table in {folder}. Name the .csv file.")
        groups, sourceless = list[tuple[tuple[str, str], ...]](), 0
        labels = dict[tuple[int, int], tuple[int, int]]()  # file → label and the line that says it

        def parse(line: int, row: _Row) -> ImportedImage:
            nonlocal sourceless
            sourceless += row.lacks_source
            groups.append(row.groups)
            image = _image(path, row, options)
            _refuse_second_label(image, line, labels)
            return image

        images = parse_rows(path, ((row.line, row) for row in _rows(path)), parse)
        if not images:
            raise DataError(f"{path} has a header but no rows")
        if sourceless:
            log.warning(
                "%s: In %d rows the source is nan, NA, None or null. Their source is %s.",
                path, sourceless, path.stem,
            )  # fmt: skip
        for image, ties in zip(images, _iter_ties(path, groups), strict=True):
            yield image._replace(ties=(*ties, *image.ties))


def _table(folder: Path) -> Path | None:
    if folder.is_file():
        return folder if folder.suffix.lower() == ".csv" else None
    tables = sorted(folder.glob("[!.]*.csv"))
    return tables[0] if len(tables) == 1 else None


def _headers(file: TextIO) -> dict[str, list[str]]:
    """Return the header of a table by each separator that it may have."""
    line = file.readline(1 << 16)
    return {each: next(csv.reader([line], delimiter=each), []) for each in SEPARATORS}


def _has_columns(file: TextIO) -> bool:
    return any(not _missing_columns(_columns(header)) for header in _headers(file).values())


def _separator(file: TextIO) -> str:
    """Return the separator with which a table has the needed columns, or a comma."""
    fitting = (
        each for each, header in _headers(file).items() if not _missing_columns(_columns(header))
    )
    return next(fitting, SEPARATORS[0])


def _normalize_header(header: list[str]) -> list[str]:
    return [name.strip().casefold() for name in header]


def _columns(header: list[str]) -> dict[str, int]:
    small = _normalize_header(header)
    return {
        column: next(small.index(name) for name in names if name in small)
        for column, names in COLUMNS.items()
        if any(name in small for name in names)
    }


def _doubles(header: list[str], columns: Iterable[int]) -> list[tuple[int, int]]:
    """Return the place of each used column with that of a further column of its name."""
    small = _normalize_header(header)
    return [
        (at, other)
        for at in columns
        for other in range(at + 1, len(small))
        if small[other] == small[at]
    ]


def _group_columns(header: list[str]) -> dict[int, str]:
    """Return the place of each column of groups, with the kind of its groups.

    Columns of one kind share names: a person in "group" may be in "group2" of another image.
    """
    found = {at: match[1] for at, name in enumerate(header) if (match := _GROUP.fullmatch(name))}
    first = next((kind for kind in GROUPS if kind in found.values()), "")
    return {at: GROUPS[0] if kind == first else kind for at, kind in found.items()}


def _missing_columns(columns: Mapping[str, int]) -> list[str]:
    return [name for name in NEEDED if name not in columns]


class _Row(NamedTuple):
    """A row of a table; a NamedTuple, as there may be 200,000."""

    line: int
    cells: Mapping[str, str]  # by column; without empty ones
    groups: tuple[tuple[str, str], ...]  # each a kind and a name: "group", "17"
    contradictions: Sequence[str]  # between two columns of one name
    lacks_source: bool  # whether a word such as nan stands for its source


def _rows(path: Path) -> Iterator[_Row]:
    """Yield the rows of a table; blank ones are left out."""
    lines = read_csv(path, _separator)
    start, header = next(lines, TableLine(1, []))
    columns, of_groups = _columns(header), _group_columns(_normalize_header(header))
    doubles = _doubles(header, columns.values())
    if lacking := _missing_columns(columns):
        raise DataError(f"{path}:{start}: column {' and '.join(lacking)} is missing")
    for line, row in lines:
        texts = dict(enumerate(row))
        cells = {
            name: text
            for name, at in columns.items()
            if (text := texts.get(at)) and not (name in OPTIONAL and is_missing(text))
        }
        second = [
            f"{texts[at]!r} and {texts[other]!r} in two columns {header[at]!r}"
            for at, other in doubles
            if _meaning(header[at], texts.get(at)) != _meaning(header[at], texts.get(other))
        ]
        groups = ((kind, texts.get(at, "")) for at, kind in of_groups.items())
        named = tuple(group for group in groups if group[1])
        source = texts.get(columns.get("source", -1), "")
        lacks_source = bool(source) and is_missing(source)
        yield _Row(line, cells, named, second, lacks_source)


def _meaning(column: str, text: str | None) -> str | int | None:
    """Return what a cell says: 0 and real are the same label."""
    if text is None or column.strip().casefold() not in COLUMNS["label"]:
        return text
    return _LABELS.get(text.casefold(), text)


def _image(table: Path, row: _Row, options: LayoutOptions) -> ImportedImage:
    cells = row.cells
    if row.contradictions:
        raise ValueError(f"the row has {row.contradictions[0]}: remove one of the columns")
    for name in NEEDED:
        if name not in cells:
            raise ValueError(f"the row has no {name}")
    label = _LABELS.get(cells["label"].casefold())
    if label is None:
        raise ValueError(
            f"label {cells['label']!r}: expected real or fake, 0 or 1, or false or true"
        )
    written = PurePosixPath(cells["path"].replace("\\", "/"))
    file = table.parent / written
    if is_video(file.name):
        raise ValueError(
            f"{written} is not an image ({READ}): import videos with the layout folders or "
            "faceforensics"
        )
    if not is_image(file.name):
        raise ValueError(f"{written} is not an image ({READ})")
    if not file.is_file():
        raise ValueError(f"file {file} does not exist")
    split = cells.get("split", "").casefold()
    if split and split not in LISTS:
        raise ValueError(f"split {split!r}: expected {', '.join(dict.fromkeys(LISTS.values()))}")
    source = cells.get("source") or table.stem
    video = cells.get("video", "")
    return ImportedImage(
        str(file),
        REAL if source in options.real else label,
        source,
        _flat_name(written, video),
        cells.get("modifier", "pre"),
        ties=people_of_video(PurePosixPath(video).stem),
        is_frame=bool(video),
        lists=(LISTS[split],) if split else (),
    )


def _iter_ties(
    path: Path, groups: Sequence[tuple[tuple[str, str], ...]]
) -> Iterator[tuple[str, ...]]:
    """Yield the groups of each row with one name each; report rows with a name that means none."""
    missing = sum(any(is_missing(name) for _, name in row) for row in groups)
    if missing:
        log.warning(
            "%s: In %d rows the group is nan, NA, None or null. These rows belong to no group.",
            path, missing,
        )  # fmt: skip
    names = unify_names(name for row in groups for _, name in row)
    for row in groups:
        known = (f"{kind} {names[name]}" for kind, name in row if name in names)
        yield tuple(dict.fromkeys(known))


def _refuse_second_label(
    image: ImportedImage, line: int, labels: dict[tuple[int, int], tuple[int, int]]
) -> None:
    """Raise ValueError if an earlier row gives the same file, by whatever path, another label."""
    status = os.stat(image.file)  # noqa: PTH116  # a Path for each of 200,000 takes longer
    label, first = labels.setdefault((status.st_dev, status.st_ino), (image.label, line))
    if label != image.label:
        here, there = LABELS[image.label], LABELS[label]
        raise ValueError(
            f"{image.file} is {here} here, but {there} in line {first}: keep one of the rows"
        )


def _flat_name(path: PurePosixPath, video: str) -> str:
    """Return one name for a path, because each of its folders would count as a source."""
    parts = [part for part in path.parts if part not in {"/", "..", "."}]
    return "/".join((*([video.strip("/")] if video else []), "-".join(parts)))
