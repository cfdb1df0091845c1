"""Files of numbers that a program writes itself: CSV, JSON lines, and JSON with a list of records.

Lightning's `metrics.csv`, ultralytics' `results.csv`, `trainer_state.json` of Hugging Face and the history of Keras are
such files. A file that cannot be read, or only in part, gives faults: predicates such as "is a folder".
"""

import csv
import json
import os
import re
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from launcher.queue.workers.progress.number_names import has_phase
from launcher.queue.workers.progress.result_names import TIME, reason_against
from launcher.queue.workers.progress.steps import MOST_STEPS, STEP, ProgressReport
from launcher.system.files import open_descriptor

MOST_BYTES = 1 << 20  # bytes that are read from the end of a file
MOST_JSON_BYTES = 16 << 20  # bytes of one JSON document, whose end alone cannot be read
HEAD_BYTES = 64 << 10  # bytes of the beginning: encoding, and header of a table
LISTS = ("log_history", "history", "metrics")  # keys of a list of records in a file of JSON
EPOCH = "epoch"
# names of columns that count steps, the preferred one first
STEP_NAMES = ("step", "global_step", "_step", "iteration", "iter", "it", EPOCH)
_DEPTH = 3  # depth of mappings in a record
_LONGEST_NAME, _LONGEST_TEXT = 128, 40  # characters
_MOST_NAMED = 3  # columns that a fault lists
_LONG_ROW_ADVICE = "Name each column, and begin a new line for each row"
_MISSING = frozenset({"", "-", "--", "na", "n/a", "none", "null"})  # cells without a value
# columns that say to which part of the work a row belongs, if they contain texts, or also numbers
_NUMBERED_PARTS = frozenset(
    {"fold", "split", "seed", "run", "trial", "client", "class", "label", "task", "subject", "rank", "cv"}
)  # fmt: skip
_PARTS = _NUMBERED_PARTS | {
    "subset", "partition", "dataset", "data", "category", "domain", "metric", "name", "model", "method",
}  # fmt: skip
_MOMENTS = ("time", "date")  # in names of columns whose texts differ in each row
# texts: compiling them takes longer than reading a short file, and few cells need them

# a number, or a text that is meant as one: with a decimal comma, a percent sign or a unit
_NUMBER_LIKE = (
    r"(?i)[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:[.,]?\d+)?(?<=\d)(?:e[-+]?\d+)?"
    r"\s*(?:%|[^\W\d_]{1,3}|[(±+].*)?"
)
_DECIMAL_COMMA = r"[-+]?\d+,\d+\s*%?"
_PERCENT = r"(?i)([-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?)\s?%"
_LINE_END = r"\r\n|\n|\r"
_SIZE = re.compile(r"(?:^|[/_.\s-])(?:timestamp|size|width|height)$", re.IGNORECASE)
_BYTE_ORDER_MARKS = (
    (b"\xef\xbb\xbf", "utf-8"),
    (b"\xff\xfe\0\0", "utf-32-le"),
    (b"\0\0\xfe\xff", "utf-32-be"),
    (b"\xff\xfe", "utf-16-le"),
    (b"\xfe\xff", "utf-16-be"),
)
_FORMATS = (
    (b"PAR1", "a Parquet file"),
    (b"PK\x03\x04", "a ZIP archive"),  # also .npz and .xlsx
    (b"\x1f\x8b", "compressed"),
    (b"SQLite format 3\0", "an SQLite database"),
    (b"\x89HDF", "an HDF5 file"),
    (b"\x80\x04", "a pickle"),
    (b"\x80\x05", "a pickle"),
    (b"\x93NUMPY", "an array of NumPy"),
    (b"ARROW1", "an Arrow file"),
)
_WRITE_TEXT = "Write CSV, JSON lines or JSON"
_MEDIA_MARK = "_type"  # in a mapping of Weights & Biases that describes an image or a table

Cell = float | str  # a number, or a text in a cell of numbers
Record = Mapping[str, Cell]


