"""Writes predictions as files <group>labels.npy and <group>predictions.npy, as Fairness-Generalization does.

Their program takes the sigmoid of the predictions, which are logits of class 1 there. We write the logit
of class 1 less that of class 0: its sigmoid is the probability of fake. Intersections that the program
lists and that have no image get empty files, because it opens all of them.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np

from trueface.evaluation.fairness import FairnessRow, GroupedScores
from trueface.evaluation.group_columns import (
    INTERSEC,
    LABELS,
    MARGINS,
    PREDICTIONS,
    RECORD,
    group_name_of_file,
)
from trueface.evaluation.published_gaps import empty_intersections
from trueface.runtime import paths
from trueface.runtime.artifact import replace_folder, staging_folder
from trueface.runtime.errors import DataError, MachineError, UsageError
from trueface.runtime.files import Json, read_json, write_json
from trueface.runtime.ids import model_folder_name

SCHEMA = 1


def write_npy_folders(folder: Path, rows: Sequence[FairnessRow]) -> list[Path]:
    """Write the predictions of each model and test, and return the folders.

    It is `folder` itself for a single model and test, otherwise MODEL/TEST in it. The groups are gender and
    race together if a row has them, otherwise those of the first row.

    Raises:
        UsageError: a folder has files that this function did not write. Nothing is written then.
        DataError: a group cannot be the name of a file.
        MachineError: a folder cannot be written. Its old files are unchanged.
    """
    made = dict(_folders(folder, rows))
    contents = {place: _files_of(each) for place, each in made.items()}
    if folder not in made:
        _refuse_files(folder)
    for place in made:
        _refuse_other_folder(place)
    for place, each in made.items():
        _write(place, each, contents[place])
    return list(made)


def _folders(folder: Path, rows: Sequence[FairnessRow]) -> Iterator[tuple[Path, GroupedScores]]:
    """Yield the folder of each model and test, with the predictions by its groups."""
    chosen: list[GroupedScores] = []
    for _, of_test in groupby(rows, key=lambda row: (row.model, row.data)):
        grouped = [row.grouped for row in of_test if row.grouped is not None]
        chosen += [next((each for each in grouped if each.column.by == INTERSEC), grouped[0])]
    for each in chosen:
        test = paths.fit_file_name(each.data.replace("/", "_"), "")
        place = folder / model_folder_name(each.model) / test
        yield (place if len(chosen) > 1 else folder), each


def _files_of(grouped: GroupedScores) -> Mapping[str, np.ndarray]:
    """Return the content of each file."""
    scores, column = grouped.grouped_scores, grouped.column
    margins, files = np.asarray(scores.margin), {}
    empty = column.empty or empty_intersections(column.names)
    for number, name in enumerate((*column.names, *empty)):
        here = column.groups == number
        files[f"{_file_start(name)}{LABELS}"] = scores.labels[here].astype(np.int64)
        files[f"{_file_start(name)}{PREDICTIONS}"] = margins[here]
    return files


def _file_start(group: str) -> str:
    """Return the start of the names of a group's files: "male,asian" for male-asian.

    Raises:
        DataError: the files could not be written, or would be read as those of another group.
    """
    start = group.replace("-", ",")
    name = f"{start}{PREDICTIONS}"
    if "/" in group or not group.isprintable() or len(name.encode()) > paths.NAME_BYTES:
        raise DataError(
            f"--npy: group {group!r} cannot be part of a file name. Rename it in the table of attributes, or "
            "choose another column with --by."
        )
    if group_name_of_file(start) != group or group.startswith("."):
        raise DataError(
            f"--npy: group {group!r} would be read as {group_name_of_file(start)!r}, because file names separate "
            "groups by commas, spaces, - and _. Rename it in the table of attributes, or choose another column "
            "with --by."
        )
    return start


def _refuse_files(folder: Path) -> None:
    """Refuse a folder for several models and tests that has more than folders."""
    if folder.is_dir() and (
        files := sorted(path.name for path in folder.iterdir() if path.is_file())
    ):
        raise UsageError(
            f"--npy {folder}: the folder has files ({', '.join(files[:3])}), and several models and tests get folders "
            "of their own in it. Name a new folder."
        )


def _refuse_other_folder(place: Path) -> None:
    """Refuse a path at which writing would remove files that this module did not write."""
    try:
        names = {path.name for path in place.iterdir()}
    except FileNotFoundError:
        return
    except OSError as error:
        if isinstance(error, NotADirectoryError):
            raise UsageError(f"--npy {place} is a file. Name a new folder.") from error
        raise MachineError(f"cannot list {place}: {error.strerror or error}") from error
    if not names:
        return
    record = read_json(place / RECORD) if RECORD in names else None
    if record is None or record.get("logits") != MARGINS:
        raise UsageError(
            f"--npy {place}: the folder has files that trueface fairness did not write. Name a new folder."
        )
    files = record.get("files")
    known = {RECORD, *map(str, files if isinstance(files, list) else [])}
    if others := sorted(names - known):
        raise UsageError(
            f"--npy {place}: {', '.join(others[:3])} would be deleted, and trueface fairness did not write it. Name a "
            "new folder, or move your files."
        )


def _write(place: Path, grouped: GroupedScores, files: Mapping[str, np.ndarray]) -> None:
    record: dict[str, Json] = {
        "schema": SCHEMA,
        "model": grouped.model,
        "data": grouped.data,
        "by": grouped.column.by,
        "logits": MARGINS,
        "files": list(files),
    }
    target = Path(os.path.realpath(place))  # if it is a link, only the folder is replaced
    try:
        with staging_folder(target) as new:
            for name, values in files.items():
                np.save(new / name, values, allow_pickle=False)
            write_json(new / RECORD, record)
            replace_folder(new, target)
    except OSError as error:
        raise MachineError(
            f"cannot write the folder {place}: {error.strerror or error}. The old files are unchanged."
        ) from error
