"""What a comparison compares: the scores of a model, wherever they lie.

runs/<run>/<model ID>                   all score files of a model
runs/<run>                              the same, where one model alone of the run has scores
…/<model>_vs_<data>.csv, .pkl           single files, ours or the original system's
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from trueface.evaluation.score_tables import OLD_SUFFIXES, SUFFIXES, Scores, load, merge
from trueface.runtime import paths
from trueface.runtime.errors import DataError

FOLDER = "scores"  # below a model's folder, as in `layout.scores`
BETWEEN = "_vs_"  # model and data in the name of a score file
OF_TRAINING = "None_vs_"  # the original's trainings wrote those of training images under this name


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonInput:
    """The scores of one model, each image once."""

    title: str
    files: tuple[Path, ...]
    scores: Scores
    notes: tuple[str, ...]  # what a reader has to know of them


def merged_scores(*places: Path) -> Scores:
    """Return the merged scores of a model's folder, a run's folder, or score files.

    Raises:
        DataError: no scores there, or those of several models.
    """
    return read_input(places, title="").scores


def read_input(places: Sequence[Path], *, title: str) -> ComparisonInput:
    """Return what is compared, with a title; errors as in `merged_scores`.

    An image in two files counts once. Rows of old files get the file's data ID as their folder, so
    that sources are distinguished as far as possible.
    """
    files = tuple(dict.fromkeys(file for path in places for file in score_files(path)))
    tables = [_named(load(file), file, number) for number, file in enumerate(files)]
    scores = merge(tables)
    if not len(scores):
        raise DataError(f"no rows in {', '.join(map(str, files))}: test the model anew")
    return ComparisonInput(
        title=title, files=files, scores=scores, notes=tuple(_notes(tables, scores))
    )


def titles(before: Sequence[Path], after: Sequence[Path]) -> tuple[str, str]:
    """Return short names that tell two inputs apart: of runs, models, files, or their paths."""
    (run, model), (other_run, other_model) = _place(before), _place(after)
    if run and other_run and (run, model) != (other_run, other_model):
        if run == other_run:
            return model, other_model
        return (
            (run, other_run)
            if model == other_model
            else (f"{run}/{model}", f"{other_run}/{other_model}")
        )
    if len(before) == len(after) == 1 and before != after:
        first, second = before[0].stem, after[0].stem
        return (first, second) if first != second else (str(before[0]), str(after[0]))
    return "before", "after"


def score_files(path: Path) -> tuple[Path, ...]:
    """Return the score files that a path stands for, sorted.

    Raises:
        DataError: there are none, or those of several models.
    """
    if path.is_file():
        return (path,)
    if not path.is_dir():
        raise DataError(
            f"there is no {path}: name a model's folder (runs/<run>/<model ID>), a run's folder or "
            "score files"
        )
    if files := _of_model(path):
        return files
    models = [folder for folder in sorted(path.iterdir()) if _of_model(folder)]
    if not models:
        raise DataError(f"no scores in {path}: test a model first, with --save_scores")
    if len(models) > 1:
        raise DataError(
            f"{len(models)} models in {path} have scores; name one of them: "
            + ", ".join(map(str, models))
        )
    return _of_model(models[0])


def _of_model(folder: Path) -> tuple[Path, ...]:
    """Return the score files of a model's folder; of ours and old ones, ours."""
    within = folder if folder.name == FOLDER else folder / FOLDER
    if not within.is_dir():
        return ()
    files = sorted(
        file
        for file in within.iterdir()
        if file.suffix.lower() in SUFFIXES and not file.name.startswith((".", OF_TRAINING))
    )
    ours = [file for file in files if file.suffix.lower() not in OLD_SUFFIXES]
    return tuple(ours or files)


def _named(scores: Scores, file: Path, number: int) -> Scores:
    """Give the rows of an old file names that no other file's rows have."""
    if scores.names_images:
        return scores
    data = file.stem.rpartition(BETWEEN)[2]
    start = number << 32  # no file has so many rows
    names = tuple(f"{data}/#{start + row}" for row in range(len(scores)))
    return replace(scores, paths=names, keys=names)


def _notes(tables: Sequence[Scores], merged: Scores) -> list[str]:
    first = dict(zip(merged.paths, merged.logits.tolist(), strict=True))
    differing = sum(
        first[path] != logit
        for table in tables[1:]
        for path, logit in zip(table.paths, table.logits.tolist(), strict=True)
    )
    notes = []
    if differing:
        notes.append(
            f"{differing} images stand in two score files with other logits; the first file's count"
        )
    if not merged.names_images and any(table.names_images for table in tables):
        notes.append("some files name no images: an image that is in such a file counts again")
    share = float(np.mean(merged.logits > 0))
    if share in {0.0, 1.0}:
        notes.append(f"every image was called {'fake' if share else 'real'}")
    return notes


def _place(places: Sequence[Path]) -> tuple[str, str]:
    """Return run and model ID of the model whose folder all score files of `places` lie in.

    Both are empty where there is no such folder.
    """
    files = [file for path in places for file in score_files(path)]
    # no link is followed: a linked run is known by the name of the link
    folders = {Path(os.path.abspath(file)).parent for file in files}  # noqa: PTH100
    if len(folders) != 1 or (folder := folders.pop()).name != FOLDER:
        return "", ""
    return folder.parent.parent.name, paths.model_id(folder.parent)