class FileReading(NamedTuple):
    """The numbers of a file, and what is wrong with it."""

    rows: list[ProgressReport]  # the oldest first
    faults: tuple[str, ...] = ()


class _Content(NamedTuple):
    """The end of a file."""

    head: str  # the file's first line, if the text begins after it
    text: str
    at: float  # seconds since 1970 of the file's last change
    size: int  # bytes of the file


class _Unreadable(Exception):
    """A file cannot be read; the text is a predicate."""


def read_metrics_file(
    path: Path,
    most_bytes: int = MOST_BYTES,
    *,
    is_complete: bool = False,
    may_be_cut: bool = False,
    begin: int = 0,
) -> FileReading:
    """Return the rows of a file, and its faults.

    A row without a step has the number of its line.

    Args:
        path: the file.
        most_bytes: that are read from its end; one JSON document is read as a whole.
        is_complete: its program has ended: a last line without an end is complete.
        may_be_cut: the program failed or was killed: such a line is left out, as while it runs.
        begin: bytes at its beginning that other jobs wrote; only the header in them counts.
    """
    try:
        content = _read_content(path, most_bytes, begin, is_complete=is_complete)
    except _Unreadable as fault:
        return FileReading([], (str(fault),))
    except OSError as error:
        return FileReading([], (f"cannot be read: {error.strerror or error}",))
    if not content.size:
        return FileReading([], ("is empty",))
    text = content.text.replace("\0", "")  # a file that was cut while it was written has holes
    records, faults = _read_records(text, content, is_complete=is_complete and not may_be_cut)
    records, summaries = _without_summaries(records)
    rejected, mixtures = _rejected_texts(records), _mixed_columns(records)
    rows = _reports(
        [
            {k: v for k, v in record.items() if k not in rejected and k not in mixtures}
            for record in records
        ],
        content.at,
    )
    faults = [*_text_faults(rejected), *_mixture_faults(mixtures), *faults]
    if summaries:
        row = summaries[-1][:_LONGEST_TEXT]
        faults.append(f"has rows without a step, such as {row!r}, which are left out")
    if not rows and not faults:
        faults = ["contains no numbers"]
    return FileReading(rows, tuple(faults))


def is_result(name: str) -> bool:
    """Return whether a number of a file is a result of its program, and no counter, time, size or rate of learning."""
    is_counter = name.lower() in STEP_NAMES
    if is_counter or _is_internal(name) or _SIZE.search(name):
        return False
    return reason_against(name, is_known=True) != TIME


def _is_internal(name: str) -> bool:
    """Whether a tool wrote a number for itself, such as `_runtime` and `_wandb/runtime`."""
    return any(part.startswith("_") for part in name.split("/"))


# --- the text of a file


def _read_content(path: Path, most_bytes: int, begin: int, *, is_complete: bool) -> _Content:
    """Return the end of a file, of a JSON document the whole.

    Raises:
        OSError: it cannot be read.
        _Unreadable: it is something else than text.
    """
    with open_descriptor(path, os.O_RDONLY | os.O_NONBLOCK) as file:
        status = os.fstat(file)
        if stat.S_ISDIR(status.st_mode):
            raise _Unreadable("is a folder. Name the file in it")
        if not stat.S_ISREG(status.st_mode):
            raise _Unreadable("is not a regular file")
        head = os.pread(file, HEAD_BYTES, 0)
        encoding, mark = _encoding_of(head)
        start = max(begin, status.st_size - most_bytes)
        if start and not begin and _is_document(head[mark:].decode(encoding, errors="replace")):
            limit = MOST_JSON_BYTES if is_complete else MOST_BYTES
            if status.st_size > limit:
                raise _Unreadable(
                    f"has more than {limit >> 20} MiB of JSON. Write JSON lines or CSV"
                )
            start = 0
        start -= (start - mark) % 4 if encoding != "utf-8" else 0  # whole characters
        start = max(start, mark)
        data = os.pread(file, status.st_size - start, start)
        text = data.decode(encoding, errors="replace")
        is_line_start = start in {mark, begin} or os.pread(file, 1, start - 1) in {b"\n", b"\r"}
    first = "" if start == mark else _first_line(head[mark:].decode(encoding, errors="replace"))
    if not is_line_start:  # a part of a line
        _, *lines = re.split(_LINE_END, text, maxsplit=1)
        text = lines[0] if lines else ""
    return _Content(first, text, status.st_mtime, status.st_size)


