"""Writes predictions as files <group>labels.npy and <group>predictions.npy, as Fairness-Generalization does.

Their program takes the sigmoid of the predictions, which are logits of class 1 there. We write the logit
of class 1 less that of class 0: its sigmoid is the probability of fake. Single logits that were read from such a
folder are written as they are, and its record says that their kind is unknown. Intersections that the program
lists and that have no image get empty files, because it opens all of them.
"""

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np

from trueface.data.attribute_table import EIGHT, SIX
from trueface.evaluation.fairness import FairnessRow, GroupedScores
from trueface.evaluation.group_columns import (
    INTERSEC,
    LABELS,
    MARGINS,
    ONE_LOGIT_PER_ROW,
    PREDICTIONS,
    RECORD,
    group_name_of_file,
    read_folder_record,
)
from trueface.evaluation.published_gaps import empty_intersections
from trueface.runtime import paths
from trueface.runtime.artifact import replace_folder, staging_folder
from trueface.runtime.errors import DataError, MachineError, UsageError
from trueface.runtime.files import Json, write_json
from trueface.runtime.ids import model_folder_name

SCHEMA = 1

log = logging.getLogger(__name__)


def write_npy_folders(folder: Path, rows: Sequence[FairnessRow]) -> list[Path]:
    """Write the predictions of each model and test, and return the folders.

    It is `folder` itself for a single model and test, otherwise MODEL/TEST in it. The groups are gender and
    race together if they are known, otherwise those of the first row. Only the former are read by the program.

    Raises:
        UsageError: a folder has files that this function did not write, or two tests have the same folder.
            Nothing is written then.
        DataError: a group cannot be the name of a file.
        MachineError: a folder cannot be written. Its old files are unchanged.
    """
    folders = _folders(folder, rows)
    contents = {subfolder: _files_of(each) for subfolder, each in folders.items()}
    if folder not in folders:
        _refuse_files(folder)
    for subfolder in folders:
        _refuse_other_folder(subfolder)
    for subfolder, each in folders.items():
        _write(subfolder, each, contents[subfolder])
    for remark in dict.fromkeys(remark for each in folders.values() for remark in _remarks(each)):
        log.warning("--npy %s: %s", folder, remark)
    return list(folders)


def _remarks(group_scores: GroupedScores) -> Iterator[str]:
    """Yield what the files lack."""
    groups = {*group_scores.column.names, *_empty_groups(group_scores)}
    if groups not in ({*SIX}, {*EIGHT}):
        yield (
            f"only trueface reads these files, which are by {group_scores.column.by}. Fairness-Generalization opens those of "
            "gender and race together, such as male,asian"
        )
    if lacking := len(group_scores.scores) - len(group_scores.column.rows):
        yield f"{lacking} images of {group_scores.data} have no {group_scores.column.by} and are in no file"


def _folders(folder: Path, rows: Sequence[FairnessRow]) -> Mapping[Path, GroupedScores]:
    """Return the folder of each model and test, with the predictions by its groups."""
    chosen: list[GroupedScores] = []
    for _, of_test in groupby(rows, key=lambda row: (row.model, row.data)):
        grouped = [row.grouped for row in of_test if row.grouped is not None]
        chosen.append(next(filter(None, map(_join_gender_and_race, grouped)), grouped[0]))
    folders: dict[Path, GroupedScores] = {}
    for each in chosen:
        test = paths.fit_file_name(each.data.replace("/", "_"), "")
        subfolder = folder / model_folder_name(each.model) / test if len(chosen) > 1 else folder
        if subfolder in folders:
            raise UsageError(
                f"--npy {folder}: the tests {folders[subfolder].data!r} and {each.data!r} of {each.model} would both be "
                f"written to {subfolder}. Rename one of them."
            )
        folders[subfolder] = each
    return folders


def _join_gender_and_race(group_scores: GroupedScores) -> GroupedScores | None:
    """Return the predictions by gender and race together; None if these are not known."""
    if group_scores.column.by == INTERSEC:
        return group_scores
    finer = group_scores.intersections
    return group_scores._replace(column=finer) if finer and finer.names else None


def _files_of(group_scores: GroupedScores) -> Mapping[str, np.ndarray]:
    """Return the content of each file."""
    scores, column = group_scores.grouped_scores, group_scores.column
    margins, files = np.asarray(scores.margin), {}
    for number, name in enumerate((*column.names, *_empty_groups(group_scores))):
        here = column.groups == number
        files[f"{_file_start(name)}{LABELS}"] = scores.labels[here].astype(np.int64)
        files[f"{_file_start(name)}{PREDICTIONS}"] = margins[here]
    return files


def _empty_groups(group_scores: GroupedScores) -> tuple[str, ...]:
    """Return the groups without images that have files."""
    column = group_scores.column
    return empty_intersections(column.names, column.empty) or column.empty


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


def _refuse_other_folder(folder: Path) -> None:
    """Refuse a path at which writing would remove files that this module did not write."""
    try:
        names = {path.name for path in folder.iterdir()}
    except FileNotFoundError:
        return
    except OSError as error:
        if isinstance(error, NotADirectoryError):
            raise UsageError(f"--npy {folder} is a file. Name a new folder.") from error
        raise MachineError(f"cannot list {folder}: {error.strerror or error}") from error
    if not names:
        return
    record = read_folder_record(folder)
    if record.get("logits") not in {MARGINS, ONE_LOGIT_PER_ROW}:
        if all(path.is_dir() for path in folder.iterdir()):
            raise UsageError(
                f"--npy {folder}: the folder has folders ({', '.join(sorted(names)[:3])}), but the files of one model and "
                "test would replace it. Name a new folder."
            )
        raise UsageError(
            f"--npy {folder}: the folder has files that trueface fairness did not write. Name a new folder."
        )
    files = record.get("files")
    known = {RECORD, *map(str, files if isinstance(files, list) else [])}
    if others := sorted(names - known):
        raise UsageError(
            f"--npy {folder}: {', '.join(others[:3])} would be deleted, and trueface fairness did not write it. Name a "
            "new folder, or move your files."
        )


def _write(folder: Path, group_scores: GroupedScores, files: Mapping[str, np.ndarray]) -> None:
    record: dict[str, Json] = {
        "schema": SCHEMA,
        "model": group_scores.model,
        "data": group_scores.data,
        "by": group_scores.column.by,
        "logits": group_scores.logits,
        "files": list(files),
    }
    target = Path(os.path.realpath(folder))  # if it is a link, only the folder is replaced
    try:
        with staging_folder(target) as new:
            for name, values in files.items():
                np.save(new / name, values, allow_pickle=False)
            write_json(new / RECORD, record)
            replace_folder(new, target)
    except OSError as error:
        unchanged = " The old files are unchanged." if target.exists() else ""
        raise MachineError(
            f"cannot write the folder {folder}: {error.strerror or error}.{unchanged}"
        ) from error
