"""What the original system's runs tell an audit: names of runs, poison records, unlearnings.

runs/<rate>_poison[_unlearn_test]/<id>/scores/<id>_vs_<data>.pkl
runs/poison_info/poison_<rate>.pkl        one for all runs of that rate
runs/unlearning/unlearn_<rate>_poison/    config.json, results.npy
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from trueface.audit.run_facts import Record, number
from trueface.data.splits import short_key
from trueface.legacy import original_runs
from trueface.runtime.errors import DataError, RecordError
from trueface.runtime.files import Json, read_json

RESULTS = "results.npy"
CONFIG = "config.json"

_RATE = re.compile(r"(?<![0-9.])([0-9]+(?:\.[0-9]+)?)_?(?:%|percent)?_?poison")
_CLASSES = frozenset({"real", "fake"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What the names of an old run say of a model."""

    rate: float | None
    unlearned: bool
    said_by: str


def is_old(folder: Path) -> bool:
    """Tell whether a model's folder was left by the original system."""
    if (folder / RESULTS).is_file():
        return True
    scores = folder / "scores"
    return scores.is_dir() and any(scores.glob("*.pkl"))


def said(folder: Path) -> Said:
    """Return what the run's name, or the unlearning's settings, say of the poison."""
    config = _config(folder)
    rate = number(config, "poison_rate")
    if rate is not None:
        return Said(rate=rate or None, unlearned=True, said_by=CONFIG)
    run = folder.parent.name
    match = _RATE.search(run)
    percent = float(match.group(1)) if match else 0.0
    return Said(
        rate=percent / 100 if 0 < percent <= 100 else None,
        unlearned="unlearn" in run,
        said_by="the run's name",
    )


def record(folder: Path, rate: float | None) -> tuple[Record | None, str]:
    """Return the poison record of the rate that is said of a model, or why there is none."""
    if rate is None:
        return None, ""
    path = folder.parent.parent / "poison_info" / f"poison_{rate:.2f}.pkl"
    if not path.is_file():
        return None, ""
    try:
        old = original_runs.read_poison(path)
    except RecordError as error:
        return None, f"cannot read the poison record: {error}"
    return (
        Record(
            path=str(path),
            keys=tuple(key_of(file) for file, _ in old.samples),
            total=old.total,
            kind="flip",
            images_sha256=None,
            classes=tuple(1 - label for _, label in old.samples),
            indices=old.indices,
        ),
        "",
    )


def unlearning(folder: Path) -> tuple[Mapping[str, list[tuple[float, float]]], str]:
    """Return (loss, accuracy in percent) by epoch of an old unlearning, or why there are none."""
    path = folder / RESULTS
    if not path.is_file():
        return {}, ""
    try:
        return original_runs.read_results(path), ""
    except DataError as error:
        return {}, str(error)


def offset(folder: Path) -> float | None:
    """Return the offset in the loss of an old unlearning."""
    return number(_config(folder), "offset")


def data_of(folder: Path) -> str | None:
    """Return the data ID that an old unlearning worked on."""
    data = _config(folder).get("data")
    return data if isinstance(data, str) else None


def key_of(file: str) -> str:
    """Return the key of an image of the original's lists: below Real/ or Fake/, five characters."""
    parts = PurePosixPath(file).parts
    for place in range(len(parts) - 2, -1, -1):
        if parts[place].casefold() in _CLASSES:
            return short_key("/".join(parts[place + 1 :]))
    return file


def _config(folder: Path) -> Mapping[str, Json]:
    return (read_json(folder / CONFIG) or {}) if (folder / RESULTS).is_file() else {}
