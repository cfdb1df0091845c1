"""A CSV table of paths and labels: for sets whose folders say nothing."""

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from trueface.data.folders import READ, is_image
from trueface.data.imports.registry import (
    CLASSES,
    FAKE,
    REAL,
    ImportedImage,
    LayoutOptions,
    register_layout,
)
from trueface.data.splits import LISTS
from trueface.runtime.errors import DataError, refuse_rows

MOST_BYTES = 1 << 29
# columns by their names in small letters; the first of each is the documented one
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "path": ("path", "file", "filename", "image"),
    "label": ("label", "class", "target"),
    "source": ("source", "generator", "method"),
    "group": ("group", "prompt", "identity"),
    "split": ("split", "list", "set"),
    "modifier": ("modifier", "version"),
    "video": ("video",),
}
NEEDED = ("path", "label")
_LABELS = {**CLASSES, "0": REAL, "1": FAKE}


@register_layout(
    "csv",
    summary="a CSV table: path,label[,source][,group][,split][,modifier][,video]",
    expects="a .csv file whose first line names the columns path and label "
    "(also source, group, split, modifier, video), or a folder with one such file",
)
class CsvTable:
    """A row is an image; a relative path starts at the table's folder."""

    def fits(self, folder: Path) -> bool:
        """Tell whether the file, or the only .csv file of the folder, names path and label."""
        path = _table(folder)
        if path is None:
            return False
        with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
            header = next(csv.reader([file.readline(1 << 16)]), [])
        return not _lacking(_columns(header))

    def images(self, folder: Path, options: LayoutOptions) -> Iterator[ImportedImage]:
        """Yield the image of each row.

        Raises:
            DataError: rows that cannot be; the first of them with their lines.
        """
        path = _table(folder)
        if path is None:
            raise DataError(f"no table in {folder}; name the .csv file")
        rows, faults = list[ImportedImage](), list[tuple[int, str]]()
        for line, cells in _rows(path):
            try:
                rows.append(_image(path, cells, options))
            except ValueError as error:
                faults.append((line, str(error)))
        refuse_rows(path, faults)
        yield from rows


def _table(folder: Path) -> Path | None:
    if folder.is_file():
        return folder if folder.suffix.lower() == ".csv" else None
    tables = sorted(folder.glob("*.csv"))
    return tables[0] if len(tables) == 1 else None


def _columns(header: list[str]) -> dict[str, int]:
    small = [name.strip().casefold() for name in header]
    return {
        column: next(small.index(name) for name in names if name in small)
        for column, names in COLUMNS.items()
        if any(name in small for name in names)
    }


def _lacking(columns: Mapping[str, int]) -> list[str]:
    return [name for name in NEEDED if name not in columns]


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the line of each row, and its cells by column; empty ones are left out."""
    if path.stat().st_size > MOST_BYTES:
        raise DataError(f"{path} has more than {MOST_BYTES >> 20} MiB; import it in parts")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            columns = _columns(next(reader, []))
            if lacking := _lacking(columns):
                raise DataError(f"{path}:1: no column {' and '.join(lacking)}")
            for row in reader:
                if row:
                    cells = {name: row[at].strip() for name, at in columns.items() if at < len(row)}
                    yield reader.line_num, {name: text for name, text in cells.items() if text}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"cannot read {path}: {error}") from error


def _image(table: Path, cells: Mapping[str, str], options: LayoutOptions) -> ImportedImage:
    for name in NEEDED:
        if name not in cells:
            raise ValueError(f"no {name}")
    label = _LABELS.get(cells["label"].casefold())
    if label is None:
        raise ValueError(f"label {cells['label']!r}: expected real or fake, or 0 or 1")
    written = PurePosixPath(cells["path"].replace("\\", "/"))
    file = table.parent / written
    if not is_image(file.name):
        raise ValueError(f"{written} is no image; {READ}")
    if not file.is_file():
        raise ValueError(f"no file {file}")
    split = cells.get("split", "").casefold()
    if split and split not in LISTS:
        raise ValueError(f"split {split!r}: expected {', '.join(dict.fromkeys(LISTS.values()))}")
    source = cells.get("source") or table.stem
    video = cells.get("video", "")
    return ImportedImage(
        str(file),
        REAL if source in options.real else label,
        source,
        _below(written, video),
        cells.get("modifier", "pre"),
        ties=(f"group {cells['group']}",) if "group" in cells else (),
        is_frame=bool(video),
        lists=(LISTS[split],) if split else (),
    )


def _below(written: PurePosixPath, video: str) -> str:
    """Return one name for a path: its folders tell nothing, and each would count as a source."""
    parts = [part for part in written.parts if part not in {"/", "..", "."}]
    return "/".join((*([video.strip("/")] if video else []), "-".join(parts)))
