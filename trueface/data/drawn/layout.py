"""Names of a drawn set's images, the part that each belongs to, and tables of their attributes.

attributes.csv             a header `image,NAME,…`, then a row an image with 0 or 1 for each attribute
list_attr_celeba.txt       the number of images, the names of the attributes, then a row an image with
                           1 or -1 for each

An image's name counts without its suffix, as elsewhere. The original program cuts the lines of CelebA's
list as it cuts the list of images: its two header lines count as images, so that each image has the
labels of the one two before it, and only the first part has a header. Here a table without its header
is refused.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from trueface.data.drawn.settings import CLASSES, PARTS, TRAIN_SHARE
from trueface.data.made.folders import few, stem
from trueface.runtime.errors import DataError, UnknownName, faulty_rows
from trueface.runtime.rng import derive


def numbered(count: int) -> tuple[str, ...]:
    """Return names of so many images, without suffix: their numbers in as many digits each."""
    digits = max(5, len(str(count - 1)))
    return tuple(f"{number:0{digits}d}" for number in range(count))


def parts_of(names: Sequence[str], seed: int) -> dict[str, tuple[str, ...]]:
    """Divide images into the parts A, B and C: 70, 20 and 10 %; see `divided`.

    The original cuts the sorted list instead, which puts neighbours, such as frames of a film, into one
    part.
    """
    return divided(names, PARTS, seed)


def divided(
    names: Sequence[str], shares: Mapping[str, float], seed: int
) -> dict[str, tuple[str, ...]]:
    """Divide images by the order of a hash of their names, which suffixes do not change.

    Args:
        names: of the images, each once.
        shares: of the parts, which sum to 1; what rounding leaves is in the last one.
        seed: of the order.
    """
    ordered = sorted(names, key=lambda name: (derive(f"part/{stem(name)}", seed), name))
    parts, start, share = {}, 0, 0.0
    for part, own in shares.items():
        share += own
        end = round(len(ordered) * share)
        parts[part], start = tuple(sorted(ordered[start:end])), end
    return parts


def shape_files(count: int) -> tuple[tuple[str, str], ...]:
    """Return the class and the file below the data root, without suffix, of so many shapes.

    Classes take turns; the first 80 % of each are for training.
    """
    number_in_class = dict.fromkeys(CLASSES, 0)
    files = []
    for at in range(count):
        name = CLASSES[at % len(CLASSES)]
        of_class = (count - CLASSES.index(name) + len(CLASSES) - 1) // len(CLASSES)
        number, number_in_class[name] = number_in_class[name], number_in_class[name] + 1
        part = "train" if number < round(of_class * TRAIN_SHARE) else "test"
        files.append((name, f"{part}/{name}/{number:05d}"))
    return tuple(files)


CSV, CELEBA = "attributes.csv", "list_attr_celeba.txt"
IMAGE = "image"  # the first column's name
VALUES: Mapping[str, Mapping[str, int]] = {
    ".csv": {"0": 0, "1": 1},
    ".txt": {"-1": 0, "1": 1},
}


@dataclass(frozen=True, slots=True)
class AttributeTable:
    """What a table says: for each image, named without suffix, 0 or 1 of each attribute."""

    path: Path
    names: tuple[str, ...]
    rows: Mapping[str, tuple[int, ...]]

    def of(self, images: Sequence[str], wanted: Sequence[str] | None = None) -> list[list[int]]:
        """Return a row for each image, of the wanted attributes; None: all.

        Raises:
            UnknownName: there is no such attribute.
            DataError: images have no row; names the first ones.
        """
        for name in wanted or ():
            if name not in self.names:
                raise UnknownName("attribute", name, self.names, where=str(self.path))
        missing = [image for image in images if stem(image) not in self.rows]
        if missing:
            raise DataError(
                f"{self.path} has no row of {few(missing)}; add it, or take the image away"
            )
        places = [self.names.index(name) for name in (self.names if wanted is None else wanted)]
        return [[self.rows[stem(image)][place] for place in places] for image in images]


def find_table(root: Path) -> Path:
    """Return the table of a folder of images: in it, or beside it.

    Raises:
        DataError: there is none.
    """
    for folder in (root, root.parent):
        for name in (CSV, CELEBA):
            if (folder / name).is_file():
                return folder / name
    raise DataError(
        f"no table of attributes for {root}: looked for {CSV} and {CELEBA} in it and beside it"
    )


def read_table(path: Path) -> AttributeTable:
    """Read a table; what it is, its suffix says: .csv or .txt.

    Raises:
        DataError: it cannot be read, has no header, or rows that contradict it.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read the table of attributes {path}: {error}") from error
    if path.suffix not in VALUES:
        raise DataError(f"{path}: a table of attributes ends in .csv, or in .txt as CelebA's")
    if path.suffix == ".csv":
        cells = [*csv.reader(lines)]
        names, first = _csv_header(path, cells), 2
        body = cells[1:]
    else:
        names, first = _celeba_header(path, lines), 3
        body = [line.split() for line in lines[2:]]
    rows = _rows(path, names, body, first)
    if path.suffix == ".txt" and len(rows) != int(lines[0]):
        raise DataError(
            f"{path}:1 says {lines[0].strip()} images, and {len(rows)} rows follow; take the whole list"
        )
    return AttributeTable(path, names, rows)


