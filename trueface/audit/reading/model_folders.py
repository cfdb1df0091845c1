"""Where the models of a run lie, and what the names of folders and score files tell."""

import contextlib
from pathlib import Path

from trueface.audit.reading import legacy_runs
from trueface.runtime import paths
from trueface.runtime.errors import UsageError

MARKS = (
    "provenance.json",
    "history.csv",
    "poison.json",
    "scores",
    "checkpoints",
    legacy_runs.RESULTS,
)
BETWEEN = "_vs_"  # model and data in the name of a score file
OF_TRAINING = "None_vs_"  # the original's trainings wrote scores of training images under this name


def found_folder(name: str) -> Path:
    """Return the folder that the name of a run, or a path, stands for.

    Raises:
        UsageError: there is none.
    """
    for folder in (Path("runs") / name, Path(name)):
        with contextlib.suppress(OSError, ValueError):  # a name that no file system takes
            if folder.is_dir():
                return folder.resolve()
    raise UsageError(f"no run {name!r}: neither runs/{name} nor {name} is a folder")


def model_folders(folder: Path) -> tuple[Path, ...]:
    """Return the folders of a run's models, sorted; the folder itself if it is one."""
    if _holds_model(folder):
        return (folder,)
    return tuple(sorted(path for path in folder.iterdir() if path.is_dir() and _holds_model(path)))


def model_name(folder: Path) -> str:
    """Return the ID of the model in a folder."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return (folder / paths.MODEL_ID).read_text().strip()
    return folder.name


def score_paths(folder: Path, place: str = "scores") -> tuple[Path, ...]:
    """Return the score files of a model, sorted; those of trainings left out.

    Args:
        folder: of the model.
        place: the folder in it: `scores`, or `conditions` of tests under conditions.
    """
    where = folder / place
    if not where.is_dir():
        return ()
    names = (path for path in where.iterdir() if path.suffix in {".csv", ".pkl"})
    return tuple(sorted(path for path in names if not path.name.startswith(OF_TRAINING)))


def data_of(path: Path, model: str) -> str:
    """Return the data ID of a score file, as far as its name tells it."""
    stem = path.name.removesuffix(path.suffix)
    start = f"{model}{BETWEEN}"
    return stem.removeprefix(start) if stem.startswith(start) else stem.rpartition(BETWEEN)[2]


def _holds_model(folder: Path) -> bool:
    return any((folder / mark).exists() for mark in MARKS)
