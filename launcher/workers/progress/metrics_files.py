"""Files of numbers that a program writes itself: CSV, JSON lines, and JSON with a list of records.

Lightning's `metrics.csv`, ultralytics' `results.csv` and `trainer_state.json` of Hugging Face are such files.
"""

import csv
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from launcher.system.file_patterns import is_pattern
from launcher.system.files import read_file_end
from launcher.workers.progress.record_lines import STEP_NAMES, flat_numbers
from launcher.workers.progress.steps import MOST_STEPS, STEP, ProgressReport

MOST_BYTES = 1 << 20  # bytes that are read from the end of a file
HEADER_BYTES = 64 << 10  # bytes of the first line of a table
LISTS = ("log_history", "history", "metrics")  # keys of a list of records in a file of JSON
MOST_FILES = 1000  # among which a pattern chooses the newest


def newest_file(path: Path, since: float) -> Path | None:
    """Return the file that a program writes, the newest of a pattern. None if it is older than the job.

    Args:
        path: a file, or a pattern such as lightning_logs/*/metrics.csv.
        since: start of the job, in seconds since 1970.
    """
    try:
        found = [path]
        if is_pattern(str(path)):
            parts = path.parts
            first = next(n for n, part in enumerate(parts) if is_pattern(part))
            found = []
            for _, file in zip(
                range(MOST_FILES),
                Path(*parts[:first]).glob(str(Path(*parts[first:]))),
                strict=False,
            ):
                found.append(file)
        times = {file: file.stat().st_mtime for file in found if file.is_file()}
    except (OSError, ValueError):
        return None
    newest = max(times, key=lambda file: times[file], default=None)
    return newest if newest is not None and times[newest] >= since else None


def read_metrics_file(path: Path, most_bytes: int = MOST_BYTES) -> list[ProgressReport]:
    """Return the rows of a file with their numbers, the oldest first; empty if none can be read.

    A row without a step has the number of its line. An unfinished last line is left out.

    Args:
        path: the file.
        most_bytes: that are read from its end.
    """
    end, at = read_file_end(path, most_bytes)
    text = end.decode(errors="replace")
    is_whole = len(end) < most_bytes
    start = text.lstrip()[:1]
    if start == "{" and is_whole and (records := _listed_records(text)) is not None:
        return _reports(records, at)
    lines = text.split("\n")
    lines = lines[:-1] if lines[-1] else lines  # it is being written
    if start == "{" or any(line.startswith("{") for line in lines[-2:]):
        return _reports(_json_lines(lines), at)
    header = ""
    if not is_whole:
        lines = lines[1:]  # a part of a line
        try:
            with path.open("rb") as file:
                header = file.readline(HEADER_BYTES).decode(errors="replace")
        except OSError:
            return []
    return _reports(_table_rows(lines, header.strip("\r\n\ufeff")), at)


def _listed_records(text: str) -> list[Mapping[str, Any]] | None:
    """Return the records of one object of JSON, None if the text is something else."""
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict):
        return None
    for name in LISTS:
        if isinstance(listed := record.get(name), list):
            return [each for each in listed if isinstance(each, dict)]
    return [record]


def _json_lines(lines: list[str]) -> Iterator[Mapping[str, Any]]:
    for line in lines:
        if line.lstrip().startswith("{"):
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(record, dict):
                yield record


def _table_rows(lines: list[str], header: str) -> Iterator[Mapping[str, Any]]:
    """Yield the rows of a table; a line without numbers is a new header."""
    names: list[str] = []
    texts = [header, *lines] if header else lines
    separator = next((each for each in ("\t", ";", ",") if texts and each in texts[0]), ",")
    try:
        for cells in csv.reader(
            (text.replace("\0", "").strip("\r\ufeff") for text in texts), delimiter=separator
        ):
            cells = [cell.strip() for cell in cells]
            numbers = [_number(cell) for cell in cells]
            if any(cells) and not any(number is not None for number in numbers):
                names = cells
            elif names and len(cells) == len(names):
                yield {
                    name: number
                    for name, number in zip(names, numbers, strict=True)
                    if name and number is not None
                }
    except csv.Error:  # a cell of more than 128 KiB
        return


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None


def _reports(
    records: "Iterator[Mapping[str, Any]] | list[Mapping[str, Any]]", at: float
) -> list[ProgressReport]:
    """Return records as steps; numbers of one step are combined."""
    reports: list[ProgressReport] = []
    for line, record in enumerate(records, 1):
        numbers = dict(flat_numbers(record))
        step, unit = float(line), STEP
        for name in STEP_NAMES:
            counted = numbers.get(name, math.nan)
            if 0 <= counted <= MOST_STEPS and float(counted).is_integer():
                step, unit = counted, "epoch" if name == "epoch" else STEP
                numbers = {key: value for key, value in numbers.items() if key != name}
                break
        if not numbers:
            continue
        if reports and reports[-1].step == int(step):
            before = reports.pop().metrics
            reports.append(ProgressReport(at, int(step), None, {**before, **numbers}, unit=unit))
        else:
            reports.append(ProgressReport(at, int(step), None, {**numbers}, unit=unit))
    return reports
