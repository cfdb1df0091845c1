"""Which tests a run's folder holds, by the names of its score files."""

from pathlib import Path

from trueface.audit.reading.model_folders import (
    data_of,
    found_folder,
    model_folders,
    model_name,
    score_paths,
)
from trueface.evaluation.score_tables import OLD_SUFFIXES
from trueface.runtime.errors import DataError
from trueface.runtime.paths import CONDITIONS


def tests_of_run(run: str) -> tuple[Path, list[tuple[str, str]]]:
    """Return a run's folder and its (model ID, test) pairs; a model's folder has its own tests.

    Raises:
        UsageError: there is no such folder.
        DataError: it has no score file.
    """
    folder = found_folder(run)
    folders = model_folders(folder)
    tests = [
        (model, data_of(path, model))
        for each in folders
        for model in (model_name(each),)
        for place in ("scores", CONDITIONS)
        for path in score_paths(each, place)
        if path.suffix not in OLD_SUFFIXES
    ]
    if not tests:
        raise DataError(f"no scores in {folder}: test its models first")
    return folders[0].parent, tests