def _encoding_of(head: bytes) -> tuple[str, int]:
    """Return the encoding of a text, and the bytes of the mark before it.

    Raises:
        _Unreadable: it is something else than text.
    """
    for magic, name in _FORMATS:
        if head.startswith(magic):
            raise _Unreadable(f"is {name}. {_WRITE_TEXT}")
    for mark, encoding in _BYTE_ORDER_MARKS:
        if head.startswith(mark):
            return encoding, len(mark)
    beginning = head[:256]
    for offset, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
        zeros, others = beginning[offset::2], beginning[1 - offset :: 2]
        if len(zeros) > 3 and not any(zeros) and all(others):
            return encoding, 0
    strange = sum(byte < 32 and byte not in b"\t\n\v\f\r\0\x1b" for byte in beginning)
    if strange > len(beginning) // 16:
        raise _Unreadable(f"is not a text file. {_WRITE_TEXT}")
    return "utf-8", 0


def _first_line(head: str) -> str:
    lines = (line for line in re.split(_LINE_END, head) if line.strip("\0 \t"))
    return next(lines, "")


def _is_document(head: str) -> bool:
    """Whether a text begins one JSON document, and not JSON lines."""
    text = head.lstrip()
    if not text.startswith(("{", "[")):
        return False
    try:
        json.loads(_first_line(text))
    except (ValueError, RecursionError):
        return True
    return False


# --- its records


def _read_records(
    text: str, content: _Content, *, is_complete: bool
) -> tuple[list[Record], Sequence[str]]:
    """Return the records of a text, and its faults."""
    is_json, is_whole = text.lstrip().startswith(("{", "[")), not content.head
    if is_json and is_whole:
        with suppress(ValueError, RecursionError):
            return [*map(_flat_record, _listed_records(json.loads(text)))], ()
    lines = re.split(_LINE_END, text)
    if not is_complete:
        lines = lines[:-1]  # the last line is being written, or empty
    lines = [line for line in lines if line.strip()]
    if is_json or any(line.lstrip().startswith("{") for line in lines[-2:]):
        records, has_commas = _json_lines(lines)
        if not records and has_commas:
            return records, ("is not valid JSON",)
        return records, ("ends with a line that is not valid JSON",) if has_commas else ()
    return _read_table([*([content.head] if content.head else []), *lines])


def _listed_records(document: Any) -> list[Mapping[str, Any]]:
    """Return the records of a JSON document."""
    if isinstance(document, list):
        return [each for each in document if isinstance(each, dict)]
    if not isinstance(document, dict):
        return []
    for name in LISTS:
        listed = document.get(name)
        if isinstance(listed, list) and any(isinstance(each, dict) for each in listed):
            return [each for each in listed if isinstance(each, dict)]
        if isinstance(listed, dict) and (records := _columns(listed)):
            return records
    return _columns(document) or [document]


