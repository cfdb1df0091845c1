"""Folders of a run's models, ours or the original system's, and the facts in the names of files."""

import contextlib
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from trueface.audit.run_facts import FlipRecord, read_number
from trueface.data.image_keys import short_key
from trueface.runtime import paths
from trueface.runtime.errors import DataError, RecordError, UsageError
from trueface.runtime.files import Json, read_json
from trueface.runtime.original import runs as original_runs

RESULTS, CONFIG = "results.npy", "config.json"  # files of an old unlearning
MARKS = ("provenance.json", "history.csv", "poison.json", "scores", "checkpoints", RESULTS)
BETWEEN = "_vs_"  # model and data in the name of a score file
OF_TRAINING = "None_vs_"  # the original's trainings wrote scores of training images under this name
_RATE = re.compile(r"(?<![0-9.])([0-9]+(?:\.[0-9]+)?)_?(?:%|percent)?_?poison")
_CLASSES = frozenset({"real", "fake"})


def resolve_run_folder(name: str) -> Path:
    """Return the folder of a run's name or of a path.

    Raises:
        UsageError: there is none.
    """
    for folder in (Path("runs") / name, Path(name)):
        with contextlib.suppress(OSError, ValueError):  # a name that no file system takes
            if folder.is_dir():
                return folder.resolve()
    raise UsageError(f"run {name!r} does not exist. Name a folder in runs/, or the path of a run.")


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


def score_paths(folder: Path, subfolder: str = "scores") -> tuple[Path, ...]:
    """Return the score files of a model, sorted; those of trainings left out.

    Args:
        folder: of the model.
        subfolder: the folder in it: `scores`, or `conditions` of tests under conditions.
    """
    where = folder / subfolder
    if not where.is_dir():
        return ()
    names = (path for path in where.iterdir() if path.suffix in {".csv", ".pkl"})
    return tuple(sorted(path for path in names if not path.name.startswith((".", OF_TRAINING))))


def data_of(path: Path, model: str) -> str:
    """Return the data ID of a score file, as far as its name contains it."""
    stem = path.name.removesuffix(path.suffix)
    start = f"{model}{BETWEEN}"
    return stem.removeprefix(start) if stem.startswith(start) else stem.rpartition(BETWEEN)[2]


class OldModel(NamedTuple):
    """The facts in the names of a model folder of the original system and of its run."""

    rate: float | None  # fraction of flipped labels; None if it is not marked as poisoned
    unlearned: bool
    said_by: str  # the source
    data: str | None  # data ID that an unlearning worked on
    offset: float | None  # in the loss of an unlearning
    # (loss, accuracy in percent) by epoch of an unlearning; none where they cannot be read
    unlearning: Mapping[str, list[tuple[float, float]]]


def old_model(folder: Path) -> OldModel | None:
    """Return the facts of an old model's folder. None if it is not from the original system."""
    results, scores = folder / RESULTS, folder / "scores"
    is_unlearning = results.is_file()
    if not is_unlearning and not (scores.is_dir() and any(scores.glob("*.pkl"))):
        return None
    config: Mapping[str, Json] = (read_json(folder / CONFIG) or {}) if is_unlearning else {}
    rate, unlearned, said_by = read_number(config, "poison_rate"), True, CONFIG
    if rate is None:
        run = folder.parent.name
        match = _RATE.search(run)
        percent = float(match.group(1)) if match else 0.0
        rate = percent / 100 if percent <= 100 else None
        unlearned, said_by = "unlearn" in run, "the run's name"
    data, series = config.get("data"), {}
    if is_unlearning:
        with contextlib.suppress(DataError):
            series = dict(original_runs.read_results(results))
    return OldModel(
        rate=rate or None,
        unlearned=unlearned,
        said_by=said_by,
        data=data if isinstance(data, str) else None,
        offset=read_number(config, "offset"),
        unlearning=series,
    )


def old_record(folder: Path, rate: float | None) -> tuple[FlipRecord | None, str]:
    """Return the poison record of the rate of an old model, or why there is none."""
    path = folder.parent.parent / "poison_info" / f"poison_{rate or 0:.2f}.pkl"
    if rate is None or not path.is_file():
        return None, ""
    try:
        old = original_runs.read_poison(path)
    except RecordError as error:
        return None, f"cannot read the poison record: {error}"
    return (
        FlipRecord(
            path=str(path),
            keys=tuple(key_of(file) for file, _ in old.samples),
            total=old.total,
            kind="flip",
            indices=old.indices,
            classes=tuple(1 - label for _, label in old.samples),
        ),
        "",
    )


def key_of(file: str) -> str:
    """Return the key of an image of the original's lists: below Real/ or Fake/, five characters."""
    parts = PurePosixPath(file).parts
    for position in range(len(parts) - 2, -1, -1):
        if parts[position].casefold() in _CLASSES:
            return short_key("/".join(parts[position + 1 :]))
    return file


def _holds_model(folder: Path) -> bool:
    return any((folder / mark).exists() for mark in MARKS)