def table_text(names: Sequence[str], rows: Mapping[str, Sequence[int]]) -> str:
    """Return the text of an attributes.csv, its images in the order of `rows`."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow((IMAGE, *names))
    writer.writerows((image, *row) for image, row in rows.items())
    return file.getvalue()


def _csv_header(path: Path, cells: Sequence[Sequence[str]]) -> tuple[str, ...]:
    header = [cell.strip() for cell in cells[0]] if cells else []
    if len(header) < 2 or header[0] != IMAGE:
        raise DataError(
            f"{path}:1 is no header: the first line names the columns, {IMAGE},NAME,…; without it the "
            "first image would be taken for one"
        )
    return _distinct(path, 1, header[1:])


def _celeba_header(path: Path, lines: Sequence[str]) -> tuple[str, ...]:
    """Return the names of line 2."""
    if len(lines) < 2 or not lines[0].strip().isdecimal():
        raise DataError(
            f"{path}:1 is not the number of images; the list needs its two header lines"
        )
    names = lines[1].split()
    if not names or any(name.lstrip("-").isdecimal() for name in names):
        raise DataError(
            f"{path}:2 does not name the attributes; the list needs its two header lines"
        )
    return _distinct(path, 2, names)


def _distinct(path: Path, line: int, names: Sequence[str]) -> tuple[str, ...]:
    if len(set(names)) != len(names) or "" in names:
        raise DataError(f"{path}:{line} names an attribute twice, or has a column without a name")
    return tuple(names)


def _rows(
    path: Path, names: Sequence[str], body: Sequence[Sequence[str]], first: int
) -> dict[str, tuple[int, ...]]:
    values = VALUES[path.suffix]
    allowed = " or ".join(values)
    rows: dict[str, tuple[int, ...]] = {}
    faults: list[tuple[int, str]] = []
    for line, cells in enumerate(body, start=first):
        if not cells:
            continue
        image, *given = (cell.strip() for cell in cells)
        if len(given) != len(names):
            faults.append((line, f"{image} has {len(given)} values, the header {len(names)}"))
        elif wrong := [cell for cell in given if cell not in values]:
            faults.append((line, f"{image} has {wrong[0]!r} where {allowed} is expected"))
        elif stem(image) in rows:
            faults.append((line, f"{image} has a row already"))
        else:
            rows[stem(image)] = tuple(values[cell] for cell in given)
    if faults:
        raise faulty_rows(path, faults)
    return rows