def _columns(document: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the rows of columns, such as the history of Keras; empty if a value is something else than a column."""
    columns: dict[str, list[Any]] = {}
    for name, column in document.items():
        # pandas has row numbers as keys
        if isinstance(column, dict) and [*column] == [str(row) for row in range(len(column))]:
            column = [*column.values()]
        if not (isinstance(column, list) and column and all(map(_is_scalar, column))):
            return []
        columns[str(name)] = column
    rows = max(map(len, columns.values()), default=0)
    known = {name.lower() for name in columns}
    return [
        {
            **({} if known & {*STEP_NAMES} else {EPOCH: row + 1}),
            **{name: column[row] for name, column in columns.items() if row < len(column)},
        }
        for row in range(rows)
    ]


def _is_scalar(value: Any) -> bool:
    return value is None or isinstance(value, int | float | str)


def _json_lines(lines: Iterable[str]) -> tuple[list[Record], bool]:
    """Return the records of lines, and whether the last line is cut off."""
    records: list[Record] = []
    has_commas = False
    for line in lines:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            has_commas = True
            continue
        has_commas = False
        if isinstance(record, dict):
            records.append(_flat_record(record))
    return records, has_commas


def _flat_record(record: Mapping[str, Any]) -> Record:
    """Return the numbers of a record with their names, those of a mapping in it as `train/loss`."""
    return dict(_flat_cells(record, "", 0))


def _flat_cells(value: Any, prefix: str, depth: int) -> Iterator[tuple[str, Cell]]:
    name = prefix[:_LONGEST_NAME]
    match value:
        case dict() if depth < _DEPTH and _MEDIA_MARK not in value:
            for key, inner in value.items():
                yield from _flat_cells(inner, f"{prefix}/{key}" if prefix else str(key), depth + 1)
        case bool():
            return
        case int() | float() if prefix:
            with suppress(OverflowError):  # a whole number of 309 digits
                yield name, float(value)
        case str() if prefix and (cell := _read_cell(value)) is not None:
            yield name, value if isinstance(cell, float) else cell


def _read_cell(cell: str) -> Cell | None:
    """Return a number, or a text that is none; None if a value is missing."""
    try:
        return cell if "_" in cell else float(cell)  # Python would read 1_0 as 10
    except ValueError:
        cell = cell.strip()
    if cell.lower() in _MISSING:
        return None
    percent = re.fullmatch(_PERCENT, cell) if cell.endswith("%") else None
    return cell if percent is None else float(percent[1])


# --- tables


def _read_table(lines: Sequence[str]) -> tuple[list[Record], Sequence[str]]:
    """Return the rows of a table, and its faults."""
    table = _Table()
    with suppress(csv.Error):  # a cell of more than 128 KiB
        for cells in _split_cells(lines):
            table.read_row(cells)
    return table.unique_columns(), table.faults()


class _Table:
    """The rows of a table so far; a line of names is a new header."""

    def __init__(self) -> None:
        self.rows: list[Record] = []
        self._names: list[str] = []
        self._commented: list[str] = []  # names behind a `#`, which count if no other header comes
        self._has_rows = False  # since the last header
        self._is_headless = self._is_last_short = False
        self._long_row: list[str] = []  # a row with more numbers than names; it is not read
        self._repeated: dict[str, None] = {}  # names of columns with different numbers in one row

    def read_row(self, cells: Sequence[str]) -> None:
        """Read the cells of the next line."""
        texts = [cell.strip() for cell in cells]
        if texts and texts[0].startswith("#"):
            self._commented = [name for name in (texts[0].lstrip("# "), *texts[1:]) if name]
            return
        read = [*map(_read_cell, texts)]
        has_numbers = any(isinstance(cell, float) for cell in read)
        if not has_numbers and self._is_header(texts, read):
            self._names, self._has_rows = texts, False
            return
        if not self._names and len(self._commented) == len(texts):
            self._names = self._commented
        while len(texts) > len(self._names) and texts and not texts[-1]:
            texts, read = texts[:-1], read[:-1]  # a separator at the end of the line
        if not self._names:
            self._is_headless |= has_numbers
            return
        self._has_rows = True
        self._is_last_short = len(texts) < len(self._names)
        # decimal commas, or two lines in one: the end of an interrupted write and the next row
        if any(isinstance(cell, float) for cell in read[len(self._names) :]):
            self._long_row = texts
        elif not self._is_last_short:
            pairs = [*zip(self._names, read, strict=False)]
            row = {name: cell for name, cell in pairs if name and cell is not None}
            self.rows.append(row)
            others = (name for name, cell in pairs if cell not in {None, row.get(name)})
            self._repeated |= dict.fromkeys(filter(None, others))

    def _is_header(self, texts: Sequence[str], read: Sequence[Cell | None]) -> bool:
        """Whether a line is a header: names only, and after rows some of the names before."""
        names = [cell for cell in read if cell is not None]
        if (
            len(names) < sum(map(bool, texts))
            or not names
            or not all(isinstance(name, str) for name in names)
        ):
            return False
        if any(re.fullmatch(_NUMBER_LIKE, str(name)) for name in names):
            return False
        if not self._names or not {*texts}.isdisjoint(filter(None, self._names)):
            return True
        # a title may stand above the header; a row of texts has as many cells
        return not self._has_rows and (len(texts) != len(self._names) or len(texts) == 1)

    def unique_columns(self) -> list[Record]:
        """Return the rows without columns of one name and different numbers: nothing says which one counts."""
        return [
            {name: cell for name, cell in row.items() if name not in self._repeated}
            for row in self.rows
        ]

    def faults(self) -> list[str]:
        """Return what is wrong."""
        faults = []
        if self._repeated:
            faults.append(f"has several columns with the name {_list_names(self._repeated)}")
        if self._long_row:
            row = ",".join(self._long_row)[:_LONGEST_TEXT]
            has_commas = all(map(_is_integer, self._long_row))
            advice = "If they are decimal commas, write points" if has_commas else _LONG_ROW_ADVICE
            faults.append(f"has rows with more cells than its header, such as {row!r}. {advice}")
        if self._is_headless and not self.rows:
            faults.append(
                "has no header: its first line contains numbers. Write the names of the columns into it"
            )
        if self._is_last_short and self.rows:
            faults.append("has fewer cells in its last row than in its header")
        return faults


def _is_integer(text: str) -> bool:
    return text.lstrip("+-").isdecimal()


def _split_cells(lines: Sequence[str]) -> Iterator[Sequence[str]]:
    """Yield the cells of each line of a table."""
    plain = [line for line in islice(lines, 3) if not line.startswith("#")] or lines[:1]
    first = plain[0] if plain else ""
    separator = next((each for each in "\t;," if each in first), "")
    if separator or len(plain[-1].split() if plain else ()) < 2:
        yield from csv.reader(lines, delimiter=separator or ",", skipinitialspace=True)
    else:  # blanks between the columns
        yield from map(str.split, lines)


# --- rows as steps


def _without_summaries(records: Sequence[Record]) -> tuple[list[Record], list[str]]:
    """Return the records of steps, and the texts in place of the step in others, such as the mean of all rows."""
    counters = {
        name
        for record in records
        for name, cell in record.items()
        if name.lower() in STEP_NAMES and isinstance(cell, float)
    }
    steps, texts = list[Record](), list[str]()
    for record in records:
        text = next((cell for name in counters if isinstance(cell := record.get(name), str)), None)
        if text is None:
            steps.append(record)
        else:
            texts.append(text)
    return steps, texts


def _rejected_texts(records: Iterable[Record]) -> dict[str, str]:
    """Return name → text of the columns whose last cell is a text that is meant as a number, or follows numbers."""
    last: dict[str, str] = {}
    numbers: set[str] = set()
    for record in records:
        for name, cell in record.items():
            if isinstance(cell, str):
                last[name] = cell
            else:
                numbers.add(name)
                last.pop(name, None)
    return {
        name: text
        for name, text in last.items()
        if not _is_internal(name) and (name in numbers or re.fullmatch(_NUMBER_LIKE, text))
    }


def _mixed_columns(records: Sequence[Record]) -> dict[str, str]:
    """Return column → two parts of the work, such as folds or classes, of which it has numbers: the last is that of one."""
    mixtures: dict[str, str] = {}
    newest: dict[str, Record] = {}  # column of numbers → the newest row with a number in it
    for record in records:
        labels = [
            name
            for name, cell in record.items()
            if isinstance(cell, str) or name.lower() in _NUMBERED_PARTS
        ]
        for name, cell in record.items():
            if isinstance(cell, str) or name in labels or name.lower() in STEP_NAMES:
                continue
            previous, newest[name] = newest.get(name, {}), record
            label = next((each for each in labels if _are_parts(each, previous, record)), "")
            if label and not _is_internal(name):
                parts = (f"{label}={_cell_text(row[label])}" for row in (previous, record))
                mixtures.setdefault(name, " and ".join(parts))
    return mixtures


def _are_parts(label: str, previous: Record, record: Record) -> bool:
    """Return whether two rows belong to different parts of the work by a column.

    The column has the name of a part, the rows belong to a training and a test, or they have one step.
    """
    if label not in previous or previous[label] == record[label] or _is_internal(label):
        return False
    plain = label.lower()
    if plain in _PARTS or all(has_phase(str(row[label])) for row in (previous, record)):
        return True
    steps = [_step_of(row) for row in (previous, record)]
    return None is not steps[0] == steps[1] and not any(word in plain for word in _MOMENTS)


def _step_of(record: Record) -> float | None:
    numbers = {name: cell for name, cell in record.items() if isinstance(cell, float)}
    return numbers.get(_counter_of(numbers))


def _cell_text(cell: Cell) -> str:
    return cell[:_LONGEST_TEXT] if isinstance(cell, str) else f"{cell:g}"


def _mixture_faults(mixtures: Mapping[str, str]) -> Iterator[str]:
    """Yield the fault of columns with numbers of several parts of the work."""
    if mixtures:
        parts = next(iter(mixtures.values()))
        yield f"has rows of {parts} in {_list_names(mixtures)}. Write a column for each"


def _list_names(names: Collection[str]) -> str:
    """Return the first of some names, and the number of the others."""
    more = len(names) - _MOST_NAMED
    return ", ".join([*names][:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _text_faults(rejected_texts: Mapping[str, str]) -> Iterator[str]:
    """Yield the faults of columns with texts in the place of numbers."""
    commas = {
        name: text for name, text in rejected_texts.items() if re.fullmatch(_DECIMAL_COMMA, text)
    }
    texts = {name: text for name, text in rejected_texts.items() if name not in commas}
    for found, what, remedy in (
        (commas, "decimal commas", ". Write points"),
        (texts, "a text instead of a number", ""),
    ):
        if found:
            first = next(iter(found.values()))
            yield f"has {what} in {_list_names(found)}: {first[:_LONGEST_TEXT]!r}{remedy}"


def _reports(records: Iterable[Record], timestamp: float) -> list[ProgressReport]:
    """Return records as steps; numbers of one step are combined."""
    reports: list[ProgressReport] = []
    for line, record in enumerate(records, 1):
        numbers = {name: cell for name, cell in record.items() if isinstance(cell, float)}
        step, unit = float(line), STEP
        if counter := _counter_of(numbers):
            step, unit = numbers.pop(counter), EPOCH if counter.lower() == EPOCH else STEP
        numbers = {name: number for name, number in numbers.items() if not _is_internal(name)}
        if not numbers:
            continue
        if reports and reports[-1].step == int(step):
            numbers = {**reports.pop().metrics, **numbers}  # type: ignore[dict-item]
        reports.append(ProgressReport(timestamp, int(step), None, {**numbers}, unit=unit))
    return reports


def _counter_of(numbers: Mapping[str, float]) -> str:
    """Return the name of the number that counts steps; empty if there is none."""
    by_name = {name.lower(): name for name in reversed([*numbers])}
    for name in STEP_NAMES:
        counted = numbers.get(by_name.get(name, ""), -1.0)
        if 0 <= counted <= MOST_STEPS and counted.is_integer():
            return by_name[name]
    return ""
